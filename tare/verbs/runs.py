"""Verbs that read what was measured: the list of runs, one run's report, two runs compared, a run in one file."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import click

from tare.reports.cli import streams
from tare.verbs.options import as_json, given, results_option, run_argument, verb


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
@run_argument("runs", several=True)
@click.option(
    "-o",
    "--output",
    help="Write the page to this file; '-' is stdout.  [default: report.html in RUN; of several runs, "
    "merged-report.html here]",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="SIZE",
    help="Also predict for a host of this size: RAM:PROCESSORS, or RAM:PROCESSORS:FLOOR% with another floor of "
    "memory (repeatable).",
)
@click.option("--force", is_flag=True, help="Merge runs that differ, too; the report says in what.")
@results_option
@as_json
def report(
    runs: tuple[str, ...], *, output: str | None, hosts: tuple[str, ...], force: bool, results: Path, as_json: bool
) -> None:
    """Make the report of a run: one self-contained HTML file. Prints its path. Several runs of one host are merged.

    RUN is a path, the name of a run or the beginning of one, latest, -1 (the last), -2 (the one before it), or a packed
    run (zip or tar); the page of a packed run is written beside it.

    \b
    Example:
      tare report latest
      tare report -3 -2 -1
      tare report RUN --json | jq '.subjects[].label'
      tare report RUN --host 64GiB:16 --host 64GiB:16:10%
    """
    from tare import reports
    from tare.bench.records import choice, files, store
    from tare.reports.terminal import consoles

    if as_json and output:
        raise click.UsageError("--output and --json exclude each other: --output writes a page, --json prints data")
    if force and len(runs) == 1:
        raise click.UsageError("--force needs several runs: one run is merged with nothing")
    with ExitStack() as stack:
        chosen = [stack.enter_context(choice.opened(run, results)) for run in runs]
        loaded = [store.load(one.path) for one in chosen]
        whole = loaded[0] if len(loaded) == 1 else reports.merge(loaded, force=force)
        analysed = reports.analyse(whole, hosts)
        if as_json:
            streams.json(reports.data(analysed.report))
            return
        if hosts:
            console = consoles.err()
            console.print(reports.render_hosts(analysed.report, width=console.width), crop=False)
        page = reports.html(analysed).encode("utf-8", "replace")
    if analysed.report.unlike:
        streams.say(f"warning: merged by force: {len(analysed.report.unlike)} differences, which the report names\n")
    if output in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        streams.out(
            f"{page.decode()}\n", encoding="utf-8"
        )  # the page declares UTF-8, so the locale's encoding does not count
        return
    own = chosen[0].beside(reports.PAGE) if len(chosen) == 1 else Path(reports.MERGED_PAGE)
    target = Path(output) if output else own
    write = files.write_atomically if output else files.write_own  # another user may have put links into the run
    write(target, page)
    streams.out(f"{target}\n")


@verb()
@run_argument("before")
@run_argument("after")
@results_option
@as_json
def compare(before: str, after: str, *, results: Path, as_json: bool) -> None:
    """Compare two runs: the subjects of AFTER with those of BEFORE. Each is given as for tare report.

    \b
    Example:
      tare compare -2 latest
      tare compare results/runs/MONDAY results/runs/TUESDAY
    """
    from tare import reports
    from tare.bench.records import choice, store
    from tare.reports.terminal import consoles

    with choice.opened(before, results) as first, choice.opened(after, results) as second:
        comparison = reports.compare_runs(store.load(first.path), store.load(second.path))
    if as_json:
        streams.json(comparison)
    else:
        consoles.show(reports.render(comparison, width=consoles.width(sys.stdout)))


@verb()
@run_argument("run")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write this file.  [default: RUN.zip, here]")
@results_option
def pack(run: str, *, output: Path | None, results: Path) -> None:
    """Pack a run into one zip file, to send or to keep it; its page is not in it. Prints its path.

    Every verb that takes a run reads the file. It holds what the run recorded, names of this host among it.

    \b
    Example:
      tare pack latest
      tare report 20260101T000000Z-startup-1a2b.zip
    """
    from tare.bench.records import choice, files, packed

    if output == Path("-"):
        raise click.UsageError("a packed run is written to a file: give its name")
    with choice.opened(run, results) as chosen:
        target = output or Path(f"{chosen.path.resolve().name}.zip")
        files.write_atomically(target, packed.pack(chosen.path))
    streams.out(f"{target}\n")
