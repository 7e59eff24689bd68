"""The format of ``[workload]``: what runs instead of the payload, and when it counts as ready."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from msgspec import Meta

from tare.bench.records.readiness import Exec, Exit, Http, Line, Mark, Port, Ready, Tcp
from tare.bench.records.resolved import Workload
from tare.bench.scenario.design import Table


class ReadyTable(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``ready`` of a workload that is no mark: exactly one of these, and ``status`` beside ``http`` alone.

    line: a regular expression that a line of its output matches
    tcp: the port that accepts a connection
    http: what answers a request, as ``http://:8000/health``; the host is the instance
    status: the status of that answer
    exec: a command that is run beside the workload and ends with status 0
    exit: the exit status with which the workload itself ends
    """

    line: str | None = None
    tcp: Port | None = None
    http: str | None = None
    status: Annotated[int, Meta(ge=100, le=599)] | None = None
    exec: Annotated[list[str], Meta(min_length=1)] | None = None
    exit: Annotated[int, Meta(ge=0, le=255)] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a table that names no contract, more than one, or one that cannot be."""
        self.contract()

    def contract(self) -> Ready:
        """What it asks for. Raises ValueError."""
        given = [name for name in ("line", "tcp", "http", "exec", "exit") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"ready must have exactly one of line, tcp, http, exec, exit; it has {given or 'none'}")
        if self.status is not None and self.http is None:
            raise ValueError("ready.status belongs to ready.http")
        if self.line is not None:
            try:
                re.compile(self.line)
            except re.error as error:
                raise ValueError(f"ready.line is no regular expression: {error}") from None
            return Line(pattern=self.line)
        if self.tcp is not None:
            return Tcp(port=self.tcp)
        if self.http is not None:
            return _http(self.http, self.status or 200)
        if self.exec is not None:
            return Exec(argv=tuple(self.exec))
        return Exit(code=self.exit or 0)


def _http(url: str, code: int) -> Http:
    """``http://:8000/health`` as a contract. Raises ValueError."""
    found = re.fullmatch(r"http://:([0-9]{1,5})(/[!-~]*)?", url)
    if found is None or not 1 <= int(found[1]) <= 65535:
        raise ValueError('ready.http must be such as "http://:8000/health": a port and a path, and no host')
    return Http(port=int(found[1]), path=found[2] or "/", code=code)


class WorkloadTable(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[workload]``: what runs in every subject, instead of the built-in payload.

    command: the program and its arguments; empty: what the image says
    env: environment variables, beside those of the image
    cwd: the directory in which it begins; empty: what the image says
    user: whose rights it has, as a name or ``UID[:GID]`` of the image; empty: what the image says
    image: what it finds below its root: ``host``, ``payload``, a directory, an archive, or what else is a source of
        images; a relative path is one from the directory of the scenario
    ports: on which it listens; that of ``ready`` need not be said
    ready: when it counts as ready: ``"mark"``, which it writes itself (``tare ready`` and a line feed), or a table
    """

    command: list[str] = []
    env: dict[str, str] = {}
    cwd: str = ""
    user: str = ""
    image: str = "host"
    ports: list[Port] = []
    ready: Literal["mark"] | ReadyTable = "mark"

    def resolved(self, name: str, image: str) -> Workload:
        """The same as a record, with *image* in place of what the file says of it; *name* where it has several."""
        return Workload(
            name=name,
            command=tuple(self.command),
            env=self.env,
            cwd=self.cwd,
            user=self.user,
            image=image,
            ports=tuple(self.ports),
            ready=self.ready.contract() if isinstance(self.ready, ReadyTable) else Mark(),
        )
