/* A workload that every runner can start: static, and told by its words what to do, one after the other.
 *
 *   say=TEXT    write a line
 *   exit=N      end with that status
 *   delay=MS    wait so long
 *   port=N      listen on this port of all addresses, say "listening", and answer each request with 200, for ever
 *   find=FILE   end with status 0 if there is that file, else 1
 *   make=FILE   make it
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

static int serve(int port)
{
	struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
	int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1, client;
	char request[4096];

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (bind(listener, (struct sockaddr *)&place, sizeof place) < 0 || listen(listener, 64) < 0) {
		perror("cannot listen");
		return 1;
	}
	puts("listening");
	for (;;) {
		client = accept(listener, NULL, NULL);
		if (client < 0)
			continue;
		if (read(client, request, sizeof request) > 0 && write(client, answer, sizeof answer - 1) < 0)
			perror("cannot answer");
		close(client);
	}
}

int main(int argc, char **argv)
{
	struct timespec pause;
	long milliseconds;
	int at, fd;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (at = 1; at < argc; at++) {
		if (strncmp(argv[at], "say=", 4) == 0)
			puts(argv[at] + 4);
		if (strncmp(argv[at], "exit=", 5) == 0)
			return atoi(argv[at] + 5);
		if (strncmp(argv[at], "port=", 5) == 0)
			return serve(atoi(argv[at] + 5));
		if (strncmp(argv[at], "find=", 5) == 0)
			return access(argv[at] + 5, F_OK) == 0 ? 0 : 1;
		if (strncmp(argv[at], "make=", 5) == 0) {
			fd = open(argv[at] + 5, O_WRONLY | O_CREAT, 0644);
			if (fd < 0) {
				perror(argv[at] + 5);
				return 1;
			}
			close(fd);
		}
		if (strncmp(argv[at], "delay=", 6) == 0) {
			milliseconds = atol(argv[at] + 6);
			pause.tv_sec = milliseconds / 1000;
			pause.tv_nsec = milliseconds % 1000 * 1000000;
			nanosleep(&pause, NULL);
		}
	}
	for (;;)
		sleep(3600);
}
