"""A profile means what it says, in the program that the kernel gets; what is not done is refused by name."""

from __future__ import annotations

import errno
import os
import signal
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tare.runners.container.linux.exec_stub import stub
from tare.runners.container.reader import BundleError, Reader
from tare.runners.container.seccomp import compiler, docker_profile, filter_cache, filters, libseccomp, ranges
from tare.runners.container.seccomp.filters import Filter, Profile

needs_library = pytest.mark.skipif(bool(libseccomp.load()), reason=f"libseccomp: {libseccomp.load()}")
needs_x86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of system calls are those of x86-64")

ALLOW, KILL, KILL_PROCESS, LOG, TRAP = 0x7FFF0000, 0, 0x80000000, 0x7FFC0000, 0x30000
ERRNO, TRACE = 0x50000, 0x7FF00000
X86_64, I386 = 0xC000003E, 0x40000003  # AUDIT_ARCH_* of linux/audit.h
GETPPID, PERSONALITY, SOCKET, CLONE, CLONE3, UNSHARE, MOUNT, BPF, READ = 110, 135, 41, 56, 435, 272, 165, 321, 0
X32 = 0x40000000


def run(program: bytes, number: int, *arguments: int, architecture: int = X86_64) -> int:
    """An interpreter for classic BPF on struct seccomp_data (linux/filter.h, linux/seccomp.h)."""
    data = struct.pack("=iIQ6Q", number - (number & 1 << 31) * 2, architecture, 0, *(*arguments, *[0] * 6)[:6])
    instructions = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator, at = 0, 0
    while True:
        code, true, false, value = instructions[at]
        at += 1
        match code:
            case 0x20:  # load a word
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x54:
                accumulator &= value
            case 0x05:
                at += value
            case 0x15:
                at += true if accumulator == value else false
            case 0x25:
                at += true if accumulator > value else false
            case 0x35:
                at += true if accumulator >= value else false
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"opcode {code:#x}")


def parsed(section: Any) -> Profile:
    return filters.parse(Reader(section, "linux.seccomp"))


def program(default: str, *rules: dict[str, Any], **more: Any) -> bytes:
    return filters.compile(parsed({"defaultAction": default, "syscalls": list(rules)} | more))


