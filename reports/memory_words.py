"""The sentences of a report on memory and density. None says more than its rows; what is refused is said calmly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.metrics import show
from bench.records import RunHeader
from bench.stats import LEAST_CHANGE, LEAST_ROUNDS
from reports import ledger, lines, measures, words
from reports.memory import Weighed
from reports.memory_model import DensityRow, Line, Released
from reports.model import Claim, Compared, Figure, SubjectFigures

TRANSLATED = "under TCG, QEMU also holds a cache of translated code, which an accelerated one does not need"
BILLED_BY_COUNT = "memory compared at the number reached, since another rule ended the ascent"


def answer(subjects: Sequence[SubjectFigures], comparisons: Sequence[Compared], weighed: Weighed) -> Iterator[Claim]:
    """What the run found, most wanted first."""
    emulated = {subject.label for subject in subjects if subject.result_class == "emulated"}
    by_label = {subject.label: subject for subject in subjects}
    for row in weighed.density:
        yield _reached(row, emulated=row.subject in emulated)
    if not weighed.density and _is_about_money(subjects, weighed):
        for cost in weighed.costs:
            for sentence in cost.sentences[:3] if cost is weighed.costs[0] else cost.sentences[1:2]:
                detail = f"{cost.title}, {cost.dated}" + (f": {cost.example}" if cost.example else "")
                yield Claim(lead=sentence, detail=f"{detail}.", subject="", verdict="not enough rounds")
    touched = {label for row in weighed.released for label in (row.touched, row.released)}
    mine = [
        one
        for one in comparisons
        if one.metric == measures.MARGIN
        and not {one.subject, one.reference} & (touched if _many(subjects, touched) else set())
    ]
    for one in sorted(mine, key=lambda one: (one.why_compared != "pair", one.emulated)):
        if not (by_label[one.subject].skipped or by_label[one.reference].skipped):
            yield _margin(one, by_label, weighed)
    yield from _bent(weighed, touched)
    for back in weighed.released:
        yield _gave_back(back)
    yield from _balance(weighed)


def _many(subjects: Sequence[SubjectFigures], touched: set[str]) -> bool:
    """Whether anything is left to say when the touched subjects are spoken of by what they give back alone."""
    return any(subject.label not in touched and not subject.skipped for subject in subjects)


def _is_about_money(subjects: Sequence[SubjectFigures], weighed: Weighed) -> bool:
    """A run of nothing but the two arms of the cost model is a question of money."""
    arms = {arm.subject for cost in weighed.costs for arm in cost.arms}
    return bool(arms) and arms == {subject.label for subject in subjects if subject.kind != "process"}


def _margin(one: Compared, by_label: dict[str, SubjectFigures], weighed: Weighed) -> Claim:
    """One comparison of margins. Where a side may not be claimed, the other is still said."""
    sides = [(label, _figure(by_label[label])) for label in (one.subject, one.reference)]
    said = [(label, figure) for label, figure in sides if figure.median is not None]
    missing = {label: figure.why.removeprefix("no claim: ") for label, figure in sides if figure.median is None}
    costs = ", ".join(
        f"one more {label}{' costs' if place == 0 else ''} {show(figure.median or 0.0, 'bytes')}"
        for place, (label, figure) in enumerate(said)
    )
    between = " against ".join(words.interval(f.low, f.high, "bytes") for _, f in said if f.low is not None)
    detail = f"95 % CI {between}; " if between else ""
    translated = f"; {TRANSLATED}" if one.why_compared == "pair" else ""
    mark = f" ({words.EMULATED}{translated})" if one.emulated else ""
    if missing:
        lead = (
            f"{costs[:1].upper()}{costs[1:]}; no claim on {' and '.join(missing)}"
            if said
            else f"No claim on {' and '.join(missing)}"
        )
        detail += "; ".join(f"{label}: {why}" for label, why in missing.items()) + mark
    else:
        word = f": {one.subject} is {one.word}" if one.verdict in ("lower", "higher") else ""
        lead = f"{costs[:1].upper()}{costs[1:]}{word}"
        detail += words.grounds(one).removesuffix(".").replace(f" ({words.EMULATED})", "")
        if one.verdict == "not enough rounds":
            detail += f": with fewer than {LEAST_ROUNDS} rounds, neither is called lighter"
        detail += _without_others(one, weighed) + mark
    return Claim(lead=lead, detail=f"{detail}.", subject=one.subject, verdict=one.verdict, emulated=one.emulated)


def _without_others(one: Compared, weighed: Weighed) -> str:
    """The margins without the anonymous memory of other processes, where that makes a difference."""
    margins = {(line.subject, line.counter): line.b for line in weighed.fits}
    pairs = [(margins[label, ledger.HOST], margins[label, lines.OWN]) for label in (one.subject, one.reference)]
    if all(abs(own - host) < LEAST_CHANGE * abs(host) for host, own in pairs):
        return ""
    first, second = (signed(own) for _, own in pairs)
    return f"; without what other processes of the host took or gave meanwhile, {first} against {second}"


def _bent(weighed: Weighed, touched: set[str]) -> Iterator[Claim]:
    """Margins that change with the number alive, and the part of the account that changes most."""
    for line in weighed.fits:
        if line.counter != ledger.HOST or line.subject in touched:
            continue
        if weighed.density and line.straight is None:
            yield _throughout(weighed, line)
        if line.straight is not False or abs(line.last_segment - line.first_segment) < LEAST_CHANGE * abs(line.b):
            continue
        yield Claim(
            lead=f"One more {line.subject} does not always cost the same: {bend(line)}",
            detail=f"{_because(lines.bent_by(weighed.fits, line))}, {words.plural(line.rounds, 'round')}.",
            subject=line.subject,
            verdict="no difference shown",
        )


def _throughout(weighed: Weighed, line: Line) -> Claim:
    """Of an ascent that was made once: of what the memory consists, and whether it stays the same to the last."""
    change = line.last_segment / line.first_segment - 1 if line.first_segment > 0 else 0.0
    row = ledger.largest(weighed.ledger, line.subject)
    parts = sorted(row.parts.items(), key=lambda one: -abs(one[1]))[:4] if row else []
    consists = ", ".join(f"{ledger.title(part)} {signed(value / row.n)}" for part, value in parts if row)
    if abs(change) < LEAST_CHANGE:
        late = f"{signed(line.last_segment)} from {line.split} alive on"
        lead = f"One more {line.subject} costs the same to the last: {late}"
        why = f"{signed(line.first_segment)} before that"
    else:
        lead = f"One more {line.subject} does not always cost the same: {bend(line)}"
        why = _because(lines.bent_by(weighed.fits, line))
    emulated = any(stack.subject == line.subject and stack.emulated for stack in weighed.layers)
    mark = f" ({words.EMULATED})" if emulated else ""
    return Claim(
        lead=lead,
        detail=f"{why}; at the end an instance has {consists}; too few rounds for an interval{mark}.",
        subject=line.subject,
        verdict="no difference shown",
        emulated=emulated,
    )


def bend(line: Line) -> str:
    """``the margin grows from 0.1 to 0.6 MiB``, between which numbers."""
    above = [n for n in line.numbers if n > 1]
    grows = "grows" if line.last_segment > line.first_segment else "falls"
    change = f"the margin {grows} from {signed(line.first_segment)} to {signed(line.last_segment)}"
    return f"{change} (from {above[0]} to {line.split}, and from there to {above[-1]} alive)"


def _because(part: Line | None) -> str:
    if part is None:
        return "no part of the account alone brings that about"
    ends = f"from {signed(part.first_segment)} to {signed(part.last_segment)} an instance"
    return f"of its parts, {part.title} changes most: {ends}"


def _gave_back(row: Released) -> Claim:
    mark = f" ({words.EMULATED})" if row.emulated else ""
    asked = show(row.asked_bytes, "bytes")
    above = f" above {row.plain}" if row.plain else ""
    took = f"{row.touched} takes {signed(row.touched_bytes)}{above}, {row.released} {signed(row.released_bytes)}"
    if row.fraction is None:
        lead = f"What {row.released} gives back cannot be said: touching {asked} did not show"
    elif row.fraction < 0.05:
        lead = f"{row.released} frees {asked}, and the host gets none of it while it lives"
    else:
        share = f"{min(1.0, row.fraction) * 100:.0f} %"
        lead = f"{row.released} frees {asked}, and the host gets {share} of what had been taken for it"
    between = ""
    if row.low is not None and row.high is not None:
        between = f", share 95 % CI {whole(row.low)} to {whole(row.high)} %"
    detail = f"per instance, with {row.n} alive: {took}{between}, {words.plural(row.rounds, 'round')}{mark}."
    return Claim(lead=lead, detail=detail, subject=row.released, verdict="no difference shown", emulated=row.emulated)


def _balance(weighed: Weighed) -> Iterator[Claim]:
    subjects = dict.fromkeys(row.subject for row in weighed.ledger)
    rows = [row for subject in subjects if (row := ledger.largest(weighed.ledger, subject)) is not None]
    if not rows:
        return
    good = [row for row in rows if row.balanced]
    worst = max(rows, key=lambda row: abs(row.residual_bytes) / row.allowed_bytes)
    yield Claim(
        lead=f"The account balances for {len(good)} of {words.plural(len(rows), 'subject')} at their largest number",
        detail=(
            f"nearest to the limit is {worst.subject}: {signed(worst.residual_bytes)} of "
            f"{show(worst.host_change_bytes, 'bytes')} ({percent(worst.residual_fraction)}) are not accounted for, "
            f"{show(worst.allowed_bytes, 'bytes')} may be."
        ),
        subject="",
        verdict="no difference shown",
    )


def _reached(row: DensityRow, *, emulated: bool) -> Claim:
    mark = f" ({words.EMULATED}; {TRANSLATED})" if emulated else ""
    lost = f", {row.lost} lost" if row.lost else ""
    ended = f"ended by {row.stopped_by}{lost}"
    if row.compared == "nothing":
        lead, grounds = f"{row.subject}: {row.reached} alive at once", row.why
    elif row.compared == "instances":
        error = percent(row.error_fraction)
        lead = f"{row.subject}: {row.reached} alive at once, {row.predicted} were predicted ({error})"
        grounds = f"predicted {numbers(row)} {_grounds(row)}"
    else:
        taken, said, error = signed(row.reached_bytes), signed(row.predicted_bytes or 0.0), percent(row.error_fraction)
        lead = f"{row.subject}: {row.reached} alive at once, in {taken}; {said} were predicted ({error})"
        between = words.interval(row.predicted_bytes_low, row.predicted_bytes_high, "bytes")
        grounds = (
            f"{BILLED_BY_COUNT}; predicted {between} {_grounds(row)}; memory would have been short at {numbers(row)}"
        )
    where = f"; the line no longer holds from {row.knee} on" if row.knee else ""
    return Claim(
        lead=lead, detail=f"{ended}; {grounds}{where}{mark}.", subject=row.subject, verdict="no difference shown",
        emulated=emulated,
    )  # fmt: skip


def _grounds(row: DensityRow) -> str:
    return f"from the readings at {', '.join(map(str, row.readings))}"


def numbers(row: DensityRow) -> str:
    """``44 (95 % CI 42 to 47)``."""
    if row.predicted is None:
        return "—"
    ends = [str(end) if end is not None else "any number" for end in (row.predicted_low, row.predicted_high)]
    return f"{row.predicted} (95 % CI {ends[0]} to {ends[1]})"


def percent(fraction: float | None) -> str:
    """``+2.3 %`` with its sign; a dash when there is none."""
    return "—" if fraction is None else f"{'−' if fraction < 0 else '+'}{abs(fraction) * 100:.1f} %"


def signed(value: float) -> str:
    """Bytes with a true minus sign, and no plus."""
    return f"{'−' if value < 0 else ''}{show(abs(value), 'bytes')}"


def whole(fraction: float) -> str:
    """A share in whole per cent, with a true minus sign and without the unit."""
    return f"{'−' if fraction < 0 else ''}{abs(fraction) * 100:.0f}"


def limits(header: RunHeader, weighed: Weighed) -> Iterator[str]:
    """What these numbers do not say."""
    if any(subject.accelerator == "tcg" for subject in header.subjects):
        yield f"What a virtual machine takes with hardware acceleration: {TRANSLATED}."
    yield "What a real service takes: the payload does next to nothing. A service's memory comes on top, everywhere."
    yield "What a guest's kernel keeps for itself: guest memory is seen from outside, as one."
    yield (
        "What an idle host would show: memory that other processes took or gave meanwhile is in the account, under its "
        "own name where it was anonymous, and within page cache, kernel or residual where it was not."
    )
    if weighed.costs:
        yield "What a bill will be: prices are those of a data file, and memory alone decides how many machines."


def _figure(subject: SubjectFigures) -> Figure:
    return next(figure for figure in subject.figures if figure.metric == measures.MARGIN)
