"""The mount option ``remount``: what belongs to the host is not changed through it, and what is not named stays."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oci.harness import Box
from tests.oci.test_mounts import mountinfo, options


def super_block(place: Path | str) -> set[str]:
    """The options of the file system mounted at *place* of the host, as mountinfo shows them."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    (line,) = [line for line in lines if line.split(" ")[4] == os.fspath(place)][-1:]
    return set(line.rpartition(" ")[2].split(","))


@pytest.fixture
def given(box: Box) -> Iterator[Path]:
    """A file system of the host, with another below it."""
    source = box.directory / "given"
    source.mkdir()
    for place in (source, source / "below"):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
        (source / "below").mkdir(exist_ok=True)
    yield source
    for place in (source / "below", source):
        subprocess.run(["umount", place], check=True)


@pytest.mark.deviates("runc", "1.1 makes the host's read-only")
@pytest.mark.parametrize("target", ["/target", "/target/below"])
@pytest.mark.parametrize("kind", ["tmpfs", "none", ""])
def test_the_hosts_file_system_stays_as_it_is(box: Box, given: Path, target: str, kind: str) -> None:
    box.mount("/target", "bind", given, "rbind")
    box.mount(target, kind, "tmpfs", "remount", "ro", "nosuid")
    lines = mountinfo(box)
    assert "rw" in super_block(given) & super_block(given / "below")
    if box.runtime.ours:
        assert {"ro", "nosuid"} <= options(lines, target)


@pytest.mark.deviates("runc", "1.1 makes the host's read-only")
def test_that_of_the_root_stays_too(box: Box, given: Path) -> None:
    subprocess.run(["mv", box.rootfs, given / "rootfs"], check=True)
    box.config["root"]["path"] = os.fspath(given / "rootfs")
    box.config["mounts"] += [{"destination": "/", "type": "none", "source": "none", "options": ["remount", "ro"]}]
    done = box.sh("touch /made && echo made")
    assert "rw" in super_block(given)
    if box.runtime.ours:
        assert (done.out, "Read-only" in done.err) == ("", True)


@pytest.mark.parametrize("kind", ["proc", "sysfs", "mqueue"])
def test_what_shows_the_host_stays_too(our_box: Box, kind: str) -> None:
    """Without a namespace of its own, a mount of these is another view of the host's file system."""
    our_box.without({"proc": "pid", "sysfs": "network", "mqueue": "ipc"}[kind])
    view = our_box.directory / "view"
    view.mkdir()
    our_box.mount("/target", kind, kind)
    our_box.mount("/target", kind, kind, "remount", "ro")
    subprocess.run(["mount", "-t", kind, kind, view], check=True)
    try:
        assert "ro" in options(mountinfo(our_box), "/target")
        assert "rw" in super_block(view)
    finally:
        subprocess.run(["umount", view], check=True)


def test_an_option_that_would_change_the_hosts_is_left_out(our_box: Box, given: Path) -> None:
    before = super_block(given)
    our_box.mount("/target", "bind", given, "bind")
    our_box.mount("/target", "tmpfs", "tmpfs", "remount", "size=1m", "sync")
    log = our_box.directory / "log"
    our_box.process["args"] = ["/bin/true"]
    our_box.save()
    our_box.call("--log", str(log), "run", "--bundle", str(our_box.bundle), our_box.name).ok()
    assert super_block(given) == before
    assert log.read_text().count("the file system at /target is the host's, too") == 1


@pytest.mark.deviates("runc", "1.1 knows no nosymfollow and forgets sync")
@pytest.mark.deviates("crun", "1.8 knows no nosymfollow and forgets sync")
def test_what_is_not_named_stays(box: Box) -> None:
    has = ("nosuid", "nodev", "noexec", "nosymfollow", "noatime", "sync")
    box.mount("/target", "tmpfs", "tmpfs", *has)
    box.mount("/target", "tmpfs", "tmpfs", "remount", "ro")
    assert {"ro", *has} <= options(mountinfo(box), "/target")


@pytest.mark.parametrize(
    ("word", "gone"),
    [("rw", "ro"), ("suid", "nosuid"), ("exec", "noexec"), ("dev", "nodev"), ("symfollow", "nosymfollow"),
     ("async", "sync")],
)  # fmt: skip
def test_what_is_taken_away_goes(our_box: Box, word: str, gone: str) -> None:
    our_box.mount("/target", "tmpfs", "tmpfs", "sync")
    if gone != "ro":  # which a tmpfs of this list becomes last of all
        our_box.mount("/target", "tmpfs", "tmpfs", "remount", gone)
    our_box.mount("/target", "tmpfs", "tmpfs", "remount", word)
    assert gone not in options(mountinfo(our_box), "/target")
