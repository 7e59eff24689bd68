"""Device rules: one meaning, said in v1's lines and in v2's program."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.runners.container.cgroup import devices
from tare.runners.container.cgroup.devices import DENY_ALL, Rule
from tare.runners.container.reader import BundleError, Reader

MKNOD, READ, WRITE = 1, 2, 4
BLOCK, CHARACTER = 1, 2
LETTERS = {"m": MKNOD, "r": READ, "w": WRITE}


def run_bpf(program: bytes, access: int, kind: int, major: int, minor: int) -> int:
    """An interpreter for the eight instructions in use, as linux/bpf.h defines them."""
    context = {0: access << 16 | kind, 4: major, 8: minor}
    registers = [0] * 6
    at = 0
    while True:
        code, both = program[8 * at], program[8 * at + 1]
        offset = int.from_bytes(program[8 * at + 2 : 8 * at + 4], "little", signed=True)
        value = int.from_bytes(program[8 * at + 4 : 8 * at + 8], "little", signed=True)
        target, source = both & 15, both >> 4
        at += 1
        match code:
            case 0x61:
                registers[target] = context[offset]
            case 0xBF:
                registers[target] = registers[source]
            case 0xB7:
                registers[target] = value
            case 0x54:
                registers[target] &= value
            case 0x74:
                registers[target] >>= value
            case 0x55:
                at += offset if registers[target] != value else 0
            case 0x15:
                at += offset if registers[target] == value else 0
            case 0x95:
                return registers[0]
            case _:
                raise AssertionError(f"opcode {code:#x}")


def meant(rules: tuple[Rule, ...], access: int, kind: int, major: int, minor: int) -> int:
    """The definition: for each bit of the access, the last rule that matches it decides; none denies."""
    standard = {(CHARACTER, 1, minor) for minor in (3, 5, 7, 8, 9)} | {(CHARACTER, 5, 0), (CHARACTER, 5, 2)}
    for bit in LETTERS.values():
        if not access & bit:
            continue
        if bit == MKNOD or (kind, major, minor) in standard or (kind, major) == (CHARACTER, 136):
            continue
        allowed = False
        for rule in rules:
            if rule.kind in (0, kind) and rule.major in (-1, major) and rule.minor in (-1, minor) and rule.access & bit:
                allowed = rule.allow
        if not allowed:
            return 0
    return 1


def _covers(words: list[str], numbers: tuple[int, int]) -> bool:
    return all(word in ("*", str(number)) for word, number in zip(words, numbers, strict=True))


def run_v1(lines: list[tuple[str, str]], access: int, kind: int, major: int, minor: int) -> int:
    """What the kernel makes of v1's lines (security/device_cgroup.c): a default, and exceptions by exact numbers."""
    default, exceptions = True, dict[tuple[str, str], int]()
    for file, line in lines:
        if line == "a":
            default, exceptions = file == "allow", {}
            continue
        letter, numbers, letters = line.split()
        bits = sum(LETTERS[each] for each in letters)
        key = (letter, numbers)
        if (file == "allow") != default:
            exceptions[key] = exceptions.get(key, 0) | bits
        elif key in exceptions:
            exceptions[key] &= ~bits
    letter = "b" if kind == BLOCK else "c"
    found = [
        bits
        for (one, numbers), bits in exceptions.items()
        if one == letter
        and all(word in ("*", str(number)) for word, number in zip(numbers.split(":"), (major, minor), strict=True))
    ]
    if default:  # match_exception_partial: any overlap denies
        return int(not any(bits & access for bits in found))
    return int(any(not access & ~bits for bits in found))  # match_exception: one exception must grant all


