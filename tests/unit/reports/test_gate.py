"""``tare compare``: its sentence, its gate, its page, its Markdown."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from markdown_it import MarkdownIt

from tare import reports
from tare.bench.errors import InvalidError, RegressionError, UsageError
from tare.bench.records import store
from tare.bench.records.metrics import METRICS, Metric
from tare.bench.stats.compare import compare
from tare.reports import markdown
from tare.reports.analysis.figures import Compared
from tare.reports.analysis.several import gate
from tare.reports.analysis.several.model import Gated, RunsComparison
from tests import warm
from tests.unit.reports import fixture
from tests.warm import fails

HOSTILE = "a|b`c`*d*<img src=x onerror=alert(1)>[x](http://e.com)@octocat#12 GH-3 www.e.com :tada: $x$"


def write(path: Path, slower: float = 1.0, rounds: int = 12, **changes: Any) -> Path:
    """A run in which a container takes *slower* times as long."""
    subjects = changes.pop("subjects", [fixture.subject("process"), fixture.subject("container")])
    return fixture.write_run(
        path, subjects, rounds=rounds, scale=lambda label, _: slower if label == "container" else 1.0, **changes
    )


def comparison(tmp_path: Path, slower: float = 1.0, *, fail_on: tuple[str, ...] = (), **changes: Any) -> RunsComparison:
    before = store.load(write(tmp_path / "before", seed=1))
    after = store.load(write(tmp_path / "after", slower, seed=2, **changes))
    return reports.compare_runs(before, after, fail_on=fail_on)


def results(found: RunsComparison) -> dict[tuple[str, str], str]:
    return {(one.metric, one.subject): one.result for one in found.gated}


def test_what_got_worse_by_more_than_the_bound_fails(tmp_path: Path) -> None:
    found = comparison(tmp_path, 1.3, fail_on=("ready_seconds:5%", "pss_bytes:50%"))
    assert results(found) == {
        ("ready_seconds", "process"): "not worse", ("ready_seconds", "container"): "worse",
        ("pss_bytes", "process"): "not worse", ("pss_bytes", "container"): "not worse",
    }  # fmt: skip
    with pytest.raises(RegressionError, match="1 figure got worse") as failed:
        reports.conclude(found)
    assert failed.value.exit_code == 4
    assert re.fullmatch(
        r"container, ready: \+(2\d|3\d)\.\d %, with 95 % confidence at least \+2\d\.\d % \(bound: 5 %\)",
        failed.value.why,
    )


@pytest.mark.parametrize("slower", [1.0, 1.06, 0.7])
def test_what_did_not_is_fine(tmp_path: Path, slower: float) -> None:
    """Not even a change that is called: it is not shown to be larger than the bound; and faster is no failure."""
    found = comparison(tmp_path, slower, fail_on=("ready_seconds:5%",))
    assert set(results(found).values()) == {"not worse"}
    reports.conclude(found)


def compared(**changes: Any) -> Compared:
    base = Compared(
        subject="s", reference="s", metric="ready_seconds", title="ready", unit="seconds", why_compared="run",
        verdict="higher", word="slower", lead="", detail="no ratio.", ratio=1.2, low=1.1, high=1.3, p=0.001, rounds=12,
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def judged(metric: Metric, most: float, *found: Compared, missing: tuple[str, ...] = ()) -> list[Gated]:
    whole = RunsComparison(
        before="b", after="a", answer=(), comparisons=found, only_before=missing, only_after=(), differs=(), warnings=()
    )
    return list(gate.judge(whole, [gate.Bound(metric, most)]))


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({}, "worse"),
        ({"low": 1.05}, "not worse"),
        ({"low": 1.0500001}, "worse"),
        ({"p": 0.02}, "not worse"),
        ({"ratio": 0.5, "low": 0.4, "high": 0.6}, "not worse"),
        ({"p": None}, "not judged"),
        ({"low": None, "high": None}, "not judged"),
        ({"ratio": None}, "not judged"),
    ],
)
def test_the_whole_interval_lies_beyond_the_bound_and_chance_is_ruled_out(changes: dict[str, Any], result: str) -> None:
    assert [one.result for one in judged(METRICS["ready_seconds"], 0.05, compared(**changes))] == [result]


def test_the_worse_side_is_that_of_the_metric() -> None:
    rate = Metric(name="rate_count", unit="count", title="rate", meaning="", most=1e9, lower_is_better=False)
    less = compared(metric="rate_count", ratio=0.8, low=0.75, high=0.9)
    assert [one.result for one in judged(rate, 0.05, less)] == ["worse"]
    assert [one.result for one in judged(rate, 0.10, less)] == ["not worse"]
    assert [one.result for one in judged(rate, 0.05, compared(metric="rate_count"))] == ["not worse"]


def test_where_nothing_can_be_judged_the_gate_is_not_passed(tmp_path: Path) -> None:
    found = comparison(tmp_path, 2.0, fail_on=("ready_seconds:5%",), rounds=3)
    assert set(results(found).values()) == {"not judged"}
    with pytest.raises(InvalidError, match="could judge no subject"):
        reports.conclude(found)
    gone = judged(METRICS["ready_seconds"], 0.05, compared(low=1.0), missing=("vm",))
    assert [(one.subject, one.result) for one in gone] == [("s", "not worse"), ("vm", "not judged")]
    gate.conclude(gone)
    reports.conclude(comparison(tmp_path / "without"))


def test_a_change_of_exactly_the_bound_fails_about_once_in_forty() -> None:
    rng = np.random.default_rng(4)
    failed = 0
    for _ in range(600):
        before, after = rng.lognormal(0, 0.03, 12), 1.05 * rng.lognormal(0, 0.03, 12)
        found = compare(after, before, paired=False)
        failed += found.low is not None and found.low > 1.05 and found.p is not None and found.p <= 0.01
    assert failed <= 600 * 0.045


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("redy_seconds:5%", "did you mean 'ready_seconds'? known: created_seconds, first_seconds, ready_seconds"),
        ("margin_bytes:5%", "known: created_seconds"),
        ("ready_seconds:5", "METRIC:PERCENT%"), ("ready_seconds", "METRIC:PERCENT%"), (":5%", "METRIC:PERCENT%"),
        ("ready_seconds:-5%", "METRIC:PERCENT%"), ("ready_seconds:nan%", "METRIC:PERCENT%"), ("5%", "METRIC:PERCENT%"),
    ],
)  # fmt: skip
def test_a_bound_that_is_none_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        comparison(tmp_path, fail_on=(text,))
    assert text in refused.value.what
    assert said in refused.value.fix


def test_the_command_ends_with_the_code_of_its_gate_after_its_output(tmp_path: Path) -> None:
    runs = [write(tmp_path / "before", seed=1), write(tmp_path / "after", 1.3, seed=2)]
    for words in ((), ("--json",), ("--markdown",), ("-o", "-")):
        done = warm.tare("compare", *runs, "--fail-on", "ready_seconds:5%", "--fail-on", "pss_bytes:90%", *words)
        assert done.returncode == 4
        assert "container, ready: +" in done.stdout
        assert "1 figure got worse" in done.stderr
        if words == ("--json",):
            assert {one["result"] for one in json.loads(done.stdout)["gated"]} == {"worse", "not worse"}
    assert warm.tare("compare", *runs, "--fail-on", "ready_seconds:60%").returncode == 0
    assert "known: created_seconds" in fails("compare", *runs, "--fail-on", "nothing:5%")


def test_two_forms_at_once_are_refused(tmp_path: Path) -> None:
    for one, other in itertools.permutations((("--json",), ("--markdown",), ("-o", "x.html")), 2):
        for verb in (("report", "x"), ("compare", "x", "y")):
            done = warm.tare(*verb, *one, *other, cwd=tmp_path)
            assert (done.returncode, "exclude each other" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("slower", "rounds", "said"),
    [
        (1.0, 12, r"No difference was shown in the time to ready, in any of 2 subjects\."),
        (1.5, 12, r"1 of 2 subjects changed in the time to ready: container \+\d+\.\d %, 5\.\d\d ms to 8\.\d\d ms\."),
        (1.5, 3, r"There is no answer yet\."),
    ],
)
def test_a_comparison_begins_with_its_answer(tmp_path: Path, slower: float, rounds: int, said: str) -> None:
    found = comparison(tmp_path, slower, rounds=rounds)
    assert re.fullmatch(said, found.lead), found.lead
    assert found.grounds


def test_the_page_of_a_comparison_says_all_and_obeys_no_label(tmp_path: Path) -> None:
    subjects = [fixture.subject("process"), fixture.subject("container", HOSTILE), fixture.subject("vm")]
    before = write(tmp_path / "before", seed=1, subjects=subjects)
    after = write(tmp_path / "after", seed=2, subjects=subjects, timeout_s=5.0)
    done = warm.tare("compare", before, after, "--page", tmp_path / "page.html")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/page.html\n")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<img" not in page
    assert page.count("a|b`c`*d*&lt;img") > 5
    assert "time-out was 30 s, is 5 s" in page
    assert page.count('<tr class="metric">') == 7
    assert "software-emulated" in page
    assert re.search(r"default-src 'none'.*script-src 'sha256-[A-Za-z0-9+/=]+'", page)
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)


def test_a_page_shows_marks_where_their_ratio_is() -> None:
    from tare.reports.page.several import comparison as pages

    row = pages._row(compared(ratio=2.0, low=0.5, high=4.0), 4.0)
    assert (row.point, row.low, row.high) == (75.0, 25.0, 100.0)
    none = pages._row(compared(ratio=None, low=None, high=None), 4.0)
    assert (none.point, none.low, none.high) == (None, None, None)


def read(text: str) -> list[Any]:
    """What a reader of GitHub's dialect makes of *text*."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)


