"""A figure that the host spoilt is no headline: the one place where that is decided (docs/explanation/method.md).

A figure is refused where half of its interval is larger than itself, or where the part that other processes have in it
is. What is said instead: that it is too noisy, who moved or ran meanwhile, and how many rounds would do, if any would.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from tare.bench.records.metrics import Metric, show
from tare.bench.records.rows import Meanwhile, Other
from tare.bench.records.store import Run
from tare.bench.stats import medians
from tare.bench.stats.estimate import as_array
from tare.bench.stats.verdict import LEAST_ROUNDS
from tare.reports import words
from tare.reports.analysis.figures import Figure, Mover, Refused

#: Of the time in which a run waited for a processor, so much is others' part at most: what is left is not less then.
_MOST_WAITED = 0.5
#: So many processes are named.
_NAMED = 3
#: Who would need more rounds than this waits for a quieter host instead.
_MOST_ROUNDS = 1000
#: Of the seconds that somebody measured, the metrics that no other process makes longer.
_OWN_TIME = frozenset(("cpu_seconds",))


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What others did while a run was measured; empty where it does not say (an older tare)."""

    records: tuple[tuple[str, Meanwhile], ...] = ()

    @property
    def waited(self) -> float:
        """The part of the time in which somebody waited for a processor that others had."""
        whole = sum(one.seconds for _, one in self.records)
        return sum(one.seconds * _waited(one) for _, one in self.records) / whole if whole else 0.0

    @property
    def ran(self) -> tuple[Mover, ...]:
        """The processes that ran most."""
        return _most((other for _, one in self.records for other in one.ran), "cpu_seconds")

    def grew(self, subject: str) -> tuple[Mover, ...]:
        """The processes whose memory moved most during the trials of *subject*."""
        return _most((other for label, one in self.records if label == subject for other in one.grew), "memory_bytes")


def disturbance(run: Run) -> Disturbance:
    """What the records of *run* say of others."""
    return Disturbance(tuple((one.subject, one.meanwhile) for one in run.outcomes if one.meanwhile is not None))


def of_figure(figure: Figure, metric: Metric, meanwhile: Disturbance) -> Figure:
    """*figure*, or what stands in its place where it is refused; its numbers are in ``refused`` then."""
    if figure.median is None:
        return figure
    timed = metric.unit == "seconds" and metric.name not in _OWN_TIME
    refused = refuse(
        figure.median, figure.unit, ends=(figure.low, figure.high), rounds=figure.rounds,
        waited=meanwhile.waited if timed else 0.0, who=meanwhile.ran if timed else (),
    )  # fmt: skip
    return figure if refused is None else withdrawn(figure, refused)


def withdrawn(figure: Figure, refused: Refused) -> Figure:
    """*figure* without its numbers, and why."""
    bare = Figure(metric=figure.metric, unit=figure.unit, title=figure.title, n=figure.n, rounds=figure.rounds)
    return msgspec.structs.replace(bare, why=f"no claim: {refused.sentence}", refused=refused)


