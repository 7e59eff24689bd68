"""What the memory of an instance is, who owns it, and whether the next one takes as much."""

from __future__ import annotations
