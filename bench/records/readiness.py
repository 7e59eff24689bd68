"""When a workload counts as ready: the contracts, as a scenario's ``ready =`` says them and a run's header keeps them.

:mod:`bench.readiness` has one module for each, which waits for it.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=1, le=65535)]


class Readiness(msgspec.Struct, frozen=True, kw_only=True, tag_field="by"):
    """What ends a start. ``by`` in the records names which."""


class Mark(Readiness, frozen=True, kw_only=True, tag="mark"):
    """The workload writes the line ``tare WORD`` to its standard output: the payload's protocol.

    word: ``ready``, or ``first`` (the payload's first instruction)
    """

    word: str = "ready"


class Line(Readiness, frozen=True, kw_only=True, tag="line"):
    """A line of its output, standard error included, matches.

    pattern: a regular expression (Python's re), searched in each line
    """

    pattern: str


class Tcp(Readiness, frozen=True, kw_only=True, tag="tcp"):
    """Something accepts a connection.

    port: the port inside the instance
    """

    port: Port


class Http(Readiness, frozen=True, kw_only=True, tag="http"):
    """A request (GET) is answered with a status.

    port: the port inside the instance
    path: what is asked for
    code: the status that is wanted
    """

    port: Port
    path: str = "/"
    code: Annotated[int, Meta(ge=100, le=599)] = 200


class Exec(Readiness, frozen=True, kw_only=True, tag="exec"):
    """A command that is run beside the workload ends with status 0.

    argv: the command and its arguments
    """

    argv: Annotated[tuple[str, ...], Meta(min_length=1)]


class Exit(Readiness, frozen=True, kw_only=True, tag="exit"):
    """The workload itself ends.

    code: the exit status that it must end with
    """

    code: Annotated[int, Meta(ge=0, le=255)] = 0


Ready = Mark | Line | Tcp | Http | Exec | Exit


def kind(ready: Ready) -> str:
    """Its ``by`` in the records."""
    return str(ready.__struct_config__.tag)


def sentence(ready: Ready) -> str:
    """The contract in words that follow "ready when"."""
    match ready:
        case Mark(word=word):
            return f"the mark “{word}” of the payload arrived on its console"
        case Line(pattern=pattern):
            return f"a line of its output matched {pattern}"
        case Tcp(port=port):
            return f"its port {port} accepted a connection"
        case Http(port=port, path=path, code=code):
            return f"its port {port} answered GET {path} with status {code}"
        case Exec(argv=argv):
            return f"the command {' '.join(argv)}, run beside it, ended with status 0"
        case Exit(code=code):
            return f"it had ended with status {code}"


def missing(ready: Ready) -> str:
    """What did not happen, in a few words: ``no 'ready'``, ``port 80 accepted no connection``."""
    match ready:
        case Mark(word=word):
            return f"no '{word}'"
        case Line(pattern=pattern):
            return f"no line of its output matched {pattern}"
        case Tcp(port=port):
            return f"port {port} accepted no connection"
        case Http(port=port, path=path, code=code):
            return f"port {port} did not answer GET {path} with status {code}"
        case Exec(argv=argv):
            return f"the command {' '.join(argv)} did not end with status 0"
        case Exit(code=code):
            return f"it did not end with status {code}"
