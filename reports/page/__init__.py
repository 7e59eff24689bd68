"""The HTML page's kit, and the only home of jinja2: the frame, the style, macros that sections share."""

from __future__ import annotations
