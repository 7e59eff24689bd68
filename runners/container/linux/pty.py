"""Pseudo-terminals: made in a container, sent over the console socket, and shown on the caller's own terminal.

The container's side opens ``/dev/ptmx`` of its own devpts, so that ``ttyname`` in the container finds the device, and
sends the master to the program that asked for a terminal (conmon, containerd's shim, or our own foreground) as
SCM_RIGHTS (unix(7)).
"""

from __future__ import annotations

import errno
import os
import select
import stat
import struct

from ..errors import OciError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
else:
    import _socket as socket  # the module itself imports selectors and enum: 5 ms

#: asm-generic/ioctls.h (x86, arm, riscv, s390).
_TIOCSCTTY, _TIOCGWINSZ, _TIOCSWINSZ = 0x540E, 0x5413, 0x5414
_TIOCSPTLCK, _TIOCGPTN, _TIOCGPTPEER = 0x40045431, 0x80045430, 0x5441
#: asm-generic/termbits.h: struct termios has its flags for output behind those for input, and is 36 bytes long.
_TCGETS, _TCSETS, _TERMIOS = 0x5401, 0x5402, 36
_ONLCR = 0x4
#: sockaddr_un holds 108 bytes with the final NUL (unix(7)).
_LONGEST = 107
#: Documentation/admin-guide/devices.txt: /dev/ptmx.
_PTMX = (5, 2)
#: What a socket or a pipe accepts without a wait when poll(2) reports it writable (pipe(7), PIPE_BUF).
_AT_ONCE = 4096


def connect(path: str) -> int:
    """A descriptor connected to the socket at *path*, for a terminal's master. Raises OciError."""
    try:
        return open_socket(path)
    except OSError as error:
        why = f"{path}: {error.strerror}"
        raise OciError("cannot connect to the console socket", why, "listen on it first") from None


def open_socket(path: str) -> int:
    """A descriptor connected to the socket at *path*, which may be longer than an address holds. Raises OSError."""
    directory = -1
    try:
        address = path
        if len(os.fsencode(path)) > _LONGEST:
            directory = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
            address = f"/proc/self/fd/{directory}/{os.path.basename(path)}"
        carrier = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            carrier.connect(address)
        except OSError:
            carrier.close()
            raise
        return carrier.detach()
    finally:
        if directory >= 0:
            os.close(directory)


