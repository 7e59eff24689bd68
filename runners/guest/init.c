/* The first process of a guest that runs a workload of a user's: it makes the machine ready, runs the workload as a
 * child, passes on what that writes, says how it ended, and switches the machine off.
 *
 * It is told what to do by /.tare/workload, a series of texts that end with NUL. The first letter of each says what the
 * rest is:
 *
 *   m FILE      a module of the kernel, a file in /.tare, to be loaded in this order
 *   d DEVICE    the disk that holds the image (ext4); without it the image is the root file system already
 *   h NAME      the host name
 *   l LINK      the network device, as the kernel calls it
 *   a ADDRESS   its IPv4 address, in a network of four addresses (/30)
 *   p ADDRESS   the one of the host at the other end
 *   t TERMINAL  by which the host asks for further commands; without it that is a port of virtio-serial
 *   w DIRECTORY where the workload begins
 *   i           the workload is the init of a whole system: it becomes process 1, in place of this program
 *   v           say on the kernel's console how far the machine is
 *   n COUNT     so many ports of virtio-serial lead to the host, and each is served by a process of its own; without it
 *               one. Where there are several, the machine is switched off if one of these processes ends
 *   u UID, g GID, s GID (each a further group)
 *   e KEY=VALUE (each a variable of its environment)
 *   c WORD      (each a word of its command line, the first of which is the path of its program); without any there is
 *               no workload: the system that this program is a service of is one itself
 *
 * With an argument it is no init but a service of a whole system, which has made the machine ready but for its network;
 * the argument is the directory in which it finds what it is told.
 *
 * Three serial devices lead out: the kernel's console, where this program says what failed and how the workload ended;
 * the one named by TARE_CONSOLE, which may be the same, where all goes that the workload writes, and on which it says the
 * end of that again when the host writes a byte to it: a machine whose state was restored answers so that it runs; and the ones by which the
 * host asks for further commands (ask.c is the other end, and says what goes over them). The image is never written to: on
 * a disk it is the lower layer of an overlay, whose upper one is in memory, as an initramfs is.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define OWN "/.tare"
#define CHUNK 4096
#define END 2048 /* so much of what the workload wrote is said again */

enum { MOST = 4096 }; /* words of a command line, variables, groups */

static struct {
	const char *disk, *host, *link, *address, *peer, *terminal, *directory;
	uid_t uid;
	gid_t gid, groups[MOST];
	size_t groups_count;
	int becomes_init, tells;
	unsigned ports;
	char *modules[64], *env[MOST + 1], *argv[MOST + 1];
} work = {.host = "tare", .directory = "/", .ports = 1};

static pid_t agents[32]; /* what serves the ports, by their numbers less 1 */
static int console = -1;
static char said[END];
static size_t said_size;

/* Switch off: the init of a machine may not return, since the kernel would panic. Where there is no way to switch off
 * (TARE_VM=restart), whoever runs the machine takes a restart for its end. */
static void off(void)
{
	const char *machine = getenv("TARE_VM");

	tcdrain(2); /* the UARTs may still hold the last bytes */
	if (console >= 0)
		tcdrain(console);
	reboot(machine && strcmp(machine, "restart") == 0 ? RB_AUTOBOOT : RB_POWER_OFF);
	for (;;)
		pause();
}

static void fail(const char *what)
{
	dprintf(2, "tare init: %s: %s\n", what, strerror(errno));
	off();
}

static void need(int ok, const char *what)
{
	if (!ok)
		fail(what);
}

static void raw(int terminal)
{
	struct termios mode;

	if (tcgetattr(terminal, &mode) == 0) { /* no translation of line ends */
		cfmakeraw(&mode);
		tcsetattr(terminal, TCSANOW, &mode);
	}
}

/* One line of how far the machine is, where that is wanted. */
static void tell_step(const char *step)
{
	if (work.tells)
		dprintf(2, "tare init: %s\n", step);
}

/* The whole file *path*, with a NUL after it. */
static char *whole(const char *path, size_t *size)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status;
	char *text = NULL;
	ssize_t got;

	need(file >= 0 && fstat(file, &status) == 0, path);
	text = calloc(1, (size_t)status.st_size + 1);
	need(text != NULL, path);
	for (*size = 0; *size < (size_t)status.st_size; *size += (size_t)got) {
		got = read(file, text + *size, (size_t)status.st_size - *size);
		need(got > 0, path);
	}
	close(file);
	return text;
}

