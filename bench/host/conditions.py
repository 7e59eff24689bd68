"""Conditions: what a run was measured under besides its contract, and what of it differs between two runs.

Numbers of two conditions never share a run (docs/explanation/method.md): whatever of the host, of tare or of what it
measures with changed meanwhile, a run does not go on. Two runs may differ, and then the reader is told in what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tare.bench.records.header import Host, RunHeader, SubjectRecord

#: Facts of the moment: they differ between any two readings, and say nothing about what was chosen.
_MOMENTARY = frozenset(("load average", "memory available", "steal since boot"))
#: These have no part in measuring: the limit is raised to the hard one, and reports are made afterwards.
_HARMLESS = frozenset(("open files limit", "numpy", "scipy"))


def of_host(host: Host) -> dict[str, str]:
    """What identifies *host*: name -> value."""
    return {
        "machine": host.machine_id,
        "processor": host.cpu_model,
        "processors": str(host.cpus),
        "memory": f"{host.memory_bytes} bytes",
        "kernel": host.kernel,
        "cgroups": host.cgroup_mode,
        "virtualization": host.virtualization,
    }


def of_measuring(host: Host, *, git: str, versions: Mapping[str, str]) -> dict[str, str]:
    """What else was so while measuring: this start of the host, its settings, tare's revision, libraries."""
    chosen = {name: value for name, value in host.facts.items() if name not in _MOMENTARY}
    libraries = {name: version for name, version in versions.items() if name != "tarebench"}
    return {"start of the host": host.boot_id, **chosen, "revision of tare": git, **libraries}


def of_scenario(header: RunHeader) -> dict[str, str]:
    """How often and by which rules: the seed, the time-out, and what the tables of the scenario say."""
    run = header.scenario.run
    found = {
        "seed": str(run.seed),
        "time-out": f"{run.timeout_s:g} s",
        "rounds": str(run.rounds),
        "warm-ups": str(run.warmup),
    }
    if run.precision:
        found |= {"precision": f"{100 * run.precision:g} %", "most rounds": str(run.max_rounds)}
    tables = header.scenario.tables.items()
    return found | {f"{table}.{key}": str(value) for table, keys in tables for key, value in keys.items()}


def of_subject(header: RunHeader, label: str) -> dict[str, str]:
    """What the scenario says of one subject alone, and its record does not; empty where an older tare kept nothing."""
    known = SubjectRecord.__struct_fields__
    own = (subject.own for subject in header.scenario.subjects if subject.label == label)
    return {name: str(value) for keys in own for name, value in keys.items() if name not in known}


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """``swap was 0 B, is 4.00 GiB``, for each name that both have: what an older tare did not record is unknown."""
    for name, then in before.items():
        now = after.get(name, then)
        if then != now and name == "start of the host":
            yield "the host was rebooted"
        elif then != now:
            yield f"{name} was {then or 'none'}, is {now or 'none'}"


def parted(header: RunHeader, host: Host, *, tare_version: str, git: str, versions: Mapping[str, str]) -> list[str]:
    """What of the conditions of the run with *header* is not so here and now; empty if it may go on."""
    then = {"version of tare": header.tare_version} | of_host(header.host)
    then |= of_measuring(header.host, git=header.git, versions=header.versions)
    now = {"version of tare": tare_version} | of_host(host) | of_measuring(host, git=git, versions=versions)
    return list(differences({name: value for name, value in then.items() if name not in _HARMLESS}, now))
