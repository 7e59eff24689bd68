"""The host's end of a serial line by which a guest is asked for further commands.

A port of virtio-serial needs nothing here: QEMU listens at a socket, lets in one asker (``ask.c``) at a time, and tells
the guest when that one has gone. A serial line knows of nobody who comes and goes. So for machines that have only that,
a thread of this process does what QEMU does.
"""

from __future__ import annotations

import secrets
import select
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path

#: What ``init.c`` calls struct request and struct answer.
_REQUEST, _ANSWER = struct.Struct("=4sII"), struct.Struct("=4sIII")
_MAGIC = b"TARE"
#: Answers without content: nothing runs (the first one, with the number 0, says that the guest listens); and more of a
#: request can be read, which the guest is given in slices.
_IDLE, _MORE = 3, 4
_SLICE = 2048
_READ_BYTES = 65536


class _Over(Exception):  # noqa: N818 - an outcome, not an error
    """The machine has ended."""


class Relay:
    """Listens at the path *control* from the first :meth:`open` on; *line* is this end of the serial line.

    The line is closed by :meth:`close`, too.
    """

    def __init__(self, line: socket.socket, control: Path) -> None:
        self.control = control
        self._line = line
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._asker: socket.socket | None = None
        self._closed = False
        self._lock = threading.Lock()

    def open(self) -> None:
        """Let askers in. Raises OSError."""
        with self._lock:
            if self._thread is not None:
                return
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self.control))
            self._listener.listen()
            self._thread = threading.Thread(target=self._run, args=(self._listener,), name="relay", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End it, and remove what it made."""
        self._closed = True
        for end in (self._line, self._listener, self._asker):
            if end is not None:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join()
        if self._listener is not None:
            self.control.unlink(missing_ok=True)
        self._line.close()

    def _run(self, listener: socket.socket) -> None:
        with suppress(OSError, _Over), listener:
            self._await(0, _IDLE)
            while True:
                asker, _ = listener.accept()
                with asker:
                    self._asker = asker
                    if self._closed:  # just before, so that this asker was not shut down
                        return
                    self._serve(asker)
                    self._asker = None

    def _serve(self, asker: socket.socket) -> None:
        """Pass on one request and what answers it, until *asker* goes; then have the guest end what still runs."""
        with suppress(ConnectionError):
            # The whole of it, before the guest gets any: it would take the next one for the rest.
            head = _exactly(asker, _REQUEST.size)
            _, number, size = _REQUEST.unpack(head)
            self._tell(number, head + _exactly(asker, size))
            events = select.poll()
            events.register(self._line, select.POLLIN)
            events.register(asker, select.POLLIN)
            while True:
                ready = {fd for fd, _ in events.poll()}
                if asker.fileno() in ready:  # it has nothing more to say: this is its end
                    break
                asker.sendall(self._read())
        drop = secrets.randbelow((1 << 32) - 1) + 1
        self._tell(drop, _REQUEST.pack(_MAGIC, drop, 0))
        self._await(drop, _IDLE)

    def _tell(self, number: int, request: bytes) -> None:
        for begin in range(0, len(request), _SLICE):
            if begin:
                self._await(number, _MORE)
            self._line.sendall(request[begin : begin + _SLICE])

    def _await(self, number: int, what: int) -> None:
        """Read up to the guest's answer *what* to *number*. What comes before may be cut off within an answer."""
        wanted = _ANSWER.pack(_MAGIC, number, what, 0)
        seen = b""
        while wanted not in seen:
            seen = seen[-len(wanted) :] + self._read()

    def _read(self) -> bytes:
        data = self._line.recv(_READ_BYTES)
        if not data:
            raise _Over
        return data


def _exactly(source: socket.socket, size: int) -> bytes:
    """The next *size* bytes. Raises ConnectionError where they do not come."""
    data = b""
    while len(data) < size:
        more = source.recv(size - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data
