"""The command line: one short function for each verb; the only module that may import all packages.

Data goes to stdout, messages go to stderr. Imports are inside the verbs, so that ``tare --help`` answers at once.
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
    help="The directory that holds the runs.",
)


def scenario_options(command: Any) -> Any:
    """Add the options that replace keys of a scenario's [run] table."""
    options = (
        click.option("-r", "--rounds", "--runs", type=int, help="How many rounds to measure."),
        click.option("-w", "--warmup", type=int, help="How many warm-up trials of each subject."),
        click.option("--seed", type=int, help="The seed that shuffles the subjects in each round."),
        click.option(
            "--cache", type=click.Choice(["warm", "cold"]), help="The state of the host's caches before each start."
        ),
        click.option("--timeout", "timeout_s", type=float, help="Seconds after which a start counts as failed."),
        click.option(
            "--ready", type=click.Choice(["ready", "first"]), help="The mark that ends the timing of a start."
        ),
        click.option("-s", "--subject", "subjects", multiple=True, help="Measure only this subject (repeatable)."),
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
    """Measure what isolation costs: the same workload as a process, in containers and in virtual machines.

    \b
    Example:
      tare doctor                  what can run here, and what disturbs the numbers
      tare run quick               measures; prints the directory of the run
      tare report results/runs/... makes the report of this run
    """


@cli.command()
@as_json
def doctor(*, as_json: bool) -> None:
    """Check this host: what can run, what disturbs, how to fix it.

    \b
    Example:
      tare doctor --json | jq '.runners'
    """
    from tare.bench.host import doctor as doctors
    from tare.reports.terminal import consoles
    from tare.runners.image.cache import cache_dir

    with consoles.status("testing every runner"):
        diagnosis = doctors.examine(cache_dir())
    if as_json:
        streams.json(diagnosis)
    else:
        consoles.show(consoles.diagnosis(diagnosis, consoles.width(sys.stdout)))
    if not diagnosis.fit:
        from tare.bench.errors import HostError

        raise HostError("this host is not fit to measure on", diagnosis.why, "follow the fixes above")


@cli.command("list")
@click.option("--runs", is_flag=True, help="List the runs instead of the scenarios.")
@results_option
@as_json
def list_(*, runs: bool, results: Path, as_json: bool) -> None:
    """List the scenarios that come with tare, or the runs.

    \b
    Example:
      tare list --runs
    """
    from tare.reports.terminal import listings

    if not runs and _given("results"):
        raise click.UsageError("--results needs --runs: it names the directory of runs, and scenarios are not there")
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
    help="Go on with this interrupted run; give no SCENARIO.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan, as tare plan does, and start nothing.")
@as_json
def run(
    scenario: str | None, *, results: Path, resumed: Path | None, dry_run: bool, as_json: bool, **flags: Any
) -> None:
    """Measure a scenario. Prints the directory of the run on stdout; all else goes to stderr.

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
        store.load_header(resumed)  # a path that is no run is an error even while another run measures
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
            why = "all trials had ended before that: the run is complete"
            raise Interrupted(interrupts.pending.what, why, f"tare report {shlex.quote(str(result.path))}")


def _print_run(path: Path, state: dict[str, object], *, as_json: bool) -> None:
    """The last line, alone on stdout."""
    if as_json:
        streams.json({"run": streams.utf8(str(path)), **state})
    else:
        streams.out(f"{path}\n")


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


@cli.command()
@click.argument("run", type=click.Path(path_type=Path, readable=False), shell_complete=verbs.complete_run)
@click.option("-o", "--output", help="Write the page to this file; '-' is stdout.  [default: report.html in RUN]")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="SIZE",
    help="Also predict for a host of this size: RAM:PROCESSORS, or RAM:PROCESSORS:FLOOR% with another floor of "
    "memory (repeatable).",
)
@as_json
def report(run: Path, *, output: str | None, hosts: tuple[str, ...], as_json: bool) -> None:
    """Make the report of a run: one self-contained HTML file. Prints its path.

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
        raise click.UsageError("--output and --json exclude each other: --output writes a page, --json prints data")
    loaded = store.load(run)
    analysed = reports.analyse(loaded, hosts)
    if as_json:
        streams.json(reports.data(analysed.report))
        return
    if hosts:
        console = consoles.err()
        console.print(reports.render_hosts(analysed.report, width=console.width), crop=False)
    page = reports.html(analysed).encode("utf-8", "replace")
    if output in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        streams.out(
            f"{page.decode()}\n", encoding="utf-8"
        )  # the page declares UTF-8, so the locale's encoding does not count
        return
    target = Path(output) if output else run / reports.PAGE
    write = files.write_atomically if output else files.write_own  # another user may have put links into the run
    write(target, page)
    streams.out(f"{target}\n")


@cli.command()
@click.argument("before", type=click.Path(path_type=Path, readable=False), shell_complete=verbs.complete_run)
@click.argument("after", type=click.Path(path_type=Path, readable=False), shell_complete=verbs.complete_run)
@as_json
def compare(before: Path, after: Path, *, as_json: bool) -> None:
    """Compare two runs: the subjects of AFTER with those of BEFORE.

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
    """Remove what killed runs left on this host. Touches only names that begin with tare-.

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
    streams.say(f"{len(removed)} removed\n" if removed else "there is nothing to remove\n")


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
    from tare.bench import experiments
    from tare.bench.scenario import resolve

    subjects = flags.pop("subjects")
    given = {name: value for name, value in flags.items() if value is not None}
    loaded = experiments.scenario(resolve.find(scenario), given, lambda text: streams.say(f"note: {text}\n"))
    return experiments.plan(resolve.select(loaded, subjects) if subjects else loaded)


def _told(planned: Plan) -> object:
    """A plan for scripts."""
    return {"scenario": planned.scenario, "arithmetic": planned.arithmetic(), "trials": planned.trials}


def _given(parameter: str) -> bool:
    """Whether the user gave *parameter*, which has a default."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source is click.core.ParameterSource.COMMANDLINE


def _only_resume(**flags: Any) -> None:
    """Refuse options that cannot change a run that goes on; they would have no effect."""
    for name, value in flags.items():
        if value is not None and value is not False and value != ():
            flag = {"timeout_s": "timeout", "subjects": "subject"}.get(name, name).replace("_", "-")
            raise click.UsageError(
                f"--{flag} cannot be given with --resume: the run goes on with the options that it began with"
            )


def _estimate_s(planned: Plan) -> float:
    from tare import runners

    return planned.estimate_s({one.label: runners.load(one.runner).TYPICAL_S for one in planned.scenario.subjects})


def main() -> None:
    """Run the command line. Every failure prints what, why and how to fix it, and has the exit code of its class."""
    from tare.bench.host import interrupts
    from tare.reports.cli import ending

    interrupts.at_the_door()
    if not sys.warnoptions:  # numpy's warnings about very large numbers name lines of libraries, which helps no user
        warnings.simplefilter("ignore")
    if "_TARE_COMPLETE" in os.environ:
        cli(prog_name="tare")
    interrupts.leave(ending.run(verbs.invoke(cli, sys.argv[1:]), as_json="--json" in sys.argv[1:]))


if __name__ == "__main__":
    main()
