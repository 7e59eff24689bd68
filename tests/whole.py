"""The whole suite in three parts, as ``./bootstrap test`` and ``nox -s tests`` run it: ``python -m tests.whole``.

Two run beside each other. The tests of units and pages run as many at once as there are processors: they share nothing
with each other, nor with the host. Those of runtimes run one after another: they mostly wait, look only for what bears
their own names, and claim no time. What these say is printed when they have ended.
Then comes the rest, one by one: it measures, counts what is left on the whole host, and takes the lock of a run.

All parts run, whatever the others find. What is said at the end is about all: the ten slowest tests, and how many
tests failed. The coverage of each package is that by units and pages: tracing each line would slow down what the others
measure, and a package whose floor needs a virtual machine has too few tests of its own.

Arguments go to pytest, in each part (``-k stats``). The floors hold for the whole suite only: with arguments, the
coverage is shown and not judged.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import click
import coverage

ROOT = Path(__file__).resolve().parent.parent
#: The least coverage of each package, in per cent: a little under what the tests of units and pages reach.
FLOORS = {"bench": 90, "reports": 95, "runners": 60}
#: More at once need more memory than some machines with many processors have.
MOST_WORKERS = 4
SLOWEST = 10
#: These neither measure nor leave anything on the host.
SIDE_BY_SIDE = ("tests/unit", "tests/browser")
#: These use the host, and neither measure nor look for anything but their own.
RUNTIMES = ("tests/conformance", "tests/oci", "tests/escape")

FINE, FAILED, INTERRUPTED = 0, 1, 130
#: pytest's status when its arguments leave no test to run.
_NOTHING_TO_RUN = 5


@dataclass(kw_only=True)
class Part:
    """One run of pytest, and what it reported."""

    name: str
    arguments: Sequence[str]
    #: How far it stands back for others (nice(1)).
    nice: int = 0
    status: int = 0
    lasted_s: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    #: (seconds, test), set-up and removal included.
    times: list[tuple[float, str]] = field(default_factory=list)

    def failed(self) -> bool:
        """Whether a test failed, or pytest itself."""
        return self.status not in (0, _NOTHING_TO_RUN)

    def line(self) -> str:
        """What it came to, in one line."""
        found = ", ".join(f"{count} {what}" for what, count in self.counts.items() if count) or "no tests"
        broken = f"; pytest's exit status {self.status}" if self.failed() and self.status != 1 else ""
        return f"  {self.name:<28}{found} in {self.lasted_s / 60:.1f} min{broken}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The parts: *units*, which has the terminal, with *beside*; and then *last*."""

    units: Part
    beside: Part
    last: Part

    def parts(self) -> tuple[Part, ...]:
        """All of them."""
        return (self.units, self.beside, self.last)


