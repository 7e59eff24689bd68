"""The answer at first sight: a sentence in everyday words, its grounds, and bars. Every section makes its own.

A sentence here says no more than the verdict allows: where there is none, the numbers are given and no word for them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from tare.bench.records.metrics import Metric, show
from tare.bench.records.readiness import Exit
from tare.reports import words
from tare.reports.analysis.calibration import delay_seconds
from tare.reports.analysis.figures import Compared, SubjectFigures
from tare.reports.analysis.model import Bar, Lead
from tare.runners import layers

#: What a VM without KVM is worth, in a sentence that nobody can miss.
EMULATED = (
    "{} ran in software emulation: with hardware acceleration (KVM) a VM is many times faster and takes less memory"
)
#: Labels that people say in another way, and how: one, and several.
_SAID = {
    "process": ("a bare process", "bare processes"),
    "container": ("a container", "containers"),
    "vm": ("a VM", "VMs"),
    "vm+container": ("a container in a VM", "containers in VMs"),
}
#: So many bars are on the first screen; the others stand behind a fold.
SHOWN = 7
#: Words with which a sentence of ours may begin.
_OPENINGS = frozenset(("a", "an", "every", "no", "one", "the", "there", "this"))
#: From here on a ratio is said as "n times"; below, as per cent.
_TIMES = 2.0


class Phrase(NamedTuple):
    """How the two sides of a metric are said: ``{} takes {} times as long to start as {}``.

    *times* and *more* have the places for the greater, the ratio or the percentage, and the smaller; *one* has the
    places for a subject and its value.
    """

    times: str
    more: str
    one: str


_PHRASES = {
    "ready_seconds": Phrase(
        "{} takes {} times as long to start as {}", "{} takes {} longer to start than {}", "{} starts in {}"
    ),
    "margin_bytes": Phrase(
        "one more {} takes {} times the memory of one more {}",
        "one more {} takes {} more memory than one more {}",
        "one more {} takes {}",
    ),
    "least_memory_bytes": Phrase(
        "{} needs {} times the memory of {} to start", "{} needs {} more memory than {} to start", "{} starts with {}"
    ),
}  # fmt: skip


_TITLES = {
    "ready_seconds": "Time from the request until the workload is ready",
    "margin_bytes": "Memory of the host that one more instance takes",
    "least_memory_bytes": "The smallest memory grant with which the workload starts",
}


#: Where the clock stops when a command has ended, nothing starts and stays.
_RUNS = Phrase("{} takes {} times as long as {}", "{} takes {} longer than {}", "{} takes {}")
_RUNS_TITLE = "Time from the request until the command has ended"


def _ends(metric: Metric, subjects: Iterable[SubjectFigures]) -> bool:
    """Whether *metric* is the time that a command takes, for each of *subjects*."""
    contracts = [one.workload.ready if one.workload else None for one in subjects]
    return metric.name == "ready_seconds" and bool(contracts) and all(isinstance(one, Exit) for one in contracts)


def phrase(metric: Metric, subjects: Iterable[SubjectFigures]) -> Phrase:
    """The phrase of *metric* for *subjects*; one made of its title where it has none of its own."""
    if _ends(metric, subjects):
        return _RUNS
    title, of = metric.title, " of memory" if metric.unit == "bytes" else ""
    verb = "needs" if metric.unit == "bytes" else "takes" if metric.unit == "seconds" else "has"
    return _PHRASES.get(metric.name) or Phrase(
        f"{{}} {verb} {{}} times as much as {{}} ({title})",
        f"{{}} {verb} {{}} more than {{}} ({title})",
        f"{{}} {verb} {{}}{of} ({title})",
    )


def one(subject: SubjectFigures, *, article: bool = True) -> str:
    """*subject* as people say it: ``a container``, ``an emulated VM``, ``crun``.

    Without its *article*, after "one more": ``container``, ``emulated VM``, ``instance of crun``.
    """
    emulated = subject.result_class == "emulated"
    said, _ = _SAID.get(subject.label, ("", ""))
    if not said or subject.label != layers.name(subject.layers):
        label = subject.label if article else f"instance of {subject.label}"
        return f"{label} (emulated)" if emulated else label
    said = said.replace("a VM", "an emulated VM") if emulated else said
    return said if article else said.split(" ", 1)[1]


def several(subject: SubjectFigures) -> str:
    """``containers``, ``emulated VMs``, ``instances of crun``."""
    _, plural = _SAID.get(subject.label, ("", ""))
    emulated = "emulated " if subject.result_class == "emulated" else ""
    known = plural and subject.label == layers.name(subject.layers)
    return plural.replace("VMs", f"{emulated}VMs") if known else f"{emulated}instances of {subject.label}"


def scale(subjects: Iterable[SubjectFigures]) -> set[str]:
    """Subjects that measure the instrument and are nobody's answer: the null baseline and the known delays."""
    return {one.label for one in subjects if layers.is_null(one.runner) or delay_seconds(one)}


