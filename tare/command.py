"""The command line: ``tare``, and what of it is no verb; the verbs stand in :mod:`tare.verbs`.

Data goes to stdout, messages go to stderr. Only this module and the verbs may import all packages. Imports are inside
the verbs, so that ``tare --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
import warnings

import click

from tare.reports.cli import arguments, streams
from tare.verbs import host, images, measure, runs, weigh

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

VERBS = (
    host.doctor,
    runs.list_,
    measure.plan,
    measure.run,
    weigh.weigh,
    runs.report,
    runs.compare,
    runs.index,
    runs.pack,
    images.image,
    host.clean,
)


@click.group(cls=arguments.Verbs, context_settings=CONTEXT)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=arguments.show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Measure what isolation costs: the same workload as a process, in containers and in virtual machines.

    \b
    Example:
      tare doctor                  what can run here, and what disturbs the numbers
      tare run quick               measures; prints the directory of the run
      tare weigh -- python3 -V     measures a command of yours in all that works here
      tare report latest           makes the report of the last run
    """


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


for _verb in VERBS:
    cli.add_command(_verb)


def main() -> None:
    """Run the command line. Every failure prints what, why and how to fix it, and has the exit code of its class."""
    from tare.bench.host import interrupts
    from tare.reports.cli import ending

    interrupts.at_the_door()
    if not sys.warnoptions:  # numpy's warnings about very large numbers name lines of libraries, which helps no user
        warnings.simplefilter("ignore")
    if "_TARE_COMPLETE" in os.environ:
        cli(prog_name="tare")
    own = sys.argv[1 : sys.argv.index("--") if "--" in sys.argv else None]  # what follows is another command's
    interrupts.leave(ending.run(arguments.invoke(cli, sys.argv[1:]), as_json="--json" in own))


if __name__ == "__main__":
    main()
