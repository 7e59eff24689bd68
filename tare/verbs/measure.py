"""Verbs that take a scenario: its plan, and its run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tare.reports.cli import arguments, streams
from tare.verbs.options import as_json, given, results_option, scenario_options, verb

if TYPE_CHECKING:
    from tare.bench.scenario.plan import Plan
    from tare.bench.trial_loop import Result
    from tare.reports.analysis.build import Analysed


@verb()
@click.argument("scenario", shell_complete=arguments.complete_scenario)
@scenario_options
@as_json
def plan(scenario: str, *, as_json: bool, **flags: Any) -> None:
    """Print every start of a scenario in its order. Nothing is started.

    \b
    Example:
      tare plan startup --seed 7
    """
    _show(_planned(scenario, flags), as_json=as_json)


@verb()
@click.argument("scenario", required=False, shell_complete=arguments.complete_scenario)
@scenario_options
@results_option
@click.option(
    "--resume",
    "resumed",
    metavar="RUN",
    shell_complete=arguments.complete_run,
    help="Go on with this interrupted run, 'latest' for the last one; give no SCENARIO.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan, as tare plan does, and start nothing.")
@click.option("--no-page", is_flag=True, help="Make no page; tare report makes it later.")
@as_json
def run(
    scenario: str | None,
    *,
    results: Path,
    resumed: str | None,
    dry_run: bool,
    no_page: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Measure a scenario, and make its page. Prints the directory of the run on stdout; all else goes to stderr, the
    path of the page last.

    \b
    Example:
      tare run startup --rounds 10
      tare run startup --until-precise 5%
      tare run --resume latest
    """
    from tare.bench import engine
    from tare.bench.errors import Interrupted
    from tare.bench.host.interrupts import Interrupts
    from tare.bench.records import choice, store
    from tare.reports.terminal import consoles
    from tare.runners.image.cache import cache_dir

    if (scenario is None) == (resumed is None):
        raise click.UsageError("give either a SCENARIO or --resume DIR")
    path = None
    if resumed:
        _only_resume(dry_run=dry_run, results=given("results"), **flags)
        path = choice.directory(resumed, results)
        store.load_header(path)  # a path that is no run is an error even while another run measures
    planned = _planned(scenario, flags) if scenario else None
    if dry_run and planned:
        _show(planned, as_json=as_json)
        return
    with Interrupts() as interrupts:
        try:
            with consoles.watching() as watcher:
                if planned is None:
                    result = engine.resume(path or Path(), cache_dir(), watcher)
                else:
                    watcher.announce(planned.arithmetic(), _about(planned))
                    result = engine.run(planned, results, cache_dir(), watcher)
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
        _print_run(result, as_json=True, page=None if no_page else _page(result, analysed))
    else:
        _print_run(result, as_json=False)
        if not no_page:
            _page(result, analysed)
    _judge(result)


def _planned(scenario: str, flags: dict[str, Any]) -> Plan:
    from tare.bench import experiments
    from tare.bench.scenario import resolve

    subjects = flags.pop("subjects")
    given = {name: value for name, value in flags.items() if value is not None}
    loaded = experiments.scenario(resolve.find(scenario), given, lambda text: streams.say(f"note: {text}\n"))
    return experiments.plan(resolve.select(loaded, subjects) if subjects else loaded)


def _only_resume(**flags: Any) -> None:
    """Refuse options that cannot change a run that goes on; they would have no effect."""
    for name, value in flags.items():
        if value is not None and value is not False and value != ():
            flag = {"timeout_s": "timeout", "subjects": "subject", "precision": "until-precise"}.get(
                name, name
            ).replace("_", "-")
            raise click.UsageError(
                f"--{flag} cannot be given with --resume: the run goes on with the options that it began with"
            )


def _about(planned: Plan) -> str:
    from tare import runners

    return planned.about({one.label: runners.load(one.runner).TYPICAL_S for one in planned.scenario.subjects})


def _show(planned: Plan, *, as_json: bool) -> None:
    from tare.reports.terminal import consoles

    if as_json:
        streams.json({"scenario": planned.scenario, "arithmetic": planned.arithmetic(), "trials": planned.trials})
    else:
        consoles.show(consoles.plan(planned, _about(planned), consoles.width(sys.stdout)))


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
