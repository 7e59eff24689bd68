"""One folder an experiment: its analysis, its words, its charts, its part of the page and of the terminal."""

from __future__ import annotations
