"""Containers that share machines: memory rises by steps, and a number that fits is one of full machines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tare import reports
from tare.bench.records import store
from tare.reports.analysis.model import Report
from tare.reports.sections.ramp.density.model import DensityRow
from tare.reports.sections.ramp.prediction import Prediction, predict
from tare.runners import layers
from tests.unit.reports import fixture as starts
from tests.unit.reports import ramps_fixture as synthetic
from tests.unit.reports.ramps_fixture import GIB, MIB
from tests.unit.reports.test_render import Page, terminal

COUNTS = (1, 2, 5, 6, 10, 11, 15, 20, 25, 30)
#: Of a full machine of five: 140 MiB, and 6 MiB for each container.
EACH = (140 + 5 * 6) / 5


def built(path: Path, *subjects: synthetic.Climber, probe: str = "density", rounds: int = 1) -> tuple[Path, Report]:
    run = synthetic.write(path / "run", subjects, probe=probe, rounds=rounds)
    return run, reports.build(store.load(run))


def row(report: Report) -> DensityRow:
    found: DensityRow = next(one for one in report.analysis.density if one.subject == "vm/5")
    return found


def test_a_number_that_fits_is_predicted_from_full_machines(tmp_path: Path) -> None:
    _, report = built(tmp_path, synthetic.container(), synthetic.stepped("vm/5", 5, counts=COUNTS, watched=True))
    found = row(report)
    assert found.places == 5
    assert found.readings == (5, 10, 15)
    assert found.margin_bytes == pytest.approx(EACH * MIB)
    assert found.predicted is not None
    assert found.predicted % 5 == 0
    room = (12 + 2) * GIB - 0.2 * synthetic.TOTAL
    assert found.predicted == int((room - 20 * MIB) / (EACH * MIB)) // 5 * 5
    assert found.compared == "bytes"
    assert found.error_fraction == pytest.approx(0, abs=1e-9)
    assert found.knee is None, "the steps between full machines are no bend"


def test_what_is_said_of_it_names_full_machines(tmp_path: Path) -> None:
    run, report = built(tmp_path, synthetic.container(), synthetic.stepped("vm/5", 5, counts=COUNTS, watched=True))
    (claim,) = (one for one in report.answer if one.lead.startswith("vm/5: 30 alive at once"))
    assert "in full machines of 5, from the readings at 5, 10, 15" in claim.detail
    page = Page(reports.write(run).read_text("utf-8")).text
    assert "5 to a machine" in page
    assert "is a number of full machines" in page
    assert "in full machines of 5" in " ".join(terminal(report).split())


def test_a_ramp_that_ends_in_a_machine_with_room_compares_no_memory_and_says_why(tmp_path: Path) -> None:
    machines = synthetic.stepped("vm/5", 5, counts=COUNTS, most=28, watched=True)
    _, report = built(tmp_path, synthetic.container(), machines)
    found = row(report)
    assert (found.compared, found.predicted_bytes) == ("nothing", None)
    assert found.why == "memory is predicted for full machines of 5, and 28 do not fill them"


def test_one_full_machine_predicts_nothing() -> None:
    inner = [(n, (140 + 6.0 * n) * MIB) for n in range(1, 11)]
    assert isinstance(predict(inner, 10), Prediction)
    said = predict(inner, 10, places=10)
    assert said == "no prediction: 3 readings with full machines of 10 and below the last are needed"


@pytest.mark.parametrize("rounds", [1, 3])
def test_one_more_and_the_next_machine_are_told_apart(tmp_path: Path, rounds: int) -> None:
    subjects = [synthetic.container(), synthetic.stepped("vm/5", 5, counts=(1, 2, 3, 5, 6, 8, 10))]
    _, report = built(tmp_path, *subjects, probe="memory", rounds=rounds)
    (found,) = report.analysis.steps
    assert (found.subject, found.places, found.rounds) == ("vm/5", 5, rounds)
    assert found.margin_bytes == pytest.approx(6 * MIB)
    assert found.step_bytes == pytest.approx(146 * MIB)
    (claim,) = (one for one in report.answer if one.lead.startswith("vm/5: a machine takes 5 containers"))
    assert "One more takes 6.00 MiB while there is room, and 146 MiB where the next machine boots" in claim.lead
    assert ("95 % CI" in claim.detail) == (rounds >= 3)
    assert not any("does not always cost the same" in one.lead for one in report.answer)


@pytest.mark.parametrize("counts", [(1, 2, 3, 4), (1, 5, 10)], ids=["one machine", "full machines alone"])
def test_where_no_step_was_read_none_is_told(tmp_path: Path, counts: tuple[int, ...]) -> None:
    _, report = built(tmp_path, synthetic.container(), synthetic.stepped("vm/5", 5, counts=counts), probe="memory")
    assert report.analysis.steps == ()


def shared(label: str, machine: int) -> starts.Subject:
    facts = {layers.PLACES: str(machine)}
    return starts.subject("vm", label, layers=("vm", "container"), facts=facts)


def burst(path: Path, *subjects: starts.Subject, at_once: int = 10) -> Report:
    """A run of bursts: the last of each is ready after twice the time of the one in the middle."""
    run = starts.write_run(path / "run", subjects)
    header = json.loads((run / "run.json").read_text())
    header["scenario"]["tables"] = {"startup": {"at_once": at_once}}
    (run / "run.json").write_text(json.dumps(header))
    rows = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    rows += [
        {**row, "metric": "slowest_seconds", "value": 2 * row["value"]}
        for row in rows
        if row["metric"] == "ready_seconds"
    ]
    (run / "samples.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return reports.build(store.load(run))


def test_a_burst_leads_with_the_last_of_all_by_where_they_run(tmp_path: Path) -> None:
    alone, one, ten = starts.subject("container"), shared("vm/1x10", 10), shared("vm/10x1", 1)
    found = burst(tmp_path, starts.subject("process"), alone, one, ten).lead
    start = "Ten containers are ready after 11."
    assert found.sentence.startswith(start)
    assert re.search(
        r" ms on this host, 6\.\d+ s in (one emulated VM|ten emulated VMs) and 6\.\d+ s in ", found.sentence
    )
    assert "process" not in found.sentence
    assert found.grounds.startswith("95 % CI: container 11.")
    assert "Each machine ran in software emulation" in found.grounds
    assert {bar.subject for bar in found.bars} == {"process", "container", "vm/1x10", "vm/10x1"}


def test_two_at_one_place_are_told_apart_by_their_labels(tmp_path: Path) -> None:
    found = burst(tmp_path, starts.subject("container"), shared("vm/crun", 10), shared("vm/runc", 10)).lead
    assert " as vm/crun" in found.sentence
    assert " as vm/runc" in found.sentence
    assert "in one" not in found.sentence


def test_a_burst_without_shared_machines_leads_as_ever(tmp_path: Path) -> None:
    found = burst(tmp_path, starts.subject("container"), starts.subject("vm")).lead
    assert found.sentence.startswith("An emulated VM takes ")


def test_a_ramp_leads_with_as_many_on_the_host_and_in_machines(tmp_path: Path) -> None:
    subjects = [synthetic.container(), synthetic.nested("vm/2x5", 5), synthetic.nested("vm/10x1", 1)]
    _, report = built(tmp_path, *subjects, probe="memory", rounds=3)
    found = report.lead
    assert re.fullmatch(
        r"Ten containers take \S+ MiB on this host, \S+ MiB in two emulated VMs and \S+ GiB in ten emulated VMs\.",
        found.sentence,
    )
    assert found.grounds.startswith("95 % CI: container ")
    assert found.title == "Memory of the host with 10 alive"


def test_without_enough_rounds_there_is_no_interval_and_it_is_said(tmp_path: Path) -> None:
    subjects = [synthetic.container(), synthetic.nested("vm/10x1", 1)]
    _, report = built(tmp_path, *subjects, probe="memory")
    assert report.lead.grounds.startswith("These are too few rounds for intervals.")


def test_a_machine_without_a_container_is_none(tmp_path: Path) -> None:
    subjects = [starts.subject("container"), starts.subject("vm"), shared("vm/1x10", 10)]
    found = burst(tmp_path, *subjects).lead
    assert found.sentence.startswith("Ten instances are ready after ")
    assert " s as vm" in found.sentence
    assert " in one emulated VM" in found.sentence
