"""The sentences of a report on memory and density. None says more than its rows; what is refused is said plainly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tare.bench.records.header import RunHeader
from tare.bench.records.metrics import show
from tare.bench.stats.verdict import LEAST_CHANGE, LEAST_ROUNDS
from tare.reports import words
from tare.reports.analysis.figures import Compared, SubjectFigures
from tare.reports.analysis.model import Claim
from tare.reports.sections.ramp import together
from tare.reports.sections.ramp.analysis import RampAnalysis
from tare.reports.sections.ramp.density import capacity
from tare.reports.sections.ramp.density.model import DensityRow
from tare.reports.sections.ramp.memory import ledger, margin_words, released, slopes, steps
from tare.reports.sections.ramp.memory.model import MARGIN, CounterLine

EXTRAPOLATED = (
    "An extrapolation: it uses the marginal cost and the own use of this host. Another processor or another kernel "
    "gives other numbers."
)
#: So many processors that other work uses more, or less, are worth a word.
_OTHERS = 0.05
#: So many readings are named one by one.
_MOST_NAMED = 12
BILLED_BY_COUNT = "memory is compared at the number reached, because another rule ended the ramp"


def answer(
    subjects: Sequence[SubjectFigures], comparisons: Sequence[Compared], account: RampAnalysis, reference: str
) -> Iterator[Claim]:
    """What the run found, most wanted first; *reference* is the scenario's."""
    emulated = {subject.label for subject in subjects if subject.result_class == "emulated"}
    by_label = {subject.label: subject for subject in subjects}
    for row in account.density:
        yield _reached(row, account.refused.get(row.subject, ""), emulated=row.subject in emulated)
    if not account.density and is_about_money(subjects, account, reference):
        yield from _money(account)
    if (shared := together.find(subjects, account.ledger)) is not None:
        yield together.claim(subjects, shared)
    memory_users = touched(account)
    about_giving = 2 * len(memory_users) > len(subjects)
    if about_giving:
        yield from _gave_back(account)
    mine = [
        one
        for one in comparisons
        if one.metric == MARGIN.name
        and not {one.subject, one.reference} & (memory_users if _many(subjects, memory_users) else set())
    ]
    for one in sorted(mine, key=lambda one: (one.why_compared != "pair", one.emulated)):
        sides = [by_label[one.subject], by_label[one.reference]]
        # A scenario with one count is about something else: nothing of a margin is measured, and nothing is said.
        if not any(side.skipped for side in sides) and any(side.figure(MARGIN.name).n for side in sides):
            yield _margin(one, by_label, account)
    yield from steps.claims(account.steps, account.refused)
    noisy = {subject.label for subject in subjects if subject.figure(MARGIN.name).refused is not None}
    # What stands on a staircase was said so: a line through it is bent at each step.
    unclaimed = {*account.refused, *noisy, *(one.subject for one in account.steps)}
    yield from _throughout(account, unclaimed) if account.density else _bent(account, {*memory_users, *unclaimed})
    if not about_giving:
        yield from _gave_back(account)
    yield from _balance(account)


def touched(account: RampAnalysis) -> set[str]:
    """Subjects that touch memory to show who gives it back."""
    return {label for row in account.released for label in (row.touched, row.released)}


def _gave_back(account: RampAnalysis) -> Iterator[Claim]:
    return (released.claim(row, account.refused) for row in account.released)


def _money(account: RampAnalysis) -> Iterator[Claim]:
    """What a book's prices make of the margins; those of an emulated machine stay marked as such."""
    for cost in account.costs:
        marked = any(arm.emulated for arm in cost.arms)
        detail = f"{cost.title}, {cost.dated}" + (f": {cost.example}" if cost.example else "")
        detail += f" ({words.EMULATED})" if marked else ""
        for sentence in cost.sentences[:3] if cost is account.costs[0] else cost.sentences[1:2]:
            yield Claim(lead=sentence, detail=f"{detail}.", subject="", verdict="not enough rounds", emulated=marked)


def _many(subjects: Sequence[SubjectFigures], touched: set[str]) -> bool:
    """Whether some subject remains besides those of which only what they give back is reported."""
    return any(subject.label not in touched and not subject.skipped for subject in subjects)


def is_about_money(subjects: Sequence[SubjectFigures], account: RampAnalysis, reference: str) -> bool:
    """Whether the subjects of the run are just the two of the cost model.

    A bare process that is not the *reference* does not count: a scenario of two such subjects gets one without asking.
    """
    arms = {arm.subject for cost in account.costs for arm in cost.arms}
    return bool(arms) and arms == {one.label for one in subjects if one.layers or one.label == reference}


