"""The stacks of layers under a workload, with what was measured on each: a process, a container, a virtual machine.

Only kinds that the run measured are drawn; the host's kernel and hardware are drawn once, below all, because they are
shared. Which layer a phase belongs to follows from the marks: between two marks, that layer was built.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tare.reports import words
from tare.reports.analysis.model import Phase, Report, SubjectFigures

_TITLES = {"process": "Process", "container": "Container", "vm": "Virtual machine"}

_FORK, _BOOT, _WORK = "requested to created", "created to first instruction", "first instruction to ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A number on a layer, and whose it is."""

    subject: str
    value: str
    emulated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer, from the workload down; ``style`` chooses how it looks: workload, runtime, kernel, vmm."""

    name: str
    style: str
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
    """All layers of one kind above the host's kernel: those inside the walls, and what builds them, beneath."""

    kind: str
    title: str
    emulated: bool
    inside: tuple[Layer, ...]
    beneath: tuple[Layer, ...]
    memory: tuple[Measured, ...]
    walls: tuple[Note, ...]
    unlimited: tuple[Note, ...]


def stacks(report: Report) -> tuple[Stack, ...]:
    """One stack for each kind that was measured, emulated machines apart from accelerated ones."""
    found = []
    for kind in ("process", "container", "vm"):
        for emulated in (False, True):
            mine = [
                subject
                for subject in report.subjects
                if subject.kind == kind and not subject.skipped and (subject.result_class == "emulated") is emulated
            ]
            if mine:
                found.append(_stack(kind, mine, emulated=emulated))
    return tuple(found)


def _stack(kind: str, subjects: Sequence[SubjectFigures], *, emulated: bool) -> Stack:
    *inside, beneath = _layers(kind, subjects, emulated=emulated)
    return Stack(
        kind=kind,
        title=_TITLES[kind],
        emulated=emulated,
        inside=tuple(inside),
        beneath=(beneath,),
        memory=tuple(_memory(subjects)),
        walls=_notes(subjects, "walls"),
        unlimited=_notes(subjects, "unlimited"),
    )


def _layers(kind: str, subjects: Sequence[SubjectFigures], *, emulated: bool) -> Iterator[Layer]:
    def layer(name: str, style: str, text: str, phase: str, meaning: str, *, hatched: bool = False) -> Layer:
        figures = tuple(_phase(subjects, phase)) if phase else ()
        return Layer(name=name, style=style, text=text, meaning=meaning, figures=figures, emulated=hatched)

    yield layer("workload", "workload", "the payload", _WORK, "first instruction to ready")
    match kind:
        case "process":
            yield layer("exec", "runtime", "the program is loaded", _BOOT, "created to first instruction")
            yield layer("fork", "runtime", "no wall is built", _FORK, "request to created")
        case "container":
            text = "the program is loaded within the walls"
            yield layer("exec", "runtime", text, _BOOT, "created to first instruction")
            yield layer("runtime", "walls", "namespaces, cgroup, root, capabilities", _FORK, "request to created")
        case "vm":
            text = "firmware, kernel, init" + (", on a processor emulated in software" if emulated else "")
            yield layer("guest kernel", "kernel", text, _BOOT, "created to first instruction", hatched=emulated)
            yield layer("VMM (QEMU)", "walls", "virtual processor, memory, devices", _FORK, "request to created")


def _phase(subjects: Sequence[SubjectFigures], name: str) -> Iterator[Measured]:
    for subject in subjects:
        found: Phase | None = next((phase for phase in subject.phases if phase.name == name), None)
        if found is not None:
            yield _measured(subject, words.phase(found.duration))


def _memory(subjects: Sequence[SubjectFigures]) -> Iterator[Measured]:
    for subject in subjects:
        figure = next(figure for figure in subject.figures if figure.metric == "pss_bytes")
        if figure.median is not None:
            yield _measured(subject, words.quantity(figure.median, "bytes"))


def _measured(subject: SubjectFigures, value: str) -> Measured:
    return Measured(subject=subject.label, value=value, emulated=subject.result_class == "emulated")


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
