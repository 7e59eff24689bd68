"""The terminal's kit, and the only home of rich: tables of any width, live progress, listings."""

from __future__ import annotations
