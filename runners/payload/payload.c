/* The same first process in every subject: a static program that says when it lives, works as told, and waits.
 *
 *   payload [delay-ms=N] [touch-mib=N] [then=release | then=release-lazily] [tell=memory] [busy-percent=N]
 *           [out-kib=N] [err-kib=N] [input=empty] [then=pause | then=flood | then=exit:N]
 *
 * It writes one line per event to its console, each in a single write(2):
 *
 *   tare first      the first thing that main() does
 *   tare inside NAME N
 *                   for tell=memory: entries of the /proc/meminfo that it sees (proc_meminfo(5)), N in KiB, after the
 *                   delay, the touching and the giving back; or "tare inside: ..." with the reason why it sees none
 *   tare ready      after all of these
 *   tare exit N     just before it ends
 *
 * For input=empty it reads standard input, which must be at its end. Before it is ready it writes out-kib=N KiB to
 * standard output, and err-kib=N to standard error. Ready, it waits for SIGTERM or SIGINT; with busy-percent=N it uses
 * N % of one processor meanwhile; for then=flood it writes to both without end.
 *
 * The console is standard output, or the device named by TARE_CONSOLE: in a virtual machine the kernel passes the
 * words of its command line on to init, KEY=VALUE as environment and what follows "--" as arguments
 * (Documentation/admin-guide/kernel-parameters.rst), so the program needs no other way to be told.
 *
 * As the init of a virtual machine (TARE_VM is set) it may not return: the kernel would panic. It switches off instead,
 * or restarts one that has no way to switch off (TARE_VM=restart).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static int console = 1;

/* write(2) to a stream that whoever started this may have made non-blocking: it is one description for all that have it. */
static ssize_t put(int stream, const char *text, size_t size)
{
	struct pollfd room = {.fd = stream, .events = POLLOUT};
	ssize_t wrote;

	while ((wrote = write(stream, text, size)) < 0 && (errno == EINTR || errno == EAGAIN))
		if (errno == EAGAIN)
			poll(&room, 1, -1);
	return wrote;
}

static void say(const char *word)
{
	char line[128];
	int length = snprintf(line, sizeof line, "tare %s\n", word);

	/* A reader that went away is no reason to stop: the instance is killed from outside. */
	if (put(console, line, (size_t)length) < 0 && errno != EPIPE)
		exit(70);
}

static void finish(int code)
{
	char word[32];

	snprintf(word, sizeof word, "exit %d", code);
	say(word);
	if (getenv("TARE_VM")) {
		tcdrain(console); /* the UART may still hold the last bytes */
		reboot(strcmp(getenv("TARE_VM"), "restart") ? RB_POWER_OFF : RB_AUTOBOOT);
		for (;;)
			pause();
	}
	exit(code);
}

static void usage(const char *word)
{
	fprintf(stderr,
		"payload: cannot read '%s'; known: delay-ms=N touch-mib=N tell=memory busy-percent=N"
		" out-kib=N err-kib=N input=empty then=release|release-lazily|pause|flood|exit:N\n",
		word);
	finish(64);
}

static long number(const char *word, const char *text, long most)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (end == text || *end || value < 0 || value > most)
		usage(word);
	return value;
}

static void open_console(void)
{
	const char *path = getenv("TARE_CONSOLE");
	struct termios mode;

	if (!path)
		return;
	console = open(path, O_WRONLY | O_NOCTTY);
	if (console < 0) {
		perror(path);
		console = 2;
		finish(71);
	}
	if (tcgetattr(console, &mode) == 0) { /* no translation of our line ends */
		cfmakeraw(&mode);
		tcsetattr(console, TCSANOW, &mode);
	}
}

enum release { KEEP, RELEASE, RELEASE_LAZILY };

/* Lazily: the kernel may take the pages from now on and does when it is short of memory, as allocators have it that
 * would rather not fault them in again (madvise(2), MADV_FREE). */
static void touch(long mib, enum release release)
{
	size_t size = (size_t)mib << 20;
	volatile char *memory;

	if (!mib)
		return;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) {
		perror("mmap");
		finish(72);
	}
	for (size_t at = 0; at < size; at += 4096)
		memory[at] = (char)(at >> 12 | 1); /* not zero: a zero page could be shared or merged */
	if (release == RELEASE)
		munmap((void *)memory, size);
	if (release == RELEASE_LAZILY && madvise((void *)memory, size, MADV_FREE) < 0) {
		perror("madvise");
		finish(72);
	}
}

/* The text of /proc/meminfo, in one read(2): the kernel makes it anew for each. Its length, or -1. */
static ssize_t meminfo(char *text, size_t size)
{
	int file = open("/proc/meminfo", O_RDONLY);
	ssize_t length;

	if (file < 0)
		return -1;
	length = read(file, text, size);
	close(file);
	return length;
}

static void tell_memory(void)
{
	static const char *const wanted[] = {"MemTotal",   "MemFree",     "MemAvailable", "Cached", "AnonPages",
					     "Slab",	   "KernelStack", "PageTables",   "Percpu", NULL};
	char text[4096], word[96]; /* some 1600 bytes; an entry that does not fit is left out */
	ssize_t length = meminfo(text, sizeof text - 1);

	/* The init of a virtual machine is alone with its kernel: nobody else mounts anything. */
	if (length < 0 && errno == ENOENT && getenv("TARE_VM")) {
		mkdir("/proc", 0555);
		if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0)
			length = meminfo(text, sizeof text - 1);
	}
	if (length < 0) {
		snprintf(word, sizeof word, "inside: cannot read /proc/meminfo: %s", strerror(errno));
		say(word);
		return;
	}
	text[length] = 0;
	for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
		char *colon = memchr(line, ':', (size_t)(end - line));

		if (!colon)
			continue;
		*colon = 0;
		for (int i = 0; wanted[i]; i++)
			if (!strcmp(line, wanted[i])) {
				snprintf(word, sizeof word, "inside %s %ld", wanted[i], strtol(colon + 1, NULL, 10));
				say(word);
			}
	}
}

