"""The system calls that docker's default profile lets a container make, by what they are for; all others are refused.

Left out are calls that reach beyond a container (mount, setns, reboot, modules, kexec, swap, keyrings, bpf, perf,
quota), large or rarely used interfaces of the kernel (userfaultfd, io_uring, obsolete calls), and those that make
namespaces: in a user namespace every user is root, and reaches code that only root could reach before. Hence the
conditions on clone.

The groups follow the tables of the kernel's source (arch/x86/entry/syscalls/syscall_64.tbl, syscall_32.tbl, and the
numbers of 32-bit ARM in scripts/syscall.tbl); which calls of them are allowed is documented by docker ("Seccomp
security profiles for Docker"), with the default capabilities. Names that a machine does not have are skipped.
"""

from __future__ import annotations

import errno
import os

#: Files and directories by name.
_NAMES = (
    "access chdir chmod chown chown32 creat faccessat faccessat2 fchmodat fchmodat2 fchownat fstatat64 futimesat"
    " getcwd lchown lchown32 link linkat lstat lstat64 mkdir mkdirat mknod mknodat newfstatat open openat openat2"
    " readlink readlinkat rename renameat renameat2 rmdir stat stat64 statfs statfs64 statx symlink symlinkat"
    " truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes chroot"
)
#: Open files: reading, writing, copying, locking.
_DESCRIPTORS = (
    "_llseek cachestat close close_range copy_file_range dup dup2 dup3 fadvise64 fadvise64_64 fallocate fchdir"
    " fchmod fchown fchown32 fcntl fcntl64 fdatasync flock fstat fstat64 fstatfs fstatfs64 fsync ftruncate"
    " ftruncate64 getdents getdents64 ioctl lseek memfd_create memfd_secret name_to_handle_at pipe pipe2 pread64"
    " preadv preadv2 pwrite64 pwritev pwritev2 read readahead readv sendfile sendfile64 splice sync sync_file_range"
    " syncfs tee vmsplice write writev"
)
#: Extended attributes.
_ATTRIBUTES = (
    "fgetxattr flistxattr fremovexattr fsetxattr getxattr lgetxattr listxattr llistxattr lremovexattr lsetxattr"
    " removexattr setxattr"
)
#: Waiting for files to be ready, and for changes to them.
_READINESS = (
    "_newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old"
    " eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch poll ppoll"
    " ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4"
)
#: The old asynchronous input and output.
_ASYNCHRONOUS = "io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit"
#: Memory.
_MEMORY = (
    "brk madvise map_shadow_stack membarrier mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap"
    " mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages"
)
#: Starting and ending, threads, waiting for children; clone has conditions, below.
_PROCESSES = (
    "execve execveat exit exit_group fork get_robust_list get_thread_area gettid getpgid getpgrp getpid getppid getsid"
    " kill pidfd_open pidfd_send_signal prctl restart_syscall rseq set_robust_list set_thread_area set_tid_address"
    " setpgid setsid tgkill tkill vfork wait4 waitid waitpid"
)
#: futex and related calls.
_FUTEXES = "futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake"
#: Users, groups, capabilities, limits.
_IDENTITY = (
    "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32"
    " getresuid getresuid32 getrlimit getrusage getuid getuid32 prlimit64 setfsgid setfsgid32 setfsuid setfsuid32"
    " setgid setgid32 setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid"
    " setreuid32 setrlimit setuid setuid32 ugetrlimit"
)
#: Signals.
_SIGNALS = (
    "pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait"
    " rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn"
)
#: Clocks may be read, not set; timers.
_TIME = (
    "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64"
    " clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete"
    " timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime"
    " timerfd_gettime64 timerfd_settime timerfd_settime64 times"
)
#: Scheduling of the process itself.
_SCHEDULING = (
    "getcpu getpriority ioprio_get ioprio_set sched_get_priority_max sched_get_priority_min sched_getaffinity"
    " sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64"
    " sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield setpriority"
)
#: Sockets; socket itself has a condition, below.
_SOCKETS = (
    "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64"
    " recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair"
)
#: System V and POSIX communication.
_MESSAGES = (
    "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64"
    " mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget"
)
#: Restrictions that a process sets for itself, and information about the system.
_OTHERS = (
    "getrandom landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp sysinfo uname"
    # For a debugger in the container: since Linux 4.8, seccomp checks a call again after ptrace has changed it.
    " process_vm_readv process_vm_writev ptrace"
)
_EVERYWHERE = " ".join(
    (
        _NAMES,
        _DESCRIPTORS,
        _ATTRIBUTES,
        _READINESS,
        _ASYNCHRONOUS,
        _MEMORY,
        _PROCESSES,
        _FUTEXES,
        _IDENTITY,
        _SIGNALS,
        _TIME,
        _SCHEDULING,
        _SOCKETS,
        _MESSAGES,
        _OTHERS,
    )
).split()
#: uname's machine -> the architectures whose programs it runs, and calls that only they have.
_MACHINES = {
    "x86_64": (("X86_64", "X86", "X32"), "arch_prctl modify_ldt"),
    "aarch64": (
        ("AARCH64", "ARM"),
        "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    ),
}
#: linux/personality.h: Linux and Linux for 32 bits, each with UNAME26 or without, and the question which it is.
_PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
#: All CLONE_NEW* but CLONE_NEWTIME, which clone(2) does not take (linux/sched.h).
_CLONE_NAMESPACES = 0x7E020000
#: A socket to the hypervisor belongs to the machine, not to the container (linux/socket.h).
_AF_VSOCK = 40


def docker_profile(machine: str = "") -> dict[str, object]:
    """``linux.seccomp`` as docker's default profile gives it, with the default capabilities, on *machine* (uname)."""
    architectures, more = _MACHINES.get(machine or os.uname().machine, ((), ""))

    def allow(*names: str, **condition: object) -> dict[str, object]:
        args = [{"index": 0, "valueTwo": 0} | condition] if condition else []
        return {"names": list(names), "action": "SCMP_ACT_ALLOW", "args": args}

    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "architectures": [f"SCMP_ARCH_{name}" for name in architectures],
        "syscalls": [
            allow(*_EVERYWHERE, *more.split()),
            allow("socket", value=_AF_VSOCK, op="SCMP_CMP_NE"),
            *(allow("personality", value=value, op="SCMP_CMP_EQ") for value in _PERSONALITIES),
            allow("clone", value=_CLONE_NAMESPACES, valueTwo=0, op="SCMP_CMP_MASKED_EQ"),
            # Its flags are in memory, which a filter cannot read. On this answer, C libraries use clone.
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
        ],
    }