@pytest.mark.parametrize(
    ("access", "kind", "major", "minor", "allowed"),
    [
        (READ, CHARACTER, 1, 3, 1),
        (READ | WRITE, CHARACTER, 5, 2, 1),
        (WRITE, CHARACTER, 136, 77, 1),
        (READ, CHARACTER, 1, 11, 0),
        (READ, BLOCK, 1, 3, 0),
        (READ, BLOCK, 254, 0, 0),
        (MKNOD, BLOCK, 254, 0, 1),
        (MKNOD | READ, CHARACTER, 1, 11, 0),
    ],
)
def test_the_usual_rules(access: int, kind: int, major: int, minor: int, allowed: int) -> None:
    assert run_bpf(devices.v2_program(), access, kind, major, minor) == allowed
    assert run_v1(devices.v1_lines(), access, kind, major, minor) == allowed
    assert meant(DENY_ALL, access, kind, major, minor) == allowed


numbers = st.sampled_from((-1, 1, 5, 8))
rules = st.lists(
    st.builds(
        Rule,
        allow=st.booleans(),
        kind=st.sampled_from((0, BLOCK, CHARACTER)),
        major=numbers,
        minor=numbers,
        access=st.integers(1, 7),
    ),
    max_size=6,
).map(tuple)
questions = st.tuples(
    st.integers(1, 7),
    st.sampled_from((BLOCK, CHARACTER)),
    st.sampled_from((1, 5, 8, 9, 136)),
    st.sampled_from((0, 1, 3, 8)),
)


@given(rules, questions)
def test_the_program_means_what_the_rules_mean(asked: tuple[Rule, ...], question: tuple[int, int, int, int]) -> None:
    assert run_bpf(devices.v2_program(asked), *question) == meant(asked, *question)


#: Of one bit, because v1 wants all bits of an access granted by one exception, and several may together grant them.
single = st.tuples(
    st.sampled_from((MKNOD, READ, WRITE)),
    *(st.sampled_from(values) for values in ((1, 2), (1, 5, 8, 9, 136), (0, 1, 3, 8))),
)


@given(rules, single)
def test_v1_lines_mean_what_the_rules_mean_or_are_refused(
    asked: tuple[Rule, ...], question: tuple[int, int, int, int]
) -> None:
    try:
        lines = devices.v1_lines(asked)
    except BundleError:
        return
    assert run_v1(lines, *question) == meant(asked, *question)


def test_v1_never_keeps_an_exception_silently() -> None:
    wide, narrow = Rule(allow=True, kind=BLOCK), Rule(allow=False, kind=BLOCK, major=8, minor=0)
    with pytest.raises(BundleError, match="one device out of a rule for many"):
        devices.v1_lines((*DENY_ALL, wide, narrow))


def test_all_allowed_is_one_line() -> None:
    assert devices.v1_lines((Rule(allow=True),)) == [("allow", "a")]


def test_a_program_ends_with_the_rule_for_everything() -> None:
    before, everything = Rule(allow=False, kind=BLOCK), Rule(allow=True)
    assert devices.v2_program((before, everything)) == devices.v2_program((everything,))


def parsed(*values: Any) -> tuple[Rule, ...]:
    return devices.parse(Reader({"devices": list(values)}, "linux.resources"))


def test_rules_as_engines_write_them() -> None:
    found = parsed(
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        {"allow": True, "type": "b", "access": "m"},
        {"allow": True, "type": "a", "major": -1, "minor": -1},
    )
    assert found == (
        Rule(allow=False),
        Rule(allow=True, kind=CHARACTER, major=10, minor=229, access=READ | WRITE),
        Rule(allow=True, kind=BLOCK, access=MKNOD),
        Rule(allow=True),
    )
    assert parsed() == ()


@pytest.mark.parametrize(
    ("rule", "where"),
    [
        ({"allow": True, "type": "x"}, "type"),
        ({"allow": True, "access": "x"}, "access"),
        ({"allow": True, "access": ""}, "access"),
        ({"allow": True, "major": -2}, "major"),
        ({"allow": True, "minor": 1 << 31}, "minor"),
        ({"type": "c"}, "allow"),
        ({"allow": "yes"}, "allow"),
        ("deny", "linux.resources.devices[0]"),
    ],
)
def test_bad_rules_are_refused_by_name(rule: Any, where: str) -> None:
    with pytest.raises(BundleError) as caught:
        parsed(rule)
    assert caught.value.where.endswith(where)
