"""What figures show agrees with the analysis: lengths are to scale, shares add up, nothing is told by colour alone."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path

import pytest

from tare import reports
from tare.bench.records import store
from tare.reports.analysis.build import Analysed
from tare.reports.charts import svg
from tare.reports.charts.looks import SHAPES, Look, looks
from tare.reports.charts.multiples import Cell, scales
from tare.reports.page import render
from tare.reports.sections.ramp.charts import memory_charts
from tare.reports.sections.startup import layers, timeline
from tests.unit.reports import fixture as synthetic
from tests.unit.reports import ramps_fixture as ramps

pytestmark = pytest.mark.slow

SVG = "{http://www.w3.org/2000/svg}"
WIDTH = re.compile(r"--w: ([\d.]+)%")


@pytest.fixture(scope="module")
def startup(tmp_path_factory: pytest.TempPathFactory) -> Analysed:
    return reports.analyse(store.load(synthetic.write_run(tmp_path_factory.mktemp("startup") / "run")))


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Analysed:
    subjects = [ramps.process(), ramps.container(), ramps.container("other"), ramps.vm()]
    return reports.analyse(store.load(ramps.write(tmp_path_factory.mktemp("memory") / "run", subjects, rounds=8)))


def charts(page: str) -> list[ET.Element]:
    return [ET.fromstring(chart) for chart in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)]


def texts(chart: ET.Element) -> list[str]:
    return ["".join(text.itertext()) for text in chart.iter(f"{SVG}text")]


def test_phases_are_shares_that_add_up(startup: Analysed) -> None:
    for subject in startup.report.subjects:
        for span in ("start", "stop"):
            mine = [phase for phase in subject.phases if phase.span == span]
            assert sum(phase.share for phase in mine) == pytest.approx(1.0)
            whole = sum(phase.duration for phase in mine)
            assert [phase.share for phase in mine] == pytest.approx([phase.duration / whole for phase in mine])


def test_a_bar_of_phases_is_as_long_as_its_shares_say(startup: Analysed) -> None:
    page = reports.html(startup)
    bars = re.findall(r'<div class="share k-.*?<div class="strip".*?</div>', page, flags=re.DOTALL)
    drawn = [[float(width) for width in WIDTH.findall(bar)] for bar in bars if "length" not in bar.split(">")[0]]
    shown = [*timeline.timelines(startup.report, "start"), *timeline.timelines(startup.report, "stop")]
    assert len(drawn) == len(shown) == 10
    for widths, bar in zip(drawn, shown, strict=True):
        assert sum(widths) == pytest.approx(100.0, abs=0.01)
        assert widths == pytest.approx([100 * piece.share for piece in bar.pieces], abs=0.001)
    # The reason for all this: 3 s must not be drawn shorter than a part of them.
    assert {bar.whole for bar in shown} > {"1.01 ms", "3.16 s"}


def test_phases_whose_medians_add_up_to_another_number_say_so(tmp_path: Path) -> None:
    # Either of two phases is long, never both: the medians are those of the short ones and of the long ones.
    path = synthetic.write_run(tmp_path / "run", [synthetic.subject("process")], rounds=9)
    lines = (path / "samples.jsonl").read_text("utf-8").splitlines()
    swapped = []
    for given in lines:
        line = given
        found = re.search(r'"metric":"(created|first|ready)_seconds","value":([\d.e-]+)', line)
        trial = re.search(r'"round":(\d+)', line)
        assert trial
        if found:
            late = int(trial[1]) % 3
            value = {"created": 5.0 if late == 1 else 1.0, "first": 6.0 if late else 2.0, "ready": 7.0}[found[1]]
            line = given.replace(f'"value":{found[2]}', f'"value":{value}')
        swapped.append(line)
    (path / "samples.jsonl").write_text("\n".join(swapped) + "\n", encoding="utf-8")
    (bar,) = timeline.timelines(reports.build(store.load(path)), "start")
    assert bar.whole == "7.00 s"
    assert bar.note == "The medians of the phases add up to 3.00 s."
    assert sum(piece.share for piece in bar.pieces) == pytest.approx(1.0)


def test_memory_when_ready_is_drawn_on_one_linear_scale(startup: Analysed) -> None:
    bars, axis = layers.memory(startup.report)
    medians = {one.label: one.figure("pss_bytes").median or 0.0 for one in startup.report.subjects}
    assert {bar.subject.label: bar.share for bar in bars} == pytest.approx(
        {label: value / max(medians.values()) for label, value in medians.items()}
    )
    assert axis.ticks[-1] == bars[-1].shown == "188 MiB"


def test_owners_of_memory_have_shares_that_add_up(memory: Analysed) -> None:
    for stack in memory.report.analysis.layers_memory:
        assert sum(owner.share for owner in stack.owners) == pytest.approx(1.0)
        for one, other in combinations([owner for owner in stack.owners if owner.share], 2):
            assert one.share / other.share == pytest.approx(one.bytes / other.bytes)


def test_the_bars_of_the_ledger_are_to_scale(memory: Analysed) -> None:
    bars = memory_charts.at_most(memory.report)
    chart = ET.fromstring(memory_charts.balance(bars, width=900, name="b", title="balance"))
    for bar in bars:
        wanted = sorted(abs(value) for value in bar.groups.values() if abs(value) > 0.02 * bar.reach)
        found = []
        for group in chart.iter(f"{SVG}g"):
            path = group.find(f"{SVG}path")
            if group.get("data-subject") != bar.label or path is None or "clip-path" not in path.attrib:
                continue
            x = [float(x) for x in re.findall(r"[ML] ([\d.]+) ", path.attrib["d"])]
            found.append(max(x) - min(x))
        widest = max(found)
        if bar.emulated:  # its hatched ground is as wide as the chart
            found.remove(widest)
        drawn = sorted(found)[-len(wanted) :]
        for (a, b), (p, q) in zip(pairwise(wanted), pairwise(drawn), strict=True):
            assert q / p == pytest.approx(b / a, rel=0.02), bar.label


def cell(label: str, y: Sequence[float], x: Sequence[float] = (1, 10), *, emulated: bool = False) -> Cell:
    look = Look(colour=svg.INK, marker="o", glyph="●", emulated=emulated)
    return Cell(label=label, look=look, number="", x=x, y=y)


def test_charts_share_a_scale_or_say_which_they_have() -> None:
    near = scales([cell("a", [1.0, 2.0]), cell("b", [9.0, 12.0], (1, 40))])
    assert [one.letter for one in near] == ["", ""]
    assert near[0] == near[1]
    assert (near[0].x, near[0].y) == ((0.0, 40), (0.0, 12.0))
    far = scales([cell("a", [1.0, 2.0]), cell("b", [900.0]), cell("c", [-3.0, 4.0]), cell("d", [2.0], (1, 5000))])
    assert [one.letter for one in far] == ["A", "B", "A", "C"]
    assert far[0].y == far[2].y == (-3.0, 4.0)
    flat = scales([cell("a", [0.0]), cell("b", [0.0])])
    assert flat[0].y == flat[1].y == (0.0, 1.0)


@pytest.mark.parametrize("which", ["startup", "memory"])
def test_text_is_large_enough_and_axes_have_titles(which: str, request: pytest.FixtureRequest) -> None:
    page = reports.html(request.getfixturevalue(which))
    for chart in charts(page):
        sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", ET.tostring(chart, "unicode"))]
        assert min(sizes) >= 13.0
        assert any(re.search(r"scale|living instances|^round$|^instances$", text) for text in texts(chart))
    if which == "memory":
        growth = next(chart for chart in charts(page) if "Host memory by number" in "".join(chart.itertext()))
        assert {"host memory, MiB, scale A", "host memory, MiB, scale B"} <= set(texts(growth))


@pytest.mark.parametrize("which", ["startup", "memory"])
def test_all_marks_of_an_emulated_subject_have_its_class(which: str, request: pytest.FixtureRequest) -> None:
    page = reports.html(request.getfixturevalue(which))
    for chart in charts(page):
        mine = [group for group in chart.iter(f"{SVG}g") if group.get("data-subject") == "vm"]
        assert mine
        assert {group.get("class") for group in mine} == {"emulated"}
        others = [group for group in chart.iter(f"{SVG}g") if group.get("data-subject") not in (None, "vm")]
        assert {group.get("class") for group in others} == {None}
    assert page.count('class="kind k-vm emulated"') >= 1


def test_subjects_of_one_kind_have_shapes_of_their_own(startup: Analysed) -> None:
    found = looks(startup.report.subjects)
    assert len({look.marker for look in found.values()}) == len(found) == 5
    assert found["vm"].glyph in {hollow for _, _, hollow in SHAPES}
    page = reports.html(startup)
    for label, look in found.items():
        assert f'data-subject="{label}" data-shape="{look.glyph}"' in page


def test_a_label_cannot_style_itself(tmp_path: Path) -> None:
    label = "\N{INVISIBLE SEPARATOR}strong:me\N{INVISIBLE SEPARATOR}<b>"
    path = synthetic.write_run(tmp_path / "run", [synthetic.subject("process", label), synthetic.subject("crun")])
    page = reports.html(reports.analyse(store.load(path)))
    for chart in charts(page):
        assert "strong:me<b>" in {text[2:] for text in texts(chart) if text.startswith("● ")}


def test_a_long_label_keeps_its_end() -> None:
    assert svg.name_of("container-number-1", 12) == "contai…ber-1"
    assert len(svg.name_of("x" * 99, 12)) == 12
    assert svg.name_of("short", 12) == "short"


# ---- The same thing, different number


def test_each_definition_has_its_number_or_the_command_that_measures_it(startup: Analysed) -> None:
    time, memory = startup.report.quantities
    assert [one.ours for one in time.definitions] == [True, *[False] * (len(time.definitions) - 1)]
    for subject in startup.report.subjects:
        numbers = [number for one in time.definitions if (number := one.of(subject.label))]
        assert numbers[0].value == subject.figure("ready_seconds").median
        assert max(number.share for number in numbers) == 1.0
    commands = {one.name: one.command for one in time.definitions if not one.numbers}
    assert commands == {
        "without a helper that stays": "tare run runtime",
        "with a cold page cache": "tare run startup --cache cold",
    }
    assert memory.definitions[-1].command == "tare run memory"
    page = reports.html(startup)
    assert page.count("Not measured in this run: <code>tare run") == 3


def test_the_marginal_cost_is_the_one_number_and_the_counters_stand_behind_a_fold(memory: Analysed) -> None:
    (found,) = memory.report.quantities
    ours = found.definitions[0]
    assert ours.ours
    lines = {(line.subject, line.counter): line.b for line in memory.report.analysis.fits}
    assert {one.subject: one.value for one in ours.numbers} == {
        label: lines[label, "host_change"] for label in ("process", "container", "other", "vm")
    }
    names = [one.name for one in found.definitions]
    assert names[-6:] == ["RSS", "PSS", "USS", "cgroup", "MemFree", "MemAvailable"]
    assert found.definitions[-1].of("vm").value == lines["vm", "mem_available"]  # type: ignore[union-attr]
    page = reports.html(memory)
    assert page.count("Why other numbers differ") == 1
    table = page.partition('<section id="margin">')[2].partition("</table>")[0]
    assert table.count("<strong>") == 4


def test_nothing_is_claimed_by_a_definition_where_the_report_claims_nothing(tmp_path: Path) -> None:
    lost = ramps.Burden(each={"payload": 20 * ramps.MIB, "unaccounted": 3 * ramps.MIB})
    path = ramps.write(tmp_path / "run", [ramps.process(), ramps.container("lost", lost)], rounds=3)
    analysed = reports.analyse(store.load(path))
    (found,) = analysed.report.quantities
    ours = found.definitions[0].of("lost")
    assert ours is not None
    assert ours.value is None
    assert "no claim" in reports.html(analysed).partition("Why other numbers differ")[2].partition("</details>")[0]


# ---- Colours, as others see them

#: Machado, Oliveira, Fernandes (2009), severity 1.0, on linear RGB.
SEEN = {
    "all": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881),
    ),
}  # fmt: skip


def lab(colour: str, seen: str) -> tuple[float, float, float]:
    """CIE L*a*b* of a colour as somebody sees it (D65)."""
    given = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in given]
    r, g, b = (min(1.0, max(0.0, sum(m * c for m, c in zip(row, linear, strict=True)))) for row in SEEN[seen])
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883,
    )
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def palettes() -> dict[str, dict[str, str]]:
    css = (Path(render.__file__).parent / "report.css").read_text("utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)
    assert len(blocks) == 3
    return {
        name: dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block))
        for name, block in zip(("light", "dark", "print"), blocks, strict=True)
    }


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
@pytest.mark.parametrize("seen", SEEN)
def test_neighbours_stay_apart_for_those_who_see_fewer_colours(scheme: str, seen: str) -> None:
    known = palettes()[scheme]
    stack = [variable.removeprefix("--") for _, variable, _ in memory_charts.GROUPS.values() if variable]
    for one, other in [*pairwise(stack), *combinations(("process", "container", "sandbox", "vm"), 2)]:
        distance = math.dist(lab(known[one], seen), lab(known[other], seen))
        assert distance >= 14, f"{one} and {other} are {distance:.0f} apart"


def test_neighbours_differ_in_lightness_on_paper() -> None:
    known = palettes()["print"]
    stack = [variable.removeprefix("--") for _, variable, _ in memory_charts.GROUPS.values() if variable]
    for one, other in pairwise(stack):
        assert abs(lab(known[one], "all")[0] - lab(known[other], "all")[0]) >= 10, f"{one} and {other}"
