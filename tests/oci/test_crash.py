"""kill -9 of our runtime at any moment: afterwards ``tare-oci delete --force`` leaves nothing, whatever was half made.

The moments are the boundaries between stages that runners/container/lifecycle/checkpoint.py names, and, more finely,
any system call of the runtime, where strace can be had: TARE_FUZZ_S takes them one by one, the ordinary run takes
samples.
"""

from __future__ import annotations

import os
import shutil
import signal
import time

import pytest

from tare.runners.container.lifecycle.checkpoint import NAMES
from tests.conftest import require
from tests.oci.harness import Box, Done

#: One system call of so many is tried; all of them where there is time.
SAMPLE = 1 if os.environ.get("TARE_FUZZ_S") else 3
#: Those that change something: between two others, the world is the same. A question mark: if this machine has it.
CALLS = ",".join(
    f"?{name}"
    for name in (
        *("mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2", "mknod", "mknodat"),
        *(
            "write",
            "pwrite64",
            "ftruncate",
            "flock",
            "fcntl",
            "sendmsg",
            "sendto",
            "chown",
            "fchown",
            "chmod",
            "fchmod",
        ),
        *("clone", "clone3", "fork", "vfork", "execve", "wait4", "waitid", "kill", "pidfd_open", "pidfd_send_signal"),
        *("mount", "umount2", "move_mount", "mount_setattr", "setns", "unshare", "prctl", "prlimit64", "bpf"),
    )
)


def crash(box: Box, name: str, *words: str) -> Done:
    """A command of the runtime that is to die at *name*."""
    box.environment |= {"TARE_OCI_TEST": "1", "TARE_OCI_CRASH": name}
    done = box.call(*words)
    del box.environment["TARE_OCI_TEST"], box.environment["TARE_OCI_CRASH"]
    return done


@pytest.fixture(params=["own mounts", "the caller's mounts"])
def ready(request: pytest.FixtureRequest, our_box: Box) -> Box:
    """A container with all that has to be cleared away: limits, mounts, hooks, two processes, a terminal's absence."""
    if request.param != "own mounts":
        our_box.without("mount")
    our_box.resources.update({"memory": {"limit": 64 << 20}, "pids": {"limit": 50}})
    our_box.mount("/scratch", "tmpfs", "tmpfs", "size=1m")
    our_box.config["hooks"] = {kind: [{"path": "/bin/true"}] for kind in ("prestart", "createRuntime", "poststop")}
    our_box.process["args"] = ["/bin/sh", "-c", "sleep 1000 & exec sleep 1000"]
    our_box.save()
    return our_box


def create_words(box: Box, verb: str = "create") -> list[str]:
    return [verb, "--pid-file", os.fspath(box.directory / "pid"), "--bundle", os.fspath(box.bundle), box.name]


def clears(box: Box) -> None:
    """Whatever there is can be looked at, and goes; the fixture sees that nothing is left."""
    listed = box.call("list", "--format", "json")
    assert listed.status == 0, listed.err
    box.delete("--force").ok()
    assert box.gone()
    assert box.call("list", "--quiet").ok().out == ""


@pytest.mark.parametrize("name", NAMES)
def test_killed_between_two_stages(ready: Box, name: str) -> None:
    verb = name.partition(":")[0]
    create = create_words(ready)
    if verb == "create":
        done = crash(ready, name, *create)
    else:
        ready.call(*create).ok()
        if verb == "start":
            done = crash(ready, name, "start", ready.name)
        else:
            ready.call("start", ready.name).ok()
            done = crash(ready, name, "delete", "--force", ready.name)
    assert done.status == -signal.SIGKILL, f"{name} was not passed: {done}"
    clears(ready)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("create")])
def test_run_killed_in_its_making(ready: Box, name: str) -> None:
    done = crash(ready, name, *create_words(ready, "run"))
    assert done.status == -signal.SIGKILL, f"{name} was not passed: {done}"
    clears(ready)


def test_the_name_can_be_used_again_at_once(ready: Box) -> None:
    """After delete --force a container of that name is made as if nothing had been."""
    crash(ready, "create:hooks", *create_words(ready))
    ready.delete("--force").ok()
    ready.config["hooks"] = {}
    assert ready.run("/bin/echo", "again").ok().out == "again\n"


def test_the_environment_alone_does_nothing(ready: Box) -> None:
    """A checkpoint is a test's: without TARE_OCI_TEST=1 no variable ends the runtime."""
    ready.environment["TARE_OCI_CRASH"] = "create:state"
    ready.call(*create_words(ready)).ok()


def changes(box: Box, *words: str) -> list[tuple[str, int]]:
    """The calls that a command of the runtime makes, in order; each by its name and how often that came by then."""
    log = box.directory / "calls"
    box.call(*words, prefix=("strace", "-o", os.fspath(log), "-e", f"trace={CALLS}")).ok()
    names = [line.partition("(")[0] for line in log.read_text().splitlines() if line[0].isalpha()]
    return [(name, names[: place + 1].count(name)) for place, name in enumerate(names)]


def killed_at(box: Box, name: str, count: int, *words: str) -> Done:
    """A command of the runtime that dies as it enters *name* the *count*-th time: strace counts each name by itself."""
    inject = f"inject={name}:signal=KILL:when={count}"
    return box.call(*words, prefix=("strace", "-o", "/dev/null", "-e", f"trace={name}", "-e", inject))


@pytest.mark.parametrize("verb", ["create", "start", "delete"])
def test_killed_at_any_change(ready: Box, verb: str) -> None:
    require("strace", shutil.which("strace"), "no strace on PATH")
    create = create_words(ready)
    words = {"create": create, "start": ["start", ready.name], "delete": ["delete", "--force", ready.name]}[verb]

    def before() -> None:
        if verb != "create":
            ready.call(*create).ok()
        if verb == "delete":
            ready.call("start", ready.name).ok()

    before()
    moments = changes(ready, *words)
    clears(ready)
    end_ns = time.monotonic_ns() + int(float(os.environ.get("TARE_FUZZ_S", "60")) * 1e9)
    tried = died = 0
    for name, count in moments[::SAMPLE]:
        if time.monotonic_ns() > end_ns:
            break
        before()
        done = killed_at(ready, name, count, *words)
        clears(ready)
        # It may have made a call less than the time before; then it has done its work.
        assert done.status in (0, -signal.SIGKILL, 128 + signal.SIGKILL), (name, count, done)
        tried += 1
        died += done.status != 0
    assert died > tried / 2, moments
