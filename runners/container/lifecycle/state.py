"""The containers that are known here: one directory each below ``--root``, kept after the runtime has ended.

``state.json`` is replaced by rename, so a reader sees the old one or the new one. A process that changes a container
holds its lock. The lock belongs to that process alone (fcntl(2), F_SETLK), so no copy of it, such as the container's
first process, keeps it. A process is identified by its number and its time of start, so that another process with the
same number never gets a signal.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time

from ..errors import OciError, reason
from ..light import json
from ..light.dataclasses import fields, record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STATE, CONFIG, FIFO, _LOCK = "state.json", "config.json", "exec.fifo", "lock"
_KINDS = {"annotations": dict, "owner_uid": int, "pid": int, "pid_start": int}  # all other fields are texts
#: How long a process waits for another that changes the same container: longer than hooks usually take.
_LOCK_S = 60
#: As runc's names.
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


@record(kw_only=True)
class State:
    """What is stored. *pid* is 0 until the first process exists; *pid_start* in clock ticks since boot (proc(5)).

    *lease* is the name under which it is connected to the bridge (:mod:`bridge`); empty if it is not. *shared_root*
    tells :func:`shared_mounts.detach` what is mounted in the caller's mount namespace; mostly empty.
    """

    name: str
    oci_version: str
    bundle: str
    rootfs: str
    cgroup: str
    annotations: dict[str, str]
    created: str
    owner_uid: int
    pid: int = 0
    pid_start: int = 0
    lease: str = ""
    shared_root: str = ""

    def report(self, status: str) -> dict[str, object]:
        """The state as the OCI specification defines it (runtime.md); hooks get it, too."""
        said: dict[str, object] = {"ociVersion": self.oci_version, "id": self.name, "status": status}
        if self.pid and status != "stopped":
            said["pid"] = self.pid
        return said | {"bundle": self.bundle, "annotations": self.annotations}


class Store:
    """The containers below *root*."""

    def __init__(self, root: str) -> None:
        self.root = root

    def directory(self, name: str) -> str:
        """The directory of the container *name*. Raises OciError for a text that cannot be a name."""
        if not _LETTERS.issuperset(name) or name in ("", ".", ".."):
            raise OciError(f"container {name!r}", "cannot be a name", "use letters, digits and _ + - .")
        return f"{self.root}/{name}"

    def file(self, name: str, which: str) -> str:
        """The path of one of the files of the container *name*."""
        return f"{self.directory(name)}/{which}"

    def add(self, name: str) -> int:
        """Make the directory of a new container, and return its lock. Raises OciError if the container exists."""
        directory = self.directory(name)
        try:
            try:
                os.mkdir(directory, 0o711)
            except FileNotFoundError:
                # Nobody else may pass: the directory of each container is open, for the fifo in it (setup/parent.py).
                os.makedirs(self.root, 0o700, exist_ok=True)
                os.mkdir(directory, 0o711)
        except FileExistsError:
            fix = f"choose another name, or: tare-oci --root {self.root} delete {name}"
            raise OciError(f"container {name}", "a container with this name exists already", fix) from None
        except OSError as error:
            raise OciError("cannot keep the container's state", reason(error), "choose a directory by --root") from None
        return self._open_lock(directory)

    def lock(self, name: str) -> int:
        """Wait for the lock of the container *name* and return it. Raises OciError if there is no such container."""
        directory = self.directory(name)
        try:
            # A creation that was killed at its start may have left no file to lock.
            lock = self._open_lock(directory)
        except FileNotFoundError:
            raise _unknown(name, self.root) from None
        if not os.fstat(lock).st_nlink:  # it was removed while we waited
            os.close(lock)
            raise _unknown(name, self.root)
        return lock

    @staticmethod
    def _open_lock(directory: str) -> int:
        lock = os.open(f"{directory}/{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _LOCK_S
        while True:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.01)  # fcntl(2) has no wait with a limit of time
                    continue
                name, why = os.path.basename(directory), f"process {_holder(lock)} has been changing it for {_LOCK_S} s"
                os.close(lock)
                raise OciError(f"container {name} is locked", why, "wait for that process, or end it") from None
            return lock

    def write(self, state: State) -> None:
        """Store *state*."""
        text = json.dumps({name: getattr(state, name) for name in fields(state)})
        place_file(self.file(state.name, STATE), text)

    def read(self, name: str) -> State:
        """The state of the container *name*. Raises OciError."""
        path = self.file(name, STATE)
        try:
            return _judged(json.loads(read_bytes(path), ours=True))
        except FileNotFoundError:
            if os.path.isdir(self.directory(name)):
                why = f"it is being created, or its creation was killed; to remove it: delete --force {name}"
                raise OciError(f"container {name}", why) from None
            raise _unknown(name, self.root) from None
        except OSError as error:
            raise OciError(f"cannot read the state of {name}", reason(error)) from None
        except (ValueError, TypeError) as error:
            raise OciError(f"cannot read {path}", str(error), f"remove it: delete --force {name}") from None

    def update(self, state: State, **changes: object) -> State:
        """Store *state* with *changes*, and return it."""
        new = replace(state, **changes)
        self.write(new)
        return new

    def remove(self, name: str) -> None:
        """Remove the directory of container *name*; what is missing is no error. The lock's file is removed last."""
        directory = self.directory(name)
        while True:
            try:
                for each in sorted(os.listdir(directory), key=_LOCK.__eq__):
                    _remove(f"{directory}/{each}")
                os.rmdir(directory)
            except FileNotFoundError:
                if not os.path.exists(directory):
                    return
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:  # a process that wants the lock makes the file anew
                    raise
            else:
                return

    def names(self) -> Iterator[str]:
        """All containers, sorted."""
        try:
            found = sorted(os.listdir(self.root))
        except FileNotFoundError:
            return
        yield from (name for name in found if os.path.exists(f"{self.root}/{name}/{STATE}"))

    def status(self, state: State, frozen: Callable[[State], bool] = lambda _: False) -> str:
        """creating, created, running, paused or stopped. *frozen* says whether the cgroup is."""
        if not state.pid:
            return "creating"
        if start_time(state.pid) != state.pid_start:
            return "stopped"
        if frozen(state):
            return "paused"
        return "created" if os.path.exists(self.file(state.name, FIFO)) else "running"