def _margin(one: Compared, by_label: dict[str, SubjectFigures], account: RampAnalysis) -> Claim:
    """One comparison of margins. Where a side may not be claimed, the other is still said."""
    sides = [(label, by_label[label].figure(MARGIN.name)) for label in (one.subject, one.reference)]
    said = [(label, figure) for label, figure in sides if figure.median is not None]
    missing = {label: figure.why.removeprefix("no claim: ") for label, figure in sides if figure.median is None}
    costs = ", ".join(
        f"one more {label}{' costs' if place == 0 else ''} {words.size(figure.median or 0.0)}"
        for place, (label, figure) in enumerate(said)
    )
    between = " against ".join(words.interval(f.low, f.high, "bytes") for _, f in said if f.low is not None)
    detail = f"95 % CI {between}; " if between else ""
    translated = f"; {together.TRANSLATED}" if one.why_compared == "pair" else ""
    mark = f" ({words.EMULATED}{translated})" if one.emulated else ""
    if missing:
        lead = (
            f"{costs[:1].upper()}{costs[1:]}; no claim about {' and '.join(missing)}"
            if said
            else f"No claim about {' and '.join(missing)}"
        )
        detail += "; ".join(f"{label}: {why}" for label, why in missing.items()) + mark
    else:
        word = f": {one.subject} is {one.word}" if one.verdict in ("lower", "higher") else ""
        lead = f"{costs[:1].upper()}{costs[1:]}{word}"
        detail += words.grounds(one).removesuffix(".").replace(f" ({words.EMULATED})", "")
        if one.verdict == "not enough rounds":
            detail += f": with fewer than {LEAST_ROUNDS} rounds, there is no verdict"
        detail += _without_others(one, account) + mark
    return Claim(
        lead=lead, detail=f"{detail}.", subject=one.subject, verdict="no figure" if missing else one.verdict,
        emulated=one.emulated, refused=next((f.refused for _, f in sides if f.refused is not None), one.refused),
    )  # fmt: skip


def _without_others(one: Compared, account: RampAnalysis) -> str:
    """The margins without the anonymous memory of other processes, where that makes a difference."""
    margins = {(line.subject, line.counter): line.b for line in account.fits}
    pairs = [(margins[label, ledger.HOST], margins[label, slopes.OWN]) for label in (one.subject, one.reference)]
    if all(abs(own - host) < LEAST_CHANGE * abs(host) for host, own in pairs):
        return ""
    first, second = (words.size(own) for _, own in pairs)
    return f"; without the memory of other processes of the host, {first} against {second}"


def _bent(account: RampAnalysis, touched: set[str]) -> Iterator[Claim]:
    """Marginal costs that change with the count, and the part of the ledger that changes most."""
    for line in account.fits:
        if line.counter != ledger.HOST or line.subject in touched or line.subject in account.refused:
            continue
        if line.straight is not False or abs(line.last_segment - line.first_segment) < LEAST_CHANGE * abs(line.b):
            continue
        yield Claim(
            lead=f"One more {line.subject} does not always cost the same: {bend(line)}",
            detail=f"{_because(slopes.bent_by(account.fits, line))}, {words.plural(line.rounds, 'round')}.",
            subject=line.subject,
            verdict="no difference shown",
        )


def _throughout(account: RampAnalysis, unclaimed: set[str]) -> Iterator[Claim]:
    """Of long ramps: of what the memory consists, whether it stays the same to the last, and what changes it."""
    rules: set[str] = set()
    for found in account.constancy:
        if found.subject not in unclaimed:
            rule = f" {found.rule}" if found.rule and found.rule not in rules else ""
            rules.add(found.rule)
            yield Claim(
                lead=margin_words.lead(found), detail=margin_words.detail(found) + rule, subject=found.subject,
                verdict="no difference shown", emulated=found.emulated,
            )  # fmt: skip


def bend(line: CounterLine) -> str:
    """``the margin grows from 0.1 to 0.6 MiB``, between which numbers."""
    above = [n for n in line.numbers if n > 1]
    grows = "grows" if line.last_segment > line.first_segment else "falls"
    change = f"the marginal cost {grows} from {words.size(line.first_segment)} to {words.size(line.last_segment)}"
    return f"{change} (from {above[0]} to {line.split}, and from there to {above[-1]} alive)"


def _because(part: CounterLine | None) -> str:
    if part is None:
        return "no single part of the ledger explains this"
    ends = f"from {words.size(part.first_segment)} to {words.size(part.last_segment)} an instance"
    return f"{part.title} changes most: {ends}"


def _balance(account: RampAnalysis) -> Iterator[Claim]:
    subjects = dict.fromkeys(row.subject for row in account.ledger)
    rows = [row for subject in subjects if (row := ledger.largest(account.ledger, subject)) is not None]
    if not rows:
        return
    good = [row for row in rows if row.balanced]
    worst = max(rows, key=lambda row: abs(row.residual_bytes) / row.allowed_bytes)
    share = f"{worst.within_fraction * 100:.0f} %"
    counted = ", ".join(f"{row.subject} in {row.rounds_balanced} ({row.rounds_within}) of {row.rounds}" for row in rows)
    yield Claim(
        lead=f"The ledger balances for {len(good)} of {words.plural(len(rows), 'subject')} at the largest count",
        detail=(
            f"nearest to the limit is {worst.subject}: {words.size(worst.residual_bytes)} of "
            f"{words.size(worst.host_change_bytes)} ({words.percent(worst.residual_fraction)}) are not explained; "
            f"the limit is {show(worst.allowed_bytes, 'bytes')}. Rounds that balance (within {share} of the change): "
            f"{counted}."
        ),
        subject="",
        verdict="no difference shown",
    )


