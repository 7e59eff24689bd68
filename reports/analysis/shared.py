"""The answer where some instances share a machine: as many on the host, in one machine, and in several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tare.reports import words
from tare.reports.analysis import lead
from tare.reports.analysis.figures import SubjectFigures
from tare.reports.analysis.model import Bar, Lead
from tare.runners import layers

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def shares(subject: SubjectFigures) -> bool:
    """Whether it runs in a machine in which there can be others beside it."""
    return layers.own_kernel(subject.layers) and not layers.whole_guest(subject.layers)


def answer(n: int, what: str, bars: Sequence[Bar], subjects: Iterable[SubjectFigures], unit: str) -> Lead:
    """*n* containers, or instances, *what* (``take {}``): a figure for the host and for each number of machines.

    *bars* have the *unit*, the least first. The grounds are their intervals; what emulation means stands there, too.
    """
    by_label = {subject.label: subject for subject in subjects}
    where = {bar.subject: at for bar in bars if (at := _where(by_label[bar.subject], n)) is not None}
    often = Counter(where.values())
    # Two that stand at the same place differ by something else, which only their labels say.
    said = [
        f"{bar.shown} {at if at and often[at] == 1 else f'as {bar.subject}'}"
        for bar in bars
        if (at := where.get(bar.subject)) is not None
    ]
    ends = [
        f"{bar.subject} {words.interval(bar.low, bar.high, unit)}"
        for bar in bars
        if bar.subject in where and bar.low is not None
    ]
    grounds = [f"95 % CI: {', '.join(ends)}." if ends else "These are too few rounds for intervals."]
    if any(bar.emulated for bar in bars):
        grounds += lead.emulation(["Each machine"])
    noun = "containers" if all(where.values()) else "instances"
    return Lead(
        sentence=f"{_number(n).capitalize()} {noun} {what.format(_all(said))}.",
        grounds=" ".join(grounds),
        unit=unit,
        bars=lead.ordered(bars, where),
    )


def _where(subject: SubjectFigures, n: int) -> str | None:
    """``on this host``, ``in two emulated VMs``; None for what has no wall, and is no answer.

    Nothing for a machine without a container in it: that is no place of one.
    """
    if not layers.isolated(subject.layers):
        return None
    if layers.whole_guest(subject.layers):
        return ""
    if not layers.own_kernel(subject.layers):
        return "on this host"
    machines = -(-n // layers.places(subject.facts))
    mark = "emulated " if subject.result_class == "emulated" else ""
    return f"in {_number(machines)} {mark}{'VM' if machines == 1 else 'VMs'}"


def _all(said: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(said[:-1]), said[-1])))


def _number(n: int) -> str:
    return _NUMBERS[n] if n < len(_NUMBERS) else words.number(n)
