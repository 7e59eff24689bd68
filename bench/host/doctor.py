"""The doctor: the host's findings and every runner's probe, as one diagnosis."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tare import runners
from tare.bench.host import facts, workspace
from tare.bench.host.interrupts import Interrupts
from tare.bench.records.rows import Host
from tare.runners.base import Options, Runner, RunnerError, Support


class RunnerDiagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What one runner's probe said; see :class:`runners.base.Support`."""

    name: str
    kind: str
    ok: bool
    version: str
    accelerator: str | None
    why: str
    fix: str
    facts: dict[str, str]


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
            if name != "null":
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
        return Support(ok=False, why=f"it could not be probed: {error}", fix="tare doctor")


def _probe(name: str, cache: Path) -> RunnerDiagnosis:
    runner = runners.load(name)
    support = probe(runner, {}, cache)
    return RunnerDiagnosis(
        name=name,
        kind=runner.KIND,
        ok=support.ok,
        version=support.version,
        accelerator=support.accelerator,
        why=support.why,
        fix="" if "tare doctor" in support.fix else support.fix,  # this is the doctor
        facts=dict(support.facts),
    )
