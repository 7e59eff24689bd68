/* Runs a command in a guest, beside its workload, from the host: the other end of what init.c serves.
 *
 *   ask SOCKET COMMAND [ARGUMENT...]
 *
 * SOCKET is QEMU's end of a port of virtio-serial. A request is one struct and the words, each with a NUL after it; the
 * answers are parts of what the command writes, and at the end its status, which becomes the status of this program. The
 * guest kills the command when this program ends. One at a time is served: QEMU lets the next in when one has gone.
 * Status 125: the machine has ended, or cannot be reached.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LOST 125
#define MOST 65536

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "ask: %s: %s\n", what, why);
	return LOST;
}

static int put(int to, const char *data, size_t size)
{
	for (ssize_t wrote; size > 0; data += wrote, size -= (size_t)wrote)
		if ((wrote = write(to, data, size)) < 0) {
			if (errno != EINTR)
				return -1;
			wrote = 0;
		}
	return 0;
}

static int take(int from, char *data, size_t size)
{
	for (ssize_t got; size > 0; data += got, size -= (size_t)got)
		if ((got = read(from, data, size)) <= 0) {
			if (got == 0 || errno != EINTR)
				return -1;
			got = 0;
		}
	return 0;
}

int main(int argc, char **argv)
{
	static char data[MOST + 12];
	struct sockaddr_un place = {.sun_family = AF_UNIX};
	struct {
		char magic[4];
		uint32_t id, length;
	} request = {"TARE", (uint32_t)getpid(), 0};
	struct {
		char magic[4];
		uint32_t id, what, length;
	} answer;
	int host = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (argc < 3 || strlen(argv[1]) >= sizeof place.sun_path)
		return fail("usage", "ask SOCKET COMMAND [ARGUMENT...]");
	strcpy(place.sun_path, argv[1]);
	if (host < 0 || connect(host, (struct sockaddr *)&place, sizeof place) < 0)
		return fail(argv[1], strerror(errno));
	for (int i = 2; i < argc; i++) {
		size_t size = strlen(argv[i]) + 1;

		if (request.length + size > MOST)
			return fail(argv[2], "its command line is longer than 64 KiB");
		memcpy(data + sizeof request + request.length, argv[i], size);
		request.length += (uint32_t)size;
	}
	memcpy(data, &request, sizeof request);
	if (put(host, data, sizeof request + request.length) < 0)
		return fail(argv[1], strerror(errno));
	while (take(host, (char *)&answer, sizeof answer) == 0) {
		if (memcmp(answer.magic, "TARE", 4) != 0 || answer.length > MOST)
			return fail(argv[1], "what came is no answer");
		if (take(host, data, answer.length) < 0)
			break;
		if (answer.id != request.id) /* of a command whose asker was killed */
			continue;
		if (answer.what == 0) {
			uint32_t status;

			memcpy(&status, data, sizeof status);
			return (int)status;
		}
		if (put(answer.what == 2 ? 2 : 1, data, answer.length) < 0)
			return fail("standard output", strerror(errno));
	}
	return fail(argv[2], "the machine has ended");
}