def bar(subject: SubjectFigures, metric: Metric, note: str = "") -> Bar:
    """The bar of one figure; without a figure, the first clause of the reason stands in its place."""
    figure = subject.figure(metric.name)
    return Bar(
        subject=subject.label,
        value=figure.median,
        shown="—" if figure.median is None else shown(figure.median, figure.unit),
        low=figure.low,
        high=figure.high,
        note=note or ("" if figure.median is not None else f"no figure: {words.brief(figure)}"),
        family=family(subject),
        emulated=subject.result_class == "emulated",
    )


def family(subject: SubjectFigures) -> str:
    """The name of the colour of *subject*."""
    return layers.family(subject.runner, subject.layers)


def shown(value: float, unit: str) -> str:
    """A value as it stands beside a bar, with a true minus sign."""
    return f"{'−' if value < 0 else ''}{show(abs(value), unit)}"


def ordered(bars: Iterable[Bar], sides: Container[str] = ()) -> tuple[Bar, ...]:
    """Native ones in the order of the scenario, emulated ones after them: they are never ranked together.

    Where there are more than the first screen shows, the *sides* of the sentence come first.
    """
    known = sorted(bars, key=lambda one: one.emulated)
    return tuple(sorted(known, key=lambda one: len(known) > SHOWN and one.subject not in sides))


def main(
    comparisons: Sequence[Compared], by_label: dict[str, SubjectFigures], pairs: Iterable[tuple[str, str]]
) -> Compared | None:
    """The comparison that the question is about: the first of the *pairs* of the scenario that crosses a wall.

    Without such a pair it is the first of them.

    What crosses a wall is a container against a virtual machine, or either against a bare process. Where the scenario
    names no pair, comparisons with the reference take its place. Those without two figures come last.
    """

    named = {frozenset(pair) for pair in pairs}

    def rank(compared: Compared) -> tuple[bool, bool, bool]:
        sides = {layers.name(by_label[label].layers) for label in (compared.subject, compared.reference)}
        asked = frozenset((compared.subject, compared.reference)) in named
        return compared.verdict == "no figure", len(sides) < 2, not asked

    return min(comparisons, key=rank, default=None)


def sentence(compared: Compared, metric: Metric, by_label: dict[str, SubjectFigures]) -> str:
    """*compared* in everyday words, as far as its verdict goes."""
    ends = [
        (by_label[compared.subject], compared.subject_median),
        (by_label[compared.reference], compared.reference_median),
    ]
    known = [(subject, value) for subject, value in ends if value is not None]
    said = phrase(metric, [subject for subject, _ in ends])
    name = partial(one, article=metric.name != "margin_bytes")
    found = compared.verdict in ("lower", "higher") and compared.ratio is not None
    if len(known) < 2 and not found:
        alone = [f"{said.one.format(name(subject), shown(value, compared.unit))}" for subject, value in known]
        missing = ", ".join(one(subject) for subject, value in ends if value is None)
        noisy = any(subject.figure(metric.name).refused is not None for subject, value in ends if value is None)
        none = "this run is too noisy for a figure of" if noisy else "there is no figure for"
        return _begin("; ".join([*alone, f"{none} {missing}"])) + "."
    values = ""
    if len(known) == 2:
        (small, least), (great, most) = sorted(known, key=lambda end: end[1])
        values = f": {shown(most, compared.unit)} against {shown(least, compared.unit)}"
        if compared.verdict == "no difference shown":
            what = words.about(metric.name, metric.title)[1]
            return _begin(f"no difference was found between {name(small)} and {name(great)} {what}{values}.")
    if not found or compared.ratio is None:
        both = " and ".join(said.one.format(name(subject), shown(value, compared.unit)) for subject, value in known)
        few = "; these are too few rounds for a verdict" if compared.verdict == "not enough rounds" else ""
        return f"{_begin(both)}{few}."
    ratio = compared.ratio if compared.verdict == "higher" else 1 / compared.ratio
    high, low = (compared.subject, compared.reference)[:: 1 if compared.verdict == "higher" else -1]
    greater, smaller = name(by_label[high]), name(by_label[low])
    if ratio >= _TIMES:
        return f"{_begin(said.times.format(greater, times(ratio), smaller))}{values}."
    return f"{_begin(said.more.format(greater, f'{100 * (ratio - 1):.0f} %', smaller))}{values}."