static void add(char **list, size_t most, char *text)
{
	size_t at = 0;

	while (list[at])
		at++;
	if (at + 1 >= most) {
		errno = E2BIG;
		fail("more words than fit");
	}
	list[at] = text;
}

static void learn(const char *path)
{
	size_t size;
	char *text = whole(path, &size);

	for (char *at = text; at < text + size; at += strlen(at) + 1) {
		char *rest = at + 1;

		switch (*at) {
		case 'm': add(work.modules, 64, rest); break;
		case 'd': work.disk = rest; break;
		case 'h': work.host = rest; break;
		case 'l': work.link = rest; break;
		case 'a': work.address = rest; break;
		case 'p': work.peer = rest; break;
		case 't': work.terminal = rest; break;
		case 'w': work.directory = rest; break;
		case 'i': work.becomes_init = 1; break;
		case 'v': work.tells = 1; break;
		case 'n':
			work.ports = (unsigned)strtoul(rest, NULL, 10);
			errno = EINVAL;
			need(work.ports <= sizeof agents / sizeof *agents, path);
			break;
		case 'u': work.uid = (uid_t)strtoul(rest, NULL, 10); break;
		case 'g': work.gid = (gid_t)strtoul(rest, NULL, 10); break;
		case 's':
			if (work.groups_count < MOST)
				work.groups[work.groups_count++] = (gid_t)strtoul(rest, NULL, 10);
			break;
		case 'e': add(work.env, MOST + 1, rest); break;
		case 'c': add(work.argv, MOST + 1, rest); break;
		default: errno = EINVAL; fail(path);
		}
	}
}

/* Load the modules, and remove their files: a root in memory gets the room back. */
static void load(void)
{
	char path[256];

	for (char **name = work.modules; *name; name++) {
		snprintf(path, sizeof path, OWN "/%s", *name);
		int module = open(path, O_RDONLY | O_CLOEXEC);

		need(module >= 0 && syscall(SYS_finit_module, module, "", 0) == 0, path);
		close(module);
		unlink(path);
	}
}

static void attach(const char *type, const char *place, unsigned long flags, const char *options)
{
	mkdir(place, 0755);
	need(mount(type, place, type, flags, options) == 0, place);
}

/* The image of a disk becomes the root: read-only, below a layer in memory. */
static void enter_disk(void)
{
	mkdir(OWN "/lower", 0755);
	need(mount(work.disk, OWN "/lower", "ext4", MS_RDONLY, NULL) == 0, work.disk);
	attach("tmpfs", OWN "/memory", 0, "mode=755");
	mkdir(OWN "/memory/upper", 0755);
	mkdir(OWN "/memory/work", 0755);
	attach("overlay", OWN "/root", 0,
	       "lowerdir=" OWN "/lower,upperdir=" OWN "/memory/upper,workdir=" OWN "/memory/work");
	need(umount2("/dev", MNT_DETACH) == 0, "/dev");
	need(chdir(OWN "/root") == 0 && mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0 && chdir("/") == 0,
	     OWN "/root");
	attach("devtmpfs", "/dev", MS_NOSUID, "mode=755");
}

