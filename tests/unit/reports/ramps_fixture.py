"""Synthetic ramps in the real format on disk: hosts whose memory is known part by part, no clock, nothing started."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import msgspec

from tare.bench.records import store, upgrades
from tare.bench.records.header import SubjectRecord
from tare.bench.records.rows import Outcome, Sample, Serves, Trial
from tare.runners import layers
from tare.runners.payload import Payload
from tests.unit.reports import fixture as synthetic

KIB, MIB, GIB = 2**10, 2**20, 2**30
TOTAL = 24 * GIB

#: Metric, value, count, program and what it serves, stage.
Reading = tuple[str, float, int, tuple[str, Serves], str]
#: The program of a figure of the whole.
WHOLE: tuple[str, Serves] = ("", "")

#: What each part of an instance does to the host's counters: part -> counters that it adds to.
COUNTERS: Mapping[str, tuple[str, ...]] = {
    "payload": ("host_anon_bytes", "host_active_anon_bytes"),
    "helper": ("host_anon_bytes", "host_inactive_anon_bytes"),
    "others": ("host_anon_bytes", "host_unevictable_bytes"),
    "partly_unmapped": ("host_inactive_anon_bytes",),
    "cache": ("host_cached_bytes",),
    "buffers": ("host_buffers_bytes",),
    "shmem": ("host_shmem_bytes", "host_cached_bytes", "host_inactive_anon_bytes"),
    "slab": ("host_slab_unreclaimable_bytes",),
    "dentries": ("host_slab_reclaimable_bytes",),
    "tables": ("host_page_tables_bytes",),
    "nested": ("host_sec_page_tables_bytes",),
    "stacks": ("host_kernel_stack_bytes", "host_vmalloc_bytes"),
    "percpu": ("host_percpu_bytes",),
    "vmalloc": ("host_vmalloc_bytes",),
    "huge": ("host_hugetlb_bytes",),
    "unlisted": ("host_active_anon_bytes",),
    "unaccounted": (),
}
GROUND = {counter: float(GIB) for counters in COUNTERS.values() for counter in counters} | {
    "host_total_bytes": float(TOTAL),
    "host_mapped_bytes": float(GIB),
    "host_percpu_lists_bytes": float(8 * MIB),
}


#: What a synthetic guest's kernel keeps before anything runs, and what it has of the rest.
GUEST_KEEPS = 30.0 * MIB
GUEST = {"slab": 12 * MIB, "page_tables": 40 * KIB, "kernel_stack": 600 * KIB, "percpu": 200 * KIB, "anon": 44 * KIB}


@dataclass(frozen=True, kw_only=True)
class Burden:
    """Bytes of each part: for ``each`` instance, ``once`` with the first, and ``late`` for those beyond ``bend``.

    ``machine``: with the first of every ``places`` instances.
    """

    each: Mapping[str, float]
    once: Mapping[str, float] = field(default_factory=dict)
    late: Mapping[str, float] = field(default_factory=dict)
    bend: int = 10**9
    machine: Mapping[str, float] = field(default_factory=dict)
    places: int = 1
    guest: float = 0.0
    left: float = 0.0

    def parts(self, n: int) -> dict[str, float]:
        """What n instances take, part by part."""
        if n == 0:
            return dict.fromkeys(COUNTERS, 0.0)
        late = max(0, n - self.bend)
        return {
            part: self.each.get(part, 0.0) * n
            + self.once.get(part, 0.0)
            + self.late.get(part, 0.0) * late
            + self.machine.get(part, 0.0) * -(-n // self.places)
            for part in COUNTERS
        }


@dataclass(frozen=True, kw_only=True)
class Climber:
    """One subject of a synthetic ramp."""

    record: SubjectRecord
    burden: Burden
    counts: Sequence[int] = (1, 2, 5, 10, 20, 50)
    most: int = 0
    stopped_by: str = ""
    helper: str = "crun"
    serves: Serves = ""
    noise: float = 0.0
    #: Reads the window after settling, the cost of reading, and what the payload sees, as a tare of today does.
    watched: bool = False
    #: Reads the scale-down, too, as a density run does.
    descends: bool = False
    #: Processors that each uses, of two, where ``others`` use some; None: nobody counted the processor time of the run.
    busy: float | None = None
    others: float = 0.0
    #: So many containers share a machine, whose kernel counts so much for each; 0: there is no such machine.
    machine: int = 0
    counted: float = 5.0 * MIB
    #: From so many alive on, starts take three times as long and tasks wait for memory.
    crowded: int = 10**9


PROCESS = Burden(each={"payload": 44 * KIB, "tables": 40 * KIB, "stacks": 16 * KIB, "slab": 8 * KIB})
CONTAINER = Burden(
    each={"payload": 44 * KIB, "tables": 44 * KIB, "stacks": 16 * KIB, "slab": 300 * KIB, "dentries": 40 * KIB},
    once={"cache": 2 * MIB},
)
VM = Burden(
    each={"helper": 140 * MIB, "tables": 600 * KIB, "stacks": 96 * KIB, "slab": 60 * KIB},
    once={"cache": 20 * MIB},
    guest=80 * MIB,
)


_CLIMBER = ("counts", "most", "stopped_by", "noise", "watched", "crowded", "descends", "busy", "others", "machine")


def container(label: str = "container", burden: Burden = CONTAINER, **changes: object) -> Climber:
    """A container of tare's own, with a helper that stays."""
    fields = {key: changes.pop(key) for key in _CLIMBER if key in changes}
    record = synthetic.subject("container", label, **changes).record
    return Climber(record=record, burden=burden, helper="python", serves="resident", **fields)  # type: ignore[arg-type]


