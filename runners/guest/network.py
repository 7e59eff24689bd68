"""The network of one guest: a tap device in a network namespace of its own, in which QEMU is, too.

QEMU's user network would not do: it accepts a forwarded connection before the guest does. The thread that has libvirt
start the domain makes a namespace and the tap in it, so the tap, and the QEMU that is forked, are there. The namespace
has no name, and ends with its last process, so there is nothing to remove and nothing to leave: a QEMU that outlives
its run is found by its own name. The host's network is not touched.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tare.runners.base import PREFIX, RunnerError
from tare.runners.container.linux.syscalls import CLONE_NEWNET, unshare
from tare.runners.container.network.netlink import Netlink

T = TypeVar("T")

TAP = f"{PREFIX}tap"
#: A network of two addresses: this end and the guest's. Each guest is alone in its namespace, so all have the same.
HOST, GUEST, BITS = "10.0.0.1", "10.0.0.2", 30
REACHED = "a tap device in a network namespace of its own"

_TUN = "/dev/net/tun"
#: linux/if_tun.h
_TUNSETIFF, _TUNSETPERSIST = 0x400454CA, 0x400454CB
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x2, 0x1000, 0x4000


def with_tap(call: Callable[[], T]) -> T:
    """Call *call* in a thread whose network namespace is new and has :data:`TAP`. Raises RunnerError."""

    def run() -> T:
        try:
            unshare(CLONE_NEWNET)
            _make_tap()
        except OSError as error:
            raise RunnerError("a guest cannot be given a network", str(error), _fix()) from error
        return call()

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(run).result()


def trouble() -> str:
    """Why a guest cannot be given a network here, found out by trying; empty if it can."""
    try:
        with_tap(lambda: None)
    except RunnerError as error:
        return error.why
    return ""


def _fix() -> str:
    return "run as root: sudo tare ..." if os.geteuid() else "load the module tun: modprobe tun"


def opened() -> int:
    """A descriptor of the guest's end of :data:`TAP` in this thread's namespace, made if need be. Raises OSError."""
    device = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", TAP.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
    except OSError:
        os.close(device)
        raise
    return device


def _make_tap() -> None:
    """In this thread's namespace, with the host's address, up."""
    device = opened()
    try:
        fcntl.ioctl(device, _TUNSETPERSIST, 1)  # until the namespace ends: QEMU gets it by its name
    finally:
        os.close(device)
    with Netlink() as links:
        index = links.index(TAP)
        links.add_address(index, HOST, BITS)
        links.up(index)
