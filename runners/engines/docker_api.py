"""What a docker daemon is asked outside of the command line: over its socket, by HTTP (Docker Engine API, 1.40 on)."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tare.runners.base import RunnerError

_ANSWER_S = 30.0
_START_S = 60.0
_DEFAULT = "unix:///var/run/docker.sock"


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, limit_s: float) -> None:
        super().__init__("docker", timeout=limit_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that listens on *host*, a ``unix://`` address."""

    host: str

    def answers(self) -> str:
        """Why it does not; empty where it does."""
        try:
            self.get("/_ping")
        except RunnerError as error:
            return error.why
        return ""

    def info(self) -> dict[str, Any]:
        """What it says of itself. Raises RunnerError."""
        return dict(json.loads(self.get("/info")))

    def first(self, name: str) -> int:
        """The first process of the container *name*, once it has been started. Raises RunnerError.

        The daemon is not asked again and again: it tells the event, also one that was before.
        """
        wanted = quote(json.dumps({"container": [name], "event": ["start", "die", "destroy"]}))
        with self._asked("GET", f"/events?since=1&filters={wanted}", _START_S) as answer:
            answer.readline()
        pid = int(json.loads(self.get(f"/containers/{name}/json"))["State"]["Pid"])
        if not pid:
            raise RunnerError(f"the container {name} has no process", "it has ended")
        return pid

    def kill(self, name: str) -> None:
        """SIGKILL to the container *name*; one that has ended is no error. Raises RunnerError."""
        try:
            self.get(f"/containers/{name}/kill?signal=KILL", method="POST")
        except RunnerError as error:
            if not error.why.startswith(("404", "409")):
                raise

    def remove(self, name: str) -> None:
        """Remove the container *name*, if there is one. Raises RunnerError."""
        try:
            self.get(f"/containers/{name}?force=1&v=1", method="DELETE")
        except RunnerError as error:
            if not error.why.startswith(("404", "409")):  # 409: its removal goes on
                raise

    def get(self, path: str, *, method: str = "GET") -> bytes:
        """The answer to a request. Raises RunnerError: its reason begins with the status, if there was an answer."""
        with self._asked(method, path, _ANSWER_S) as answer:
            return answer.read()

    @contextmanager
    def _asked(self, method: str, path: str, limit_s: float) -> Iterator[http.client.HTTPResponse]:
        what = f"the docker daemon at {self.host} was asked: {method} {path}"
        connection = _Connection(self.host.removeprefix("unix://"), limit_s)
        try:
            connection.request(method, path, headers={"Host": "docker"})
            answer = connection.getresponse()
            if answer.status >= http.client.BAD_REQUEST:
                raise RunnerError(what, f"{answer.status} {answer.read(2000).decode('utf-8', 'replace').strip()}")
            yield answer
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise RunnerError(what, str(error) or type(error).__name__) from error
        finally:
            connection.close()


def usual() -> Daemon | None:
    """The daemon that a user's ``docker`` talks to here, if it is one on this host and answers."""
    host = os.environ.get("DOCKER_HOST") or _DEFAULT
    if not host.startswith("unix://"):
        return None
    found = Daemon(host)
    return None if found.answers() else found
