"""Ready by a connection: connect(2) to the port succeeds, on the address that the instance has."""

from __future__ import annotations

from tare.bench.readiness.base import Waited
from tare.bench.readiness.connection import connected
from tare.bench.readiness.prober import probe_port
from tare.bench.records.readiness import Tcp

PERIOD_S = 0.0005
#: The kernel repeats a request that nobody answered after a second; a new attempt is as good, and can be ended.
_ANSWER_S = 1.0


def wait(asked: Tcp, start: Waited) -> bool:
    """Connect again and again; each connection is closed at once."""
    address = start.instance.address()
    port = address.ports.get(asked.port, asked.port)

    def attempt(left_s: float) -> str | None:
        with connected(address.host, port, min(left_s, _ANSWER_S)):
            return None

    return probe_port(start, attempt, address=address, port=asked.port, period_s=PERIOD_S)
