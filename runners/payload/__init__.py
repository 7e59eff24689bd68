"""The payload: one static C program, PID 1 of every subject, compiled once and kept by digest."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tare.runners.base import RunnerError
from tare.runners.image.cache import keep

SOURCE = Path(__file__).with_name("payload.c")
#: No -Werror: a new warning of a newer compiler must not stop users. The tests use it.
FLAGS = ("-static", "-Os", "-Wall", "-Wextra", "-std=gnu11", "-s")

_COMPILER_S = 120

#: The payload's path in every root filesystem.
PATH = "/payload"

Release = bool | Literal["lazily"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What the payload is told to do. ``payload.c`` says in which order it does these.

    delay_ms: wait this long before getting ready
    touch_mib: write to this much memory before getting ready
    release: free that memory before getting ready, by munmap(2); ``"lazily"``: by MADV_FREE of madvise(2)
    tell: ``memory``: say what /proc/meminfo holds
    busy_percent: once ready, use this share of one processor
    exit_code: end with this code once ready; null: wait to be stopped
    out_kib: write this much to standard output before getting ready
    err_kib: write this much to standard error before getting ready
    floods: go on writing without end once ready
    reads: standard input must be empty
    """

    delay_ms: int = 0
    touch_mib: int = 0
    release: Release = False
    tell: Literal["", "memory"] = ""
    busy_percent: int = 0
    exit_code: int | None = None
    out_kib: int = 0
    err_kib: int = 0
    floods: bool = False
    reads: bool = False

    @property
    def argv(self) -> tuple[str, ...]:
        """The whole argv of the first process of an instance."""
        return (PATH, *self.arguments())

    def arguments(self) -> tuple[str, ...]:
        """The words that ``payload.c`` reads. Nothing else makes them, and nothing of ours reads them again."""
        words = []
        if self.delay_ms:
            words.append(f"delay-ms={self.delay_ms}")
        if self.touch_mib:
            words.append(f"touch-mib={self.touch_mib}")
        if self.release:
            words.append("then=release-lazily" if self.release == "lazily" else "then=release")
        if self.tell:
            words.append(f"tell={self.tell}")
        if self.busy_percent:
            words.append(f"busy-percent={self.busy_percent}")
        if self.out_kib:
            words.append(f"out-kib={self.out_kib}")
        if self.err_kib:
            words.append(f"err-kib={self.err_kib}")
        if self.reads:
            words.append("input=empty")
        if self.floods:
            words.append("then=flood")
        words.append("then=pause" if self.exit_code is None else f"then=exit:{self.exit_code}")
        return tuple(words)


def binary(cache: Path) -> Path:
    """The compiled payload; see :func:`compiled`."""
    return compiled(SOURCE, cache)


def compiled(source: Path, cache: Path) -> Path:
    """Return the static program of that one C file, building it below *cache* if it was never built there.

    The name holds a digest of source and flags, so a change of either is another file. Raises RunnerError when there
    is no C compiler or when it fails, and when *cache* cannot be used.
    """
    name = source.stem
    digest = hashlib.sha256(source.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:16]
    return keep(cache, f"{name}-{digest}", lambda built: _compile(source, built))


def _compile(source: Path, built: Path) -> None:
    name = source.stem
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RunnerError(
            f"the {name} cannot be built", "no C compiler (cc, gcc) on PATH", "install gcc, or run ./bootstrap"
        )
    command = [compiler, *FLAGS, "-o", str(built), str(source)]
    what = f"the {name} did not compile: {' '.join(command)}"
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env={**os.environ, "LC_ALL": "C"},  # its reason is checked
            timeout=_COMPILER_S,
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        raise RunnerError(what, str(error), "install gcc again") from error
    if done.returncode:
        reason = done.stderr.strip()[-500:]
        full = os.strerror(errno.ENOSPC) in reason or os.strerror(errno.EDQUOT) in reason
        fix = f"make room in {built.parent.parent} and {tempfile.gettempdir()}" if full else "install libc6-dev"
        raise RunnerError(what, reason, fix)
