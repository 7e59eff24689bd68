"""Memory as the payload sees it: a container the host's, a guest its grant less what its own kernel keeps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from statistics import median

import pandas as pd

from tare.bench.records.header import SubjectRecord
from tare.bench.records.metrics import show
from tare.reports import words
from tare.reports.sections.ramp.memory.model import Inside
from tare.reports.sections.ramp.ramps import Ramps
from tare.runners import layers

#: What a guest's kernel has of the memory that it manages: our field -> words.
KERNEL = {
    "slab_bytes": "slab",
    "page_tables_bytes": "page tables",
    "kernel_stack_bytes": "stacks",
    "percpu_bytes": "per-processor data",
}
_FIELDS = (
    "total_bytes", "free_bytes", "available_bytes", "cached_bytes", "slab_bytes", "page_tables_bytes",
    "kernel_stack_bytes", "anon_bytes", "percpu_bytes",
)  # fmt: skip


def inside(read: Ramps, subjects: Sequence[SubjectRecord]) -> Iterator[Inside]:
    """One row for each subject whose payload told what it sees."""
    for subject in subjects:
        mine = read.inside[read.inside.index.get_level_values("subject") == subject.label]
        if not mine.empty and "inside_total_bytes" in mine.columns:
            yield _row(subject, mine, _host_total(read, subject.label))


def kernel_bytes(row: Inside) -> float:
    """What a guest's kernel has, kept from the start and taken since; page cache is not its own."""
    return (row.kept_bytes or 0.0) + row.slab_bytes + row.page_tables_bytes + row.kernel_stack_bytes + row.percpu_bytes


def _row(subject: SubjectRecord, mine: pd.DataFrame, host_total: float) -> Inside:
    # The median over rounds of the medians within a round: rounds are what is replicated.
    middle = mine.groupby(level="round").median().median()
    values = {field: float(middle.get(f"inside_{field}", 0.0)) for field in _FIELDS}
    host_view = values["total_bytes"] == host_total
    kept = subject.memory_bytes - values["total_bytes"] if layers.whole_guest(subject.layers) else None
    shared = layers.own_kernel(subject.layers) and kept is None
    margin = _margin_bytes(mine["inside_available_bytes"].dropna(), subject) if shared else None
    sentence = _of_machine(subject, values, margin) if shared else _sentence(subject, values, kept, host_view=host_view)
    return Inside(
        subject=subject.label,
        kind=layers.name(subject.layers),
        layers=subject.layers,
        n=int(mine.index.get_level_values("n").max()),
        grant_bytes=subject.memory_bytes,
        host_view=host_view,
        kept_bytes=kept,
        instances=len(mine),
        rounds=mine.index.get_level_values("round").nunique(),
        sentence=sentence,
        emulated=subject.accelerator == "tcg",
        whose="host" if host_view else "guest" if kept is not None else "machine" if shared else "own",
        margin_bytes=margin,
        **values,
    )


def _margin_bytes(available: pd.Series[float], subject: SubjectRecord) -> float | None:
    """What one more container takes of its machine's available memory, as each one told it when it was ready.

    The median slope (Theil and Sen) between any two in one machine, and of those the median over rounds.
    """
    places = layers.places(subject.facts)
    found = []
    for _, told in available.groupby(level="round"):
        read = zip(told.index.get_level_values("n"), told, strict=True)
        pairs = itertools.combinations(sorted((int(n), float(left)) for n, left in read), 2)
        slopes = [(x - y) / (n - m) for (m, x), (n, y) in pairs if n > m and (m - 1) // places == (n - 1) // places]
        if slopes:
            found.append(median(slopes))
    return median(found) if found else None


def _of_machine(subject: SubjectRecord, values: dict[str, float], margin: float | None) -> str:
    """The sentence about one that shares a machine with others."""
    mark = f" ({words.EMULATED})" if subject.accelerator == "tcg" else ""
    said = (
        f"{subject.label} sees the {show(values['total_bytes'], 'bytes')} of its machine, which all containers in it "
        f"share, and not its grant of {show(subject.memory_bytes, 'bytes')}: {_uses(values)}{mark}."
    )
    if margin is None:
        return said
    return (
        f"{said} By the account of that kernel, one more container takes {show(margin, 'bytes')} of the machine's "
        "memory. The host counts otherwise: memory that the machine has used once stays with it, also when its kernel "
        "has it free again, and the host adds what the emulator itself needs."
    )


def _uses(values: dict[str, float]) -> str:
    own = ", ".join(f"{word} {show(values[field], 'bytes')}" for field, word in KERNEL.items() if values[field])
    return f"its kernel uses {own}"


def _sentence(subject: SubjectRecord, values: dict[str, float], kept: float | None, *, host_view: bool) -> str:
    total, grant = show(values["total_bytes"], "bytes"), show(subject.memory_bytes, "bytes")
    if kept is not None:
        own = ", ".join(f"{word} {show(values[field], 'bytes')}" for field, word in KERNEL.items() if values[field])
        mark = f" ({words.EMULATED})" if subject.accelerator == "tcg" else ""
        return (
            f"{subject.label} sees {total} of its grant of {grant}: its own kernel keeps "
            f"{show(kept, 'bytes')} before any program runs, and also uses {own}{mark}."
        )
    if host_view:
        return (
            f"{subject.label} sees the host's {total}, and not its grant ({grant}): all share one kernel, so slab, "
            "page tables and page cache are those of the whole host."
        )
    return f"{subject.label} sees {total}, which is neither the host's memory nor a guest's."


def _host_total(read: Ramps, subject: str) -> float:
    mine = read.host[read.host.index.get_level_values("subject") == subject]
    return float(mine["host_total_bytes"].median()) if "host_total_bytes" in mine.columns else 0.0
