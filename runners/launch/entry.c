/* A program that becomes another one somewhere else: below a root of its own, or beside a process that runs.
 *
 *   entry [KEY=VALUE...] -- PROGRAM [ARGUMENT...]
 *
 *   beside=PID          in the namespaces and below the root of that process
 *   cgroup=FILE         in the cgroup whose cgroup.procs FILE is; may stand several times
 *   overlay=OPTIONS     below an overlay with these mount options, in a mount namespace of its own, with the host's
 *   base=DIRECTORY      /proc, /sys and /dev; what the overlay needs is made on a tmpfs that is mounted at base
 *   directory=DIRECTORY begins there
 *   user=UID group=GID groups=GID,GID,...
 *   capabilities=HEX    bounds the capabilities by this mask; a user other than root has none of them in force
 *   filter=FILE         behind this filter of system calls, an array of struct sock_filter; without new privileges
 *   env=NAME=VALUE      its environment; without any, it is that of the caller
 *
 * PROGRAM is searched for in PATH of its environment. Without a pid namespace to enter, this process becomes it; else
 * a child does, which is killed when this process is, and whose exit status this process hands on. What fails is told
 * on standard error; the status is 127 then.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 64

extern char **environ;

static const char *beside, *overlay, *base, *directory, *user, *group, *groups, *capabilities, *filter;
static const char *cgroups[MOST];
static int doors[MOST], ncgroups;
static char **environment;
static int nenvironment;

static void fail(const char *what, const char *which)
{
	fprintf(stderr, "cannot %s %s: %s\n", what, which, strerror(errno));
	_exit(127);
}

static unsigned long number(const char *text)
{
	return strtoul(text, NULL, 10);
}

/* The value of the word if it is key=value, else NULL. */
static const char *value(const char *word, const char *key)
{
	size_t length = strlen(key);

	return strncmp(word, key, length) == 0 && word[length] == '=' ? word + length + 1 : NULL;
}

static int read_words(int argc, char **argv)
{
	static const struct {
		const char *key;
		const char **place;
	} keys[] = {
		{"beside", &beside}, {"overlay", &overlay}, {"base", &base}, {"directory", &directory},
		{"user", &user}, {"group", &group}, {"groups", &groups}, {"capabilities", &capabilities},
		{"filter", &filter},
	};
	const char *found;
	size_t key;
	int at;

	environment = calloc((size_t)argc + 1, sizeof *environment);
	if (!environment)
		fail("remember", "the environment");
	for (at = 1; at < argc && strcmp(argv[at], "--") != 0; at++) {
		for (key = 0; key < sizeof keys / sizeof *keys; key++) {
			found = value(argv[at], keys[key].key);
			if (found)
				*keys[key].place = found;
		}
		if (strncmp(argv[at], "env=", 4) == 0)
			environment[nenvironment++] = argv[at] + 4;
		found = value(argv[at], "cgroup");
		if (found && ncgroups < MOST)
			cgroups[ncgroups++] = found;
	}
	return at + 1;
}

/* Opened where they have a name; entered by the program's own process, so that nothing else is charged there. */
static void open_cgroups(void)
{
	int at;

	for (at = 0; at < ncgroups; at++) {
		doors[at] = open(cgroups[at], O_WRONLY | O_CLOEXEC);
		if (doors[at] < 0)
			fail("open", cgroups[at]);
	}
}

static void enter_cgroups(void)
{
	int at;

	for (at = 0; at < ncgroups; at++)
		if (write(doors[at], "0", 1) != 1)
			fail("enter", cgroups[at]);
}

static int same(const char *one, const char *other)
{
	struct stat first, second;

	return stat(one, &first) == 0 && stat(other, &second) == 0 && first.st_ino == second.st_ino &&
	       first.st_dev == second.st_dev;
}

/* Whether the pid namespace is another one, so that only a child is in it. */
static int enter_namespaces(void)
{
	/* The user namespace first: in it are the rights to enter the others. */
	static const char *const kinds[] = {"user", "cgroup", "ipc", "uts", "net", "pid", "mnt"};
	char path[64], own[64];
	int fds[7], at, root, other = 0;

	snprintf(path, sizeof path, "/proc/%s/root", beside);
	root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		fail("open", path);
	for (at = 0; at < 7; at++) {
		snprintf(path, sizeof path, "/proc/%s/ns/%s", beside, kinds[at]);
		snprintf(own, sizeof own, "/proc/self/ns/%s", kinds[at]);
		fds[at] = -1;
		if (same(path, own))
			continue;
		fds[at] = open(path, O_RDONLY | O_CLOEXEC);
		if (fds[at] < 0 && errno != ENOENT)
			fail("open", path);
		if (strcmp(kinds[at], "pid") == 0)
			other = fds[at] >= 0;
	}
	for (at = 0; at < 7; at++)
		if (fds[at] >= 0 && setns(fds[at], 0) < 0)
			fail("enter the namespace", kinds[at]);
	if (fchdir(root) < 0 || chroot(".") < 0)
		fail("enter the root of process", beside);
	return other;
}

