"""The lead of a ramp: how many fit, what they take together, what they cost, who gives memory back, or one more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tare.bench.stats.verdict import LEAST_CHANGE
from tare.reports import words
from tare.reports.analysis import lead
from tare.reports.analysis.figures import SubjectFigures
from tare.reports.analysis.model import Bar, Lead
from tare.reports.cost import bills
from tare.reports.cost.model import Cost
from tare.reports.sections.ramp import sentences, together
from tare.reports.sections.ramp.analysis import RampAnalysis
from tare.reports.sections.ramp.density.model import DensityRow
from tare.reports.sections.ramp.memory.model import Released
from tare.reports.sections.ramp.memory.released import way
from tare.runners import layers

#: The rule that ends a ramp at the number that the scenario asked for: more would have fitted.
_ASKED = "count"


def density(subjects: Sequence[SubjectFigures], rows: Sequence[DensityRow]) -> Lead:
    """How many ran at once, of a container and of a machine where both were there."""
    by_label = {subject.label: subject for subject in subjects}
    worst = {label: min((row for row in rows if row.subject == label), key=_held) for label in _labels(rows)}
    sides = _sides([by_label[label] for label in worst])
    said = [_how_many(by_label[label], worst[label]) for label in sides]
    if len(said) == 2:
        first, second = (_held(worst[label]) for label in sides)
        ratio = max(first, second) / max(1, min(first, second))
        open_end = any(_ended_as_asked(worst[label]) for label in sides)
        factor = "" if open_end or ratio < 2 else f", a factor of {lead.times(ratio)}"
        sentence = (
            f"This host ran {said[0]} at once, and {said[1]}{factor}{_would_fit([worst[label] for label in sides])}."
        )
    else:
        sentence = f"This host ran {' and '.join(said)} at once."
    grounds = [f"{label}: {_why(worst[label])}" for label in sides]
    emulated = lead.emulation(label for label in sides if by_label[label].result_class == "emulated")
    bars = [
        Bar(
            subject=label,
            value=float(_held(row)),
            shown=words.number(_held(row)),
            note="no more were asked for" if _ended_as_asked(row) else f"ended by {row.rule}",
            family=lead.family(by_label[label]),
            emulated=by_label[label].result_class == "emulated",
        )
        for label, row in worst.items()
    ]
    return Lead(
        sentence=sentence,
        grounds=" ".join([f"{'; '.join(grounds)}.", *emulated]),
        title="Instances alive at once",
        unit="count",
        bars=lead.ordered(bars, sides),
    )


def _labels(rows: Sequence[DensityRow]) -> list[str]:
    """The subjects of *rows*, each once."""
    return list(dict.fromkeys(row.subject for row in rows))


def _held(row: DensityRow) -> int:
    return row.reached if row.held is None else row.held


def _ended_as_asked(row: DensityRow) -> bool:
    return row.rule == _ASKED


def _how_many(subject: SubjectFigures, row: DensityRow) -> str:
    count = words.number(_held(row))
    return f"{'at least ' if _ended_as_asked(row) else ''}{count} {lead.several(subject)}"


def _would_fit(rows: Sequence[DensityRow]) -> str:
    """What is predicted, where the scenario asked for fewer than would fit and all is known."""
    predicted = [None if row.refused else row.predicted for row in rows]
    if not all(map(_ended_as_asked, rows)) or None in predicted:
        return ""
    return f"; {' and '.join(map(words.number, predicted))} would fit, by prediction"


def _why(row: DensityRow) -> str:
    if row.refused is not None:
        return f"ended by {row.stopped_by}; {row.refused.sentence}"
    predicted = "" if row.predicted is None else f", {words.number(row.predicted)} were predicted"
    if _ended_as_asked(row):
        return f"the scenario asked for no more than {row.reached}{predicted}"
    return f"ended by {row.stopped_by}{predicted}"


def _sides(subjects: Sequence[SubjectFigures]) -> list[str]:
    """The first on the host's kernel behind a wall and the first machine; else the first two."""
    walled = [one.label for one in subjects if layers.walled_on_host_kernel(one.layers)]
    machines = [one.label for one in subjects if layers.own_kernel(one.layers)]
    return [walled[0], machines[0]] if walled and machines else [one.label for one in subjects[:2]]


