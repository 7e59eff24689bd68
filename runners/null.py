"""The null baseline: an instance that is ready at once and has no process. It measures the instrument itself.

Where the contract has ports, something listens on each from before the first start, and answers: what is measured then
is the attempt alone. That server is a process of its own, since a thread would share this process's interpreter lock.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tare.runners.base import Address, Layers, Mark, Option, Options, Prepared, RunnerError, Scratch, Spec, Support
from tare.runners.launch import drain

LAYERS: Layers = ()
TYPICAL_S = 0.001
OPTIONS: Mapping[str, Option] = {}

_REACHED = "the host's loopback, where a server of tare's listens"
_BACKLOG = 128
_SERVER = """
import select, socket, sys
listeners = [socket.socket(fileno=int(word)) for word in sys.argv[1:]]
while True:
    ready, _, _ = select.select([0, *listeners], [], [])
    if 0 in ready:
        break
    for listener in ready:
        client, _ = listener.accept()
        client.settimeout(1)
        try:
            if client.recv(65536):
                client.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
        except OSError:
            pass
        client.close()
"""


@dataclass(frozen=True, slots=True)
class _Nothing:
    console: int
    ports: Mapping[int, int] = field(default_factory=dict)
    cgroup: Path | None = None

    def pids(self) -> frozenset[int]:
        return frozenset()

    def explain(self) -> str:
        return ""

    def address(self) -> Address:
        return Address(how=_REACHED, ports=self.ports)

    def command(self, argv: Sequence[str]) -> Sequence[str]:
        """The shortest that there is: what *argv* itself takes is not the instrument's."""
        found = shutil.which("true")
        if found is None:
            raise RunnerError(f"{argv[0]} cannot be run in the null runner", "there is no program true on PATH")
        return (found,)

    def status(self) -> int | None:
        return None

    def reclaim(self, size_bytes: int) -> None:
        raise RunnerError("the null runner has no memory to give back", f"{size_bytes} bytes were asked for")


def probe(options: Options, cache: Path) -> Support:
    """Always possible."""
    return Support(ok=True, version="1", unlimited=("memory", "cpus"), reached=_REACHED, enters="fork and exec of true")


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """Nothing to prepare, but for what listens on the ports of *spec*."""
    with ExitStack() as stack:
        ports, pids = _listening(spec.ports, stack)

        @contextmanager
        def launch(name: str, mark: Mark) -> Iterator[_Nothing]:
            reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                mark("created")
                os.write(writer, b"tare first\ntare ready\n")
                yield _Nothing(reader, ports)
                mark("stopped")
            finally:
                drain.close(reader)
                os.close(writer)

        manifest = {"argv.txt": "(starts nothing: both marks are written at once)\n"}
        yield Prepared(launch=launch, manifest=manifest, resident_pids=pids)


def sweep() -> Sequence[str]:
    """Nothing can be left: the server ends when this process does."""
    return ()


def _listening(ports: Sequence[int], stack: ExitStack) -> tuple[Mapping[int, int], frozenset[int]]:
    """Listen for each of *ports*, on another that is free: a map from one to the other, and the server's process."""
    if not ports:
        return {}, frozenset()
    with ExitStack() as ours:
        listeners = [ours.enter_context(socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)) for _ in ports]
        numbers = [listener.fileno() for listener in listeners]
        server = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SERVER, *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=numbers,
            process_group=0,
        )
        stack.enter_context(server)  # closes its input, at which it ends, and waits for that
        return {port: one.getsockname()[1] for port, one in zip(ports, listeners, strict=True)}, frozenset({server.pid})
