"""As many instances on the host's kernel, in machines that several share, and in a machine each: what they take.

A marginal cost does not say it: one more container costs little until its machine is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tare.bench.stats.verdict import LEAST_CHANGE
from tare.reports import words
from tare.reports.analysis import lead, shared
from tare.reports.analysis.figures import SubjectFigures
from tare.reports.analysis.model import Bar, Claim, Lead
from tare.reports.sections.ramp.memory import ledger
from tare.reports.sections.ramp.memory.model import MARGIN, LedgerRow

TRANSLATED = "under TCG, QEMU also needs a cache of translated code, which an accelerated machine does not need"


class Together(NamedTuple):
    """The rows of the ledger at ``n`` instances, the least memory first; two of them at least."""

    n: int
    rows: Sequence[LedgerRow]


def find(subjects: Sequence[SubjectFigures], rows: Sequence[LedgerRow]) -> Together | None:
    """Those at the largest number that one which shares machines and another one have; None where there is none."""
    sharing = {one.label for one in subjects if shared.shares(one)}
    counts: dict[int, list[LedgerRow]] = {}
    for row in rows:
        if row.balanced and row.refused is None:
            counts.setdefault(row.n, []).append(row)
    found = [n for n, some in counts.items() if len(some) > 1 and {row.subject for row in some} & sharing]
    return Together(max(found), sorted(counts[max(found)], key=lambda row: row.host_change_bytes)) if found else None


def claim(subjects: Sequence[SubjectFigures], found: Together) -> Claim:
    """All of them, by their labels."""
    emulated = {subject.label for subject in subjects if subject.result_class == "emulated"}
    said = [f"{words.size(row.host_change_bytes)} as {row.subject}" for row in found.rows]
    marked = sorted({row.subject for row in found.rows} & emulated)
    mark = f" ({', '.join(marked)}: {words.EMULATED}; {TRANSLATED})" if marked else ""
    return Claim(
        lead=f"{found.n} instances take {', '.join(said[:-1])} and {said[-1]}",
        detail=f"{_measured(found)}{_of_instances(found.rows)}{mark}.",
        subject="",
        verdict="no difference shown",
        emulated=bool(marked),
    )


def answer(subjects: Sequence[SubjectFigures], found: Together) -> Lead:
    """What they take on the host, and in machines."""
    by_label = {subject.label: subject for subject in subjects}
    bars = [
        Bar(
            subject=row.subject,
            value=row.host_change_bytes,
            shown=words.size(row.host_change_bytes),
            low=row.host_change_low,
            high=row.host_change_high,
            family=lead.family(by_label[row.subject]),
            emulated=by_label[row.subject].result_class == "emulated",
        )
        for row in found.rows
    ]
    said = shared.answer(found.n, "take {}", bars, subjects, MARGIN.unit)
    return msgspec.structs.replace(said, title=f"Memory of the host with {found.n} alive")


def _measured(found: Together) -> str:
    ends = [
        f"{row.subject} {words.interval(row.host_change_low, row.host_change_high, 'bytes')}"
        for row in found.rows
        if row.host_change_low is not None
    ]
    grounds = f"95 % CI: {', '.join(ends)}; " if ends else ""
    fewest = min(row.rounds for row in found.rows)
    return f"Memory of the host with {found.n} alive, {grounds}{words.plural(fewest, 'round')}"


def _of_instances(rows: Sequence[LedgerRow]) -> str:
    """The same without the anonymous memory of other processes, where that makes a difference."""
    theirs = [row.parts.get(ledger.OTHERS, 0.0) for row in rows]
    if all(abs(more) < LEAST_CHANGE * abs(row.host_change_bytes) for more, row in zip(theirs, rows, strict=True)):
        return ""
    own = [words.size(row.host_change_bytes - more) for more, row in zip(theirs, rows, strict=True)]
    return f"; without the memory of other processes of the host, {', '.join(own[:-1])} and {own[-1]}"
