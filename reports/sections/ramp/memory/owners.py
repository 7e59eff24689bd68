"""Who owns which bytes of one instance, from the ledger: the payload, what runs it, the host's kernel, a guest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from msgspec.structs import replace

from tare.bench.records.header import SubjectRecord
from tare.bench.stats import medians
from tare.bench.stats.medians import Floats
from tare.reports import words
from tare.reports.sections.ramp.memory import guest_view as within
from tare.reports.sections.ramp.memory import ledger
from tare.reports.sections.ramp.memory.model import Inside, LedgerRow, MemoryLayers, Owner, Released
from tare.reports.sections.ramp.ramps import Program
from tare.runners import layers

PAYLOAD = "payload"
_PAYLOAD = Program(PAYLOAD, "")
_BALLOON = "balloon"
_KERNEL = ("slab_reclaimable", "slab_unreclaimable", "page_tables", "kernel_stacks", "percpu", "vmalloc")


def stacks(
    rows: Sequence[LedgerRow], subjects: Sequence[SubjectRecord], views: Sequence[Inside] = ()
) -> Iterator[MemoryLayers]:
    """One stack for each subject that balances at its largest number of instances; *views* open its guest memory."""
    seen = {view.subject: view for view in views}
    for subject in subjects:
        row = ledger.largest(tuple(rows), subject.label)
        if row is None or not row.balanced:
            continue
        owners = _shared(_owners(subject, row, row.guest_ram_bytes / row.n, seen.get(subject.label)))
        yield MemoryLayers(
            subject=subject.label,
            kind=layers.name(subject.layers),
            layers=subject.layers,
            n=row.n,
            total_bytes=row.host_change_bytes / row.n,
            kernels=2 if layers.own_kernel(subject.layers) else 1,
            owners=owners,
            emulated=subject.accelerator == "tcg",
        )


def _shared(owners: Iterable[Owner]) -> tuple[Owner, ...]:
    """Each with its share. What shrank has none: shares are parts of what was taken."""
    found = tuple(owners)
    total = sum(max(0.0, one.bytes) for one in found)
    return tuple(replace(one, share=max(0.0, one.bytes) / total if total else 0.0) for one in found)


def _owners(subject: SubjectRecord, row: LedgerRow, guest: float, view: Inside | None) -> Iterator[Owner]:
    each = {part: value / row.n for part, value in row.parts.items()}
    anonymous = {Program(one.role, one.serves): one.bytes / row.n for one in row.programs}
    others = each.get(ledger.OTHERS, 0.0)
    shared = each.get("shared_memory", 0.0)
    if layers.own_kernel(subject.layers):
        # Guest memory is anonymous, or a memfd where the machine was given shared memory.
        if guest > sum(anonymous.values()):
            shared -= guest
        elif anonymous:
            largest = max(anonymous, key=lambda program: anonymous[program])
            anonymous[largest] -= guest
        yield from _guest(guest, view, reported=subject.options.get(_BALLOON) == "free-page-reporting")
        text = (
            "devices, buffers, and the cache of translated code" if subject.accelerator == "tcg" else "devices, buffers"
        )
        for program, value in anonymous.items():
            yield Owner(name=str(program), place="runtime", bytes=value, text=text)
    else:
        yield Owner(name=PAYLOAD, place="inside", bytes=anonymous.pop(_PAYLOAD, 0.0), text="its stack, heap and data")
        for program, value in anonymous.items():
            text = "one for all instances" if program.serves else "one for each instance"
            yield Owner(name=str(program), place="runtime", bytes=value, text=text)
    cache = each.get("page_cache", 0.0) + shared
    yield Owner(name="page cache", place="kernel", bytes=cache, text="files, shared by all that map them")
    yield Owner(
        name="host kernel",
        place="kernel",
        bytes=sum(each.get(part, 0.0) for part in _KERNEL),
        text="; ".join(
            f"{ledger.title(part)} {words.size(each.get(part, 0.0))}" for part in _KERNEL if _shows(each, part)
        ),
    )
    if split := each.get(ledger.PARTLY_UNMAPPED, 0.0):
        text = "the rest of huge pages of which a part was given back; the host frees it when it is short of memory"
        yield Owner(name=ledger.title(ledger.PARTLY_UNMAPPED), place="kernel", bytes=split, text=text)
    left = others + each.get("huge_pages", 0.0) + row.residual_bytes / row.n
    yield Owner(name="other processes, residual", place="unknown", bytes=left)


def _guest(guest: float, view: Inside | None, *, reported: bool) -> Iterator[Owner]:
    """Guest memory: as a whole where it was not read from inside, else what the guest's own kernel says of it.

    *reported*: the guest tells the host of memory that is free.
    """
    if view is None or view.kept_bytes is None:
        text = "a kernel of its own, its caches, and the payload"
        yield Owner(name="guest memory", place="inside", bytes=guest, text=text)
        return
    kernel = within.kernel_bytes(view)
    yield Owner(name=PAYLOAD, place="inside", bytes=view.anon_bytes, text="anonymous memory, as the guest counts it")
    yield Owner(
        name="guest page cache", place="guest", bytes=view.cached_bytes, text="files, including the root filesystem"
    )
    own = "; ".join(
        f"{word} {words.size(getattr(view, field))}" for field, word in within.KERNEL.items() if getattr(view, field)
    )
    text = f"taken before any program runs {words.size(view.kept_bytes)}; {own}"
    yield Owner(name="guest kernel", place="guest", bytes=kernel, text=text)
    left = guest - kernel - view.cached_bytes - view.anon_bytes
    known = "not reported to the host" if reported else "the host does not know this"
    text = f"used once, and free again in the guest: {known}" if left >= 0 else "granted, and never touched"
    yield Owner(name="guest memory, the rest", place="guest", bytes=left, text=text)


def released(subjects: Sequence[SubjectRecord], table: pd.DataFrame) -> Iterator[Released]:
    """What each subject that gives memory back still holds, compared with one that keeps it and is not asked for it.

    That one has the same options, except perhaps the balloon, which does not matter for memory that is kept. The same
    holds for the one that touches nothing.
    """
    for twin in subjects:
        asked, freed = _wish(twin)
        if not asked or (freed == "kept" and not twin.reclaim_bytes):
            continue
        one = _twin(twin, asked, subjects)
        if one and (found := _released(one, twin, _twin(twin, 0, subjects), asked, table)) is not None:
            yield found


def _twin(subject: SubjectRecord, touched_bytes: int, subjects: Sequence[SubjectRecord]) -> SubjectRecord | None:
    """The subject nearest to *subject* that touches so much and keeps it, and is asked for nothing."""
    keeping = [one for one in subjects if _wish(one) == (touched_bytes, "kept") and not one.reclaim_bytes]
    same = [one for one in keeping if _rest(one) == _rest(subject)]
    return next((one for one in same if one.options == subject.options), next(iter(same), None))


def _released(
    one: SubjectRecord, twin: SubjectRecord, plain: SubjectRecord | None, asked: int, table: pd.DataFrame
) -> Released | None:
    labels = [one.label, twin.label, *([plain.label] if plain else [])]
    wide = table[ledger.HOST].unstack("subject") if not table.empty else table
    if not set(labels) <= set(wide.columns):
        return None
    both = wide[labels].dropna()
    if both.empty:
        return None
    n = int(both.index.get_level_values("n").max())
    values = both.xs(n, level="n").to_numpy(dtype="float64") / n
    ground = values[:, 2] if plain else np.zeros(len(values))
    touched, kept = values[:, 0] - ground, values[:, 1] - ground
    # Less than half of what was asked: whatever took it away, it is not the giving back.
    shows = float(np.median(touched)) >= asked / 2
    both_each = np.column_stack((touched, kept))
    low, high = medians.interval_of(both_each, _share) if shows else (None, None)
    return Released(
        touched=one.label,
        released=twin.label,
        plain=plain.label if plain else "",
        freed=_wish(twin)[1],
        reclaim_bytes=twin.reclaim_bytes,
        reclaims=twin.reclaims,
        partly_unmapped_bytes=_partly_unmapped(twin, n, table),
        balloon=str(twin.options.get(_BALLOON, "none")) if layers.own_kernel(twin.layers) else "",
        n=n,
        asked_bytes=asked,
        touched_bytes=float(np.median(touched)),
        released_bytes=float(np.median(kept)),
        fraction=float(_share(np.median(both_each, axis=0))) if shows else None,
        low=low,
        high=high,
        rounds=len(values),
        emulated=one.accelerator == "tcg",
    )


def _partly_unmapped(subject: SubjectRecord, n: int, table: pd.DataFrame) -> float:
    """What each of *n* instances of *subject* left in huge pages that are not free yet."""
    index = table.index
    mine = table[(index.get_level_values("subject") == subject.label) & (index.get_level_values("n") == n)]
    return float(mine[ledger.PARTLY_UNMAPPED].median()) / n


def _share(middle: Floats) -> Floats:
    """1 - kept / touched; nothing where nothing was taken."""
    touched = middle[..., 0]
    return 1 - np.divide(middle[..., 1], touched, out=np.ones_like(touched), where=touched != 0)


def _wish(subject: SubjectRecord) -> tuple[int, Literal["unmapped", "lazily", "kept"]]:
    """Bytes that the payload touches, and what it does with them."""
    told = subject.payload
    return told.touch_mib << 20, "lazily" if told.release == "lazily" else "unmapped" if told.release else "kept"


def _rest(subject: SubjectRecord) -> tuple[object, ...]:
    """All that two subjects have in common which touch another amount, or do something else with it."""
    told = dataclasses.replace(subject.payload, touch_mib=0, release=False)
    options = {name: value for name, value in subject.options.items() if name != _BALLOON}
    return told, subject.runner, options, subject.memory_bytes, subject.cpus, subject.accelerator


def _shows(each: dict[str, float], part: str) -> bool:
    return abs(each.get(part, 0.0)) >= 1024
