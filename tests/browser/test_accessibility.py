"""What axe-core finds in a page of each sort: nothing that WCAG 2.2 asks for on level A or AA."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

KINDS = ["startup", "calibration", "partial", "empty", "long", "memory", "density", "watched", "least-memory"]
#: Its rules for these levels of WCAG alone: what it calls best practice is a matter of taste.
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
#: Everything that a reader can unfold.
UNFOLD = "() => { for (const one of document.querySelectorAll('details')) one.open = true; }"


@pytest.fixture(scope="session")
def axe() -> str:
    return resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")


def violations(found: dict[str, Any]) -> list[str]:
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:160]}: {node['failureSummary'].splitlines()[-1].strip()}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "script"), [(1280, True), (1280, False), (390, True)])
@pytest.mark.parametrize("name", KINDS)
def test_nothing_in_a_page_keeps_a_reader_out(
    browser: Browser,
    pages: dict[str, Path],
    axe: str,
    name: str,
    width: int,
    script: bool,
    scheme: Literal["light", "dark"],
) -> None:
    path = pages[name]
    if not script:  # axe itself is one: so the page's own is taken away
        head, _, _ = path.read_text("utf-8").partition('<script type="module">')
        path = path.with_name("bare.html")
        path.write_text(f"{head}</body></html>", encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    try:
        page = context.new_page()
        page.goto(path.as_uri())
        page.evaluate(UNFOLD)
        page.evaluate(axe)
        assert violations(page.evaluate("rules => axe.run(document, rules)", RULES)) == []
        assert page.locator("button").count() == 0 or script
    finally:
        context.close()
