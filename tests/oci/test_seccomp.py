"""System call filters: actions, arguments, names that this kernel does not have."""

from __future__ import annotations

import errno

import pytest

from tests.oci.config import seccomp
from tests.oci.harness import Box


def rule(action: str, *names: str, **more: object) -> dict[str, object]:
    return {"names": list(names), "action": action, **more}


def test_a_denied_call_fails(box: Box) -> None:
    """With EPERM, unless another errno is asked for; the others work."""
    box.linux["seccomp"] = seccomp(
        "SCMP_ACT_ALLOW",
        rule("SCMP_ACT_ERRNO", "chmod", "fchmodat"),
        rule("SCMP_ACT_ERRNO", "mkdir", "mkdirat", errnoRet=errno.ENOSYS),
    )
    assert box.run("/bin/inside", "call", "chmod", "mkdir", "getppid").ok().lines == [
        "chmod EPERM",
        "mkdir ENOSYS",
        "getppid ok",
    ]


def test_the_filter_is_seen_in_the_status(box: Box) -> None:
    box.linux["seccomp"] = seccomp("SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "acct"))
    lines = box.run("/bin/grep", "-E", "^(Seccomp|NoNewPrivs):", "/proc/self/status").ok().lines
    assert lines == ["NoNewPrivs:\t1", "Seccomp:\t2"]


@pytest.mark.parametrize("uid", [0, 1000])
def test_without_no_new_privileges(box: Box, uid: int) -> None:
    """The filter is in force for users too: it was installed while that was allowed."""
    box.process["noNewPrivileges"] = False
    box.process["user"] = {"uid": uid, "gid": uid}
    box.linux["seccomp"] = seccomp("SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "acct", errnoRet=errno.EXFULL))
    assert box.run("/bin/inside", "call", "acct").ok().out == "acct EXFULL\n"


def test_no_profile_is_no_filter(box: Box) -> None:
    assert box.run("/bin/grep", "^Seccomp:", "/proc/self/status").ok().out == "Seccomp:\t0\n"


#: What runc needs between installing a filter and the program.
RUNTIMES_OWN = "close_range clock_gettime getppid fstatfs epoll_pwait madvise nanosleep sched_yield tgkill"


def listed() -> list[str]:
    """What a small static program and each runtime need."""
    lists = "access arch_prctl brk close execve execveat exit exit_group fcntl fstat getdents64 getgid getpid gettid"
    more = "getuid ioctl lseek mmap mprotect munmap newfstatat open openat prctl pread64 prlimit64 read readlink"
    last = "rseq rt_sigaction rt_sigprocmask rt_sigreturn set_robust_list set_tid_address sigaltstack stat statx write"
    names = f"{lists} {more} {last} uname geteuid getegid futex capset capget setgroups setuid setgid setresuid"
    return [*names.split(), "readlinkat", "setresgid", "chdir", "fchdir", *RUNTIMES_OWN.split()]


def test_default_errno(box: Box) -> None:
    """Everything but what is listed is refused, with the errno of the profile."""
    box.linux["seccomp"] = seccomp("SCMP_ACT_ERRNO", rule("SCMP_ACT_ALLOW", *listed()), defaultErrnoRet=errno.EXFULL)
    box.process["noNewPrivileges"] = True
    assert box.run("/bin/inside", "call", "acct", "mkdir").ok().lines == ["acct EXFULL", "mkdir EXFULL"]


@pytest.mark.deviates("crun", "answers as the profile does, or ends the program")
@pytest.mark.deviates("runc", "itself makes other calls under the filter", only=["KILL"])
@pytest.mark.parametrize("default", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"])
def test_a_call_that_is_newer_than_the_profile_does_not_exist(box: Box, default: str) -> None:
    """C libraries take another one then, and EPERM or death for the last word."""
    box.linux["seccomp"] = seccomp(default, rule("SCMP_ACT_ALLOW", *listed(), "getrandom", "openat2"))
    assert box.run("/bin/inside", "call", "unborn").ok().lines == ["unborn ENOSYS"]


@pytest.mark.parametrize(
    ("op", "value", "more", "refused"),
    [
        ("SCMP_CMP_EQ", 0x20000, {}, {0x20000}),
        ("SCMP_CMP_NE", 0x20000, {}, {0, 8}),
        ("SCMP_CMP_GT", 8, {}, {0x20000}),
        ("SCMP_CMP_GE", 8, {}, {8, 0x20000}),
        ("SCMP_CMP_LT", 8, {}, {0}),
        ("SCMP_CMP_LE", 8, {}, {0, 8}),
        ("SCMP_CMP_MASKED_EQ", 0xFF, {"valueTwo": 8}, {8}),
    ],
)
def test_arguments(box: Box, op: str, value: int, more: dict[str, int], refused: set[int]) -> None:
    """personality(2), as in docker's profile, with each comparison."""
    box.linux["seccomp"] = seccomp(
        "SCMP_ACT_ALLOW",
        rule("SCMP_ACT_ERRNO", "personality", args=[{"index": 0, "value": value, "op": op, **more}]),
    )
    values = (0, 8, 0x20000)
    done = box.sh("; ".join(f"inside personality {each:x}" for each in values)).ok()
    found = {each for each, line in zip(values, done.lines, strict=True) if line == "personality EPERM"}
    assert found == refused


def test_two_conditions_hold_together(box: Box) -> None:
    """Conditions on different arguments are all needed."""
    box.linux["seccomp"] = seccomp(
        "SCMP_ACT_ALLOW",
        rule(
            "SCMP_ACT_ERRNO",
            "kexec_load",
            args=[
                {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"},
                {"index": 1, "value": 1, "op": "SCMP_CMP_EQ"},
            ],
            errnoRet=errno.EXFULL,
        ),
    )
    assert "EXFULL" not in box.run("/bin/inside", "call", "kexec_load").ok().out


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"])
def test_actions_that_end_the_process(box: Box, action: str) -> None:
    """By SIGSYS (31)."""
    box.linux["seccomp"] = seccomp("SCMP_ACT_ALLOW", rule(action, "getppid"))
    done = box.run("/bin/inside", "call", "getppid")
    assert (done.status, done.out) == (128 + 31, "")


def test_log_lets_the_call_through(box: Box) -> None:
    box.linux["seccomp"] = seccomp("SCMP_ACT_ALLOW", rule("SCMP_ACT_LOG", "getppid"))
    assert box.run("/bin/inside", "call", "getppid").ok().out == "getppid ok\n"


def test_trace_without_a_tracer_is_no_such_call(box: Box) -> None:
    """seccomp(2): SECCOMP_RET_TRACE without a tracer is ENOSYS."""
    box.linux["seccomp"] = seccomp("SCMP_ACT_ALLOW", rule("SCMP_ACT_TRACE", "getppid", errnoRet=7))
    assert box.run("/bin/inside", "call", "getppid").ok().out == "getppid ENOSYS\n"


def test_unknown_names_are_skipped(box: Box) -> None:
    """A profile names calls of other kernels and machines; docker's does."""
    box.linux["seccomp"] = seccomp(
        "SCMP_ACT_ALLOW",
        rule("SCMP_ACT_ERRNO", "no_such_call_at_all", "getppid"),
        architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    )
    assert box.run("/bin/inside", "call", "getppid").ok().out == "getppid EPERM\n"


def test_children_inherit(box: Box) -> None:
    box.linux["seccomp"] = seccomp("SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "getppid"))
    assert box.sh("(inside call getppid); sh -c 'inside call getppid'").ok().lines == ["getppid EPERM"] * 2


@pytest.mark.parametrize(
    "broken",
    [
        {"defaultAction": "SCMP_ACT_NOPE"},
        {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NOPE"]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_NOPE"}]},
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                {
                    "names": ["acct"],
                    "action": "SCMP_ACT_ERRNO",
                    "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_NOPE"}],
                }
            ],
        },
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                {"names": ["acct"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 9, "value": 0, "op": "SCMP_CMP_EQ"}]}
            ],
        },
    ],
    ids=["action", "architecture", "rule's action", "comparison", "index"],
)
def test_a_profile_that_makes_no_sense_is_refused(box: Box, broken: dict[str, object]) -> None:
    """A filter that is not the one that was written is worse than none."""
    box.linux["seccomp"] = broken
    box.run("/bin/true").refused()
