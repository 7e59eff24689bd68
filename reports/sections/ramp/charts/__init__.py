"""The charts of a ramp."""

from __future__ import annotations
