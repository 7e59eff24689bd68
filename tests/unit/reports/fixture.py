"""Synthetic runs in the real format on disk: known numbers, no clock, nothing started."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from tare.bench.records import upgrades
from tare.bench.records.header import Finding, Host, Leak, RunHeader, SubjectRecord
from tare.bench.records.rows import Outcome, Sample, Trial
from tare.bench.records.run_writer import file_name
from tare.runners.payload import Payload

GIB = 2**30
MIB = 2**20
QUESTION = "What does it cost, in time and memory, to start a workload in a process, a container or a virtual machine?"
READY = "ready"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How one synthetic subject behaves: milliseconds of each phase, MiB of PSS, relative noise."""

    created_ms: float
    first_ms: float
    ready_ms: float = 0.05
    stopped_ms: float = 1.0
    removed_ms: float = 1.0
    cpu_ms: float = 1.0
    pss_mib: float = 0.2
    noise: float = 0.03


@dataclass(frozen=True, kw_only=True)
class Subject:
    record: SubjectRecord
    shape: Shape
    failed_rounds: Mapping[int, str] = field(default_factory=dict)
    outlier_rounds: tuple[int, ...] = ()


SHAPES = {
    "process": Shape(created_ms=0.62, first_ms=0.31, stopped_ms=0.25, removed_ms=0.02, cpu_ms=0.9, pss_mib=0.09),
    "container": Shape(created_ms=4.9, first_ms=0.9, stopped_ms=0.8, removed_ms=2.1, cpu_ms=5.5, pss_mib=0.12),
    "crun": Shape(created_ms=13.1, first_ms=1.2, stopped_ms=1.1, removed_ms=6.2, cpu_ms=14.0, pss_mib=0.1),
    "runc": Shape(created_ms=33.0, first_ms=2.4, stopped_ms=2.0, removed_ms=14.0, cpu_ms=51.0, pss_mib=0.13),
    "vm": Shape(
        created_ms=420.0, first_ms=2780.0, ready_ms=1.6, stopped_ms=38.0, removed_ms=61.0, cpu_ms=3350.0, pss_mib=188.0
    ),
}

WALLS = (
    "mount namespace", "pid namespace", "uts namespace", "ipc namespace", "network namespace", "cgroup namespace",
    "overlay root", "memory limit", "pids limit", "dropped capabilities", "no_new_privs",
)  # fmt: skip

_LAYERS: dict[str, tuple[str, ...]] = {
    "process": (), "container": ("container",), "crun": ("container",), "runc": ("container",), "vm": ("vm",),
}  # fmt: skip

VERSIONS = {
    "process": "fork + exec, Linux 6.18.0",
    "container": "tare 0.1.0, warm helper",
    "crun": "crun 1.8.1",
    "runc": "runc 1.1.5",
    "vm": "QEMU 7.2.19, libvirt 9.0.0, guest Linux 6.1.0-32-cloud-amd64",
}


def subject(runner: str, label: str = "", **changes: object) -> Subject:
    """A subject of a known runner, as the engine would record it; *changes* replace fields of its record."""
    layers = _LAYERS[runner]
    machine, told = layers == ("vm",), changes.get("payload", Payload())
    assert isinstance(told, Payload)
    record = SubjectRecord(
        label=label or runner,
        runner=runner,
        layers=layers,
        version=VERSIONS[runner],
        accelerator="tcg" if machine else None,
        payload=told,
        argv=told.argv,
        memory_bytes=256 * MIB,
        cpus=1,
        walls=("own kernel", "virtual devices") if machine else WALLS if layers else (),
        unlimited=("memory", "cpus") if not layers else ("cpus",) if runner == "crun" else (),
        facts={"uri": "qemu:///embed", "machine": "pc"} if machine else {},
    )
    record = msgspec.structs.replace(record, **changes)
    return Subject(record=record, shape=SHAPES[runner])


def null(label: str = "null") -> Subject:
    record = SubjectRecord(
        label=label, runner="null", version="nothing", memory_bytes=256 * MIB, cpus=1, argv=("then=pause",)
    )
    shape = Shape(created_ms=0.012, first_ms=0.021, ready_ms=0.004, stopped_ms=0.008, removed_ms=0.004, cpu_ms=0.1)
    return Subject(record=record, shape=shape)


