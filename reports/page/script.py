"""The script of a page: optional, in the page itself, and the only one that the page's policy lets run.

Its parts are read one after another as one module. The policy names the SHA-256 of the exact text, so no other script,
however it came into the page, is run.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markupsafe import Markup

_PARTS = ("kit", "subjects", "tables", "figures", "start")


@dataclass(frozen=True, slots=True)
class Script:
    """The text as it stands between the tags, and the source expression that allows it (CSP Level 3, 2.3.1)."""

    text: Markup
    allowed: Markup


@cache
def script() -> Script:
    """The script of every page."""
    here = Path(__file__).with_name("js")
    text = "".join((here / f"{part}.js").read_text(encoding="utf-8") for part in _PARTS)
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    # Our own files, quoted nowhere: what came from a run is in the page's elements, never in here.
    return Script(text=Markup(text), allowed=Markup("'sha256-{}'").format(digest))
