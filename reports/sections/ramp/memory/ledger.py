"""The ledger of the host's memory: what is no longer free is the sum of its parts and a residual (method.md).

Parts do not overlap. Anonymous memory is split by program, from the proportional set sizes; the rest of the host's
anonymous memory belongs to other processes. All are changes against n = 0 of the same ramp.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd

from tare.bench.records.metrics import show
from tare.bench.stats import estimate, medians
from tare.bench.stats.medians import Floats
from tare.reports import words
from tare.reports.analysis import noise
from tare.reports.analysis.figures import Mover
from tare.reports.analysis.noise import Disturbance
from tare.reports.sections.ramp.memory.model import GivenBack, LedgerRow, ProgramMemory
from tare.reports.sections.ramp.ramps import Program, Ramps, chosen

#: A residual balances below this part of the change, or below so much for each instance, whichever is larger.
MOST_FRACTION = 0.05
MOST_EACH_BYTES = 2.0**20
#: Of a change that the parts do not explain, the share from which on it is said that other processes spoilt it.
MOST_UNEXPLAINED = 0.5

ANONYMOUS = "anonymous:"
OTHERS = f"{ANONYMOUS}other processes"

#: Part -> (title, counters that count for it, counters that are taken off: they stand in another part).
PARTS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "page_cache": ("page cache", ("host_cached_bytes", "host_buffers_bytes"), ("host_shmem_bytes",)),
    "shared_memory": ("shared memory", ("host_shmem_bytes",), ()),
    "slab_reclaimable": ("reclaimable slab", ("host_slab_reclaimable_bytes",), ()),
    "slab_unreclaimable": ("unreclaimable slab", ("host_slab_unreclaimable_bytes",), ()),
    "page_tables": ("page tables", ("host_page_tables_bytes", "host_sec_page_tables_bytes"), ()),
    "kernel_stacks": ("kernel stacks", ("host_kernel_stack_bytes",), ()),
    "percpu": ("per-processor data", ("host_percpu_bytes",), ()),
    # Where stacks are mapped (CONFIG_VMAP_STACK), VmallocUsed counts them too.
    "vmalloc": ("vmalloc", ("host_vmalloc_bytes",), ("host_kernel_stack_bytes",)),
    "huge_pages": ("huge pages", ("host_hugetlb_bytes",), ()),
    # On the kernel's lists a huge page is whole while any of it is mapped; AnonPages counts what is mapped alone.
    "partly_unmapped": (
        "partly unmapped huge pages",
        ("host_active_anon_bytes", "host_inactive_anon_bytes", "host_unevictable_bytes"),
        ("host_anon_bytes", "host_shmem_bytes"),
    ),
}
#: A part that is there only where the kernel put off splitting a huge page: else its counters differ by what waits,
#: some hundred kilobytes, on the processors' own lists.
PARTLY_UNMAPPED, _DEFERRED = "partly_unmapped", "host_deferred_splits_count"

HOST, FREE, AVAILABLE, RESIDUAL = "host_change", "mem_free", "mem_available", "residual"
#: Not a part: guest memory lies within the anonymous memory of its emulator, or within shared memory.
GUEST = "guest_ram"


def title(part: str) -> str:
    """The name of a part for a reader."""
    return PARTS[part][0] if part in PARTS else part.replace(":", " memory of ")


def changes(read: Ramps) -> pd.DataFrame:
    """Per subject, round and n >= 1: HOST, FREE, AVAILABLE, RESIDUAL and every part, in bytes; NaN: no such part."""
    host = read.host
    if host.empty:
        return pd.DataFrame(index=host.index)
    counters = moved(host)
    found = pd.DataFrame(index=counters.index)
    found[HOST] = -(counters["host_free_bytes"] + counters["host_percpu_lists_bytes"])
    found[FREE], found[AVAILABLE] = -counters["host_free_bytes"], -counters["host_available_bytes"]
    anonymous = programs(read, "pss_anon_bytes").reindex(counters.index)
    for program, taken in anonymous.items():
        found[f"{ANONYMOUS}{program}"] = taken
    found[OTHERS] = counters["host_anon_bytes"] - anonymous.sum(axis=1)
    for part, (_, plus, minus) in PARTS.items():
        found[part] = _sum(counters, plus) - _sum(counters, minus)
    deferred = counters[_DEFERRED] if _DEFERRED in counters else pd.Series(0.0, index=counters.index)
    found[PARTLY_UNMAPPED] = found[PARTLY_UNMAPPED].where(deferred > 0, 0.0)
    parts = [column for column in found.columns if column not in (HOST, FREE, AVAILABLE)]
    found[RESIDUAL] = found[HOST] - found[parts].sum(axis=1)
    return found


def moved(host: pd.DataFrame) -> pd.DataFrame:
    """Per subject, round and n >= 1 what each counter moved since n = 0; a ramp without that has no change."""
    return (_above(host) - _ground(host).to_numpy()).dropna(how="all")


def programs(read: Ramps, metric: str) -> pd.DataFrame:
    """Per subject, round and n >= 1, a column a Program: *metric*, less what it had before the first instance."""
    if metric not in read.programs.columns:
        return pd.DataFrame(index=_none())
    wide = read.programs[metric].unstack(["role", "serves"]).sort_index(axis=1)
    wide.columns = pd.Index([Program(*names) for names in wide.columns], dtype=object)
    return _above(wide) - _ground(wide).fillna(0.0).to_numpy()


def rows(table: pd.DataFrame, programs: Iterable[Program], meanwhile: Disturbance) -> Iterator[LedgerRow]:
    """One row a subject and count, over all rounds that read it; *programs* are all that were read.

    Of a subject that was read at very many counts, some have a row: see :func:`reports.sections.ramp.ramps.chosen`.
    *meanwhile* is what others did: where their part is larger than the change, the row is no account of instances.
    """
    if table.empty:
        return
    known = {f"{ANONYMOUS}{program}": program for program in programs}
    for subject in dict.fromkeys(table.index.get_level_values("subject")):
        mine = table[table.index.get_level_values("subject") == subject]
        for n in sorted(_shown(mine)):
            yield _row(str(subject), n, mine.xs(n, level="n", drop_level=False), known, meanwhile.grew(str(subject)))


def _shown(mine: pd.DataFrame) -> set[int]:
    """The counts that have a row: all, or some of very many, and those with the largest residuals of any round."""
    counts = [int(n) for n in mine.index.get_level_values("n")]
    found = set(chosen(counts))
    left = mine[RESIDUAL].fillna(0.0).to_numpy()
    return found if found == set(counts) else found | {counts[int(np.argmin(left))], counts[int(np.argmax(left))]}


def is_part(column: str) -> bool:
    """Whether a column is a part of the ledger, and not another counter."""
    return column in PARTS or column.startswith(ANONYMOUS)


def largest(ledger: tuple[LedgerRow, ...], subject: str) -> LedgerRow | None:
    """The row of *subject* with the most instances: what a claim on it rests on."""
    mine = [row for row in ledger if row.subject == subject]
    return max(mine, key=lambda row: row.n) if mine else None


def parts_of(group: pd.DataFrame) -> list[str]:
    """The parts that were read for the rows of *group*."""
    return [column for column in group.columns if is_part(column) and group[column].notna().any()]


def allowed_bytes(change_bytes: float, n: int) -> float:
    """The largest residual that balances."""
    return max(MOST_FRACTION * abs(change_bytes), MOST_EACH_BYTES * n)


def given_back(read: Ramps, table: pd.DataFrame) -> Iterator[GivenBack]:
    """Per subject: how much of what its instances had taken came back once they were removed."""
    if table.empty or read.after.empty:
        return
    ground = read.host[read.host.index.get_level_values("n") == 0].droplevel(["n"])
    for subject, after in read.after.groupby(level="subject", sort=False):
        n = int(after.index.get_level_values("n").max())
        now = after[after.index.get_level_values("n") == n].droplevel(["n"])
        left = free(ground.reindex(now.index)) - free(now)
        taken = table[HOST].reindex(pd.MultiIndex.from_tuples([(*key, n) for key in now.index]))
        both = np.column_stack((taken.to_numpy(), left.to_numpy()))
        both = both[np.isfinite(both).all(axis=1) & (both[:, 0] > 0)]
        if not len(both):
            continue
        low, high = medians.interval_of(both, _came_back)
        down = now["teardown_seconds"].dropna().tolist() if "teardown_seconds" in now else []
        yield GivenBack(
            subject=str(subject),
            n=n,
            taken_bytes=float(np.median(both[:, 0])),
            left_bytes=float(np.median(both[:, 1])),
            fraction=float(_came_back(np.median(both, axis=0))),
            low=low,
            high=high,
            teardown_seconds=estimate.estimate(down).median if down else None,
            rounds=len(both),
        )


def _came_back(middle: Floats) -> Floats:
    """1 - left / taken; rounds in which nothing was taken are not among them."""
    came_back: Floats = 1 - middle[..., 1] / middle[..., 0]
    return came_back


def _row(subject: str, n: int, group: pd.DataFrame, known: Mapping[str, Program], who: tuple[Mover, ...]) -> LedgerRow:
    parts = parts_of(group)
    matrix = group[[HOST, *parts]].fillna(0.0).to_numpy(dtype="float64")
    middle = np.median(matrix, axis=0)
    change, residual = float(middle[0]), float(middle[0] - middle[1:].sum())
    (low, high), (flow, fhigh) = medians.intervals_of(matrix, (_left, _fraction))
    around = estimate.estimate(matrix[:, 0].tolist())
    allowed = allowed_bytes(change, n)
    others = group[OTHERS].fillna(0.0).to_numpy(dtype="float64")
    # Where the ledger does not balance and others moved most of what is in it, it is they who are in the way.
    explained = abs(residual) <= allowed
    refused = noise.refuse(
        change,
        "bytes",
        ends=(around.low, around.high),
        rounds=len(matrix),
        others=others.tolist(),
        who=who,
        name=f"the change with {words.plural(n, 'instance')}",
        share=1.0 if explained else MOST_UNEXPLAINED,
    )
    balanced = explained and refused is None
    lefts, shares = _left(matrix), _fraction(matrix)
    each = np.abs(lefts) <= np.maximum(MOST_FRACTION * np.abs(matrix[:, 0]), MOST_EACH_BYTES * n)
    each &= np.abs(others) <= np.abs(matrix[:, 0])
    return LedgerRow(
        subject=subject,
        n=n,
        host_change_bytes=change,
        host_change_low=around.low,
        host_change_high=around.high,
        parts={part: float(value) for part, value in zip(parts, middle[1:], strict=True)},
        programs=tuple(
            ProgramMemory(role=known[part].role, serves=known[part].serves, bytes=float(value))
            for part, value in zip(parts, middle[1:], strict=True)
            if part in known
        ),
        residual_bytes=residual,
        residual_low=low,
        residual_high=high,
        residual_fraction=float(_fraction(middle)),
        residual_fraction_low=flow,
        residual_fraction_high=fhigh,
        allowed_bytes=allowed,
        balanced=balanced,
        rounds_balanced=int(each.sum()),
        rounds=len(matrix),
        round_residual_bytes=tuple(lefts.tolist()),
        round_residual_fraction=tuple(shares.tolist()),
        within_fraction=MOST_FRACTION,
        rounds_within=int((np.abs(shares) <= MOST_FRACTION).sum()),
        available_change_bytes=float(group[AVAILABLE].median()),
        guest_ram_bytes=float(group[GUEST].fillna(0.0).median()) if GUEST in group else 0.0,
        why=refused.sentence if refused else "" if balanced else _refusal(n, change, residual, allowed),
        others_bytes=float(np.median(np.abs(others))),
        refused=refused,
    )


def _refusal(n: int, change: float, residual: float, allowed: float) -> str:
    return (
        f"the ledger does not balance: with {words.plural(n, 'instance')}, {show(abs(residual), 'bytes')} "
        f"of a change of {words.size(change)} {'is' if residual > 0 else 'is counted twice or'} not explained, "
        f"and the limit is {show(allowed, 'bytes')}"
    )


def _left(middle: Floats) -> Floats:
    left: Floats = middle[..., 0] - middle[..., 1:].sum(axis=-1)
    return left


def _fraction(middle: Floats) -> Floats:
    change = middle[..., 0]
    return np.divide(_left(middle), change, out=np.zeros_like(change), where=change != 0)


def _above(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame.index.get_level_values("n") > 0]


def _ground(frame: pd.DataFrame) -> pd.DataFrame:
    """For each row of :func:`_above` the row before the first instance of its ramp; NaN where there is none."""
    ground = frame[frame.index.get_level_values("n") == 0].reset_index("n", drop=True)
    return ground.reindex(_above(frame).reset_index("n", drop=True).index)


def _none() -> pd.MultiIndex:
    return pd.MultiIndex.from_arrays([[], [], []], names=["subject", "round", "n"])


def free(host: pd.DataFrame) -> pd.Series:
    """What is free of the host, with the pages on processors' own lists: the change of it is what was taken."""
    return host["host_free_bytes"] + host["host_percpu_lists_bytes"]


def _sum(frame: pd.DataFrame, names: tuple[str, ...]) -> pd.Series:
    """The sum of counters; one that an older run did not read counts as 0."""
    return frame[[name for name in names if name in frame.columns]].sum(axis=1)
