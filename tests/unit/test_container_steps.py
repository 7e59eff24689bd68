"""The whole set-up, recorded instead of done: what is called, in which order."""

from __future__ import annotations

import errno
import os
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.container import init, steps, syscalls
from runners.container import plan as planning
from runners.container.bundle import Bundle, parse
from runners.container.defaults import default_config
from runners.container.kernel import flatten
from runners.container.plan import Look, Plan, plan


class Recorder:
    """A :class:`runners.container.kernel.Sys` that only remembers; *fails* maps a call's name to an errno."""

    def __init__(self, **fails: int) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fails = fails

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: object) -> None:
            self.calls.append((name, *arguments))
            if name in self.fails:
                raise OSError(self.fails[name], os.strerror(self.fails[name]), str(arguments))

        return call


def bundle() -> Bundle:
    return parse(
        default_config(argv=("/payload",), env=(), rootfs="/root:fs,1", cgroup="tare-1/x", memory_bytes=1 << 27, cpus=1)
    )


def look(path: str) -> Literal["file", "directory", ""]:
    known: dict[str, Literal["file", "directory"]] = {
        "/proc/kcore": "file",
        "/sys/firmware": "directory",
        "/proc/sys": "directory",
    }
    return known.get(path, "")


def made(last_capability: int = 40) -> Plan:
    return plan(bundle(), base="/b", last_capability=last_capability, look=look)


def recorded(*what: steps.Step) -> list[tuple[Any, ...]]:
    recorder = Recorder()
    for step in what:
        step.apply(recorder)
    return recorder.calls


def test_order_of_the_set_up() -> None:
    """Host's root gone before anything else is mounted; capabilities last, since all before needs them."""
    calls = recorded(*made().own)
    names = [call[0] for call in calls]
    mounts = [call[2] for call in calls if call[0] == "mount"]
    assert mounts[:3] == ["/b", "/b/m", "/proc"]
    assert names.index("unshare") < names.index("pivot_root") < names.index("umount2")
    assert calls[names.index("umount2")] == ("umount2", ".", syscalls.MNT_DETACH)
    assert calls.index(("mount", "proc", "/proc", "proc", 14, "")) > names.index("umount2")
    assert names[-1] == "capset"
    assert names[0] == "prctl"


def test_namespaces_in_one_clone() -> None:
    flags = made().clone_flags
    for flag in ("NEWNS", "NEWPID", "NEWUTS", "NEWIPC", "NEWNET"):
        assert flags & getattr(syscalls, f"CLONE_{flag}")
    assert not flags & syscalls.CLONE_NEWCGROUP, "it would hide the parent's cgroup, not the container's"


def test_inherited_steps_take_what_is_not_granted() -> None:
    calls = recorded(*made(last_capability=40).inherited)
    dropped = {call[2] for call in calls if call[:2] == ("prctl", syscalls.PR_CAPBSET_DROP)}
    assert len(dropped) == 41 - 14
    assert 21 in dropped, "CAP_SYS_ADMIN"
    assert 0 not in dropped, "CAP_CHOWN"
    assert ("prctl", syscalls.PR_SET_NO_NEW_PRIVS, 1) in calls
    assert ("setgroups", []) in calls


def test_masks_and_readonly_follow_what_is_there() -> None:
    calls = recorded(*made().own)
    assert ("mount", "/dev/null", "/proc/kcore", "", syscalls.MS_BIND) in calls
    assert [call[3] for call in calls if call[0] == "mount" and call[2] == "/sys/firmware"] == ["tmpfs"]
    twice = [call[4] for call in calls if call[0] == "mount" and call[2] == "/proc/sys"]
    assert len(twice) == 2
    assert twice[1] & (syscalls.MS_REMOUNT | syscalls.MS_RDONLY) == syscalls.MS_REMOUNT | syscalls.MS_RDONLY
    assert not any("timer_list" in str(call) for call in calls)


