"""The live view of a run: what runs now, how far it is, how long it will still take."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from tare.bench.records.header import Precision
from tare.bench.records.metrics import show
from tare.bench.records.rows import Outcome, Trial
from tare.reports import words
from tare.runners.base import Support

#: Of what is shown beside the bar, so that the bar stands still.
_WIDTH = 36
#: Narrower terminals have no room for a bar and an estimate beside that and two numbers of trials.
_WITH_BAR = 76


class Watcher:
    """Satisfies :class:`bench.monitor.Monitor`. Off a terminal it prints lines for what matters and no bar.

    It draws only when the engine calls, between trials: a refreshing thread would compete with what is measured.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            *([BarColumn(bar_width=None)] if console.width >= _WITH_BAR else []),
            MofNCompleteColumn(),
            *([TimeRemainingColumn()] if console.width >= _WITH_BAR else []),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not console.is_terminal,
            expand=True,
        )
        self._task: TaskID | None = None
        self._what = "", ""
        self._made = "", -1

    def __enter__(self) -> Watcher:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def announce(self, arithmetic: str, about: str) -> None:
        """Print the arithmetic of the run before anything starts."""
        self._say(f"{arithmetic},", about)

    def preparing(self, label: str) -> None:
        """Show which subject is being prepared."""
        self._show("preparing ", label)

    def making(self, what: str, done_bytes: int) -> None:
        """Show what an image is waiting for, each time that another MiB is done."""
        if (now := (what, done_bytes >> 20)) != self._made:
            self._made = now
            self._show("", what, f": {words.size(done_bytes)}" if done_bytes else "")

    def probed(self, label: str, support: Support) -> None:
        """Say why a subject is skipped; an emulated one is announced too."""
        if not support.ok:
            self._say("skipped", f"{label}: {support.why}", "yellow")
            if support.fix:
                self._say("    fix:", support.fix)
        elif support.accelerator == "tcg":
            self._say("note:", f"{label} is software-emulated (TCG): another class of result")

    def starting(self, trial: Trial, position: int, total: int) -> None:
        """Move the bar to the trial that starts now."""
        if self._task is None:
            self._task = self._progress.add_task("", total=total)
        where = f"round {trial.round}" if trial.kind == "measured" else "warm-up"
        self._what = f"{where}: ", trial.subject
        self._progress.update(self._task, completed=position - 1, total=total)
        self._show(*self._what)

    def alive(self, n: int) -> None:
        """Show how many instances stand; drawn seldom, since drawing costs what is measured."""
        if n < 10 or n % 10 == 0:
            self._show(*self._what, f", {n} alive")

    def ended(self, outcome: Outcome, values: dict[str, float]) -> None:
        """Print a start that did not end well; show how long a good one took."""
        if outcome.status != "ok":
            self._say(outcome.status, f"{outcome.trial}: {outcome.reason}", "red")
        elif outcome.stopped_by:
            lost = f", {outcome.lost} failed" if outcome.lost else ""
            self._say(f"{outcome.trial}:", f"{outcome.reached} alive{lost}; ended by {outcome.stopped_by}")
        elif "ready_seconds" in values:
            self._show("", outcome.subject, f": {show(values['ready_seconds'], 'seconds')}")

    def looked(self, precision: Precision, rounds: int) -> None:
        """Say how wide the widest interval is, and how many rounds the run may take."""
        self._say(*words.looked(precision, rounds))

    def finishing(self) -> None:
        """Say that helpers are stopped and leaks looked for."""
        self._show("stopping helpers, looking for leaks")

    def _say(self, head: str, text: str, style: str = "") -> None:
        """A line of its own; what comes from a backend is neither markup nor an order to the terminal."""
        line = Text(head, style=style) + Text(f" {words.clean(text)}", style="default" if style else "")
        self._console.print(line, soft_wrap=True)

    def _show(self, head: str, label: str = "", tail: str = "") -> None:
        """Draw these three in one width; of what is too long *label* gives way, for a part of a number is another."""
        text = f"{head}{_shortened(label, _WIDTH - len(head) - len(tail))}{tail}"
        if self._task is None:
            self._task = self._progress.add_task("", total=None)
        self._progress.update(self._task, description=text.ljust(_WIDTH), refresh=True)


def _shortened(label: str, room: int) -> str:
    """*label* in *room* characters: its beginning and its end, since siblings differ in either."""
    if len(label) <= room:
        return label
    kept = max(2, room - 1)
    return f"{label[: kept - kept // 2]}…{label[-(kept // 2) :]}"
