"""From a profile to the kernel's program, by libseccomp, in a child whose time is limited.

libseccomp 2.5 never returns for some sets of rules: two rules for one call that share a condition are enough. A call of
a C library cannot be interrupted, so a child makes it, and the kernel ends the child (setitimer(2)). That is only
needed for a program that is in no cache (:mod:`filter_cache`), so most starts have no such child.
"""

from __future__ import annotations

import os

from ..reader import SEE, BundleError
from . import libseccomp
from .filters import ACTIONS
from .ranges import smaller

TYPE_CHECKING = False

if TYPE_CHECKING:
    import signal

    from .filters import Condition, Profile
else:
    import _signal as signal  # the module itself imports enum: 3 ms

#: Seconds of processor time. The longest profiles that are in use take hundredths of one.
LIMIT_S = 30.0

#: With these actions for what a profile does not name, newer calls are allowed, too.
_LETTING = tuple(ACTIONS[f"SCMP_ACT_{name}"] for name in ("ALLOW", "LOG", "TRACE"))
_ACTION = 0xFFFF0000  # SECCOMP_RET_ACTION_FULL
#: BPF_MAXINSNS of linux/bpf_common.h.
_LONGEST = 4096


def in_time(profile: Profile) -> bytes:
    """The program, an array of struct sock_filter. Raises BundleError (also when time is up) and OSError."""
    said = os.memfd_create("tare-seccomp", os.MFD_CLOEXEC)  # not a pipe, for which the child may have to wait
    try:
        pid = os.fork()
        if not pid:
            _child(profile, said)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        answer = os.pread(said, os.fstat(said).st_size, 0)
    finally:
        os.close(said)
    if status == -signal.SIGPROF:
        why = f"libseccomp did not come to an end with these rules within {LIMIT_S:g} s of processor time"
        raise BundleError("linux.seccomp.syscalls", why, "write the rules of a call in another way, or shorten them")
    if status < 0:
        raise ChildProcessError(f"linux.seccomp: what compiles the filter died of signal {-status}")
    kind, text = answer[:1], answer[1:]
    if kind == b"P":
        return text
    words = text.decode(errors="surrogateescape").split("\0")
    if kind == b"B":
        raise BundleError(*words)
    if kind == b"O":
        raise OSError(int(words[0]), words[1])
    raise RuntimeError(f"linux.seccomp: {words[0]}")


def _child(profile: Profile, said: int) -> None:
    """Write the answer, whose first byte says what it is, and end."""
    try:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGPROF,))
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
        answer = _answer(profile)
        while answer:
            answer = answer[os.write(said, answer) :]
    finally:
        os._exit(0)


def _answer(profile: Profile) -> bytes:
    words: tuple[str, ...]
    try:
        return b"P" + program(profile)
    except BundleError as error:
        words = ("B" + error.where, error.why, error.fix)
    except OSError as error:
        words = (f"O{error.errno or 0}", error.strerror or str(error))
    except Exception as error:  # noqa: BLE001 - the parent says it
        words = ("E" + repr(error),)
    return "\0".join(words).encode(errors="surrogateescape")


def program(profile: Profile) -> bytes:
    """What :func:`in_time` returns, made in this process and without a limit of time."""
    with libseccomp.Filter(profile.default_action) as made:
        for name in profile.architectures:
            if not made.add_architecture(name):
                raise BundleError(
                    "linux.seccomp.architectures", f"this libseccomp does not know {name}", "leave it out"
                )
        for rule in profile.rules:
            if rule.action == profile.default_action:
                continue  # libseccomp refuses a rule that changes nothing
            for name in rule.names:
                number = libseccomp.number(name)
                if number is None:
                    continue
                for conditions in _alternatives(rule.conditions):
                    try:
                        made.add(rule.action, number, conditions)
                    except OSError as error:
                        raise BundleError(
                            f"linux.seccomp.syscalls: {name}", f"libseccomp refuses it: {error.strerror}", SEE
                        ) from None
        found = smaller(_with_newer(made.export(), profile))
    if len(found) // 8 > _LONGEST:
        raise BundleError(
            "linux.seccomp", f"makes {len(found) // 8} instructions; {_LONGEST} are allowed", "shorten it"
        )
    return found


def _with_newer(made: bytes, profile: Profile) -> bytes:
    """*made*, with an answer to calls that are newer than *profile*: see :mod:`unknown_calls`."""
    if profile.default_action & _ACTION in _LETTING:
        return made
    from . import unknown_calls

    names = [name for rule in profile.rules for name in rule.names]
    last = {name: libseccomp.highest(names, name) for name in (os.uname().machine, *profile.architectures)}
    return unknown_calls.answered(made, {name: number for name, number in last.items() if number})


def _alternatives(conditions: tuple[Condition, ...]) -> tuple[tuple[Condition, ...], ...]:
    """Conditions on different arguments hold together; several on one argument are alternatives, as runc has it."""
    if len({condition.index for condition in conditions}) == len(conditions):
        return (conditions,)
    return tuple((condition,) for condition in conditions)
