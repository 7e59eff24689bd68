"""Pages of several runs: two of them compared, all of them at a glance; and what a page of merged runs says of them."""

from __future__ import annotations
