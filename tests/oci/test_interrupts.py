"""A signal that asks ``create`` or ``run`` to end, at any of its system calls: the container is there, or nothing is.

Sent by strace, so that each moment is met, and the same one again.
"""

from __future__ import annotations

import os
import shutil

import pytest

from tests.conftest import require
from tests.oci.harness import Box
from tests.oci.test_crash import CALLS

#: One system call of so many is tried; all of them where there is time.
SAMPLE = 1 if os.environ.get("TARE_FUZZ_S") else 7
#: Where the container changes hands.
ALWAYS = ("mkdir", "rename", "wait4")


def moments(box: Box, *words: str) -> list[tuple[str, int]]:
    """The calls that a command of the runtime makes and that change something; each with how often it came by then."""
    log = box.directory / "calls"
    box.call(*words, prefix=("strace", "-o", os.fspath(log), "-e", f"trace={CALLS},?openat,?close,?pidfd_open")).ok()
    names = [line.partition("(")[0] for line in log.read_text().splitlines() if line[0].isalpha()]
    box.call("delete", "--force", box.name).ok()
    # From the container's own directory on: before that, nothing is made.
    first = names.index("mkdir")
    return [(name, names[: at + 1].count(name)) for at, name in enumerate(names) if at >= first]


@pytest.mark.parametrize("signal_name", ["TERM", "INT", "HUP"])
@pytest.mark.parametrize("verb", ["create", "run --detach", "run"])
def test_interrupted_at_any_call(our_box: Box, verb: str, signal_name: str) -> None:
    require("strace", shutil.which("strace"), "no strace on PATH")
    our_box.process["args"] = ["/bin/sleep", "0.2" if verb == "run" else "1000"]
    our_box.save()
    words = (*verb.split(), "--bundle", os.fspath(our_box.bundle), our_box.name)
    found = moments(our_box, *words)
    start = ("TERM", "INT", "HUP").index(signal_name)
    statuses = set()
    for at, (name, count) in enumerate(found):
        if at % SAMPLE != start and name not in ALWAYS and at < len(found) - 2:
            continue
        inject = f"inject={name}:signal={signal_name}:when={count}"
        done = our_box.call(*words, prefix=("strace", "-o", "/dev/null", "-e", f"trace={name}", "-e", inject))
        statuses.add(done.status)
        kept = done.status == 0 and verb != "run"
        left = [entry for entry in os.listdir(our_box.state_directory) if entry[0] != "@"]
        assert left == ([our_box.name] if kept else []), (name, count, done)
        assert done.status in (0, 130), (name, count, done)
        if kept:
            assert our_box.status() == ("created" if verb == "create" else "running")
            our_box.delete("--force").ok()
    assert statuses == {0, 130}, "it is undone at one moment, and done at another"