def test_markdown_is_tables_that_are_read_as_tables(tmp_path: Path) -> None:
    found = comparison(tmp_path, 1.3, fail_on=("ready_seconds:5%",))
    tokens = read(reports.as_markdown(found))
    kinds = [token.type for token in tokens]
    assert kinds.count("table_open") == 7
    assert kinds.count("th_open") == 7 * 7
    assert kinds.count("td_open") == 7 * 7 * 2
    assert "### 1 of 2 subjects changed" in reports.as_markdown(found)
    assert "> [!WARNING]" in reports.as_markdown(found)


def test_the_markdown_of_a_report_has_a_row_for_each_subject(tmp_path: Path) -> None:
    run = fixture.write_run(tmp_path / "run", leaks=fixture.LEAKS)
    done = warm.tare("report", run, "--markdown")
    assert done.returncode == 0
    kinds = [token.type for token in read(done.stdout)]
    assert kinds.count("table_open") == 2
    assert kinds.count("tr_open") == 2 * (1 + 5)
    assert "| `vm` (emulated) |" in done.stdout
    assert "runc exited with status 1" in done.stdout
    assert not (run / "report.html").exists()


TEXTS = [HOSTILE, "# head", "- item", "1. one", "> quote", "```", "~~~", "=== ---", "a\nb", "|", "\\|", "\\\\|", "&lt;"]


