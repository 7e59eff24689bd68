"""The least memory grant with which a subject gets ready."""

from __future__ import annotations
