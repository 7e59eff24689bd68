"""A page in a window of its own: nothing in the console, nothing from the network, nothing sideways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

#: Elements that reach beyond the window, but for those inside a box that scrolls by itself.
_SIDEWAYS = """() => [...document.querySelectorAll('main *')].filter(e =>
    !e.closest('.scroll, pre, svg') && e.getBoundingClientRect().right > window.innerWidth + 0.5
).map(e => e.outerHTML.slice(0, 80))"""


@contextmanager
def quiet(browser: Browser, path: Path, width: int = 1280, *, fits: bool = True, **options: Any) -> Iterator[Page]:
    """The page *path* in a window *width* pixels wide; *options* are those of a browser context.

    Fails where the page writes to the console or asks for anything but itself, until the block ends; and, with *fits*,
    where it is wider than the window.
    """
    context = browser.new_context(viewport={"width": width, "height": 844}, **options)
    try:
        page = context.new_page()
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        if fits and options.get("java_script_enabled", True):
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(_SIDEWAYS) == []
        yield page
        assert said == []
        # The icon is a data: URL, there to keep the browser from asking a server for one; a download is a blob: URL.
        assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
    finally:
        context.close()
