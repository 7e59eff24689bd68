"""The doctor: the host's findings and every runner's probe, as one diagnosis."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec

from tare import runners
from tare.bench.host import facts, workspace
from tare.bench.host.interrupts import Interrupts
from tare.bench.records.header import Host, Probed
from tare.runners import layers
from tare.runners.base import Options, Runner, RunnerError, Support


class RunnerDiagnosis(Probed, frozen=True, kw_only=True):
    """What one runner's probe said. ``kind`` is its layers as one word (:func:`runners.layers.kind`)."""

    name: str
    kind: str
    ok: bool
    why: str


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """All that the doctor found. ``fit`` is false, and ``why`` says why, when nothing could be measured here."""

    host: Host
    runners: tuple[RunnerDiagnosis, ...]
    fit: bool
    why: str = ""


def examine(cache: Path) -> Diagnosis:
    """Read the host's facts and probe each runner with its default options. Takes some seconds the first time.

    Raises UsageError while a run is measuring: a probe starts real containers and virtual machines. Raises Interrupted
    after a signal, when the probe that goes on has removed what it started.
    """
    with Interrupts() as interrupts, workspace.locked():
        found = facts.collect()
        probed = []
        for name in runners.REGISTRY:
            interrupts.check()
            if not layers.is_null(name):
                probed.append(_probe(name, cache))
        interrupts.check()
    bad = [finding for finding in found.findings if finding.level == "bad"]
    fit = any(one.ok for one in probed)
    why = "" if fit else "; ".join([*(one.what for one in bad), *(f"{one.name}: {one.why}" for one in probed)])
    return Diagnosis(host=found, runners=tuple(probed), fit=fit, why=why)


def probe(runner: Runner, options: Options, cache: Path) -> Support:
    """What the probe of *runner* finds. One that cannot even be asked does not hide what the others say."""
    try:
        return runner.probe(options, cache)
    except RunnerError as error:
        return Support(ok=False, why=str(error), fix=error.fix)
    except OSError as error:
        return Support(ok=False, why=f"its probe failed: {error}", fix="tare doctor")


def proved(runner: Runner, support: Support) -> dict[str, Any]:
    """The fields of a :class:`bench.records.header.Probed`: of *runner* its layers, the rest of *support*."""
    taken = (name for name in Probed.__struct_fields__ if name not in ("layers", "facts"))
    return {"layers": runner.LAYERS, "facts": dict(support.facts), **{name: getattr(support, name) for name in taken}}


def _probe(name: str, cache: Path) -> RunnerDiagnosis:
    runner = runners.load(name)
    support = probe(runner, {}, cache)
    if "tare doctor" in support.fix:  # this is the doctor
        support = dataclasses.replace(support, fix="")
    return RunnerDiagnosis(
        **proved(runner, support),
        name=name,
        kind=layers.kind(name, runner.LAYERS),
        ok=support.ok,
        why=support.why,
    )
