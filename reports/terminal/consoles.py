"""What the command line shows: consoles, the live progress of a run, and tables.

stdout is data, stderr is talk; colour and motion only on a terminal, and never as the only carrier of a meaning.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, cast

from rich.console import Console, RenderableType
from rich.text import Text

from tare.bench.host.doctor import Diagnosis, RunnerDiagnosis
from tare.bench.records import readiness
from tare.bench.scenario.plan import Plan
from tare.reports import words
from tare.reports.cli import streams
from tare.reports.terminal import layout
from tare.reports.terminal.layout import Lines
from tare.reports.terminal.progress import Watcher

#: The width where there is no terminal: no line is broken.
_ENDLESS = 1_000_000
_LEVELS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "bad": ("BAD", "bold red")}


class _Patient:
    """A stream whose reader may go away: what is said on the way of a run is not worth the run."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            pass


class _Kept:
    """What would be written to a stream: rich looks at what it is like, and errors of writing are told elsewhere."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.text = ""

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def width(stream: IO[str]) -> int:
    """How many cells a line has: $COLUMNS, else what the terminal says, else no end."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isascii() and asked.isdigit() and int(asked[:6]):
        return int(asked[:6])
    try:
        return os.get_terminal_size(stream.fileno()).columns or _ENDLESS
    except (OSError, ValueError):
        return _ENDLESS


def err() -> Console:
    """The console for talk."""
    return _console(cast(IO[str], _Patient(sys.stderr)), width(sys.stderr))


def _console(stream: IO[str], width: int) -> Console:
    # rich trips over sizes in the environment that are no numbers, though it is told the width.
    environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    return Console(file=stream, width=width, highlight=False, _environ=environ)


def say(sentence: str) -> None:
    """Write *sentence* to standard error, in lines as wide as it is."""
    err().print(Lines(list(layout.wrap(Text(words.clean(sentence)), width(sys.stderr)))), crop=False)


def show(renderable: RenderableType) -> None:
    """Write *renderable* to standard output. Raises like :func:`reports.cli.streams.out`."""
    kept = _Kept(sys.stdout)
    _console(cast(IO[str], kept), width(sys.stdout)).print(renderable, crop=False)
    streams.out(kept.text)


@contextmanager
def status(what: str) -> Iterator[None]:
    """Show that *what* goes on, on a terminal; say nothing elsewhere."""
    console = err()
    if not console.is_terminal:
        yield
        return
    with console.status(what, spinner="line"):  # of characters that every encoding has
        yield


@contextmanager
def progress() -> Iterator[Callable[[str, int], None]]:
    """What is told what goes on, and of how many bytes: it shows that on a terminal, and says nothing elsewhere."""
    console = err()
    if not console.is_terminal:
        yield lambda _what, _done: None
        return
    with console.status("", spinner="line") as shown:
        last = ("", -1)

        def tell(what: str, done: int) -> None:
            nonlocal last
            now = (what, done >> 20)  # every MiB is often enough
            if now != last:
                last = now
                shown.update(Text(words.clean(what) + (f": {words.size(done)}" if done else "")))

        yield tell


@contextmanager
def watching() -> Iterator[Watcher]:
    """A monitor for the engine that shows a run as it goes."""
    with Watcher(err()) as watcher:
        yield watcher


def diagnosis(found: Diagnosis, width: int) -> RenderableType:
    """The doctor's findings: the host, what disturbs, what can run; fixes below what they mend."""
    host = found.host
    facts = {
        "processor": f"{host.cpu_model}, {host.cpus} usable",
        "kernel": f"{host.kernel}, cgroups {host.cgroup_mode}",
        **host.facts,
    }
    told = [(Text(name, style="dim"), Text(words.clean(value))) for name, value in facts.items()]
    findings = _findings((finding.name, finding.level, finding.what, finding.fix) for finding in host.findings)
    runners = _findings((one.name, "ok" if one.ok else "bad", _runner_words(one), one.fix) for one in found.runners)
    lines = []
    for title, rows in (("Host", told), ("What disturbs the numbers", findings), ("What can run", runners)):
        lines.append(Text(title, style="bold"))
        lines += [Text("  ") + line for line in layout.named(rows, width - 2)]
        lines.append(Text())
    return Lines(lines)


def plan(planned: Plan, about: str, width: int) -> RenderableType:
    """Every start in its order, a line a round."""
    rounds: dict[str, list[str]] = {}
    for trial in planned.trials:
        rounds.setdefault(trial.id.partition("-")[0], []).append(trial.subject)
    rows = []
    for name, subjects in rounds.items():
        head = f"warm-up {name[1:]}" if name.startswith("w") else f"round {name[1:]}"
        rows.append((Text(head, style="dim"), Text("  ".join(subjects))))
    run = planned.scenario.run
    head = f"{planned.scenario.name}, seed {run.seed}: {planned.arithmetic()}, {about}"
    when = "; or ".join(dict.fromkeys(readiness.sentence(one.ready(run)) for one in planned.scenario.subjects))
    contract = f"ready when {when}; caches {run.cache}, time-out {run.timeout_s:g} s"
    lines = [*layout.wrap(Text(head, style="bold"), width), *layout.wrap(Text(contract), width), Text()]
    return Lines([*lines, *(Text("  ") + line for line in layout.named(rows, width - 2))])


def _findings(rows: Iterator[tuple[str, str, str, str]]) -> list[tuple[Text, Text]]:
    """Level and name, with what was found and its fix."""
    known = list(rows)
    column = max((len(name) for name, *_ in known), default=0)
    told = []
    for name, level, what, fix in known:
        word, style = _LEVELS[level]
        text = Text(words.clean(what))
        if fix:
            text.append(f"\nfix: {words.clean(fix)}", style="italic")
        told.append((Text(f"{word:<4}", style=style) + Text(f"  {name:<{column}}", style=""), text))
    return told


def _runner_words(one: RunnerDiagnosis) -> str:
    """Version or reason first, then what the probe found out, a line each."""
    emulated = "; software-emulated: another class of result" if one.accelerator == "tcg" else ""
    first = f"{one.version}{emulated}" if one.ok else f"cannot run: {one.why}"
    told = (f"{name}: {value}" for name, value in one.facts.items() if value not in one.version)
    return "\n".join((first, *told))
