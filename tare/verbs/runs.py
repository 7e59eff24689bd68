"""Verbs that read what was measured: the list of runs, one run's report, two runs compared."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tare.reports.cli import arguments, streams
from tare.verbs.options import as_json, given, results_option, run_path, verb


@verb("list")
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

    if not runs and given("results"):
        raise click.UsageError("--results needs --runs: it names the directory of runs, and scenarios are not there")
    if runs:
        listings.runs(results, as_json=as_json)
    else:
        listings.scenarios(as_json=as_json)


@verb()
@click.argument("run", type=run_path, shell_complete=arguments.complete_run)
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


@verb()
@click.argument("before", type=run_path, shell_complete=arguments.complete_run)
@click.argument("after", type=run_path, shell_complete=arguments.complete_run)
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
