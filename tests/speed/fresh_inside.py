"""The part of fresh.py that runs in the guest: reads the kernel's memory before and with many containers alive.

It has nothing but the standard library and ``runners``. Each reading is a line of JSON: what it is of, and two texts of
the kernel.
"""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, os.fspath(Path(__file__).resolve().parent))  # where the guest has runners

from tare.runners import fork_server, payload
from tare.runners.base import Instance, Prepared, Scratch, Spec
from tare.runners.container.cgroup import cgroups
from tare.runners.container.linux import mount_calls
from tare.runners.image.tree import plain

CONTROLLERS = ("memory", "pids", "cpu", "cpuacct", "devices", "freezer")
EMPTY, MANY = 200, 1000
#: Here the kernel has freed by then what was removed.
SETTLE_S = 8


def use_v1() -> None:
    """Replace the unified hierarchy, which no process has left yet."""
    mount_calls.umount2("/sys/fs/cgroup", mount_calls.MNT_DETACH)
    mount_calls.mount("cgroups", "/sys/fs/cgroup", "tmpfs", 0)
    for controller in CONTROLLERS:
        Path("/sys/fs/cgroup", controller).mkdir()
        mount_calls.mount("cgroup", f"/sys/fs/cgroup/{controller}", "cgroup", 0, controller)


def tell(what: str, count: int = 0) -> None:
    """One reading, with *count* of them."""
    time.sleep(SETTLE_S)
    Path("/proc/sys/vm/stat_refresh").read_text()
    texts = {name: Path("/proc", name).read_text() for name in ("meminfo", "zoneinfo")}
    reading = {"what": what, "count": count, "release": os.uname().release, **texts}
    sys.stdout.write(f"{json.dumps(reading)}\n")
    sys.stdout.flush()


def tell_of_empty(parent: cgroups.Cgroup, what: str) -> None:
    """Readings without and with the cgroups of :data:`EMPTY` instances."""
    tell(what)
    groups = [parent.child(f"empty-{number}") for number in range(EMPTY)]
    for group in groups:
        group.create()
    tell(what, EMPTY)
    for group in groups:
        group.remove()


def start(prepared: Prepared, name: str, stack: ExitStack) -> None:
    """Start one that lives as long as *stack*."""
    instance: Instance = stack.enter_context(prepared.launch(name, lambda _: None))
    ready = select.poll()
    ready.register(instance.console, select.POLLIN)
    text = b""
    while b"tare ready\n" not in text:
        ready.poll()
        data = os.read(instance.console, 4096)
        if not data:
            raise SystemExit(f"{name} ended: {instance.explain()}")
        text += data


def main() -> None:
    """Containers of the payload, paused as it is once it is ready."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 16, 1 << 16))
    use_v1()
    root, place = Path("/run/root"), Path("/run/place")
    place.mkdir(parents=True)
    for name in ("proc", "dev", "sys"):
        (root / name).mkdir(parents=True)
    shutil.copy(payload.binary(Path("/tare/cache")), root / "payload")
    spec = Spec(argv=("/payload", *payload.Payload().arguments()), image=plain(root), memory_bytes=128 << 20, cpus=1)
    scratch = Scratch(directory=place, cache=place, cgroup="tare-fresh", prefix="tare-fresh")
    with fork_server.prepare(spec, {}, scratch) as prepared:
        with ExitStack() as one:
            start(prepared, "warm-up", one)
        parent = cgroups.at("tare-fresh")
        tell_of_empty(parent, "the cgroups of one, empty, before")
        tell("a container")
        with ExitStack() as alive:
            for number in range(MANY):
                start(prepared, f"n{number}", alive)
            tell("a container", MANY)
        tell_of_empty(parent, "the cgroups of one, empty, after")


if __name__ == "__main__":
    main()
