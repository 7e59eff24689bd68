"""What differs between two runs is said or refused, and a run goes on only under its own conditions."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from tare import reports
from tare.bench.errors import UsageError
from tare.bench.host import conditions
from tare.bench.records import store
from tare.bench.records.header import Host, RunHeader
from tests.unit.reports import fixture as synthetic

FACTS = {
    "clock source": "tsc",
    "frequency governor": "performance",
    "transparent huge pages": "madvise",
    "kernel samepage merging": "off",
    "kernel command line": "root=/dev/vda1 quiet",
    "microcode": "0x1000065",
    "mitigations": "meltdown: Mitigation: PTI",
    "swap": "0 B",
    "idle memory": "DAMON is off: idle memory stays",
    "user": "root",
    "load average": "0.31 0.30 0.29",
    "memory available": "22 GiB",
    "steal since boot": "0.01%",
    "open files limit": "1024",
}
HOST = msgspec.structs.replace(synthetic.HOST, facts=FACTS)
VERSIONS = {"python": "3.11.2", "tarebench": "0.1.0", "psutil": "6.1.0", "numpy": "2.4.6", "libvirt-python": "9.0.0"}
SCENARIO: dict[str, Any] = {
    "run": {"rounds": 10, "warmup": 1, "seed": 7, "cache": "warm", "ready": "ready", "timeout_s": 30.0},
    "stack": {"counts": [1, 2, 5], "ksm": False, "at_once": 1, "window_s": 1.0},
}


def run(path: Path, *subjects: synthetic.Subject, **changes: Any) -> store.Run:
    chosen = subjects or (synthetic.subject("process"), synthetic.subject("vm"))
    given = {"host": HOST, "versions": VERSIONS, "scenario": SCENARIO, "git": "0a1b2c3d", **changes}
    return store.load(synthetic.write_run(path, chosen, rounds=8, **given))


def host(**changes: Any) -> Host:
    return msgspec.structs.replace(HOST, **changes)


def facts(**changes: str) -> Host:
    return host(facts=FACTS | {name.replace("_", " "): value for name, value in changes.items()})


#: What of a run changed, and what is said of it.
HARD: list[tuple[dict[str, Any], str]] = [
    ({"host": host(boot_id="another")}, "the host was rebooted"),
    ({"host": facts(clock_source="hpet")}, "clock source was tsc, is hpet"),
    ({"host": facts(frequency_governor="powersave")}, "frequency governor was performance, is powersave"),
    ({"host": facts(transparent_huge_pages="always")}, "transparent huge pages was madvise, is always"),
    ({"host": facts(kernel_samepage_merging="on")}, "kernel samepage merging was off, is on"),
    ({"host": facts(kernel_command_line="quiet")}, "kernel command line was root=/dev/vda1 quiet, is quiet"),
    ({"host": facts(microcode="0x1")}, "microcode was 0x1000065, is 0x1"),
    ({"host": facts(mitigations="meltdown: Vulnerable")}, "mitigations was meltdown: Mitigation: PTI, is"),
    ({"host": facts(swap="4.00 GiB")}, "swap was 0 B, is 4.00 GiB"),
    ({"host": facts(idle_memory="DAMON is on and acts (pageout)")}, "idle memory was DAMON is off"),
    ({"host": facts(user="not root")}, "user was root, is not root"),
    ({"git": "ffffffff"}, "revision of tare was 0a1b2c3d, is ffffffff"),
    ({"versions": VERSIONS | {"python": "3.12.0"}}, "python was 3.11.2, is 3.12.0"),
    ({"versions": VERSIONS | {"libvirt-python": "10.0.0"}}, "libvirt-python was 9.0.0, is 10.0.0"),
]
HOSTS: list[tuple[dict[str, Any], str]] = [
    ({"host": host(machine_id="another")}, "machine was"),
    ({"host": host(cpu_model="Xeon")}, "processor was AMD EPYC 7B13, is Xeon"),
    ({"host": host(cpus=4)}, "processors was 2, is 4"),
    ({"host": host(memory_bytes=2**30)}, "memory was"),
    ({"host": host(kernel="6.19.0")}, "kernel was 6.18.0, is 6.19.0"),
    ({"host": host(cgroup_mode="v2")}, "cgroups was v1, is v2"),
    ({"host": host(virtualization="none")}, "virtualization was kvm, is none"),
    ({"tare_version": "0.2.0"}, "version of tare was 0.1.0, is 0.2.0"),
]
#: What may be otherwise when a run goes on, since it has no part in measuring.
SOFT: list[dict[str, Any]] = [
    {"host": facts(load_average="9.0 9.0 9.0")},
    {"host": facts(memory_available="1 GiB")},
    {"host": facts(steal_since_boot="2.00%")},
    {"host": facts(open_files_limit="20000")},
    {"versions": VERSIONS | {"numpy": "2.5.0", "scipy": "1.16"}},
]


def parted(header: RunHeader, other: RunHeader) -> list[str]:
    return conditions.parted(
        header, other.host, tare_version=other.tare_version, git=other.git, versions=other.versions
    )


@pytest.mark.parametrize(("changes", "said"), HARD + HOSTS)
def test_a_run_does_not_go_on_when_what_it_was_measured_under_changed(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    header = run(tmp_path / "run").header
    assert parted(header, header) == []
    (found,) = parted(header, msgspec.structs.replace(header, **changes))
    assert found.startswith(said)


@pytest.mark.parametrize("changes", SOFT)
def test_it_goes_on_when_that_has_no_part_in_measuring(tmp_path: Path, changes: dict[str, Any]) -> None:
    header = run(tmp_path / "run").header
    assert parted(header, msgspec.structs.replace(header, **changes)) == []


def test_all_that_changed_is_told_at_once(tmp_path: Path) -> None:
    header = run(tmp_path / "run").header
    other = msgspec.structs.replace(header, host=facts(swap="1 GiB", microcode="0x1"), git="ffffffff")
    assert len(parted(header, other)) == 3


def test_what_an_older_tare_did_not_record_is_unknown(tmp_path: Path) -> None:
    header = run(tmp_path / "run").header
    older = msgspec.structs.replace(header, host=host(facts={"clock source": "tsc"}), versions={"python": "3.11.2"})
    assert parted(older, header) == parted(header, older) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        *HARD,
        ({"seed": 8}, "seed was 7, is 8"),
        ({"timeout_s": 5.0}, "time-out was 30 s, is 5 s"),
        ({"warmup": 3}, "warm-ups was 1, is 3"),
        ({"scenario": {**SCENARIO, "stack": {**SCENARIO["stack"], "window_s": 5.0}}}, "stack.window_s was 1.0, is 5.0"),
        ({"scenario": {**SCENARIO, "stack": {**SCENARIO["stack"], "counts": [1]}}}, "stack.counts was [1, 2, 5], is"),
        ({"versions": VERSIONS | {"numpy": "2.5.0"}}, "numpy was 2.4.6, is 2.5.0"),
        ({"host": facts(open_files_limit="20000")}, "open files limit was 1024, is 20000"),
    ],
)
def test_a_comparison_says_what_else_differs(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    before, after = run(tmp_path / "before"), run(tmp_path / "after", **changes)
    comparison = reports.compare_runs(before, after)
    assert [text for text in comparison.differs if text.startswith(said)], comparison.differs
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(reports.render(comparison))
    assert isinstance(console.file, io.StringIO)
    shown = " ".join(console.file.getvalue().split())
    assert "What else differs between the two runs" in shown
    assert said in shown


def weighed(label: str, **changes: Any) -> dict[str, Any]:
    return {"label": label, "counts": [1, 2, 5], "most": 5, "step_bytes": 65536, **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"counts": [1, 50]}, "counts was [1, 2, 5], is [1, 50]"),
        ({"most": 50}, "most was 5, is 50"),
        ({"step_bytes": 4096}, "step_bytes was 65536, is 4096"),
    ],
)
def test_what_one_subject_was_weighed_by_is_said(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    before, one, both = (
        {**SCENARIO, "subjects": [weighed("process", **mine), weighed("vm", **theirs)]}
        for mine, theirs in (({}, {}), ({}, changes), (changes, changes))
    )
    first = run(tmp_path / "before", scenario=before)
    assert reports.compare_runs(first, run(tmp_path / "one", scenario=one)).differs == (f"vm: {said}",)
    assert reports.compare_runs(first, run(tmp_path / "both", scenario=both)).differs == (f"process, vm: {said}",)
    assert reports.compare_runs(first, first).differs == ()


@pytest.mark.slow
@pytest.mark.parametrize("subjects", [None, 3, "x", {}, [], [3], [{}], [{"label": "vm"}], [["label", "vm"]]])
def test_subjects_that_an_older_tare_did_not_keep_so_are_unknown(tmp_path: Path, subjects: Any) -> None:
    before = run(tmp_path / "before", scenario={**SCENARIO, "subjects": [weighed("vm")]})
    assert (
        reports.compare_runs(before, run(tmp_path / "after", scenario={**SCENARIO, "subjects": subjects})).differs == ()
    )


def test_nothing_differs_between_two_runs_under_one_condition(tmp_path: Path) -> None:
    later = facts(load_average="1.0 1.0 1.0", memory_available="20 GiB", steal_since_boot="0.02%")
    comparison = reports.compare_runs(run(tmp_path / "before"), run(tmp_path / "after", host=later))
    assert comparison.differs == comparison.warnings == ()


def test_two_hosts_have_two_starts_anyway(tmp_path: Path) -> None:
    other = host(machine_id="another", boot_id="another")
    comparison = reports.compare_runs(run(tmp_path / "before"), run(tmp_path / "after", host=other))
    assert comparison.differs == ()
    assert comparison.warnings == ("the hosts differ: another machine of the same make",)


def test_a_subject_says_its_engine_and_what_its_probe_found(tmp_path: Path) -> None:
    newer = synthetic.subject(
        "vm", version="QEMU 8.0.0, libvirt 9.0.0", facts={"machine": "q35", "uri": "qemu:///embed"}
    )
    before = run(tmp_path / "before", synthetic.subject("vm", facts={"machine": "pc", "uri": "qemu:///embed"}))
    comparison = reports.compare_runs(before, run(tmp_path / "after", newer))
    assert comparison.differs == (
        f"vm: version was {synthetic.VERSIONS['vm']}, is QEMU 8.0.0, libvirt 9.0.0",
        "vm: machine was pc, is q35",
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scenario": {**SCENARIO, "rootfs": "/srv/alpine"}}, "image is 'the built-in one' in the first"),
        ({"scenario": {**SCENARIO, "stack": {**SCENARIO["stack"], "ksm": True}}}, "samepage merging is False"),
        ({"scenario": {**SCENARIO, "stack": {**SCENARIO["stack"], "at_once": 8}}}, "starts at once is 1 in the first"),
    ],
)
def test_what_belongs_to_the_contract_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        reports.compare_runs(run(tmp_path / "before"), run(tmp_path / "after", **changes))
    assert said in refused.value.why


def test_memory_that_was_asked_back_belongs_to_the_contract(tmp_path: Path) -> None:
    asked = synthetic.subject("vm", reclaim_bytes=2**20)
    with pytest.raises(UsageError) as refused:
        reports.compare_runs(run(tmp_path / "before"), run(tmp_path / "after", asked))
    assert "vm: memory asked back is 0 bytes in the first and 1048576 bytes in the second" in refused.value.why


def test_a_run_of_a_tare_that_kept_no_rules_can_be_compared(tmp_path: Path) -> None:
    assert reports.compare_runs(run(tmp_path / "before", scenario={}), run(tmp_path / "after")).comparisons