static void make_places(void)
{
	attach("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	attach("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	attach("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5");
	attach("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
	if (symlink("/proc/self/fd", "/dev/fd") < 0 || symlink("/proc/self/fd/0", "/dev/stdin") < 0 ||
	    symlink("/proc/self/fd/1", "/dev/stdout") < 0 || symlink("/proc/self/fd/2", "/dev/stderr") < 0)
		need(errno == EEXIST, "/dev/fd");
	mkdir("/run", 0755); /* what an image has there stays: some programs need a directory of theirs in it */
	if (mkdir("/tmp", 01777) == 0)
		chmod("/tmp", 01777);
}

static void raise_link(int any, const char *name, const char *address, const char *mask)
{
	struct ifreq asked = {0};
	struct sockaddr_in *place = (struct sockaddr_in *)&asked.ifr_addr;

	strncpy(asked.ifr_name, name, IFNAMSIZ - 1);
	if (address) {
		place->sin_family = AF_INET;
		need(inet_pton(AF_INET, address, &place->sin_addr) == 1 && ioctl(any, SIOCSIFADDR, &asked) == 0, name);
		need(inet_pton(AF_INET, mask, &place->sin_addr) == 1 && ioctl(any, SIOCSIFNETMASK, &asked) == 0, name);
	}
	need(ioctl(any, SIOCGIFFLAGS, &asked) == 0, name);
	asked.ifr_flags |= IFF_UP;
	need(ioctl(any, SIOCSIFFLAGS, &asked) == 0, name);
}

/* The address is there before the device is up; then the host hears of it, by the question for its own address that
 * precedes a datagram: from that frame on all that the host sends is answered. */
static void join_network(void)
{
	int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(9)};
	const struct timespec pause = {0, 1000000};
	struct ifreq asked = {0};

	need(any >= 0, "socket");
	raise_link(any, "lo", NULL, NULL);
	if (work.link) {
		strncpy(asked.ifr_name, work.link, IFNAMSIZ - 1);
		/* In a whole system udev loads the driver. */
		for (int tries = 0; tries < 30000 && ioctl(any, SIOCGIFFLAGS, &asked) < 0 && errno == ENODEV; tries++)
			nanosleep(&pause, NULL);
		raise_link(any, work.link, work.address, "255.255.255.252");
		strncpy(asked.ifr_name, work.link, IFNAMSIZ - 1);
		/* The driver reports its carrier from a work queue, some milliseconds later at most. */
		for (int tries = 0; tries < 1000; tries++) {
			if (ioctl(any, SIOCGIFFLAGS, &asked) == 0 && asked.ifr_flags & IFF_RUNNING)
				break;
			nanosleep(&pause, NULL);
		}
		inet_pton(AF_INET, work.peer, &peer.sin_addr);
		sendto(any, "", 1, 0, (struct sockaddr *)&peer, sizeof peer);
	}
	close(any);
}

/* A kernel may run a program for each device that it finds (CONFIG_UEVENT_HELPER, as Debian's user-mode Linux): hundreds
 * of processes, which end as soon as they run, since there is no such program. Until then they may be as many as fit into
 * the memory, and fork(2) fails. So have it start no more, and wait for those. */
static void settle(void)
{
	const struct timespec pause = {0, 1000000};
	int helper = open("/sys/kernel/uevent_helper", O_WRONLY | O_CLOEXEC), limit;
	char most[32] = "";
	struct sysinfo about;

	if (helper >= 0) {
		need(write(helper, "\n", 1) == 1, "/sys/kernel/uevent_helper");
		close(helper);
	}
	limit = open("/proc/sys/kernel/threads-max", O_RDONLY | O_CLOEXEC);
	need(limit >= 0 && read(limit, most, sizeof most - 1) > 0, "/proc/sys/kernel/threads-max");
	close(limit);
	for (int tries = 0; tries < 1000 && sysinfo(&about) == 0 && 2L * about.procs > atol(most); tries++)
		nanosleep(&pause, NULL);
}

/* As execvp(3) does, but a file that is no program of this machine is an error, and not a script for /bin/sh. */
static void execute(char **argv)
{
	const char *path = getenv("PATH");
	char place[4096];
	int denied = 0;

	if (strchr(argv[0], '/') || !path) {
		execve(argv[0], argv, environ);
		return;
	}
	for (size_t length; *path; path += length + (path[length] == ':')) {
		length = strcspn(path, ":");
		snprintf(place, sizeof place, "%.*s/%s", (int)length, path, argv[0]);
		execve(place, argv, environ);
		if (errno == EACCES)
			denied = 1;
		else if (errno != ENOENT && errno != ENOTDIR)
			return;
	}
	errno = denied ? EACCES : ENOENT;
}

/* In a child: become *argv*, with the workload's rights. Says why not on standard error: not as "tare ...", which a reader
 * of the console takes for a mark. */
static void become(char **argv, int out, int error)
{
	int null = open("/dev/null", O_RDONLY);
	sigset_t none;

	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (null >= 0)
		dup2(null, 0);
	dup2(out, 1);
	dup2(error, 2);
	closefrom(3);
	if (setgroups(work.groups_count, work.groups) < 0 || setgid(work.gid) < 0 || setuid(work.uid) < 0) {
		dprintf(2, "init: cannot take the user's rights: %s\n", strerror(errno));
		_exit(126);
	}
	if (chdir(work.directory) < 0) {
		dprintf(2, "init: %s: %s\n", work.directory, strerror(errno));
		_exit(126);
	}
	environ = work.env;
	execute(argv);
	dprintf(2, "init: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

static int ended_with(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- further commands: a process of its own, so that a host that does not read holds up nothing else ---- */

struct request { /* then LENGTH bytes: the words, each with a NUL after it */
	char magic[4];
	uint32_t id, length;
};
enum { STATUS, OUTPUT, ERROR, IDLE, MORE };
struct answer { /* then LENGTH bytes: of the exit status, of standard output or error; none of the other two */
	char magic[4];
	uint32_t id, what, length;
};

/* Over a terminal (relay.py is the other end) the host waits with a request until nothing runs (IDLE), and after each
 * SLICE of it until more is asked for (MORE): a serial line of user-mode Linux whose reader is behind by some 4000 bytes
 * is never read again (arch/um/drivers/line.c, line_throttle). */
enum { SLICE = 2048 };

static struct {
	int port, edges, connected;
	char asked[65536 + sizeof(struct request)];
	size_t asked_size;
	char told[sizeof(struct answer) + CHUNK];
	size_t told_size, told_at;
	/* the command that runs */
	pid_t pid;
	int pidfd, out, error, ended;
	uint32_t id, status;
} server = {.pidfd = -1, .out = -1, .error = -1};

static void forget(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void end_command(void)
{
	if (server.pid && !server.ended) {
		kill(server.pid, SIGKILL); /* it may not lead its own group yet */
		kill(-server.pid, SIGKILL);
		waitpid(server.pid, NULL, 0);
	}
	server.pid = 0;
	server.ended = 0;
	forget(&server.pidfd);
	forget(&server.out);
	forget(&server.error);
	server.told_size = server.told_at = 0;
}

static void begin_command(uint32_t id, char *words, size_t length)
{
	char *argv[MOST + 1] = {0};
	int out[2], error[2];

	end_command();
	for (char *at = words; at < words + length; at += strlen(at) + 1)
		add(argv, MOST + 1, at);
	if (!argv[0] || pipe2(out, O_CLOEXEC) < 0 || pipe2(error, O_CLOEXEC) < 0)
		return;
	server.id = id;
	server.pid = fork();
	if (server.pid == 0)
		become(argv, out[1], error[1]);
	close(out[1]);
	close(error[1]);
	server.out = out[0];
	server.error = error[0];
	fcntl(server.out, F_SETFL, O_NONBLOCK);
	fcntl(server.error, F_SETFL, O_NONBLOCK);
	server.pidfd = (int)syscall(SYS_pidfd_open, server.pid, 0);
}

static void tell(uint32_t what, const void *data, size_t length)
{
	struct answer head = {"TARE", server.id, what, (uint32_t)length};

	memcpy(server.told, &head, sizeof head);
	memcpy(server.told + sizeof head, data, length);
	server.told_size = sizeof head + length;
	server.told_at = 0;
}

/* Whether all that was to be told has been. */
static int flushed(void)
{
	while (server.told_at < server.told_size) {
		ssize_t wrote = write(server.port, server.told + server.told_at, server.told_size - server.told_at);

		if (wrote <= 0)
			return 0;
		server.told_at += (size_t)wrote;
	}
	return 1;
}

/* Read requests. A host that has gone away wants no answer any more; a new request takes the place of an old one.
 *
 * A read that has nothing to give says whether the host is connected. But that the host has connected is told to the
 * driver in another queue than what it sends, and may be worked off later: only after it was seen to be connected does
 * its absence mean that it has gone. What it sends may be of another who came at once after the last one: then nobody has
 * been seen yet.
 */
static void listen_to_host(void)
{
	for (;;) {
		ssize_t got = read(server.port, server.asked + server.asked_size, sizeof server.asked - server.asked_size);
		struct request head;

		if (got == 0 && server.connected) {
			server.asked_size = 0;
			end_command();
		}
		if (got <= 0) {
			server.connected = got < 0;
			return;
		}
		server.connected = 0;
		server.asked_size += (size_t)got;
		if (server.asked_size < sizeof head)
			continue;
		memcpy(&head, server.asked, sizeof head);
		if (work.terminal && server.asked_size % SLICE == 0 && server.asked_size < sizeof head + head.length) {
			server.id = head.id;
			tell(MORE, "", 0);
			continue;
		}
		if (memcmp(head.magic, "TARE", 4) != 0 || head.length > sizeof server.asked - sizeof head) {
			server.asked_size = 0; /* a part of a request whose sender was killed */
			continue;
		}
		if (server.asked_size >= sizeof head + head.length) {
			char *words = server.asked + sizeof head;

			if (head.length) {
				words[head.length - 1] = 0;
				begin_command(head.id, words, head.length);
			} else { /* over a terminal, this is how the host says that it wants no answer any more */
				end_command();
				server.id = head.id;
				tell(IDLE, "", 0);
			}
			server.asked_size = 0;
		}
	}
}

/* Whether there was output to tell. An end of file closes the pipe. */
static int took_output(int *pipe, uint32_t what)
{
	char data[CHUNK];
	ssize_t got;

	if (*pipe < 0)
		return 0;
	got = read(*pipe, data, sizeof data);
	if (got > 0)
		tell(what, data, (size_t)got);
	else if (got == 0)
		forget(pipe);
	return got > 0;
}

/* The terminal; or the port *number*, whose file is called after its device among those of virtio, too: vport0p1.
 * -1 if it is not there. */
static int open_port(unsigned number)
{
	unsigned device, found;
	DIR *devices;
	int port = -1;

	if (work.terminal) {
		port = open(work.terminal, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
		need(port >= 0, work.terminal);
		raw(port);
		return port;
	}
	devices = opendir("/dev");
	for (struct dirent *entry; port < 0 && devices && (entry = readdir(devices));)
		if (sscanf(entry->d_name, "vport%up%u", &device, &found) == 2 && found == number)
			port = openat(dirfd(devices), entry->d_name, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (devices)
		closedir(devices);
	return port;
}

static void serve(unsigned number)
{
	struct epoll_event edge = {.events = EPOLLIN | EPOLLOUT | EPOLLET};
	int made = inotify_init1(IN_CLOEXEC), status;
	char names[CHUNK];

	inotify_add_watch(made, "/dev", IN_CREATE);
	while ((server.port = open_port(number)) < 0)
		if (read(made, names, sizeof names) < 0)
			_exit(1);
	close(made);
	/* Edges: while nobody is connected, poll(2) of a port always returns at once (drivers/char/virtio_console.c). */
	server.edges = epoll_create1(EPOLL_CLOEXEC);
	epoll_ctl(server.edges, EPOLL_CTL_ADD, server.port, &edge);
	if (work.terminal) /* the host says nothing before: what comes to a terminal that is not raw yet is changed */
		tell(IDLE, "", 0);
	for (;;) {
		listen_to_host();
		while (flushed() && server.pid && !(server.ended == 2)) {
			if (took_output(&server.out, OUTPUT) || took_output(&server.error, ERROR))
				continue;
			if (!server.ended)
				break;
			/* A process that it left behind may hold the pipes open: what is in them has been read. */
			tell(STATUS, &server.status, sizeof server.status);
			server.ended = 2;
		}
		if (server.ended == 2 && flushed()) {
			forget(&server.out);
			forget(&server.error);
		}
		int idle = server.told_at == server.told_size;
		struct pollfd events[] = {
			{.fd = server.edges, .events = POLLIN},
			{.fd = idle ? server.out : -1, .events = POLLIN},
			{.fd = idle ? server.error : -1, .events = POLLIN},
			{.fd = server.ended ? -1 : server.pidfd, .events = POLLIN},
		};

		/* User-mode Linux does not say when its serial line has room again (arch/um/drivers/line.c). */
		poll(events, 4, idle || !work.terminal ? -1 : 1);
		if (events[0].revents)
			epoll_wait(server.edges, &edge, 1, 0);
		if (events[3].revents && waitpid(server.pid, &status, WNOHANG) == server.pid) {
			server.status = (uint32_t)ended_with(status);
			server.ended = 1;
		}
	}
}

/* ---- the workload ---- */

/* Keep the end of what the workload wrote. */
static void remember(const char *data, size_t size)
{
	size_t rest;

	if (size > END) {
		data += size - END;
		size = END;
	}
	rest = said_size + size > END ? END - size : said_size;
	memmove(said, said + said_size - rest, rest);
	memcpy(said + rest, data, size);
	said_size = rest + size;
}

static void put(const char *data, size_t size)
{
	const struct timespec pause = {0, 1000000};

	for (ssize_t wrote; size > 0; data += wrote, size -= (size_t)wrote)
		if ((wrote = write(console, data, size)) < 0) {
			if (errno != EAGAIN)
				fail("console");
			/* User-mode Linux does not wait until the host has read (arch/um/drivers/line.c). */
			wrote = 0;
			nanosleep(&pause, NULL);
		}
}

/* Pass on what is in the pipe; 0 at its end, when nobody can write to it any more. */
static int pass_on(int pipe)
{
	char data[CHUNK];
	ssize_t got;

	while ((got = read(pipe, data, sizeof data)) > 0) {
		put(data, (size_t)got);
		remember(data, (size_t)got);
	}
	return got != 0;
}

/* The host has written to the console: say the end of what the workload wrote again, from the start of a line on. */
static void answer_host(void)
{
	const char *from = said, *line;
	char asked[64];

	while (read(console, asked, sizeof asked) == sizeof asked)
		;
	if (said_size == END && (line = memchr(said, '\n', said_size)))
		from = line + 1;
	put(from, (size_t)(said + said_size - from));
}

/* What asked by a port whose server has gone would wait for ever: its machine ends, and says why. */
static void require_agent(pid_t pid, int ended)
{
	for (unsigned at = 0; at < work.ports; at++)
		if (agents[at] == pid) {
			dprintf(2, "tare init: what serves port %u ended with status %d\n", at + 1, ended_with(ended));
			off();
		}
}

/* Run the workload as a child until it ends, and return its status. */
static int run(void)
{
	int status = 0, output[2], children, over = 0;
	sigset_t child;
	pid_t workload;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	children = signalfd(-1, &child, SFD_CLOEXEC);
	need(children >= 0 && pipe2(output, O_CLOEXEC) == 0, "pipe");
	workload = fork();
	need(workload >= 0, "fork");
	if (workload == 0)
		become(work.argv, output[1], output[1]);
	close(output[1]);
	fcntl(output[0], F_SETFL, O_NONBLOCK);
	while (!over) {
		struct pollfd events[] = {
			{.fd = output[0], .events = POLLIN},
			{.fd = children, .events = POLLIN},
			{.fd = console, .events = POLLIN},
		};
		struct signalfd_siginfo told;
		int ended;
		pid_t pid;

		poll(events, 3, -1);
		if (events[1].revents && read(children, &told, sizeof told) > 0)
			while ((pid = waitpid(-1, &ended, WNOHANG)) > 0) {
				if (pid == workload) {
					over = 1;
					status = ended_with(ended);
				} else if (work.ports > 1) {
					require_agent(pid, ended);
				}
			}
		if (output[0] >= 0 && !pass_on(output[0]))
			forget(&output[0]);
		if (events[2].revents & POLLIN)
			answer_host();
	}
	return status;
}

/* The system's own init takes the place of this program. */
static void become_init(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	environ = work.env;
	execv(work.argv[0], work.argv);
	fail(work.argv[0]);
}

static void prepare_machine(void)
{
	klogctl(8 /* SYSLOG_ACTION_CONSOLE_LEVEL */, NULL, 4 /* errors, and worse */);
	tell_step("initramfs");
	attach("devtmpfs", "/dev", MS_NOSUID, "mode=755");
	load();
	if (work.disk)
		enter_disk();
	make_places();
	settle();
	need(sethostname(work.host, strlen(work.host)) == 0, work.host);
}

int main(int argc, char **argv)
{
	const char *name = getenv("TARE_CONSOLE");
	char path[256];

	if (argc > 1)
		dup2(open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC), 2);
	snprintf(path, sizeof path, "%s/workload", argc > 1 ? argv[1] : OWN);
	learn(path);
	if (argc == 1)
		prepare_machine();
	console = name ? open(name, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK) : -1;
	need(console >= 0, "TARE_CONSOLE");
	fcntl(console, F_SETFL, 0); /* open(2) did not wait for a carrier; write(2) is to wait for room */
	raw(console);
	join_network();
	for (unsigned at = 0; at < work.ports; at++) {
		agents[at] = fork();
		need(agents[at] >= 0, "fork");
		if (agents[at] == 0)
			serve(at + 1);
	}
	tell_step("root");
	if (work.becomes_init)
		become_init();
	if (!work.argv[0]) { /* a service of a system that is the workload itself */
		while (wait(NULL) > 0)
			;
		return 0;
	}
	int status = run();

	if (said_size && said[said_size - 1] != '\n') /* on the same line, perhaps: what follows is to be found there */
		dprintf(2, "\n");
	dprintf(2, "tare init: the workload ended with status %d\n", status);
	off();
}
