"""Verbs that take a scenario: its plan, and its run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tare.reports.cli import arguments, streams
from tare.verbs import execution
from tare.verbs.options import as_json, given, results_option, scenario_options, verb

if TYPE_CHECKING:
    from tare.bench.scenario.plan import Plan


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
    from tare.bench.records import choice, store

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

    if planned:
        execution.start(planned, results, as_json=as_json, page=not no_page)
    else:
        execution.go_on(path or Path(), as_json=as_json, page=not no_page)


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


def _show(planned: Plan, *, as_json: bool) -> None:
    from tare.reports.terminal import consoles

    if as_json:
        streams.json({"scenario": planned.scenario, "arithmetic": planned.arithmetic(), "trials": planned.trials})
    else:
        consoles.show(consoles.plan(planned, execution.about(planned), consoles.width(sys.stdout)))
