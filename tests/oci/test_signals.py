"""Signals to a runtime that stays in the foreground are the container's."""

from __future__ import annotations

import os
import signal

import pytest

from tests.conftest import wait_until
from tests.oci.harness import DEADLINE_S, READY, Box, Running


def in_front(box: Box, script: str) -> Running:
    """A container in the foreground that has got as far as to print READY."""
    box.process["args"] = ["/bin/sh", "-c", script]
    box.save()
    running = box.begin("run", "--bundle", os.fspath(box.bundle), box.name)
    running.until(READY)
    return running


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1", "USR2", "QUIT"])
def test_forwarded(box: Box, name: str) -> None:
    running = in_front(box, f"trap 'echo caught; exit 9' {name}; echo '{READY}'; while :; do sleep 0.05; done")
    running.child.send_signal(getattr(signal, f"SIG{name}"))
    assert running.wait().status == 9
    assert "caught" in running.out
    assert box.gone()


def test_a_signal_that_kills_the_container_ends_the_runtime(box: Box) -> None:
    """With the status that says so."""
    box.without("pid")  # PID 1 of a namespace would not die of it
    running = in_front(box, f"echo '{READY}'; while :; do sleep 0.05; done")
    running.child.send_signal(signal.SIGTERM)
    assert running.wait().status == 128 + 15


def test_killed_from_elsewhere(box: Box) -> None:
    running = in_front(box, f"echo '{READY}'; exec sleep 1000")
    box.kill().ok()
    assert running.wait().status == 137
    wait_until(box.gone, DEADLINE_S)


def test_many_signals_are_no_matter(box: Box) -> None:
    running = in_front(box, f"trap 'exit 9' TERM; trap ':' USR1; echo '{READY}'; while :; do sleep 0.05; done")
    for _ in range(50):
        running.child.send_signal(signal.SIGUSR1)
    running.child.send_signal(signal.SIGTERM)
    assert running.wait().status == 9


def test_forwarded_by_exec(box: Box) -> None:
    box.live()
    script = f"trap 'echo caught; exit 9' TERM; echo '{READY}'; while :; do sleep 0.05; done"
    running = box.begin("exec", box.name, "/bin/sh", "-c", script)
    running.until(READY)
    running.child.send_signal(signal.SIGTERM)
    assert running.wait().status == 9
    assert box.status() == "running"


def test_orphans_are_reaped_inside(box: Box) -> None:
    """A child that outlives its parent becomes PID 1's; the runtime is not concerned, and ends with PID 1."""
    done = box.sh("(sleep 1000 &) ; exit 3")
    assert done.status == 3
