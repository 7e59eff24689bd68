"""The answer at first sight: what its sentence says for each verdict and experiment, and that its bars are to scale."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tare import reports
from tare.bench.records import store
from tare.bench.records.header import AttemptResolution
from tare.bench.records.readiness import Exit, Tcp
from tare.bench.records.resolved import Workload
from tare.reports.analysis import lead
from tare.reports.analysis.model import Bar, Lead, Report
from tare.reports.page.render import widths
from tare.reports.terminal.bars import bars
from tests.unit.reports import fixture as synthetic
from tests.unit.reports import ramps_fixture as ramps
from tests.unit.reports.test_render import terminal

Make = Callable[..., Report]


@pytest.fixture
def starts(tmp_path: Path) -> Make:
    def build(*labels: str, **options: object) -> Report:
        chosen = [synthetic.subject(one) for one in labels]
        return reports.build(store.load(synthetic.write_run(tmp_path / "run", chosen, **options)))  # type: ignore[arg-type]

    return build


@pytest.fixture
def ramp(tmp_path: Path) -> Make:
    def build(*subjects: ramps.Climber, **options: object) -> Report:
        return reports.build(store.load(ramps.write(tmp_path / "run", subjects, **options)))  # type: ignore[arg-type]

    return build


def test_a_machine_against_a_container_is_said_as_a_factor(starts: Make) -> None:
    found = starts("process", "container", "vm", pairs=(("container", "vm"),)).lead
    assert found.sentence.startswith("An emulated VM takes 5")
    assert " times as long to start as a container: 3." in found.sentence
    assert found.grounds.startswith("A factor of 5")
    assert "10 rounds)." in found.grounds
    assert found.grounds.endswith(f"vm{lead.EMULATED.removeprefix('{}')}.")


def test_the_pair_that_crosses_a_wall_leads(starts: Make) -> None:
    pairs = (("container", "crun"), ("container", "vm"))
    found = starts("process", "container", "crun", "vm", pairs=pairs).lead
    assert found.sentence.startswith("An emulated VM takes ")
    assert "as a container" in found.sentence


def test_a_container_in_a_machine_is_called_so_and_its_machine_is_what_is_emulated(tmp_path: Path) -> None:
    chosen = [synthetic.subject("process"), synthetic.subject("vm", "vm+container", layers=("vm", "container"))]
    report = reports.build(store.load(synthetic.write_run(tmp_path / "run", chosen)))
    nested = next(one for one in report.subjects if one.label == "vm+container")
    assert lead.one(nested) == "a container in an emulated VM"
    assert lead.one(nested, article=False) == "container in an emulated VM"
    assert lead.several(nested) == "containers in emulated VMs"


def test_a_pair_with_the_reference_leads_too(starts: Make) -> None:
    found = starts("process", "container", "vm", reference="container", pairs=(("container", "vm"),)).lead
    assert found.sentence.startswith("An emulated VM takes ")
    assert "as a container" in found.sentence


def test_without_a_pair_the_reference_leads(starts: Make) -> None:
    assert starts("process", "runc", pairs=()).lead.sentence.startswith(
        "runc takes 35 times as long to start as a bare"
    )


def test_a_small_change_is_said_in_per_cent(starts: Make) -> None:
    found = starts(
        "crun", "runc", pairs=(), reference="crun", scale=lambda label, metric: 0.6 if label == "runc" else 1.0
    ).lead
    assert found.sentence.startswith("runc takes ")
    assert " % longer to start than crun: " in found.sentence


def test_no_difference_is_not_said_as_one(tmp_path: Path) -> None:
    twins = [synthetic.subject("container", "one"), synthetic.subject("container", "other")]
    found = reports.build(store.load(synthetic.write_run(tmp_path / "run", twins, reference="one"))).lead
    assert found.sentence.startswith("No difference was found between o")
    assert "in the time to ready" in found.sentence


def test_too_few_rounds_make_no_factor(starts: Make) -> None:
    found = starts("process", "container", rounds=3).lead
    assert "times" not in found.sentence
    assert found.sentence.endswith("; these are too few rounds for a verdict.")


def test_a_lone_subject_is_its_figure(starts: Make) -> None:
    found = starts("container").lead
    assert found.sentence.startswith("A container starts in ")
    assert [one.subject for one in found.bars] == ["container"]


def test_a_subject_without_a_figure_is_named(tmp_path: Path) -> None:
    broken = synthetic.subject("container")
    lost = synthetic.Subject(
        record=broken.record, shape=broken.shape, failed_rounds=dict.fromkeys(range(1, 11), "broke")
    )
    path = synthetic.write_run(tmp_path / "run", [synthetic.subject("process"), lost])
    found = reports.build(store.load(path)).lead
    assert found.sentence.startswith("A bare process starts in ")
    assert found.sentence.endswith("; there is no figure for a container.")
    assert [(one.value is None, one.note) for one in found.bars][1] == (True, "no figure: 10 of 10 starts failed")


def test_nothing_measured_has_no_bars(starts: Make) -> None:
    found = starts("process", "container", done=0, warmup=0).lead
    assert (found.sentence, found.bars) == ("There is no answer yet.", ())


def test_the_null_baseline_and_known_delays_have_no_bar_among_answers(tmp_path: Path) -> None:
    chosen = [*synthetic.standard(), synthetic.null()]
    found = reports.build(store.load(synthetic.write_run(tmp_path / "run", chosen))).lead
    assert "null" not in [one.subject for one in found.bars]


def test_a_calibration_says_whether_to_trust(tmp_path: Path) -> None:
    pairs = (("process", "process-again"),)
    path = synthetic.write_run(tmp_path / "run", synthetic.calibration(), pairs=pairs)
    found = reports.build(store.load(path)).lead
    assert found.sentence.startswith("These numbers can be trusted: 4 known delays were measured exactly to ")
    assert [one.note for one in found.bars][:2] == ["nothing was started", "of 50.0 ms"]


def test_a_delay_that_was_measured_wrongly_is_not_trusted(tmp_path: Path) -> None:
    chosen = [synthetic.null(), synthetic.subject("process"), synthetic.delayed("process", 50, lost_ms=6.0)]
    found = reports.build(store.load(synthetic.write_run(tmp_path / "run", chosen))).lead
    assert found.sentence.startswith("Do not trust these numbers yet: a delay of 50.0 ms was measured as 56.0 ms")


def test_false_differences_are_not_trusted(tmp_path: Path) -> None:
    pairs = (("process", "process-again"),)
    path = synthetic.write_run(
        tmp_path / "run", synthetic.calibration(), pairs=pairs,
        scale=lambda label, metric: 1.5 if label == "process-again" else 1.0,
    )  # fmt: skip
    found = reports.build(store.load(path)).lead
    assert found.sentence.startswith("Do not trust these numbers yet: ")
    assert "found a difference that does not exist" in found.sentence


def test_equal_subjects_in_too_few_rounds_prove_nothing(tmp_path: Path) -> None:
    pairs = (("process", "process-again"),)
    path = synthetic.write_run(tmp_path / "run", synthetic.calibration(), pairs=pairs, rounds=2)
    sentence = reports.build(store.load(path)).lead.sentence
    assert sentence.startswith("These numbers are not proven yet: equal subjects were measured in too few rounds")


def test_memory_leads_with_one_more(ramp: Make) -> None:
    found = ramp(ramps.process(), ramps.container(), ramps.vm(), rounds=8).lead
    assert (
        found.sentence
        == "One more emulated VM takes 320 times the memory of one more container: 141 MiB against 444 KiB."
    )
    assert [one.subject for one in found.bars] == ["process", "container", "vm"]


def test_density_leads_with_how_many(ramp: Make) -> None:
    dense = [ramps.process(), ramps.container(most=200), ramps.vm(counts=(1, 2, 3, 5, 8, 12, 20), most=40)]
    found = ramp(*dense, rounds=1, probe="density").lead
    assert found.sentence.startswith("This host ran at least 200 containers at once, and at least 40 emulated VMs; ")
    assert found.sentence.endswith(" would fit, by prediction.")
    assert [one.value for one in found.bars] == [50.0, 200.0, 40.0]


def test_giving_back_leads_with_the_share(ramp: Make) -> None:
    found = ramp(ramps.container(), ramps.vm(), *ramps.touched(), rounds=8).lead
    assert found.sentence == (
        "The host gets back 100 % of the memory that container-released frees while it runs, and 0 % from vm-released."
    )


def test_money_leads_with_the_bill(ramp: Make) -> None:
    found = ramp(ramps.container(), ramps.vm(), rounds=8, reference="container").lead
    assert " instances cost " in found.sentence
    assert " in emulated VMs " in found.sentence
    assert found.bars[0].note.endswith(" % of it idle")


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (2.07, "2.1"),
        (9.96, "10"),
        (13.4, "13"),
        (877.0, "880"),
        (1149.0, "1150"),
        (12345.0, "12\N{NARROW NO-BREAK SPACE}300"),
    ],
)
def test_factors_have_two_digits(ratio: float, said: str) -> None:
    assert lead.times(ratio) == said


def bar(subject: str, value: float | None, low: float | None = None, high: float | None = None, **more: object) -> Bar:
    return Bar(subject=subject, value=value, shown="x", low=low, high=high, **more)  # type: ignore[arg-type]


def test_bars_are_to_scale_from_zero() -> None:
    linear, log = widths((bar("a", 1.0), bar("b", 4.0, 3.0, 5.0)))
    assert (linear["a"].value, linear["b"].value, linear["b"].low, linear["b"].high) == (20.0, 80.0, 60.0, 100.0)
    assert log == {}


def test_a_logarithmic_scale_is_offered_where_the_bars_are_far_apart() -> None:
    linear, log = widths((bar("a", 1.0), bar("b", 10.0), bar("c", 100.0)))
    assert [linear[one].value for one in "abc"] == [1.0, 10.0, 100.0]
    first, second, third = (log[one].value or 0.0 for one in "abc")
    assert second - first == pytest.approx(third - second, abs=0.02)


@pytest.mark.parametrize("values", [(0.0, 0.0), (-5.0, -1.0), (None, None), (0.0, 3.0), (-2.0, 3.0)])
def test_no_bar_leaves_its_place(values: tuple[float | None, ...]) -> None:
    linear, log = widths(tuple(bar(str(place), value) for place, value in enumerate(values)))
    for one in [*linear.values(), *log.values()]:
        assert one.value is None or 0.0 <= one.value <= 100.0


def drawn(width: int, *made: Bar) -> list[str]:
    found = Lead(sentence="s", grounds="g", title="what it is", unit="seconds", bars=made)
    return [line.plain for line in bars(found, width)]


def test_bars_in_a_terminal_are_in_proportion() -> None:
    lines = drawn(80, bar("a", 1.0), bar("b", 4.0), bar("c", 2.0, emulated=True))
    assert [line.count("█") for line in lines] == [0, 10, 40, 0, 0]
    assert lines[3].count("▒") == 20
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize("width", [20, 30, 40, 80])
def test_no_name_and_no_value_is_cut_in_a_narrow_terminal(width: int) -> None:
    text = "\n".join(
        drawn(width, bar("a-subject", 1.0, note="a note that is long"), bar("b", None, note="no figure: why"))
    )
    assert "a-subject" in text
    assert "no figure:" in text


def test_a_hostile_name_is_inert_in_a_terminal() -> None:
    assert "\x1b" not in "".join(drawn(80, bar("\x1b[31mred", 1.0)))


def test_a_command_that_ends_is_not_said_to_start(tmp_path: Path) -> None:
    job = Workload(command=("job",), ready=Exit())
    chosen = [synthetic.subject(one, workload=job) for one in ("process", "runc")]
    found = reports.build(store.load(synthetic.write_run(tmp_path / "run", chosen))).lead
    assert found.sentence.startswith("runc takes 35 times as long as a bare process: ")
    assert found.title == "Time from the request until the command has ended"


def test_a_server_is_said_to_start(tmp_path: Path) -> None:
    server = Workload(command=("serve",), ready=Tcp(port=80))
    chosen = [synthetic.subject(one, workload=server) for one in ("process", "runc")]
    report = reports.build(store.load(synthetic.write_run(tmp_path / "run", chosen)))
    assert report.lead.sentence.startswith("runc takes 35 times as long to start as a bare process: ")
    assert report.contract.ready_when == ("its port 80 accepted a connection",)


def test_a_workload_that_does_not_say_when_it_begins_has_one_phase_after_created(tmp_path: Path) -> None:
    server = Workload(command=("serve",), ready=Tcp(port=80))
    chosen = [synthetic.subject(one, workload=server) for one in ("process", "container", "vm")]
    path = synthetic.write_run(tmp_path / "run", chosen)
    rows = (path / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (path / "samples.jsonl").write_bytes(b"".join(row for row in rows if b"first_seconds" not in row))
    analysed = reports.analyse(store.load(path))
    for subject in analysed.report.subjects:
        assert [one.name for one in subject.phases if one.span == "start"] == [
            "requested to created",
            "created to ready",
        ]
        assert not subject.has("first_seconds")
    page = reports.html(analysed)
    assert "to the first instruction" not in page.split('id="phases"')[1].split("</figure>")[0].split("<svg")[0]
    assert "first instruction to ready: no" not in page
    assert "kernel starts, and then the command" in page


def test_a_guest_that_says_how_far_it_is_has_a_phase_between_any_two_points(tmp_path: Path) -> None:
    path = synthetic.write_run(tmp_path / "run", [synthetic.subject(one) for one in ("process", "vm")])
    rows = [json.loads(row) for row in (path / "samples.jsonl").read_text().splitlines()]
    more = {
        "provisioned": 0.01,
        "firmware": 0.9,
        "kernel": 1.2,
        "initramfs": 2.0,
        "init": 3.0,
    }  # of the time to created
    for row in [one for one in rows if one["subject"] == "vm" and one["metric"] == "created_seconds"]:
        rows += [{**row, "metric": f"{name}_seconds", "value": row["value"] * part} for name, part in more.items()]
    (path / "samples.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    analysed = reports.analyse(store.load(path))
    vm = next(one for one in analysed.report.subjects if one.label == "vm")
    phases = [one for one in vm.phases if one.span == "start"]
    assert [one.name for one in phases] == [
        "requested to provisioned",
        "provisioned to firmware",
        "firmware to created",  # the firmware spoke before libvirt did
        "created to kernel",
        "kernel to initramfs",
        "initramfs to init",
        "init to first instruction",
        "first instruction to ready",
    ]
    assert sum(one.duration for one in phases) == pytest.approx(vm.figure("ready_seconds").median, rel=0.01)
    assert sum(one.share for one in phases) == pytest.approx(1)
    page = reports.html(analysed)
    for words in ("until provisioned", "until the firmware hands over", "until the kernel runs"):
        assert words in page


def test_what_attempts_cannot_see_is_said_beside_the_contract(tmp_path: Path) -> None:
    server = Workload(command=("serve",), ready=Tcp(port=80))
    path = synthetic.write_run(
        tmp_path / "run", [synthetic.subject(one, workload=server) for one in ("process", "runc")]
    )
    run = store.load(path)
    tcp = AttemptResolution(by="tcp", period_seconds=0.0005, attempt_seconds=7e-05, resolution_seconds=0.00061)
    measured = dataclasses.replace(run, header=msgspec.structs.replace(run.header, attempts=(tcp,)))
    report = reports.build(measured)
    (said,) = report.contract.ready_when
    assert f"Ready when {said}." in " ".join(terminal(report, width=100).split())
    assert said == (
        "its port 80 accepted a connection (asked every 500 µs; the asking takes 70.0 µs; so this is known to 610 µs)"
    )