def delayed(runner: str, delay_ms: int, *, lost_ms: float = 0.08) -> Subject:
    """A subject whose payload waits *delay_ms* before it is ready, and takes *lost_ms* more."""
    base = subject(runner, f"{runner}-{delay_ms}", payload=Payload(delay_ms=delay_ms))
    shape = replace(base.shape, ready_ms=base.shape.ready_ms + delay_ms + lost_ms)
    return Subject(record=base.record, shape=shape)


HOST = Host(
    machine_id="0123456789abcdef",
    boot_id="fedcba9876543210",
    cpu_model="AMD EPYC 7B13",
    cpus=2,
    memory_bytes=24 * GIB,
    kernel="6.18.0",
    cgroup_mode="v1",
    virtualization="kvm",
    facts={"governor": "unknown", "swap": "0 B", "transparent huge pages": "madvise", "load": "0.31"},
    findings=(
        Finding(name="swap", level="ok", what="no swap is in use"),
        Finding(
            name="acceleration",
            level="note",
            what="/dev/kvm opens, but the probe guest died at cmpxchg16b: virtual machines are emulated in software",
            fix="run on bare metal, or on a host with nested virtualization",
        ),
        Finding(name="nesting", level="note", what="this host is a virtual machine itself (kvm): steal is possible"),
    ),
)

DEFAULT = ("process", "container", "crun", "runc", "vm")


def write_run(
    path: Path,
    subjects: Iterable[Subject] | None = None,
    *,
    rounds: int = 10,
    done: int | None = None,
    warmup: int = 1,
    seed: int = 7,
    scale: Callable[[str, str], float] = lambda label, metric: 1.0,
    **changes: object,
) -> Path:
    """Write a run of *subjects* below *path*; only the first *done* rounds have rows. Returns *path*."""
    chosen = list(subjects) if subjects is not None else standard()
    labels = [one.record.label for one in chosen]
    rng = random.Random(seed)
    plan = _plan(labels, rounds, warmup, rng)
    path.mkdir(parents=True)
    records = tuple(_manifest(path, one.record) for one in chosen)
    fields = {
        "run": path.name,
        "tare_version": "0.1.0",
        "git": "0a1b2c3d",
        "started_at": "2026-02-03T10:11:12+00:00",
        "finished_at": "2026-02-03T10:12:20+00:00",
        "state": "complete",
        "name": "startup",
        "question": QUESTION,
        "scenario_text": '[scenario]\nname = "startup"\nquestion = "What does it cost to start?"\n',
        "seed": seed,
        "rounds": rounds,
        "warmup": warmup,
        "cache": "warm",
        "ready": READY,
        "timeout_s": 30.0,
        "reference": "process" if "process" in labels else (labels or [""])[0],
        "pairs": (("container", "crun"),) if {"container", "crun"} <= set(labels) else (),
        "subjects": records,
        "plan": plan,
        "host": HOST,
        "versions": {"python": "3.11.2", "numpy": "2.4.6", "libvirt": "9.0.0"},
        "resolution_seconds": 0.00004,
        "warnings": ("the load average was 0.8 when the run began: something else was running",),
    }
    header = header_of({**fields, **changes})
    (path / "run.json").write_bytes(msgspec.json.format(msgspec.json.encode(header), indent=1))
    samples, outcomes = _rows(path, chosen, plan, header, rounds if done is None else done, rng, scale)
    _lines(path / "samples.jsonl", samples)
    _lines(path / "outcomes.jsonl", outcomes)
    return path


def header_of(fields: dict[str, Any]) -> RunHeader:
    """A header from one flat table: those keys that belong to its scenario are put there, as they are in older runs."""
    return msgspec.convert(upgrades.header(msgspec.json.decode(msgspec.json.encode(fields)), 2), RunHeader)


def standard() -> list[Subject]:
    """The subjects of the startup scenario, with one outlier and one failure."""
    subjects = [subject(runner) for runner in DEFAULT]
    runc = subjects[3]
    subjects[2] = Subject(record=subjects[2].record, shape=subjects[2].shape, outlier_rounds=(6,))
    subjects[3] = Subject(record=runc.record, shape=runc.shape, failed_rounds={4: "runc exited with status 1"})
    return subjects


def calibration() -> list[Subject]:
    """The subjects of the calibration scenario: null, known delays, an A/A pair."""
    plain = [subject("process"), subject("process", "process-again"), subject("container")]
    return [null(), *plain, *(delayed(runner, ms) for runner in ("process", "container") for ms in (50, 200))]


