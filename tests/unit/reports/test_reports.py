"""What a report says: figures, counts, verdicts and calibration, from synthetic runs with known answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tare import reports
from tare.bench.errors import UsageError
from tare.bench.records import store
from tare.reports.analysis.figures import Compared, Figure, SubjectFigures
from tare.reports.analysis.model import Report
from tare.reports.analysis.several.model import RunsComparison
from tare.runners.payload import Payload
from tests.unit.reports import fixture as synthetic

Make = Callable[..., Report]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(*arguments: object, **options: object) -> Report:
        path = synthetic.write_run(tmp_path / f"run-{len(list(tmp_path.iterdir()))}", *arguments, **options)  # type: ignore[arg-type]
        return reports.build(store.load(path))

    return build


@pytest.fixture(scope="module")
def standard(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of the fixture's standard run: five subjects, one outlier, one failure."""
    return reports.build(store.load(synthetic.write_run(tmp_path_factory.mktemp("runs") / "standard")))


def subject(report: Report, label: str) -> SubjectFigures:
    return next(one for one in report.subjects if one.label == label)


def figure(report: Report, label: str, metric: str = "ready_seconds") -> Figure:
    return next(one for one in subject(report, label).figures if one.metric == metric)


def compared(report: Report | RunsComparison, label: str, reference: str, metric: str = "ready_seconds") -> Compared:
    found = [
        one for one in report.comparisons if (one.subject, one.reference, one.metric) == (label, reference, metric)
    ]
    assert len(found) == 1
    return found[0]


def with_failures(runner: str, rounds: int) -> synthetic.Subject:
    record = synthetic.subject(runner).record
    lost = dict.fromkeys(range(1, rounds + 1), "it broke")
    return synthetic.Subject(record=record, shape=synthetic.SHAPES[runner], failed_rounds=lost)


def test_importing_reports_loads_nothing_heavy() -> None:
    heavy = "{'pandas', 'matplotlib', 'jinja2', 'numpy', 'rich'}"
    code = f"import sys; from tare import reports; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_figure_is_the_median_of_the_measured_rounds_without_warmups(standard: Report) -> None:
    # Warm-ups of the fixture are twice as slow: one that slipped in would show in n and in p95.
    ready = figure(standard, "process")
    assert ready.median == pytest.approx(1.0e-3, rel=0.05)
    assert (ready.n, ready.rounds) == (10, 10)
    assert None not in (ready.median, ready.low, ready.high, ready.p95)
    assert ready.low <= ready.median <= ready.high  # type: ignore[operator]
    assert ready.p95 < 1.3e-3  # type: ignore[operator]
    assert ready.p99 is None


def test_failures_are_counted_and_below_the_limit_a_figure_remains(standard: Report) -> None:
    counts = subject(standard, "runc").counts
    assert (counts.planned, counts.started, counts.ready, counts.failed, counts.timeout) == (10, 10, 9, 1, 0)
    assert counts.warmups == 1
    assert figure(standard, "runc").n == 9
    assert [failure.trial for failure in standard.failures] == ["r4-runc"]


def test_no_figure_above_ten_per_cent_of_failures(make: Make) -> None:
    report = make([synthetic.subject("process"), with_failures("runc", 3)])
    assert all(one.median is None for one in subject(report, "runc").figures)
    assert figure(report, "runc").why == "no figure: 3 of 10 starts failed"
    assert subject(report, "runc").phases == ()
    judged = compared(report, "runc", "process")
    assert judged.verdict == "no figure"
    assert judged.ratio is None
    assert "3 of 10 starts failed" in judged.detail


def test_outliers_are_flagged_and_kept(standard: Report) -> None:
    assert figure(standard, "crun").outliers == 1
    assert figure(standard, "crun").n == 10


def test_verdict_words_follow_the_unit(standard: Report) -> None:
    assert compared(standard, "container", "process").word == "slower"
    assert compared(standard, "container", "crun").word == "faster"
    assert compared(standard, "vm", "process", "pss_bytes").word == "heavier"
    assert compared(standard, "container", "process").lead.startswith(
        "container is slower to become ready than process: "
    )


def test_pairs_and_reference_are_each_compared_once(make: Make) -> None:
    report = make(pairs=(("crun", "process"), ("process", "crun"), ("container", "crun"), ("crun", "nobody")))
    pairs = {(one.subject, one.reference) for one in report.comparisons}
    assert pairs == {(label, "process") for label in ("container", "crun", "runc", "vm")} | {("container", "crun")}
    assert len(report.comparisons) == len(pairs) * 7


