"""What a trial hands to the engine, whichever experiment made it: readings, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tare.bench.records.rows import Serves, Status, Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Values read at one moment, by metric name, in base units. See :class:`bench.records.rows.Sample` for the rest."""

    values: dict[str, float]
    n: int = 1
    role: str = ""
    serves: Serves = ""
    stage: Literal["", "down", "after"] = ""
    invalid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """How one trial went. ``readings`` are empty unless it went well or is invalid, ``console`` is the end of what was
    said.

    ``unsettled`` instances were removed at its end, after which free memory was not seen to stand still.
    """

    status: Status
    reason: str
    at_ns: int
    readings: tuple[Reading, ...] = ()
    console: str = ""
    reached: int = 0
    lost: int = 0
    stopped_by: Stop | None = None
    warnings: tuple[str, ...] = ()
    unsettled: int = 0

    @property
    def values(self) -> dict[str, float]:
        """The values of the first reading: all there are when a trial is a single start."""
        return self.readings[0].values if self.readings else {}
