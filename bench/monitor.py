"""What the engine tells whoever watches: a protocol, and an observer that does not care."""

from __future__ import annotations

from typing import Protocol

from tare.bench.records.header import Precision
from tare.bench.records.rows import Outcome, Trial
from tare.runners.base import Support


class Monitor(Protocol):
    """Called between trials, never while a clock runs."""

    def preparing(self, label: str) -> None:
        """The subject is being probed and prepared."""

    def making(self, what: str, done_bytes: int) -> None:
        """An image is being made: what is done now, and how many bytes of that are done."""

    def probed(self, label: str, support: Support) -> None:
        """The probe ended; if not ``ok`` the subject is skipped."""

    def starting(self, trial: Trial, position: int, total: int) -> None:
        """Trial number *position* of *total*, from 1, is about to start."""

    def alive(self, n: int) -> None:
        """In a trial that stacks instances, *n* of them are alive now."""

    def ended(self, outcome: Outcome, values: dict[str, float]) -> None:
        """The trial ended; *values* as far as it came."""

    def looked(self, precision: Precision, rounds: int) -> None:
        """The intervals were looked at; the run goes on to *rounds*, or ends where these are done."""

    def finishing(self) -> None:
        """All trials are over; what was prepared is closed, and leaks are looked for."""


class Silent:
    """Sees everything, says nothing."""

    def preparing(self, label: str) -> None:
        """Say nothing."""

    def making(self, what: str, done_bytes: int) -> None:
        """Say nothing."""

    def probed(self, label: str, support: Support) -> None:
        """Say nothing."""

    def starting(self, trial: Trial, position: int, total: int) -> None:
        """Say nothing."""

    def alive(self, n: int) -> None:
        """Say nothing."""

    def ended(self, outcome: Outcome, values: dict[str, float]) -> None:
        """Say nothing."""

    def looked(self, precision: Precision, rounds: int) -> None:
        """Say nothing."""

    def finishing(self) -> None:
        """Say nothing."""
