"""The site: Sphinx, furo and Markdown (decision 23). ``nox -s docs`` builds it; it loads nothing from a network."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from docs import from_code, sample_reports

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "tare"
author = "The tare authors"
html_title = "tare"
html_theme = "furo"
extensions = ["myst_parser"]
exclude_patterns = ["reference/made", "samples/made"]  # parts of pages, not pages
html_extra_path = ["samples/made/pages"]
myst_heading_anchors = 4
html_show_sphinx = False
html_show_search_summary = False  # it would fetch pages, which no browser does for files
html_copy_source = False
html_show_sourcelink = False

#: What a page or a style sheet would load from a network by itself; a link that a reader may follow is none of it.
LOADS = re.compile(
    r"""<(?:script|link|img|source|iframe)\b[^>]*?(?:src|href|srcset)\s*=\s*["'](?:https?:)?//[^"']*"""
    r"""|url\(\s*["']?(?:https?:)?//[^)]*""",
    re.IGNORECASE,
)


def setup(app: Sphinx) -> None:
    """Make what is made from the code; look at the pages in the end."""
    from_code.write()
    sample_reports.pages()
    app.connect("build-finished", refuse_network)


def refuse_network(app: Sphinx, error: Exception | None) -> None:
    """Fail where a page would load something from a network. Raises ExtensionError."""
    from sphinx.errors import ExtensionError

    for path in sorted(Path(app.outdir).rglob("*.html")) + sorted(Path(app.outdir).rglob("*.css")):
        if not error and (found := LOADS.search(path.read_text(encoding="utf-8", errors="replace"))):
            raise ExtensionError(f"{path} would load from a network: {found[0][:200]}")
