"""Tells a service manager when the container is ready: NOTIFY_SOCKET (sd_notify(3)).

The container cannot use the manager's own socket: a manager checks which process a message comes from, and the
container's processes do not belong to the service. So, as in runc, the container gets a socket of the runtime, in a
directory that is bound into it, and the runtime passes messages on. In the foreground, all that a service may say about
itself is passed on. A detached ``start`` (or ``run``) waits until the container is ready or has ended, and names its
first process as the main one.
"""

from __future__ import annotations

import os
import select

from ..config.mounts import Mount
from ..light.dataclasses import replace
from ..linux import mount_calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from ..config.bundle import Bundle
else:
    import _socket as socket  # the module itself imports selectors and enum: 5 ms

#: The directory in the state of a container, and the one inside it; the socket in both.
DIRECTORY, _INSIDE, _NAME = "notify", "/run/notify", "notify.sock"
_VARIABLE = "NOTIFY_SOCKET"
#: What a service says about itself (sd_notify(3)). Not MAINPID, whose number would be that in the container's pid
#: namespace, and not FDSTORE.
_PASSED = (b"READY=", b"STATUS=", b"STOPPING=", b"RELOADING=", b"ERRNO=", b"WATCHDOG=", b"EXTEND_TIMEOUT_USEC=")
_LARGEST = 1 << 16


def manager() -> str:
    """The socket of the service manager that started this process; empty if there is none, or it cannot be reached."""
    path = os.environ.get(_VARIABLE, "")
    return path if path[:1] in ("/", "@") else ""


def prepared(bundle: Bundle, directory: str) -> Bundle:
    """*bundle* with the directory of the socket, which is made here, and the variable that names it. Raises OSError."""
    os.mkdir(directory, 0o755)
    flags = mount_calls.MOUNT_ATTR_NOSUID | mount_calls.MOUNT_ATTR_NODEV | mount_calls.MOUNT_ATTR_NOEXEC
    mount = Mount(
        source=directory,
        target=_INSIDE,
        kind="",
        bind=True,
        attributes=(flags | mount_calls.MOUNT_ATTR_RDONLY, 0),
    )
    env = tuple(pair for pair in bundle.process.env if pair[0] != _VARIABLE)
    process = replace(bundle.process, env=(*env, (_VARIABLE, f"{_INSIDE}/{_NAME}")))
    return replace(bundle, mounts=(*bundle.mounts, mount), process=process)


class Relay:
    """The socket in the container's *directory*, from before its program runs. A context manager. Raises OSError."""

    def __init__(self, directory: str) -> None:
        path = f"{directory}/{_NAME}"
        self._host = manager()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            # By the directory's descriptor: an address holds 107 bytes (unix(7)).
            at = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if os.path.exists(path):
                    os.unlink(path)  # left by a start that was interrupted
                self._socket.bind(f"/proc/self/fd/{at}/{_NAME}")
            finally:
                os.close(at)
            os.chmod(path, 0o777)  # whatever user the program is
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._socket.fileno()

    def move(self) -> bool:
        """Pass one message on; whether it said that the container is ready."""
        lines = self._lines()
        if lines:
            self._say(b"\n".join(lines))
        return _ready(lines)

    def await_ready(self, pid: int, pidfd: int) -> None:
        """Wait until process *pid*, or one that it started, is ready, and tell the manager; or until *pid* ends."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        while True:
            # The manager limits this time itself (systemd: TimeoutStartSec).
            events = dict(poll.poll())
            if self.fileno() in events:
                lines = self._lines()
                if _ready(lines):
                    self._say(b"\n".join((*lines, f"MAINPID={pid}".encode())))
                    return
            elif pidfd in events:
                return

    def _lines(self) -> list[bytes]:
        try:
            said = self._socket.recv(_LARGEST)
        except BlockingIOError:
            return []
        return [line for line in said.split(b"\n") if line.startswith(_PASSED)]

    def _say(self, text: bytes) -> None:
        address = self._host if self._host[0] == "/" else f"\0{self._host[1:]}"
        end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            end.sendto(text, address)
        finally:
            end.close()


def _ready(lines: list[bytes]) -> bool:
    return any(line.startswith(b"READY=") for line in lines)
