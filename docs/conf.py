"""The site: Sphinx, furo and Markdown (decision 23). ``nox -s docs`` builds it; it loads nothing from a network."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from docs import from_code, sample_reports

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

from_code.write()
sample_reports.pages()
