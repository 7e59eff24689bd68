"""Carrying out a run for a verb: it is shown while it goes on, it gets a page, and its end becomes an exit code."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tare.reports.cli import streams

if TYPE_CHECKING:
    from tare.bench.scenario.plan import Plan
    from tare.bench.trial_loop import Result
    from tare.reports.analysis.build import Analysed
    from tare.reports.terminal.progress import Watcher


def about(planned: Plan) -> str:
    """How long a run of *planned* takes, roughly."""
    from tare import runners

    subjects = planned.scenario.subjects
    return planned.about({one.label: runners.typical_s(one.runner, one.options, one.argv) for one in subjects})


def start(planned: Plan, results: Path, *, as_json: bool, page: bool) -> None:
    """Begin a run of *planned* below *results*, and carry it out. Raises Interrupted and InvalidError."""
    from tare.bench import engine
    from tare.runners.image.cache import cache_dir

    def begin(watcher: Watcher) -> Result:
        watcher.announce(planned.arithmetic(), about(planned))
        return engine.run(planned, results, cache_dir(), watcher)

    _execute(begin, as_json=as_json, page=page)


def go_on(run: Path, *, as_json: bool, page: bool) -> None:
    """Go on with the interrupted *run*, as :func:`start`."""
    from tare.bench import engine
    from tare.runners.image.cache import cache_dir

    _execute(lambda watcher: engine.resume(run, cache_dir(), watcher), as_json=as_json, page=page)


def _execute(begin: Callable[[Watcher], Result], *, as_json: bool, page: bool) -> None:
    """Run what *begin* runs, show what was measured, and write its *page*. Raises Interrupted and InvalidError."""
    from tare.bench.errors import Interrupted
    from tare.bench.host.interrupts import Interrupts
    from tare.reports.terminal import consoles

    with Interrupts() as interrupts:
        try:
            with consoles.watching() as watcher:
                result = begin(watcher)
        except Interrupted as stopped:
            if stopped.run is not None:
                _print_path(stopped.run, {"state": "interrupted"}, as_json=as_json)
            raise
        analysed = _shown(result)
        if interrupts.pending is not None:
            _print_run(result, as_json=as_json)
            _judge(result)
            why = "all trials had ended before that: the run is complete"
            raise Interrupted(interrupts.pending.what, why, f"tare report {shlex.quote(str(result.path))}")
    # Nothing is left to be removed from here on: a signal ends this process at once.
    if as_json:
        _print_run(result, as_json=True, page=_page(result, analysed) if page else None)
    else:
        _print_run(result, as_json=False)
        if page:
            _page(result, analysed)
    _judge(result)


def _shown(result: Result) -> Analysed | None:
    """Show what was measured; None where the analysis fails, which is said: the records are safe all the same."""
    from tare import reports
    from tare.bench.records import store
    from tare.reports.terminal import consoles

    try:
        analysed = reports.analyse(store.load(result.path))
        console = consoles.err()
        console.print(reports.render(analysed.report, width=console.width), crop=False)
    except Exception as error:  # noqa: BLE001 - whatever it is, what was measured is not lost by it
        _not_made("report", error, result)
        return None
    return analysed


def _page(result: Result, analysed: Analysed | None) -> Path | None:
    """Write the page of the run; say the answer, and the path of the page as the last line. None where it fails."""
    from tare import reports
    from tare.bench.records import files
    from tare.reports.terminal import consoles

    if analysed is None:
        return None
    target = result.path / reports.PAGE
    try:
        files.write_own(target, reports.html(analysed).encode("utf-8", "replace"))
        consoles.say(reports.sentence(analysed.report))
    except Exception as error:  # noqa: BLE001 - as above
        _not_made("page", error, result)
        return None
    streams.say(f"{target}\n")
    return target


def _not_made(what: str, error: Exception, result: Result) -> None:
    from tare.bench.errors import TareError
    from tare.bench.records import inputs
    from tare.reports import words

    why = str(error) if isinstance(error, TareError) else inputs.reason(error)
    streams.say(
        f"tare: the {what} of this run could not be made\n why: {words.line(why)}\n"
        f" fix: what was measured is kept; `tare report {shlex.quote(str(result.path))}` makes the page\n"
    )


def _judge(result: Result) -> None:
    """The exit code of a run that ended, and for a leak its words."""
    from tare.bench.errors import InvalidError

    if result.header.leaks:
        names = ", ".join(f"{leak.kind} {leak.name}" for leak in result.header.leaks[:5])
        raise InvalidError(
            "the run left something on this host", names, f"tare report {shlex.quote(str(result.path))}; tare clean"
        )
    if result.failed:
        raise SystemExit(1)


def _print_run(result: Result, *, as_json: bool, page: Path | None = None) -> None:
    from tare.bench.errors import OutputError

    shown = None if page is None else streams.utf8(str(page))
    state = {"state": result.header.state, "failed": result.failed, "page": shown}
    try:
        _print_path(result.path, state, as_json=as_json)
    except OutputError as error:
        raise OutputError(error.what, error.why, f"the run is complete; its directory is {result.path}") from error


def _print_path(path: Path, state: Mapping[str, object], *, as_json: bool) -> None:
    """The last line, alone on stdout."""
    if as_json:
        streams.json({"run": streams.utf8(str(path)), **state})
    else:
        streams.out(f"{path}\n")
