"""What the pages of ascents need besides the Report: charts, legends, and the rows that a section looks up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup

from bench.store import Run
from reports import ascents, density_plots, growth_plots, ledger, lines, memory_plots, memory_words, plots, words
from reports.memory_model import MemoryLayers, Owner
from reports.model import Report

#: Towers that stand side by side; more would be too narrow to read.
_MOST_TOWERS = 4

FILTERS: Mapping[str, Callable[..., str]] = {
    "signed_bytes": memory_words.signed,
    "span": lambda low, high: (
        f"{memory_words.signed(low)} to {memory_words.signed(high)}" if low < 0 else words.interval(low, high, "bytes")
    ),
    "percent": memory_words.percent,
    "share": lambda fraction: f"{'−' if fraction < 0 else ''}{abs(fraction) * 100:.1f} %",
    "part": ledger.title,
    "bend": memory_words.bend,
}


def both(key: str, draw: Callable[[float, str], str], wide: float) -> Markup:
    """One chart twice, for a desk and for a phone: text must not shrink with the picture."""
    large, small = draw(wide, f"{key}-w"), draw(358, f"{key}-n")
    if not large:
        return Markup()
    # From reports.svg alone, which escapes what it is given: see the docstring of reports.html.
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(Markup(large), Markup(small))


def context(run: Run, report: Report) -> dict[str, Any]:
    """Everything that ``memory.html`` looks up. *run* gives the readings to draw."""
    read = ascents.read(run)
    table = lines.weights(read, ledger.changes(read))
    by_line = {(line.subject, line.counter): line for line in report.fits}
    bars = memory_plots.at_most(report)
    compositions = _compositions(report) if report.density else []
    kinds = {subject.label: subject.kind for subject in report.subjects}
    charts = {
        "balance": both("balance", _balance(bars, "Host memory an instance, by owner"), 900),
        "growth": both("growth", lambda width, name: growth_plots.growth(report, table, width=width, name=name), 900),
        "promised": both(
            "promised", lambda width, name: density_plots.promised(report, read.host, width=width, name=name), 900
        ),
        "starts": both(
            "starts", lambda width, name: density_plots.starts(report, read.starts, width=width, name=name), 900
        ),
    }
    for cost in report.costs:
        charts[f"cost-{cost.book}"] = both(
            f"cost-{cost.book}",
            lambda width, name, cost=cost: density_plots.steps(cost, kinds, width=width, name=name),  # type: ignore[misc]
            900,
        )
    counters = [name for name in lines.COUNTERS if any(line.counter == name for line in report.fits)]
    return {
        "charts": charts,
        "legends": {
            "balance": memory_plots.legend(bars),
            "compositions": memory_plots.legend([bar for _, shown, _ in compositions for bar in shown]),
        },
        "compositions": [(subject, chart) for subject, _, chart in compositions],
        "by_label": {subject.label: subject for subject in report.subjects},
        "largest": lambda label: ledger.largest(report.ledger, label),
        "host_line": lambda label: by_line.get((label, ledger.HOST)),
        "counter_line": lambda label, counter: by_line.get((label, counter)),
        "counters": {name: lines.COUNTERS[name] for name in counters},
        "parts": list(dict.fromkeys(part for row in report.ledger for part in row.parts)),
        "shown_layers": _shown(report),
        "share": _share,
        "guest_share": _guest_share(report),
    }


def _compositions(report: Report) -> list[tuple[Any, list[memory_plots.Bar], Markup]]:
    found = []
    for group in plots.ordered(report.subjects):
        for place, subject in enumerate(group):
            bars = memory_plots.by_number(report, subject)
            key = f"parts-{subject.result_class}-{place}"
            title = f"Host memory an instance of {subject.label}, by the number alive"
            if len(bars) > 1:
                found.append((subject, bars, both(key, _balance(bars, title), 900)))
    return found


def _balance(bars: list[memory_plots.Bar], title: str) -> Callable[[float, str], str]:
    return lambda width, name: memory_plots.balance(bars, width=width, name=name, title=title)


def _shown(report: Report) -> list[MemoryLayers]:
    """One tower of each kind first, in the order of the scenario, and the next ones while there is room."""
    touched = {label for row in report.released for label in (row.touched, row.released)}
    plain = [stack for stack in report.layers_memory if stack.subject not in touched] or list(report.layers_memory)
    first = {stack.kind: stack for stack in reversed(plain)}
    chosen = [stack for stack in plain if first[stack.kind] is stack]
    chosen += [stack for stack in plain if stack not in chosen][: _MOST_TOWERS - len(chosen)]
    return [stack for stack in plain if stack in chosen]


def _share(owner: Owner, stack: MemoryLayers) -> str:
    """Its part of the whole, as a width."""
    total = sum(max(0.0, one.bytes) for one in stack.owners)
    return f"{100 * max(0.0, owner.bytes) / total:.1f}" if total else "0"


def _guest_share(report: Report) -> str:
    """How much of guest memory the payload can be, judged by a container with the same payload."""
    guests = [stack for stack in report.layers_memory if stack.kernels == 2]
    labels = {subject.label: subject for subject in report.subjects}
    for guest in guests:
        for stack in report.layers_memory:
            if stack.kind == "container" and labels[stack.subject].argv == labels[guest.subject].argv:
                inside, payload = guest.owners[0].bytes, stack.owners[0].bytes
                own, whole = memory_words.signed(payload), memory_words.signed(inside)
                return (
                    f"In {stack.subject} the same payload has {own} of its own. Of the {whole} of guest memory of "
                    f"{guest.subject}, the rest is the guest's kernel, its caches and its firmware's."
                )
    return ""
