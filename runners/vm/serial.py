"""A guest's first serial port, read from the moment QEMU connects: what its firmware, kernel and init say, and when.

How far a guest is, is stamped when the words that say so are read, on the host's clock. The words are those that
firmware, kernels, Debian's initramfs and systemd write by themselves, or our own ``init.c``; none of them is sent to a
guest for this.
"""

from __future__ import annotations

import os
import re
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from tare.runners.base import Mark
from tare.runners.launch.drain import Tail

#: Phase -> the first words that say that it has begun. ``firmware``: it hands over to a boot loader. ``init``: the
#: first process of the root that stays.
STEPS: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("firmware", re.compile(rb"Booting from |BdsDxe: starting ")),
    ("kernel", re.compile(rb"Linux version \d|Decompressing Linux")),
    ("initramfs", re.compile(rb"tare init: initramfs|Loading, please wait|Run /init as init process|\(Initramfs\)")),
    ("init", re.compile(rb"tare init: root|Welcome to (?![^\r\n]*\(Initramfs)[^\r\n]*!|INIT: version ")),
)
_READ_BYTES = 65536
#: What the longest of these words fits into.
_WORDS_BYTES = 256


class Timeline:
    """Calls *mark* for each phase of :data:`STEPS` as soon as what comes in says so, each once and in their order."""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark
        self._at = 0
        self._rest = b""

    def read(self, data: bytes) -> None:
        """Take what came next."""
        text = self._rest + data
        while True:
            found = [
                (match.start(), place, match.end())
                for place, (_, words) in enumerate(STEPS)
                if place >= self._at and (match := words.search(text))
            ]
            if not found:
                break
            _, place, end = min(found)
            self._mark(STEPS[place][0])
            self._at, text = place + 1, text[end:]
        self._rest = text[-_WORDS_BYTES:]


class FirstPort:
    """Reads the port that QEMU connects to *listener*, in a thread, until it ends or is closed.

    What comes goes to *sink*; its end is kept. As :attr:`console` a reader gets the same, while it keeps up.
    """

    def __init__(self, listener: socket.socket, sink: Callable[[bytes], object], tail: Tail) -> None:
        listener.setblocking(True)
        self._listener = listener
        self._sink = sink
        self._tail = tail
        self._port: socket.socket | None = None
        self.console, self._to = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._over = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="first-port", daemon=True)
        self._thread.start()

    def send(self, data: bytes) -> None:
        """Write to the guest."""
        if self._port is not None:
            with suppress(OSError):
                self._port.sendall(data)

    def heard(self) -> None:
        """Say on :attr:`console` that the guest has said elsewhere that it is ready, by the payload's mark."""
        with suppress(OSError):
            os.write(self._to, b"\ntare ready\n")

    def close(self) -> None:
        """Stop reading; :attr:`console` is the reader's to close."""
        os.eventfd_write(self._over, 1)
        self._thread.join()
        os.close(self._over)

    def _run(self) -> None:
        try:
            if not self._ready(self._listener.fileno()):
                return
            port, _ = self._listener.accept()
            with port:
                self._port = port
                while self._ready(port.fileno()) and (data := _received(port)):
                    self._tail.keep(data)
                    self._sink(data)
                    with suppress(BlockingIOError, BrokenPipeError):  # nobody reads it: it is on the tail
                        os.write(self._to, data)
        finally:
            os.close(self._to)

    def _ready(self, fd: int) -> bool:
        """Wait until *fd* can be read; False if it is all over before."""
        poll = select.poll()
        for each in (fd, self._over):
            poll.register(each, select.POLLIN)
        return self._over not in dict(poll.poll())


def _received(port: socket.socket) -> bytes:
    try:
        return port.recv(_READ_BYTES)
    except ConnectionResetError:
        return b""
