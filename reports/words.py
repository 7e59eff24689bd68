"""The words of a report: numbers with their units, verdicts, and the sentences that claim something.

A sentence never says more than the data: the word faster, slower, lighter or heavier is used only when
:mod:`bench.stats.compare` gave that verdict, and every claim carries its interval, p and the number of rounds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from tare.bench.records.header import Look, Precision
from tare.bench.records.metrics import digits, show
from tare.bench.stats.precision import MOST_FAILED
from tare.bench.stats.verdict import ALPHA, Verdict
from tare.reports.analysis.figures import Compared, Counts, Figure

EMULATED = "software-emulated: not comparable with an accelerated VM"

#: For a phase whose two marks were read at once: it is shorter than the instrument can see.
TOGETHER = "at once"

#: Said below charts that stand beside each other.
ONE_SCALE = "Charts with the same letter have the same scale; without letters, all have the same."

#: C0 and C1 controls, and what Unicode keeps for itself: XML 1.0 section 2.2 forbids most, terminals obey some.
_CONTROL = re.compile("[^\t\n\r\u0020-\u007e\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

#: The space between a number and its unit, whatever a unit is followed by, and between a number and its < or >.
_UNIT = re.compile(r"(?<=\d) (?=(?:%|[KMGT]?i?B|ns|µs|ms|s|min|h)(?!\w))|(?<=[<>]) (?=-?\d)")

_WORDS = {
    "seconds": {"lower": "faster", "higher": "slower"},
    "bytes": {"lower": "lighter", "higher": "heavier"},
}

#: How a claim names what it compares: after "is faster", and after "no difference shown between x and y".
_ABOUT = {
    "provisioned_seconds": ("to be provisioned", "in the time until provisioned"),
    "created_seconds": ("to be created", "in the time until created"),
    "first_seconds": ("to reach its first instruction", "in the time to the first instruction"),
    "ready_seconds": ("to become ready", "in the time to ready"),
    "stopped_seconds": ("to stop", "in the time to stop"),
    "removed_seconds": ("to be removed", "in the time to be removed"),
    "cpu_seconds": ("in processor time of the start", "in the processor time of the start"),
    "pss_bytes": ("in memory when ready", "in memory when ready"),
    "margin_bytes": ("for one more instance", "in the memory of one more instance"),
    "first_bytes": ("for the first instance", "in the memory of the first instance"),
    "least_memory_bytes": ("in the least memory it needs", "in the least memory they need"),
}


#: Metric -> what an axis of it is called, where its title alone would not say that it is a time.
_AXES = {
    "provisioned_seconds": "time until provisioned",
    "created_seconds": "time until created",
    "first_seconds": "time to the first instruction",
    "ready_seconds": "time to ready",
    "stopped_seconds": "time to stop",
    "removed_seconds": "time to be removed",
}


def axis(metric: str, title: str) -> str:
    """The title of an axis of *metric*."""
    return _AXES.get(metric, title)


def word(verdict: Verdict, unit: str) -> str:
    """The verdict as a reader meets it: faster, slower, lighter, heavier, or the verdict itself."""
    return _WORDS.get(unit, {}).get(verdict, verdict)


def about(metric: str, title: str) -> tuple[str, str]:
    """What a claim on *metric* is about: to follow "is faster", and to follow "no difference shown between x and y"."""
    return _ABOUT.get(metric, (f"in {title}",) * 2)


def quantity(value: float | None, unit: str) -> str:
    """*value* for display; a long dash when there is none."""
    return "—" if value is None else show(value, unit)


def interval(low: float | None, high: float | None, unit: str) -> str:
    """``4.22 to 4.40 ms``: both ends in one unit where they share it."""
    if low is None or high is None:
        return "—"
    first, last = show(low, unit), show(high, unit)
    number, _, suffix = first.rpartition(" ")
    return f"{number} to {last}" if last.endswith(f" {suffix}") else f"{first} to {last}"


def ratio(value: float | None) -> str:
    """A ratio with three significant digits, never in powers of ten: ``0.304``, ``12.5``, ``3090``."""
    if value is None:
        return "—"
    if not math.isfinite(value):
        return str(value)
    # Beyond three digits before the point, the others are said as zeros.
    return digits(float(f"{value:.2e}"))


def plain(value: float) -> str:
    """*value* with three significant digits, without needless zeros: ``15``, ``0.304``."""
    text = digits(value)
    return text.rstrip("0").rstrip(".") if "." in text and "<" not in text else text


def modes(figure: Figure) -> str:
    """``two modes: 4.02 ms (52 %) and 40.3 ms (48 %)``, each with its share; empty for one mode."""
    if not figure.modes:
        return ""
    how_many = {2: "two", 3: "three", 4: "four"}.get(len(figure.modes), str(len(figure.modes)))
    said = [f"{show(one.value, figure.unit)} ({100 * one.share:.0f} %)" for one in figure.modes]
    return f"{how_many} modes: {', '.join(said[:-1])} and {said[-1]}"


def torn(figures: Iterable[tuple[str, Figure]]) -> str:
    """What must follow a claim on the medians of these subjects: the sentence on those that have several modes."""
    found = dict.fromkeys(f"{label} has {modes(figure)}" for label, figure in figures if figure.modes)
    return "".join(f" {text}; no start may have taken as long as its median." for text in found)


def probability(p: float | None) -> str:
    """``p = 0.002``, or that it is below what is worth printing."""
    if p is None:
        return "—"
    return "< 0.0001" if p < 0.0001 else f"{p:#.2g}"


def phase(duration: float) -> str:
    """How long a phase took. Marks that one read(2) brought share a stamp: that is no duration of zero."""
    if duration == 0:
        return TOGETHER
    return f"{'−' if duration < 0 else ''}{show(abs(duration), 'seconds')}"


def clean(text: str) -> str:
    """*text* without control characters but tab and line ends: neither page nor terminal may obey a label or a log."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def line(text: str) -> str:
    """:func:`clean` text on one line."""
    return clean(text).replace("\t", "?").replace("\n", "?")


