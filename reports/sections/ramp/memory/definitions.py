"""What one more instance takes, by the counters that people use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tare.reports.analysis.definitions import counted, quantity
from tare.reports.analysis.figures import SubjectFigures
from tare.reports.analysis.model import Counted, Definition, OneQuantity
from tare.reports.sections.ramp.memory import ledger, slopes
from tare.reports.sections.ramp.memory.model import FIRST, MARGIN, Constancy, CounterLine, LedgerRow

#: Counter -> what it counts.
_TEXTS: Mapping[str, str] = {
    "rss": "what its processes have in memory; a page that ten of them map counts ten times",
    "pss": "the same, but a page that ten map counts a tenth in each",
    "uss": "pages that no other process maps",
    "cgroup": "what its memory cgroup is charged with; page cache counts where it was touched first",
    ledger.FREE: "what is no longer free on the host, whoever took it",
    ledger.AVAILABLE: "what new work could no longer get, by the kernel; what it can take back counts as available",
}


def definitions(
    subjects: Sequence[SubjectFigures],
    fits: Sequence[CounterLine],
    rows: tuple[LedgerRow, ...],
    constancy: Iterable[Constancy] = (),
) -> tuple[OneQuantity, ...]:
    """The memory of one more instance; nothing where no line was fitted."""
    late = {one.subject: one.late_bytes for one in constancy}
    return quantity("the memory of one more instance", "bytes", _definitions(subjects, fits, rows, late))


def _definitions(
    subjects: Sequence[SubjectFigures],
    fits: Sequence[CounterLine],
    rows: tuple[LedgerRow, ...],
    late: Mapping[str, float],
) -> Iterator[Definition]:
    margins = {one.label: one.figure(MARGIN.name) for one in subjects}
    claimed = {label: counted(label, figure) for label, figure in margins.items() if figure.median is not None}
    lines = {(line.subject, line.counter): line for line in fits}
    labels = [one.label for one in subjects if (one.label, ledger.HOST) in lines]
    largest = {label: row for label in labels if (row := ledger.largest(rows, label)) is not None}
    yield Definition(
        name="marginal cost, by the ledger",
        text="what the host has less of for one more instance, its kernel's memory included: the slope of a line",
        ours=True,
        # Without a number where its ledger does not balance, or nothing can be seen of it.
        numbers=tuple(
            _line(lines[label, ledger.HOST]) if label in claimed else Counted(subject=label, value=None)
            for label in labels
        ),
    )
    yield Definition(
        name="the same, without other processes",
        text="less what programs took meanwhile that belong to no instance",
        numbers=tuple(_line(lines[label, slopes.OWN]) for label in claimed if (label, slopes.OWN) in lines),
    )
    yield Definition(
        name="the same at large counts, without page cache",
        text="from a fifth of the largest count on, less other programs and files that the kernel keeps in memory",
        numbers=tuple(Counted(subject=label, value=late[label]) for label in claimed if label in late),
    )
    yield Definition(
        name="the same, without its helper or daemon",
        text="less what the program that serves all instances grew by, for each of them",
        numbers=tuple(
            Counted(subject=label, value=lines[label, ledger.HOST].b - served / largest[label].n)
            for label in labels
            if label in claimed and label in largest and (served := _served(largest[label])) is not None
        ),
    )
    firsts = [(one.label, one.figure(FIRST.name)) for one in subjects]
    yield Definition(
        name="the first instance",
        text="with all that is paid once",
        numbers=tuple(counted(label, figure) for label, figure in firsts if figure.median is not None),
    )
    yield Definition(
        name="total divided by the count",
        text="at the largest count; what is paid once is spread over all",
        numbers=tuple(
            Counted(subject=label, value=row.host_change_bytes / row.n)
            for label, row in largest.items()
            if row.balanced
        ),
    )
    for counter, title in slopes.COUNTERS.items():
        yield Definition(
            name=title,
            text=_TEXTS[counter],
            # Every ramp reads all of them; a cgroup is not there for each subject.
            numbers=tuple(_line(lines[label, counter]) for label in labels if (label, counter) in lines),
        )


def _line(line: CounterLine) -> Counted:
    return Counted(subject=line.subject, value=line.b, low=line.b_low, high=line.b_high)


def _served(row: LedgerRow) -> float | None:
    """What programs that serve all instances grew by; None where there is none."""
    served = [program.bytes for program in row.programs if program.serves]
    return sum(served) if served else None
