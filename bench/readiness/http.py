"""Ready by an answer: GET has the status that is wanted."""

from __future__ import annotations

import http.client

from tare.bench.readiness.base import Waited
from tare.bench.readiness.connection import connected
from tare.bench.readiness.prober import probe_port
from tare.bench.records.readiness import Http

PERIOD_S = 0.0005
#: A server that has accepted a request and does not answer is asked again after so long.
_ANSWER_S = 1.0


def wait(asked: Http, start: Waited) -> bool:
    """Ask again and again, each time over a new connection."""
    address = start.instance.address()
    port = address.ports.get(asked.port, asked.port)

    def attempt(left_s: float) -> str | None:
        client = http.client.HTTPConnection(address.host, port)
        with connected(address.host, port, min(left_s, _ANSWER_S)) as client.sock:
            try:
                client.request("GET", asked.path, headers={"Connection": "close"})
                code = client.getresponse().status
            except http.client.HTTPException as error:
                return f"no answer of HTTP: {str(error) or type(error).__name__}"
            finally:
                client.close()
        return None if code == asked.code else f"it answered with status {code}"

    return probe_port(start, attempt, address=address, port=asked.port, period_s=PERIOD_S)
