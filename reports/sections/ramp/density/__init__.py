"""How many instances fit: predicted, verified, and extrapolated to other hosts; how the host changes meanwhile."""

from __future__ import annotations
