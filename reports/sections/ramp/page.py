"""What the pages of ramps need besides the Report: charts, legends, and the rows that a section looks up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tare.bench.records.metrics import show
from tare.reports import words
from tare.reports.analysis.build import Analysed
from tare.reports.analysis.model import Report
from tare.reports.charts.looks import looks
from tare.reports.charts.svg import Draw, both
from tare.reports.cost import charts as cost_charts
from tare.reports.page import raw
from tare.reports.page.figures import Measured
from tare.reports.sections.ramp import sentences
from tare.reports.sections.ramp.charts import (
    curve_charts,
    density_charts,
    growth_charts,
    margin_charts,
    memory_charts,
    scale_down_charts,
)
from tare.reports.sections.ramp.density import capacity, curves
from tare.reports.sections.ramp.density.model import CurvePoint
from tare.reports.sections.ramp.memory import ledger, margin_words, released
from tare.reports.sections.ramp.memory.model import Margin, MemoryLayers, Owner

#: So many subjects have their owners shown one by one; more would fill screens.
_MOST_SHOWN = 4
#: Of so many rounds each residual is shown; of more, the least and the most.
_MOST_ROUNDS = 100
#: Owner -> CSS variable of its bar, where its place does not say it.
_COLOURS = {
    "guest memory": "--guest", "guest kernel": "--slab", "guest page cache": "--cache", "page cache": "--cache",
    "host kernel": "--slab", "partly unmapped huge pages": "--rests",
}  # fmt: skip
_BALANCE = "Host memory at the largest count, by owner"

FILTERS: Mapping[str, Callable[..., str]] = {
    "signed_bytes": raw.of(words.size, "bytes"),
    "span": lambda low, high: raw.span(_ends(low, high), low, high, "bytes"),
    "percent": raw.of(words.percent, "ratio"),
    "share": raw.of(words.share, "ratio"),
    "number": raw.of(words.number),
    "reason": capacity.short,
    "figures": raw.of(words.plain),
    "part": ledger.title,
    "way": released.way,
    "bend": sentences.bend,
    "amount": lambda value, metric: raw.one(_amount(value, metric), value, metric.rpartition("_")[2]),
}


def context(analysed: Analysed) -> dict[str, Any]:
    """Everything that ``page.html`` looks up."""
    report, found, drawn = analysed.report, analysed.report.analysis, analysed.drawn
    by_line = {(line.subject, line.counter): line for line in found.fits}
    bars = memory_charts.at_most(report)
    look = looks(report.subjects)
    draw: dict[str, Draw] = {
        "balance": lambda width, name: memory_charts.balance(bars, width=width, name=name, title=_BALANCE),
        "growth": lambda width, name: growth_charts.growth(report, drawn.table, width=width, name=name),
        "predicted": lambda width, name: density_charts.predicted(report, drawn.used, width=width, name=name),
        "starts": lambda width, name: density_charts.starts(report, drawn.read.starts, width=width, name=name),
        "busy": lambda width, name: curve_charts.busy(report, width=width, name=name),
        "pressure": lambda width, name: curve_charts.pressure(report, width=width, name=name),
        "descent": lambda width, name: scale_down_charts.memory(report, width=width, name=name),
        "removals": lambda width, name: scale_down_charts.removals(report, width=width, name=name),
        "course": lambda width, name: margin_charts.course(report, width=width, name=name),
    }
    charts = {key: both(key, one, 900) for key, one in draw.items()}
    for cost in report.analysis.costs:
        charts[f"cost-{cost.book}"] = both(
            f"cost-{cost.book}",
            lambda width, name, cost=cost: cost_charts.steps(cost, look, width=width, name=name),  # type: ignore[misc]
            900,
        )
    refused = found.refused
    return {
        "filters": FILTERS,
        "analysis": found,
        "charts": charts,
        "legends": {
            "balance": memory_charts.legend(bars),
            "course": margin_charts.legend(report),
            "pressure": curve_charts.legend(report),
        },
        "by_label": {subject.label: subject for subject in report.subjects},
        "largest": lambda label: ledger.largest(report.analysis.ledger, label),
        "host_line": lambda label: by_line.get((label, ledger.HOST)),
        "parts": list(dict.fromkeys(part for row in report.analysis.ledger for part in row.parts)),
        "refused": refused,
        "most_rounds": _MOST_ROUNDS,
        "rules": margin_words.rules(found for found in report.analysis.constancy if found.subject not in refused),
        "extrapolated": sentences.EXTRAPOLATED,
        "course_of": _course(report),
        "curve_rows": _curve_rows(report),
        "curve_titles": {name: curves.TITLES[name] for name in curves.TITLES if name in _metrics(report)},
        "shown_layers": _shown(report),
        "owner_bar": _bar,
        "guest_share": _guest_share(report),
    }


def _ends(low: float, high: float) -> str:
    """Two sizes, which may be below zero."""
    return f"{words.size(low)} to {words.size(high)}" if low < 0 else words.interval(low, high, "bytes")


def _amount(value: float, metric: str) -> str:
    """Memory, a share, or a time."""
    if metric.endswith("_bytes"):
        return words.size(value)
    return words.share(value) if metric.endswith("_ratio") else show(value, "seconds")


def _metrics(report: Report) -> set[str]:
    return {curve.metric for curve in report.analysis.curves}


def _curve_rows(report: Report) -> dict[tuple[str, int], dict[str, CurvePoint]]:
    """(subject, count) -> metric -> point, in the order of the report."""
    found: dict[tuple[str, int], dict[str, CurvePoint]] = {}
    for curve in report.analysis.curves:
        for point in curve.points:
            found.setdefault((curve.subject, point.n), {})[curve.metric] = point
    order = [subject.label for subject in report.subjects]
    return dict(sorted(found.items(), key=lambda one: (order.index(one[0][0]), one[0][1])))


def _course(report: Report) -> Callable[[str], list[Margin]]:
    """The steps of one subject's margin."""
    return lambda label: [one for one in report.analysis.margins if one.subject == label]


