"""The fork server: one small process that has everything ready and makes containers out of children of its own.

It is started once (``python -I -S -E -c ... tare-fork-server``), reads the configuration, works out the steps and does
those that children inherit. Then it forks, so that there is one fork server for each socket (each sets up one child at
a time), and serves requests on its SOCK_SEQPACKET socket:

``start HOW CGROUP...``, with the pipes of one instance as ancillary data -> ``ok PID`` and the pidfd; or
``error ERRNO TEXT``. HOW is :data:`ALONE`, or :data:`BESIDE` if other fork servers are at work
``look PID`` -> ``runs`` or ``ended CODE STATUS`` as in waitid(2), without waiting
``reap PID`` -> ``ended STATUS`` as in waitpid(2): waits for that child, which the caller has killed

Of its children it keeps only the process numbers, since thousands may be alive. Until it reaps a child, no other
process gets that number. When its socket closes, because the process that started it has ended, it kills its containers
and exits. When it is killed, they die with it (prctl(2), PR_SET_PDEATHSIG). Requests and replies are single datagrams
of texts separated by NUL.
"""

from __future__ import annotations

import array
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence

from ..config.bundle import parse
from ..linux import capabilities, mount_calls, syscalls
from ..reader import BundleError
from ..setup import child
from ..setup.kernel import Kernel
from ..setup.steps.basic import JoinCgroup, Step
from . import overlay_sequence
from .program import Program
from .root_layer import LAYER, HostHandles, Layer, StandAlone, can_stand_alone, hold
from .vfork import VforkChild, why_not

#: Its argv holds this word, for a reader of ps, and the mark of its owner (:mod:`leftovers`).
MARKER = "tare-fork-server"
#: A request holds a few cgroup paths, each at most PATH_MAX.
LARGEST_REQUEST = 1 << 16
ALONE, BESIDE = "alone", "beside"


class Place:
    """Where a fork server runs: wherever the scheduler puts it, or on one processor, where others are at work.

    A new process is put on the processor that idles most (SD_BALANCE_FORK, sched-domains.rst), and so is, often, one
    that is woken. A fork server that is alone gains by that: another processor is idle. Several of them and their
    children would only change places, each time to a processor whose caches hold nothing of theirs.
    docs/explanation/runtime.md has what that costs.
    """

    def __init__(self, number: int) -> None:
        self._anywhere = frozenset(os.sched_getaffinity(0))
        self._mine = frozenset({sorted(self._anywhere)[number % len(self._anywhere)]})
        self._keeps = False

    def choose(self, how: str) -> None:
        """Before a start, :data:`ALONE` or :data:`BESIDE` others."""
        keeps = how == BESIDE
        if keeps != self._keeps:
            os.sched_setaffinity(0, self._mine if keeps else self._anywhere)
            self._keeps = keeps


class Starter:
    """Makes children that run a program's set-up: in this process's memory (vfork) where that works, else in a copy."""

    def __init__(self, program: Program, root: int | None) -> None:
        """*root* is a descriptor of the host's root directory, if this process's is another."""
        self.root = root
        self._program = program
        self._files: tuple[Step | None, int, int, int] = (None, -1, -1, -1)
        self._vfork: VforkChild | None = None
        if not why_not(program.clone_flags):
            self._vfork = VforkChild(
                setup=self._set_up, failed=self._failed, program=program.stub, argv=program.argv, env=program.env
            )

    def start(
        self, first: Step | None, *, gate: int, console: int, status: int, cgroup_fd: int = -1
    ) -> tuple[int, int]:
        """Make one: (pid, pidfd). *cgroup_fd* is the v2 cgroup that it is born into, if any. Raises OSError.

        A child in this process's memory has called exec, or has ended, when this returns; one in a copy goes on by
        itself. With *cgroup_fd* it is always a copy: only clone3 starts a process in a cgroup (CLONE_INTO_CGROUP), and
        clone3 cannot be called from C with another stack.
        """
        program = self._program
        if self._vfork is not None and cgroup_fd < 0:
            self._files = (first, gate, console, status)
            return self._vfork.start(program.clone_flags)
        pid, pidfd = syscalls.clone3(program.clone_flags, signal.SIGCHLD, cgroup_fd=cgroup_fd)
        if pid == 0:
            program.become(first, gate=gate, console=console, status=status)
        return pid, pidfd

    def _set_up(self) -> bool:
        first, gate, console, status = self._files
        try:
            return self._program.set_up(first, gate=gate, console=console, status=status)
        except OSError as error:
            os.write(status, f"cannot start {self._program.path}: {error}\n".encode())
            return False

    def _failed(self, number: int) -> None:
        error = OSError(number, os.strerror(number))
        os.write(self._files[3], f"cannot execute {self._program.path}: {error}\n".encode())


