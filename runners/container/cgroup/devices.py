"""Which devices a container may open. Without rules, CAP_MKNOD, which docker grants, would let it open all.

The rules of a configuration are a list. For each access, the last rule that matches decides; an access that no rule
matches is denied; and the standard devices are allowed after all rules (OCI config-linux.md, "Default Devices").
Without a list, there are no rules. v1 has files in the devices hierarchy, for a default and exceptions from it; v2 has
a BPF program of type CGROUP_DEVICE, which here goes through the list backwards.

The runner of the fork server writes v1's files once, to a cgroup above all instances (a new cgroup copies them). In v2,
it attaches one loaded program to each instance.

Sources: cgroup-v1/devices.rst; cgroup-v2.rst "Device controller"; linux/bpf.h (struct bpf_cgroup_dev_ctx).
"""

from __future__ import annotations

import os
import struct

from ..light.dataclasses import record
from ..linux import syscalls
from ..linux.files import read, write
from ..reader import SEE, BundleError, Reader
from .cgroups import V1, V2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .hierarchies import Layout

_MKNOD, _READ, _WRITE = 1, 2, 4  # BPF_DEVCG_ACC_*
_BITS = {"m": _MKNOD, "r": _READ, "w": _WRITE}
_ALL = _MKNOD | _READ | _WRITE
_BLOCK, _CHARACTER = 1, 2  # BPF_DEVCG_DEV_*
_KINDS = {"a": 0, "b": _BLOCK, "c": _CHARACTER, "u": _CHARACTER}
_LETTERS = {_BLOCK: "b", _CHARACTER: "c"}
# Opcodes of linux/bpf.h: load word, move, and, shift right, jump if not equal, jump if equal, return.
_LDX_W, _MOV_REG, _MOV, _AND, _RSH, _JNE, _JEQ, _EXIT = 0x61, 0xBF, 0xB7, 0x54, 0x74, 0x55, 0x15, 0x95


@record(kw_only=True)
class Rule:
    """*kind* is 0 for both, else as in linux/bpf.h; major and minor -1 match every number; *access* is a bit mask."""

    allow: bool
    kind: int = 0
    major: int = -1
    minor: int = -1
    access: int = _ALL

    @property
    def everything(self) -> bool:
        """Whether it matches every access to every device."""
        return not self.kind and self.major == self.minor == -1 and self.access == _ALL

    def covers(self, other: Rule) -> bool:
        """Whether all devices of *other* are devices of this rule."""
        pairs = ((self.kind, other.kind, 0), (self.major, other.major, -1), (self.minor, other.minor, -1))
        return all(mine in (theirs, every) for mine, theirs, every in pairs)

    def meets(self, other: Rule) -> bool:
        """Whether some device is of both rules."""
        pairs = ((self.kind, other.kind, 0), (self.major, other.major, -1), (self.minor, other.minor, -1))
        return all(every in (mine, theirs) or mine == theirs for mine, theirs, every in pairs)


#: null, zero, full, random, urandom, tty, ptmx; and all pseudo-terminals.
ALLOWED = tuple(
    Rule(allow=True, kind=_CHARACTER, major=major, minor=minor)
    for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, -1))
)
#: What every container may do: make any node (to open it is another question), and use the standard devices.
_ALWAYS = (
    Rule(allow=True, kind=_CHARACTER, access=_MKNOD),
    Rule(allow=True, kind=_BLOCK, access=_MKNOD),
    *ALLOWED,
)
#: The usual list: nothing but the standard devices.
DENY_ALL = (Rule(allow=False),)


def parse(resources: Reader) -> tuple[Rule, ...]:
    """The rules at ``devices`` of ``linux.resources``. Raises BundleError."""
    return tuple(map(_rule, resources.each("devices")))


