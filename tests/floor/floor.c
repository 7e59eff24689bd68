/* The kernel's floor: what a full container start needs of the kernel, and nothing else.
 *
 *   floor RECIPE
 *
 * The recipe (written by floor.py from the same configuration that the runtimes get) is a text of lines, each of words
 * separated by tabs; what they mean stands in read_recipe(). Then one command a line comes on standard input, and one
 * answer a line goes to standard output:
 *
 *   start NAME   make cgroups, clone, set up, exec, wait for the payload's "tare ready"    ok START_NS
 *   stop NAME    SIGKILL, wait, remove the cgroups                                         ok STOP_NS
 *
 * or "error TEXT". The times are of CLOCK_MONOTONIC, taken here: no pipe to a benchmark is in them.
 *
 * There is no state, no check, no freedom: it is the lower bound of a runtime that has decided everything before, and
 * the sum of the kernel's work on one processor. A runtime may still be below it by using two.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/filter.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <grp.h>

#define MOST 128
#define WORDS 8

struct line {
	char *word[WORDS];
};

struct list {
	struct line line[MOST];
	int count;
};

struct instance {
	char name[64];
	int pid, pidfd, console;
	struct instance *next;
};

/* In the order in which the child does them. */
static struct list groups, limits, steps;
static char *lower, *base, *host, *masked, *cwd = "/";
static char *argv[MOST], *envp[MOST];
static int argc, envc, unified;
static unsigned long long capabilities;
static unsigned long long inheritable_flags;
static struct sock_fprog filter;
static unsigned filter_flags;
static struct instance *alive;

static void fail(const char *what, const char *where)
{
	dprintf(2, "floor: %s %s: %s\n", what, where, strerror(errno));
	_exit(126);
}

static int must(int result, const char *what, const char *where)
{
	if (result < 0)
		fail(what, where);
	return result;
}

static uint64_t now_ns(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static void load_filter(const char *path)
{
	struct stat about;
	int fd = must(open(path, O_RDONLY | O_CLOEXEC), "open", path);

	must(fstat(fd, &about), "stat", path);
	filter.len = (unsigned short)((size_t)about.st_size / sizeof *filter.filter);
	filter.filter = malloc((size_t)about.st_size);
	if (!filter.filter || read(fd, filter.filter, (size_t)about.st_size) != about.st_size)
		fail("read", path);
	close(fd);
}

static void add(struct list *list, struct line *line)
{
	if (list->count == MOST) {
		errno = E2BIG;
		fail("recipe", "too many lines");
	}
	list->line[list->count++] = *line;
}

static void read_line(struct line *line)
{
	char **word = line->word;

#define IS(name) (!strcmp(word[0], name))
	if (IS("lower")) lower = word[1];               /* the root filesystem */
	else if (IS("base")) base = word[1];            /* an existing directory to mount on */
	else if (IS("hostname")) host = word[1];
	else if (IS("cwd")) cwd = word[1];
	else if (IS("argv")) argv[argc++] = word[1];
	else if (IS("env")) envp[envc++] = word[1];
	else if (IS("capabilities")) capabilities = strtoull(word[1], NULL, 16);
	else if (IS("namespaces")) inheritable_flags = strtoull(word[1], NULL, 16);
	else if (IS("seccomp")) { load_filter(word[1]); filter_flags = (unsigned)strtoul(word[2], NULL, 10); }
	else if (IS("unified")) { unified = 1; add(&groups, line); }
	else if (IS("cgroup")) add(&groups, line);      /* a v1 directory below which each instance gets one */
	else if (IS("limit")) add(&limits, line);       /* DIRECTORY FILE TEXT */
	else add(&steps, line);                         /* mount device link mask-file mask-directory readonly */
#undef IS
}

static void read_recipe(const char *path)
{
	char *text = NULL, *row;
	size_t size = 0;
	FILE *file = fopen(path, "re");

	if (!file)
		fail("open", path);
	while (getline(&text, &size, file) > 0) {
		struct line line = {{0}};
		char *rest = strdup(text);

		if (!rest)
			fail("strdup", path);
		rest[strcspn(rest, "\n")] = 0;
		row = rest;
		for (int i = 0; i < WORDS && row; i++)
			line.word[i] = strsep(&row, "\t");
		read_line(&line);
	}
	fclose(file);
	if (argc >= MOST || envc >= MOST || !lower || !base || !argc) {
		errno = EINVAL;
		fail("recipe", path);
	}
}

static void put(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY | O_CLOEXEC), "open", path);

	must((int)write(fd, text, strlen(text)), "write", path);
	close(fd);
}

/* -- inside ------------------------------------------------------------------------------------------------------- */

