"""Route netlink: the few messages that a container's network is made of, each acknowledged by the kernel.

Only what :mod:`bridge` needs, and only IPv4. A socket always belongs to the network namespace in which it was made, so
one can be opened in a container's namespace (:func:`in_namespace`) and used from here.

Sources: netlink(7), rtnetlink(7), linux/if_link.h, linux/veth.h, linux/rtnetlink.h.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

from ..linux import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_NEWROUTE = 16, 17, 18, 20, 24
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x200, 0x400
_ERROR = 2
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 10, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _RTA_GATEWAY = 1, 2, 5
_UP = 1
_TABLE_MAIN, _PROTOCOL_BOOT, _SCOPE_UNIVERSE, _UNICAST = 254, 3, 0, 1
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")


def _attribute(kind: int, value: bytes) -> bytes:
    """A struct rtattr: length, kind, value, padded to four bytes."""
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def _number(value: int) -> bytes:
    return struct.pack("=I", value)


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


def packed(address: str) -> bytes:
    """The four bytes of an IPv4 address. Raises OSError."""
    return _socket.inet_aton(address)


class Netlink:
    """A socket of the namespace in which it is made. Every method raises OSError that names the request."""

    def __init__(self) -> None:
        self._socket = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, 0)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def index(self, name: str) -> int:
        """The number of the link *name*; 0 if there is none."""
        body = _LINK.pack(0, 0, 0, 0, 0) + _attribute(_IFLA_IFNAME, _text(name))
        try:
            answer = self._ask(_RTM_GETLINK, 0, body, f"look up the link {name}")
        except OSError as error:
            if error.errno == errno.ENODEV:
                return 0
            raise
        found: int = _LINK.unpack_from(answer)[2]
        return found

    def add_bridge(self, name: str, hardware: bytes) -> None:
        """Make a bridge with the address *hardware*: without one, its address would change with its ports."""
        info = _attribute(_INFO_KIND, b"bridge")
        body = _LINK.pack(0, 0, 0, 0, 0) + _attribute(_IFLA_IFNAME, _text(name))
        body += _attribute(_IFLA_ADDRESS, hardware) + _attribute(_IFLA_LINKINFO, info)
        self._new(_RTM_NEWLINK, body, f"add the bridge {name}")

    def add_veth(self, name: str, *, master: int, peer: str, namespace: int) -> None:
        """Make a pair of links: *name* here, up, a port of the bridge *master*; *peer* in the *namespace* (a fd)."""
        other = _LINK.pack(0, 0, 0, 0, 0) + _attribute(_IFLA_IFNAME, _text(peer))
        other += _attribute(_IFLA_NET_NS_FD, _number(namespace))
        info = _attribute(_INFO_KIND, b"veth") + _attribute(_INFO_DATA, _attribute(_VETH_INFO_PEER, other))
        body = _LINK.pack(0, 0, 0, _UP, _UP) + _attribute(_IFLA_IFNAME, _text(name))
        body += _attribute(_IFLA_MASTER, _number(master)) + _attribute(_IFLA_LINKINFO, info)
        self._new(_RTM_NEWLINK, body, f"add the link {name}")

    def up(self, index: int) -> None:
        """Set IFF_UP."""
        self._ask(_RTM_NEWLINK, _ACK, _LINK.pack(0, 0, index, _UP, _UP), f"bring up link {index}")

    def delete(self, name: str) -> bool:
        """Delete the link *name*, and the other end of a pair; whether there was one."""
        body = _LINK.pack(0, 0, 0, 0, 0) + _attribute(_IFLA_IFNAME, _text(name))
        try:
            self._ask(_RTM_DELLINK, _ACK, body, f"delete the link {name}")
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return False
        return True

    def add_address(self, index: int, address: str, bits: int) -> None:
        """Give link *index* the *address*, in a network of *bits*."""
        body = struct.pack("=BBBBI", _socket.AF_INET, bits, 0, _SCOPE_UNIVERSE, index)
        body += _attribute(_IFA_LOCAL, packed(address)) + _attribute(_IFA_ADDRESS, packed(address))
        self._new(_RTM_NEWADDR, body, f"add the address {address}/{bits}")

    def add_default_route(self, gateway: str) -> None:
        """Send all packets without another route to *gateway*."""
        body = struct.pack(
            "=BBBBBBBBI", _socket.AF_INET, 0, 0, 0, _TABLE_MAIN, _PROTOCOL_BOOT, _SCOPE_UNIVERSE, _UNICAST, 0
        )
        self._new(_RTM_NEWROUTE, body + _attribute(_RTA_GATEWAY, packed(gateway)), f"add the route to {gateway}")

    def _new(self, kind: int, body: bytes, what: str) -> None:
        self._ask(kind, _ACK | _CREATE | _EXCLUSIVE, body, what)

    def _ask(self, kind: int, flags: int, body: bytes, what: str) -> bytes:
        """Send one request; return the body of its answer."""
        self._sequence += 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags | _REQUEST, self._sequence, 0) + body)
        while True:
            answer = self._socket.recv(1 << 16)
            _, answered, _, sequence, _ = _HEADER.unpack_from(answer)
            if sequence != self._sequence:
                continue
            if answered == _ERROR:
                (number,) = struct.unpack_from("=i", answer, _HEADER.size)
                if number:
                    raise OSError(-number, f"cannot {what}: {os.strerror(-number)}")
            return answer[_HEADER.size :]


def in_namespace(namespace: int) -> Netlink:
    """A socket of another network *namespace* (a fd of /proc/PID/ns/net). For a process of one thread."""
    here = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(namespace, syscalls.CLONE_NEWNET)
        try:
            return Netlink()
        finally:
            syscalls.setns(here, syscalls.CLONE_NEWNET)
    finally:
        os.close(here)