static void bind(const char *name)
{
	char from[16], to[16];

	snprintf(from, sizeof from, "/%s", name);
	snprintf(to, sizeof to, "m/%s", name);
	if ((mkdir(to, 0755) < 0 && errno != EEXIST) || mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0)
		fail("bind", from);
}

static void make_root(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		fail("make", "a mount namespace");
	if (mount("tare-layer", base, "tmpfs", 0, "mode=755") < 0 || chdir(base) < 0)
		fail("mount a tmpfs at", base);
	umask(0);
	if (mkdir("u", 0755) < 0 || mkdir("w", 0755) < 0 || mkdir("m", 0755) < 0)
		fail("make directories in", base);
	if (mount("overlay", "m", "overlay", 0, overlay) < 0)
		fail("mount an overlay with", overlay);
	bind("proc");
	bind("sys");
	bind("dev");
	if (chroot("m") < 0 || chdir("/") < 0)
		fail("enter", base);
}

static void become_user(void)
{
	gid_t list[MOST];
	size_t count = 0;
	const char *at = groups;
	gid_t gid = group ? (gid_t)number(group) : 0;
	uid_t uid = (uid_t)number(user);
	struct stat stream;
	int fd;

	while (at && *at && count < MOST) {
		list[count++] = (gid_t)number(at);
		at = strchr(at, ',');
		at = at ? at + 1 : NULL;
	}
	/* Its pipes, and nothing of the host's: a server that opens /dev/stdout anew must be allowed to. */
	for (fd = 1; fd <= 2; fd++)
		if (fstat(fd, &stream) == 0 && S_ISFIFO(stream.st_mode) && fchown(fd, uid, gid) < 0)
			fail("give the standard streams to user", user);
	if (setgroups(count, list) < 0)
		fail("be in the groups", groups ? groups : "(none)");
	if (setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		fail("become user", user);
}

static void bound(unsigned long long mask)
{
	unsigned long at;

	for (at = 0; prctl(PR_CAPBSET_READ, at, 0, 0, 0) >= 0; at++)
		if (!(mask >> at & 1) && prctl(PR_CAPBSET_DROP, at, 0, 0, 0) < 0)
			fail("bound the capabilities to", capabilities);
}

static void keep(unsigned long long mask)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];
	int at;

	for (at = 0; at < 2; at++) {
		data[at].effective = data[at].permitted = (unsigned)(mask >> 32 * at);
		data[at].inheritable = 0;
	}
	if (syscall(SYS_capset, &header, data) < 0)
		fail("keep the capabilities", capabilities);
}

static struct sock_fprog read_filter(void)
{
	struct sock_fprog program = {0, NULL};
	struct stat found;
	int fd = open(filter, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &found) < 0)
		fail("read", filter);
	program.filter = malloc((size_t)found.st_size);
	program.len = (unsigned short)((size_t)found.st_size / sizeof *program.filter);
	if (!program.filter || read(fd, program.filter, (size_t)found.st_size) != found.st_size)
		fail("read", filter);
	close(fd);
	return program;
}

/* execvp(3) would hand a program that is none to a shell. */
static void execute(char **argv)
{
	const char *at = getenv("PATH"), *end;
	char path[4096];
	int error = ENOENT;

	if (strchr(argv[0], '/')) {
		execve(argv[0], argv, environ);
		fail("execute", argv[0]);
	}
	for (; at && *at; at = *end ? end + 1 : end) {
		end = strchrnul(at, ':');
		snprintf(path, sizeof path, "%.*s/%s", (int)(end - at), at, argv[0]);
		execve(path, argv, environ);
		if (errno != ENOENT && errno != ENOTDIR)
			error = errno;
	}
	errno = error;
	fail("execute", argv[0]);
}

static void become(char **argv, const struct sock_fprog *program)
{
	unsigned long long mask = capabilities ? strtoull(capabilities, NULL, 16) : 0;

	enter_cgroups();
	if (capabilities)
		bound(mask);
	if (user)
		become_user();
	if (capabilities && (!user || number(user) == 0))
		keep(mask);
	umask(022);
	if (directory && chdir(directory) < 0)
		fail("change to the directory", directory);
	if (nenvironment)
		environ = environment;
	/* After the change of ids, which resets it. */
	if (beside && prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		fail("die with", "the caller");
	if (program->len && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
			     prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program) < 0))
		fail("set the filter", filter);
	execute(argv);
}

int main(int argc, char **argv)
{
	int first = read_words(argc, argv), other = 0, status;
	struct sock_fprog program = {0, NULL};
	pid_t pid;

	if (first >= argc)
		return 64;
	if (filter)
		program = read_filter();
	open_cgroups();
	if (beside) {
		/* Until it is the program, the processes beside it may not look into this one. */
		prctl(PR_SET_DUMPABLE, 0);
		other = enter_namespaces();
	} else if (overlay) {
		make_root();
	}
	if (!other)
		become(argv + first, &program);
	pid = fork();
	if (pid < 0)
		fail("fork for", argv[first]);
	if (pid == 0) {
		setsid();
		become(argv + first, &program);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			fail("wait for", argv[first]);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
