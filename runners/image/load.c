/* The first process of a guest whose kernel needs modules: it loads them, and becomes the program that was asked for.
 *
 *   load PROGRAM [ARGUMENT...]
 *
 * The lines of /modules/order name files in /modules, each after those that it depends on. The kernel passes the words
 * after "--" on its command line, PROGRAM among them. A module that cannot be loaded ends the guest: it would be another
 * machine than the one that was asked for. It switches off then, since a panic (init ended) would bury the reason.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

extern char **environ;

static int fail(const char *what)
{
	perror(what);
	tcdrain(2); /* the UART may still hold the last bytes */
	reboot(RB_POWER_OFF);
	return 71; /* not the init of a machine */
}

int main(int argc, char **argv)
{
	char name[256];
	FILE *order = chdir("/modules") == 0 ? fopen("order", "re") : NULL;

	if (argc < 2 || !order)
		return fail("/modules/order PROGRAM");
	while (fgets(name, sizeof name, order)) {
		name[strcspn(name, "\n")] = 0;
		int module = open(name, O_RDONLY | O_CLOEXEC);

		if (module < 0 || syscall(SYS_finit_module, module, "", 0) < 0)
			return fail(name);
		close(module);
	}
	fclose(order);
	if (chdir("/") == 0)
		execve(argv[1], argv + 1, environ);
	return fail(argv[1]);
}
