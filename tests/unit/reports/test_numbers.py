"""The numbers behind a figure: each mark leads to its row, whatever matplotlib makes of it, and no label gets out."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tare.reports.charts import numbers, svg
from tare.reports.charts.axes import labelled, log_limits

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</metadata></script><script>alert(1)</script>\"'&\u2028\u0001"


def drawn(fill: Any, columns: tuple[str, ...] = ("x", "y")) -> ET.Element:
    with svg.drawing("one"):
        canvas = Figure(figsize=(5, 3), dpi=72)
        fill(canvas.add_axes((0.1, 0.1, 0.8, 0.8)))
        return ET.fromstring(svg.render(canvas, name="one", title="t", description="d", columns=columns))


def behind(root: ET.Element) -> dict[str, Any]:
    found = root.find(f"{SVG}metadata")
    assert found is not None
    assert found.text
    data: dict[str, Any] = json.loads(found.text)
    return data


def rows_of(root: ET.Element) -> list[int]:
    return [int(one.attrib["data-row"]) for one in root.iter() if "data-row" in one.attrib]


@pytest.mark.parametrize("marker", ["o", "x", "*"])
@pytest.mark.parametrize("count", [1, 3, 200])
def test_every_dot_leads_to_its_row(marker: str, count: int) -> None:
    x, y = np.arange(1.0, count + 1), np.linspace(0.1, 0.2, count)

    def fill(axes: Axes) -> None:
        dots = axes.scatter(x, y, marker=marker)
        numbers.tell(dots, [(a, b, f"at {a:g}") for a, b in zip(x, y, strict=True)])
        numbers.belong(axes, "crun", emulated=False)

    root = drawn(fill)
    data = behind(root)
    assert data["columns"] == ["x", "y"]
    assert data["subjects"] == ["crun"]
    assert data["rows"] == [[0, a, b, f"at {a:g}"] for a, b in zip(x, y, strict=True)]
    assert rows_of(root) == list(range(count))
    places = [float(one.attrib["x"]) for one in root.iter(f"{SVG}use") if "data-row" in one.attrib]
    assert places == sorted(places)


def test_a_line_has_a_row_for_each_of_its_markers_and_a_bar_one() -> None:
    def fill(axes: Axes) -> None:
        with numbers.about(axes, "vm", emulated=True):
            (line,) = axes.plot([1, 2, 3], [4, 5, 6], marker="s")
            numbers.tell(line, [(n, n + 3, f"{n}") for n in (1, 2, 3)])
        with numbers.about(axes, "process", emulated=False):
            bar = axes.add_patch(Rectangle((0, 0), 1, 2))
            numbers.tell(bar, [(0, 2, "two")])

    root = drawn(fill)
    data = behind(root)
    assert [(data["subjects"][row[0]], row[-1]) for row in data["rows"]] == [
        ("process", "two"), ("vm", "1"), ("vm", "2"), ("vm", "3"),
    ]  # fmt: skip
    assert dict(zip(data["subjects"], data["emulated"], strict=True)) == {"process": False, "vm": True}
    assert rows_of(root) == [0, 1, 2, 3]
    classes = {one.get("data-subject"): one.get("class") for one in root.iter() if "data-subject" in one.attrib}
    assert classes == {"vm": "emulated", "process": None}


def test_one_shape_for_many_rows_is_no_mark_of_any_but_they_are_kept() -> None:
    def fill(axes: Axes) -> None:
        band = axes.fill_between([1, 2, 3], [0, 0, 0], [1, 2, 1])
        numbers.tell(band, [(1, 1, "a"), (2, 2, "b"), (3, 1, "c")])

    root = drawn(fill)
    assert len(behind(root)["rows"]) == 3
    assert rows_of(root) == []


def test_a_label_stays_a_label_and_what_is_no_number_is_nothing() -> None:
    def fill(axes: Axes) -> None:
        numbers.belong(axes, HOSTILE, emulated=False)
        numbers.tell(axes.scatter([1], [1]), [(math.nan, np.float64(3), HOSTILE)])

    root = drawn(fill)
    assert behind(root)["subjects"] == [HOSTILE.replace("\u0001", "\ufffd")]
    assert behind(root)["rows"] == [[0, None, 3, HOSTILE]]
    text = ET.tostring(root, encoding="unicode")
    assert "<script" not in text
    assert root.find(f"{SVG}metadata") is not None
    assert "\u2028" not in (root.findtext(f"{SVG}metadata") or "")


def test_a_figure_of_which_nothing_is_told_is_what_it_was() -> None:
    root = drawn(lambda axes: axes.scatter([1, 2], [1, 2]))
    assert root.find(f"{SVG}metadata") is None
    assert rows_of(root) == []


def test_the_drawing_for_a_phone_shares_the_numbers_of_the_one_for_a_desk() -> None:
    def draw(width: float, name: str) -> str:
        with svg.drawing(name):
            canvas = Figure(figsize=(width / 72, 3), dpi=72)
            axes = canvas.add_axes((0.1, 0.1, 0.8, 0.8))
            numbers.tell(axes.scatter([1, 2], [3, 4]), [(1, 3, "one"), (2, 4, "two")])
            return svg.render(canvas, name=name, title="t", description="d", columns=("x", "y"))

    page = svg.both("key", draw, 900)
    assert page.count("<metadata>") == 1
    assert page.count('data-chart="key"') == 2
    assert page.count("data-row=") == 4


@given(
    unit=st.sampled_from(["seconds", "bytes"]),
    points=st.sampled_from([180.0, 430.0, 900.0]),
    low=st.floats(1, 1e9),
    wide=st.floats(1, 1e6),
)
def test_labels_of_a_log_axis_never_touch(unit: str, points: float, low: float, wide: float) -> None:
    limits = log_limits([low / 1e6, low / 1e6 * wide] if unit == "seconds" else [low, low * wide])
    found = labelled(limits, unit, points)
    places = [points * math.log(value / limits[0]) / math.log(limits[1] / limits[0]) for value in found]
    # The last one ends at the end of the axis, where it would leave the picture otherwise; a label is 55 points wide.
    ends = [place if place > points - 20 else place + 55 if place < 20 else place + 27 for place in places]
    begins = [end - 55 for end in ends]
    assert all(begin >= end - 6 for end, begin in zip(ends, begins[1:], strict=False))
    assert places
