"""An engine's daemon that is started for one subject, and stopped after it.

Its readiness is an event: such a daemon tells it on the socket that ``NOTIFY_SOCKET`` names (sd_notify(3)).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tare.runners.base import RunnerError
from tare.runners.launch import monitored, orphans

_READY_MS = 60_000
_STOP_S = 20.0
_TAIL_BYTES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A daemon that runs, or has run."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def name(self) -> str:
        """The name of its program."""
        return Path(str(self.process.args[0] if isinstance(self.process.args, list) else "")).name

    def pids(self) -> frozenset[int]:
        """It and what it has started by now."""
        return frozenset(orphans.family(self.process.pid))

    def check(self, limit_s: float = 0.0) -> None:
        """Raise RunnerError if it has ended, or ends within *limit_s*."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(limit_s)
            raise RunnerError(f"{self.name}, which was started for this subject, has ended", self.explain())

    def explain(self) -> str:
        """How it ended, and the end of its log."""
        return ": ".join(filter(None, (monitored.ending(self.process), self.said())))

    def said(self) -> str:
        """The end of its log: the last line that says what is wrong, or else the last one."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
        wrong = [line for line in lines if any(word in line for word in ("level=error", "level=fatal", "failed to"))]
        return (wrong or lines or [""])[-1]


@contextmanager
def running(argv: Sequence[str], place: Path, env: Mapping[str, str] | None = None, fix: str = "") -> Iterator[Daemon]:
    """Start a daemon whose files are below *place*, and yield it when it is ready. Raises RunnerError with *fix*."""
    log = place / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told:
        address = place / "told"
        told.bind(os.fspath(address))
        with log.open("wb") as file:
            try:
                process = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    env={**os.environ, **(env or {}), "NOTIFY_SOCKET": os.fspath(address)},
                    process_group=0,  # Ctrl-C is for tare, which then stops it
                )
            except OSError as error:
                raise RunnerError(f"cannot start {argv[0]}", str(error), fix) from error
        daemon = Daemon(process=process, log=log)
        try:
            _await_ready(told, daemon, fix)
            yield daemon
        finally:
            _stop(process)


def _await_ready(told: socket.socket, daemon: Daemon, fix: str) -> None:
    poll = select.poll()
    poll.register(told, select.POLLIN)
    pidfd = os.pidfd_open(daemon.process.pid)
    try:
        poll.register(pidfd, select.POLLIN)
        while ready := dict(poll.poll(_READY_MS)):
            if told.fileno() in ready and b"READY=1" in told.recv(4096):
                return
            if pidfd in ready:
                daemon.process.wait()
                raise RunnerError(f"{' '.join(daemon.process.args)} does not start", daemon.explain(), fix)  # type: ignore[arg-type]
    finally:
        os.close(pidfd)
    raise RunnerError(f"{daemon.name} is not ready after {_READY_MS // 1000} s", daemon.said(), fix)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """By SIGTERM, and by SIGKILL if it does not heed it. What it has started and left is the place's to remove."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
