"""Runs the command line as a user does: a process, its two streams, its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "tare", *map(str, words)]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **more}


def tare(*words: str | Path, cwd: Path = ROOT, timeout_s: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``tare WORDS``; a traceback on standard error fails whatever test runs it."""
    done = subprocess.run(
        command(*words), capture_output=True, text=True, cwd=cwd, env=environment(**env), timeout=timeout_s, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def fails(*words: str | Path, code: int = 2) -> str:
    """What ``tare WORDS`` says of its failure, which is all that it writes: what, why and fix."""
    done = tare(*words)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert 1 <= len(done.stderr.splitlines()) <= 3, done.stderr
    return done.stderr


def python(code: str, timeout_s: float = 120) -> str:
    """What *code* prints in a Python of its own; it must end well."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
