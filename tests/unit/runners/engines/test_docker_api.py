"""What is asked of a docker daemon, and what its answers are taken for: a small server on a socket is in its place."""

from __future__ import annotations

import json
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tare.runners.base import RunnerError
from tare.runners.engines import docker_api


class Server(socketserver.ThreadingUnixStreamServer):
    """Answers by *answers*: the beginning of ``METHOD PATH`` -> status, body."""

    answers: dict[str, tuple[int, str]]
    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = f"{self.command} {self.path}"
        self.server.asked.append(asked)
        found = [answer for begin, answer in self.server.answers.items() if asked.startswith(begin)]
        status, body = found[0] if found else (404, '{"message": "no such thing"}')
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_DELETE = do_GET  # noqa: N815 - names that the class looks for

    def address_string(self) -> str:
        return "test"

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as place, Server(f"{place}/s", Handler) as made:
        made.answers, made.asked = {}, []
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def daemon(server: Server) -> docker_api.Daemon:
    return docker_api.Daemon(f"unix://{server.server_address!s}")


def test_the_first_process_is_asked_for_when_the_start_was_told(server: Server, daemon: docker_api.Daemon) -> None:
    server.answers = {
        "GET /events": (200, '{"status": "start"}\n'),
        "GET /containers/one/json": (200, json.dumps({"State": {"Pid": 4711}})),
    }
    assert daemon.first("one") == 4711
    assert server.asked[0].startswith("GET /events?since=1&filters=%7B%22container%22%3A%20%5B%22one%22%5D")


def test_a_container_that_has_ended_has_no_process(server: Server, daemon: docker_api.Daemon) -> None:
    server.answers = {
        "GET /events": (200, '{"status": "die"}\n'), "GET /containers/one/json": (200, '{"State": {"Pid": 0}}'),
    }  # fmt: skip
    with pytest.raises(RunnerError, match="it has ended"):
        daemon.first("one")


@pytest.mark.parametrize("status", [404, 409])
def test_to_kill_or_remove_what_is_not_there_is_no_error(
    server: Server, daemon: docker_api.Daemon, status: int
) -> None:
    server.answers = {"": (status, '{"message": "it does not run"}')}
    daemon.kill("one")
    daemon.remove("one")
    assert server.asked == ["POST /containers/one/kill?signal=KILL", "DELETE /containers/one?force=1&v=1"]


def test_another_refusal_is_an_error_with_the_daemons_words(server: Server, daemon: docker_api.Daemon) -> None:
    server.answers = {"": (500, '{"message": "the disk is full"}')}
    for ask in (daemon.kill, daemon.remove, daemon.first):
        with pytest.raises(RunnerError, match=r"500 .*the disk is full"):
            ask("one")


def test_the_usual_daemon_is_where_the_user_says(
    server: Server, daemon: docker_api.Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    assert docker_api.usual() is None
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")  # a daemon on another host runs nothing here
    assert docker_api.usual() is None
    monkeypatch.setenv("DOCKER_HOST", daemon.host)
    assert docker_api.usual() is None
    server.answers = {"GET /_ping": (200, "OK")}
    assert docker_api.usual() == daemon