def _judged(value: object) -> State:
    """The state in a decoded file, without keys of newer versions. Raises ValueError and TypeError."""
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    made = State(**{name: value[name] for name in fields(State) if name in value})
    for name in fields(made):
        kind = _KINDS.get(name, str)
        if not isinstance(getattr(made, name), kind) or isinstance(getattr(made, name), bool):
            raise ValueError(f"{name} is not of type {kind.__name__}")
    return made


def _holder(lock: int) -> int:
    """The process that holds the lock of a file: fcntl(2), F_GETLK, on struct flock."""
    asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    holder: int = struct.unpack("hhqqi4x", fcntl.fcntl(lock, fcntl.F_GETLK, asked))[4]
    return holder


def _remove(path: str) -> None:
    """A file, or a directory with files in it."""
    try:
        os.unlink(path)
    except IsADirectoryError:
        for each in os.listdir(path):
            os.unlink(f"{path}/{each}")
        os.rmdir(path)


def _unknown(name: str, root: str) -> OciError:
    # podman and containerd look for "does not exist".
    return OciError(f"container {name} does not exist", "", f"to see all: tare-oci --root {root} list")


def default_root() -> str:
    """The default of ``--root``: below /run, or in the user's own directory there (XDG base directories)."""
    if os.geteuid() == 0:
        if "XDG_RUNTIME_DIR" not in os.environ:
            return "/run/tare-oci"
        from ..linux import capabilities

        if not capabilities.confined():
            return "/run/tare-oci"
    return f"{os.environ.get('XDG_RUNTIME_DIR') or f'/run/user/{os.geteuid()}'}/tare-oci"


def read_bytes(path: str, flags: int = 0) -> bytes:
    """All of a file. With O_NONBLOCK in *flags*, a pipe without a writer is empty: this does not wait for one."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def place_file(path: str, text: str, mode: int = 0o600) -> None:
    """Write a file so that readers see all of it or nothing."""
    directory, _, last = path.rpartition("/")
    temporary = f"{directory or '.'}/.{last}.{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            data = text.encode("utf-8", "surrogateescape")
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError as error:
        try:
            os.unlink(temporary)
        except OSError:
            pass  # it was not made
        raise OSError(error.errno, error.strerror, path) from None


def start_time(pid: int) -> int | None:
    """When process *pid* started, in clock ticks since boot; None if there is none, or only a zombie."""
    try:
        fields = read_bytes(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def open_process(state: State) -> int | None:
    """A pidfd of the container's first process, or None if it has ended."""
    if not state.pid:
        return None
    try:
        pidfd = os.pidfd_open(state.pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # the number is a thread of another process now
            return None
        raise
    # The descriptor holds the process, so its number cannot be reused from now on: compare only now.
    if start_time(state.pid) != state.pid_start:
        os.close(pidfd)
        return None
    return pidfd