def plan(arguments: Sequence[str]) -> Plan:
    """What pyproject.toml lists, in its parts."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    paths = settings["tool"]["pytest"]["ini_options"]["testpaths"]
    units, runtimes = ([path for path in paths if path in room] for room in (SIDE_BY_SIDE, RUNTIMES))
    last = [path for path in paths if path not in (*units, *runtimes)]
    workers = min(MOST_WORKERS, len(os.sched_getaffinity(0)))
    # worksteal: a file's tests stay together, and so does what its fixtures made, until a worker has nothing left.
    many = ["--numprocesses", str(workers), "--dist", "worksteal", "--cov", "--cov-report="]
    return Plan(
        # They use what the others leave, so that all end at about the same time.
        units=Part(name=f"units and pages, {workers} at a time", nice=10, arguments=[*units, *many, *arguments]),
        beside=Part(name="runtimes, beside them", arguments=[*runtimes, *arguments]),
        last=Part(name="the rest, one by one", arguments=[*last, *arguments]),
    )


@contextmanager
def running(part: Part, signals: Signals, *, output: IO[bytes] | None = None) -> Iterator[None]:
    """Pytest runs for *part*, and is awaited at the end of the block; it writes to *output*, or to the terminal."""
    with tempfile.TemporaryDirectory(prefix="tare-tests-") as folder:
        report = Path(folder, "report.xml")
        noted = [f"--junit-xml={report}", "--override-ini=junit_family=xunit1"]
        words = ["nice", "-n", str(part.nice), sys.executable, "-m", "pytest", *noted, *part.arguments]
        begun = time.monotonic()
        with subprocess.Popen(words, cwd=ROOT, stdout=output) as child:
            signals.children.append(child)
            try:
                yield
            finally:
                part.status = child.wait()
                signals.children.remove(child)
        part.lasted_s = time.monotonic() - begun
        if report.exists():
            part.counts, part.times = read(report)


def run(whole: Plan, signals: Signals) -> None:
    """Run pytest for each part."""
    with tempfile.TemporaryFile() as output:
        with running(whole.beside, signals, output=output), running(whole.units, signals):
            pass
        output.seek(0)
        sys.stdout.flush()
        shutil.copyfileobj(output, sys.stdout.buffer)
        sys.stdout.flush()
    if not signals.seen:
        with running(whole.last, signals):
            pass


def read(report: Path) -> tuple[dict[str, int], list[tuple[float, str]]]:
    """How many tests passed, failed, were skipped, and how long each took."""
    suites = list(ET.parse(report).iter("testsuite"))
    total = {key: sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")}
    passed = total["tests"] - total["failures"] - total["errors"] - total["skipped"]
    counts = {"passed": passed, "failed": total["failures"], "errors": total["errors"], "skipped": total["skipped"]}
    cases = [case for suite in suites for case in suite.iter("testcase")]
    return counts, [(float(case.get("time", 0)), f"{case.get('file', '')}::{case.get('name')}") for case in cases]


class Signals:
    """Interrupts are pytest's to answer: this process waits until it has tidied up, and begins nothing more."""

    def __init__(self) -> None:
        self.children: list[subprocess.Popen[bytes]] = []
        self.seen = 0

    def install(self) -> None:
        """Answer what a terminal and a caller send."""
        signal.signal(signal.SIGINT, self._note)  # the terminal sends it to pytest as well
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._pass_on)

    def _note(self, number: int, _: object) -> None:
        self.seen = number

    def _pass_on(self, number: int, _: object) -> None:
        self.seen = number
        for child in self.children:
            child.send_signal(signal.SIGINT)  # which pytest tidies up after


def slowest(times: Sequence[tuple[float, str]]) -> list[str]:
    """The tests that took longest, of all parts."""
    return [f"  {took:6.1f} s  {name}" for took, name in sorted(times, reverse=True)[:SLOWEST]]


def rooms(times: Sequence[tuple[float, str]]) -> list[str]:
    """Where the time goes: the seconds of each folder of tests, the largest first."""
    found: dict[str, float] = {}
    for took, name in times:
        room = "/".join(name.split("/")[:2])
        found[room] = found.get(room, 0.0) + took
    return [f"  {took:6.0f} s  {room}" for room, took in sorted(found.items(), key=lambda one: -one[1])]


def covered() -> dict[str, float]:
    """The coverage of each package, in per cent."""
    measured = coverage.Coverage(config_file=str(ROOT / "pyproject.toml"))
    measured.load()
    found = dict.fromkeys(FLOORS, 0.0)
    for name in FLOORS:
        with suppress(coverage.exceptions.NoDataError):
            found[name] = measured.report(include=[f"{ROOT}/{name}/*"], file=io.StringIO())
    return found


def main(arguments: Sequence[str]) -> int:
    """Run all parts, say what they came to, return the exit status."""
    signals = Signals()
    signals.install()
    whole = plan(arguments)
    run(whole, signals)
    found = whole.parts()
    if signals.seen:
        return INTERRUPTED
    click.echo("\nthe slowest tests")
    times = [time for part in found for time in part.times]
    click.echo("\n".join(slowest(times)))
    click.echo("\nwhere the time went")
    click.echo("\n".join(rooms(times)))
    click.echo("\ncoverage by units and pages (the lines that no test reaches: .venv/bin/coverage report)")
    short = False
    for name, percent in covered().items():
        under = percent < FLOORS[name] and not arguments
        short |= under
        click.echo(f"  {name:<28}{percent:.1f} %, {'UNDER its' if under else 'with a'} floor of {FLOORS[name]} %")
    click.echo("\ntests")
    click.echo("\n".join(part.line() for part in found))
    return FAILED if short or any(part.failed() for part in found) else FINE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