def rule(action: str, *names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": action, **more}


@needs_library
@needs_x86
@pytest.mark.parametrize(
    ("action", "more", "expected"),
    [
        ("SCMP_ACT_KILL", {}, KILL),
        ("SCMP_ACT_KILL_THREAD", {}, KILL),
        ("SCMP_ACT_KILL_PROCESS", {}, KILL_PROCESS),
        ("SCMP_ACT_TRAP", {}, TRAP),
        ("SCMP_ACT_LOG", {}, LOG),
        ("SCMP_ACT_ERRNO", {}, ERRNO | errno.EPERM),
        ("SCMP_ACT_ERRNO", {"errnoRet": errno.ENOSYS}, ERRNO | errno.ENOSYS),
        ("SCMP_ACT_ERRNO", {"errnoRet": 0}, ERRNO),
        ("SCMP_ACT_TRACE", {"errnoRet": 7}, TRACE | 7),
    ],
)
def test_actions(action: str, more: dict[str, int], expected: int) -> None:
    made = program("SCMP_ACT_ALLOW", rule(action, "getppid", **more))
    assert run(made, GETPPID) == expected
    assert run(made, READ) == ALLOW


@needs_library
@needs_x86
def test_default_action_and_its_number() -> None:
    made = program("SCMP_ACT_ERRNO", rule("SCMP_ACT_ALLOW", "read"), defaultErrnoRet=errno.EXFULL)
    assert run(made, GETPPID) == ERRNO | errno.EXFULL
    assert run(made, READ) == ALLOW


BIG = (1 << 40) + 5


@needs_library
@needs_x86
@pytest.mark.parametrize(
    ("operator", "value", "two", "hits", "misses"),
    [
        ("SCMP_CMP_EQ", BIG, 0, [BIG], [5, BIG + 1, BIG - (1 << 33)]),
        ("SCMP_CMP_NE", BIG, 0, [5, BIG + 1], [BIG]),
        ("SCMP_CMP_LT", BIG, 0, [0, BIG - 1], [BIG, BIG + 1, 1 << 63]),
        ("SCMP_CMP_LE", BIG, 0, [0, BIG], [BIG + 1, 1 << 63]),
        ("SCMP_CMP_GE", BIG, 0, [BIG, 1 << 63], [BIG - 1, 0]),
        ("SCMP_CMP_GT", BIG, 0, [BIG + 1, 1 << 63], [BIG, 0]),
        ("SCMP_CMP_MASKED_EQ", 0xF0, 0x10, [0x10, 0x1F, BIG << 8 | 0x10], [0, 0x20, 0x30]),
    ],
)
def test_operators(operator: str, value: int, two: int, hits: list[int], misses: list[int]) -> None:
    args = [{"index": 1, "value": value, "valueTwo": two, "op": operator}]
    made = program("SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "getppid", args=args))
    assert {run(made, GETPPID, 0, argument) for argument in hits} == {ERRNO | errno.EPERM}
    assert {run(made, GETPPID, 0, argument) for argument in misses} == {ALLOW}


@needs_library
@needs_x86
def test_conditions_on_two_arguments_hold_together_and_on_one_are_alternatives() -> None:
    def condition(index: int, value: int) -> dict[str, Any]:
        return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}

    both = program("SCMP_ACT_ALLOW", rule("SCMP_ACT_KILL", "getppid", args=[condition(0, 1), condition(2, 3)]))
    assert run(both, GETPPID, 1, 0, 3) == KILL
    assert run(both, GETPPID, 1, 0, 4) == run(both, GETPPID, 2, 0, 3) == ALLOW
    either = program("SCMP_ACT_ALLOW", rule("SCMP_ACT_KILL", "getppid", args=[condition(0, 1), condition(0, 2)]))
    assert run(either, GETPPID, 1) == run(either, GETPPID, 2) == KILL
    assert run(either, GETPPID, 3) == ALLOW


@needs_library
@needs_x86
def test_architectures() -> None:
    alone = program("SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "getppid"))
    assert run(alone, 64, architecture=I386) == KILL  # the number of getppid there
    both = program("SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "getppid"), architectures=["SCMP_ARCH_X86"])
    assert run(both, 64, architecture=I386) == run(both, GETPPID) == ERRNO | errno.EPERM
    assert run(both, GETPPID, architecture=I386) == ALLOW
    x32 = program("SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "getppid"), architectures=["SCMP_ARCH_X32"])
    assert run(x32, X32 | GETPPID) == ERRNO | errno.EPERM


def made_by_libseccomp(profile: Profile) -> bytes:
    """The program as libseccomp writes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "smaller", lambda program: program)
        patch.setattr(compiler, "LIMIT_S", 1.0)
        return filters.compile(profile)


def numbers_of(program: bytes) -> list[int]:
    """Every number that *program* compares with, and its neighbours."""
    constants = {value for code, _, _, value in struct.iter_unpack("=HBBI", program) if code in (0x15, 0x25, 0x35)}
    return sorted({(each + step) & 0xFFFFFFFF for each in constants for step in (-1, 0, 1)})


ARGUMENTS = ((0,) * 6, (40,) * 6, (0xFFFFFFFF,) * 6, (0x10000011,) * 6, (1 << 40,) * 6)


@needs_library
@needs_x86
def test_the_smaller_program_has_the_same_verdicts() -> None:
    profile = parsed(docker_profile.docker_profile("x86_64"))
    before, after = made_by_libseccomp(profile), filters.compile(profile)
    assert len(after) < len(before) / 2
    for architecture in (X86_64, I386, 1):
        for number in numbers_of(before):
            for arguments in ARGUMENTS:
                asked = (number, *arguments)
                assert run(before, *asked, architecture=architecture) == run(after, *asked, architecture=architecture)


NAMES = ("read", "getppid", "clone", "personality", "socket", "io_uring_setup", "uname", "mount", "ptrace", "chdir")
conditions = st.builds(
    lambda index, value, op: {"index": index, "value": value, "valueTwo": 1, "op": op},
    st.integers(0, 1),
    st.sampled_from((0, 1, 40, 1 << 40)),
    st.sampled_from(sorted(filters.OPERATORS)),
)
random_rules = st.lists(
    st.builds(
        lambda names, action, args: rule(action, *names, args=args),
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True),
        st.sampled_from(("SCMP_ACT_KILL", "SCMP_ACT_LOG", "SCMP_ACT_ERRNO")),
        st.lists(conditions, max_size=2),
    ),
    max_size=5,
)


@needs_library
@needs_x86
@settings(max_examples=25, deadline=None)
@given(random_rules, st.sampled_from(([], ["SCMP_ARCH_X86"], ["SCMP_ARCH_X86", "SCMP_ARCH_X32"])))
def test_any_smaller_program_has_the_same_verdicts(rules: list[dict[str, Any]], architectures: list[str]) -> None:
    section = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules, "architectures": architectures}
    try:
        before = made_by_libseccomp(parsed(section))
    except BundleError:  # rules that contradict each other, or keep libseccomp busy for ever
        return
    after = ranges.smaller(before)
    assert len(after) <= len(before)
    for architecture in (X86_64, I386, 1):
        for number in numbers_of(before):
            for arguments in ARGUMENTS:
                asked = (number, *arguments)
                assert run(before, *asked, architecture=architecture) == run(after, *asked, architecture=architecture)


#: libseccomp 2.5.4 adds the second rule for ever.
ENDLESS = [
    rule("SCMP_ACT_LOG", "ioctl", args=[{"index": index, "value": value, "op": op} for index, value, op in conditions])
    for conditions in (
        ((1, 0, "SCMP_CMP_NE"), (0, 1 << 32, "SCMP_CMP_NE")),
        ((2, (1 << 64) - 1, "SCMP_CMP_GT"), (0, 1 << 32, "SCMP_CMP_NE")),
    )
]


@needs_library
def test_rules_that_keep_libseccomp_busy_for_ever_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "LIMIT_S", 0.2)
    said = ""
    try:
        made = program("SCMP_ACT_ALLOW", *ENDLESS)
    except BundleError as error:
        made, said = b"", str(error)
    assert made or "did not come to an end" in said  # another libseccomp ends


@needs_library
@pytest.mark.parametrize("blocked", [False, True])
def test_a_compilation_has_a_limit_whatever_the_callers_signals(blocked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(*_: object) -> None:
        while True:
            pass

    monkeypatch.setattr(compiler, "LIMIT_S", 0.2)
    monkeypatch.setattr(libseccomp.Filter, "add", add)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF} if blocked else ())
    before = signal.signal(signal.SIGPROF, signal.SIG_IGN)
    try:
        with pytest.raises(BundleError, match=r"did not come to an end .* within 0.2 s of processor time"):
            program("SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "read"))
    finally:
        signal.signal(signal.SIGPROF, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@needs_library
@pytest.mark.parametrize(
    "raised", [BundleError("where", "why \udcff", "fix"), OSError(12, "no memory"), RuntimeError("nobody foresaw it")]
)
def test_what_fails_in_a_compilation_is_raised_by_who_asked(raised: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: Profile) -> bytes:
        raise raised

    monkeypatch.setattr(compiler, "program", failing)
    with pytest.raises(type(raised)) as caught:
        program("SCMP_ACT_ALLOW")
    assert str(raised) in str(caught.value)


@needs_library
def test_a_compilation_that_is_killed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "program", lambda _: os.kill(os.getpid(), 9))
    with pytest.raises(ChildProcessError, match="died of signal 9"):
        program("SCMP_ACT_ALLOW")


@needs_library
@needs_x86
@pytest.mark.parametrize("default", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"])
def test_calls_newer_than_the_profile_do_not_exist(default: str) -> None:
    """A C library falls back to an older call on ENOSYS alone. On each architecture by its own numbers."""
    architectures = ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    section = {"defaultAction": default, "architectures": architectures, "syscalls": [rule("SCMP_ACT_ALLOW", "statx")]}
    made = filters.compile(parsed(section))
    x32 = 0x40000000
    enosys = 0x00050000 | errno.ENOSYS
    # statx is 332 on x86-64, 383 on x86.
    assert run(made, 332) == run(made, x32 | 332) == run(made, 383, architecture=I386) == 0x7FFF0000
    for number, architecture in ((333, X86_64), (500, X86_64), (x32 | 333, X86_64), (384, I386)):
        assert run(made, number, architecture=architecture) == enosys
    for number, architecture in ((331, X86_64), (x32 | 331, X86_64), (382, I386)):
        assert run(made, number, architecture=architecture) == filters.ACTIONS[default] | (
            errno.EPERM if default == "SCMP_ACT_ERRNO" else 0
        )


@needs_library
@needs_x86
def test_an_architecture_that_has_none_of_the_calls_is_left_as_it_is() -> None:
    enosys = ERRNO | errno.ENOSYS
    made = program("SCMP_ACT_ERRNO", rule("SCMP_ACT_ALLOW", "arch_prctl"), architectures=["SCMP_ARCH_AARCH64"])
    assert [run(made, 158), run(made, 159)] == [ALLOW, enosys]
    assert run(made, 1000, architecture=0xC00000B7) == ERRNO | errno.EPERM
    empty = program("SCMP_ACT_ERRNO")
    assert run(empty, 1000) == ERRNO | errno.EPERM


@needs_library
@needs_x86
def test_what_a_profile_denies_by_name_it_knows() -> None:
    made = program(
        "SCMP_ACT_ERRNO", rule("SCMP_ACT_ALLOW", "getppid"), rule("SCMP_ACT_ERRNO", "unshare", "no_such_yet")
    )
    assert [run(made, number) for number in (UNSHARE - 1, UNSHARE)] == [ERRNO | errno.EPERM] * 2
    assert run(made, UNSHARE + 1) == ERRNO | errno.ENOSYS


@needs_library
@needs_x86
@pytest.mark.parametrize("default", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"])
def test_what_lets_calls_through_lets_newer_ones_through(default: str) -> None:
    made = filters.compile(parsed({"defaultAction": default, "syscalls": [rule("SCMP_ACT_ERRNO", "statx")]}))
    assert run(made, 500) & 0xFFFF0000 == filters.ACTIONS[default]


def test_every_comparison_at_its_very_number() -> None:
    """Each kind of jump, with more instructions than ranges need: 7 and above, 5 and above, 3, all others."""
    words = (
        *((0x20, 0, 0, 4), (0x15, 1, 0, X86_64), (6, 0, 0, KILL), (0x20, 0, 0, 0)),
        *((0x25, 0, 1, 6), (6, 0, 0, TRAP), (0x35, 0, 2, 5), (5, 0, 0, 0), (6, 0, 0, LOG)),
        *((0x15, 0, 1, 3), (6, 0, 0, ERRNO), (0x15, 0, 1, 2), (5, 0, 0, 0)),
        *((0x15, 0, 1, 1), (5, 0, 0, 0), (0x15, 0, 1, 0), (5, 0, 0, 0), (6, 0, 0, ALLOW)),
    )
    before = b"".join(struct.pack("=HBBI", *each) for each in words)
    after = ranges.smaller(before)
    assert len(after) < len(before)
    verdicts = [run(after, number) for number in range(9)]
    assert verdicts == [ALLOW, ALLOW, ALLOW, ERRNO, ALLOW, LOG, LOG, TRAP, TRAP]
    assert verdicts == [run(before, number) for number in range(9)]
    assert run(after, 3, architecture=I386) == KILL


def test_a_program_of_unknown_instructions_stays_as_it_is() -> None:
    words = ((0x20, 0, 0, 0), (0x14, 0, 0, 5), (6, 0, 0, 0))  # load, subtract, return
    subtracts = b"".join(struct.pack("=HBBI", *each) for each in words)
    assert ranges.smaller(subtracts) == subtracts


@needs_library
@needs_x86
def test_names_of_the_future_are_skipped() -> None:
    made = program("SCMP_ACT_ALLOW", rule("SCMP_ACT_KILL", "no_such_call_yet", "getppid"))
    assert run(made, GETPPID) == KILL


@needs_library
@needs_x86
def test_what_docker_lets_through() -> None:
    made = filters.compile(parsed(docker_profile.docker_profile("x86_64")))
    denied = ERRNO | errno.EPERM
    for number in (UNSHARE, MOUNT, BPF, 246, 169, 175, 304, 308, 323, 425):  # kexec_load, reboot, init_module...
        assert run(made, number) == denied, number
    for number in (READ, GETPPID, 59, 101, 161, 165 - 8):  # execve, ptrace, chroot, prctl
        assert run(made, number) == ALLOW, number
    assert run(made, CLONE3) == ERRNO | errno.ENOSYS
    assert run(made, CLONE, 0x1200011) == ALLOW  # what fork asks for
    assert run(made, CLONE, 0x10000000) == run(made, CLONE, 0x20000011) == run(made, CLONE, 0x2000000) == denied
    assert run(made, PERSONALITY, 0xFFFFFFFF) == run(made, PERSONALITY, 0) == ALLOW
    assert run(made, PERSONALITY, 0x0040000) == denied  # ADDR_NO_RANDOMIZE
    assert run(made, SOCKET, 2) == run(made, SOCKET, 1) == ALLOW
    assert run(made, SOCKET, 40) == denied
    assert run(made, X32 | UNSHARE) == run(made, 310, architecture=I386) == denied
    assert run(made, 3, architecture=I386) == ALLOW  # read


def test_the_list_names_no_call_twice() -> None:
    profile = docker_profile.docker_profile("x86_64")
    names = [name for entry in profile["syscalls"] for name in entry["names"]]  # type: ignore[attr-defined]
    once = [name for name in names if name != "personality"]
    assert len(once) == len(set(once))
    assert len(once) > 300


@needs_library
def test_the_list_holds_no_misspelt_name() -> None:
    """Names that are younger than the oldest libseccomp in use are named here; any other unknown one is a slip."""
    young = {"cachestat", "fchmodat2", "futex_requeue", "futex_wait", "futex_wake", "map_shadow_stack", "mseal"}
    profile = parsed(docker_profile.docker_profile("x86_64"))
    unknown = {name for entry in profile.rules for name in entry.names if libseccomp.number(name) is None}
    assert unknown <= young


NOTIFYING = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "listenerPath": "/run/agent",
    "listenerMetadata": "m",
    "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
    "syscalls": [rule("SCMP_ACT_NOTIFY", "mkdir", "execve")],
}


@pytest.mark.parametrize(
    ("section", "where"),
    [
        ({}, "defaultAction"),
        ({"defaultAction": "SCMP_ACT_MAYBE"}, "defaultAction"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "defaultAction"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}, "defaultErrnoRet"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1 << 16}, "defaultErrnoRet"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]}, "architectures"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["X86_64"]}, "architectures"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NEW_LISTENER"]}, "flags"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": 5}, "listenerPath"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("SCMP_ACT_NOTIFY", "x")]}, "listenerPath"),
        (NOTIFYING | {"listenerPath": "agent"}, "listenerPath"),
        (NOTIFYING | {"syscalls": [rule("SCMP_ACT_NOTIFY", "mkdir", "write")]}, "syscalls"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_KILL"}]}, "syscalls[0].names"),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("SCMP_ACT_KILL", "x", errnoRet=1)]},
            "syscalls[0].errnoRet",
        ),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("SCMP_ACT_KILL", "x", args=[{"op": "="}])]},
            "syscalls[0].args[0].op",
        ),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [rule("SCMP_ACT_KILL", "x", args=[{"op": "SCMP_CMP_EQ", "index": 6, "value": 0}])],
            },
            "syscalls[0].args[0].index",
        ),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [rule("SCMP_ACT_KILL", "x", args=[{"op": "SCMP_CMP_EQ", "index": 0, "value": 1 << 64}])],
            },
            "syscalls[0].args[0].value",
        ),
        ([], "linux.seccomp"),
    ],
)
def test_refused_by_name(section: Any, where: str) -> None:
    with pytest.raises(BundleError) as caught:
        parsed(section)
    assert caught.value.where.endswith(where)
    assert caught.value.fix


def test_a_rule_for_no_call_is_none() -> None:
    empty, one = rule("SCMP_ACT_NOTIFY"), rule("SCMP_ACT_KILL", "acct")
    assert [each.names for each in parsed({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [empty, one]}).rules] == [
        ("acct",)
    ]


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libseccomp, "load", lambda: "cannot open shared object file")
    with pytest.raises(BundleError, match=r"libseccomp\.so\.2.*cannot open.*install"):
        filters.compile(parsed({"defaultAction": "SCMP_ACT_ALLOW"}))


def test_flags_and_the_step() -> None:
    flags = ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    profile = parsed({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags})
    made = Filter(b"12345678" * 3, profile.flags)
    call = made.call()
    assert call.name == "seccomp"
    assert call.arguments == (1, 6, (struct.pack("<HHI", 3, 0, 0), b"12345678" * 3))
    assert not call.flags
    assert "3 instructions" in made.describe()


def test_a_listener_excludes_other_threads() -> None:
    """seccomp(2): TSYNC and NEW_LISTENER cannot be asked for at once. There are no other threads."""
    call = Filter(b"12345678", 1 | 2 | 32, listener=True).call()
    assert call.arguments[1] == 2 | 8 | 32
    assert call.flags == stub.LISTENER


@needs_library
def test_calls_for_an_agent() -> None:
    profile = parsed(NOTIFYING)
    assert (profile.listener, profile.metadata, profile.flags) == ("/run/agent", "m", 32)
    assert filters.make(profile).listener


def test_without_calls_for_an_agent_there_is_none() -> None:
    """runc ignores the listener's path then, and the kernel refuses flags that concern a listener."""
    profile = parsed(NOTIFYING | {"syscalls": [rule("SCMP_ACT_ERRNO", "mkdir")]})
    assert (profile.listener, profile.metadata, profile.flags) == ("", "", 0)


SIMPLE = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("SCMP_ACT_ERRNO", "getppid")]}


@needs_library
def test_the_cache_gives_the_same_program_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = str(tmp_path / "c")
    first = filters.compile(parsed(SIMPLE), cache=cache)
    assert first == filters.compile(parsed(SIMPLE))
    monkeypatch.setattr(libseccomp, "load", lambda: "not now")
    assert filters.compile(parsed(SIMPLE), cache=cache) == first
    other = SIMPLE | {"defaultAction": "SCMP_ACT_LOG"}
    with pytest.raises(BundleError, match="not now"):
        filters.compile(parsed(other), cache=cache)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A cache with one program in it; the only file."""
    library = tmp_path / "libseccomp.so.2"
    library.write_text("x")
    filter_cache.store(str(tmp_path / "c"), "key", b"12345678", str(library))
    (file,) = (tmp_path / "c").iterdir()
    assert filter_cache.load(str(tmp_path / "c"), "key") == b"12345678"
    return file


def test_a_cached_program_that_others_may_write_is_not_believed(kept: Path) -> None:
    kept.chmod(0o620)
    assert not filter_cache.load(str(kept.parent), "key")


def test_a_cached_program_behind_a_link_is_not_believed(kept: Path) -> None:
    kept.rename(kept.with_name("elsewhere"))
    kept.symlink_to("elsewhere")
    assert not filter_cache.load(str(kept.parent), "key")


def test_a_cached_program_of_another_profile_is_not_believed(kept: Path) -> None:
    kept.write_bytes(kept.read_bytes().replace(b"key", b"kez"))  # as if two profiles had one checksum
    assert not filter_cache.load(str(kept.parent), "key")


def test_a_cached_program_of_another_library_is_not_believed(kept: Path, tmp_path: Path) -> None:
    library = tmp_path / "libseccomp.so.2"
    library.write_text("a new version")
    assert not filter_cache.load(str(kept.parent), "key")
    library.unlink()
    assert not filter_cache.load(str(kept.parent), "key")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"rubbish", b"tare-seccomp 3\n\xff\0\n\n", b"\0" * 100])
def test_a_broken_cache_counts_as_missing(kept: Path, content: bytes) -> None:
    kept.write_bytes(content)
    assert not filter_cache.load(str(kept.parent), "key")


def test_a_cache_that_cannot_be_written_hurts_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    filter_cache.store(str(tmp_path / "file"), "key", b"12345678", os.fspath(tmp_path / "file"))
    assert not filter_cache.load(str(tmp_path / "file"), "key")