static void layer(void)
{
	char data[12288], path[4200];

	must(mount("tare-floor", base, "tmpfs", 0, "mode=700"), "mount", base);
	must(chdir(base), "chdir", base);
	must(mkdir("u", 0755), "mkdir", "u");
	must(mkdir("w", 0755), "mkdir", "w");
	must(mkdir("m", 0755), "mkdir", "m");
	snprintf(data, sizeof data, "lowerdir=%s,upperdir=%s/u,workdir=%s/w", lower, base, base);
	snprintf(path, sizeof path, "%s/m", base);
	must(mount("overlay", path, "overlay", 0, data), "mount", path);
	must(chdir(path), "chdir", path);
	must((int)syscall(SYS_pivot_root, ".", "."), "pivot_root", path);
	must(umount2(".", MNT_DETACH), "umount2", ".");
	must(chdir("/"), "chdir", "/");
}

static void step(struct line *line)
{
	char **word = line->word;

	if (!strcmp(word[0], "mount")) { /* KIND SOURCE TARGET FLAGS DATA */
		must(mount(word[2], word[3], word[1], strtoul(word[4], NULL, 10), word[5]), "mount", word[3]);
	} else if (!strcmp(word[0], "directory")) {
		if (mkdir(word[1], 0755) < 0 && errno != EEXIST)
			fail("mkdir", word[1]);
	} else if (!strcmp(word[0], "device")) { /* PATH MAJOR MINOR */
		dev_t device = makedev(strtoul(word[2], NULL, 10), strtoul(word[3], NULL, 10));

		must(mknod(word[1], S_IFCHR | 0666, device), "mknod", word[1]);
	} else if (!strcmp(word[0], "link")) { /* TARGET PATH */
		must(symlink(word[1], word[2]), "symlink", word[2]);
	} else if (!strcmp(word[0], "mask-file")) {
		must(mount("/dev/null", word[1], NULL, MS_BIND, NULL), "mask", word[1]);
	} else if (!strcmp(word[0], "mask-directory")) { /* one empty file system for all of them */
		if (masked)
			must(mount(masked, word[1], NULL, MS_BIND, NULL), "mask", word[1]);
		else
			must(mount("tmpfs", word[1], "tmpfs", MS_RDONLY, "nr_blocks=1,nr_inodes=1"), "mask", word[1]);
		masked = masked ? masked : word[1];
	} else if (!strcmp(word[0], "readonly")) { /* PATH FLAGS */
		must(mount(word[1], word[1], NULL, MS_BIND | MS_REC, NULL), "bind", word[1]);
		must(mount(NULL, word[1], NULL, MS_BIND | MS_REMOUNT | strtoul(word[2], NULL, 10), NULL), "remount", word[1]);
	} else {
		errno = EINVAL;
		fail("recipe", word[0]);
	}
}

static void loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int fd = must(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket", "lo");

	must(ioctl(fd, SIOCGIFFLAGS, &request), "ioctl", "lo");
	request.ifr_flags |= IFF_UP;
	must(ioctl(fd, SIOCSIFFLAGS, &request), "ioctl", "lo");
	close(fd);
}

static void keep_capabilities(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {{0}};

	for (int half = 0; half < 2; half++)
		data[half].effective = data[half].permitted = (unsigned)(capabilities >> (32 * half));
	must((int)syscall(SYS_capset, &header, data), "capset", "");
}

static void become(const char *name, int console)
{
	char path[4200];

	must(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "prctl", "pdeathsig");
	must((int)setsid(), "setsid", "");
	must((int)syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL), "keyctl", "");
	if (!unified)
		for (int i = 0; i < groups.count; i++) {
			snprintf(path, sizeof path, "%s/%s/tasks", groups.line[i].word[1], name);
			put(path, "0");
		}
	must(unshare(CLONE_NEWCGROUP), "unshare", "cgroup");
	umask(0);
	layer();
	for (int i = 0; i < steps.count; i++)
		step(&steps.line[i]);
	must(sethostname(host, strlen(host)), "sethostname", host);
	loopback_up();
	must(chdir(cwd), "chdir", cwd);
	umask(022);
	keep_capabilities();
	must(dup2(console, 1), "dup2", "console");
	must((int)syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC), "close_range", "");
	if (filter.len)
		must((int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, filter_flags, &filter), "seccomp", "");
	execve(argv[0], argv, envp);
	fail("execve", argv[0]);
}

/* -- outside ------------------------------------------------------------------------------------------------------ */

static int await_ready(int console)
{
	char text[256];
	size_t length = 0;

	while (length < sizeof text - 1) {
		ssize_t got = read(console, text + length, sizeof text - 1 - length);

		if (got <= 0)
			return -1;
		length += (size_t)got;
		text[length] = 0;
		if (strstr(text, "tare ready\n"))
			return 0;
	}
	return -1;
}

