"""When an instance is ready: each contract is one module, and one line in this table."""

from __future__ import annotations

import importlib
from typing import cast

from tare.bench.readiness.base import READY, Contract, Waited
from tare.bench.records.readiness import Mark, Ready, kind

__all__ = ["CONTRACTS", "READY", "Waited", "load", "phase", "wait"]

#: The tag of a contract's record (:mod:`bench.records.readiness`) -> its module.
CONTRACTS = {
    "mark": "tare.bench.readiness.mark",
    "line": "tare.bench.readiness.line",
    "tcp": "tare.bench.readiness.tcp",
    "http": "tare.bench.readiness.http",
    "exec": "tare.bench.readiness.exec",
    "exit": "tare.bench.readiness.exit",
}


def load(asked: Ready) -> Contract:
    """The module that waits for *asked*."""
    return cast(Contract, importlib.import_module(CONTRACTS[kind(asked)]))


def phase(asked: Ready) -> str:
    """The stamp that says when *asked* was fulfilled."""
    return asked.word if isinstance(asked, Mark) else READY


def wait(asked: Ready, start: Waited) -> bool:
    """Wait until the contract is fulfilled (True), or the instance has ended (False).

    Raises TrialTimeout at the deadline, and RunnerError where the runner has no means for it.
    """
    return load(asked).wait(asked, start)
