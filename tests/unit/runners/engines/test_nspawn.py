"""nspawn's command line, its reports, and what is said of one that is missing or broken; no container is started."""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tare.runners.base import RunnerError, Spec, User
from tare.runners.engines import nspawn
from tare.runners.image.tree import plain
from tests.unit.runners.engines.script import on_path


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    root = tmp_path / "root"
    root.mkdir()
    return Spec(
        argv=("/payload", "a b"),
        image=plain(root),
        memory_bytes=1 << 26,
        cpus=1,
        env=(("NAME", "va=lue"),),
        cwd="/srv",
        user=User(uid=33),
    )


def arguments(spec: Spec, *, boot: bool = False) -> list[str]:
    return nspawn.arguments("/bin/systemd-nspawn", spec, name="one", root=Path("/r"), boot=boot, program=Path("/entry"))


def test_the_program_comes_last_with_its_words_as_they_are(spec: Spec) -> None:
    words = arguments(spec)
    assert tuple(words[words.index("--") + 1 :]) == ("/run/tare-entry", "user=33", "group=0", "--", *spec.argv)
    assert "--bind-ro=/entry:/run/tare-entry" in words
    words = arguments(replace(spec, user=User()))
    assert tuple(words[words.index("--") + 1 :]) == spec.argv
    assert {"--setenv=NAME=va=lue", "--chdir=/srv", "--register=no", "--keep-unit"} <= set(words)


def test_an_init_gets_its_own_words_alone(spec: Spec) -> None:
    words = arguments(replace(spec, argv=("/sbin/init", "--log-level=info"), user=User()), boot=True)
    assert words[-2:] == ["--boot", "--log-level=info"]
    assert not [word for word in words if word.startswith(("--drop-capability", "--no-new-privileges"))]


def test_an_image_that_is_no_operating_system_is_not_booted(spec: Spec) -> None:
    init = replace(spec, argv=("/sbin/init",), user=User())
    with pytest.raises(RunnerError, match="does not boot") as caught:
        nspawn._check(init, boot=True)
    assert "os-release" in caught.value.why
    (spec.rootfs / "etc").mkdir()
    (spec.rootfs / "etc/os-release").write_text("")
    nspawn._check(init, boot=True)


def awaited(messages: list[bytes], text: str) -> int:
    """What is known of an nspawn that sent *messages* and is the shell script *text*."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with ours, its:
        for message in messages:
            its.send(message)
        monitor = subprocess.Popen(["sh", "-c", text], stdout=writer, stderr=writer)
        os.close(writer)
        try:
            return nspawn._await_leader(ours, monitor, reader)
        finally:
            os.close(reader)
            monitor.kill()
            monitor.wait()


def test_the_first_process_is_known_when_it_runs() -> None:
    assert awaited([b"STATUS=Container running.\nX_NSPAWN_LEADER_PID=77", b"READY=1"], "exec sleep 600") == 77


def test_one_that_ends_before_is_quoted() -> None:
    with pytest.raises(RunnerError, match="made no container") as caught:
        awaited([b"X_NSPAWN_LEADER_PID=77"], "echo no such directory; exit 1")
    assert caught.value.why == "ended with status 1: no such directory"


def test_an_nspawn_that_is_missing_or_broken_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    support = nspawn.probe({}, tmp_path)
    assert (support.ok, support.fix) == (False, "install systemd-container")
    on_path(tmp_path, monkeypatch, "systemd-nspawn", "echo cannot >&2; exit 1")
    assert nspawn.probe({}, tmp_path).why == "cannot"
