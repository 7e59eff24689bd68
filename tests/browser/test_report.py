"""A headless Chromium reads the report: nothing in the console, nothing from the network, nothing sideways."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from tests.browser.quiet import quiet

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAGES = [
    "startup", "calibration", "partial", "empty", "long", "memory", "density", "watched", "least-memory",
]  # fmt: skip

#: Pairs of texts of one chart that lie over each other.
OVERLAPS = """() => [...document.querySelectorAll('svg.plot')].flatMap(svg => {
    const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim() && t.getClientRects().length);
    const boxes = texts.map(t => [t.textContent, t.getBoundingClientRect()]);
    return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([, q]) =>
        Math.min(p.right, q.right) - Math.max(p.left, q.left) > 1 &&
        Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 3
    ).map(([b]) => `${a} | ${b}`));
})"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_quiet_and_fits(
    browser: Browser, pages: dict[str, Path], name: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    with quiet(browser, pages[name], width, color_scheme=scheme) as page:
        assert page.evaluate(OVERLAPS) == []


#: Boxes of the first screen: the question, the answer, and the figure; the lowest edge of each.
FIRST_SCREEN = """() => ['.question', 'h1', '.bars'].map(name => {
    const box = document.querySelector(name)?.getBoundingClientRect();
    return box && box.height > 0 ? Math.round(box.bottom) : null;
})"""


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844), (1920, 1080)])
@pytest.mark.parametrize("name", ["startup", "calibration", "partial", "memory", "density", "watched"])
def test_the_first_screen_holds_question_answer_and_figure(
    browser: Browser, pages: dict[str, Path], name: str, width: int, height: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": height})
    try:
        page = context.new_page()
        page.goto(pages[name].as_uri())
        edges = page.evaluate(FIRST_SCREEN)
        assert None not in edges
        assert max(edges) <= height
    finally:
        context.close()


def test_the_scale_of_the_leading_figure_can_be_changed_without_script(
    browser: Browser, pages: dict[str, Path]
) -> None:
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(pages["startup"].as_uri())
        bar = page.locator(".bars li").first.locator(".fill")
        before = bar.bounding_box()
        page.locator(".lead-figure").get_by_label("logarithmic").check()
        after = bar.bounding_box()
        assert before
        assert after
        assert after["width"] > 5 * before["width"]
    finally:
        context.close()


def test_the_answer_is_there_and_the_scheme_is_followed(browser: Browser, pages: dict[str, Path]) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        try:
            page = context.new_page()
            page.goto(pages["startup"].as_uri())
            answer = page.locator("#answer").inner_text()
            assert "container is faster to become ready than crun" in answer
            assert "software-emulated: not comparable with an accelerated VM" in answer
            colours[scheme] = page.evaluate(
                "[getComputedStyle(document.body).backgroundColor,"
                " getComputedStyle(document.querySelector('svg.plot text')).fill]"
            )
        finally:
            context.close()
    assert colours["light"][0] != colours["dark"][0]
    assert colours["light"][1] != colours["dark"][1]


def test_print_is_light_even_in_a_dark_scheme(browser: Browser, pages: dict[str, Path]) -> None:
    context = browser.new_context(color_scheme="dark")
    try:
        page = context.new_page()
        page.goto(pages["startup"].as_uri())
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    finally:
        context.close()
