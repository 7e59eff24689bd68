"""Several runs as one: what is merged are rounds, pairs stay in their run, unlike runs are refused by their fields."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest
from rich.console import Console

from tare import reports
from tare.bench.errors import UsageError
from tare.bench.records import packed, store
from tare.bench.records.header import SCHEMA_VERSION
from tare.bench.records.rows import Outcome, Sample
from tare.bench.records.store import Run
from tare.bench.stats import ranks
from tare.reports.analysis.model import Report
from tests import warm
from tests.unit.reports import fixture, ramps_fixture
from tests.warm import fails

_Row = TypeVar("_Row", Sample, Outcome)
PAIR = ("process", "container")


def write(path: Path, day: int, **changes: Any) -> Run:
    """A run of a process and a container, on a day of its own."""
    fields: dict[str, Any] = {"seed": day, "started_at": f"2026-02-{day:02}T10:11:12+00:00", **changes}
    subjects = fields.pop("subjects", [fixture.subject(runner) for runner in PAIR])
    return store.load(fixture.write_run(path / f"run-{day}", subjects, **fields))


def split(run: Run, at: int) -> list[Run]:
    """Two runs with the rounds of *run* until *at*, and those after it."""

    def part(first: int, last: int, name: str) -> Run:
        def mine(rows: Iterable[_Row]) -> tuple[_Row, ...]:
            kept = (row for row in rows if row.kind == "measured" and first <= row.round <= last)
            return tuple(msgspec.structs.replace(row, round=row.round - first + 1) for row in kept)

        plan = tuple(
            msgspec.structs.replace(trial, round=trial.round - first + 1)
            for trial in run.header.plan
            if trial.kind == "measured" and first <= trial.round <= last
        )
        asked = msgspec.structs.replace(run.header.scenario.run, rounds=last - first + 1)
        scenario = msgspec.structs.replace(run.header.scenario, run=asked)
        began = f"2026-02-03T10:{first:02}:00+00:00"
        header = msgspec.structs.replace(run.header, run=name, plan=plan, scenario=scenario, started_at=began)
        return Run(path=run.path, header=header, samples=mine(run.samples), outcomes=mine(run.outcomes), notes=())

    return [part(1, at, "first"), part(at + 1, run.header.scenario.run.rounds, "second")]


def report(*runs: Run, force: bool = False) -> Report:
    return reports.build(reports.merge(runs, force=force))


def test_two_halves_of_a_run_say_together_what_the_whole_says(tmp_path: Path) -> None:
    whole = store.load(fixture.write_run(tmp_path / "whole", rounds=20))
    merged, one = report(*split(whole, 12)), reports.build(whole)
    assert [subject.figures for subject in merged.subjects] == [subject.figures for subject in one.subjects]
    assert [subject.phases for subject in merged.subjects] == [subject.phases for subject in one.subjects]
    assert (merged.comparisons, merged.answer, merged.rounds_done) == (one.comparisons, one.answer, 20)
    assert [(run.run, run.rounds) for run in merged.merged] == [("first", 12), ("second", 8)]


@pytest.mark.slow
def test_two_halves_of_ramps_say_together_what_the_whole_says(tmp_path: Path) -> None:
    whole = store.load(ramps_fixture.write(tmp_path / "whole"))
    rounds = whole.header.scenario.run.rounds
    merged, one = (reports.data(report) for report in (report(*split(whole, rounds // 2)), reports.build(whole)))
    for name in ("ledger", "fits", "margins", "curves", "comparisons", "answer"):
        assert merged[name] == one[name], name


def test_the_order_in_which_runs_are_given_changes_nothing(tmp_path: Path) -> None:
    first, second = write(tmp_path, 3), write(tmp_path, 4)
    assert report(second, first) == report(first, second)


def test_every_round_is_a_round_of_its_own(tmp_path: Path) -> None:
    merged = reports.merge([write(tmp_path, day, rounds=rounds) for day, rounds in ((3, 5), (4, 7), (5, 4))])
    rounds = {row.round for row in merged.samples if row.kind == "measured"}
    assert rounds == set(range(1, 17))
    assert {row.round for row in merged.samples if row.kind == "warmup"} == {0}
    trials = [row.trial for row in merged.outcomes]
    assert len(set(trials)) == len(trials) == len(merged.header.plan)
    assert set(trials) == {trial.id for trial in merged.header.plan}
    times = [row.at_ns for row in merged.samples]
    assert times == sorted(times)
    figure = reports.build(merged).subjects[0].figure("ready_seconds")
    assert (figure.rounds, figure.n) == (16, 16)


def test_pairs_are_of_one_run_whatever_the_host_was_like_in_the_other(tmp_path: Path) -> None:
    """On the second day all takes a hundred times as long; in each round a container takes as much longer as before."""
    days = {3: 1.0, 4: 100.0}
    runs = [write(tmp_path, day, rounds=8, scale=lambda *_, slow=slow: slow) for day, slow in days.items()]
    alone, both = report(runs[0], runs[1]), reports.build(runs[0])
    merged = next(one for one in alone.comparisons if one.metric == "ready_seconds")
    single = next(one for one in both.comparisons if one.metric == "ready_seconds")
    assert merged.rounds == 16
    assert merged.p == pytest.approx(2 / 2**16)  # all 16 rounds agree: the least that signs can give
    assert merged.ratio == pytest.approx(single.ratio, rel=0.2)
    assert (merged.verdict, merged.word) == ("higher", "slower")


def test_runs_that_do_not_agree_are_told_and_runs_that_do_are_not(tmp_path: Path) -> None:
    def slower(label: str, metric: str) -> float:
        return 1.3 if label == "container" else 1.0

    same = [write(tmp_path / "same", day, rounds=10) for day in (3, 4)]
    other = [write(tmp_path / "other", 3, rounds=10), write(tmp_path / "other", 4, rounds=10, scale=slower)]
    assert report(*same).disagreements == ()
    (told,) = report(*other).disagreements
    assert told.startswith("container, ready: ")
    assert told.index("in run-3") < told.index("in run-4")
    few = [write(tmp_path / "few", 3, rounds=4), write(tmp_path / "few", 4, rounds=4, scale=slower)]
    assert report(*few).disagreements == ()


def test_the_test_of_several_groups_keeps_its_level() -> None:
    """Of groups that are alike one in a hundred is called unlike; of groups that are not, all are."""
    rng = np.random.default_rng(1)
    alike = [ranks.several([rng.lognormal(size=6) for _ in range(3)]) <= 0.05 for _ in range(2000)]
    assert 0.025 < sum(alike) / 2000 < 0.06
    assert ranks.several([np.arange(8.0), np.arange(8.0) + 20, np.arange(8.0) + 40]) < 0.001
    assert ranks.several([np.ones(6), np.ones(6), np.ones(6)]) == 1.0
    assert ranks.several([np.arange(6.0), np.arange(6.0) + 9]) == ranks.summed(np.arange(6.0), np.arange(6.0) + 9)


def _host(**changes: Any) -> dict[str, Any]:
    return {"host": msgspec.structs.replace(fixture.HOST, **changes)}


UNLIKE: dict[str, tuple[dict[str, Any], str]] = {
    "machine": (_host(machine_id="another"), "machine was 0123456789abcdef, is another"),
    "kernel": (_host(kernel="6.19.0"), "kernel was 6.18.0, is 6.19.0"),
    "memory": (_host(memory_bytes=12 << 30), "memory was"),
    "boot": (_host(boot_id="another"), "the host was rebooted"),
    "setting": (_host(facts={**fixture.HOST.facts, "swap": "4 GiB"}), "swap was 0 B, is 4 GiB"),
    "version": ({"tare_version": "0.2.0"}, "version of tare was 0.1.0, is 0.2.0"),
    "revision": ({"git": "ffff"}, "revision of tare was 0a1b2c3d, is ffff"),
    "library": ({"versions": {"python": "3.13.1"}}, "python was 3.11.2, is 3.13.1"),
    "scenario": ({"name": "quick"}, "scenario was startup, is quick"),
    "time-out": ({"timeout_s": 5.0}, "time-out was 30 s, is 5 s"),
    "warm-ups": ({"warmup": 3}, "warm-ups was 1, is 3"),
    "reference": ({"reference": "container"}, "reference was process, is container"),
    "subjects": ({"subjects": [fixture.subject("process")]}, "container: it is in run-3 alone"),
    "skipped": (
        {"subjects": [fixture.subject("process"), fixture.subject("container", skipped="no root")]},
        "container: it was skipped in run-4",
    ),
    "engine": (
        {"subjects": [fixture.subject("process"), fixture.subject("container", version="tare 0.2.0")]},
        "container: version was tare 0.1.0, warm helper, is tare 0.2.0",
    ),
    "option": (
        {"subjects": [fixture.subject("process"), fixture.subject("container", options={"network": "none"})]},
        "container: options was none, is network = none",
    ),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_unlike_runs_are_refused_by_name_and_merged_by_force_with_a_warning(tmp_path: Path, name: str) -> None:
    changes, said = UNLIKE[name]
    first, second = write(tmp_path, 3), write(tmp_path, 4, **changes)
    with pytest.raises(UsageError, match="cannot be merged") as refused:
        reports.merge([first, second])
    assert said in refused.value.why
    assert "--force" in refused.value.fix
    found = report(first, second, force=True)
    assert any(text.startswith("run-4: ") and said in text for text in found.unlike), found.unlike
    assert all(subject.figure("ready_seconds").median for subject in found.subjects)


def test_the_schema_of_the_records_is_one_of_the_fields(tmp_path: Path) -> None:
    first, second = write(tmp_path, 3), dataclasses.replace(write(tmp_path, 4), schema=2)
    with pytest.raises(UsageError) as refused:
        reports.merge([first, second])
    assert f"schema of the records was {SCHEMA_VERSION}, is 2" in refused.value.why


DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "cache": ({"cache": "cold"}, "cache is 'warm' in the first and 'cold' in the second"),
    "grant": (
        {"subjects": [fixture.subject("process"), fixture.subject("container", memory_bytes=1 << 20)]},
        "container: memory is",
    ),
    "class of result": (
        {"subjects": [fixture.subject("process"), fixture.subject("vm", "container", accelerator="kvm")]},
        "container: class of result is",
    ),
}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", DIFFERENT)
def test_different_things_are_never_merged(tmp_path: Path, name: str, force: bool) -> None:
    changes, said = DIFFERENT[name]
    with pytest.raises(UsageError, match="cannot be merged") as refused:
        reports.merge([write(tmp_path, 3), write(tmp_path, 4, **changes)], force=force)
    assert said in refused.value.why
    assert "--force" not in refused.value.fix


def test_one_run_counts_once(tmp_path: Path) -> None:
    run = write(tmp_path, 3)
    with pytest.raises(UsageError, match="is given twice"):
        reports.merge([run, run], force=True)


def test_what_was_free_to_differ_does(tmp_path: Path) -> None:
    assert report(write(tmp_path, 3, rounds=4), write(tmp_path, 4, rounds=9, seed=77)).unlike == ()


def test_page_terminal_and_json_say_what_was_merged_and_what_differs(tmp_path: Path) -> None:
    write(tmp_path, 3)
    write(tmp_path, 4, **_host(kernel="6.19.0 <b>&"))
    words = ("report", tmp_path / "run-3", tmp_path / "run-4")
    assert "kernel was 6.18.0, is 6.19.0" in fails(*words)
    assert "--force needs several runs" in fails("report", tmp_path / "run-3", "--force")
    done = warm.tare(*words, "--force", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "merged-report.html\n")
    assert "merged by force" in done.stderr
    page = (tmp_path / "merged-report.html").read_text("utf-8")
    assert "Merged from 2 runs of this host" in page
    assert "run-4: kernel was 6.18.0, is 6.19.0 &lt;b&gt;&amp;" in page
    assert not (tmp_path / "run-3" / "report.html").exists()
    told = json.loads(warm.tare(*words, "--force", "--json").stdout)
    assert [(run["run"], run["rounds"], run["seed"]) for run in told["merged"]] == [("run-3", 10, 3), ("run-4", 10, 4)]
    assert told["unlike"] == ["run-4: kernel was 6.18.0, is 6.19.0 <b>&"]
    console = Console(width=80, record=True, file=io.StringIO())
    runs = [store.load(tmp_path / name) for name in ("run-3", "run-4")]
    console.print(reports.render(report(*runs, force=True)))
    text = console.export_text()
    assert "Merged from 2 runs" in text
    assert text.index("WARNING: merged by force") < text.index("95 % CI")


def test_logs_and_configuration_are_those_of_their_runs(tmp_path: Path) -> None:
    failing = fixture.subject("container")
    subjects = [
        fixture.subject("process"),
        fixture.Subject(record=failing.record, shape=failing.shape, failed_rounds={2: "it broke, on this day"}),
    ]
    write(tmp_path, 3)
    write(tmp_path, 4, subjects=subjects, rounds=12)
    (tmp_path / "run-4.zip").write_bytes(packed.pack(tmp_path / "run-4"))
    done = warm.tare("report", tmp_path / "run-3", tmp_path / "run-4.zip", "-o", "-")
    assert done.returncode == 0, done.stderr
    assert "it broke, on this day" in done.stdout
    assert "run-4/logs/" in done.stdout
    assert "ociVersion" in done.stdout
    assert "packed-run-" not in done.stdout


def test_a_name_that_leads_out_of_its_run_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret")
    first = fixture.write_run(tmp_path / "run-3", [fixture.subject("process")])
    header = json.loads((first / "run.json").read_text())
    header["subjects"][0]["manifest"] = ["../secret", "../run-4/run.json"]
    (first / "run.json").write_text(json.dumps(header))
    write(tmp_path, 4, subjects=[fixture.subject("process")])
    done = warm.tare("report", first, tmp_path / "run-4", "-o", "-")
    assert done.returncode == 0, done.stderr
    assert "a secret" not in done.stdout
    assert done.stdout.count("is outside the run directory") == 2
