"""Tables and text of the terminal: at any width every figure is whole, and nothing is lost."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from tare.bench import experiments
from tare.bench.host.doctor import Diagnosis, RunnerDiagnosis
from tare.bench.records.header import Finding, Host
from tare.bench.records.metrics import show
from tare.bench.scenario import resolve
from tare.reports import words
from tare.reports.terminal import consoles, layout, listings
from tare.reports.terminal.layout import Lines

WIDTHS = st.integers(20, 200)
LABEL = st.from_regex(r"[a-z0-9][a-z0-9./+-]{0,39}", fullmatch=True)
FIGURE = st.one_of(
    st.builds(show, st.floats(1e-12, 1e12), st.sampled_from(["seconds", "bytes", "ratio", "count"])),
    st.builds(words.ratio, st.floats(1e-9, 1e9)),
    st.just("—"),
)
SPAN = st.builds("{} to {}".format, FIGURE, FIGURE)
TITLES = ("subject", "ready", "95 % CI", "verdict")
ROWS = st.lists(
    st.tuples(LABEL, FIGURE, SPAN, st.sampled_from(["faster", "no difference shown"])), min_size=1, max_size=6
)
PROSE = st.lists(st.one_of(LABEL, FIGURE), max_size=30).map(" ".join)


def plain(lines: object) -> list[str]:
    return [line.plain for line in lines]  # type: ignore[attr-defined]


@given(ROWS, WIDTHS)
def test_no_cell_of_a_table_is_cut_or_broken(rows: list[tuple[str, ...]], width: int) -> None:
    """A cell is whole where the terminal has room for it, and each of its figures everywhere."""
    table = layout.Table(titles=TITLES, rows=[[Text(cell) for cell in row] for row in rows], left=(3,))
    shown = plain(table.lines(width))
    for cell in itertools.chain.from_iterable(rows):
        whole = cell_len(cell) <= width - 2 * layout.GAP
        for part in [cell] if whole else words.together(cell).split(" "):
            assert any(part in words.together(line) or part in line for line in shown), (cell, shown)
    longest = max(cell_len(word) for row in rows for cell in row for word in words.together(cell).split(" "))
    assert all(cell_len(line) <= max(width, longest + 2 * layout.GAP) for line in shown)
    assert all(line == line.rstrip() for line in shown)


@given(ROWS)
def test_a_wide_terminal_has_one_line_a_row(rows: list[tuple[str, ...]]) -> None:
    table = layout.Table(titles=TITLES, rows=[[Text(cell) for cell in row] for row in rows])
    assert len(plain(table.lines(10_000))) == len(rows) + 2


@given(PROSE, WIDTHS)
def test_wrapped_text_is_the_text_and_no_figure_is_parted_from_its_unit(text: str, width: int) -> None:
    lines = plain(layout.wrap(Text(text), width, "• ", "  "))
    assert [line[:2] for line in lines] == ["• ", *["  "] * (len(lines) - 1)]
    assert " ".join(line[2:] for line in lines).split() == text.split()
    assert not any(
        re.search(r"\d$", before) and re.match(r"  (%|[KMG]iB|B|ns|µs|ms|s)( |$)", line)
        for before, line in itertools.pairwise(lines)
    )
    for line in lines:
        assert cell_len(line) <= width or len(re.findall(r"[^ ]+", words.together(line[2:]))) == 1


def test_a_long_path_is_never_broken() -> None:
    path = "/a/very/long/path" * 9
    assert plain(layout.wrap(Text(f"see {path} there"), 40)) == ["see", path, "there"]


def test_line_ends_and_empty_text_are_kept() -> None:
    assert plain(layout.wrap(Text("a\n\nb"), 40, "• ", "  ")) == ["• a", "  ", "  b"]
    assert plain(layout.wrap(Text(""), 40)) == [""]


WIDE = "/a/long/path/that/no/terminal/of/eighty/columns/has/room/for/at/all/in/its/lines"
HOST = Host(
    machine_id="m", boot_id="b", cpu_model="A processor with a long name", cpus=2, memory_bytes=1, kernel="6.18.0-long",
    cgroup_mode="v2", virtualization="none", facts={"transparent huge pages": "madvise", "swap": "1023 KiB"},
    findings=(Finding(name="virtualization", level="note", what="nested", fix="echo 0 > /sys/kernel/mm/ksm/run"),),
)  # fmt: skip
DIAGNOSIS = Diagnosis(
    host=HOST,
    runners=(
        RunnerDiagnosis(
            name="container-cold", kind="container", ok=False, version="", accelerator=None,
            why=f"cannot read {WIDE}: \x1b[31mno",
            fix="install it", facts={},
        ),
    ),
    fit=True,
)  # fmt: skip
RUNS = [
    {
        "run": "/a/long/directory/of/results/" + "x" * 60, "scenario": "startup", "state": "complete",
        "started_at": "2026-02-03T10:11:12+00:00", "why": "",
    },
    {"run": "results/runs/bad", "scenario": "", "state": "unreadable", "started_at": "", "why": "damaged"},
]  # fmt: skip


@pytest.mark.parametrize("width", [20, 40, 80, 200, consoles._ENDLESS])
def test_every_view_keeps_its_words_whole_at_any_width(width: int) -> None:
    planned = experiments.plan(experiments.scenario(resolve.find("calibration")))
    views = {
        "doctor": consoles.diagnosis(DIAGNOSIS, width),
        "runs": listings.table_of_runs(RUNS, width),
        "scenarios": listings.table_of_scenarios([("startup", "Why? " * 30, "a b c " * 30)], width),
        "plan": consoles.plan(planned, "about 17 min 4 s", width),
    }
    wanted = {
        "doctor": [f"{WIDE}:", "1023 KiB", "6.18.0-long,", "/sys/kernel/mm/ksm/run", "container-cold"],
        "runs": [RUNS[0]["run"], "2026-02-03 10:11", "unreadable", "results/runs/bad"],
        "scenarios": ["startup", "Why?"],
        "plan": ["container-200ms", "17 min 4 s"],
    }  # fmt: skip
    for name, view in views.items():
        assert isinstance(view, Lines)
        lines = plain(view.lines)
        for word in wanted[name]:
            assert any(word in line for line in lines), (name, word, lines)
        assert "\x1b" not in "".join(lines)
        assert all(line == line.rstrip() for line in lines), name
        long = [line for line in lines if len(line) > width]
        assert all(max(map(len, line.split())) + 30 > width for line in long), (name, long)


def test_fields_for_a_pipe_have_one_line_a_row_whatever_is_in_them() -> None:
    assert listings.fields([("a", "b\tc\nd", "/x  y")]) == "a\tb?c?d\t/x  y\n"
