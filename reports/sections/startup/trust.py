"""The lead of a run that measures the instrument: whether its numbers can be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tare.bench.stats.verdict import LEAST_CHANGE
from tare.reports import words
from tare.reports.analysis import lead
from tare.reports.analysis.figures import SubjectFigures
from tare.reports.analysis.model import Bar, Calibration, Lead


def about_the_instrument(found: Calibration, subjects: Sequence[SubjectFigures]) -> bool:
    """Whether most subjects are there to measure the instrument: null baseline, known delays, pairs of equals."""
    equals = {label for pair in found.pairs for label in (pair.first, pair.second)}
    return found.measured and 2 * len(lead.scale(subjects) | equals) > len(subjects)


def opening(found: Calibration, subjects: Sequence[SubjectFigures]) -> Lead:
    """Yes, no, or not known yet; then what it rests on, and what was measured of each known delay."""
    faults, good, missing = list(_faults(found)), list(_good(found)), list(_missing(found))
    if faults:
        sentence = f"Do not trust these numbers yet: {'; '.join(faults)}."
    elif missing or not good:
        sentence = f"These numbers are not proven yet: {'; '.join(missing or ['nothing was measured'])}."
    else:
        sentence = f"These numbers can be trusted: {' and '.join(good)}."
    by_label = {subject.label: subject for subject in subjects}
    bars = [
        Bar(
            subject=delay.subject,
            value=delay.recovered,
            shown=lead.shown(delay.recovered, "seconds"),
            low=delay.low,
            high=delay.high,
            note=f"of {words.quantity(delay.asked, 'seconds')}",
            family=lead.family(by_label[delay.subject]),
        )
        for delay in found.delays
    ]
    null = by_label.get(found.null_subject)
    if null is not None and found.null_seconds is not None:
        bars.insert(
            0,
            Bar(
                subject=null.label,
                value=found.null_seconds,
                shown=lead.shown(found.null_seconds, "seconds"),
                low=found.null_low,
                high=found.null_high,
                note="nothing was started",
                family=lead.family(null),
            ),
        )
    return Lead(
        sentence=sentence,
        grounds=" ".join(found.sentences[:2]),
        title="What was measured of each known delay, as the difference to the same subject without it",
        unit="seconds",
        bars=tuple(bars),
    )


def _off(found: Calibration) -> Iterator[str]:
    """Delays that were measured wrongly: by more than the least change that a verdict needs."""
    for delay in found.delays:
        if abs(delay.bias) > LEAST_CHANGE * delay.asked:
            yield (
                f"a delay of {words.quantity(delay.asked, 'seconds')} was measured as "
                f"{words.quantity(delay.recovered, 'seconds')} ({delay.subject})"
            )


def _faults(found: Calibration) -> Iterator[str]:
    yield from _off(found)
    if found.false_verdicts:
        yield (
            f"{found.false_verdicts} of {words.plural(found.judged, 'comparison')} of equal subjects found a "
            "difference that does not exist"
        )


def _good(found: Calibration) -> Iterator[str]:
    if found.delays:
        worst = max(abs(delay.bias) for delay in found.delays)
        each = "the known delay was" if len(found.delays) == 1 else f"{len(found.delays)} known delays were"
        yield f"{each} measured exactly to {words.quantity(worst, 'seconds')}"
    if found.judged:
        yield f"no difference was found between equal subjects in {words.plural(found.judged, 'comparison')}"


def _missing(found: Calibration) -> Iterator[str]:
    if found.pairs and not found.judged:
        yield "equal subjects were measured in too few rounds to compare them"
    if not found.delays and not found.judged:
        yield "no known delay and no pair of equal subjects has a figure"
