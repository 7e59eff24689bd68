"""Which instances give memory back while they run: the sentence of one row, in which way, and why."""

from __future__ import annotations

from collections.abc import Mapping

from tare.bench.records.metrics import show
from tare.reports import words
from tare.reports.analysis.model import Claim
from tare.reports.sections.ramp.memory.model import Released

NO_BALLOON = "the machine has no balloon device, so the guest cannot tell its host what it has freed"
#: What the kernels of host and guest do, by what a row shows: rules, not findings.
_REPORTED = "the guest's kernel reports free blocks, some seconds after they were freed (free page reporting)"
_TOO_SMALL = (
    "a guest's kernel reports nothing while a zone of its memory has less than 32 blocks free: with blocks of 2 MiB, "
    "64 MiB"
)
_LAZILY = "the kernel takes lazily freed pages (MADV_FREE) when memory is short, or when it is asked to"
_IN_USE = "without swap, the kernel cannot take anonymous memory that is in use"
_HALF_GIVEN = "{size} of it are still in partly unmapped huge pages: the host frees them when memory is short"
#: The file of cgroup v1 that takes no amount.
_ALL = "memory.force_empty"


def way(row: Released) -> str:
    """How the memory was given back, for a table: ``freed lazily, then asked``."""
    does = {"unmapped": "freed", "lazily": "freed lazily", "kept": "kept"}[row.freed]
    asked = ", then asked" if row.reclaim_bytes else ""
    reports = ", and reports it" if row.balloon == "free-page-reporting" else ""
    return f"{does}{reports}{asked}"


def claim(row: Released, refused: Mapping[str, str]) -> Claim:
    """What *row* comes to. *refused*: subjects on whose memory nothing may be claimed, and why."""
    mark = f" ({words.EMULATED})" if row.emulated else ""
    why = next((refused[label] for label in (row.touched, row.released, row.plain) if label in refused), "")
    if why:
        return Claim(
            lead=f"No claim about what {row.released} gives back", detail=f"{why}{mark}.", subject=row.released,
            verdict="no figure", emulated=row.emulated,
        )  # fmt: skip
    above = f" above {row.plain}" if row.plain else ""
    ends = words.size(row.touched_bytes), words.size(row.released_bytes)
    between = ""
    if row.low is not None and row.high is not None:
        between = f", share 95 % CI {_whole(row.low)} to {_whole(row.high)} %"
    detail = (
        f"per instance, with {row.n} alive: {row.touched} takes {ends[0]}{above}, {row.released} {ends[1]}{between}, "
        f"{words.plural(row.rounds, 'round')}{''.join(f'; {rule}' for rule in _rules(row))}{mark}."
    )
    return Claim(
        lead=_lead(row), detail=detail, subject=row.released, verdict="no difference shown", emulated=row.emulated
    )


def _lead(row: Released) -> str:
    asked = show(row.asked_bytes, "bytes")
    does = {"unmapped": f"frees {asked}", "lazily": f"frees {asked} lazily", "kept": f"keeps {asked}"}[row.freed]
    if row.reclaim_bytes:
        size = "all it can give" if row.reclaims == _ALL else show(row.reclaim_bytes, "bytes")
        does += f", is then asked for {size} ({row.reclaims})"
    if row.fraction is None:
        return f"No claim about what {row.released} gives back: its touching {asked} did not show in the host's memory"
    if row.fraction < 0.05:
        return f"{row.released} {does}, and the host gets none of it back while it runs"
    share = f"{_whole(min(1.0, row.fraction))} %"
    return f"{row.released} {does}, and the host gets back {share} of what it took"


def _rules(row: Released) -> list[str]:
    """Why it is so, as far as the kernels' rules say."""
    nothing = row.fraction is not None and row.fraction < 0.05
    rules = []
    if row.balloon == "none":
        rules.append(NO_BALLOON)
    if row.balloon == "free-page-reporting":
        rules.append(_TOO_SMALL if nothing else _REPORTED)
    if row.freed == "lazily":
        rules.append(_LAZILY)
    if row.freed == "kept" and row.reclaim_bytes and not row.balloon and nothing:
        rules.append(_IN_USE)
    if row.partly_unmapped_bytes >= 0.01 * row.asked_bytes:
        rules.append(_HALF_GIVEN.format(size=words.size(row.partly_unmapped_bytes)))
    return rules


def _whole(fraction: float) -> str:
    """A share in whole per cent, with a true minus sign and without the unit."""
    return f"{round(fraction * 100)}".replace("-", "−")
