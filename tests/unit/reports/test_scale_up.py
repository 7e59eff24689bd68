"""The scale-up: curves and their knees, margins part by part, the view from inside, what reading costs, refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tare import reports
from tare.bench.records import store
from tare.reports import words
from tare.reports.analysis.model import Report
from tare.reports.sections.ramp.density.model import Curve
from tare.reports.sections.ramp.memory import ledger
from tare.reports.sections.ramp.memory.model import Constancy, Inside
from tests.unit.reports import ramps_fixture as synthetic
from tests.unit.reports.ramps_fixture import GUEST_KEEPS, KIB, MIB, Burden
from tests.unit.reports.test_render import Page, terminal

pytestmark = pytest.mark.slow

Write = Callable[..., Path]

COUNTS = (1, 2, 5, 10, 20, 50, 100, 200)
#: Slab grows by half beyond 40, the helper's memory does not.
BENT = Burden(each={"payload": 44 * KIB, "slab": 400 * KIB, "tables": 40 * KIB}, late={"slab": 200 * KIB}, bend=40)
LOST = Burden(each={"payload": 20 * MIB, "unaccounted": 3 * MIB})


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(*arguments: object, **options: object) -> Path:
        options = {"rounds": 1, "probe": "density", **options}
        return synthetic.write(tmp_path / f"run-{len(list(tmp_path.iterdir()))}", *arguments, **options)  # type: ignore[arg-type]

    return make


def build(path: Path) -> Report:
    return reports.build(store.load(path))


def curve(report: Report, metric: str, subject: str = "container") -> Curve:
    found: Curve = next(one for one in report.analysis.curves if (one.subject, one.metric) == (subject, metric))
    return found


def constancy(report: Report, subject: str = "container") -> Constancy:
    found: Constancy = next(one for one in report.analysis.constancy if one.subject == subject)
    return found


def watched(burden: Burden = synthetic.CONTAINER, **changes: object) -> synthetic.Climber:
    return synthetic.container("container", burden, **{"counts": COUNTS, "watched": True, **changes})


def test_curves_have_every_point_and_mark_where_they_leave_their_beginning(write: Write) -> None:
    report = build(write([synthetic.process(), watched(crowded=90)]))
    ready = curve(report, "ready_seconds")
    assert [point.n for point in ready.points] == list(COUNTS)
    assert [point.readings for point in ready.points] == [1, 1, 3, 5, 10, 30, 50, 100]
    assert ready.points[-1].value == pytest.approx(0.0138, rel=0.05)
    assert ready.points[-1].least < ready.points[-1].value < ready.points[-1].most
    # The starts from 51 to 100 are mostly quick; only the last point is slow: one is no knee.
    assert ready.knee is None
    pressed = curve(report, "pressure_memory_some_ratio")
    assert [point.n for point in pressed.points] == [0, *COUNTS]
    assert pressed.knee == 100
    assert "above 5.0 %; up to a fifth of the largest number it was 0.0 %" in pressed.why
    assert curve(report, "host_busy_ratio").points[-1].value == pytest.approx(0.4)
    assert curve(report, "taken_bytes").points[-1].value == pytest.approx(200 * 444 * KIB, rel=0.05)
    assert {one.metric for one in report.analysis.curves if one.subject == "process"} == {
        "ready_seconds",
        "taken_bytes",
    }


def test_the_instances_own_share_of_the_processors_is_drawn_beside_the_hosts(write: Write) -> None:
    path = write([synthetic.process(watched=True), watched(counts=(1, 2, 5, 10, 20), busy=0.05, others=0.5)])
    report = build(path)
    own, host = curve(report, "own_busy_ratio"), curve(report, "host_busy_ratio")
    share = 0.05 / report.host.cpus
    assert [point.n for point in own.points] == [0, 1, 2, 5, 10, 20]
    # Neither what the harness used nor others is in it.
    assert [point.value for point in own.points] == pytest.approx([share * point.n for point in own.points])
    between = [all_of.value - mine.value for all_of, mine in zip(host.points, own.points, strict=True)]
    assert between == pytest.approx([0.5 / report.host.cpus] * 6)
    assert not [one for one in report.analysis.curves if (one.subject, one.metric) == ("process", "own_busy_ratio")]
    assert "without what was used before the first" in Page(reports.write(path).read_text("utf-8")).text


def test_starts_that_stay_slow_have_a_knee(write: Write) -> None:
    assert curve(build(write([watched(crowded=51)])), "ready_seconds").knee == 100


def test_a_run_of_an_older_tare_has_the_curves_that_it_recorded(write: Write) -> None:
    path = write([synthetic.process(), synthetic.container(), synthetic.vm()])
    report = build(path)
    assert {one.metric for one in report.analysis.curves} == {"ready_seconds", "taken_bytes"}
    assert not report.analysis.inside
    assert not report.analysis.sampling
    page = Page(reports.write(path).read_text("utf-8")).text
    assert "Scale-up: how the host changes" in page
    assert "Pressure" not in page
    assert "What an instance sees" not in page
    assert "The cost of reading" not in page
    assert "measured from outside, as a whole" in page


def test_a_page_shows_what_was_watched(write: Write) -> None:
    subjects = [synthetic.process(), watched(crowded=90), synthetic.vm(watched=True, counts=(1, 2, 3, 5, 8, 12))]
    path = write(subjects)
    page = Page(reports.write(path).read_text("utf-8")).text
    for said in (
        "Processors busy", "Share of the same window", "waiting for memory", "The cost of reading",
        "What an instance sees", "guest kernel", "Does the marginal cost stay the same from the first to the last?",
    ):  # fmt: skip
        assert said in page
    assert "stopped by memory, from" not in page  # it never stood still for all
    data = json.loads(msgspec.json.encode(reports.data(build(path))))
    assert {"subject", "metric", "unit", "points", "knee"} <= data["curves"][0].keys()
    assert {"n", "value", "least", "most", "readings"} <= data["curves"][0]["points"][0].keys()
    assert {"total_bytes", "kept_bytes", "host_view"} <= data["inside"][0].keys()
    assert {"round_residual_fraction", "rounds_balanced", "rounds_within"} <= data["ledger"][0].keys()
    assert {"start", "end", "parts", "residual_bytes"} <= data["margins"][0].keys()


def test_a_container_sees_the_host_and_a_guest_its_grant_less_what_its_kernel_keeps(write: Write) -> None:
    report = build(write([watched(), synthetic.vm(watched=True)], probe="memory", rounds=3))
    views: dict[str, Inside] = {view.subject: view for view in report.analysis.inside}
    assert views["container"].host_view
    assert views["container"].kept_bytes is None
    assert "the host's 24.0 GiB" in views["container"].sentence
    machine = views["vm"]
    assert not machine.host_view
    assert machine.kept_bytes == GUEST_KEEPS
    assert machine.total_bytes == machine.grant_bytes - GUEST_KEEPS
    assert (machine.instances, machine.rounds) == (15, 3)
    assert "its own kernel keeps 30.0 MiB before any program runs, and also uses slab 12.0 MiB" in machine.sentence
    assert not any("measured from outside" in limit for limit in report.limits)


@pytest.mark.parametrize("machine", [10, 5])
def test_what_shares_a_machine_says_what_one_more_takes_of_it(write: Write, machine: int) -> None:
    subjects = [watched(counts=(1, 2, 10)), synthetic.nested("vm/many", machine), synthetic.nested("vm/10x1", 1)]
    path = write(subjects, probe="memory", rounds=3)
    report = build(path)
    views = {view.subject: view for view in report.analysis.inside}
    assert {label: view.whose for label, view in views.items()} == {
        "container": "host", "vm/many": "machine", "vm/10x1": "machine",
    }  # fmt: skip
    many = views["vm/many"]
    assert many.kept_bytes is None, "its grant is not its machine's memory"
    assert many.margin_bytes == pytest.approx(5 * MIB), "also where the sixth has another machine"
    assert "one more container takes 5.00 MiB of the machine's memory" in many.sentence
    assert views["vm/10x1"].margin_bytes is None
    assert "its machine" in Page(reports.write(path).read_text("utf-8")).text


def test_as_many_instances_are_compared_with_and_without_machines_for_several(write: Write) -> None:
    subjects = [watched(counts=(1, 2, 10)), synthetic.nested("vm/1x10", 10), synthetic.nested("vm/10x1", 1)]
    report = build(write(subjects, probe="memory", rounds=3))
    (claim,) = (one for one in report.answer if one.lead.startswith("10 instances take"))
    order = [claim.lead.index(f"as {label}") for label in ("container", "vm/1x10", "vm/10x1")]
    assert order == sorted(order)
    assert "95 % CI" in claim.detail
    assert claim.emulated
    assert not any("instances take" in one.lead for one in build(write([watched()], probe="memory")).answer)


def test_layers_show_two_kernels_where_there_are_two(write: Write) -> None:
    report = build(write([watched(), synthetic.vm(watched=True)], probe="memory", rounds=3))
    stacks = {stack.subject: stack for stack in report.analysis.layers_memory}
    for stack in stacks.values():
        assert sum(owner.bytes for owner in stack.owners) == pytest.approx(stack.total_bytes)
    machine = {owner.name: owner for owner in stacks["vm"].owners}
    assert machine["guest kernel"].bytes == pytest.approx(GUEST_KEEPS + 12 * MIB + 840 * KIB)
    assert machine["guest kernel"].place == "guest"
    assert machine["host kernel"].place == "kernel"
    assert machine["guest page cache"].bytes == 3 * MIB
    inside = sum(owner.bytes for owner in stacks["vm"].owners if owner.place in ("inside", "guest"))
    assert inside == pytest.approx(80 * MIB)
    assert "guest kernel" not in {owner.name for owner in stacks["container"].owners}


def test_margins_between_counts_are_the_sum_of_their_parts(write: Write) -> None:
    report = build(write([watched(BENT)]))
    steps = [one for one in report.analysis.margins if one.subject == "container"]
    assert [(one.start, one.end) for one in steps][-2:] == [(50, 100), (100, 200)]
    for one in steps:
        assert sum(one.parts.values()) + one.residual_bytes == pytest.approx(one.margin_bytes)
    assert steps[0].kept_bytes == pytest.approx(484 * KIB)
    assert steps[-1].kept_bytes == pytest.approx(684 * KIB)
    assert steps[-1].parts["slab_unreclaimable"] == pytest.approx(600 * KIB)
    change = {row.n: row.host_change_bytes for row in report.analysis.ledger}
    assert sum(one.margin_bytes * (one.end - one.start) for one in steps) == pytest.approx(change[200] - change[1])


def test_counts_are_put_together_until_what_lies_between_is_seen(write: Write) -> None:
    small = build(write([watched(Burden(each={"payload": 20 * KIB}))])).analysis.margins
    assert (small[0].start, small[-1].end) == (1, 200)
    assert all((one.end - one.start) * 20 * KIB > 4 * 128 * KIB for one in small)


def test_a_margin_that_changes_names_the_part_that_changes_it(write: Write) -> None:
    report = build(write([watched(BENT)]))
    found = constancy(report)
    assert (found.start, found.split, found.end) == (2, 50, 200)
    assert found.verdict == "changes"
    assert found.moved[0].part == "slab_unreclaimable"
    assert found.moved[0].share == pytest.approx(1.0)
    assert found.why.endswith("Unreclaimable slab explains most of the change.")
    assert found.rule.startswith("The usual reason for unreclaimable slab: the first instances find room")
    assert "page tables" not in found.why
    (claim,) = (one for one in report.answer if one.lead.startswith("One more container does not always cost"))
    assert "unreclaimable slab grows from 442 KiB to 600 KiB (100 % of the change)" in claim.detail


@pytest.mark.parametrize(
    ("late", "verdict"), [(0.0, "same"), (20 * KIB, "same"), (30 * KIB, "changes"), (-40 * KIB, "changes")]
)
def test_the_same_is_said_below_five_per_cent_alone(write: Write, late: float, verdict: str) -> None:
    counts = (2, 10, 100, 1000, 2000, 3000, 5000)
    burden = Burden(each={"payload": 500 * KIB}, late={"slab": late}, bend=1000)
    found = constancy(build(write([watched(burden, counts=counts)])))
    assert found.change_fraction == pytest.approx(late / (500 * KIB), abs=0.001)
    assert found.verdict == verdict
    assert ("costs the same from the first to the last" in found.stays) == (verdict == "same")


def test_neither_page_cache_nor_other_processes_decide_what_stays_the_same(write: Write) -> None:
    burden = Burden(each={"payload": 500 * KIB}, late={"cache": 800 * KIB, "others": 300 * KIB}, bend=100)
    found = constancy(build(write([watched(burden, counts=(2, 5, 10, 50, 100, 300, 500))])))
    assert found.verdict == "same"
    assert found.late_bytes == pytest.approx(500 * KIB)
    assert "page cache changed by" in found.consists
    assert not {"page_cache", ledger.OTHERS} & {one.part for one in found.moved}


def test_what_cannot_be_seen_is_not_called_the_same(write: Write) -> None:
    found = constancy(build(write([watched(Burden(each={"payload": 4 * KIB}))])))
    assert found.verdict == "not seen"
    assert "from first to last: too small to be seen" in found.stays


def test_each_round_has_its_residual_and_the_rounds_are_counted(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path / "run", [synthetic.container(burden=Burden(each={"payload": 3 * MIB}))], rounds=5)
    lines = (path / "samples.jsonl").read_text("utf-8").splitlines(keepends=True)
    spoil = {"n": 50, "round": 2, "metric": "host_free_bytes", "stage": ""}

    def spoilt(line: str) -> str:
        row = json.loads(line)
        if {key: row.get(key, "") for key in spoil} != spoil:
            return line
        return json.dumps({**row, "value": row["value"] - 20 * MIB}) + "\n"

    (path / "samples.jsonl").write_text("".join(map(spoilt, lines)), "utf-8")
    report = build(path)
    row = max(report.analysis.ledger, key=lambda one: one.n)
    assert row.balanced
    assert (row.rounds_balanced, row.rounds_within, row.rounds, row.within_fraction) == (5, 4, 5, ledger.MOST_FRACTION)
    assert row.round_residual_bytes == (0, 20 * MIB, 0, 0, 0)
    assert row.round_residual_fraction[1] == pytest.approx(20 / 170)
    (claim,) = (one for one in report.answer if one.lead.startswith("The ledger balances for 1 of 1 subject"))
    assert "Rounds that balance (within 5 % of the change): container in 5 (4) of 5" in claim.detail
    page = Page(reports.write(path).read_text("utf-8")).text
    assert "+0.0 %, +11.8 %, +0.0 %" in page
    assert re.search(r"container .*yes, 5 of 5", terminal(report))


def test_no_claim_on_memory_is_printed_where_the_account_does_not_balance(write: Write) -> None:
    path = write([synthetic.process(), watched(LOST, counts=(1, 2, 5, 10, 20, 50))])
    report = build(path)
    why = next(row.why for row in report.analysis.ledger if row.n == 50 and row.subject == "container")
    mine = [one for one in report.answer if one.subject == "container"]
    assert [one.lead for one in mine if "alive at once" in one.lead] == [
        "container: 50 alive at once; no claim about their memory"
    ]
    assert not [one for one in mine if "costs the same" in one.lead or "always cost" in one.lead]
    assert all("23.0 MiB" not in one.lead + one.detail for one in mine)
    text = reports.write(path).read_text("utf-8")
    assert f"No claim: {why}" in Page(text).text
    for section in ("margin", "back", "density"):
        shown = text[text.index(f'<section id="{section}">') :].partition("</section>")[0]
        row = next(one for one in re.findall(r"<tr.*?</tr>", shown, flags=re.DOTALL) if "container</th>" in one)
        assert "no claim" in row, section
        assert "MiB" not in row.replace("150 MiB of a change of 1.12 GiB", "").replace("57.5 MiB", ""), section
    # The other counters do not rest on the ledger.
    numbers = text[text.index('<article class="kind k-container" data-subject="container">') :].partition("</dl>")[0]
    assert re.search(r'<dd class="ours">no claim</dd>\s*<dt>RSS</dt>', numbers)


def test_what_is_given_back_is_refused_with_its_account(write: Write) -> None:
    touched = synthetic.touched()[:2]
    lost = Burden(each={**touched[0].burden.each, "unaccounted": 9 * MIB})
    subjects = [synthetic.container(counts=(1, 2, 4)), *touched]
    subjects[1] = synthetic.Climber(record=touched[0].record, burden=lost, counts=(1, 2, 4), serves="resident")
    report = build(write(subjects, probe="memory", rounds=3))
    (claim,) = (one for one in report.answer if one.subject == "container-released")
    assert claim.lead == "No claim about what container-released gives back"
    assert "does not balance" in claim.detail


def test_what_reading_costs_is_said_and_judged(write: Write) -> None:
    (found,) = build(write([watched()])).analysis.sampling
    assert (found.n, found.readings) == (200, 9)
    assert found.seconds == pytest.approx(0.201)
    assert found.fraction == pytest.approx(0.01)
    assert "reading at 200 alive took 201 ms" in found.sentence
    assert found.sentence.endswith("reading does not disturb the figures.")


def test_a_daemon_counts_by_what_it_grew_like_a_resident(write: Write) -> None:
    burden = Burden(each={"payload": 44 * KIB, "helper": 600 * KIB})
    one = synthetic.Climber(record=synthetic.container().record, burden=burden, helper="dockerd", serves="daemon")
    report = build(write([one], probe="memory", rounds=3))
    row = max(report.analysis.ledger, key=lambda one: one.n)
    assert row.parts["anonymous:dockerd (daemon)"] == 50 * 600 * KIB  # and not its 9 MiB from before
    (stack,) = report.analysis.layers_memory
    assert next(owner for owner in stack.owners if owner.name == "dockerd (daemon)").text == "one for all instances"


def test_numbers_for_a_reader_have_no_needless_digits() -> None:
    assert [words.number(n) for n in (None, 7, 9999, 28359, 1234567)] == [
        "?", "7", "9999", "28\N{NARROW NO-BREAK SPACE}400", "1\N{NARROW NO-BREAK SPACE}230\N{NARROW NO-BREAK SPACE}000",
    ]  # fmt: skip
    assert (words.percent(-0.0001), words.percent(-0.02), words.percent(None)) == ("+0.0 %", "−2.0 %", "—")
    assert (words.share(-0.051), words.share(-0.0004), words.size(-2048.0)) == ("−5.1 %", "0.0 %", "−2.00 KiB")