@pytest.mark.parametrize("text", TEXTS)
def test_no_text_of_a_run_means_anything_in_markdown(text: str) -> None:
    plain = {"text", "softbreak"}
    (_, inline, _) = read(markdown.escaped(text))
    assert inline.type == "inline"
    assert {child.type for child in inline.children} <= plain
    shown = "".join(child.content for child in inline.children).replace("\N{WORD JOINER}", "")
    assert shown == " ".join(text.split())


@pytest.mark.parametrize("label", [*TEXTS, "`", "``x", "x`", "a\n| b |", " ", "\x1b[31m", "vm", "process-50", "a b"])
def test_no_label_breaks_a_table(label: str) -> None:
    tokens = read(markdown._table(("subject", "x"), [(markdown.code(label), "1")], text=(0,)))
    assert [token.type for token in tokens].count("td_open") == 2
    cell = [token for token in tokens if token.type == "inline"][2]
    assert {child.type for child in cell.children} <= {"code_inline", "html_inline", "text"}
    marks = [child.content for child in cell.children if child.type == "html_inline"]
    assert marks in ([], ["<code>", "</code>"])
    shown = "".join(child.content for child in cell.children if child.type != "html_inline")
    assert shown.replace("\N{WORD JOINER}", "") == " ".join(label.replace("\x1b", "\N{REPLACEMENT CHARACTER}").split())


def test_what_github_makes_links_of_is_parted() -> None:
    text = markdown.escaped("@octocat #12 GH-3 www.e.com http://e.com a@e.com :tada:")
    for name in ("@octocat", "#12", "GH-3", "www.", "http:/", "@e.com", ":tada:"):
        assert name not in text
