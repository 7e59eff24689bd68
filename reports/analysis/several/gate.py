"""Whether a metric got worse by more than a bound, and not by chance: ``tare compare --fail-on METRIC:5%``.

The rule: a subject fails if the whole 95 % interval of the ratio lies beyond the bound, on the worse side, **and** p is
at most 0.01. The change itself is then larger than the bound, not only larger than nothing; a change of exactly the
bound fails about once in forty comparisons. Which side is the worse one is a property of the metric.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tare.bench.errors import InvalidError, RegressionError, UsageError
from tare.bench.records.metrics import Metric
from tare.bench.stats.verdict import ALPHA
from tare.reports import words
from tare.reports.analysis.figures import Compared
from tare.reports.analysis.several.model import Gated, RunsComparison

_BOUND = re.compile(r"(?P<metric>[^:]+):(?P<percent>\d{1,4}(\.\d{1,6})?)\s?%")
_HOW = "give METRIC:PERCENT%, such as ready_seconds:5%"


@dataclass(frozen=True, slots=True)
class Bound:
    """A metric, and by which part of itself it may get worse: 0.05 for 5 %."""

    metric: Metric
    most: float


def bounds(texts: Sequence[str], metrics: Sequence[Metric]) -> tuple[Bound, ...]:
    """What ``--fail-on`` says of the *metrics* that the two runs have. Raises UsageError for all else."""
    return tuple(_bound(text, {metric.name: metric for metric in metrics}) for text in texts)


def _bound(text: str, known: dict[str, Metric]) -> Bound:
    found = _BOUND.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"--fail-on {text!r} is not a metric and a bound", "", _HOW)
    metric = known.get(found["metric"])
    if metric is None:
        close = difflib.get_close_matches(found["metric"], known, n=1)
        question = f"did you mean '{close[0]}'? " if close else ""
        raise UsageError(
            f"--fail-on {text!r}: these runs have no metric {found['metric']!r}",
            "",
            f"{question}known: {', '.join(known)}",
        )
    return Bound(metric, float(found["percent"]) / 100)


def judge(comparison: RunsComparison, bounds: Sequence[Bound]) -> Iterator[Gated]:
    """One row for each bound and subject; a subject that one of the runs lacks is not judged."""
    for bound in bounds:
        for one in comparison.comparisons:
            if one.metric == bound.metric.name:
                yield _judged(one, bound)
        for label in comparison.only_before:
            yield _gated(label, bound, "not judged", "the second run has no figure of it")


def conclude(gated: Sequence[Gated]) -> None:
    """Raise RegressionError if any row is worse, InvalidError if nothing could be judged of a metric."""
    worse = [one.sentence for one in gated if one.result == "worse"]
    if worse:
        raise RegressionError(
            f"{words.plural(len(worse), 'figure')} got worse by more than --fail-on allows",
            "; ".join(worse),
            "look for what changed, or run again to see whether it stays",
        )
    for metric in dict.fromkeys(one.metric for one in gated):
        mine = [one for one in gated if one.metric == metric]
        if all(one.result == "not judged" for one in mine):
            raise InvalidError(
                f"--fail-on could judge no subject by {metric}",
                "; ".join(dict.fromkeys(one.sentence for one in mine)),
                "measure more rounds in both runs",
            )


def _judged(one: Compared, bound: Bound) -> Gated:
    if one.ratio is None or one.low is None or one.high is None:
        return _gated(one.subject, bound, "not judged", one.detail.rstrip("."))
    if one.p is None:
        return _gated(one.subject, bound, "not judged", f"{words.plural(one.rounds, 'round')} are not enough")
    lower = bound.metric.lower_is_better
    beyond = one.low > 1 + bound.most if lower else one.high < 1 - bound.most
    change, near = (words.percent(ratio - 1) for ratio in (one.ratio, one.low if lower else one.high))
    if beyond and one.p <= ALPHA:
        return _gated(one.subject, bound, "worse", f"{change}, with 95 % confidence at least {near}")
    return _gated(one.subject, bound, "not worse", change)


def _gated(subject: str, bound: Bound, result: Literal["worse", "not worse", "not judged"], why: str) -> Gated:
    most = f"{100 * bound.most:g} %"
    return Gated(
        metric=bound.metric.name,
        subject=subject,
        most=bound.most,
        result=result,
        sentence=f"{subject}, {bound.metric.title}: {why} (bound: {most})",
    )