def plural(count: int, noun: str) -> str:
    """``1 round``, ``2 rounds``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def no_figure(counts: Counts) -> str:
    """Why a subject has no figure, or an empty string when it may have one."""
    lost = counts.failed + counts.timeout
    if counts.started == 0 and counts.invalid:
        return f"no figure: {plural(counts.invalid, 'trial')} invalid because the measuring process did not run"
    if counts.started == 0:
        return "no figure: nothing was started"
    if lost / counts.started > MOST_FAILED:
        return f"no figure: {lost} of {plural(counts.started, 'start')} failed"
    if counts.ready == 0:
        return "no figure: no start became ready"
    return ""


def brief(figure: Figure) -> str:
    """The short reason for which there is no figure: its first clause; empty where there is one."""
    return figure.why.removeprefix("no figure: ").removeprefix("no claim: ").partition(": ")[0]


def no_figures(missing: Mapping[str, str]) -> str:
    """Why these subjects have no figure: label -> reason, one clause for all that share a reason."""
    shared: dict[str, list[str]] = {}
    for label, why in missing.items():
        shared.setdefault(why.removeprefix("no figure: ").removeprefix("no claim: "), []).append(label)
    return "; ".join(f"no figure for {', '.join(labels)}: {why}" for why, labels in shared.items())


def grounds(compared: Compared) -> str:
    """What a verdict rests on: interval, p, rounds, and the ratio; greater by smaller where the verdict says which."""
    if compared.ratio is None:
        few = compared.verdict == "not enough rounds"
        why = "no ratio: " + ("not enough rounds" if few else "it needs values above zero in every round")
        return why + (f" ({EMULATED})" if compared.emulated else "") + "."
    # The sentence says which side is greater, where the verdict does.
    what = "factor" if compared.verdict in ("lower", "higher") else "ratio"
    middle, low, high = compared.ratio, compared.low, compared.high
    if compared.verdict == "lower":
        middle, low, high = 1 / middle, *(None if end is None else 1 / end for end in (high, low))
    text = f"a {what} of {ratio(middle)}"
    given = []
    if low is not None and high is not None:
        given.append(f"95 % CI {ratio(low)} to {ratio(high)}")
    if compared.p is not None:
        shown = probability(compared.p)
        given.append(f"p {shown}" if shown.startswith("<") else f"p = {shown}")
    given.append(plural(compared.rounds, "round"))
    text += f" ({', '.join(given)})"
    if compared.verdict == "no difference shown" and compared.threshold is not None and compared.p is not None:
        small = f"; the change is below the {plain(compared.threshold * 100)} % that a verdict needs here"
        text += f"; p is above {ALPHA}" if compared.p > ALPHA else small
    return text + (f" ({EMULATED})" if compared.emulated else "") + "."


def lead(compared: Compared) -> str:
    """The claim itself with both medians, without its grounds."""
    if compared.subject_median is None or compared.reference_median is None:
        return _claim(compared)
    one, other = (show(value, compared.unit) for value in (compared.subject_median, compared.reference_median))
    return f"{_claim(compared)}: {one} against {other}"


def _claim(compared: Compared) -> str:
    adverb, noun = about(compared.metric, compared.title)
    one, other = compared.subject, compared.reference
    runs = compared.why_compared == "run"
    match compared.verdict:
        case "lower" | "higher" if runs:
            return f"{one} is {compared.word} {adverb} in the second run"
        case "lower" | "higher":
            return f"{one} is {compared.word} {adverb} than {other}"
        case "no difference shown":
            between = f"the two runs of {one}" if runs else f"{one} and {other}"
            return f"No difference shown between {between} {noun}"
        case "not enough rounds":
            return f"Not enough rounds to compare {f'the two runs of {one}' if runs else f'{one} with {other}'} {noun}"
        case "no figure" if compared.refused is not None:
            return f"Too noisy to compare {f'the two runs of {one}' if runs else f'{one} with {other}'} {noun}"
        case "no figure":
            return f"{f'The two runs of {one}' if runs else f'{one} and {other}'} cannot be compared {noun}"


def signed(value: float, unit: str) -> str:
    """A difference with its sign: ``+0.31 ms``, ``−12 µs``."""
    return f"{'−' if value < 0 else '+'}{show(abs(value), unit)}"


def size(value: float) -> str:
    """Bytes with a true minus sign, and no plus."""
    return f"{'−' if value < 0 else ''}{show(abs(value), 'bytes')}"


def looked(precision: Precision, rounds: int) -> tuple[str, str]:
    """What a run says between two rounds: how wide the widest interval is, and how it goes on to *rounds*."""
    look = precision.looks[-1]
    head = f"after {plural(look.rounds, 'round')}:"
    if precision.ended == "no figure":
        return head, "no subject has a figure, so more rounds would show nothing"
    text = f"the widest interval is {_either_way(look)}; wanted is ± {_percents(precision.wanted)}"
    if precision.ended == "reached":
        return head, f"{text}: reached"
    if precision.ended:
        return head, f"{text}; these were the {plural(precision.max_rounds, 'round')} that it may take"
    return head, f"{text}; it goes on to {rounds}, of at most {plural(precision.max_rounds, 'round')}"


def precision_found(precision: Precision) -> str:
    """``wanted 5 %, reached 8 % after 60 rounds``, with why there are no more; empty before the first look."""
    if not precision.looks:
        return ""
    look, (label, half) = precision.looks[-1], precision.looks[-1].widest
    reached = f"reached {_percents(half)} ({label})" if half is not None else f"{label or 'no subject'} has no interval"
    text = f"wanted {_percents(precision.wanted)}, {reached} after {plural(look.rounds, 'round')}"
    cap = f": more than {precision.max_rounds} were not allowed (--max-rounds)"
    text += {"cap": cap, "no figure": ": no subject has a figure", "reached": "", "": ": the run did not end"}[
        precision.ended
    ]
    if precision.left_out:
        text += f"; {', '.join(precision.left_out)} failed too often to be waited for"
    return text


def _either_way(look: Look) -> str:
    label, half = look.widest
    return f"around zero ({label})" if half is None else f"± {_percents(half)} ({label})"


def _percents(fraction: float) -> str:
    return f"{plain(100 * fraction)} %"


def amount(value: float, unit: str) -> str:
    """*value* with a true minus sign, and no plus."""
    return f"{'−' if value < 0 else ''}{show(abs(value), unit)}"


def share(fraction: float) -> str:
    """``3.1 %`` of a whole, in tenths."""
    # Plus zero: what rounds to zero has no sign.
    return f"{round(fraction * 100, 1) + 0.0:.1f} %".replace("-", "−")


def number(n: int | None) -> str:
    """How many instances: all digits up to four, three of them beyond; a question mark where none is known."""
    if n is None:
        return "?"
    rounded = n if n < 10_000 else round(n, 3 - len(str(n)))
    return f"{rounded:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if n >= 10_000 else str(n)


def together(text: str) -> str:
    """*text* in which no line ends between a number and its unit, for a page."""
    return _UNIT.sub("\N{NO-BREAK SPACE}", text)


def percent(fraction: float | None) -> str:
    """``+2.3 %`` with its sign; a dash when there is none."""
    if fraction is None:
        return "—"
    digits = f"{abs(fraction) * 100:.1f}"
    return f"{'−' if fraction < 0 and float(digits) else '+'}{digits} %"
