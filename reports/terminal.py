"""What the command line shows: consoles, the live progress of a run, and tables.

stdout is data, stderr is talk; colour and motion only on a terminal, and never as the only carrier of a meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bench.doctor import Diagnosis, RunnerDiagnosis
from bench.plan import Plan, duration
from reports.progress import Watcher

_LEVELS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "bad": ("BAD", "bold red")}


class _Out(Console):
    def on_broken_pipe(self) -> None:
        """Let the front door decide: rich would exit with 1 when the reader (``| head``) has seen enough."""
        raise BrokenPipeError


def out() -> Console:
    """The console for data."""
    return _Out(highlight=False)


def err() -> Console:
    """The console for talk."""
    return Console(stderr=True, highlight=False)


@contextmanager
def status(what: str) -> Iterator[None]:
    """Show that *what* goes on, on a terminal; say nothing elsewhere."""
    console = err()
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


@contextmanager
def watching() -> Iterator[Watcher]:
    """A monitor for the engine that shows a run as it goes."""
    with Watcher(err()) as watcher:
        yield watcher


def diagnosis(found: Diagnosis) -> RenderableType:
    """The doctor's findings: the host, what disturbs, what can run; fixes below what they mend."""
    host = found.host
    facts = _grid()
    facts.add_row("processor", f"{host.cpu_model}, {host.cpus} usable")
    facts.add_row("kernel", f"{host.kernel}, cgroups {host.cgroup_mode}")
    for name, value in host.facts.items():
        facts.add_row(name, value)
    findings = _findings((finding.name, finding.level, finding.what, finding.fix) for finding in host.findings)
    runners = _findings((one.name, "ok" if one.ok else "bad", _runner_words(one), one.fix) for one in found.runners)
    parts: list[RenderableType] = []
    for title, table in (("Host", facts), ("What will show in the numbers", findings), ("What can run", runners)):
        parts += [Text(title, style="bold"), Padding(table, (0, 0, 1, 2))]
    return Group(*parts)


def listing(rows: Sequence[Mapping[str, object]]) -> RenderableType:
    """Rows of equal keys as a table; a sentence when there are none."""
    if not rows:
        return Text("none yet; `tare run quick` makes one")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for key in rows[0]:
        table.add_column(key.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(" ".join(value) if isinstance(value, list) else str(value) for value in row.values()))
    return table


def plan(planned: Plan, estimate_s: float) -> RenderableType:
    """Every start in its order, a line a round."""
    rounds: dict[str, list[str]] = {}
    for trial in planned.trials:
        rounds.setdefault(trial.id.partition("-")[0], []).append(trial.subject)
    table = _grid()
    for name, subjects in rounds.items():
        table.add_row(f"warm-up {name[1:]}" if name.startswith("w") else f"round {name[1:]}", "  ".join(subjects))
    run = planned.scenario.run
    head = f"{planned.scenario.name}, seed {run.seed}: {planned.arithmetic()}, about {duration(estimate_s)}"
    contract = f"ready = the payload's mark '{run.ready}', caches {run.cache}, time-out {run.timeout_s:g} s"
    return Group(Text(head, style="bold"), Text(contract), Padding(table, (1, 0, 0, 2)))


def _grid() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _findings(rows: Iterator[tuple[str, str, str, str]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, level, what, fix in rows:
        word, style = _LEVELS[level]
        text = Text(what)
        if fix:
            text.append(f"\nfix: {fix}", style="italic")
        table.add_row(Text(word, style=style), name, text)
    return table


def _runner_words(one: RunnerDiagnosis) -> str:
    """Version or reason first, then what the probe found out, a line each."""
    emulated = "; software-emulated: another class of result" if one.accelerator == "tcg" else ""
    first = f"{one.version}{emulated}" if one.ok else f"cannot run: {one.why}"
    told = (f"{name}: {value}" for name, value in one.facts.items() if value not in one.version)
    return "\n".join((first, *told))