static void remove_groups(const char *name)
{
	char path[4200];

	for (int i = 0; i < groups.count; i++) {
		snprintf(path, sizeof path, "%s/%s", groups.line[i].word[1], name);
		/* The kernel takes a dead task out of its cgroup a moment after its parent could reap it. */
		while (rmdir(path) < 0) {
			if (errno == ENOENT)
				break;
			if (errno != EBUSY)
				fail("rmdir", path);
			sched_yield();
		}
	}
}

static void make_groups(const char *name)
{
	char path[4200];

	for (int i = 0; i < groups.count; i++) {
		snprintf(path, sizeof path, "%s/%s", groups.line[i].word[1], name);
		must(mkdir(path, 0755), "mkdir", path);
	}
	for (int i = 0; i < limits.count; i++) {
		snprintf(path, sizeof path, "%s/%s/%s", limits.line[i].word[1], name, limits.line[i].word[2]);
		put(path, limits.line[i].word[3]);
	}
}

static void start(const char *name)
{
	uint64_t from_ns = now_ns();
	struct instance *one = calloc(1, sizeof *one);
	struct clone_args how = {.flags = inheritable_flags | CLONE_PIDFD, .exit_signal = SIGCHLD};
	char path[4200];
	int console[2], group = -1;

	if (!one || strlen(name) >= sizeof one->name)
		fail("name", name);
	strcpy(one->name, name);
	make_groups(name);
	must(pipe2(console, O_CLOEXEC), "pipe2", "");
	if (unified) {
		snprintf(path, sizeof path, "%s/%s", groups.line[0].word[1], name);
		group = must(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open", path);
		how.flags |= CLONE_INTO_CGROUP;
		how.cgroup = (uint64_t)group;
	}
	how.pidfd = (uint64_t)(uintptr_t)&one->pidfd;
	one->pid = must((int)syscall(SYS_clone3, &how, sizeof how), "clone3", name);
	if (!one->pid)
		become(name, console[1]);
	close(console[1]);
	if (group >= 0)
		close(group);
	one->console = console[0];
	if (await_ready(one->console) < 0) {
		printf("error %s did not become ready\n", name);
		waitpid(one->pid, NULL, 0);
		remove_groups(name);
		return;
	}
	one->next = alive;
	alive = one;
	printf("ok %llu\n", (unsigned long long)(now_ns() - from_ns));
}

static void stop(const char *name)
{
	struct instance **at = &alive, *one;
	uint64_t from_ns = now_ns();

	while (*at && strcmp((*at)->name, name))
		at = &(*at)->next;
	one = *at;
	if (!one) {
		printf("error there is no %s\n", name);
		return;
	}
	must((int)syscall(SYS_pidfd_send_signal, one->pidfd, SIGKILL, NULL, 0), "kill", name);
	must(waitpid(one->pid, NULL, 0), "waitpid", name);
	close(one->pidfd);
	close(one->console);
	remove_groups(name);
	*at = one->next;
	free(one);
	printf("ok %llu\n", (unsigned long long)(now_ns() - from_ns));
}

/* What a child inherits is done once: a private view of mounts, no groups, the bounding set, no new privileges. */
static void prepare(void)
{
	int null = must(open("/dev/null", O_RDONLY | O_CLOEXEC), "open", "/dev/null");
	char text[16] = "";
	int fd = must(open("/proc/sys/kernel/cap_last_cap", O_RDONLY | O_CLOEXEC), "open", "cap_last_cap");

	must((int)read(fd, text, sizeof text - 1), "read", "cap_last_cap");
	close(fd);
	close(null);
	must(unshare(CLONE_NEWNS), "unshare", "mount");
	must(mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL), "mount", "slave");
	must(setgroups(0, NULL), "setgroups", "");
	for (int number = 0; number <= atoi(text); number++)
		if (!(capabilities >> number & 1))
			must(prctl(PR_CAPBSET_DROP, number, 0, 0, 0), "prctl", "bounding");
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl", "no_new_privs");
}

int main(int count, char **words)
{
	char *text = NULL;
	size_t size = 0;

	if (count != 2) {
		fprintf(stderr, "usage: floor RECIPE\n");
		return 2;
	}
	must(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "prctl", "pdeathsig");
	read_recipe(words[1]);
	prepare();
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("ready\n");
	while (getline(&text, &size, stdin) > 0) {
		text[strcspn(text, "\n")] = 0;
		if (!strncmp(text, "start ", 6))
			start(text + 6);
		else if (!strncmp(text, "stop ", 5))
			stop(text + 5);
		else
			printf("error unknown command %s\n", text);
	}
	while (alive)
		stop(alive->name);
	return 0;
}
