/* What runs inside the containers of these tests, where busybox cannot say it: one static program, many names.
 *
 *   inside crash               end by SIGSEGV
 *   inside touch MIB           write to that much memory, then print "touched"
 *   inside call NAME...        make each system call; print "NAME ok" or "NAME ERRNO"
 *   inside personality HEX     the same for personality(2), whose argument seccomp filters like to look at
 *   inside descriptors         one line for each open descriptor: number, device, inode, what it leads to
 *   inside ids                 the real and the effective user
 *   inside session             process, group and session ids; whether there is a controlling terminal
 *   inside pause               wait for a signal for ever
 *   inside notify WORD...      say the words to a service manager (sd_notify(3)), a line each
 *
 * The calls are harmless where they succeed: their arguments are bad or change only what is the container's own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static long call(const char *name)
{
	static char room[4096];

	if (!strcmp(name, "getppid")) return syscall(SYS_getppid);
	if (!strcmp(name, "unborn")) return syscall(1000);
	if (!strcmp(name, "mkdir")) return mkdir("/inside-made", 0700);
	if (!strcmp(name, "chmod")) return chmod("/bin", 0755);
	if (!strcmp(name, "sethostname")) return sethostname("inside", 6);
	if (!strcmp(name, "unshare-user")) return unshare(CLONE_NEWUSER);
	if (!strcmp(name, "unshare-mount")) return unshare(CLONE_NEWNS);
	if (!strcmp(name, "unshare-files")) return unshare(CLONE_FILES);
	if (!strcmp(name, "clone-user")) return syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
	if (!strcmp(name, "clone3")) return syscall(SYS_clone3, room, 0);
	if (!strcmp(name, "mount")) return mount("none", "/", NULL, MS_REMOUNT | MS_BIND, NULL);
	if (!strcmp(name, "umount")) return umount2("/proc", MNT_DETACH);
	if (!strcmp(name, "pivot_root")) return syscall(SYS_pivot_root, "/", "/");
	if (!strcmp(name, "keyctl")) return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);
	if (!strcmp(name, "bpf")) return syscall(SYS_bpf, 0, room, 0);
	if (!strcmp(name, "perf_event_open")) return syscall(SYS_perf_event_open, room, 0, -1, -1, 0);
	if (!strcmp(name, "userfaultfd")) return syscall(SYS_userfaultfd, 0);
	if (!strcmp(name, "io_uring_setup")) return syscall(SYS_io_uring_setup, 0, room);
	if (!strcmp(name, "init_module")) return syscall(SYS_init_module, room, 0, "");
	if (!strcmp(name, "kexec_load")) return syscall(SYS_kexec_load, 0, 0, room, ~0UL);
	if (!strcmp(name, "reboot")) return syscall(SYS_reboot, 0, 0, 0, 0);
	if (!strcmp(name, "settimeofday")) return syscall(SYS_settimeofday, 0, room); /* the zone, and that as it is */
	if (!strcmp(name, "swapon")) return syscall(SYS_swapon, "/", 0);
	if (!strcmp(name, "acct")) return syscall(SYS_acct, "/");
	if (!strcmp(name, "syslog")) return syscall(SYS_syslog, 3, room, sizeof room);
	if (!strcmp(name, "open_by_handle_at")) return syscall(SYS_open_by_handle_at, AT_FDCWD, room, 0);
	if (!strcmp(name, "setns")) return setns(open("/proc/self/ns/uts", O_RDONLY), 0);
	if (!strcmp(name, "chroot")) return chroot("/");
#ifdef SYS_iopl
	if (!strcmp(name, "iopl")) return syscall(SYS_iopl, 3);
#endif
	fprintf(stderr, "inside knows no call %s\n", name);
	exit(2);
}

static void calls(char **names)
{
	for (; *names; names++) {
		errno = 0;
		long got = call(*names);
		if (got == 0 && !strcmp(*names, "clone-user")) _exit(0);
		printf("%s %s\n", *names, got < 0 ? strerrorname_np(errno) : "ok");
	}
}

static void descriptors(void)
{
	for (int fd = 0; fd < 1024; fd++) {
		char link[64], target[4096];
		struct stat status;

		if (fstat(fd, &status)) continue;
		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		ssize_t length = readlink(link, target, sizeof target - 1);
		target[length < 0 ? 0 : length] = 0;
		printf("%d %lu %lu %s\n", fd, (unsigned long)status.st_dev, (unsigned long)status.st_ino, target);
	}
}

static void touch(const char *mib)
{
	size_t length = strtoul(mib, NULL, 10) << 20;
	char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED) exit(3);
	for (size_t at = 0; at < length; at += 4096) memory[at] = 1;
	puts("touched");
}

static int notify(char **words)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char text[1024] = "";
	int end = socket(AF_UNIX, SOCK_DGRAM, 0);

	strncpy(address.sun_path, getenv("NOTIFY_SOCKET") ?: "", sizeof address.sun_path - 1);
	for (; *words; words++) {
		strncat(text, *words, sizeof text - strlen(text) - 2);
		if (words[1]) strcat(text, "\n");
	}
	if (sendto(end, text, strlen(text), 0, (struct sockaddr *)&address, sizeof address) < 0) {
		perror(address.sun_path);
		return 1;
	}
	return 0;
}

/* An address that is never mapped; volatile, so that no compiler knows it and says so. */
static volatile int *volatile nowhere = (volatile int *)8;

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(name, "crash")) {
		raise(SIGSEGV); /* ignored for PID 1; the next one is not: the kernel forces it */
		*nowhere = 1;
	} else if (!strcmp(name, "touch") && argc > 2) {
		touch(argv[2]);
	} else if (!strcmp(name, "call")) {
		calls(argv + 2);
	} else if (!strcmp(name, "personality") && argc > 2) {
		long got = personality(strtoul(argv[2], NULL, 16));
		printf("personality %s\n", got < 0 ? strerrorname_np(errno) : "ok");
	} else if (!strcmp(name, "descriptors")) {
		descriptors();
	} else if (!strcmp(name, "session")) {
		int tty = open("/dev/tty", O_RDWR);
		printf("%d %d %d %s\n", getpid(), getpgrp(), getsid(0), tty < 0 ? "none" : "tty");
	} else if (!strcmp(name, "ids")) {
		printf("%d %d\n", getuid(), geteuid());
	} else if (!strcmp(name, "notify") && argc > 2) {
		return notify(argv + 2);
	} else if (!strcmp(name, "pause")) {
		for (;;) pause();
	} else {
		fprintf(stderr, "inside knows no %s\n", name);
		return 2;
	}
	return 0;
}
