"""Words of the command line, judged before a verb sees them: each option once, none without a value.

click takes the last of two values without a word, and an empty one as it is; in a measurement that hides a mistake.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tare.bench.errors import UsageError
from tare.reports.cli import streams

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


#: A run counted from the end of the list: see :mod:`bench.records.choice`.
_PLACE = re.compile(r"-[0-9]+")
#: No word of a command line holds it.
_MARK = "\0"


class _Run(click.ParamType):  # type: ignore[type-arg] # a generic type only in newer releases of click
    """What names a run, judged by :mod:`bench.records.choice`."""

    name = "run"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """The word as it was typed."""
        return str(value).removeprefix(_MARK)


RUN = _Run()


class _Helpful(click.Command):
    """A command whose help goes out as all data does."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """As click does; raises like :func:`reports.cli.streams.out` when it is given."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option


class Verb(_Helpful):
    """One verb."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; raises click.UsageError for an option without a value, or with two."""
        args = self._marked(args)
        if not ctx.resilient_parsing:
            given, _, order = self.make_parser(ctx).parse_args(args=list(args))
            for parameter in order:
                many = parameter.multiple or getattr(parameter, "is_flag", False)
                if order.count(parameter) > 1 and not many:
                    raise click.UsageError(f"{_called(parameter)} is given twice", ctx)
                value = given.get(parameter.name or "")
                if parameter.type is click.UNPROCESSED:  # a command's own words, of which one may well be empty
                    continue
                if "" in (value if isinstance(value, list | tuple) else [value]):
                    raise click.UsageError(f"{_called(parameter)} is empty", ctx)
        return super().parse_args(ctx, args)

    def _marked(self, args: list[str]) -> list[str]:
        """*args*, with a mark before each ``-1`` that stands for a run: click would take it for an option."""
        if not any(isinstance(parameter.type, _Run) for parameter in self.params):
            return args
        valued = {name for one in self.params if not getattr(one, "is_flag", False) for name in one.opts}
        before = ["", *args]
        return [
            f"{_MARK}{word}" if _PLACE.fullmatch(word) and last not in valued else word
            for last, word in zip(before, args, strict=False)
        ]


class Verbs(_Helpful, click.Group):
    """All verbs."""

    command_class = Verb

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; an unknown verb is told with those that there are."""
        if args and self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing and args[0][:1] != "-":
            known = sorted(self.commands)
            close = difflib.get_close_matches(args[0][:80], known, n=1)
            question = f"did you mean '{close[0]}'? " if close else ""
            raise UsageError(f"there is no verb '{args[0]}'", "", f"{question}known: {', '.join(known)}")
        return super().resolve_command(ctx, args)


def _show_help(context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's
    if value and not context.resilient_parsing:
        streams.out(f"{context.get_help()}\n")
        context.exit()


def show_version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's
    """What ``tare --version`` does."""
    if value and not context.resilient_parsing:
        from importlib.metadata import version

        streams.out(f"tare, version {version('tarebench')}\n")
        context.exit()


def invoke(verbs: Verbs, arguments: list[str]) -> Callable[[], None]:
    """What runs *verbs* with *arguments*; it raises SystemExit, UsageError, and what a verb raises."""

    def command() -> None:
        if not arguments:
            streams.say(f"{verbs.get_help(click.Context(verbs, info_name='tare'))}\n")
            raise SystemExit(UsageError.exit_code)
        try:
            with verbs.make_context("tare", list(arguments)) as context:
                verbs.invoke(context)
        except click.exceptions.Exit as wish:
            raise SystemExit(wish.exit_code) from None
        except click.Abort:
            raise KeyboardInterrupt from None
        except click.ClickException as error:
            raise _in_our_words(error) from None

    return command


def complete_scenario(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Names of shipped scenarios, else files."""
    from click.shell_completion import CompletionItem

    from tare.bench.scenario import resolve

    found = [CompletionItem(name) for name in resolve.shipped() if name.startswith(begun)]
    return found or [CompletionItem(begun, type="file")]


def complete_run(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Runs made so far, by their name or by their path, else files and directories."""
    from click.shell_completion import CompletionItem

    from tare.bench.records import choice, store

    try:
        paths = store.runs(results())
    except UsageError:  # a shell that completes a word can use no error
        paths = []
    words = (choice.LATEST, *(path.name for path in paths), *map(str, paths))
    found = [CompletionItem(word) for word in words if word.startswith(begun)]
    return found or [CompletionItem(begun, type="file")]


def results() -> Path:
    """Where run directories are if no option says so."""
    return Path(os.environ.get("TARE_RESULTS") or "results/runs")


def _in_our_words(error: click.ClickException) -> UsageError:
    context: Any = getattr(error, "ctx", None)
    path = context.command_path if context else "tare"
    message = error.format_message().rstrip(".")
    if message[1:2].islower():
        message = message[0].lower() + message[1:]
    return UsageError(message, "", f"`{path} --help` lists what it takes")


def _called(parameter: click.Parameter) -> str:
    """The longest of an option's names, or an argument in capitals."""
    return max(parameter.opts, key=len) if isinstance(parameter, click.Option) else (parameter.name or "").upper()
