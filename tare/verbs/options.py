"""What verbs have in common: how one is declared, and the options that several take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tare.reports.cli import arguments

as_json = click.option("--json", "as_json", is_flag=True, help="Print data for scripts instead of text.")
results_option = click.option(
    "--results",
    type=click.Path(path_type=Path, readable=False),
    default=arguments.results,
    show_default="$TARE_RESULTS or results/runs",
    help="The directory that holds the runs.",
)

markdown_option = click.option("--markdown", is_flag=True, help="Print Markdown for a pull request instead.")


def run_argument(name: str, *, several: bool = False) -> Callable[[Any], Any]:
    """An argument that names a run, or one and more: see :mod:`bench.records.choice`."""
    more: dict[str, Any] = {"nargs": -1, "required": True, "metavar": "RUN..."} if several else {}
    return click.argument(name, type=arguments.RUN, shell_complete=arguments.complete_run, **more)


def verb(name: str | None = None) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a verb, called as the function is or *name*."""
    return click.command(name, cls=arguments.Verb)


def run_options(command: Any) -> Any:
    """Add the options that any run has: how often, how precise, from which state."""
    return _added(
        command,
        click.option("-r", "--rounds", "--runs", type=int, help="How many rounds to measure."),
        click.option(
            "--until-precise",
            "precision",
            metavar="PERCENT",
            help="Add rounds until half of every 95 % interval is at most so much of its median (5%).",
        ),
        click.option(
            "--max-rounds",
            type=int,
            help="With --until-precise: how many rounds at most.  [default: 5 times the least]",
        ),
        click.option("-w", "--warmup", type=int, help="How many warm-up trials of each subject."),
        click.option("--seed", type=int, help="The seed that shuffles the subjects in each round."),
        click.option(
            "--cache", type=click.Choice(["warm", "cold"]), help="The state of the host's caches before each start."
        ),
        click.option("--timeout", "timeout_s", type=float, help="Seconds after which a start counts as failed."),
    )


def scenario_options(command: Any) -> Any:
    """Add the options that replace keys of a scenario's [run] table, and the choice of its subjects."""
    further = _added(
        command,
        click.option(
            "--ready", type=click.Choice(["ready", "first"]), help="The mark that ends the timing of a start."
        ),
        click.option("-s", "--subject", "subjects", multiple=True, help="Measure only this subject (repeatable)."),
    )
    return run_options(further)


def _added(command: Any, *options: Callable[[Any], Any]) -> Any:
    """*command* with *options*, in this order of its help."""
    for option in reversed(options):
        command = option(command)
    return command


def given(parameter: str) -> bool:
    """Whether the user gave *parameter*, which has a default."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source is click.core.ParameterSource.COMMANDLINE
