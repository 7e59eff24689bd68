/* A program that makes two or three system calls in all: it says how it came, and ends, or stays with an argument "stay". */
#include <sys/syscall.h>

static long call(long number, long one, long two, long three)
{
#if defined(__x86_64__)
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(one), "S"(two), "d"(three) : "rcx", "r11", "memory");
	return result;
#else
	register long x8 __asm__("x8") = number, x0 __asm__("x0") = one, x1 __asm__("x1") = two, x2 __asm__("x2") = three;
	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
	return x0;
#endif
}

__attribute__((used)) static void begin(long *stack)
{
	call(SYS_write, 1, (long)"it runs\n", 8);
	if (stack[0] > 1)
		call(SYS_nanosleep, (long)(long[]){1000, 0}, 0, 0);
	call(SYS_exit_group, 7, 0, 0);
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start: mov %rsp, %rdi\nand $-16, %rsp\ncall begin\nhlt\n");
#else
__asm__(".globl _start\n_start: mov x0, sp\nbl begin\nbrk #0\n");
#endif
