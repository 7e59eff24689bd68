"""A headless Chromium, and a page of each sort that looks different."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tare import reports
from tare.bench.records import store
from tests.conftest import require
from tests.unit.reports import fixture as synthetic
from tests.unit.reports import ramps_fixture as ramps

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LONG = "container-with-a-label-that-is-much-too-long-for-any-column"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        require("browser", False, "playwright is not installed (pip install playwright)")
        raise
    require("browser", CHROMIUM, "no chromium on PATH (apt install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield chromium
        finally:
            chromium.close()


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One report of each sort that looks different."""
    root = tmp_path_factory.mktemp("runs")
    pair = (("process", "process-again"),)
    long = synthetic.subject("container", LONG)
    dense = [ramps.process(), ramps.container(most=200), ramps.vm(counts=(1, 2, 3, 5, 8, 12, 20), most=40)]
    counts = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 3000, 4000, 5000)
    late = {"slab": 250 * ramps.KIB, "cache": -20 * ramps.KIB}
    bent = ramps.Burden(each=ramps.CONTAINER.each, late=late, bend=900)
    watched = [
        ramps.process(watched=True, noise=9.0 * ramps.MIB),
        ramps.container(burden=bent, counts=counts, watched=True, crowded=3000),
        ramps.vm(counts=(1, 2, 3, 5, 8, 12, 20, 30, 40), watched=True),
    ]
    many = [ramps.process(), ramps.container(), *(ramps.container(f"container-number-{n}") for n in range(4))]
    lost = ramps.Burden(each={"payload": 20 * ramps.MIB, "unaccounted": 3 * ramps.MIB, "cache": -ramps.MIB})
    many += [ramps.vm(), ramps.container("unbalanced-with-a-label-that-is-much-too-long", lost), *ramps.touched()]
    return {
        "memory": reports.write(ramps.write(root / "memory", many, rounds=8)),
        "density": reports.write(ramps.write(root / "density", dense, rounds=1, probe="density")),
        "watched": reports.write(ramps.write(root / "watched", watched, rounds=1, probe="density")),
        "least-memory": reports.write(ramps.least(root / "least-memory")),
        "startup": reports.write(synthetic.write_run(root / "startup")),
        "calibration": reports.write(synthetic.write_run(root / "calibration", synthetic.calibration(), pairs=pair)),
        "partial": reports.write(synthetic.write_run(root / "partial", done=2, state="running")),
        "empty": reports.write(synthetic.write_run(root / "empty", done=0, warmup=0, leaks=synthetic.LEAKS)),
        "long": reports.write(synthetic.write_run(root / "long", [long])),
    }


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of two scenarios on six days, one of which is damaged, and the first two of them compared."""
    results = tmp_path_factory.mktemp("overview")

    def growing(day: int) -> Callable[[str, str], float]:
        return lambda label, _: 1.0 + day * (label == LONG)

    for day in range(1, 7):
        name = "startup" if day % 2 else "quick"
        subjects = [synthetic.subject("process"), synthetic.subject("vm"), synthetic.subject("container", LONG)]
        synthetic.write_run(
            results / f"2026020{day}T101112Z-{name}-1a2b",
            subjects[: 3 if day % 2 else 2],
            rounds=10,
            seed=day,
            name=name,
            started_at=f"2026-02-0{day}T10:11:12+00:00",
            scale=growing(day),
        )
    (results / "broken").mkdir()
    (results / "broken" / "run.json").touch()
    paths = store.runs(results)
    page, compared = results / "index.html", results / "compared.html"
    page.write_text(reports.overview_html(reports.overview(paths), page), "utf-8")
    both = reports.compare_runs(store.load(paths[1]), store.load(paths[3]), fail_on=["ready_seconds:5%"])
    compared.write_text(reports.comparison_html(both), "utf-8")
    return {"index": page, "compared": compared}
