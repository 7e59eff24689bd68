"""An agent for SCMP_ACT_NOTIFY: it takes the listener of a filter, and lets each call that it is asked about go on.

Sources: seccomp_unotify(2), linux/seccomp.h; the OCI runtime specification, "The Container Process State".
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
#: struct seccomp_notif: id, pid, flags, and struct seccomp_data: number, architecture, address, six arguments.
_NOTICE = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
#: What an agent answers to a call by its number: an errno; None lets it go on.
Answer = Callable[[int], int | None]


class Agent:
    """Listens at *path* in a thread of its own; a context manager. :attr:`states` are the messages that it got.

    :attr:`asked` are the numbers of the calls. *answer* decides each.
    """

    def __init__(self, path: Path, answer: Answer = lambda _: None) -> None:
        self.path = path
        self.states: list[dict[str, Any]] = []
        self.asked: list[int] = []
        self._answer = answer
        self._end, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Agent:
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._door.bind(os.fspath(self.path))
        self._door.listen()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._wake, b"x")
        self._thread.join()
        for fd in (self._end, self._wake):
            os.close(fd)
        self._door.close()

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._door, select.POLLIN)
        poll.register(self._end, select.POLLIN)
        listeners: list[int] = []
        while True:
            for fd, what in poll.poll():
                if fd == self._end:
                    for each in listeners:
                        os.close(each)
                    return
                if fd == self._door.fileno():
                    listeners.append(self._welcome())
                    poll.register(listeners[-1], select.POLLIN)
                elif what & select.POLLIN:
                    self._decide(fd)
                else:
                    poll.unregister(fd)  # no process is left under its filter

    def _welcome(self) -> int:
        caller, _ = self._door.accept()
        with caller:
            message, ancillary, _, _ = caller.recvmsg(1 << 16, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        self.states.append(json.loads(message))
        ((_, _, data),) = ancillary
        return array.array("i", data)[0]

    def _decide(self, listener: int) -> None:
        notice = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, notice)
            cookie, _, _, number, *_ = _NOTICE.unpack(notice)
            self.asked.append(number)
            error = self._answer(number)
            answer = _ANSWER.pack(cookie, 0, 0, _CONTINUE) if error is None else _ANSWER.pack(cookie, 0, -error, 0)
            fcntl.ioctl(listener, _SEND, bytearray(answer))
        except FileNotFoundError:
            pass  # who asked was killed meanwhile
