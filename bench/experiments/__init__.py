"""What is done to a subject in a trial: the experiments, and the parts that trials are made of.

An experiment is one module and one line here: see :class:`bench.experiments.base.Experiment`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tare.runners import registry

if TYPE_CHECKING:
    from tare.bench.experiments.base import Experiment
    from tare.bench.records.resolved import Scenario
    from tare.bench.scenario.plan import Plan

#: Name in a scenario -> module:object. Imported only when asked for.
REGISTRY: dict[str, str] = {
    "startup": "tare.bench.experiments.startup:STARTUP",
    "memory": "tare.bench.experiments.ramp:MEMORY",
    "density": "tare.bench.experiments.ramp:DENSITY",
    "least-memory": "tare.bench.experiments.least_memory:LEAST_MEMORY",
}


def load(name: str) -> Experiment:
    """Import the experiment called *name*, and make its metrics known. Raises KeyError for what is not registered."""
    from tare.bench.records import metrics

    found: Experiment = registry.find(REGISTRY[name])
    metrics.add(found.metrics)
    return found


class _All(Mapping[str, "Experiment"]):
    """All that are registered, each imported when it is asked for."""

    def __getitem__(self, name: str) -> Experiment:
        return load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(REGISTRY)

    def __len__(self) -> int:
        return len(REGISTRY)


def scenario(path: Path, flags: Mapping[str, object] | None = None, note: Callable[[str], object] = str) -> Scenario:
    """The scenario in the file *path*; see :func:`bench.scenario.resolve.load`."""
    from tare.bench.scenario import resolve

    return resolve.load(path, _All(), flags or {}, note)


def plan(scenario: Scenario) -> Plan:
    """All trials of *scenario*, in their order. Raises KeyError for an experiment that is not registered."""
    from tare.bench.experiments import base

    return base.plan(load(scenario.experiment), scenario)
