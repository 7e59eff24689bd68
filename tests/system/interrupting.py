"""Runs that are interrupted, and what they must have left: nothing, but a run that can be read and goes on.

The signal goes where a terminal's Ctrl-C goes, to all processes of the foreground, or to tare alone, as kill(1) does.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tare.bench.records import store
from tare.runners.container.cgroup import cgroups
from tare.runners.image.cache import cache_dir
from tests import cli

#: As it is installed, from the first moment on.
TARE = Path(sys.executable).parent / "tare"
#: What bears such a name was made by a run, a probe or a trial of tare's, and not by a test of the runtime alone.
OURS = re.compile(r"tare-([0-9a-f]{6}\b|owner-\d|probe-|proof-|trial-|vm-\d)")
END_S = 120
#: A signal that finds a process in its own end is seen by nobody. The kernel's work at an end is done within this time.
OWN_END_S = 1

#: A ramp of each kind, a few started at once.
RAMP = """
schema = 1
question = "What is left of a ramp that was interrupted?"
experiment = "memory"
reference = "process"
[run]
rounds = 1
warmup = 0
timeout_s = 60
[stack]
counts = [6]
at_once = 4
window_s = 0.1
[[subjects]]
label = "process"
runner = "process"
counts = [1]
[[subjects]]
label = "container"
runner = "container"
counts = [12]
[[subjects]]
label = "runc"
runner = "runc"
[[subjects]]
label = "vm"
runner = "vm"
counts = [2]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """When which signal comes, to whom, and after how many seconds each further one."""

    after_s: float
    number: signal.Signals
    group: bool
    further_s: tuple[float, ...]


def blow(rng: random.Random, whole_s: float, *, middle: bool = False) -> Blow:
    """A random one in a run that takes *whole_s*; every third is followed by others, every tenth comes early.

    *middle*: the run is surely under way.
    """
    after_s = rng.uniform(0, 0.6) if rng.random() < 0.1 else rng.uniform(0, whole_s)
    if middle:
        after_s = rng.uniform(0.2, 0.6) * whole_s
    number = rng.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    further = tuple(rng.uniform(0, 0.5) for _ in range(rng.randint(1, 3))) if rng.random() < 0.33 else ()
    return Blow(after_s=after_s, number=number, group=rng.random() < 0.5, further_s=further)


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck:
    """How it ended. ``faults`` are findings; ``run`` is the directory, if there was one."""

    code: int
    took_s: float
    faults: tuple[str, ...]
    run: Path | None


def strike(words: list[str], results: Path, one: Blow) -> Struck:
    """Run ``tare run WORDS``, let *one* come, and look at everything."""
    before = left()
    # Files: what is written into a pipe that nobody reads would hold tare up.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        running = subprocess.Popen(
            [TARE, "run", *words, "--results", results],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            cwd=cli.ROOT,
            env=cli.environment(),
        )
        struck = 0.0
        for pause_s in (one.after_s, *one.further_s):
            try:
                running.wait(pause_s)
                break
            except subprocess.TimeoutExpired:
                if running.poll() is not None:  # wait() looks but twenty times a second
                    break
                struck = struck or time.monotonic()
                (os.killpg if one.group else os.kill)(running.pid, one.number)
        faults: list[str] = []
        try:
            code = running.wait(END_S)
        except subprocess.TimeoutExpired:
            faults.append(f"it did not end within {END_S} s")
            running.kill()
            code = running.wait()
        took_s = time.monotonic() - struck if struck else 0.0
        found = left() - before
        faults += [f"left: {name}" for name in sorted(found)]
        out.seek(0), err.seek(0)
        run, more = _judge(code, out.read(), err.read(), results, struck_s=took_s)
    return Struck(code=code, took_s=took_s, faults=(*faults, *more), run=run)


def _judge(code: int, out: str, err: str, results: Path, *, struck_s: float) -> tuple[Path | None, list[str]]:
    """The run, and what is wrong; *struck_s* are the seconds from the signal to the end, 0 if none came."""
    faults = []
    ended_by_itself = not struck_s
    unseen = "interrupted by" not in err and struck_s < OWN_END_S
    if code != 130 and not (code == 0 and unseen):
        faults.append(f"exit code {code}, {struck_s:.1f} s after the signal: {err[-1500:]}")
    faults += [f"{word} in: {err[-3000:]}" for word in ("Traceback", "Exception", "Aborted") if word in err]
    runs = store.runs(results)
    if not runs:
        return None, faults
    run = runs[-1]
    header = store.load_header(run)
    faults += [f"leak: {leak.kind} {leak.name}" for leak in header.leaks]
    if header.state not in (("complete",) if ended_by_itself else ("interrupted", "complete")):
        faults.append(f"the run is {header.state}")
    if out.strip().rpartition("\n")[2] != str(run):
        faults.append(f"the last line on standard output is {out!r}, and not {run}")
    if header.state == "interrupted" and f"tare run --resume {shlex.quote(str(run))}" not in err:
        faults.append(f"no way to go on in: {err[-3000:]}")
    reported = cli.tare("report", run)
    if reported.returncode:
        faults.append(f"no report: {reported.stderr}")
    return run, faults


def left() -> set[str]:
    """Everything on this host that a run could have left."""
    found: set[str] = set()
    for entry in os.listdir("/proc"):
        try:
            command = Path("/proc", entry, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if entry.isdecimal() and (OURS.search(command) or command.startswith(f"{cache_dir()}/")):
            found.add(f"process {entry}: {command[:200]}")
    where = cgroups.layout()
    for mount in {*where.v1.values(), *filter(None, (where.v2,))}:
        for directory, folders, _ in os.walk(mount):
            found |= {f"cgroup {directory}/{name}" for name in folders if OURS.search(f"{directory}/{name}")}
    points = (line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    found |= {f"mount {point}" for point in points if OURS.search(point)}
    for place in ("/run", "/run/netns", "/tmp", "/sys/class/net", "/dev/shm"):
        if Path(place).is_dir():
            found |= {f"{place}/{name}" for name in os.listdir(place) if OURS.match(name)}
    return found


def length_s(words: list[str], results: Path) -> float:
    """How long ``tare run WORDS`` takes when nobody interrupts it."""
    began = time.monotonic()
    done = subprocess.run(
        [TARE, "run", *words, "--results", results], capture_output=True, text=True, cwd=cli.ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return time.monotonic() - began
