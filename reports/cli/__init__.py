"""Manners of the command line: options judged, streams that take every character, how a command ends."""

from __future__ import annotations
