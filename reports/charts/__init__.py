"""The charts' kit, and the only home of matplotlib: axes with units, inline SVG, charts that sections share."""

from __future__ import annotations
