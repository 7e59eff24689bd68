"""Several runs: merged into one, two of them compared and judged, all of them at a glance."""

from __future__ import annotations
