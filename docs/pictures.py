"""The pictures of the README, from a sample report: ``python -m docs.pictures [RUN]``. 830 px wide, for light and dark.

They are taken by a headless Chromium at twice the resolution, and kept in 256 colours, which halves their size.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from tare import reports
from tare.bench.records import choice, store

HERE = Path(__file__).parent
WIDTH = 830
#: Name -> what of the page it shows: from the top of the first element to the bottom of the last.
PICTURES = {"report": ("header", "header + *"), "layers": ("#layers", "#layers")}
_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
_PADDING = 12


def take(browser: Browser, page: Path, images: Path) -> list[Path]:
    """Take every picture of the report *page* into the directory *images*; return their files."""
    taken = []
    for scheme in _SCHEMES:
        context = browser.new_context(
            viewport={"width": WIDTH, "height": 900}, device_scale_factor=2, color_scheme=scheme
        )
        tab = context.new_page()
        tab.goto(page.as_uri())
        for name, (first, last) in PICTURES.items():
            top, bottom = (tab.locator(selector).first.bounding_box() for selector in (first, last))
            if top is None or bottom is None:
                raise LookupError(f"the page has nothing to show for {name}: {first} or {last}")
            y = max(0, top["y"] - _PADDING)
            height = bottom["y"] + bottom["height"] + _PADDING - y
            clip = {"x": 0.0, "y": y, "width": float(WIDTH), "height": height}
            shot = tab.screenshot(clip=clip, full_page=True)  # type: ignore[arg-type]
            target = images / f"{name}-{scheme}.png"
            Image.open(io.BytesIO(shot)).convert("RGB").quantize(256).save(target, optimize=True)
            taken.append(target)
        context.close()
    return taken


def main(run: str) -> None:
    """Make the page of *run*, and its pictures."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        page = Path(directory) / "report.html"
        with choice.opened(run, Path("results/runs")) as chosen:
            page.write_text(reports.html(reports.analyse(store.load(chosen.path))), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for path in take(browser, page, HERE / "images"):
            sys.stdout.write(f"{path} {path.stat().st_size >> 10} KiB\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(HERE / "samples" / "startup.zip"))
