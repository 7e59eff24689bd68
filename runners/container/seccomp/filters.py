"""System call filters: ``linux.seccomp`` of the configuration, as a BPF program, as a step of the set-up.

There are three stages, of which most starts need only the last: :func:`parse` reads and refuses; :func:`compile`
makes the kernel's program through libseccomp, once, in the parent; :class:`Filter` is one system call, the last before
the program is executed (:mod:`stub`), so that a filter need not allow what set-up calls.

Sources: the OCI runtime specification (config-linux.md, "Seccomp"), seccomp(2), linux/seccomp.h.
"""

from __future__ import annotations

import errno
import os
import struct

from ..light.dataclasses import record
from ..linux import syscalls as k
from ..linux.exec_stub import stub
from ..reader import SEE, BundleError, Reader
from . import filter_cache

_EPERM = errno.EPERM
#: Actions and their values (linux/seccomp.h). Those in :data:`_WITH_DATA` carry a number in their low 16 bits.
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_DATA = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
#: enum scmp_compare of seccomp.h.
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_NOTIFY = ACTIONS["SCMP_ACT_NOTIFY"]
#: SECCOMP_FILTER_FLAG_* of linux/seccomp.h.
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
_TSYNC, _NEW_LISTENER, _WAIT_KILLABLE_RECV = 1, 8, 32
ARCHITECTURES = (
    "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE S390 S390X PARISC"
    " PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB"
).split()

_INSTALL = "install it (Debian, Ubuntu, Fedora: the package libseccomp2 or libseccomp), or remove linux.seccomp"
_ARGUMENTS = 6


@record(kw_only=True)
class Condition:
    """What one argument of a call must be: *operator* as in :data:`OPERATORS`."""

    index: int
    operator: int
    value: int
    value_two: int


@record(kw_only=True)
class Rule:
    """What is done to the calls *names* if their arguments fulfil all *conditions*; *action* is the kernel's number."""

    names: tuple[str, ...]
    action: int
    conditions: tuple[Condition, ...]


@record(kw_only=True)
class Profile:
    """One filter. *architectures* are libseccomp's names, beside the native one; *flags* those of seccomp(2).

    *listener* is the socket of the agent that SCMP_ACT_NOTIFY asks, with a text for it; empty without that action.
    """

    default_action: int
    architectures: tuple[str, ...]
    flags: int
    rules: tuple[Rule, ...]
    listener: str = ""
    metadata: str = ""


def parse(reader: Reader) -> Profile:
    """The :class:`Profile` of ``linux.seccomp``. Raises :class:`BundleError`."""
    default = _action(reader, "defaultAction", "defaultErrnoRet")
    names = reader.texts("architectures")
    for name in names:
        if name.removeprefix("SCMP_ARCH_") not in ARCHITECTURES or not name.startswith("SCMP_ARCH_"):
            raise BundleError(reader.at("architectures"), f"unknown architecture {name!r}", SEE)
    flags = 0
    for flag in reader.texts("flags"):
        if flag not in FLAGS:
            raise BundleError(reader.at("flags"), f"{flag!r} is not supported, only {', '.join(FLAGS)}", "leave it out")
        flags |= FLAGS[flag]
    rules = tuple(rule for rule in map(_rule, reader.each("syscalls")) if rule.names)
    listener, metadata = _listener(reader, default, rules)
    reader.done()
    if not listener:
        flags &= ~_WAIT_KILLABLE_RECV  # it is about a listener: the kernel refuses it without one
    return Profile(
        default_action=default,
        architectures=tuple(name.removeprefix("SCMP_ARCH_").lower() for name in names),
        flags=flags,
        rules=rules,
        listener=listener,
        metadata=metadata,
    )


def _listener(reader: Reader, default: int, rules: tuple[Rule, ...]) -> tuple[str, str]:
    """The agent's socket and the text for it; empty if no call is sent to an agent (runc and crun ignore both then)."""
    path, metadata = reader.take("listenerPath", str, ""), reader.take("listenerMetadata", str, "")
    if default == _NOTIFY:
        # The process that passes the listener to the agent is under the filter already.
        raise BundleError(
            reader.at("defaultAction"), "SCMP_ACT_NOTIFY cannot be used as default action", "name the calls"
        )
    notified = [name for rule in rules if rule.action == _NOTIFY for name in rule.names]
    if "write" in notified:
        # runc and crun refuse it, too: the error of a program that cannot be executed is reported by write.
        raise BundleError(
            reader.at("syscalls"), "SCMP_ACT_NOTIFY cannot be used for the write syscall", "leave write out"
        )
    if not notified:
        return "", ""
    if not path.startswith("/") or "\0" in path:
        raise BundleError(
            reader.at("listenerPath"), "must be the absolute path of a socket, for SCMP_ACT_NOTIFY", "start an agent"
        )
    return path, metadata


