"""Instances started and kept: what memory one more takes, who owns it, how many fit."""

from __future__ import annotations