def refuse(
    value: float,
    unit: str,
    *,
    ends: tuple[float | None, float | None],
    rounds: int,
    waited: float = 0.0,
    others: Sequence[float] = (),
    who: tuple[Mover, ...] = (),
    name: str = "the figure",
    share: float = 1.0,
) -> Refused | None:
    """Why *value*, a figure in *unit* with the interval *ends* over *rounds*, is no headline; None where it is one.

    *waited* is the part of the time in which others had the processors. *others* has one entry a round: what of that
    round's figure is theirs, and may be up to *share* of it. *who* moved or ran most. *name* is what the sentence calls
    the figure.
    """
    low, high = ends
    spread = None if low is None or high is None else (high - low) / 2
    theirs = float(sorted(map(abs, others))[len(others) // 2]) if len(others) else None
    found = Refused(
        reason="spread", value=float(value), unit=unit, low=low, high=high, spread=spread, others=theirs, waited=waited,
        who=who, sentence="",
    )  # fmt: skip
    if theirs is not None and theirs > share * abs(value):
        need = None if _biased(others) else _rounds(rounds, theirs, value)
        return _told(msgspec.structs.replace(found, reason="others", rounds=need), name)
    if waited > _MOST_WAITED:
        return _told(msgspec.structs.replace(found, reason="waited"), name)
    if spread is not None and spread > abs(value):
        return _told(msgspec.structs.replace(found, rounds=_rounds(rounds, spread, value)), name)
    return None


def _told(found: Refused, name: str) -> Refused:
    return msgspec.structs.replace(found, sentence=f"too noisy: {_why(found, name)}; {_way_out(found)}")


def _why(found: Refused, name: str) -> str:
    figure = f"{name} is {_amount(found.value, found.unit)}"
    match found.reason:
        case "others":
            moved = _amount(found.others or 0.0, found.unit)
            return f"this host moved by {moved} meanwhile{_named(found)}, and {figure}"
        case "waited":
            share = f"{100 * found.waited:.0f} %"
            return f"for {share} of the time other processes had the processors that this run waited for{_named(found)}"
        case "spread":
            spread = _amount(found.spread or 0.0, found.unit)
            return f"half of the 95 % interval is {spread}, and {figure}{_named(found)}"


def _named(found: Refused) -> str:
    """Who it was, as far as that is known."""
    ran = found.unit in ("seconds", "processors")
    said = [
        f"{one.name} (pid {one.pid}) {show(one.cpu_seconds, 'seconds') if ran else show(one.memory_bytes, 'bytes')}"
        for one in found.who
    ]
    if not said:
        return ""
    return f" ({'ran most' if ran else 'moved most'}: {', '.join(said)})"


def _way_out(found: Refused) -> str:
    wait = "wait, or stop them"
    if found.reason == "waited" or found.rounds is None:
        return f"{wait}: more rounds do not help" if found.reason != "spread" else "more rounds do not help"
    take = f"take about {found.rounds} rounds"
    return f"{wait}, or {take}" if found.reason == "others" or found.who else take


def _rounds(rounds: int, spread: float, value: float) -> int | None:
    """How many rounds would do: a spread shrinks as 1 / sqrt(rounds). None where too many would be needed."""
    if not value:
        return None
    need = max(LEAST_ROUNDS, rounds + 1, rounds * (spread / value) ** 2)
    return math.ceil(need) if need <= _MOST_ROUNDS else None


def _biased(others: Sequence[float]) -> bool:
    """Whether others moved the figure to one side round after round: that is no scatter, and does not even out."""
    low, high = medians.interval(as_array(others))
    return low is not None and high is not None and (low > 0 or high < 0)


def _amount(value: float, unit: str) -> str:
    """*value* for a sentence; a ratio is no percentage here."""
    plain = {"ratio": "", "processors": " processors"}.get(unit)
    said = show(abs(value), unit) if plain is None else f"{words.ratio(abs(value))}{plain}"
    return f"{'−' if value < 0 else ''}{said}"


def _waited(one: Meanwhile) -> float:
    """The part of the time in which somebody waited, by the part that others have in what the processors did."""
    return one.waited_ratio * min(1.0, one.cpu_seconds / one.busy_seconds) if one.busy_seconds else 0.0


def _most(others: Iterable[Other], amount: Literal["cpu_seconds", "memory_bytes"]) -> tuple[Mover, ...]:
    """Each process once: it ran for the sum of its records, and its memory moved as far as in the farthest."""
    found: dict[tuple[str, int], Mover] = {}
    for one in others:
        before = found.get((one.name, one.pid), Mover(name=one.name, pid=one.pid, memory_bytes=0.0, cpu_seconds=0.0))
        found[one.name, one.pid] = msgspec.structs.replace(
            before,
            memory_bytes=max(before.memory_bytes, one.memory_bytes),
            cpu_seconds=before.cpu_seconds + one.cpu_seconds,
        )
    return tuple(sorted(found.values(), key=lambda one: -getattr(one, amount))[:_NAMED])