def _rule(item: Reader) -> Rule:
    kind, access = item.take("type", str, "a") or "a", item.take("access", str, "rwm")
    if kind not in _KINDS:
        raise BundleError(item.at("type"), f"{kind!r} is not one of {', '.join(_KINDS)}", SEE)
    if not _mask(access):
        raise BundleError(item.at("access"), f"{access!r} is not made of r, w and m", SEE)
    if access.strip("rwm"):
        item.warn("access", f"of {access!r} only the letters r, w and m are used")
    numbers = {}
    for key in ("major", "minor"):
        numbers[key] = item.take(key, int, -1)
        if not -1 <= numbers[key] < 1 << 31:
            raise BundleError(item.at(key), "is not a device number", SEE)
    found = Rule(allow=item.take("allow", bool), kind=_KINDS[kind], **numbers, access=_mask(access))
    item.done()
    return found


def _mask(access: str) -> int:
    return sum(bit for letter, bit in _BITS.items() if letter in access)


def enforceable(layout: Layout) -> bool:
    """Whether rules can be in force here."""
    return layout.mode == "v2" or "devices" in layout.v1


def apply(rules: tuple[Rule, ...], group: V1 | V2, warn: Callable[[str], None] | None = None) -> None:
    """Put *group*, which exists, under *rules* and the standard ones; an empty list changes nothing.

    With *warn*, what an ordinary user may not do is left out, as in crun and runc: such a user cannot make device nodes
    either. Raises BundleError for a list that v1 cannot express, and OSError.
    """
    if not rules:
        return
    try:
        _apply(rules, group)
    except PermissionError as error:
        from ..linux import capabilities

        if warn is None or not (os.geteuid() or capabilities.confined()):
            raise
        warn(f"linux.resources.devices: ignored: {error.filename or 'bpf'}: {error.strerror}")


def _apply(rules: tuple[Rule, ...], group: V1 | V2) -> None:
    if isinstance(group, V2):
        program = syscalls.bpf_load_device_program(v2_program(rules))
        try:
            _attach(group, program)
        finally:
            os.close(program)
    elif "devices" in group.controllers:
        _write_v1(f"{group.layout.v1['devices']}/{group.relative}", rules)
    elif any(not rule.allow for rule in rules):
        why = "needs cgroup v1's devices hierarchy, which is not mounted"
        raise BundleError("linux.resources.devices", why, "mount it")


def _write_v1(directory: str, rules: tuple[Rule, ...]) -> None:
    lines = v1_lines(rules)
    if lines == [("allow", "a")] and read(f"{directory}/devices.list").startswith("a *:* rwm"):
        return  # below a cgroup with rules, this write is refused even if it changes nothing
    for file, line in lines:
        write(f"{directory}/devices.{file}", line)


def v1_lines(rules: tuple[Rule, ...] = DENY_ALL) -> list[tuple[str, str]]:
    """The rules as writes: ("allow" or "deny", line), the first of which sets the default. Raises BundleError.

    v1 removes an exception only if the numbers are exactly the same, and else keeps it silently: such a list is
    refused.
    """
    default, exceptions = False, dict[Rule, int]()
    for rule in (*rules, *_ALWAYS):
        if rule.everything:
            default, exceptions = rule.allow, {}
            continue
        for kind in (rule.kind,) if rule.kind else (_BLOCK, _CHARACTER):
            _amend(
                default, exceptions, Rule(allow=rule.allow, kind=kind, major=rule.major, minor=rule.minor), rule.access
            )
    lines = [("allow" if default else "deny", "a")]
    for device, access in exceptions.items():
        letters = "".join(letter for letter in "rwm" if access & _BITS[letter])
        numbers = ":".join("*" if number < 0 else str(number) for number in (device.major, device.minor))
        lines.append(("deny" if default else "allow", f"{_LETTERS[device.kind]} {numbers} {letters}"))
    return lines