def _plan(labels: list[str], rounds: int, warmup: int, rng: random.Random) -> tuple[Trial, ...]:
    trials = []
    for number in range(-warmup + 1, rounds + 1):
        kind = "warmup" if number < 1 else "measured"
        for order, label in enumerate(rng.sample(labels, len(labels)), start=1):
            name = f"w{number + warmup}-{label}" if kind == "warmup" else f"r{number}-{label}"
            trials.append(Trial(id=name, subject=label, round=max(0, number), order=order, kind=kind))  # type: ignore[arg-type]
    return tuple(trials)


def _rows(
    path: Path,
    subjects: list[Subject],
    plan: tuple[Trial, ...],
    header: RunHeader,
    done: int,
    rng: random.Random,
    scale: Callable[[str, str], float],
) -> tuple[list[Sample], list[Outcome]]:
    by_label = {one.record.label: one for one in subjects}
    samples: list[Sample] = []
    outcomes = [_skipped(one.record) for one in subjects if one.record.skipped]
    at_ns = 1_000_000_000_000
    for trial in plan:
        one = by_label[trial.subject]
        if trial.round > done or one.record.skipped:
            continue
        at_ns += 400_000_000
        reason = one.failed_rounds.get(trial.round, "")
        log = ""
        if reason:
            (path / "logs").mkdir(exist_ok=True)
            log = f"logs/{file_name(trial.id)}.log"
            (path / log).write_text(f"tare first\n{reason}\n", encoding="utf-8")
        place = msgspec.structs.asdict(trial)
        place["trial"] = place.pop("id")
        status = "failed" if reason else "ok"
        outcomes.append(Outcome(**place, status=status, reason=reason, log=log))  # type: ignore[arg-type]
        if reason:
            continue
        slow = 3.4 if trial.round in one.outlier_rounds else 2.0 if trial.kind == "warmup" else 1.0
        for metric, value in _values(one.shape, rng, slow).items():
            samples.append(
                Sample(
                    **place,
                    run=header.run,
                    scenario=header.scenario.name,
                    metric=metric,
                    value=value * scale(trial.subject, metric),
                    unit=metric.rpartition("_")[2],
                    at_ns=at_ns,
                )
            )
    return samples, outcomes


def _skipped(record: SubjectRecord) -> Outcome:
    return Outcome(
        trial=f"skip-{record.label}",
        subject=record.label,
        kind="measured",
        round=0,
        order=0,
        status="skipped",
        reason=record.skipped,
        fix=record.fix,
    )


def _values(shape: Shape, rng: random.Random, slow: float) -> dict[str, float]:
    def noisy(ms: float) -> float:
        return ms / 1000 * rng.lognormvariate(0, shape.noise)

    created = noisy(shape.created_ms) * slow
    first = created + noisy(shape.first_ms)
    stopped = noisy(shape.stopped_ms)
    return {
        "created_seconds": created,
        "first_seconds": first,
        "ready_seconds": first + shape.ready_ms / 1000 + noisy(0.02),
        "stopped_seconds": stopped,
        "removed_seconds": stopped + noisy(shape.removed_ms),
        "cpu_seconds": noisy(shape.cpu_ms),
        "pss_bytes": round(shape.pss_mib * MIB * rng.lognormvariate(0, 0.005)),
    }


_CONFIG: dict[tuple[str, ...], dict[str, str]] = {
    (): {"argv.txt": "/payload then=pause\n"},
    ("container",): {
        "config.json": '{\n "ociVersion": "1.0.2",\n "process": {"args": ["/payload", "then=pause"]}\n}\n'
    },
    ("vm",): {
        "domain.xml": "<domain type='qemu'>\n  <name>tare-1a2b-vm</name>\n</domain>\n",
        "uri.txt": "qemu:///embed?root=/run/tare-1a2b\n",
    },
}


def _manifest(path: Path, record: SubjectRecord) -> SubjectRecord:
    folder = path / "subjects" / file_name(record.label)
    folder.mkdir(parents=True, exist_ok=True)
    config = {} if record.runner == "null" else _CONFIG.get(record.layers, {})
    for name, text in config.items():
        (folder / name).write_text(text, encoding="utf-8")
    names = tuple(str((folder / name).relative_to(path)) for name in config)
    return msgspec.structs.replace(record, manifest=names)


def _lines(path: Path, rows: Iterable[Sample | Outcome]) -> None:
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


LEAKS = (
    Leak(kind="cgroup", name="/sys/fs/cgroup/memory/tare-1a2b/vm", owner="vm"),
    Leak(kind="mount", name="/run/tare-1a2b/container/root", owner="container"),
)
