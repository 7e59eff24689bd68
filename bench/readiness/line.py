"""Ready by a line of the output. Its time is that of the read which completed the line, or the match.

A prompt (``login: ``) is a line that nobody completes. So a line is searched before its end, too, by a pattern that
cannot cease to match when more of the line comes.
"""

from __future__ import annotations

import re

from tare.bench.readiness.base import READY, Waited
from tare.bench.records.readiness import Line

PERIOD_S = 0.0
#: Of a line without an end, so much is searched: a workload that prints 1 GB of it does not fill the memory.
_MOST_BYTES = 65536


#: What asks for what is not there, or for an end: more of a line may change the answer.
_OF_THE_WHOLE = re.compile(r"\$|\\[ZbB]|\(\?!|\(\?<!|\(\?\(")


def wait(contract: Line, start: Waited) -> bool:
    """Search each line as it comes."""
    pattern = re.compile(contract.pattern.encode())
    early = not _OF_THE_WHOLE.search(contract.pattern)
    rest = b""

    def look(data: bytes, now_ns: int) -> None:
        nonlocal rest
        if READY in start.stamps:
            return
        *lines, rest = (rest + data).split(b"\n")
        rest = rest[-_MOST_BYTES:]
        searched = [*lines, rest] if early else lines
        if any(pattern.search(line.rstrip(b"\r")) for line in searched):
            start.stamps[READY] = now_ns

    start.console.look = look
    try:
        return start.console.wait(
            start.instance.console, lambda: READY in start.stamps, start.deadline_ns, check=start.check
        )
    finally:
        start.console.look = None