def times(ratio: float) -> str:
    """A ratio as people say it, with two digits, or three where it begins with a one: ``2.1``, ``13``, ``880``."""
    leading = 2 if f"{ratio:e}".startswith("1") and ratio >= 100 else 1
    rounded = float(f"{ratio:.{leading}e}")
    return words.number(round(rounded)) if rounded >= 10 else words.plain(rounded)


def grounds(compared: Compared, by_label: dict[str, SubjectFigures]) -> str:
    """The second line: what the verdict rests on, and what emulation means."""
    text = _begin(compared.detail.replace(f" ({words.EMULATED})", ""))
    sides = [by_label[label] for label in (compared.subject, compared.reference)]
    return " ".join([text, *emulation(side.label for side in sides if side.result_class == "emulated")])


def emulation(labels: Iterable[str]) -> list[str]:
    """The sentence on subjects that ran in software emulation; none where none did."""
    known = list(dict.fromkeys(labels))
    return [f"{EMULATED.format(' and '.join(known))}."] if known else []


def nothing(why: str, *, noisy: bool = False) -> Lead:
    """The lead of a run that answers nothing; *noisy* where the host spoilt all that it measured."""
    sentence = "This run is too noisy for an answer." if noisy else "There is no answer yet."
    return Lead(sentence=sentence, grounds=_begin(why))


def alone(subject: SubjectFigures, metric: Metric) -> Lead:
    """The lead of a run with one subject: its figure."""
    figure = subject.figure(metric.name)
    if figure.median is None:
        return nothing(f"{subject.label}: {figure.why}.", noisy=figure.refused is not None)
    between = f", 95 % CI {words.interval(figure.low, figure.high, figure.unit)}" if figure.low is not None else ""
    name = one(subject, article=metric.name != "margin_bytes")
    emulated = f" {EMULATED.format(subject.label)}." if subject.result_class == "emulated" else ""
    torn = words.torn([(subject.label, figure)])
    return Lead(
        sentence=_begin(phrase(metric, [subject]).one.format(name, shown(figure.median, figure.unit))) + ".",
        grounds=f"The median of {words.plural(figure.rounds, 'round')}{between}.{torn}{emulated}",
        title=title(metric, [subject]),
        unit=metric.unit,
    )


def title(metric: Metric, subjects: Iterable[SubjectFigures]) -> str:
    """What the bars of *metric* are, for *subjects*."""
    if _ends(metric, subjects):
        return _RUNS_TITLE
    return _TITLES.get(metric.name) or f"{metric.title[:1].upper()}{metric.title[1:]}: {metric.meaning}"


def with_bars(lead: Lead, subjects: Iterable[SubjectFigures], metric: Metric, sides: Container[str] = ()) -> Lead:
    """*lead* with a bar for each of *subjects* that was not skipped; *sides* are those of its sentence."""
    measured = [subject for subject in subjects if not subject.skipped]
    bars = ordered((bar(subject, metric) for subject in measured), sides)
    return msgspec.structs.replace(lead, title=title(metric, measured), unit=metric.unit, bars=bars)


def _begin(text: str) -> str:
    """*text* with a capital letter, unless it begins with a label, which stays as it was written."""
    return text[:1].upper() + text[1:] if text.partition(" ")[0] in _OPENINGS else text
