"""The command line of user-mode Linux, and what it cannot be told; no kernel is started."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tare.runners.base import RunnerError, Spec
from tare.runners.engines import uml
from tare.runners.image.tree import plain
from tests.conftest import wait_until
from tests.unit.runners.engines.script import on_path

SPEC = Spec(
    argv=("/payload", "a b"),
    image=plain(Path("/srv/root")),
    memory_bytes=128 << 20,
    cpus=1,
    env=(("NAME", ""),),
)


def arguments(spec: Spec) -> list[str]:
    return uml.arguments("linux.uml", spec, initrd=Path("/i"), name="one", directory=Path("/d"))


def test_the_kernel_is_told_all_of_it() -> None:
    words = arguments(SPEC)
    assert {"mem=128M", "initrd=/i", "umid=one", "uml_dir=/d", "rdinit=/payload", 'NAME=""'} <= set(words)
    assert words[words.index("--") + 1 :] == ['"a b"']


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        (replace(SPEC, env=(("quiet", "1"),)), "the variable 'quiet'"),
        (replace(SPEC, argv=("/payload", 'a"b')), "cannot be passed"),
        (replace(SPEC, argv=("/payload", *["x"] * 32)), "does not fit"),
        (replace(SPEC, argv=("/payload", "x" * 4096)), "too long"),
    ],
)
def test_what_its_command_line_cannot_hold_is_refused(spec: Spec, what: str) -> None:
    with pytest.raises(RunnerError, match=what):
        arguments(spec)


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        (replace(SPEC, cpus=2), "2 processors"),
        (replace(SPEC, memory_bytes=16 << 20), "16 MiB are not enough"),
        (replace(SPEC, argv=("/bin/sh",)), "cannot run /bin/sh"),
    ],
)
def test_what_it_has_not_is_refused(spec: Spec, what: str) -> None:
    with pytest.raises(RunnerError, match=what):
        uml._check(spec)


def test_one_that_is_missing_or_broken_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    support = uml.probe({}, tmp_path)
    assert (support.ok, support.fix) == (False, "install user-mode-linux")
    on_path(tmp_path, monkeypatch, "linux.uml", "exit 3")
    support = uml.probe({}, tmp_path)
    assert (support.ok, support.fix) == (False, "install user-mode-linux again")
    assert "status 3" in support.why


def test_only_a_kernel_whose_owner_has_ended_is_swept() -> None:
    with subprocess.Popen(["true"]) as dead:
        pass
    waits = [
        "sh",
        "-c",
        "read line",
    ]  # a command of the shell: a child of it would have the same command line for a moment
    words = [*waits, f"uml_dir=/run/tare-1a/0/tare-owner-{dead.pid}"]
    with (
        subprocess.Popen(words, stdin=subprocess.PIPE) as orphan,
        subprocess.Popen([*waits, "uml_dir=/home/me"], stdin=subprocess.PIPE) as users,
    ):
        for each in (orphan, users):
            told = Path(f"/proc/{each.pid}/cmdline")
            wait_until(lambda told=told: b"uml_dir=" in told.read_bytes(), 10, what="its program")  # type: ignore[misc]
        removed = list(uml.sweep())
        wait_until(lambda: orphan.poll() is not None, 10, what="its end")
        assert users.poll() is None
        users.kill()
    assert removed == [f"process {orphan.pid} (sh)"]