/* Write *kib* KiB of lines to *stream*. */
static void babble(int stream, long kib)
{
	char text[1024];
	ssize_t wrote;

	memset(text, 'x', sizeof text);
	for (size_t at = 63; at < sizeof text; at += 64)
		text[at] = '\n';
	for (; kib > 0; kib--)
		for (size_t at = 0; at < sizeof text; at += (size_t)wrote)
			if ((wrote = put(stream, text + at, sizeof text - at)) < 0)
				return;
}

static void flood(const sigset_t *stop)
{
	const struct timespec none = {0, 0};

	do {
		babble(1, 16);
		babble(2, 16);
	} while (sigtimedwait(stop, NULL, &none) < 0);
}

static long long now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Use *percent* of a processor until one of *stop* comes, in periods of 100 ms: first work, then sleep.
 *
 * The share is of processor time that this thread got (CLOCK_THREAD_CPUTIME_ID), whatever it had to wait for it. A
 * period in which it did not get all of it ends none the less, and the next owes nothing: where the processors are
 * overcommitted, each instance asks for no more than before. The clock is that of the kernel below: in a virtual
 * machine it is the guest's, which takes a virtual processor's time for a real one's.
 */
static void work(long percent, const sigset_t *stop)
{
	const long long period_ns = 100 * 1000000LL, share_ns = percent * 1000000LL;
	long long end_ns = now_ns(CLOCK_MONOTONIC), left_ns, used_ns;
	struct timespec left;
	int got;

	for (;;) {
		/* On a grid, so that what a wake-up is late does not lengthen the period; a period that passed is lost. */
		do
			end_ns += period_ns;
		while (end_ns <= now_ns(CLOCK_MONOTONIC));
		used_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
		while (now_ns(CLOCK_THREAD_CPUTIME_ID) - used_ns < share_ns && now_ns(CLOCK_MONOTONIC) < end_ns)
			for (volatile int i = 0; i < 1000; i++)
				; /* some µs between two looks: it is the program that works, not the kernel */
		do { /* again after EINTR: SIGSTOP and SIGCONT, a debugger */
			left_ns = end_ns - now_ns(CLOCK_MONOTONIC);
			left_ns = left_ns > 0 ? left_ns : 0; /* a look at the signals none the less */
			left = (struct timespec){left_ns / 1000000000, left_ns % 1000000000};
			got = sigtimedwait(stop, NULL, &left);
		} while (got < 0 && errno == EINTR);
		if (got > 0)
			return;
	}
}

int main(int argc, char **argv)
{
	long delay_ms = 0, touch_mib = 0, busy_percent = 0, out_kib = 0, err_kib = 0, code = -1;
	sigset_t stop;
	enum release release = KEEP;
	int got, tell = 0, floods = 0, reads = 0;

	open_console();
	say("first");
	/* Blocked, then waited for: as PID 1 of a namespace, signals without a handler would be dropped. */
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigprocmask(SIG_BLOCK, &stop, NULL);

	for (int i = 1; i < argc; i++) {
		const char *word = argv[i];

		if (!strncmp(word, "delay-ms=", 9))
			delay_ms = number(word, word + 9, 3600L * 1000);
		else if (!strncmp(word, "touch-mib=", 10))
			touch_mib = number(word, word + 10, 1L << 20);
		else if (!strncmp(word, "busy-percent=", 13))
			busy_percent = number(word, word + 13, 100);
		else if (!strncmp(word, "out-kib=", 8))
			out_kib = number(word, word + 8, 1L << 30);
		else if (!strncmp(word, "err-kib=", 8))
			err_kib = number(word, word + 8, 1L << 30);
		else if (!strcmp(word, "input=empty"))
			reads = 1;
		else if (!strcmp(word, "then=flood"))
			floods = 1;
		else if (!strncmp(word, "then=exit:", 10))
			code = number(word, word + 10, 255);
		else if (!strcmp(word, "then=release"))
			release = RELEASE;
		else if (!strcmp(word, "then=release-lazily"))
			release = RELEASE_LAZILY;
		else if (!strcmp(word, "tell=memory"))
			tell = 1;
		else if (strcmp(word, "then=pause"))
			usage(word);
	}
	if (delay_ms) {
		struct timespec left = {delay_ms / 1000, delay_ms % 1000 * 1000000L};

		while (nanosleep(&left, &left) < 0 && errno == EINTR)
			;
	}
	if (reads && read(0, &got, 1) != 0)
		finish(73);
	touch(touch_mib, release);
	babble(1, out_kib);
	babble(2, err_kib);
	if (tell)
		tell_memory();
	say("ready");
	if (code < 0) {
		if (floods)
			flood(&stop);
		else if (busy_percent)
			work(busy_percent, &stop);
		else
			while (sigwait(&stop, &got) != 0)
				;
		code = 0;
	}
	finish((int)code);
}
