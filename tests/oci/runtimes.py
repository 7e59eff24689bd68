"""The runtimes under test, and the bundles that they are given."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import require
from tests.oci import config, leftovers
from tests.oci.harness import OURS, Box, Runtime

COMPILE = ("cc", "-static", "-O1", "-Wall", "-Wextra", "-Werror", "-std=gnu11")
_SAID: dict[str, str] = {}


def find(name: str) -> Runtime | None:
    """The runtime called *name*, or at that path; None if there is no such program."""
    beside = Path(sys.executable).with_name(name)
    binary = os.fspath(beside) if beside.exists() else shutil.which(name)
    return Runtime(name=Path(name).name, binary=binary) if binary else None


def usable(name: str, inside: Path) -> Runtime:
    """The runtime *name*; the test is skipped if a first container does not run, but fails if it is ours."""
    require("root", os.geteuid() == 0, "not root")
    found = find(name)
    if found is None:
        why = f"no {name} on PATH"
    else:
        if name not in _SAID:
            with box(found, inside, check=False) as first:
                done = first.run("/bin/true")
            _SAID[name] = "" if done.status == 0 else f"{name} run: {done.err.strip() or done.status}"
        why = _SAID[name]
    if name in ("crun", "runc"):
        require(name, not why, why)
    if found is None or why:
        pytest.fail(why, pytrace=False)
    return found


def deviates(request: pytest.FixtureRequest, runtime: Runtime) -> bool:
    """Whether the test says that *runtime* is known not to do what it asks for; it is then expected to fail.

    ``@pytest.mark.deviates("crun", "why")`` says so of a peer. The test still runs: a later release may do it. Ours can
    have no such mark. *only* names the parameters that it is about.
    """
    found = False
    for mark in request.node.iter_markers("deviates"):
        name, why = mark.args
        assert name != OURS
        if name == runtime.name and any(word in request.node.name for word in mark.kwargs.get("only", [""])):
            request.applymarker(pytest.mark.xfail(reason=f"{name} {why}", strict=False))
            found = True
    return found


def compiled(source: Path, directory: Path) -> Path:
    """The static program made of *source*, in *directory*."""
    target = directory / source.stem
    command = [*COMPILE, "-o", os.fspath(target), os.fspath(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@contextmanager
def box(runtime: Runtime, inside: Path, *, check: bool = True) -> Iterator[Box]:
    """A bundle with busybox and :file:`inside` in it; at the end nothing of it is left, or the test fails."""
    word = f"tare-t{secrets.token_hex(4)}"
    directory = Path("/tmp", word)
    made = Box(runtime=runtime, directory=directory, name=word, config=config.base(word))
    directory.mkdir(mode=0o755)
    found = ["the test itself failed"]
    try:
        fill(made.rootfs, inside)
        made.state_directory.mkdir()
        yield made
        with suppress(FileNotFoundError):
            for name in sorted(os.listdir(made.state_directory)):
                if name[0] != "@":
                    made.call("delete", "--force", name)
        found = leftovers.settled(lambda: leftovers.leftovers(word, made.state_directory))
    finally:
        made.abandon()
        leftovers.sweep(word)
        shutil.rmtree(directory, ignore_errors=True)
    assert not (check and found), found


def fill(rootfs: Path, inside: Path) -> None:
    """A root filesystem in which a shell script can do its work."""
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        (rootfs / name).mkdir(parents=True)
    (rootfs / "tmp").chmod(0o1777)
    busybox = shutil.which("busybox")
    assert busybox is not None, "install busybox-static"
    shutil.copy(busybox, rootfs / "bin" / "busybox")
    shutil.copy(inside, rootfs / "bin" / "inside")
    for applet in config.APPLETS:
        (rootfs / "bin" / applet).symlink_to("busybox")
    (rootfs / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nother:x:1000:1000::/tmp:/bin/sh\n")
    (rootfs / "etc" / "group").write_text("root:x:0:\nother:x:1000:\n")