def main(arguments: Sequence[str]) -> int:
    """Serve until the sockets end. *arguments*: sockets, parent, owner's mark, base directory. On stdin: config."""
    first, *others = map(int, arguments[0].split(","))
    parent, _owner, base = int(arguments[1]), arguments[2], arguments[3]
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the line above
        return 1
    with socket.socket(fileno=first) as control:
        control.set_inheritable(False)
        try:
            starter = _prepare(base)
        except (OSError, BundleError) as error:
            _refuse(control, error)
            return 1
        # What was set up so far lives as long as the process. The garbage collector must not touch its pages: a child
        # would copy each of them.
        gc.collect()
        gc.freeze()
        gc.disable()
        forked = [_fork(number, others, control, starter) for number in range(len(others))]
        for each in others:
            os.close(each)
        control.send(f"ready\0{os.getpid()}".encode())
        _serve(control, starter, Place(0))
        for pid in forked:
            os.waitpid(pid, 0)  # their sockets end with the same owner
    return 0


def _fork(number: int, all_of_them: Sequence[int], first: socket.socket, starter: Starter) -> int:
    """Fork another fork server, for the socket *number* of *all_of_them*; its pid."""
    mine = all_of_them[number]
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            first.close()
            for each in all_of_them:
                if each != mine:
                    os.close(each)
            with socket.socket(fileno=mine) as control:
                control.set_inheritable(False)
                control.send(f"ready\0{os.getpid()}".encode())
                _serve(control, starter, Place(number + 1))
    finally:
        os._exit(0)


def _prepare(base: str) -> Starter:
    config = json.load(sys.stdin)
    with open("/dev/null", "rb") as null:
        os.dup2(null.fileno(), 0)
    bundle = parse(config, directory="/")
    held = _held(bundle.rootfs, base)
    planned = overlay_sequence.make(
        bundle,
        base=base,
        last_capability=capabilities.last_capability(),
        processors=frozenset(os.sched_getaffinity(0)),
        held=held,
    )
    # Python ignores two signals; nohup and a shell's background jobs ignore others. A program inherits what is ignored.
    child.reset_signals(child.changed_signals())
    _own_mounts()
    kernel = Kernel()
    for step in planned.inherited:
        step.apply(kernel)
    return Starter(Program(planned), None if held is None else held.root)


def _own_mounts() -> None:
    # Slave, not private: a file system that the host unmounts later must not stay mounted here. No mount made here
    # appears on the host.
    syscalls.unshare(syscalls.CLONE_NEWNS)
    mount_calls.mount("none", "/", "", mount_calls.MS_REC | mount_calls.MS_SLAVE)


def _held(image: str, base: str) -> HostHandles | None:
    """What is kept of the host where none of its mounts is; None where that is impossible, which a child tries out."""
    if not can_stand_alone():
        return None  # to try it would write a warning to the kernel's log
    try:
        held = hold(image)
    except OSError:
        return None  # if the image is missing, the layer's error names the path
    pid = os.fork()
    if not pid:
        try:
            _own_mounts()
            for step in (StandAlone(base, held), Layer(image, LAYER, here=True)):
                step.apply(Kernel())
            os._exit(0)
        finally:
            os._exit(1)
    if not os.waitpid(pid, 0)[1]:
        return held
    os.close(held.root)
    os.close(held.lower)
    return None


def _serve(control: socket.socket, starter: Starter, place: Place) -> None:
    children: set[int] = set()
    while True:
        message, fds = _receive(control)
        if not message:
            break
        verb, *words = message.decode().split("\0")
        if verb == "start":
            _start(control, starter, place, words, fds, children)
        elif verb == "reap":
            place.choose(ALONE)  # the starts are over, and the kernel does most of a removal
            pid = int(words[0])
            _, status = os.waitpid(pid, 0)
            children.discard(pid)
            control.send(f"ended\0{status}".encode())
        elif verb == "look":
            seen = os.waitid(os.P_PID, int(words[0]), os.WEXITED | os.WNOHANG | os.WNOWAIT)
            control.send(f"ended\0{seen.si_code}\0{seen.si_status}".encode() if seen else b"runs")
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    for pid in children:
        os.waitpid(pid, 0)


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    fds = array.array("i")
    message, ancillary, _, _ = control.recvmsg(
        LARGEST_REQUEST, socket.CMSG_SPACE(8 * fds.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for _, _, data in ancillary:
        fds.frombytes(data)
    return message, list(fds)


def _start(
    control: socket.socket, starter: Starter, place: Place, words: Sequence[str], fds: list[int], children: set[int]
) -> None:
    """Clone one container. *fds*: gate, console, status, and in v2 the cgroup's directory."""
    how, *files = words
    gate, console, status = fds[:3]
    first = JoinCgroup(tuple(files), starter.root) if files else None
    try:
        place.choose(how)
        pid, pidfd = starter.start(
            first, gate=gate, console=console, status=status, cgroup_fd=fds[3] if len(fds) > 3 else -1
        )
        children.add(pid)
        fds.append(pidfd)
        socket.send_fds(control, [f"ok\0{pid}".encode()], [pidfd])
    except OSError as error:
        _refuse(control, error)
    finally:
        for fd in fds:
            os.close(fd)


def _refuse(control: socket.socket, error: OSError | BundleError) -> None:
    number = error.errno if isinstance(error, OSError) else None
    control.send(f"error\0{number or 0}\0{error}".encode())
