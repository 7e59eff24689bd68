"""The command line as a process that has read its modules already: each command is a copy of it, made by fork.

It is a process all the same, with streams, directory, environment and exit code of its own. What is saved is the import
of modules, a second for each command, which is the same each time. What the start itself decides (encodings, signals
that come early, what is imported) is tested by :mod:`tests.cli`; and so is ``tare run``, which measures what a fresh
process uses.
"""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from tare import bench, command, reports
from tare.bench.host import interrupts
from tests import cli

#: Whatever of these is in a command's environment is read when Python starts: such a command has to be a fresh one.
_OF_THE_START = ("PYTHON", "LC_", "LANG", "COVERAGE")
_MOST_BYTES = 1 << 20


class Request(msgspec.Struct):
    """A command; its standard output and error come with it as descriptors."""

    words: list[str]
    cwd: str
    env: dict[str, str]


def tare(
    *words: str | Path, cwd: Path = cli.ROOT, timeout_s: float = 120, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run ``tare WORDS``; a traceback on standard error fails whatever test runs it."""
    assert not [name for name in env if name.startswith(_OF_THE_START)], "that is for tests.cli"
    request = Request([*map(str, words)], str(cwd), cli.environment(**env))
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        link, server = _server()
        link.settimeout(timeout_s)
        socket.send_fds(link, [msgspec.json.encode(request)], [out.fileno(), err.fileno()])
        try:
            code = int(link.recv(64))
        except TimeoutError:
            server.kill()  # the next command fails as well: it has no server
            raise
        out.seek(0)
        err.seek(0)
        done = subprocess.CompletedProcess(cli.command(*words), code, out.read().decode(), err.read().decode())
    assert "Traceback" not in done.stderr, done.stderr
    return done


def fails(*words: str | Path, code: int = 2) -> str:
    """What ``tare WORDS`` says of its failure, which is all that it writes: what, why and fix."""
    done = tare(*words)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert 1 <= len(done.stderr.splitlines()) <= 3, done.stderr
    return done.stderr


@functools.cache
def _server() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """This process' own, and the end of the socket that ends it."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST_BYTES)
    with its:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", str(its.fileno())],
            pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, cwd=cli.ROOT, env=cli.environment(),
        )  # fmt: skip
    return ours, server


def end() -> None:
    """End the process that commands are copies of, if there is one; what it measured for coverage is written then."""
    if _server.cache_info().currsize:
        link, server = _server()
        link.close()
        server.wait()
        _server.cache_clear()


def _serve(link: socket.socket) -> None:
    for package in (bench, reports):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(found.name)
    if "coverage" in sys.modules:
        from coverage.control import _after_fork_in_child

        os.register_at_fork(after_in_child=_after_fork_in_child)  # what it measures is the copy's own
    while True:
        text, descriptors, _, _ = socket.recv_fds(link, _MOST_BYTES, 2)
        if not text:
            return
        pid = os.fork()
        if not pid:
            _become(msgspec.json.decode(text, type=Request), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        link.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: Request, descriptors: Sequence[int]) -> NoReturn:
    """Be the process that was asked for."""
    for descriptor, number in zip(descriptors, (1, 2), strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.closerange(3, 64)  # the link among them
    os.chdir(request.cwd)
    os.environ.clear()
    os.environ.update(request.env)
    sys.argv = ["tare", *request.words]
    sys.stdout = os.fdopen(1, "w", encoding=sys.stdout.encoding)
    sys.stderr = os.fdopen(2, "w", encoding=sys.stderr.encoding, errors="backslashreplace", buffering=1)
    code = 1
    try:
        command.main()
    except SystemExit as end:  # a shell's completion leaves as click does
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except Exception:  # noqa: BLE001 - it is Python's own last word, and fails the test
        traceback.print_exc()
    interrupts.leave(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
