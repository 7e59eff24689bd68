"""A run becomes figures: what the reports of all experiments have in common."""

from __future__ import annotations
