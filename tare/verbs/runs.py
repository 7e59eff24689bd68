"""Verbs that read what was measured: the list of runs, one run's report, two runs compared, a run in one file."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import click

from tare.reports.cli import arguments, streams
from tare.verbs.options import as_json, given, markdown_option, results_option, run_argument, verb

#: The name of the page of all runs, in their directory.
INDEX = "index.html"


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
@markdown_option
@click.option("--force", is_flag=True, help="Merge runs that differ, too; the report says in what.")
@results_option
@as_json
def report(
    runs: tuple[str, ...],
    *,
    output: str | None,
    hosts: tuple[str, ...],
    markdown: bool,
    force: bool,
    results: Path,
    as_json: bool,
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
    from tare.bench.records import choice, store
    from tare.reports import words
    from tare.reports.terminal import consoles

    _one_form(output=output, markdown=markdown, as_json=as_json)
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
        if markdown:
            streams.out(reports.as_markdown(analysed.report), encoding="utf-8")
            return
        if hosts:
            console = consoles.err()
            console.print(reports.render_hosts(analysed.report, width=console.width), crop=False)
        page = reports.html(analysed)
    if analysed.report.unlike:
        found = words.plural(len(analysed.report.unlike), "difference")
        streams.say(f"warning: merged by force; the report names {found}\n")
    _deliver(page, output, chosen[0].beside(reports.PAGE) if len(chosen) == 1 else Path(reports.MERGED_PAGE))


@verb()
@run_argument("before")
@run_argument("after")
@click.option("-o", "--output", "--page", "output", help="Write the comparison as a page to this file; '-' is stdout.")
@markdown_option
@click.option(
    "--fail-on",
    "fail_on",
    multiple=True,
    metavar="METRIC:PERCENT%",
    help="Exit with code 4 if this metric of any subject got worse by more than this (repeatable).",
)
@results_option
@as_json
def compare(
    before: str,
    after: str,
    *,
    output: str | None,
    markdown: bool,
    fail_on: tuple[str, ...],
    results: Path,
    as_json: bool,
) -> None:
    """Compare two runs: the subjects of AFTER with those of BEFORE. Each is given as for tare report.

    With --fail-on a subject fails if the whole 95 % interval of its change is worse than the bound, and p is at most
    0.01. If no subject can be judged, the exit code is 5.

    \b
    Example:
      tare compare -2 latest
      tare compare MONDAY.zip TUESDAY.zip --page compare.html
      tare compare -2 latest --fail-on ready_seconds:5% --markdown
    """
    from tare import reports
    from tare.bench.records import choice, store
    from tare.reports.terminal import consoles

    _one_form(output=output, markdown=markdown, as_json=as_json)
    with choice.opened(before, results) as first, choice.opened(after, results) as second:
        comparison = reports.compare_runs(store.load(first.path), store.load(second.path), fail_on=fail_on)
    if as_json:
        streams.json(comparison)
    elif markdown:
        streams.out(reports.as_markdown(comparison), encoding="utf-8")
    elif output:
        _deliver(reports.comparison_html(comparison), output)
    else:
        consoles.show(reports.render(comparison, width=consoles.width(sys.stdout)))
    reports.conclude(comparison)


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


@verb()
@click.argument("directory", required=False, type=click.Path(path_type=Path, readable=False))
@click.option(
    "-o", "--output", help="Write the page to this file; '-' is stdout.  [default: index.html in the directory]"
)
@as_json
def index(directory: Path | None, *, output: str | None, as_json: bool) -> None:
    """Make one page of all runs in a directory: a table with links, and their main figures over time.

    Without DIRECTORY it is the one that tare run writes to. Prints the path of the page.

    \b
    Example:
      tare index
      tare index /srv/nightly -o nightly.html
    """
    from tare import reports
    from tare.bench.records import store
    from tare.reports.terminal import consoles

    _one_form(output=output, markdown=False, as_json=as_json)
    place = directory or arguments.results()
    paths = store.runs(place)
    if directory is not None and not place.is_dir():
        raise click.UsageError(f"{place} is not a directory")
    with consoles.status(f"reading {len(paths)} runs"):
        found = reports.overview(paths)
    if as_json:
        streams.json(found)
        return
    own = place / INDEX
    _deliver(reports.overview_html(found, Path(output) if output else own), output, own)


def _one_form(*, output: str | None, markdown: bool, as_json: bool) -> None:
    """Refuse two forms of the same thing."""
    given = {"--output": bool(output), "--markdown": markdown, "--json": as_json}
    forms = [name for name, asked in given.items() if asked]
    if len(forms) > 1:
        told = "--output writes a page, --markdown prints text, --json prints data"
        raise click.UsageError(f"{forms[0]} and {forms[1]} exclude each other: {told}")


def _deliver(page: str, output: str | None, own: Path = Path()) -> None:
    """Write *page* to the file *output* and print its path; to standard output for ``-``; to *own* without one."""
    from tare.bench.records import files

    data = page.encode("utf-8", "replace")
    if output in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        # The page declares UTF-8, so the locale's encoding does not count.
        streams.out(f"{data.decode()}\n", encoding="utf-8")
        return
    target = Path(output) if output else own
    write = files.write_atomically if output else files.write_own  # another user may have put links into the run
    write(target, data)
    streams.out(f"{target}\n")
