"""Run directories: nothing measured is lost, nothing damaged is believed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.bench.errors import InvalidError, UsageError
from tare.bench.records import run_writer, store
from tare.bench.records.header import SCHEMA_VERSION, Host, RunHeader
from tare.bench.records.metrics import METRICS, misfit
from tare.bench.records.resolved import Scenario, Schedule
from tare.bench.records.rows import Outcome, Sample

HOST = Host(
    machine_id="m",
    boot_id="b",
    cpu_model="c",
    cpus=2,
    memory_bytes=1,
    kernel="k",
    cgroup_mode="v2",
    virtualization="none",
)
HEADER = RunHeader(
    run="r",
    tare_version="0",
    started_at="2026-01-01T00:00:00+00:00",
    scenario=Scenario(name="n", text="", question="?", reference="process", run=Schedule(rounds=1, timeout_s=1.0)),
    host=HOST,
)


def sample(trial: str, value: float, metric: str = "ready_seconds") -> Sample:
    return Sample(
        run="r",
        trial=trial,
        scenario="n",
        subject="s",
        kind="measured",
        metric=metric,
        value=value,
        unit="seconds",
        round=1,
        order=1,
        at_ns=1,
    )


def outcome(trial: str, status: str = "ok") -> Outcome:
    return Outcome(trial=trial, subject="s", kind="measured", round=1, order=1, status=status)  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = run_writer.create(tmp_path, "r")
    with run_writer.RunWriter(path) as writer:
        writer.header(HEADER)
        writer.trial([sample("a", 1.0), sample("a", 2.0, "created_seconds")], outcome("a"))
        writer.trial([sample("b", 3.0)], outcome("b"))
    return path


def test_what_was_written_is_read(run: Path) -> None:
    loaded = store.load(run)
    assert loaded.header == HEADER
    assert [(row.trial, row.value) for row in loaded.samples] == [("a", 1.0), ("a", 2.0), ("b", 3.0)]
    assert [row.trial for row in loaded.outcomes] == ["a", "b"]
    assert loaded.notes == ()


def test_values_are_kept_unrounded(tmp_path: Path) -> None:
    path = run_writer.create(tmp_path, "r")
    value = 0.1 + 0.2
    with run_writer.RunWriter(path) as writer:
        writer.header(HEADER)
        writer.trial([sample("a", value)], outcome("a"))
    assert store.load(path).samples[0].value == value


def test_every_trial_is_on_disk_before_the_next_begins(tmp_path: Path) -> None:
    path = run_writer.create(tmp_path, "r")
    with run_writer.RunWriter(path) as writer:
        writer.header(HEADER)
        writer.trial([sample("a", 1.0)], outcome("a"))
        assert len(store.load(path).samples) == 1  # the writer is still open


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_line_cut_anywhere_costs_only_that_line(run: Path, cut: int) -> None:
    file = run / store.SAMPLES
    os.truncate(file, file.stat().st_size - cut)
    loaded = store.load(run)
    assert [row.value for row in loaded.samples] == [1.0, 2.0]
    assert any("was cut off" in note for note in loaded.notes)
    run_writer.trim(run)
    with run_writer.RunWriter(run) as writer:
        writer.trial([sample("b", 4.0)], outcome("b"))
    assert [row.value for row in store.load(run).samples] == [1.0, 2.0, 4.0]


def test_samples_without_an_outcome_do_not_count(run: Path) -> None:
    with (run / store.SAMPLES).open("ab") as file:
        file.write(msgspec.json.encode(sample("c", 9.0)) + b"\n")
    loaded = store.load(run)
    assert {row.trial for row in loaded.samples} == {"a", "b"}
    assert any("did not end" in note for note in loaded.notes)


def test_a_trial_that_ran_again_counts_once_with_its_last_rows(run: Path) -> None:
    with run_writer.RunWriter(run) as writer:
        writer.trial([sample("a", 7.0)], outcome("a", "failed"))
    loaded = store.load(run)
    assert [row.value for row in loaded.samples if row.trial == "a" and row.metric == "ready_seconds"] == [7.0]
    assert [row.status for row in loaded.outcomes if row.trial == "a"] == ["failed"]


def test_damage_in_the_middle_is_an_error_that_names_the_line(run: Path) -> None:
    file = run / store.SAMPLES
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + b"garbage\n" + lines[2])
    with pytest.raises(UsageError, match=r"samples\.jsonl, line 2 is damaged"):
        store.load(run)


@pytest.mark.parametrize(
    ("metric", "unit", "said"),
    [
        ("ready_seconds", "bytes", "ready_seconds is in seconds, and the row says 'bytes'"),
        ("ready_seconds", "ms", "ready_seconds is in seconds, and the row says 'ms'"),
        ("pss_bytes", "seconds", "pss_bytes is in bytes"),
        ("host_busy_ratio", "", "host_busy_ratio is in ratio"),
        ("attempts_count", "bytes", "attempts_count is in count"),
        ("of_another_tare_seconds", "bytes", "of_another_tare_seconds is in seconds"),
    ],
)
def test_a_number_in_a_wrong_unit_is_refused_by_name(run: Path, metric: str, unit: str, said: str) -> None:
    wrong = msgspec.structs.replace(sample("c", 9.0, metric), unit=unit)
    with run_writer.RunWriter(run) as writer, pytest.raises(InvalidError) as refused:
        writer.trial([sample("c", 1.0), wrong], outcome("c"))
    assert said in refused.value.why
    assert len(store.load(run).outcomes) == 2  # nothing of it was written
    with (run / store.SAMPLES).open("ab") as file:
        file.write(msgspec.json.encode(wrong) + b"\n")
    with pytest.raises(UsageError, match=r"samples\.jsonl, line 4 is damaged") as read:
        store.load(run)
    assert said in read.value.why
    assert "remove that line" in read.value.fix


def test_every_metric_has_the_unit_that_its_name_ends_with() -> None:
    assert [name for name, metric in METRICS.items() if misfit(name, metric.unit)] == []
    assert [name for name, metric in METRICS.items() if name.rpartition("_")[2] != metric.unit] == []
    assert misfit("a_metric_of_another_tare", "furlongs") == ""


def test_a_newer_schema_is_refused_by_name(run: Path) -> None:
    header = json.loads((run / store.HEADER).read_text())
    header["schema"] = SCHEMA_VERSION + 1
    (run / store.HEADER).write_text(json.dumps(header))
    with pytest.raises(UsageError, match="newer tare"):
        store.load(run)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run"):
        store.load(tmp_path)
    with pytest.raises(UsageError, match="is not a run"):
        store.load(tmp_path / "nowhere")
    (tmp_path / store.HEADER).write_text("{")
    with pytest.raises(UsageError, match="is damaged"):
        store.load(tmp_path)


def test_a_run_directory_is_never_reused(tmp_path: Path) -> None:
    run_writer.create(tmp_path, "r")
    with pytest.raises(UsageError, match="exists already"):
        run_writer.create(tmp_path, "r")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot make the run directory"):
        run_writer.create(tmp_path / "file", "r")


def test_runs_are_listed_and_other_folders_are_not(run: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert store.runs(tmp_path) == [run]
    assert store.runs(tmp_path / "nowhere") == []


def test_hostile_labels_stay_inside_the_run(run: Path) -> None:
    with run_writer.RunWriter(run) as writer:
        (relative,) = writer.manifest("../../etc/x", {"argv.txt": "hello"})
        log = writer.log("r1-../../x", "text")
    for path in (relative, log):
        assert (run / path).resolve().is_relative_to(run.resolve())
        assert (run / path).is_file()


def test_what_a_subject_said_is_kept_beside_its_marks_up_to_a_limit(run: Path) -> None:
    log = run / "subjects" / "s%2ft" / "output.log"
    with run_writer.RunWriter(run) as writer:
        writer.output("s/t", "r1-s/t", "tare first\n\ntare ready\n")
        assert not log.exists()
        writer.output("s/t", "r2-s/t", "tare first\nno colour\r\ntare ready\n")
        assert log.read_text() == "r2-s/t\n    no colour\n"
        for number in range(1000):
            writer.output("s/t", f"r{number}-s/t", "y" * 2000)
    assert log.stat().st_size < (1 << 18) + 4000


#: Texts that a careless encoding takes for one another, or for something else than a file's name.
AWKWARD = [
    "x/y", "x_y", "x%2fy", "x%2Fy", "x y", "x+y", "x-y", "x.y", "xy", "X/Y", "XY", "Xy", "", ".", "..", "%2e", "%",
    "_", "-", ".x", "%2ex", "x\ny", "x\ty", "x\0y", "x\x1by", "\xe9", "e\u0301", "\u540d", "\udcff", "\udcc3\udca9",
    "~", "a" * 160, "a" * 161, "a" * 162, "A" * 161, "a" * 4000, "a" * 160 + "~", "\u540d" * 300, "\u540d" * 301,
]  # fmt: skip


def test_each_text_is_a_file_name_of_its_own_also_where_case_does_not_count(tmp_path: Path) -> None:
    names = [run_writer.file_name(text) for text in AWKWARD]
    assert len({name.lower() for name in names}) == len(AWKWARD)
    for name in names:
        (tmp_path / f"20260101T000000Z-{name}-1a2b.log").touch()
        assert name.isascii()
        assert name.isprintable()
        assert not set(name) & set("/ \\")
        assert not name.startswith(".")
    assert len(list(tmp_path.iterdir())) == len(AWKWARD)


@given(st.text(max_size=8), st.text(max_size=8))
def test_two_texts_are_two_file_names(one: str, other: str) -> None:
    assert (run_writer.file_name(one).lower() == run_writer.file_name(other).lower()) == (one == other)


@pytest.mark.parametrize("labels", [("x/y", "x_y"), ("x+y", "x-y"), ("A", "a"), (".", "..")])
def test_labels_that_look_alike_have_a_directory_and_a_log_each(run: Path, labels: tuple[str, str]) -> None:
    with run_writer.RunWriter(run) as writer:
        for label in labels:
            (manifest,) = writer.manifest(label, {"argv.txt": label})
            log = writer.log(f"r1-{label}", label)
            assert (run / manifest).read_text() == (run / log).read_text() == label
    assert len(list((run / "subjects").iterdir())) == len(list((run / "logs").iterdir())) == 2
