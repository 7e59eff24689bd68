"""The front door: the command line, one short function a verb; the only module that sees everything.

stdout is data, stderr is talk. Imports are inside the verbs, so that ``tare --help`` answers at once.
"""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tare.reports.cli import streams, verbs

if TYPE_CHECKING:
    from tare.bench.engine import Result
    from tare.bench.scenario.plan import Plan

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


as_json = click.option("--json", "as_json", is_flag=True, help="Print data for scripts instead of text.")
results_option = click.option(
    "--results",
    type=click.Path(path_type=Path, readable=False),
    default=verbs.results,
    show_default="$TARE_RESULTS or results/runs",
    help="Where run directories are.",
)


def scenario_options(command: Any) -> Any:
    """Add the flags that replace keys of a scenario's [run] table."""
    options = (
        click.option("-r", "--rounds", "--runs", type=int, help="Rounds to measure."),
        click.option("-w", "--warmup", type=int, help="Warm-up starts of each subject."),
        click.option("--seed", type=int, help="Seed of the order within each round."),
        click.option("--cache", type=click.Choice(["warm", "cold"]), help="Cache condition before each start."),
        click.option("--timeout", "timeout_s", type=float, help="Seconds until a start counts as timed out."),
        click.option("--ready", type=click.Choice(["ready", "first"]), help="The mark that ends a start."),
        click.option("-s", "--subject", "subjects", multiple=True, help="Only this subject (repeatable)."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(cls=verbs.Verbs, context_settings=CONTEXT)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=verbs.show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Weigh isolation: the same workload as a process, in containers, in virtual machines.

    \b
    Example:
      tare doctor                  what can run here, and what will show in the numbers
      tare run quick               measure; prints the run's directory
      tare report results/runs/... make its report
    """


@cli.command()
@as_json
def doctor(*, as_json: bool) -> None:
    """Look at this host: what can run, what disturbs, and what to do about it.

    \b
    Example:
      tare doctor --json | jq '.runners'
    """
    from tare.bench.host import doctor as doctors
    from tare.reports.terminal import consoles
    from tare.runners.image.cache import cache_dir

    with consoles.status("probing every runner"):
        diagnosis = doctors.examine(cache_dir())
    if as_json:
        streams.json(diagnosis)
    else:
        consoles.show(consoles.diagnosis(diagnosis, consoles.width(sys.stdout)))
    if not diagnosis.fit:
        from tare.bench.errors import HostError

        raise HostError("this host is not fit to measure on", diagnosis.why, "follow the fixes above")


@cli.command("list")
@click.option("--runs", is_flag=True, help="List the runs made so far instead of the scenarios.")
@results_option
@as_json
def list_(*, runs: bool, results: Path, as_json: bool) -> None:
    """List the scenarios that come with tare, or the runs made so far.

    \b
    Example:
      tare list --runs
    """
    from tare.reports.terminal import listings

    if not runs and _given("results"):
        raise click.UsageError("--results is given without --runs: the scenarios come with tare")
    if runs:
        listings.runs(results, as_json=as_json)
    else:
        listings.scenarios(as_json=as_json)


@cli.command()
@click.argument("scenario", shell_complete=verbs.complete_scenario)
@scenario_options
@as_json
def plan(scenario: str, *, as_json: bool, **flags: Any) -> None:
    """Print every start of a scenario in its order. Nothing is started.

    \b
    Example:
      tare plan startup --seed 7
    """
    from tare.reports.terminal import consoles

    planned = _planned(scenario, flags)
    if as_json:
        streams.json(_told(planned))
    else:
        consoles.show(consoles.plan(planned, _estimate_s(planned), consoles.width(sys.stdout)))


@cli.command()
@click.argument("scenario", required=False, shell_complete=verbs.complete_scenario)
@scenario_options
@results_option
@click.option(
    "--resume",
    "resumed",
    type=click.Path(path_type=Path, readable=False),
    help="Go on with this run; no scenario is given.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan and start nothing (tare plan).")
@as_json
def run(
    scenario: str | None, *, results: Path, resumed: Path | None, dry_run: bool, as_json: bool, **flags: Any
) -> None:
    """Measure a scenario. The last line, alone on stdout, is the run's directory.

    \b
    Example:
      tare run startup --rounds 10
      tare run --resume results/runs/20260101T000000Z-startup-1a2b
    """
    from tare.bench import engine
    from tare.bench.errors import Interrupted
    from tare.bench.host.interrupts import Interrupts
    from tare.bench.records import store
    from tare.reports.terminal import consoles
    from tare.runners.image.cache import cache_dir

    if (scenario is None) == (resumed is None):
        raise click.UsageError("give either a SCENARIO or --resume DIR")
    if resumed:
        _only_resume(dry_run=dry_run, results=_given("results"), **flags)
        store.load_header(resumed)  # what is no run is said also while another one measures
    planned = _planned(scenario, flags) if scenario else None
    if dry_run and planned:
        if as_json:
            streams.json(_told(planned))
        else:
            consoles.show(consoles.plan(planned, _estimate_s(planned), consoles.width(sys.stdout)))
        return
    with Interrupts() as interrupts:
        try:
            with consoles.watching() as watcher:
                if planned is None:
                    result = engine.resume(Path(resumed or ""), cache_dir(), watcher)
                else:
                    watcher.announce(planned.arithmetic(), _estimate_s(planned))
                    result = engine.run(planned, results, cache_dir(), watcher)
        except Interrupted as stopped:
            if stopped.run is not None:
                _print_run(stopped.run, {"state": "interrupted"}, as_json=as_json)
            raise
        _conclude(result, as_json=as_json)
        if interrupts.pending is not None:
            why = "every trial had ended by then: the run is complete"
            raise Interrupted(interrupts.pending.what, why, f"tare report {shlex.quote(str(result.path))}")


def _print_run(path: Path, state: dict[str, object], *, as_json: bool) -> None:
    """The last line, alone on stdout."""
    if as_json:
        streams.json({"run": streams.utf8(str(path)), **state})
    else:
        streams.out(f"{path}\n")


def _conclude(result: Result, *, as_json: bool) -> None:
    """Say how a run ended: the table for the reader, the directory for scripts, the exit code for both."""
    from tare import reports
    from tare.bench.errors import InvalidError, OutputError
    from tare.bench.records import store
    from tare.reports.terminal import consoles

    console = consoles.err()
    console.print(reports.render(reports.build(store.load(result.path)), width=console.width), crop=False)
    try:
        _print_run(result.path, {"state": result.header.state, "failed": result.failed}, as_json=as_json)
    except OutputError as error:
        raise OutputError(error.what, error.why, f"the run is whole: {result.path}") from error
    if result.header.leaks:
        names = ", ".join(f"{leak.kind} {leak.name}" for leak in result.header.leaks[:5])
        raise InvalidError(
            "something was left behind", names, f"tare report {shlex.quote(str(result.path))}; tare clean"
        )
    if result.failed:
        raise SystemExit(1)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path, readable=False), shell_complete=verbs.complete_run)
@click.option("-o", "--output", help="Write the page here; '-' is stdout.  [default: report.html in the run]")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="SIZE",
    help="Predict for a host of this size, too: RAM:PROCESSORS[:FLOOR%], the floor of memory (repeatable).",
)
@as_json
def report(run: Path, *, output: str | None, hosts: tuple[str, ...], as_json: bool) -> None:
    """Make the report of a run: one HTML file that needs nothing else. Prints its path.

    \b
    Example:
      tare report results/runs/20260101T000000Z-startup-1a2b
      tare report RUN --json | jq '.subjects[].label'
      tare report RUN --host 64GiB:16 --host 64GiB:16:10%
    """
    from tare import reports
    from tare.bench.records import files, store
    from tare.reports.terminal import consoles

    if as_json and output:
        raise click.UsageError("--output is for the page, and --json prints data: give one of the two")
    loaded = store.load(run)
    built = reports.build(loaded, hosts)
    if as_json:
        streams.json(built)
        return
    if hosts:
        console = consoles.err()
        console.print(reports.render_hosts(built, width=console.width), crop=False)
    page = reports.html(loaded, built).encode("utf-8", "replace")
    if output in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        streams.out(f"{page.decode()}\n", encoding="utf-8")  # which it says that it is, whatever the locale's is
        return
    target = Path(output) if output else run / reports.PAGE
    write = files.write_atomically if output else files.write_own  # a run may be another user's, with links in it
    write(target, page)
    streams.out(f"{target}\n")


@cli.command()
@click.argument("before", type=click.Path(path_type=Path, readable=False), shell_complete=verbs.complete_run)
@click.argument("after", type=click.Path(path_type=Path, readable=False), shell_complete=verbs.complete_run)
@as_json
def compare(before: Path, after: Path, *, as_json: bool) -> None:
    """Compare the subjects that two runs share: AFTER against BEFORE.

    \b
    Example:
      tare compare results/runs/MONDAY results/runs/TUESDAY
    """
    from tare import reports
    from tare.bench.records import store
    from tare.reports.terminal import consoles

    comparison = reports.compare_runs(store.load(before), store.load(after))
    if as_json:
        streams.json(comparison)
    else:
        consoles.show(reports.render(comparison, width=consoles.width(sys.stdout)))


@cli.command()
@as_json
def clean(*, as_json: bool) -> None:
    """Remove what killed runs left on this host: only things whose names begin with tare-.

    \b
    Example:
      tare clean
    """
    from tare.bench.host.clean import clean as remove_all

    removed: list[str] = []
    remove_all(removed.append)
    if as_json:
        streams.json({"removed": removed})
        return
    streams.out("".join(f"{name}\n" for name in removed))
    streams.say(f"{len(removed)} removed\n" if removed else "nothing of tare's is left here\n")


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Example:
      tare completion bash > ~/.local/share/bash-completion/completions/tare
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - click knows the three that the argument allows
    streams.out(found(cli, {}, "tare", "_TARE_COMPLETE").source() + "\n")


def _planned(scenario: str, flags: dict[str, Any]) -> Plan:
    from tare.bench.scenario import plan
    from tare.bench.scenario import resolve as scenarios

    subjects = flags.pop("subjects")
    given = {name: value for name, value in flags.items() if value is not None}
    loaded = scenarios.load(scenarios.find(scenario), given)
    return plan.make(scenarios.select(loaded, subjects) if subjects else loaded)


def _told(planned: Plan) -> object:
    """A plan for scripts."""
    return {"scenario": planned.scenario, "arithmetic": planned.arithmetic(), "trials": planned.trials}


def _given(parameter: str) -> bool:
    """Whether the command line names *parameter*, which has a default."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source is click.core.ParameterSource.COMMANDLINE


def _only_resume(**flags: Any) -> None:
    """Refuse what cannot change a run that goes on: it would be taken and not followed."""
    for name, value in flags.items():
        if value is not None and value is not False and value != ():
            flag = {"timeout_s": "timeout", "subjects": "subject"}.get(name, name).replace("_", "-")
            raise click.UsageError(f"--{flag} cannot be given with --resume: the run goes on as it began")


def _estimate_s(planned: Plan) -> float:
    from tare import runners

    return planned.estimate_s({one.label: runners.load(one.runner).TYPICAL_S for one in planned.scenario.subjects})


def main() -> None:
    """Run the command line; every failure ends in what, why and what to do, and the exit code of its class."""
    from tare.bench.host import interrupts
    from tare.reports.cli import ending

    interrupts.at_the_door()
    if not sys.warnoptions:  # of numbers at the edge of what floats hold; they name lines of libraries to a user
        warnings.simplefilter("ignore")
    if "_TARE_COMPLETE" in os.environ:
        cli(prog_name="tare")
    interrupts.leave(ending.run(verbs.invoke(cli, sys.argv[1:]), as_json="--json" in sys.argv[1:]))


if __name__ == "__main__":
    main()