def test_every_sentence_on_an_emulated_machine_says_so(standard: Report) -> None:
    emulated = [one for one in standard.comparisons if "vm" in (one.subject, one.reference)]
    assert emulated
    assert all("(software-emulated: not comparable with an accelerated VM)" in one.detail for one in emulated)
    assert not any("software-emulated" in one.detail for one in standard.comparisons if one not in emulated)


def test_emulated_claims_come_after_all_others(make: Make) -> None:
    order = [
        synthetic.subject("process"),
        synthetic.subject("vm"),
        synthetic.subject("runc"),
        synthetic.subject("crun"),
    ]
    assert [claim.emulated for claim in make(order).answer] == [False, False, True]


def test_the_same_thing_twice_shows_no_difference(make: Make) -> None:
    report = make([synthetic.subject("process"), synthetic.subject("process", "again")])
    verdict = compared(report, "again", "process")
    assert verdict.verdict == "no difference shown"
    assert verdict.lead.startswith("No difference shown between again and process in the time to ready")


def test_two_rounds_give_no_interval_and_no_verdict(make: Make) -> None:
    report = make(done=2, state="running", finished_at="")
    assert figure(report, "process").low is None
    assert {one.verdict for one in report.comparisons} == {"not enough rounds"}
    assert not report.complete
    assert report.status.startswith("not complete: 2 of 10 rounds done")


def test_a_run_without_a_sample_says_so(make: Make) -> None:
    report = make(done=0, warmup=0, state="interrupted")
    assert [claim.lead for claim in report.answer] == ["No answer"]
    assert "nothing was started" in report.answer[0].detail
    assert figure(report, "process").median is None


def test_one_subject_alone_is_reported_without_a_comparison(make: Make) -> None:
    report = make([synthetic.subject("container")])
    assert report.comparisons == ()
    assert report.answer[0].lead.startswith("container is ready after 5.")


def test_skipped_subjects_are_named_and_not_compared(make: Make) -> None:
    skipped = synthetic.subject("crun", skipped="no crun on PATH", fix="apt install crun")
    report = make([synthetic.subject("process"), synthetic.subject("container"), skipped])
    assert subject(report, "crun").counts.started == 0
    assert figure(report, "crun").why == "skipped: no crun on PATH"
    assert [claim.subject for claim in report.answer] == ["container"]
    assert report.rounds_done == 10


def test_phases_are_differences_within_each_start(standard: Report) -> None:
    phases = {phase.name: phase for phase in subject(standard, "vm").phases}
    boot = phases["created to first instruction"]
    assert boot.duration == pytest.approx(2.78, rel=0.05)
    assert boot.start == pytest.approx(phases["requested to created"].end)
    assert phases["stopped to removed"].duration == pytest.approx(0.061, rel=0.05)
    assert phases["stop to stopped"].start == 0.0


def test_two_starts_in_one_round_are_one_replication(tmp_path: Path) -> None:
    path = synthetic.write_run(tmp_path / "run", [synthetic.subject("process")], rounds=8, warmup=0)
    run = store.load(path)
    again = tuple(msgspec.structs.replace(row, trial=f"{row.trial}-b") for row in run.samples)
    outcomes = tuple(msgspec.structs.replace(row, trial=f"{row.trial}-b") for row in run.outcomes)
    twice = store.Run(path, run.header, run.samples + again, run.outcomes + outcomes, ())
    ready = figure(reports.build(twice), "process")
    assert (ready.n, ready.rounds) == (16, 8)
    assert ready.low == figure(reports.build(run), "process").low


def test_a_value_of_zero_has_no_ratio(make: Make) -> None:
    few = [synthetic.subject("process"), synthetic.subject("container")]
    report = make(few, scale=lambda label, metric: 0.0 if (label, metric) == ("process", "cpu_seconds") else 1.0)
    judged = compared(report, "container", "process", "cpu_seconds")
    assert (judged.verdict, judged.ratio) == ("no figure", None)
    assert "above zero" in judged.detail


def test_the_report_survives_json(make: Make) -> None:
    report = make([synthetic.subject("process"), synthetic.subject("vm")], leaks=synthetic.LEAKS)
    assert msgspec.json.decode(msgspec.json.encode(reports.data(report)), type=Report) == msgspec.structs.replace(
        report, analysis=None
    )


