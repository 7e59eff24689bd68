"""Verbs that take a scenario: its plan, and its run."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tare.reports.cli import arguments, streams
from tare.verbs.options import as_json, given, results_option, scenario_options, verb

if TYPE_CHECKING:
    from tare.bench.scenario.plan import Plan
    from tare.bench.trial_loop import Result


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
@as_json
def run(
    scenario: str | None, *, results: Path, resumed: str | None, dry_run: bool, as_json: bool, **flags: Any
) -> None:
    """Measure a scenario. Prints the directory of the run on stdout; all else goes to stderr.

    \b
    Example:
      tare run startup --rounds 10
      tare run startup --until-precise 5%
      tare run --resume results/runs/20260101T000000Z-startup-1a2b
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
                _print_run(stopped.run, {"state": "interrupted"}, as_json=as_json)
            raise
        _conclude(result, as_json=as_json)
        if interrupts.pending is not None:
            why = "all trials had ended before that: the run is complete"
            raise Interrupted(interrupts.pending.what, why, f"tare report {shlex.quote(str(result.path))}")


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


def _conclude(result: Result, *, as_json: bool) -> None:
    """Say how a run ended: a table for people, the directory for scripts, the exit code for both."""
    from tare import reports
    from tare.bench.errors import InvalidError, OutputError
    from tare.bench.records import store
    from tare.reports.terminal import consoles

    console = consoles.err()
    console.print(reports.render(reports.build(store.load(result.path)), width=console.width), crop=False)
    try:
        _print_run(result.path, {"state": result.header.state, "failed": result.failed}, as_json=as_json)
    except OutputError as error:
        raise OutputError(error.what, error.why, f"the run is complete; its directory is {result.path}") from error
    if result.header.leaks:
        names = ", ".join(f"{leak.kind} {leak.name}" for leak in result.header.leaks[:5])
        raise InvalidError(
            "the run left something on this host", names, f"tare report {shlex.quote(str(result.path))}; tare clean"
        )
    if result.failed:
        raise SystemExit(1)


def _print_run(path: Path, state: dict[str, object], *, as_json: bool) -> None:
    """The last line, alone on stdout."""
    if as_json:
        streams.json({"run": streams.utf8(str(path)), **state})
    else:
        streams.out(f"{path}\n")
