"""Shell scripts in the place of engines."""

from __future__ import annotations

from pathlib import Path

import pytest


def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> Path:
    """A script *name*, the only program on PATH besides the shell's own commands."""
    place = tmp_path / "bin"
    place.mkdir(exist_ok=True)
    program = place / name
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(place))
    return program
