"""Money: price books, and what n instances cost an hour."""

from __future__ import annotations
