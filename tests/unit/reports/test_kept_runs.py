"""Runs that were recorded before still give the answers that they gave then.

``tests/kept/runs-schema-1.zip`` holds one run of each experiment as tare recorded it before its packages were made
anew, each with what ``tare report --json`` printed of it at that time (``report.json``).
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tare import reports
from tare.bench.records.store import load
from tare.reports.analysis import noise
from tests import cli, warm

pytestmark = pytest.mark.slow

KEPT = cli.ROOT / "tests" / "kept" / "runs-schema-1.zip"
_NUMBER = re.compile(r"\d[\d.]*")
NAMES = ["startup", "memory", "density", "least-memory"]
#: Bounds of intervals and p-values may come by another way than then; all else is the same arithmetic.
BOUNDS = frozenset({"low", "high", "p", "p_adjusted", "interval"})


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("kept")
    with zipfile.ZipFile(KEPT) as archive:
        archive.extractall(place)
    return place


def differences(then: Any, now: Any, where: str = "") -> Iterator[str]:
    """Where *now* lacks or changes what *then* said; what is new is no difference."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key, value in then.items():
            if key not in now:
                yield f"{where}.{key} is gone"
            else:
                yield from differences(value, now[key], f"{where}.{key}")
    elif isinstance(then, list) and isinstance(now, list):
        if len(then) != len(now):
            yield f"{where}: {len(then)} became {len(now)}"
        for index, pair in enumerate(zip(then, now, strict=False)):
            yield from differences(*pair, f"{where}[{index}]")
    elif _number(then) and _number(now):
        bound = bool(BOUNDS & set(where.replace("[", ".").split(".")[-2:]))
        if not math.isclose(then, now, rel_tol=1e-3 if bound else 1e-9, abs_tol=1e-12):
            yield f"{where}: {then} became {now}"
    elif _sentence(then) or _sentence(now):
        # What a verdict rests on stands beside it in figures; its sentence may say a ratio the other way around.
        if not where.endswith(".detail") and _NUMBER.findall(str(then)) != _NUMBER.findall(str(now)):
            yield f"{where}: {then!r} became {now!r}"
    elif then != now:
        yield f"{where}: {then!r} became {now!r}"


def _sentence(value: Any) -> bool:
    """A text for people may get other words, not other numbers; verdicts and names are shorter, and stay."""
    return isinstance(value, str) and value.count(" ") >= 3


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@pytest.mark.parametrize("name", NAMES)
def test_the_figures_are_those_of_then(kept: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # They were recorded on a busy host, and nothing was refused for its noise then.
    monkeypatch.setattr(noise, "refuse", lambda *_, **__: None)
    then = json.loads((kept / name / "report.json").read_text(encoding="utf-8"))
    now = json.loads(msgspec.json.encode(reports.data(reports.build(load(kept / name)))))
    # A round in which others moved more memory than the instances did balances no longer, by definition.
    assert [one for one in differences(then, now) if ".rounds_balanced: " not in one] == []


def test_what_a_busy_host_spoilt_then_is_refused_now_with_its_numbers(kept: Path) -> None:
    then = json.loads((kept / "startup" / "report.json").read_text(encoding="utf-8"))
    now = reports.build(load(kept / "startup"))
    place = [one.label for one in now.subjects].index("container")
    old = next(one for one in then["subjects"][place]["figures"] if one["metric"] == "stopped_seconds")
    figure = now.subjects[place].figure("stopped_seconds")
    assert figure.median is None
    assert figure.refused is not None
    assert figure.refused.reason == "spread"
    assert (figure.refused.value, figure.refused.low) == (old["median"], old["low"])


@pytest.mark.parametrize("name", NAMES)
def test_they_have_a_page_and_a_text(kept: Path, name: str) -> None:
    page = reports.write(kept / name)
    assert "<svg" in page.read_text(encoding="utf-8")
    done = warm.tare("report", kept / name, "--json")
    assert done.returncode == 0, done.stderr


def test_a_difference_is_seen() -> None:
    then = {
        "a": [{"low": 1.0, "median": 2.0}],
        "gone": 1,
        "text": "x",
        "said": "it took 3 of 4 s",
        "told": "all of 2 s",
    }
    now = {
        "a": [{"low": 1.0005, "median": 2.0005}],
        "text": "y",
        "new": 0,
        "said": "3 of 4 s were needed",
        "told": "1 s",
    }
    assert list(differences(then, now)) == [
        ".a[0].median: 2.0 became 2.0005",
        ".gone is gone",
        ".text: 'x' became 'y'",
        ".told: 'all of 2 s' became '1 s'",
    ]
