"""The script of a page: optional, in the page itself, and the only one that the page's policy lets run.

Its parts are read one after another as one module. The policy names the SHA-256 of the exact text, so no other script,
however it came into the page, is run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markupsafe import Markup

#: What the page of a report is made of, and that of all runs.
REPORT = ("kit", "subjects", "tables", "figures", "start")
OVERVIEW = ("kit", "tables", "overview")


@dataclass(frozen=True, slots=True)
class Script:
    """The text as it stands between the tags, and the source expression that allows it (CSP Level 3, 2.3.1)."""

    text: Markup
    allowed: Markup


@cache
def script(parts: Sequence[str] = REPORT) -> Script:
    """The script of a page, of these *parts*."""
    here = Path(__file__).with_name("js")
    text = "".join((here / f"{part}.js").read_text(encoding="utf-8") for part in parts)
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    # Our own files, quoted nowhere: what came from a run is in the page's elements, never in here.
    return Script(text=Markup(text), allowed=Markup("'sha256-{}'").format(digest))
