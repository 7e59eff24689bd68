"""Ready by a mark: the payload, or a helper of a user's, writes ``tare ready`` and a line feed to its output."""

from __future__ import annotations

from tare.bench.readiness.base import Waited
from tare.bench.records.readiness import Mark

PERIOD_S = 0.0


def wait(contract: Mark, start: Waited) -> bool:
    """The console stamps marks itself."""
    word = contract.word
    return start.console.wait(
        start.instance.console, lambda: word in start.stamps, start.deadline_ns, check=start.check
    )