def test_known_delays_are_recovered_with_their_bias(make: Make) -> None:
    report = make(synthetic.calibration(), pairs=(("process", "process-again"),), name="calibration")
    found = {delay.subject: delay for delay in report.calibration.delays}
    assert set(found) == {"process-50", "process-200", "container-50", "container-200"}
    # The fixture loses 80 microseconds a delay: that is the bias to be found.
    assert found["process-50"].asked == 0.05
    assert found["process-50"].bias == pytest.approx(80e-6, abs=60e-6)
    assert found["process-200"].without == "process"
    assert report.calibration.null_seconds == pytest.approx(57e-6, rel=0.1)
    assert report.calibration.false_verdicts == 0
    assert report.calibration.judged == 7
    assert not {claim.subject for claim in report.answer} & {"null", "process-50", "container-200"}
    assert "differ in the workload's command" in report.contract.sentence


def test_a_difference_called_between_equals_is_a_false_verdict(make: Make) -> None:
    report = make(
        [synthetic.subject("process"), synthetic.subject("process", "again")],
        pairs=(("process", "again"),),
        scale=lambda label, metric: 1.5 if (label, metric) == ("again", "ready_seconds") else 1.0,
    )
    assert report.calibration.false_verdicts == 1
    assert report.calibration.pairs[0].called == ("ready_seconds",)
    assert any("falsely" in sentence for sentence in report.calibration.sentences)


def test_a_pair_of_different_subjects_is_no_calibration(standard: Report) -> None:
    assert standard.calibration.pairs == ()


def test_findings_that_matter_are_warnings(standard: Report) -> None:
    warnings = standard.warnings
    assert any(line.startswith("acceleration: ") for line in warnings)
    assert not any(line.startswith("swap") for line in warnings)


def test_a_cut_line_is_noted(tmp_path: Path) -> None:
    path = synthetic.write_run(tmp_path / "run", [synthetic.subject("vm")], done=4, state="running")
    samples = path / "samples.jsonl"
    samples.write_bytes(samples.read_bytes()[:-20])
    report = reports.build(store.load(path))
    assert any("cut off" in note for note in report.notes)


def two(tmp_path: Path, **options: object) -> tuple[store.Run, store.Run]:
    subjects = [synthetic.subject("process"), synthetic.subject("container"), synthetic.subject("vm")]
    before = synthetic.write_run(tmp_path / "before", subjects)
    after = synthetic.write_run(tmp_path / "after", **{"subjects": subjects, "seed": 12, **options})  # type: ignore[arg-type]
    return store.load(before), store.load(after)


def test_two_runs_of_the_same_thing_show_no_difference(tmp_path: Path) -> None:
    comparison = reports.compare_runs(*two(tmp_path))
    assert {one.verdict for one in comparison.comparisons} == {"no difference shown"}
    assert comparison.warnings == ()
    assert any("two runs of vm" in claim.lead and claim.emulated for claim in comparison.answer)


def test_a_slower_second_run_is_found(tmp_path: Path) -> None:
    slower = two(tmp_path, scale=lambda label, metric: 1.3 if label == "container" else 1.0)
    comparison = reports.compare_runs(*slower)
    judged = compared(comparison, "container", "container")
    assert judged.verdict == "higher"
    assert judged.ratio == pytest.approx(1.3, rel=0.05)
    assert judged.lead.startswith("container is slower to become ready in the second run")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cache": "cold"}, "cache is 'warm' in the first and 'cold' in the second"),
        ({"ready": "another mark"}, "readiness is"),
    ],
)
def test_runs_under_different_contracts_are_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        reports.compare_runs(*two(tmp_path, **changes))
    assert said in refused.value.why
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"accelerator": "kvm"}, "vm: class of result is emulated in the first and accelerated in the second"),
        ({"memory_bytes": 2**27}, "vm: memory is"),
        ({"cpus": 2}, "vm: cpus is 1 in the first and 2 in the second"),
        ({"payload": Payload(delay_ms=5)}, "vm: payload is"),
    ],
)
def test_subjects_of_another_class_or_contract_are_refused(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    other = [synthetic.subject("process"), synthetic.subject("vm", **changes)]  # type: ignore[arg-type]
    with pytest.raises(UsageError) as refused:
        reports.compare_runs(*two(tmp_path, subjects=other))
    assert said in refused.value.why


def test_runs_that_share_no_subject_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be compared"):
        reports.compare_runs(*two(tmp_path, subjects=[synthetic.subject("process", "other")]))


def test_hosts_that_differ_are_a_warning(tmp_path: Path) -> None:
    host = msgspec.structs.replace(synthetic.HOST, kernel="6.19.0")
    comparison = reports.compare_runs(*two(tmp_path, host=host))
    assert comparison.warnings == ("the hosts differ: kernel was 6.18.0, is 6.19.0",)
