"""The pages of all runs and of a comparison in a browser: quiet, fitting, searched with script, whole without."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from tests.browser.quiet import quiet

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LONG = "container-with-a-label-that-is-much-too-long-for-any-column"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("script", [True, False])
@pytest.mark.parametrize("name", ["index", "compared"])
def test_the_page_is_quiet_and_fits(
    browser: Browser, made: dict[str, Path], name: str, width: int, scheme: Literal["light", "dark"], script: bool
) -> None:
    with quiet(browser, made[name], width, color_scheme=scheme, java_script_enabled=script) as page:
        assert page.locator("h1").is_visible()
        if not script:
            assert page.locator("input, select").count() == 0
            assert page.locator("tbody tr").count() > 5


def shown(page: Page) -> tuple[int, int]:
    """How many rows and how many charts are seen."""
    rows, charts = page.locator(".runs tbody tr"), page.locator(".small li")
    return sum(one.is_visible() for one in rows.all()), sum(one.is_visible() for one in charts.all())


def test_runs_are_searched_and_filtered(browser: Browser, made: dict[str, Path]) -> None:
    page = browser.new_page()
    try:
        page.goto(made["index"].as_uri())
        assert shown(page) == (7, 5)
        page.get_by_label("search").fill("20260203")
        assert shown(page) == (1, 5)
        assert page.get_by_text("1 of 7 runs").is_visible()
        page.get_by_label("search").fill("")
        page.get_by_label("scenario").select_option("quick")
        assert shown(page) == (3, 2)
        page.get_by_label("scenario").select_option("")
        page.get_by_label("subject").select_option(LONG)
        assert shown(page) == (3, 1)
        page.get_by_label("subject").select_option("")
        page.get_by_label("from").fill("2026-02-02")
        page.get_by_label("until").fill("2026-02-04")
        assert shown(page)[0] == 3
    finally:
        page.close()
