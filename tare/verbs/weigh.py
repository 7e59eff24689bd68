"""The verb for a command of one's own: a scenario of one line, and its run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tare.reports.cli import streams
from tare.verbs import execution
from tare.verbs.options import as_json, results_option, run_options, verb

if TYPE_CHECKING:
    from tare.bench.scenario.plan import Plan
    from tare.runners.base import Support

#: Without -i: what takes longer than this for a start and a stop is left out, in seconds.
_FAST_S = 1.0
#: Nobody's answer: it starts nothing.
_NULL = "null"


@verb()
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] COMMAND [ARGUMENT]...")
@click.option(
    "-i",
    "--in",
    "subjects",
    multiple=True,
    metavar="SUBJECT",
    help="Run it in this: [LABEL=]RUNNER[,OPTION=VALUE...] (repeatable).  [default: all that works here and is fast]",
)
@click.option("--image", default="host", show_default=True, help="What the command finds below its root.")
@click.option(
    "--ready",
    default="exit",
    show_default=True,
    metavar="CONTRACT",
    help="When it is ready: exit, exit:STATUS, tcp:PORT, http://:PORT/PATH, line:REGEX, exec:COMMAND or mark.",
)
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="A variable of its environment (repeatable).")
@click.option("--cwd", default="", metavar="DIR", help="The directory in which it begins.")
@click.option("--user", default="", metavar="USER", help="Whose rights it has: NAME or UID[:GID] of the image.")
@click.option("--memory-mib", type=int, help="Memory of each instance.")
@click.option("--cpus", type=int, help="Processors of each instance.")
@run_options
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE.toml", help="Also write it as a scenario file.")
@click.option("--dry-run", is_flag=True, help="Print the scenario file, and start nothing.")
@results_option
@click.option("--no-page", is_flag=True, help="Make no page; tare report makes it later.")
@as_json
def weigh(
    command: tuple[str, ...],
    *,
    subjects: tuple[str, ...],
    image: str,
    ready: str,
    env: tuple[str, ...],
    cwd: str,
    user: str,
    memory_mib: int | None,
    cpus: int | None,
    save: Path | None,
    dry_run: bool,
    results: Path,
    no_page: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Measure how long a command of yours takes, or takes to get ready, as a process, in containers, in machines.

    \b
    Example:
      tare weigh -- python3 -c pass
      tare weigh -i process -i container --ready tcp:8000 -- python3 -m http.server 8000
      tare weigh -i old=crun,binary=/opt/crun-1.8 -i crun --image ./root -- /bin/true
    """
    from tare.bench.records import files
    from tare.bench.scenario import words

    if not command and image == "host":
        raise click.UsageError("give a command after --, or an --image that names one")
    wish = words.Wish(
        command=command,
        subjects=subjects or _chosen(words.ready(ready), image),
        ready=ready,
        image=_absolute(image),
        env=dict(_variable(one) for one in env),
        cwd=cwd,
        user=user,
        grant={key: value for key, value in (("memory_mib", memory_mib), ("cpus", cpus)) if value is not None},
        run={key: value for key, value in flags.items() if value is not None},
    )
    text = words.scenario(wish)
    if save is not None:
        files.write_own(save, text.encode())
        streams.say(f"saved: {save}\n")
    planned = _planned(text)
    if dry_run:
        streams.out(text)
    else:
        execution.start(planned, results, as_json=as_json, page=not no_page)


def _planned(text: str) -> Plan:
    """The plan of the scenario *text*. Raises UsageError."""
    from tare.bench import experiments
    from tare.bench.errors import UsageError

    with tempfile.TemporaryDirectory(prefix="tare-") as directory:
        file = Path(directory) / "weigh.toml"
        file.write_text(text, encoding="utf-8")
        try:
            return experiments.plan(experiments.scenario(file))
        except UsageError as error:
            # The file is nobody's: what is wrong is on the command line.
            raise UsageError("this cannot be weighed", error.why, error.fix) from None


def _absolute(image: str) -> str:
    """*image* with whole paths, since the scenario's file lies elsewhere. Raises UsageError for none that can be."""
    from tare.bench.errors import UsageError
    from tare.runners.image import sources
    from tare.runners.image.archives.stream import ImageRefused

    try:
        return sources.absolute(image, Path.cwd())
    except ImageRefused as refused:
        raise UsageError(f"--image {image} cannot be used", refused.why, refused.fix) from None


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"--env {text}: write NAME=VALUE")
    return name, value


def _chosen(asked: str | dict[str, Any], image: str) -> list[str]:
    """What works here and is fast, of all runners; it is said which, and why others are left out."""
    from tare import runners
    from tare.bench.host import doctor
    from tare.runners.image.cache import cache_dir

    known = {name: runners.load(name) for name in runners.REGISTRY if name != _NULL}
    fast = {name: one for name, one in known.items() if one.TYPICAL_S <= _FAST_S}
    found = {name: doctor.probe(one, {}, cache_dir()) for name, one in fast.items()}
    chosen = [name for name, support in found.items() if not _why_not(support, asked, image)]
    slow = ", ".join(name for name in known if name not in fast)
    streams.say(f"in {', '.join(chosen)}: what works here and is fast (-i chooses; slower: {slow or 'none'})\n")
    if not chosen:
        from tare.bench.errors import NothingToRunError

        reasons = "; ".join(f"{name}: {_why_not(support, asked, image)}" for name, support in found.items())
        raise NothingToRunError("nothing here can run this", reasons, "`tare doctor` says what to install")
    return chosen


def _why_not(support: Support, asked: str | dict[str, Any], image: str) -> str:
    """Why a runner with *support* is not taken; empty where it is."""
    if not support.ok:
        return support.why
    if isinstance(asked, dict) and {"tcp", "http"} & asked.keys() and not support.reached:
        return "its instances have no address"
    if isinstance(asked, dict) and "exec" in asked and not support.enters:
        return "no command can be run beside the workload"
    return f"it cannot take the image {image}" if image.partition(":")[0] in support.images else ""
