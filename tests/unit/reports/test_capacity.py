"""How many fit, by memory and by processors, with known answers: this host's and those of hosts of other sizes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare import reports
from tare.bench.errors import UsageError
from tare.bench.records import store
from tare.reports.analysis.model import Report
from tare.reports.sections.ramp import text as ramp_text
from tare.reports.sections.ramp.density import capacity
from tare.reports.sections.ramp.density.capacity import Estimate, Size, size, smaller
from tare.reports.sections.ramp.density.model import DensityRow
from tare.reports.sections.ramp.prediction import predict, processors
from tests import warm
from tests.unit.reports import fixture
from tests.unit.reports import ramps_fixture as synthetic
from tests.unit.reports.ramps_fixture import GIB, MIB, TOTAL, Burden
from tests.unit.reports.test_render import Page, terminal

COUNTS = (1, 2, 3, 4, 5, 6, 8, 16, 24, 32, 40)
PASSED = "processor floor: 0.5 % of processor time idle, the floor is 10 %"
#: Each takes 100 MiB and the host has 14 GiB available: memory would be short at 94 with a floor of 20 % of 24 GiB.
BURDEN = Burden(each={"payload": 100.0 * MIB})
SHORT = int((14 * GIB - 0.2 * TOTAL) / (100 * MIB))


def write(path: Path, *, cpu_floor: float = 10.0, rounds: int = 1, **changes: object) -> Path:
    options: dict[str, object] = {"counts": COUNTS, "watched": True, "busy": 0.05, "stopped_by": PASSED, **changes}
    busy = synthetic.container("busy", BURDEN, **options)
    stack = {"floor_percent": 20.0, "budget_mib": 0, "cpu_floor_percent": cpu_floor}
    scenario = {"probe": "density", "stack": stack}
    return synthetic.write(path, [synthetic.process(), busy], rounds=rounds, probe="density", scenario=scenario)


def build(path: Path, *hosts: str) -> Report:
    return reports.build(store.load(path), hosts)


def density(path: Path, **changes: object) -> DensityRow:
    rows = build(write(path / "run", **changes)).analysis.density  # type: ignore[arg-type]
    found: DensityRow = next(row for row in rows if row.subject == "busy")
    return found


@pytest.mark.parametrize(
    ("floor", "others", "fit"), [(10.0, 0.0, 36), (0.0, 0.0, 40), (10.0, 0.3, 30), (50.0, 0.5, 10)]
)
def test_a_twentieth_of_a_processor_each_on_two(tmp_path: Path, floor: float, others: float, fit: int) -> None:
    found = density(tmp_path, cpu_floor=floor, others=others)
    assert (found.bound, found.predicted, found.cpu_instances, found.memory_instances) == (
        "processors", fit, fit, SHORT,
    )  # fmt: skip
    assert found.predicted_low is not None
    assert found.predicted_high is not None
    assert found.predicted_low <= fit <= found.predicted_high < SHORT
    assert found.cpu_margin == pytest.approx(0.05)
    assert found.cpu_others == pytest.approx(0.0, abs=0.01)
    assert found.cpu_readings == (2, 3, 4, 5, 6, 8)


@pytest.mark.parametrize(
    ("busy", "error"),
    # With a floor of 10 %, 1.8 / busy fit: the floor held at 32 and was passed at 40, so 32 to 39 are right.
    [(0.05, 0.0), (1.8 / 32, 0.0), (1.8 / 39, 0.0), (1.8 / 40, (39 - 40) / 40), (1.8 / 60, (39 - 60) / 60),
     (1.8 / 31, (32 - 31) / 31), (1.8 / 20, (32 - 20) / 20)],
)  # fmt: skip
def test_the_error_is_against_the_readings_between_which_the_floor_was_passed(
    tmp_path: Path, busy: float, error: float
) -> None:
    found = density(tmp_path, busy=busy)
    assert (found.rule, found.compared, found.held, found.reached) == ("processor floor", "instances", 32, 40)
    assert found.error_fraction == pytest.approx(error)


def test_idle_instances_have_no_number_by_processors(tmp_path: Path) -> None:
    found = density(tmp_path, busy=0.0001, stopped_by="count: 40")
    assert (found.bound, found.predicted, found.cpu_instances) == ("memory", SHORT, None)
    assert (found.cpu_low, found.cpu_high, found.cpu_margin) == (None, None, None)
    assert found.cpu_why.startswith("too little to be seen. From 2 to 8 alive 0.0006 processors were used")
    (claim,) = (
        claim for claim in build(tmp_path / "run").answer if claim.subject == "busy" and "at once" in claim.lead
    )
    assert "processors: too little to be seen" in claim.detail


def test_instances_that_seem_to_give_processor_time_back_have_none() -> None:
    falls = predict([(n, -0.01 * n) for n in (2, 5, 10, 50)], 50, processors(1.0))
    assert isinstance(falls, str)
    assert "used too little processor time" in falls


def test_readings_of_saturated_processors_are_not_believed(tmp_path: Path) -> None:
    """Each would use half a processor: from four on, they share what there is."""
    found = density(tmp_path, busy=0.5)
    assert (found.cpu_instances, found.cpu_low, found.bound) == (None, None, "memory")
    assert found.cpu_why.startswith("no prediction: 3 readings")
    assert found.cpu_why.endswith("before the processors are 95 % busy")


def test_a_run_that_did_not_count_processor_time_is_predicted_by_memory(tmp_path: Path) -> None:
    found = density(tmp_path, busy=None, stopped_by="memory floor: 5 GiB available", most=SHORT)
    assert (found.predicted, found.bound, found.error_fraction) == (SHORT, "memory", 0.0)
    assert (found.cpu_instances, found.cpu_low, found.cpu_high, found.cpu_margin) == (None,) * 4
    assert found.cpu_why == "no prediction: processor time was not read"
    assert "was not read" in Page(reports.write(tmp_path / "run", ["64GiB:16"]).read_text("utf-8")).text


def test_other_work_that_comes_meanwhile_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "run", most=16)
    samples = path / "samples.jsonl"
    lines = [json.loads(line) for line in samples.read_text("utf-8").splitlines()]
    for line in lines:
        if line["metric"] == "host_busy_ratio" and line["n"] == 16:
            line["value"] += 0.5  # of two processors
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = build(path)
    found = next(row for row in report.analysis.density if row.subject == "busy")
    assert found.predicted == 36
    assert found.cpu_others == pytest.approx(1.0)
    (claim,) = (claim for claim in report.answer if claim.subject == "busy" and "at once" in claim.lead)
    assert "other work used more of the processors at the end (by 1)" in claim.detail


@pytest.mark.parametrize(("cpu_floor", "against"), [(10.0, 36), (0.0, SHORT)])
def test_processors_that_no_rule_guards_are_not_put_to_the_test(tmp_path: Path, cpu_floor: float, against: int) -> None:
    found = density(tmp_path, cpu_floor=cpu_floor, most=SHORT, stopped_by="memory floor: 5 GiB available")
    assert (found.compared, found.held) == ("instances", None)
    assert found.error_fraction == pytest.approx(SHORT / against - 1)


numbers = st.integers(0, 10**6)
estimates = st.one_of(
    st.builds(
        lambda ends: Estimate(low=ends[0], instances=ends[1], high=ends[2]), st.tuples(*[numbers] * 3).map(sorted)
    ),
    st.just(Estimate(why="no prediction")),
)


@given(estimates, estimates)
def test_the_smaller_of_both_is_predicted_within_its_interval(memory: Estimate, cpu: Estimate) -> None:
    found = smaller(memory, cpu)
    known = [one.instances for one in (memory, cpu) if one.instances is not None]
    assert found.instances == min(known, default=None)
    assert found.bound == (None if not known else "memory" if memory.instances == found.instances else "processors")
    if found.instances is not None:
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.instances <= found.high


def test_a_host_of_another_size_holds_what_its_floor_and_this_hosts_own_use_leave(tmp_path: Path) -> None:
    path = write(tmp_path / "run", others=0.2)
    own = TOTAL - 14 * GIB  # what this host uses before the first instance
    rows = [
        row for row in build(path, "24GiB:2", "64GiB:16", "64GiB:16:50%").analysis.capacity if row.subject == "busy"
    ]
    assert [(row.instances, row.bound) for row in rows] == [
        (32, "processors"),  # (2 * 0.9 - 0.2) / 0.05: this host's own number
        (284, "processors"),
        (int((32 * GIB - own) / (100 * MIB)), "memory"),
    ]
    assert [row.floor_percent for row in rows] == [20.0, 20.0, 50.0]
    assert all(row.low <= row.instances <= row.high for row in rows)
    assert rows[0].instances == next(row for row in build(path).analysis.density if row.subject == "busy").predicted
    # The farther from the readings, the wider.
    assert rows[1].high / rows[1].low > rows[1].instances / rows[1].high


def test_a_host_smaller_than_what_is_used_already_holds_none(tmp_path: Path) -> None:
    (row,) = (row for row in build(write(tmp_path / "run"), "2GiB:1").analysis.capacity if row.subject == "busy")
    assert (row.instances, row.low, row.high, row.bound) == (0, 0, 0, "memory")


@pytest.mark.slow
def test_sizes_are_shown_on_the_page_and_in_80_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "run")
    assert build(path).analysis.capacity == ()
    assert "On a host of another size" not in Page(reports.write(path).read_text("utf-8")).text
    page = Page(reports.write(path, ["64GiB:16"]).read_text("utf-8")).text
    assert "On a host of another size" in page
    assert "An extrapolation" in page
    report = build(path, "64GiB:16", "1.5TiB:256:5%")
    shown = terminal(report)
    assert max(map(len, shown.splitlines())) <= 80
    assert re.search(r"busy +36 CPU +\d+ to \d+ +40 +[+−]0\.0 % +processor floor", shown)
    assert re.search(r"busy +64 GiB, 16 +20 % +288 +\d+ to \d+ +CPU", shown)
    assert sum("GiB, " in line.plain for line in ramp_text.capacity(report, 80)) == 4


def test_sizes_are_read_as_they_are_written() -> None:
    assert size("64GiB:16") == Size(ram_bytes=64 * GIB, processors=16)
    assert size("1.5 gib:2:7.5 %") == Size(ram_bytes=1536 * MIB, processors=2, floor_percent=7.5)


@pytest.mark.parametrize(
    "text",
    ["", "64", "64GiB", "64GB:16", "64GiB:0", "0GiB:4", "64GiB:1.5", "64GiB:16:96%", "64GiB:16:10", "-1GiB:2", "a:b:c"],
)
def test_what_is_no_size_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size of a host"):
        size(text)


def test_the_command_line_takes_sizes_and_refuses_what_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "run")
    done = warm.tare("report", path, "--json", "--host", "64GiB:16", "--host", "64GiB:4")
    rows = [row for row in json.loads(done.stdout)["capacity"] if row["subject"] == "busy"]
    assert [row["instances"] for row in rows] == [288, 72]
    done = warm.tare("report", path, "--host", "64GiB:16")
    assert (done.returncode, done.stdout.strip()) == (0, str(path / "report.html"))
    assert "288" in done.stderr
    bad = warm.tare("report", path, "--host", "lots")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "'lots' is not a size of a host" in bad.stderr
    assert "Traceback" not in bad.stderr
    starts = fixture.write_run(tmp_path / "starts")
    bad = warm.tare("report", starts, "--host", "64GiB:16")
    assert bad.returncode == 2
    assert "experiment 'density'" in bad.stderr


def test_reasons_are_short_where_there_is_little_room() -> None:
    assert capacity.short("no prediction: 3 readings above one are needed") == "3 readings above one are needed"
    assert capacity.short("too little to be seen. From 2 to 10 alive") == "too little to be seen"
