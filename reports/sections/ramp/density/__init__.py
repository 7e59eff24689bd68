"""How many instances fit: predicted, verified, carried over to other hosts; what the host is like on the way."""

from __future__ import annotations