def test_devices_and_links() -> None:
    calls = recorded(*made().own)
    nodes = {call[1]: call[3] for call in calls if call[0] == "mknod"}
    assert nodes["/dev/null"] == os.makedev(1, 3)
    assert set(nodes) == {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
    assert ("symlink", "pts/ptmx", "/dev/ptmx") in calls
    before, after = calls.index(("umask", 0)), calls.index(("umask", 0o22))
    assert all(before < i < after for i, call in enumerate(calls) if call[0] == "mknod")


def test_joining_writes_zero_to_each() -> None:
    assert recorded(steps.JoinCgroup(("/m/tasks", "/p/tasks"))) == [
        ("write", "/m/tasks", "0"),
        ("write", "/p/tasks", "0"),
    ]


def test_overlay_escapes() -> None:
    calls = recorded(steps.Layer("/root:fs,1", "/b"))
    assert calls[-1] == (
        "mount",
        "overlay",
        "/b/m",
        "overlay",
        0,
        r"lowerdir=/root\:fs\,1,upperdir=/b/u,workdir=/b/w",
    )


@given(st.text(st.sampled_from("a/\\:,"), max_size=12))
def test_overlay_escapes_can_be_undone(path: str) -> None:
    text = steps.overlay_options(path, "", "")
    raw = text.removeprefix("lowerdir=").removesuffix(",upperdir=,workdir=")
    plain, rest = "", iter(raw)
    for char in rest:
        assert char not in ":,"
        plain += next(rest) if char == "\\" else char
    assert plain == path


def test_directories_are_made_where_there_are_none() -> None:
    """The rootfs' own /proc is enough; its /dev/pts is not, since the tmpfs on /dev has come over it."""
    has: Look = lambda path: "directory" if path in ("/root:fs,1/proc", "/root:fs,1/dev/pts") else ""  # noqa: E731
    calls = recorded(*plan(bundle(), base="/b", last_capability=40, look=has).own)
    directories = [call[1] for call in calls if call[0] == "mkdir"]
    assert directories[3:] == ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"]


def test_look_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "dev").symlink_to("/etc")
    root = os.path.realpath(tmp_path)
    answers = [planning.look(f"{root}/{name}") for name in ("proc", "file", "dev", "dev/passwd", "absent")]
    assert answers == ["directory", "file", "", "", ""]


class LeftError(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(status: int) -> None:
        assert status == init.SETUP_FAILED
        raise LeftError

    monkeypatch.setattr(os, "_exit", leave)


def run(*what: steps.Step, **fails: int) -> tuple[list[tuple[Any, ...]], str]:
    """Run *what* as a child does, with calls that fail; what was called and what was said on the status pipe."""
    recorder = Recorder(**fails)
    calls = [
        [(getattr(recorder, act.__name__), arguments, tolerated) for act, arguments, tolerated in each]
        for each in flatten(what)
    ]
    reader, writer = os.pipe()
    try:
        init.run(what, calls, writer)
    except LeftError:
        pass
    finally:
        os.close(writer)
    with open(reader, encoding="utf-8") as said:
        return recorder.calls, said.read()


def test_flat_calls_are_the_steps_calls() -> None:
    flat = [(act.__name__, *arguments) for each in flatten(made().own) for act, arguments, _ in each]
    assert flat == recorded(*made().own)


@pytest.mark.parametrize("error", [errno.ENOENT, errno.ENOTDIR])
@pytest.mark.parametrize("step", [steps.MaskFile("/proc/x"), steps.MaskDirectory("/x"), steps.MakeReadonly("/x")])
@pytest.mark.usefixtures("leaving")
def test_absent_paths_need_no_mask(step: steps.Step, error: int) -> None:
    calls, said = run(step, steps.NewSession(), mount=error)
    assert said == ""
    assert calls[-1] == ("setsid",)


@pytest.mark.parametrize("step", [steps.MaskFile("/proc/x"), steps.MaskDirectory("/x"), steps.MakeReadonly("/x")])
@pytest.mark.usefixtures("leaving")
def test_a_mask_that_fails_is_no_success(step: steps.Step) -> None:
    calls, said = run(step, steps.NewSession(), mount=errno.EPERM)
    assert "[Errno 1]" in said
    assert ("setsid",) not in calls


@pytest.mark.usefixtures("leaving")
def test_existing_directory_is_fine() -> None:
    assert run(steps.MakeDirectory("/proc"), mkdir=errno.EEXIST)[1] == ""
    assert "cannot make the directory /proc" in run(steps.MakeDirectory("/proc"), mkdir=errno.EACCES)[1]


@pytest.mark.usefixtures("leaving")
def test_failure_names_its_step() -> None:
    """The child's only way to speak is a pipe: step and reason stand in one line, and nothing after is done."""
    calls, said = run(steps.SetHostname("x"), steps.NewSession(), sethostname=errno.EPERM)
    assert said.startswith("cannot set the hostname to x: [Errno 1]")
    assert [call[0] for call in calls] == ["sethostname"]


def test_every_step_says_what_it_does_and_is_frozen() -> None:
    every = (*made().inherited, *made().own, steps.JoinCgroup(("/m/x/tasks",)))
    words = [step.describe() for step in every]
    assert all(word and word[0].islower() and not word.endswith(".") for word in words)
    assert len({*words} - {"set the umask to 000", "set the umask to 022"}) == len(words) - 2
    step = steps.SetHostname("x")
    with pytest.raises((FrozenInstanceError, AttributeError)):
        step.name = "y"  # type: ignore[misc]