def money(subjects: Sequence[SubjectFigures], cost: Cost) -> Lead:
    """The bill of the first price book, for as many instances as both arms have."""
    by_label = {subject.label: subject for subject in subjects}
    one, other = cost.arms[:2]
    n = min(len(one.rows), len(other.rows))
    (cheap, less), (dear, more) = sorted(
        ((arm, arm.rows[n - 1].billed) for arm in (one, other)), key=lambda side: side[1]
    )
    ends = f"{bills.money(more, cost.currency)} against {bills.money(less, cost.currency)} an hour"
    first, last = (lead.several(by_label[arm.subject]) for arm in (cheap, dear))
    if more >= 2 * less:
        sentence = f"{n} instances cost {lead.times(more / less)} times as much in {last} as in {first}: {ends}."
    elif more >= (1 + LEAST_CHANGE) * less:
        sentence = f"{n} instances cost {100 * (more / less - 1):.0f} % more in {last} than in {first}: {ends}."
    else:
        sentence = f"{n} instances cost the same in {last} and in {first}: {ends}."
    bars = [
        Bar(
            subject=arm.title,
            value=arm.rows[n - 1].billed,
            shown=bills.money(arm.rows[n - 1].billed, cost.currency),
            note=f"{bills.idle_percent(arm.rows[n - 1])} % of it idle",
            family=lead.family(by_label[arm.subject]),
            emulated=arm.emulated,
        )
        for arm in cost.arms
        if len(arm.rows) >= n
    ]
    machines = [arm.subject for arm in (one, other) if arm.emulated]
    return Lead(
        sentence=sentence,
        grounds=" ".join([f"{cost.title}, {cost.dated}; {cost.sentences[1]}", *lead.emulation(machines)]),
        title=f"The bill of {n} instances, {cost.currency} an hour",
        unit=cost.currency,
        bars=tuple(bars),
    )


def released(subjects: Sequence[SubjectFigures], rows: Sequence[Released], refused: Mapping[str, str]) -> Lead | None:
    """How much of the memory that an instance frees the host gets back; None where no row may be claimed."""
    by_label = {subject.label: subject for subject in subjects}
    said = [
        row for row in rows if row.fraction is not None and not {row.touched, row.released, row.plain} & refused.keys()
    ]
    if not said:
        return None
    best, worst = max(said, key=_share), min(said, key=_share)
    sentence = f"The host gets back {_percent(best)} of the memory that {best.released} frees while it runs"
    if worst is not best:
        sentence += f", and {_percent(worst)} from {worst.released}"
    bars = [
        Bar(
            subject=row.released,
            value=100 * _share(row),
            shown=_percent(row),
            low=None if row.low is None else 100 * max(0.0, min(1.0, row.low)),
            high=None if row.high is None else 100 * max(0.0, min(1.0, row.high)),
            note=way(row),
            family=lead.family(by_label[row.released]),
            emulated=row.emulated,
        )
        for row in said
    ]
    grounds = f"Memory of the host, per instance, with {best.n} alive, in {words.plural(best.rounds, 'round')}."
    machines = dict.fromkeys(row.released for row in (best, worst) if row.emulated)
    return Lead(
        sentence=f"{sentence}.",
        grounds=" ".join([grounds, *lead.emulation(machines)]),
        title="The part of the touched memory that the host got back, in per cent",
        unit="per cent",
        bars=lead.ordered(bars, (best.released, worst.released)),
    )


def _share(row: Released) -> float:
    return max(0.0, min(1.0, row.fraction or 0.0))


def _percent(row: Released) -> str:
    return f"{100 * _share(row):.0f} %"


def of(subjects: Sequence[SubjectFigures], account: RampAnalysis, reference: str) -> Lead | None:
    """The lead that the account allows beyond the marginal cost; None where that is the answer."""
    if account.density:
        return density(subjects, account.density)
    if (shared := together.find(subjects, account.ledger)) is not None:
        return together.answer(subjects, shared)
    if sentences.is_about_money(subjects, account, reference):
        return money(subjects, account.costs[0])
    touched = sentences.touched(account)
    return released(subjects, account.released, account.refused) if 2 * len(touched) > len(subjects) else None