def pair() -> tuple[int, int]:
    """Two connected descriptors: one for :func:`make`, one for :func:`receive`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    return ours.detach(), theirs.detach()


def send(carrier: int, master: int, name: str) -> None:
    """Send the descriptor *master* with its *name* over the socket *carrier*."""
    end = socket.socket(fileno=carrier)
    try:
        end.sendmsg([name.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", master))])
    finally:
        end.detach()


def receive(carrier: int) -> int:
    """The descriptor that :func:`send` sent, close-on-exec. Raises OciError if none came."""
    end = socket.socket(fileno=carrier)
    try:
        _, ancillary, _, _ = end.recvmsg(4096, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    finally:
        end.detach()
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(data) >= 4:
            return int(struct.unpack("i", data[:4])[0])
    raise OciError("the container sent no terminal", "", "see what its set-up said")


def make(carrier: int, *, size: tuple[int, int] | None = None, uid: int = 0, plain: bool = False) -> int:
    """Make a terminal in the container's devpts, send its master over *carrier*, and make it the caller's own.

    The caller leads a session without a terminal (setsid(2)), and its root is the container's. *size* is (rows,
    columns); *uid* becomes the owner. Streams 0, 1 and 2 are the terminal afterwards. With *plain* it does not change
    line ends, since its output goes to another terminal, or to a pipe. Returns the slave, open, so that it can be
    mounted on ``/dev/console``. Raises OSError.
    """
    import fcntl

    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        found = os.fstat(master)
        # If /dev comes from the image, /dev/ptmx may be anything: only a real master may be sent to the host.
        if not stat.S_ISCHR(found.st_mode) or (os.major(found.st_rdev), os.minor(found.st_rdev)) != _PTMX:
            raise OSError(errno.ENOTTY, "is not the pseudo-terminal multiplexer", "/dev/ptmx")
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        (number,) = struct.unpack("I", fcntl.ioctl(master, _TIOCGPTN, struct.pack("I", 0)))
        # By the master and not by a path: /dev/pts/N could be another terminal.
        slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        if size is not None and any(size):
            fcntl.ioctl(slave, _TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        if plain:
            now = fcntl.ioctl(slave, _TCGETS, bytes(_TERMIOS))
            (output,) = struct.unpack_from("I", now, 4)
            fcntl.ioctl(slave, _TCSETS, now[:4] + struct.pack("I", output & ~_ONLCR) + now[8:])
        if uid:
            os.fchown(slave, uid, -1)
        send(carrier, master, f"/dev/pts/{number}")
    finally:
        os.close(master)
    fcntl.ioctl(slave, _TIOCSCTTY, 0)
    for stream in (0, 1, 2):
        os.dup2(slave, stream)
    return int(slave)


class Proxy:
    """The caller's terminal (or pipes) in front of a container's: raw mode, bytes both ways, and its size.

    No write waits: if one side reads nothing, the other direction and signals go on. What cannot be written yet is
    kept, and no more is read meanwhile.
    """

    def __init__(self, master: int) -> None:
        self.master = master
        self.out = _apart(1)
        self._before: list[object] | None = None
        self._input = True
        self._typed = self._said = b""
        self._heard = True
        os.set_blocking(master, False)

    def __enter__(self) -> Proxy:
        if os.isatty(0):
            import termios
            import tty

            self._before = termios.tcgetattr(0)
            # at once, without waiting until former output is read: perhaps nobody reads it
            tty.setraw(0, termios.TCSANOW)
            # this terminal changes line ends, not the container's: see make()
            raw = termios.tcgetattr(0)
            raw[1] = self._before[1]
            termios.tcsetattr(0, termios.TCSANOW, raw)
        self.resize()
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            import termios

            try:
                termios.tcsetattr(0, termios.TCSANOW, self._before)  # type: ignore[arg-type]
            except termios.error:
                pass  # it has hung up
        os.close(self.master)
        os.close(self.out)

    def resize(self) -> None:
        """Give the container's terminal the size of the caller's."""
        import fcntl

        try:
            if os.isatty(0):
                fcntl.ioctl(self.master, _TIOCSWINSZ, fcntl.ioctl(0, _TIOCGWINSZ, bytes(8)))
        except OSError:
            pass  # it has hung up

    def sources(self) -> dict[int, int]:
        """The descriptors to wait for, each with its events (poll(2))."""
        wanted = {self.master: (0 if self._said else select.POLLIN) | (select.POLLOUT if self._typed else 0)}
        if not wanted[self.master]:
            del wanted[self.master]  # poll would report its end again and again
        if self._said:
            wanted[self.out] = select.POLLOUT
        if self._input and not self._typed:
            wanted[0] = select.POLLIN
        return wanted

    def move(self, ready: int) -> bool:
        """Read from the descriptor *ready*, or write to it; False when the container's side has hung up."""
        if ready == self.out:
            self._show()
            return True
        if ready == 0:
            self._read()
        self._feed()
        return True if ready == 0 or self._said else self._listen()

    def _read(self) -> None:
        try:
            self._typed = os.read(0, 4096)
        except BlockingIOError:
            return
        except OSError:
            pass
        if not self._typed:
            self._input = False
            self._typed = b"\x04"  # the end of input, as a terminal sends it (VEOF)

    def _feed(self) -> None:
        try:
            self._typed = self._typed[os.write(self.master, self._typed) :] if self._typed else b""
        except BlockingIOError:
            pass
        except OSError:
            self._typed = b""  # it has hung up: the next read reports that

    def _listen(self) -> bool:
        try:
            data = os.read(self.master, _AT_ONCE)
        except BlockingIOError:
            return True
        except OSError:  # EIO: no process has the slave open any more
            return False
        self._said = data if self._heard else b""
        return bool(data)

    def _show(self) -> None:
        try:
            self._said = self._said[os.write(self.out, self._said) :]
        except BlockingIOError:
            pass
        except OSError:
            # Nobody reads the output any more. The program goes on, as with a terminal that nobody looks at.
            self._heard, self._said = False, b""


def _apart(fd: int) -> int:
    """A descriptor for what *fd* writes to; opened anew if a write could wait, so that O_NONBLOCK is set only here."""
    try:
        kind = os.fstat(fd).st_mode
        if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        pass  # another user's terminal
    try:
        return os.dup(fd)
    except OSError:  # closed
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def own_size() -> tuple[int, int] | None:
    """(rows, columns) of the caller's terminal, or None if standard input is none."""
    if not os.isatty(0):
        return None
    return os.get_terminal_size(0)[::-1]