def _action(reader: Reader, key: str, number_key: str) -> int:
    name = reader.take(key, str)
    if name not in ACTIONS:
        raise BundleError(reader.at(key), f"unknown action {name!r}, not one of {', '.join(ACTIONS)}", SEE)
    number = _whole(reader, number_key, -1)
    if number > 0xFFFF:
        raise BundleError(reader.at(number_key), "does not fit into 16 bits", SEE)
    if name not in _WITH_DATA:
        if number >= 0:  # config-linux.md: the runtime MUST fail
            raise BundleError(reader.at(number_key), f"{name} returns no number", "leave it out")
        return ACTIONS[name]
    return ACTIONS[name] | (number if number >= 0 else _EPERM)


def _whole(reader: Reader, key: str, default: int) -> int:
    """A number that may be absent or null; not negative when it is given."""
    given = reader.take(key, int, default)
    if given < 0 and given != default:
        raise BundleError(reader.at(key), "must not be negative", SEE)
    return given


def _rule(item: Reader) -> Rule:
    if item.lacks("names"):
        raise BundleError(item.at("names"), "is missing", SEE)
    names = item.texts("names")
    if not names:
        item.warn("names", "is empty: the rule is ignored")
    action = _action(item, "action", "errnoRet")
    conditions = tuple(map(_condition, item.each("args")))
    for key in ("comment", "name"):  # podman writes these keys; they mean nothing to a runtime
        item.take(key, str, "")
    item.done()
    return Rule(names=names, action=action, conditions=conditions)


def _condition(item: Reader) -> Condition:
    operator = item.take("op", str)
    if operator not in OPERATORS:
        raise BundleError(item.at("op"), f"unknown operator {operator!r}, not one of {', '.join(OPERATORS)}", SEE)
    index = item.take("index", int)
    value, value_two = item.take("value", int), _whole(item, "valueTwo", 0)
    for key, number, end in (("index", index, _ARGUMENTS), ("value", value, 1 << 64), ("valueTwo", value_two, 1 << 64)):
        if not 0 <= number < end:
            raise BundleError(item.at(key), f"{number} is not from 0 to {end - 1}", SEE)
    item.done()
    return Condition(index=index, operator=OPERATORS[operator], value=value, value_two=value_two)


def compile(profile: Profile, *, cache: str = "") -> bytes:  # noqa: A001 - seccomp.compile, as re.compile
    """The filter as an array of struct sock_filter (linux/filter.h), for this machine's architecture and others asked.

    Names that this libseccomp does not know are skipped: profiles list calls of newer kernels. libseccomp takes 10 ms
    for docker's profile, so the program is kept in *cache*, a directory that need not exist. Raises BundleError
    (libseccomp is absent, or refuses a rule) and OSError.
    """
    key = f"{os.uname().machine} {profile!r}" if cache else ""
    if cache and (kept := filter_cache.load(cache, key)):
        return kept
    from . import compiler, libseccomp  # imported late: a start that finds its program in the cache does not need it

    if trouble := libseccomp.load():
        raise BundleError("linux.seccomp", f"needs libseccomp.so.2, which cannot be loaded: {trouble}", _INSTALL)
    program = compiler.in_time(profile)
    if cache:
        filter_cache.store(cache, key, program, libseccomp.path())
    return program


@record
class Filter:
    """A filter of the system calls of a process, and of all that come from it.

    *program* is :func:`compile`'s, *flags* are :attr:`Profile.flags`; with *listener*, an agent is asked.
    """

    program: bytes
    flags: int = 0
    listener: bool = False

    def describe(self) -> str:
        """What it is, in words."""
        return f"filter system calls ({len(self.program) // 8} instructions)"

    def call(self) -> stub.Call:
        """The system call that installs it: seccomp(2)."""
        pointed = (struct.pack("<HHI", len(self.program) // 8, 0, 0), self.program)  # struct sock_fprog
        # The kernel refuses this flag, to apply the filter to other threads, together with a listener. There are no
        # other threads.
        flags = self.flags & ~_TSYNC | _NEW_LISTENER if self.listener else self.flags
        arguments = (k.SECCOMP_SET_MODE_FILTER, flags, pointed)
        return stub.Call(stub.FILTER, "seccomp", arguments, stub.LISTENER if self.listener else 0)


def make(profile: Profile, *, cache: str = "") -> Filter:
    """The filter of *profile*, compiled; see :func:`compile`. Raises BundleError and OSError."""
    return Filter(compile(profile, cache=cache), profile.flags, bool(profile.listener))


def available() -> str:
    """Why filters cannot be made here; empty when they can."""
    if not os.path.exists("/proc/sys/kernel/seccomp/actions_avail"):
        return "this kernel has no seccomp filters"
    from . import libseccomp

    return libseccomp.load()
