"""The layers under a workload, with what was measured on each: a process, a container, a virtual machine.

Only what the run measured is drawn; the host's kernel and hardware are drawn once, below all, because they are shared.
Which layer a phase belongs to follows from the marks: between two marks, that layer was built.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from tare.reports import words
from tare.reports.analysis.figures import Class, SubjectFigures
from tare.reports.analysis.model import Report
from tare.reports.analysis.phases import WHOLE, between
from tare.reports.analysis.subjects import ordered
from tare.reports.page.figures import Axis, Length, Measured
from tare.runners.base import Layers
from tare.runners.layers import CONTAINER, SANDBOX, VM, family, is_null, own_kernel, whole_guest

_TITLES = {"container": "container", "sandbox": "sandbox", "vm": "virtual machine"}
#: What is built for a layer, from the inside out: name, style, text.
_PARTS: dict[str, tuple[tuple[str, str, str], ...]] = {
    CONTAINER: (("runtime", "walls", "namespaces, cgroup, root, capabilities"),),
    SANDBOX: (("sandbox", "walls", "a kernel of its own in user space answers the system calls"),),
    VM: (
        ("guest kernel", "kernel", "firmware, kernel, init"),
        ("VMM (QEMU)", "walls", "virtual processor, memory, devices"),
    ),
}

#: What is built for a machine whose kernel is a program.
_USER_MODE = (
    ("guest kernel", "kernel", "kernel, init"),
    ("kernel as a program", "walls", "a file as its memory; it traces its processes (ptrace)"),
)

_FORK, _BOOT, _WORK = "requested to created", "created to first instruction", "first instruction to ready"
_MEANINGS = {_FORK: "request to created", "": "part of created to first instruction"}
_EARLY = "part of request to created"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer, from the workload down; ``meaning`` says between which marks it was built."""

    name: str
    text: str
    meaning: str
    figures: tuple[Measured, ...]
    emulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What holds for these subjects of a stack: their walls, or the part of the grant that is not enforced."""

    subjects: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """All layers above the host's kernel: those inside the walls, and what builds them, beneath."""

    family: str
    title: str
    emulated: bool
    inside: tuple[Layer, ...]
    beneath: tuple[Layer, ...]
    walls: tuple[Note, ...]
    unlimited: tuple[Note, ...]


def stacks(report: Report) -> tuple[Stack, ...]:
    """One stack for each combination of layers and class of result that was measured."""
    measured = [subject for subject in report.subjects if not subject.skipped and not is_null(subject.runner)]
    found = []
    for mine in sorted({subject.layers for subject in measured}, key=lambda layers: (len(layers), layers)):
        for of_class in get_args(Class):
            here = [s for s in measured if s.layers == mine and s.result_class == of_class]
            if here:
                found.append(_stack(mine, here, of_class))
    return tuple(found)


def _stack(layers: Layers, subjects: Sequence[SubjectFigures], of_class: Class) -> Stack:
    *inside, beneath = _drawn(layers, subjects, of_class)
    title = " in a ".join(_TITLES.get(word, word) for word in reversed(layers)) or "process"
    if of_class == "user-mode":
        title += ", user-mode Linux"
    return Stack(
        family=family(subjects[0].runner, layers),
        title=title[:1].upper() + title[1:],
        emulated=of_class == "emulated",
        inside=tuple(inside),
        beneath=(beneath,),
        walls=_notes(subjects, "walls"),
        unlimited=_notes(subjects, "unlimited"),
    )


def _drawn(layers: Layers, subjects: Sequence[SubjectFigures], of_class: Class) -> Iterator[Layer]:
    """From the workload outwards. What comes after *created* is drawn on the last but one, the request on the last.

    In a machine that serves several, it is drawn on what is built in the machine: that one is there when it is created.
    A workload of somebody's own does not say when it begins: what comes after *created* is drawn on it.
    """
    own = all(subject.workload is not None for subject in subjects)
    if own:
        text = "the guest's kernel starts, and then the command" if own_kernel(layers) else "the command"
        yield _layer("workload", text, subjects, WHOLE)
    else:
        yield _layer("workload", "the payload", subjects, _WORK)
    known = {**_PARTS, VM: _USER_MODE} if of_class == "user-mode" else _PARTS
    parts = [part for word in reversed(layers) for part in known.get(word, ((word, "walls", ""),))]
    if not parts:
        parts = [("fork", "runtime", "no isolation is made")]
    if parts[0][0] != "guest kernel" and not own:  # which loads the program as its init
        within = "the program is loaded inside the isolation" if layers else "the program is loaded"
        parts.insert(0, ("exec", "runtime", within))
    built = -len(known[VM]) if own_kernel(layers) and not whole_guest(layers) else -1
    for place, (name, style, text) in enumerate(parts, start=1 - len(parts)):
        hatched = of_class == "emulated" and style == "kernel"
        words = text + (", on a processor emulated in software" if hatched else "")
        phase = {0: _FORK, built: "" if own else _BOOT}.get(place, "")
        yield _layer(name, words, subjects, phase, hatched=hatched, early=place > built)


def _layer(
    name: str, text: str, subjects: Sequence[SubjectFigures], phase: str, *, hatched: bool = False, early: bool = False
) -> Layer:
    figures = tuple(_phase(subjects, phase)) if phase else ()
    meaning = _EARLY if early and not phase else _MEANINGS.get(phase, phase)
    return Layer(name=name, text=text, meaning=meaning, figures=figures, emulated=hatched)


def _phase(subjects: Sequence[SubjectFigures], name: str) -> Iterator[Measured]:
    for subject in subjects:
        if (found := between(subject.phases, name)) is not None:
            duration, share = found
            yield Measured(label=subject.label, shown=words.phase(duration), share=share)


def memory(report: Report) -> tuple[tuple[Length, ...], Axis]:
    """Memory when ready, on one linear scale from nothing to the most; a bar for each subject that has a figure."""
    shown = [subject for group in ordered(report.subjects) for subject in group if not is_null(subject.runner)]
    found = [(subject, subject.figure("pss_bytes").median) for subject in shown]
    values = [(subject, value) for subject, value in found if value is not None]
    most = max((value for _, value in values), default=0.0) or 1.0
    bars = tuple(
        Length(subject=subject, value=value, shown=words.quantity(value, "bytes"), share=value / most)
        for subject, value in values
    )
    ticks = tuple(words.quantity(most * part, "bytes") for part in (0.5, 1.0))
    return bars, Axis(ticks=ticks, title="memory when ready (PSS), linear scale")


def _notes(subjects: Sequence[SubjectFigures], field: str) -> tuple[Note, ...]:
    """The lists of *field*, one note for all subjects that share one."""
    shared: dict[tuple[str, ...], list[str]] = {}
    for subject in subjects:
        shared.setdefault(getattr(subject, field), []).append(subject.label)
    alone = len(shared) == 1
    return tuple(
        Note(subjects="" if alone else ", ".join(labels), items=items)
        for items, labels in shared.items()
        if items or field == "walls"
    )