def _shown(report: Report) -> list[MemoryLayers]:
    """One subject for each combination of layers first, in the scenario's order, and the next while there is room."""
    touched = {label for row in report.analysis.released for label in (row.touched, row.released)}
    stacks = list(report.analysis.layers_memory)
    plain = [stack for stack in stacks if stack.subject not in touched] or stacks
    first = {stack.layers: stack for stack in reversed(plain)}
    chosen = [stack for stack in plain if first[stack.layers] is stack]
    chosen += [stack for stack in plain if stack not in chosen][: _MOST_SHOWN - len(chosen)]
    return [stack for stack in plain if stack in chosen]


def _bar(owner: Owner) -> Measured:
    """What an owner has, as a bar of the share of the whole."""
    place = {"inside": "--payload", "guest": "--guest", "runtime": "--helper"}.get(owner.place, "--others")
    colour = _COLOURS.get(owner.name, place)
    return Measured(label="", shown=words.size(owner.bytes), share=owner.share, colour=colour)


def _guest_share(report: Report) -> str:
    """How much of guest memory the payload can be, by a container with the same payload.

    Empty where guest memory was read from inside.
    """
    seen = {view.subject for view in report.analysis.inside}
    guests = [stack for stack in report.analysis.layers_memory if stack.kernels == 2 and stack.subject not in seen]
    labels = {subject.label: subject for subject in report.subjects}
    for guest in guests:
        for stack in report.analysis.layers_memory:
            if stack.kind == "container" and labels[stack.subject].argv == labels[guest.subject].argv:
                inside, payload = guest.owners[0].bytes, stack.owners[0].bytes
                own, whole = words.size(payload), words.size(inside)
                return (
                    f"In {stack.subject} the same payload has {own} of its own. Of the {whole} of guest memory of "
                    f"{guest.subject}, the rest is the guest's kernel, its caches and its firmware's."
                )
    return ""