def process(**changes: object) -> Climber:
    """A bare process."""
    return Climber(record=synthetic.subject("process").record, burden=PROCESS, **changes)  # type: ignore[arg-type]


def vm(label: str = "vm", burden: Burden = VM, **changes: object) -> Climber:
    """An emulated virtual machine."""
    fields = {key: changes.pop(key) for key in _CLIMBER if key in changes}
    fields.setdefault("counts", (1, 2, 3, 4, 6))
    record = synthetic.subject("vm", label, **changes).record
    return Climber(record=record, burden=burden, helper="qemu-system-x86", **fields)  # type: ignore[arg-type]


def nested(label: str, machine: int, most: int = 10, **changes: object) -> Climber:
    """Containers in emulated machines of *machine* each, which a run of *most* starts; all have the same memory."""
    machines = -(-most // machine)
    burden = Burden(
        each={"helper": 5 * MIB, "payload": MIB},
        once={"helper": 140 * MIB * machines, "cache": 20 * MIB},
        guest=5 * MIB,
    )
    facts = {layers.PLACES: str(machine)}
    given = {
        "layers": ("vm", "container"),
        "facts": facts,
        "counts": (1, 2, 3, 5, 6, 8, 10),
        "watched": True,
        **changes,
    }
    return vm(label, burden, machine=machine, **given)


def stepped(label: str, machine: int, **changes: object) -> Climber:
    """Containers in emulated machines of *machine* each, which boot when they are needed: 140 MiB each."""
    burden = Burden(
        each={"helper": 5 * MIB, "payload": MIB},
        once={"cache": 20 * MIB},
        machine={"helper": 140 * MIB},
        places=machine,
        guest=5 * MIB,
    )
    facts = {layers.PLACES: str(machine)}
    return vm(label, burden, machine=machine, **{"layers": ("vm", "container"), "facts": facts, **changes})


def touched() -> list[Climber]:
    """Two kinds that touch 32 MiB and give them back: the container's host gets them, the machine's does not."""
    found = []
    for make, base in ((container, CONTAINER), (vm, VM)):
        for name, told, more in (
            ("touched", Payload(touch_mib=32), 32 * MIB),
            ("released", Payload(touch_mib=32, release=True), 0 if make is container else 32 * MIB),
        ):
            part = "payload" if make is container else "helper"
            burden = Burden(each={**base.each, part: base.each[part] + more}, once=base.once, guest=base.guest)
            label = f"{make.__name__}-{name}"
            found.append(make(label, burden, payload=told, counts=(1, 2, 4)))
    return found


def host(parts: Mapping[str, float]) -> dict[str, float]:
    """The host's counters while *parts* are taken: what is taken is not free, and stands where its part stands."""
    values = dict(GROUND)
    for part, taken in parts.items():
        for counter in COUNTERS[part]:
            values[counter] += taken
    values["host_deferred_splits_count"] = 800.0 + (parts.get("partly_unmapped", 0.0) != 0)
    values["host_free_bytes"] = 12.0 * GIB - sum(parts.values())
    values["host_available_bytes"] = values["host_free_bytes"] + 2 * GIB
    return values


def write(
    path: Path, subjects: Iterable[Climber] | None = None, *, rounds: int = 5, probe: str = "memory", **changes: object
) -> Path:
    """Write a run of *subjects* below *path*; returns *path*."""
    chosen = [process(), container(), vm()] if subjects is None else list(subjects)
    labels = [one.record.label for one in chosen]
    plan = tuple(
        Trial(id=f"r{number}-{label}", subject=label, round=number, order=order, kind="measured")
        for number in range(1, rounds + 1)
        for order, label in enumerate(labels, start=1)
    )
    synthetic.write_run(path, [], rounds=rounds)
    fields = {
        "run": path.name,
        "tare_version": "0.1.0",
        "started_at": "2026-02-03T10:11:12+00:00",
        "finished_at": "2026-02-03T10:12:20+00:00",
        "state": "complete",
        "name": probe,
        "question": "What does one more instance cost in memory, and who owns it?",
        "scenario_text": "schema = 1\n",
        "scenario": {"probe": probe, "stack": {"floor_percent": 20.0, "budget_mib": 0}},
        "seed": 7,
        "rounds": rounds,
        "warmup": 0,
        "cache": "warm",
        "ready": "ready",
        "timeout_s": 60.0,
        "reference": "process" if "process" in labels else labels[0],
        "pairs": (("container", "vm"),) if {"container", "vm"} <= set(labels) else (),
        "subjects": tuple(one.record for one in chosen),
        "plan": plan,
        "host": synthetic.HOST,
    }
    header = synthetic.header_of({**fields, **changes})
    (path / "run.json").write_bytes(msgspec.json.format(msgspec.json.encode(header), indent=1))
    by_label = {one.record.label: one for one in chosen}
    samples: list[Sample] = []
    outcomes: list[Outcome] = []
    rng = random.Random(11)
    for at, trial in enumerate(plan):
        one = by_label[trial.subject]
        most = one.most or max(one.counts)
        place = msgspec.structs.asdict(trial)
        place["trial"] = place.pop("id")
        stopped = one.stopped_by or f"count: {most}"
        outcomes.append(Outcome(**place, status="ok", reached=most, stopped_by=upgrades.stop(stopped)))
        for metric, value, n, program, stage in _readings(one, most, rng):
            role, serves = program
            samples.append(
                Sample(
                    **place, run=path.name, scenario=probe, metric=metric, value=value, n=n, role=role, serves=serves,
                    stage=stage, unit=metric.rpartition("_")[2], at_ns=1_000_000_000 * (at + 1),  # type: ignore[arg-type]
                )
            )  # fmt: skip
    for name, rows in (("samples", samples), ("outcomes", outcomes)):
        (path / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return path


def _readings(one: Climber, most: int, rng: random.Random) -> Iterator[Reading]:
    for n in (0, *sorted({n for n in one.counts if n <= most} | {most})):
        parts = one.burden.parts(n)
        parts["others"] += rng.gauss(0, one.noise) if one.noise and n else 0.0
        for metric, value in host(parts).items():
            yield metric, value, n, WHOLE, ""
        for program, metric, value in _programs(one, n, parts):
            yield metric, value, n, program, ""
        if n and one.record.layers:
            yield "cgroup_current_bytes", max(0.0, sum(parts.values()) / 2), n, WHOLE, ""
        if n and one.burden.guest:
            yield "guest_ram_bytes", one.burden.guest * n, n, WHOLE, ""
        for metric, value in _window(one, n, parts).items() if one.watched else ():
            yield metric, value, n, WHOLE, ""
    for n in range(1, most + 1):
        slow = 3.0 if n >= one.crowded else 1.0
        yield "ready_seconds", 0.004 * slow * (1 + 0.2 * n / most) * rng.lognormvariate(0, 0.05), n, WHOLE, ""
        if one.watched and n in one.counts:
            for metric, value in seen_inside(one, n).items():
                yield metric, value, n, WHOLE, ""
    yield from _way_down(one, most)


def _way_down(one: Climber, most: int) -> Iterator[Reading]:
    # A part of the slab stays, whoever goes.
    stays = dict.fromkeys(COUNTERS, 0.0) | {"slab": one.burden.left * most}
    numbers = sorted((n for n in one.counts if n < most), reverse=True) if one.descends else []
    for above, n in pairwise([most, *numbers]):
        there = {part: value + stays[part] * (1 - n / most) for part, value in one.burden.parts(n).items()}
        for metric, value in (*host(there).items(), ("removal_seconds", 0.001 * (above - n))):
            yield metric, value, n, WHOLE, "down"
    rest = 0.001 * (numbers[-1] if numbers else most)
    for metric, value in (*host(stays).items(), ("teardown_seconds", 0.001 * most), ("removal_seconds", rest)):
        yield metric, value, most, WHOLE, "after"


def _window(one: Climber, n: int, parts: Mapping[str, float]) -> dict[str, float]:
    """What the host did while n lived, and what reading them cost: a hundredth of what they take."""
    ratio, used = min(1.0, 0.002 * n), {}
    if one.busy is not None:
        processors = min(synthetic.HOST.cpus - one.others, one.busy * n)
        ratio = (one.others + processors) / synthetic.HOST.cpus
        # The harness sleeps, and is in the run cgroup.
        used = {"window_cpu_seconds": 0.5 * (processors + 0.001)}
    return {
        "window_seconds": 0.5,
        "host_busy_ratio": ratio,
        **used,
        "pressure_cpu_some_ratio": 0.01,
        "pressure_memory_some_ratio": 0.3 if n >= one.crowded else 0.0,
        "pressure_memory_full_ratio": 0.0,
        "sampling_seconds": 0.001 * (n + 1),
        "sampling_bytes": 0.01 * sum(parts.values()),
    }


def seen_inside(one: Climber, n: int) -> dict[str, float]:
    """A guest sees its grant less what its kernel keeps; everybody else sees the host.

    What shares a machine sees that, in which less is available after each.
    """
    record = one.record
    guest = "vm" in record.layers
    total = record.memory_bytes - GUEST_KEEPS if guest else float(TOTAL)
    own = GUEST if guest else {"slab": GIB, "page_tables": GIB, "kernel_stack": GIB, "percpu": GIB, "anon": 4.0 * GIB}
    if one.machine:
        total = one.machine * record.memory_bytes + 150 * MIB
    left = total / 2 - (one.counted * ((n - 1) % one.machine + 1) if one.machine else 0)
    found = {"total": total, "free": left, "available": left, "cached": 3.0 * MIB, **own}
    return {f"inside_{name}_bytes": float(value) for name, value in found.items()}


def _programs(one: Climber, n: int, parts: Mapping[str, float]) -> Iterator[tuple[tuple[str, Serves], str, float]]:
    """PSS, USS and RSS by program; a resident has memory before the first instance, too."""
    helper: tuple[str, Serves] = (one.helper, one.serves)
    owned = {("payload", ""): parts["payload"], helper: parts["helper"] + (9 * MIB if one.serves else 0)}
    for role, anonymous in owned.items():
        if n == 0 and not role[1]:
            continue
        if anonymous:
            yield role, "pss_anon_bytes", anonymous
            yield role, "pss_bytes", anonymous + 100 * KIB
            yield role, "uss_bytes", anonymous
            yield role, "rss_bytes", anonymous + 600 * KIB * max(1, n)


#: Runs of about a million numbers, each large in another way: name -> (subjects, rounds).
LARGE: Mapping[str, tuple[Sequence[Climber], int]] = {
    "many counts": (
        [
            process(counts=range(1, 2501), watched=True, noise=64 * KIB, descends=True, busy=0.0002),
            container(counts=range(1, 2501), watched=True, noise=64 * KIB, descends=True, busy=0.0002),
        ],
        3,
    ),
    "many rounds": (
        [
            process(counts=(1, 2, 3, 4, 5), noise=64 * KIB, watched=True, descends=True),
            container(counts=(1, 2, 3, 4, 5), noise=64 * KIB, watched=True, descends=True),
        ],
        1500,
    ),
    "many starts": (
        [
            process(counts=(1, 2, 5, 10, 100, 1000, 10_000, 100_000), noise=64 * KIB, watched=True),
            container(burden=PROCESS, counts=(1, 2, 5, 10, 100, 1000, 10_000, 100_000), noise=64 * KIB, watched=True),
        ],
        5,
    ),
}


def large(path: Path, shape: str, probe: str) -> Path:
    """Write the run of :data:`LARGE` that *shape* names below *path*; returns *path*."""
    subjects, rounds = LARGE[shape]
    return write(path, subjects, rounds=rounds, probe=probe)


def least(path: Path) -> Path:
    """A run that looked for the least grant: 9 rounds, container against machine."""
    write(path, [container(), vm()], rounds=9, probe="least-memory", reference="container")
    header = store.load_header(path)
    samples, outcomes = [], []
    for trial in header.plan:
        place = {"subject": trial.subject, "kind": trial.kind, "round": trial.round, "order": trial.order}
        outcomes.append(Outcome(trial=trial.id, status="ok", **place))  # type: ignore[arg-type]
        grant = 576 * KIB if trial.subject == "container" else 72 * MIB
        for metric, value in (("least_memory_bytes", grant + trial.round * 64), ("attempts_count", 13)):
            samples.append(
                Sample(
                    run=path.name, trial=trial.id, scenario="least", metric=metric, value=float(value),
                    unit=metric.rpartition("_")[2], at_ns=trial.round, **place,  # type: ignore[arg-type]
                )
            )  # fmt: skip
    for name, rows in (("samples", samples), ("outcomes", outcomes)):
        (path / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return path
