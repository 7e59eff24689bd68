"""The site: Sphinx with Markdown (decision 23). ``nox -s docs`` builds it; nothing of it is loaded from a network."""

from __future__ import annotations

project = "tare"
author = "The tare authors"
html_title = "tare"
html_theme = "furo"
extensions = ["myst_parser"]

exclude_patterns = ["made"]  # parts of pages, not pages
myst_heading_anchors = 4

html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
