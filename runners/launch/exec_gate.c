/* A program that waits to be another one.
 *
 *   exec_gate FD PATH ARGV0 [ARGV...]
 *
 * It writes a byte to the socket FD, waits to read one there, and then executes PATH with those words and its own
 * environment. FD is closed by a successful exec; if that fails, the error number is written there, as an int. At the
 * end of file nobody waits for the other program any more, and it ends.
 *
 * Once it has written, all that it needs is in its memory: what comes between that and the exec touches no new page.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv)
{
	char byte = 'w';
	int fd, error;

	if (argc < 4)
		return 64;
	fd = atoi(argv[1]);
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
		return 1;
	execve(argv[2], argv + 3, environ);
	error = errno;
	return write(fd, &error, sizeof error) == sizeof error ? 127 : 126;
}