def _amend(default: bool, exceptions: dict[Rule, int], device: Rule, access: int) -> None:  # noqa: FBT001
    if device.allow != default:
        exceptions[device] = exceptions.get(device, 0) | access
        return
    for known, mask in list(exceptions.items()):
        if not mask & access or not known.meets(device):
            continue
        if not device.covers(known):
            raise BundleError(
                "linux.resources.devices",
                "takes one device out of a rule for many, which cgroup v1 cannot express",
                "put the wider rule last, or list the devices one by one",
            )
        if mask & ~access:
            exceptions[known] = mask & ~access
        else:
            del exceptions[known]


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, target | source << 4, offset, value)


_KIND, _ACCESS, _MAJOR, _MINOR = 3, 2, 4, 5  # registers; 1 holds the context at first, and then intermediate values


def v2_program(rules: tuple[Rule, ...] = DENY_ALL) -> bytes:
    """The same as BPF: returns 1 to allow. Context: u32 access << 16 | type, u32 major, u32 minor.

    It goes from the last rule to the first. An allow rule that matches removes its bits from the asked access, and the
    access is allowed when no bit is left. A deny rule that has one of the bits left denies it.
    """
    program = [
        _instruction(_LDX_W, _ACCESS, 1, 0),
        _instruction(_MOV_REG, _KIND, _ACCESS),
        _instruction(_AND, _KIND, value=0xFFFF),
        _instruction(_RSH, _ACCESS, value=16),
        _instruction(_LDX_W, _MAJOR, 1, 4),
        _instruction(_LDX_W, _MINOR, 1, 8),
    ]
    for rule in reversed((*rules, *_ALWAYS)):
        if rule.everything:  # earlier rules have no effect, and the kernel refuses code that is never reached
            return b"".join([*program, _answer(rule.allow)])
        program.append(_one(rule))
    return b"".join([*program, _answer(False)])


def _answer(allow: bool) -> bytes:  # noqa: FBT001
    return _instruction(_MOV, 0, value=int(allow)) + _instruction(_EXIT)


def _one(rule: Rule) -> bytes:
    answer = _answer(rule.allow)
    if rule.allow:
        body = _instruction(_AND, _ACCESS, value=_ALL & ~rule.access) + _instruction(_JNE, _ACCESS, offset=2, value=0)
    else:
        body = _instruction(_MOV_REG, 1, _ACCESS) + _instruction(_AND, 1, value=rule.access)
        body += _instruction(_JEQ, 1, offset=2, value=0)
    body += answer
    matches = ((_KIND, rule.kind, 0), (_MAJOR, rule.major, -1), (_MINOR, rule.minor, -1))
    for register, value, every in matches:
        if value != every:
            body = _instruction(_JNE, register, offset=len(body) // 8, value=value) + body
    return body


def _attach(group: V2, program: int) -> None:
    fd = os.open(group.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.bpf_attach_device_program(fd, program)
    finally:
        os.close(fd)


class RulesV1:
    """The usual rules as a cgroup of the devices hierarchy; each instance gets a child of it. A context manager."""

    def __init__(self, parent: V1, label: str) -> None:
        """*label* is its name below *parent*, beside the instances."""
        #: The parent of the instances' cgroups.
        self.group = V1(f"{parent.relative}/{label}", parent.layout, ("devices",))

    def __enter__(self) -> RulesV1:
        self.group.create()
        try:
            apply(DENY_ALL, self.group)
        except BaseException:
            self.group.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.group.remove()


class RulesV2:
    """The usual rules as a loaded program; a cgroup that it was attached to keeps it. A context manager."""

    def __init__(self) -> None:
        self._program = -1

    def attach(self, group: V2) -> None:
        """Put *group*, which exists, under the rules."""
        _attach(group, self._program)

    def __enter__(self) -> RulesV2:
        self._program = syscalls.bpf_load_device_program(v2_program())
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._program)


def describe(asked: Iterable[Rule]) -> str:
    """The rules in a few words, for ``--explain``."""
    return ", ".join(
        f"{'allow' if rule.allow else 'deny'} {_LETTERS.get(rule.kind, 'a')}"
        f" {rule.major if rule.major >= 0 else '*'}:{rule.minor if rule.minor >= 0 else '*'}"
        for rule in asked
    )
