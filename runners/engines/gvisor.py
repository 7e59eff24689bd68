"""Runner "gvisor": ``runsc``, an OCI runtime whose containers make their system calls to a kernel in user space.

    runsc --root STATE --platform=ptrace --network=host run --bundle BUNDLE --pid-file PIDS/NAME NAME

That kernel (the Sentry) and a server of files (the Gofer) are processes of the host, and ``runsc`` stays in the
foreground as their monitor. How the Sentry gets at the workload's system calls is its *platform*: ptrace, systrap (from
2023 on), or kvm. Where KVM does not carry it, runsc hangs and says nothing: a platform is proved by a start with a
deadline. Memory and processors are limited by the cgroup, which runsc makes.

Its network: runsc has a TCP/IP stack of its own, which nobody outside can enter, so its loopback cannot be reached.
With ``network = "host"`` it uses the kernel's stack of its network namespace instead, which is no other than the one
that each instance gets here, made just before as podman makes it: a port is then where that of a container is.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import cast

from tare.runners.base import Layers, Option, Options, RunnerError
from tare.runners.container.cgroup import cgroups
from tare.runners.engines.common import adoption, grouped
from tare.runners.launch import frame, monitored
from tare.runners.launch.oci_runtime import Oci

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1  # linux/sockios.h, linux/if.h
_IFREQ = struct.Struct("16sH22x")  # the name and the flags of a struct ifreq
_LIBC = ctypes.CDLL(None, use_errno=True)

#: What it makes of our configuration: of system calls it filters its own, not the workload's.
WALLS = (
    "own kernel in user space",
    *frame.NAMESPACES,
    "private root (overlay)",
    "14 capabilities",
    "no new privileges",
)


_NETNS = "@NETNS@"
_UNSWAPPABLE = "its memory is a file of the Sentry's in memory, of which the kernel can free nothing without swap"


class _Sandbox(monitored.Monitored):
    """A started sandbox. When ``runsc`` ends it leaves the Sentry and the Gofer to whoever reaps orphans."""

    def reclaim(self, size_bytes: int) -> None:
        """See :class:`runners.base.Instance`."""
        raise RunnerError(f"{self.name} cannot be asked for {size_bytes} bytes", _UNSWAPPABLE)

    def stop(self) -> None:
        """Kill the Sentry, and reap all: until this process has, they are not gone."""
        theirs = self.pids() - {self.monitor.pid}
        with adoption.adopting():
            super().stop()
            if self.group is not None:
                grouped.empty(self.group)
        adoption.reap(theirs)


class Gvisor(Oci):
    """``runsc`` as a :class:`runners.base.Runner`."""

    LAYERS: Layers = ("sandbox",)
    OPTIONS: Mapping[str, Option] = {
        "binary": Option("path of the program; default: runsc on PATH", file=True),
        "platform": Option(
            "how system calls are intercepted; default: what this runsc takes of itself", ("ptrace", "systrap", "kvm")
        ),
        "network": Option(
            "host (default): the stack of a network namespace of its own; sandbox: runsc's own; none: loopback alone",
            ("host", "sandbox", "none"),
        ),
    }
    WALLS = WALLS
    START_MS = 20_000
    INSTANCE = _Sandbox
    RECLAIMS = False
    PROGRAM = "runsc"

    def flags(self, options: Options) -> tuple[str, ...]:
        """See :class:`runners.launch.oci_runtime.Oci`."""
        platform = options.get("platform")
        # Without a log it keeps the reasons of a failure to itself.
        words = ("--log=/dev/stderr", "--log-format=text", f"--network={_network(options)}")
        return (*words, *((f"--platform={platform}",) if platform else ()))

    def configure(self, config: dict[str, object], options: Options) -> None:
        """See :class:`runners.launch.oci_runtime.Oci`: runsc knows no mqueue; the network namespace is made before."""
        mounts = cast("list[dict[str, object]]", config["mounts"])
        config["mounts"] = [mount for mount in mounts if mount["type"] != "mqueue"]
        linux = cast("dict[str, object]", config["linux"])
        spaces = cast("list[dict[str, object]]", linux["namespaces"])
        for space in spaces:
            if space["type"] == "network" and _network(options) != "none":
                space["path"] = _NETNS

    def reached(self, options: Options) -> str:
        """See :class:`runners.launch.oci_runtime.Oci`."""
        return frame.LOOPBACK if _network(options) == "host" else ""

    def before(self, group: cgroups.Cgroup | None, stack: ExitStack) -> Mapping[str, str]:
        """See :class:`runners.launch.oci_runtime.Oci`: a network namespace, with its loopback up."""
        if group is not None:
            stack.callback(grouped.empty, group)  # a Sentry that hangs outlives a monitor that was killed
        try:
            descriptor = _namespace()
        except OSError as error:
            raise RunnerError("cannot make a network namespace", str(error), frame.need_root()) from error
        stack.callback(os.close, descriptor)
        return {_NETNS: f"/proc/{os.getpid()}/fd/{descriptor}"}


def _network(options: Options) -> str:
    return str(options.get("network", "host"))


def _namespace() -> int:
    """A descriptor of a new network namespace, whose loopback device is up. Raises OSError.

    A thread makes it, since unshare(2) moves the caller alone.
    """
    found: list[int] = []
    failed: list[OSError] = []

    def make() -> None:
        try:
            if _LIBC.unshare(_CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), "unshare(CLONE_NEWNET)")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
                request = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0))
                flags = _IFREQ.unpack(request)[1]
                fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags | _IFF_UP))
            found.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=make, name="namespace")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


RUNNER = Gvisor("gvisor", typical_s=0.5)
