"""A connection that cannot be one to itself.

A connection to a port where nobody listens yet gets a source port from the same range (ip_local_port_range), and where
that is the port itself, TCP connects the socket to itself (RFC 9293, 3.5, simultaneous open): something seems to
listen, and the server, which comes a moment later, finds its port in use for a minute. The kernel tries one port after
another, so among some thousand attempts this happens.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def connected(host: str, port: int, limit_s: float) -> Iterator[socket.socket]:
    """A connection to *port* of *host*. Raises OSError where nobody accepts it."""
    client = _elsewhere(port)
    with client:
        client.settimeout(limit_s)
        client.connect((host, port))
        yield client


def _elsewhere(port: int) -> socket.socket:
    """A socket that has a port already, and another one."""
    while True:
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            client.bind(("", 0))
            if client.getsockname()[1] != port:
                return client
        except BaseException:
            client.close()
            raise
        client.close()
