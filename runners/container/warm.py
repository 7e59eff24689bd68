"""The warm helper: one small process that has everything ready and makes a container out of a copy of itself.

It is started once (``python -I -S -E -c ... tare-helper``), reads the configuration, plans the steps, does those that
children inherit, freezes its heap, and then serves requests on a SOCK_SEQPACKET socket:

``start``, with the pipes of one instance as ancillary data -> ``ok PID`` and the pidfd; or ``error TEXT``
``look PID`` -> ``runs`` or ``ended CODE STATUS`` as in waitid(2), without waiting
``reap PID`` -> ``ended STATUS`` as in waitpid(2): waits for that child, which the caller has killed

When its socket ends (whoever started it is gone), it kills its containers and exits; when it dies itself, they die with
it (prctl(2), PR_SET_PDEATHSIG). Requests and replies are single datagrams of texts separated by NUL.
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

from . import syscalls
from .bundle import parse
from .init import Program
from .kernel import Kernel
from .plan import plan
from .reader import BundleError
from .steps import JoinCgroup

#: Its argv holds this word, for a reader of ps, and the mark of its owner (:mod:`leftovers`).
MARKER = "tare-helper"
#: A request holds a few cgroup paths, each at most PATH_MAX.
LARGEST_REQUEST = 1 << 16


def main(arguments: Sequence[str]) -> int:
    """Serve until the socket ends. *arguments*: socket, parent's pid, owner's mark, base directory. Config on stdin."""
    socket_fd, parent, _owner, base = int(arguments[0]), int(arguments[1]), arguments[2], arguments[3]
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        return 1
    with socket.socket(fileno=socket_fd) as control:
        control.set_inheritable(False)
        try:
            program = _prepare(base)
        except (OSError, BundleError) as error:
            control.send(f"error\0{error}".encode())
            return 1
        # What was set up so far lives as long as the process: keep the collector from touching (so copying) its pages.
        gc.collect()
        gc.freeze()
        gc.disable()
        control.send(b"ready")
        _serve(control, program)
    return 0


def _prepare(base: str) -> Program:
    config = json.load(sys.stdin)
    with open("/dev/null", "rb") as null:
        os.dup2(null.fileno(), 0)
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last_capability = int(file.read())
    planned = plan(parse(config), base=base, last_capability=last_capability)
    # Python ignores these two, and exec hands "ignored" on; a container's program expects the default.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # Slave, not private: what the host unmounts later must not stay busy in here. No mount of ours goes out.
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)
    kernel = Kernel()
    for step in planned.inherited:
        step.apply(kernel)
    return Program(planned)


def _serve(control: socket.socket, program: Program) -> None:
    children: dict[int, int] = {}
    while True:
        message, fds = _receive(control)
        if not message:
            break
        verb, *words = message.decode().split("\0")
        if verb == "start":
            _start(control, program, words, fds, children)
        elif verb == "reap":
            pid = int(words[0])
            os.close(children.pop(pid))
            _, status = os.waitpid(pid, 0)
            control.send(f"ended\0{status}".encode())
        elif verb == "look":
            seen = os.waitid(os.P_PID, int(words[0]), os.WEXITED | os.WNOHANG | os.WNOWAIT)
            control.send(f"ended\0{seen.si_code}\0{seen.si_status}".encode() if seen else b"runs")
    for pidfd in children.values():
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
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
    control: socket.socket, program: Program, files: Sequence[str], fds: Sequence[int], children: dict[int, int]
) -> None:
    """Clone one container. *fds*: gate, console, status, and in v2 the cgroup's directory."""
    gate, console, status = fds[:3]
    first = JoinCgroup(tuple(files)) if files else None
    try:
        pid, pidfd = syscalls.clone3(program.clone_flags, signal.SIGCHLD, cgroup_fd=fds[3] if len(fds) > 3 else -1)
        if pid == 0:
            program.become(first, gate=gate, console=console, status=status)
        children[pid] = pidfd
        socket.send_fds(control, [f"ok\0{pid}".encode()], [pidfd])
    except OSError as error:
        control.send(f"error\0{error}".encode())
    finally:
        for fd in fds:
            os.close(fd)