def _reached(row: DensityRow, refused: str, *, emulated: bool) -> Claim:
    mark = f" ({words.EMULATED}; {together.TRANSLATED})" if emulated else ""
    lost = f", {row.lost} failed" if row.lost else ""
    ended = f"ended by {row.stopped_by}{lost}"
    if row.refused is not None:
        lead, grounds = f"{row.subject}: {row.reached} alive at once; no claim about more", row.refused.sentence
    elif row.compared == "nothing":
        lead, grounds = f"{row.subject}: {row.reached} alive at once", row.why
    elif row.compared == "bytes" and refused:
        lead, grounds = f"{row.subject}: {row.reached} alive at once; no claim about their memory", refused
    elif row.compared == "instances":
        error = words.percent(row.error_fraction)
        between = "" if row.held is None else f"; the floor held at {row.held}"
        lead = f"{row.subject}: {row.reached} alive at once{between}, {row.predicted} were predicted ({error})"
        grounds = f"predicted {numbers(row)} {_grounds(row)}"
    else:
        taken, said = words.size(row.reached_bytes), words.size(row.predicted_bytes or 0.0)
        error = words.percent(row.error_fraction)
        lead = f"{row.subject}: {row.reached} alive at once, in {taken}; {said} were predicted ({error})"
        between = words.interval(row.predicted_bytes_low, row.predicted_bytes_high, "bytes")
        short = interval(row.memory_instances, row.memory_low, row.memory_high)
        at = f"{_full(row)}{_at(row.readings)}"
        grounds = f"{BILLED_BY_COUNT}; predicted {between} {at}; memory would have been short at {short}"
    grounds += _of_processors(row)
    where = f"; the line no longer holds from {row.knee} on" if row.knee else ""
    return Claim(
        lead=lead, detail=f"{ended}; {grounds}{where}{mark}.", subject=row.subject,
        verdict="no difference shown" if row.refused is None else "no figure", emulated=emulated, refused=row.refused,
    )  # fmt: skip


def _grounds(row: DensityRow) -> str:
    return _full(row) + _at(row.cpu_readings if row.bound == "processors" else row.readings)


def _full(row: DensityRow) -> str:
    """What a prediction is about where several share a machine."""
    return "" if row.places == 1 else f"in full machines of {row.places}, "


def _at(readings: Sequence[int]) -> str:
    if len(readings) > _MOST_NAMED:
        return f"from {len(readings)} readings at {readings[0]} to {readings[-1]}"
    return f"from the readings at {', '.join(map(str, readings))}"


def _of_processors(row: DensityRow) -> str:
    """What the processors would allow, where it was read; which of the two is the bound; what others did meanwhile."""
    if row.cpu_instances is None:
        return f"; processors: {capacity.short(row.cpu_why)}" if row.cpu_why else ""
    each = f"an instance uses {words.plain(100 * (row.cpu_margin or 0.0))} % of a processor"
    if row.bound == "processors" and row.compared == "instances":
        known = "" if row.memory_instances is None else f"; memory would hold {words.number(row.memory_instances)}"
        said = f"; the processors are the limit: {each}{known}"
    else:
        short = interval(row.cpu_instances, row.cpu_low, row.cpu_high)
        said = f"; the processors would hold {short}: {each}"
    others = row.cpu_others or 0.0
    if abs(others) < _OTHERS:
        return said
    change = "more" if others > 0 else "less"
    return f"{said}; other work used {change} of the processors at the end (by {words.plain(abs(others))})"


def numbers(row: DensityRow) -> str:
    """``44 (95 % CI 42 to 47)``, for a reader."""
    return interval(row.predicted, row.predicted_low, row.predicted_high)


def interval(n: int | None, low: int | None, high: int | None) -> str:
    """A number of instances with its interval; a dash where there is none."""
    if n is None:
        return "—"
    return f"{words.number(n)} (95 % CI {words.number(low)} to {words.number(high)})"


def limits(header: RunHeader, account: RampAnalysis) -> Iterator[str]:
    """What these numbers do not say."""
    if any(subject.accelerator == "tcg" for subject in header.subject_records()):
        yield f"What a virtual machine needs with hardware acceleration: {together.TRANSLATED}."
    yield "What a real service needs: the payload does almost nothing. A service's own memory comes on top."
    if any(view.kept_bytes is not None for view in account.inside):
        yield "What a guest used before its payload was ready: the payload looks at its memory only once, at its start."
    else:
        yield "What a guest's kernel keeps for itself: guest memory is measured from outside, as a whole."
    yield (
        "What an idle host would show: the ledger includes the memory of other processes. Their anonymous memory is a "
        "part of its own; the rest is in page cache, kernel or residual."
    )
    if (machines := [row for row in account.released if row.balloon]) and all(r.balloon == "none" for r in machines):
        yield f"What a machine with free page reporting or a balloon gives back: {released.NO_BALLOON}."
    if account.costs:
        yield "What your bill will be: the prices are those of a data file, and memory alone decides how many machines."
