"""A signal to ``create``, ``run`` or ``exec``, at any of its system calls: all is there, or nothing is.

Sent by strace, so that each moment is met, and the same one again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest

from tests.conftest import require, wait_until
from tests.oci.harness import DEADLINE_S, Box
from tests.oci.test_crash import CALLS

#: One system call of so many is tried; all of them where there is time.
SAMPLE = 1 if os.environ.get("TARE_FUZZ_S") else 7
#: Where the container changes hands.
ALWAYS = ("mkdir", "rename", "wait4")


def moments(box: Box, *words: str, since: str) -> list[tuple[str, int]]:
    """The calls that a command of the runtime makes, from *since* on; each with how often it came by then."""
    log = box.directory / "calls"
    calls = f"trace={CALLS},?openat,?close,?pidfd_open,?pipe2,?poll"
    box.call(*words, prefix=("strace", "-o", os.fspath(log), "-e", calls)).ok()
    names = [line.partition("(")[0] for line in log.read_text().splitlines() if line[0].isalpha()]
    first = names.index(since)
    return [(name, names[: at + 1].count(name)) for at, name in enumerate(names) if at >= first]


def signalled(signal_name: str, name: str, count: int) -> tuple[str, ...]:
    """What to put before a command so that the signal comes at the *count*-th call of *name*."""
    inject = f"inject={name}:signal={signal_name}:when={count}"
    return ("strace", "-o", "/dev/null", "-e", f"trace={name}", "-e", inject)


@pytest.mark.parametrize("signal_name", ["TERM", "INT", "HUP"])
@pytest.mark.parametrize("verb", ["create", "run --detach", "run"])
def test_interrupted_at_any_call(our_box: Box, verb: str, signal_name: str) -> None:
    require("strace", shutil.which("strace"), "no strace on PATH")
    our_box.process["args"] = ["/bin/sleep", "0.2" if verb == "run" else "1000"]
    our_box.save()
    words = (*verb.split(), "--bundle", os.fspath(our_box.bundle), our_box.name)
    found = moments(our_box, *words, since="mkdir")  # the container's own directory: before that, nothing is made
    our_box.call("delete", "--force", our_box.name).ok()
    start = ("TERM", "INT", "HUP").index(signal_name)
    statuses = set()
    for at, (name, count) in enumerate(found):
        if at % SAMPLE != start and name not in ALWAYS and at < len(found) - 2:
            continue
        done = our_box.call(*words, prefix=signalled(signal_name, name, count))
        statuses.add(done.status)
        kept = done.status == 0 and verb != "run"
        left = [entry for entry in os.listdir(our_box.state_directory) if entry[0] != "@"]
        assert left == ([our_box.name] if kept else []), (name, count, done)
        assert done.status in (0, 130), (name, count, done)
        if kept:
            assert our_box.status() == ("created" if verb == "create" else "running")
            our_box.delete("--force").ok()
    assert statuses == {0, 130}, "it is undone at one moment, and done at another"


@pytest.mark.parametrize(
    ("verb", "signal_name"), [("create", "USR1"), ("run --detach", "QUIT"), ("run", "USR1"), ("run", "QUIT")]
)
def test_a_signal_for_the_container_that_comes_before_it_is_made(our_box: Box, verb: str, signal_name: str) -> None:
    """It waits until the container can get it; the first process of a pid namespace ignores what it has no handler for.

    By default, the signal would end the runtime and leave a container that is half made.
    """
    require("strace", shutil.which("strace"), "no strace on PATH")
    our_box.process["args"] = ["/bin/sleep", "0.2" if verb == "run" else "1000"]
    our_box.save()
    words = (*verb.split(), "--bundle", os.fspath(our_box.bundle), our_box.name)
    found = moments(our_box, *words, since="mkdir")
    our_box.call("delete", "--force", our_box.name).ok()
    for at, (name, count) in enumerate(found):
        if at % SAMPLE == 0 or name in ALWAYS:
            done = our_box.call(*words, prefix=signalled(signal_name, name, count))
            assert done.status == 0, (name, count, done)
            if verb != "run":
                assert our_box.status() == ("created" if verb == "create" else "running")
                our_box.delete("--force").ok()
            assert our_box.gone()


@pytest.mark.parametrize("signal_name", ["TERM", "INT", "HUP", "USR1"])
def test_exec_at_any_call(our_box: Box, signal_name: str) -> None:
    """The program gets the signal, or it never runs: it is not left behind."""
    require("strace", shutil.which("strace"), "no strace on PATH")
    our_box.live()
    words = ("exec", our_box.name, "/bin/sh", "-c", f"trap 'exit 9' {signal_name}; sleep 0.3 & wait $!; sleep 0.2")
    found = moments(our_box, *words, since="pipe2")
    start = ("TERM", "INT", "HUP", "USR1").index(signal_name)
    number = getattr(signal, f"SIG{signal_name}")
    statuses = set()
    for at, (name, count) in enumerate(found):
        if at % 4 != start and name not in ALWAYS:
            continue
        done = our_box.call(*words, prefix=signalled(signal_name, name, count))
        # 128 and the signal: it came after the program had begun and before it had set its trap
        assert done.status in (0, 9, 130, 128 + number), (name, count, done)
        statuses.add(done.status)

        def alone() -> bool:
            return len(json.loads(our_box.call("ps", "--format", "json", our_box.name).ok().out)) == 1

        wait_until(alone, DEADLINE_S)
        assert our_box.status() == "running"
    assert statuses & {9, 128 + number}, "it was passed on at some moment"
    if signal_name != "USR1":
        assert 130 in statuses, "it ended the client at some moment"
