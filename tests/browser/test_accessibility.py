"""What axe-core finds in a page of each sort: nothing that WCAG 2.2 asks for on level A or AA."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.conftest import first

if TYPE_CHECKING:
    from playwright.sync_api import Browser

KINDS = [
    "startup",
    "calibration",
    "partial",
    "empty",
    "long",
    "memory",
    "density",
    "watched",
    "least-memory",
    "index",
    "compared",
]
#: Its rules for these levels of WCAG alone: what it calls best practice is a matter of taste.
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
#: What the colours of a scheme can change; all else was judged in the light one.
CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
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


def look(browser: Browser, path: Path, axe: str, *, scheme: Literal["light", "dark"], width: int = 1280) -> list[str]:
    """What axe finds in the page, with everything unfolded."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    try:
        page = context.new_page()
        page.goto(path.as_uri())
        page.evaluate(UNFOLD)
        page.evaluate(axe)
        rules = RULES if scheme == "light" else CONTRAST
        return violations(page.evaluate("rules => axe.run(document, rules)", rules))
    finally:
        context.close()


#: Pages share their colours: in the dark scheme three of them are looked at each time, the others by the long proofs.
DARK = sorted(KINDS, key=lambda name: name not in ("startup", "memory", "index"))
LOOKS: list[tuple[str, str]] = [*((name, "light") for name in KINDS), *((name, "dark") for name in DARK)]


@pytest.mark.parametrize("shown", first(len(KINDS) + 3, LOOKS), ids="-".join)
def test_nothing_in_a_page_keeps_a_reader_out(
    browser: Browser,
    pages: dict[str, Path],
    made: dict[str, Path],
    axe: str,
    shown: tuple[str, Literal["light", "dark"]],
) -> None:
    name, scheme = shown
    assert look(browser, {**pages, **made}[name], axe, scheme=scheme) == []


@pytest.mark.parametrize("name", first(2, ["startup", "memory", "watched", "index", "compared"]))
def test_nor_on_a_phone(browser: Browser, pages: dict[str, Path], made: dict[str, Path], axe: str, name: str) -> None:
    assert look(browser, {**pages, **made}[name], axe, scheme="light", width=390) == []


@pytest.mark.parametrize("name", first(1, ["startup", "density"]))
def test_nor_without_the_script(browser: Browser, pages: dict[str, Path], axe: str, tmp_path: Path, name: str) -> None:
    head, _, _ = pages[name].read_text("utf-8").partition('<script type="module">')  # axe itself is one
    bare = tmp_path / "bare.html"
    bare.write_text(f"{head}</body></html>", encoding="utf-8")
    assert look(browser, bare, axe, scheme="light") == []
