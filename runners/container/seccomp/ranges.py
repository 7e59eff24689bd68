"""Makes a filter of system calls smaller: the same results, decided by ranges of numbers.

libseccomp compares a call's number with every number of a profile. But neighbouring numbers mostly have the same
result: docker's profile is 1237 instructions for three architectures, and by ranges a fraction of that. The kernel
translates the program for each container that starts, and keeps it as long as the container lives; so a smaller one
saves time and memory.

The program is run for numbers: its result can change only at a number that it compares with, so one run for each of
these is enough. A result is what the filter returns, or the first instruction that looks at an argument: from there on,
the code is copied as it is.

Sources: linux/filter.h, linux/seccomp.h (struct seccomp_data), linux/bpf_common.h. Classic BPF jumps forward only.
"""

from __future__ import annotations

import struct

# Load a word, and, jump, jump if equal / greater / greater or equal, return.
_LD, _AND, _JA, _JEQ, _JGT, _JGE, _RET = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x06
_CONDITIONAL = (_JEQ, _JGT, _JGE)
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data; arguments come after
_FAR = 255  # the longest conditional jump
_HIGHEST = 0xFFFFFFFF
#: Stands for an opcode while positions are not known: a jump to the copy of that old instruction.
_TO_COPY = -1

TYPE_CHECKING = False
if TYPE_CHECKING:
    #: opcode, distance if true, distance if false, constant
    Instruction = tuple[int, int, int, int]
    #: (first number, returned value or place, whether it is a value), valid up to the first number of the next one
    Range = tuple[int, int, bool]


def smaller(program: bytes) -> bytes:
    """A filter with the same results; *program* itself if it has instructions not known here, or gets no smaller."""
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    compared = _constants(code)
    if compared is None:
        return program
    numbers, architectures = compared
    edges = sorted({0, *numbers, *(each + 1 for each in numbers if each < _HIGHEST)})
    other = next(each for each in range(len(architectures) + 1) if each not in architectures)
    blocks = [_tree(_ranges(code, each, edges)) for each in (*sorted(architectures), other)]
    made = _assemble(code, sorted(architectures), [each for each in blocks if each is not None])
    return made if None not in blocks and len(made) < len(program) else program


def _constants(code: list[Instruction]) -> tuple[set[int], set[int]] | None:
    """The numbers and the architectures that *code* compares with before it looks at arguments; None if unknown."""
    found: dict[int, set[int]] = {_NUMBER: set(), _ARCHITECTURE: set()}
    open_, seen = [(0, -1)], set()
    while open_:
        at, loaded = open_.pop()
        if (at, loaded) in seen:
            continue
        seen.add((at, loaded))
        operation, true, false, constant = code[at]
        if operation == _LD:
            if constant in found:
                open_.append((at + 1, constant))
        elif operation == _JA:
            open_.append((at + 1 + constant, loaded))
        elif operation in _CONDITIONAL and loaded in found:
            found[loaded].add(constant)
            open_ += [(at + 1 + true, loaded), (at + 1 + false, loaded)]
        elif operation != _RET:
            return None
    return found[_NUMBER], found[_ARCHITECTURE]


def _ranges(code: list[Instruction], architecture: int, edges: list[int]) -> list[Range]:
    """The results for all numbers of *architecture*, in order; neighbours differ."""
    found: list[Range] = []
    for edge in edges:
        outcome = _try(code, architecture, edge)
        if not found or found[-1][1:] != outcome:
            found.append((edge, *outcome))
    return found


def _try(code: list[Instruction], architecture: int, number: int) -> tuple[int, bool]:
    at = value = 0
    while True:
        operation, true, false, constant = code[at]
        if operation == _RET:
            return constant, True
        if operation == _LD:
            if constant not in (_NUMBER, _ARCHITECTURE):
                return at, False
            value = number if constant == _NUMBER else architecture
            at += 1
        elif operation == _JA:
            at += 1 + constant
        else:
            holds = value == constant if operation == _JEQ else value > constant - (operation == _JGE)
            at += 1 + (true if holds else false)


def _tree(ranges: list[Range]) -> list[Instruction] | None:
    """Code that finds the range of the loaded number by bisection; None if a jump would be too long."""
    ends = list(dict.fromkeys(each[1:] for each in ranges))  # the results, each once, at the end
    nodes: list[tuple[int, int, int, int]] = []

    def grow(low: int, high: int) -> int:
        """The position of the code that decides between ranges *low* to *high*; results count from -1 downwards."""
        if high - low == 1:
            return -1 - ends.index(ranges[low][1:])
        at, middle = len(nodes), (low + high) // 2
        nodes.append((0, 0, 0, 0))
        below, above = grow(low, middle), grow(middle, high)
        nodes[at] = (_JGE, above, below, ranges[middle][0])
        return at

    grow(0, len(ranges))
    if len(nodes) + len(ends) > _FAR:
        return None
    made: list[Instruction] = []
    for operation, *targets, first in nodes:
        above, below = ((each if each >= 0 else len(nodes) - 1 - each) - len(made) - 1 for each in targets)
        made.append((operation, above, below, first))
    return made + [(_RET if final else _TO_COPY, 0, 0, outcome) for outcome, final in ends]


def _assemble(code: list[Instruction], architectures: list[int], blocks: list[list[Instruction]]) -> bytes:
    """The whole program: a switch by architecture, a block for each, the last for all others, and the copied rest."""
    made: list[Instruction] = [(_LD, 0, 0, _ARCHITECTURE)]
    # Two instructions for each architecture; then the blocks, each after a load, that of all others first.
    start = 1 + 2 * len(architectures) + 1 + len(blocks[-1])
    for architecture, block in zip(architectures, blocks, strict=False):
        made.append((_JEQ, 0, 1, architecture))
        made.append((_JA, 0, 0, start - len(made) - 1))
        start += 1 + len(block)
    for block in (blocks[-1], *blocks[:-1]):
        made += [(_LD, 0, 0, _NUMBER), *block]
    kept = _reachable(code, {each[3] for each in made if each[0] == _TO_COPY})
    places = {old: len(made) + new for new, old in enumerate(kept)}
    made = [(_JA, 0, 0, places[each[3]] - at - 1) if each[0] == _TO_COPY else each for at, each in enumerate(made)]
    for old in kept:
        operation, true, false, constant = code[old]
        here = places[old] + 1
        if operation in _CONDITIONAL:
            true, false = places[old + 1 + true] - here, places[old + 1 + false] - here
        elif operation == _JA:
            constant = places[old + 1 + constant] - here
        made.append((operation, true, false, constant))
    return b"".join(struct.pack("=HBBI", *each) for each in made)


def _reachable(code: list[Instruction], starts: set[int]) -> list[int]:
    """The instructions that can follow *starts*, in order."""
    open_, seen = list(starts), set[int]()
    while open_:
        at = open_.pop()
        if at in seen:
            continue
        seen.add(at)
        operation, true, false, constant = code[at]
        if operation in _CONDITIONAL:
            open_ += [at + 1 + true, at + 1 + false]
        elif operation != _RET:
            open_.append(at + 1 + (constant if operation == _JA else 0))
    return sorted(seen)
