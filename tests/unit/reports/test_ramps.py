"""Reports of memory, density and the least grant: what they predict, how they look, what the terminal shows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tare import reports
from tare.bench.errors import UsageError
from tare.bench.records import store
from tare.reports.analysis.model import Report
from tare.reports.sections.ramp.density.model import DensityRow
from tests.unit.reports import fixture
from tests.unit.reports import ramps_fixture as synthetic
from tests.unit.reports.ramps_fixture import GIB, KIB, MIB, TOTAL, Burden
from tests.unit.reports.test_render import HOSTILE, Page, terminal

pytestmark = pytest.mark.slow

Write = Callable[..., Path]

COUNTS = (1, 2, 3, 5, 8, 12, 20, 30, 40)
#: What a synthetic host of 14 GiB available leaves above a floor of 20 % of its 24 GiB.
ROOM = 14 * GIB - 0.2 * TOTAL


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(*arguments: object, **options: object) -> Path:
        return synthetic.write(tmp_path / f"run-{len(list(tmp_path.iterdir()))}", *arguments, **options)  # type: ignore[arg-type]

    return make


def build(path: Path) -> Report:
    return reports.build(store.load(path))


def density(path: Path, subject: str = "vm") -> DensityRow:
    found: DensityRow = next(row for row in build(path).analysis.density if row.subject == subject)
    return found


def machine(
    burden: Burden = synthetic.VM,
    *,
    counts: tuple[int, ...] = COUNTS,
    most: int = 65,
    stopped_by: str = "memory floor: 5.1 GiB available",
) -> synthetic.Climber:
    return synthetic.vm(burden=burden, counts=counts, most=most, stopped_by=stopped_by)


def test_a_straight_host_is_predicted_exactly_from_its_first_fifth(write: Write) -> None:
    margin, first = sum(synthetic.VM.each.values()), sum(synthetic.VM.once.values())
    holds = int((ROOM - first) / margin)
    found = density(write([synthetic.process(), machine(most=holds)], rounds=1, probe="density"))
    assert found.readings == (2, 3, 5, 8, 12)
    assert (found.predicted, found.predicted_low, found.predicted_high) == (holds, holds, holds)
    assert (found.reached, found.compared, found.rule) == (holds, "instances", "memory floor")
    assert found.error_fraction == 0
    assert found.knee is None
    assert found.teardown_seconds == pytest.approx(holds / 1000)
    assert found.given_back_fraction == pytest.approx(1.0)


def test_a_budget_is_what_a_prediction_fills(write: Write) -> None:
    stack = {"probe": "density", "stack": {"floor_percent": 20.0, "budget_mib": 2048}}
    stopped = machine(most=14, counts=(1, 2, 3, 5, 8), stopped_by="memory budget: 2 GiB of 2048 MiB used")
    found = density(write([synthetic.process(), stopped], rounds=1, probe="density", scenario=stack))
    assert (found.predicted, found.compared) == (14, "instances")
    assert found.readings == (2, 3, 5)  # a fifth of 14 holds too few: the first three


def test_another_rule_compares_the_memory_at_the_number_reached(write: Write) -> None:
    bent = Burden(each={"helper": 100 * MIB}, late={"helper": 50 * MIB}, bend=20)
    report = build(
        write([synthetic.process(), machine(bent, most=40, stopped_by="count: 40")], rounds=1, probe="density")
    )
    found = next(row for row in report.analysis.density if row.subject == "vm")
    assert (found.compared, found.reached_bytes) == ("bytes", 5000 * MIB)
    assert found.predicted_bytes == pytest.approx(4000 * MIB)
    assert found.error_fraction == pytest.approx(0.25)
    assert found.knee == 30
    (claim,) = (claim for claim in report.answer if "alive at once" in claim.lead and claim.subject == "vm")
    assert claim.lead == "vm: 40 alive at once, in 4.88 GiB; 3.91 GiB were predicted (+25.0 %)"
    assert "ended by count: 40" in claim.detail
    assert "memory is compared at the number reached" in claim.detail
    assert "the line no longer holds from 30 on" in claim.detail
    (claim,) = (claim for claim in report.answer if claim.lead.startswith("One more vm does not always"))
    assert "qemu-system-x86 explains most of the change" in claim.detail


@pytest.mark.parametrize("counts", [(1, 2), (1, 2, 3)])
def test_too_few_readings_predict_nothing_and_say_so(write: Write, counts: tuple[int, ...]) -> None:
    found = density(write([synthetic.process(), machine(counts=counts, most=3)], rounds=1, probe="density"))
    assert (found.predicted, found.error_fraction, found.compared) == (None, None, "nothing")
    assert "no prediction" in found.why


def test_instances_that_take_nothing_predict_nothing(write: Write) -> None:
    found = density(write([synthetic.process(), machine(Burden(each={"slab": -MIB}))], rounds=1, probe="density"))
    assert found.predicted is None
    assert "too small to be seen" in found.why


def test_json_has_the_rows_that_scripts_ask_for(write: Write) -> None:
    path = write([synthetic.process(), synthetic.container(), machine()], rounds=1, probe="density")
    data = json.loads(msgspec.json.encode(reports.data(build(path))))
    wanted = {"subject", "n", "host_change_bytes", "parts", "residual_bytes", "residual_fraction"}
    assert wanted <= data["ledger"][0].keys()
    assert {"subject", "predicted", "reached", "stopped_by", "error_fraction"} <= data["density"][0].keys()
    assert data["probe"] == "density"
    assert data["layers_memory"]
    assert data["given_back"]
    assert {"subject", "counter", "a", "b", "straight"} <= data["fits"][0].keys()


def test_enough_rounds_call_one_lighter(write: Write) -> None:
    report = build(write(rounds=8))
    (claim,) = (claim for claim in report.answer if claim.subject == "container" and "vm" in claim.lead)
    assert claim.lead == "One more container costs 444 KiB, one more vm 141 MiB: container is lighter"
    assert "p = " in claim.detail
    assert "software-emulated" in claim.detail
    assert "translated code" in claim.detail


def test_few_rounds_call_nothing(write: Write) -> None:
    claims = build(write(rounds=5)).answer
    assert not any(re.search(r"\b(lighter|heavier)$", claim.lead) for claim in claims)
    assert any("with fewer than 8 rounds" in claim.detail for claim in claims)


@pytest.mark.parametrize("probe", ["memory", "density", "least-memory"])
def test_pages_stand_alone_and_mark_what_is_emulated(tmp_path: Path, probe: str) -> None:
    path = tmp_path / "run"
    if probe == "least-memory":
        synthetic.least(path)
    else:
        synthetic.write(path, [synthetic.process(), synthetic.container(), machine()], probe=probe, rounds=3)
    text = reports.write(path).read_text("utf-8")
    page = Page(text)
    assert page.tags.count("script") == 1  # the page's own, which is optional
    assert not {"iframe", "object", "embed", "base"} & set(page.tags)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= set(page.ids)
    assert "software-emulated" in page.text
    assert re.search(r'<tr class="emulated hatched">\s*<th scope="row">.*?vm.*?emulated', text)
    charts = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert charts
    for chart in charts:
        assert re.findall(r"#[0-9a-f]{6}\b", chart) == [], "a colour that no scheme can change"
    if probe == "memory":
        assert "The same thing, different number" in page.text
        assert "guest kernel and payload" in page.text
        assert "Billed = used + idle" in page.text


@pytest.mark.parametrize("probe", ["memory", "density"])
def test_a_run_that_has_only_begun_has_a_page_and_a_table(tmp_path: Path, probe: str) -> None:
    path = synthetic.write(tmp_path / "run", probe=probe, state="running")
    for name in ("samples", "outcomes"):
        (path / f"{name}.jsonl").write_bytes(b"")
    assert "Nothing was read yet" in Page(reports.write(path).read_text("utf-8")).text
    assert terminal(build(path))


def test_a_subject_that_was_skipped_is_said_and_not_drawn(write: Write) -> None:
    gone = synthetic.vm(skipped="no qemu", fix="apt install qemu-system-x86")
    path = write([synthetic.process(), synthetic.container(), gone])
    outcomes = path / "outcomes.jsonl"
    outcomes.write_text(
        "".join(line for line in outcomes.read_text("utf-8").splitlines(keepends=True) if "vm" not in line)
    )
    samples = path / "samples.jsonl"
    samples.write_text(
        "".join(line for line in samples.read_text("utf-8").splitlines(keepends=True) if '"vm"' not in line)
    )
    page = Page(reports.write(path).read_text("utf-8"))
    assert "vm was skipped: no qemu" in page.text
    assert "One more container costs" in page.text


def test_hostile_labels_and_programs_are_shown_and_not_obeyed(write: Write) -> None:
    one = synthetic.container(HOSTILE)
    path = write([synthetic.process(), one, machine()], probe="density", rounds=2)
    samples = path / "samples.jsonl"
    samples.write_text(samples.read_text("utf-8").replace('"python"', '"<img src=x>"'))
    text = reports.write(path).read_text("utf-8")
    assert Page(text).tags.count("script") == 1
    assert "img" not in Page(text).tags
    assert HOSTILE in Page(text).text


def test_the_terminal_fits_80_columns(write: Write, tmp_path: Path) -> None:
    memory = terminal(build(write(rounds=8)))
    assert max(map(len, memory.splitlines())) <= 80
    assert re.search(r"container +444 KiB", memory)
    assert "vm (emulated)" in memory
    dense = terminal(build(write([synthetic.process(), synthetic.container(), machine()], probe="density", rounds=1)))
    assert max(map(len, dense.splitlines())) <= 80
    assert re.search(r"vm \(emulated\) +\d+ +\d+ to \d+ +65 +−1\.5 % +memory floor", dense)
    assert re.search(r"container +\d+ +\d+ to \d+ +50 +\+0\.0 % bytes +count", dense)
    few = terminal(build(synthetic.least(tmp_path / "least")))
    assert max(map(len, few.splitlines())) <= 80
    assert re.search(r"container +576 KiB", few)
    assert "vm is heavier in the least memory it needs than container" in few


def test_two_runs_of_memory_are_compared_by_their_margins(write: Write) -> None:
    heavier = Burden(each={**synthetic.CONTAINER.each, "slab": 600 * KIB}, once=synthetic.CONTAINER.once)
    before = store.load(write(rounds=8))
    after = store.load(write([synthetic.process(), synthetic.container(burden=heavier), synthetic.vm()], rounds=8))
    found = reports.compare_runs(before, after)
    claim = next(claim for claim in found.answer if claim.subject == "container")
    assert claim.lead.startswith("container is heavier for one more instance in the second run")
    assert max(map(len, terminal(found).splitlines())) <= 80


def test_a_memory_run_is_not_compared_with_one_of_starts(write: Write, tmp_path: Path) -> None:
    start = store.load(fixture.write_run(tmp_path / "startup", [fixture.subject("process")]))
    with pytest.raises(UsageError, match="experiment is 'memory'"):
        reports.compare_runs(store.load(write(reference="process", ready=start.header.scenario.run.ready)), start)
