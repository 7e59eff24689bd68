"""Every option that the specification lists for a mount (config.md, "Linux mount options"), and those of mount(8)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oci import config
from tests.oci.harness import Box
from tests.oci.test_mounts import mountinfo, options

#: Option -> what mountinfo shows of it, "" for nothing.
OF_A_MOUNT = {
    "ro": "ro",
    "rw": "rw",
    "nosuid": "nosuid",
    "nodev": "nodev",
    "noexec": "noexec",
    "noatime": "noatime",
    "nodiratime": "nodiratime",
    "relatime": "relatime",
    "suid": "",
    "dev": "",
    "exec": "",
    "atime": "relatime",
    "diratime": "",
    "strictatime": "",
    "norelatime": "relatime",
    "nostrictatime": "",
    "defaults": "",
}
OF_A_FILE_SYSTEM = {
    "sync": "sync",
    "async": "",
    "dirsync": "dirsync",
    "lazytime": "lazytime",
    "nolazytime": "",
    "silent": "",
    "loud": "",
    "iversion": "",
    "noiversion": "",
    "mand": "",
    "nomand": "",
}
RECURSIVE = ("rro", "rrw", "rnosuid", "rsuid", "rnodev", "rdev", "rnoexec", "rexec", "rnoatime", "ratime", "rrelatime",
             "rnodiratime", "rdiratime", "rstrictatime", "rnostrictatime", "rnorelatime")  # fmt: skip
NO_SYMLINKS = ("nosymfollow", "symfollow", "rnosymfollow", "rsymfollow")
PROPAGATION = ("private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable")


@pytest.fixture(params=["tmpfs", "bind", "file"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def with_option(box: Box, kind: str, *words: str) -> set[str]:
    """The options that a mount of this kind has with *words*, as mountinfo shows them."""
    source = box.directory / "source"
    if kind == "file":
        source.touch()
    else:
        source.mkdir(exist_ok=True)
    (box.rootfs / "target").touch() if kind == "file" else (box.rootfs / "target").mkdir(exist_ok=True)
    box.mount("/target", *(("tmpfs", "tmpfs") if kind == "tmpfs" else ("bind", source, "bind")), *words)
    return options(mountinfo(box), "/target")


@pytest.mark.deviates("runc", "1.1 hands it to the file system", only=["tmpfs-defaults"])
@pytest.mark.deviates("crun", "1.8 does not know it", only=["tmpfs-silent", "tmpfs-loud", "version"])
@pytest.mark.parametrize("word", [*OF_A_MOUNT, *OF_A_FILE_SYSTEM])
def test_each_option(box: Box, kind: str, word: str) -> None:
    """On a bind, the options of file systems are ignored: mount(8), "mount options that ... are ignored"."""
    found = with_option(box, kind, word)
    shown = OF_A_MOUNT.get(word, OF_A_FILE_SYSTEM.get(word, "") if kind == "tmpfs" else "")
    assert not shown or shown in found
    if word in ("suid", "dev", "exec"):
        assert f"no{word}" not in found


@pytest.mark.deviates("runc", "1.1.5 knows neither of them", only=["symfollow"])
@pytest.mark.deviates("runc", "1.1 has them for binds alone", only=["tmpfs"])
@pytest.mark.deviates("runc", "1.1 asks the kernel for what it refuses", only=["ratime", "rnostrictatime"])
@pytest.mark.deviates("crun", "1.8 knows neither of them", only=["symfollow"])
@pytest.mark.deviates("crun", "1.8 has them for directories alone", only=["file"])
@pytest.mark.deviates("crun", "1.8 asks the kernel for what it refuses", only=["time"])
@pytest.mark.parametrize("word", [*RECURSIVE, *NO_SYMLINKS])
def test_each_recursive_option(box: Box, kind: str, word: str) -> None:
    found = with_option(box, kind, word)
    name = word.removeprefix("r")
    if name in ("norelatime", "nostrictatime", "atime"):
        assert "relatime" in found
    if name in ("ro", "noexec", "nosuid", "nodev", "noatime", "nosymfollow"):
        assert name in found


@pytest.mark.parametrize("word", PROPAGATION)
def test_each_propagation(box: Box, kind: str, word: str) -> None:
    with_option(box, kind, word)


@pytest.mark.parametrize(
    ("words", "has", "lacks"),
    [
        (("ro", "rw"), "rw", "ro"),
        (("nosuid", "suid"), "rw", "nosuid"),
        (("sync", "async"), "rw", "sync"),
        (("async", "sync"), "sync", "async"),
        (("noatime", "relatime"), "relatime", "noatime"),
        (("noatime", "atime"), "relatime", "noatime"),
    ],
)
@pytest.mark.deviates("runc", "1.1 hands both to the kernel", only=["relatime"])
@pytest.mark.deviates("crun", "1.8 adds them up")
def test_of_two_options_the_later_counts(box: Box, words: tuple[str, ...], has: str, lacks: str) -> None:
    found = with_option(box, "tmpfs", *words)
    assert has in found
    # "rw" of the file system stands beside that of the mount.
    assert lacks not in found


@pytest.mark.deviates("runc", "hands it to the kernel")
@pytest.mark.deviates("crun", "hands it to the kernel")
@pytest.mark.parametrize(
    "word", ["auto", "noauto", "nofail", "_netdev", "x-systemd.automount", "X-mount.mkdir", "nouser"]
)
def test_words_of_fstab_are_for_nobody_here(box: Box, word: str) -> None:
    """mount(8) hands them to no file system; the specification asks for its behaviour."""
    with_option(box, "tmpfs", word)


@pytest.mark.deviates("runc", "hands it to the kernel")
@pytest.mark.deviates("crun", "hands it to the kernel")
def test_a_mount_for_users_is_a_safe_one(box: Box) -> None:
    assert {"nosuid", "nodev", "noexec"} <= with_option(box, "tmpfs", "user")


def test_an_unknown_option_of_a_bind_is_ignored(box: Box) -> None:
    """The kernel looks at no data of a bind. It is said once."""
    with_option(box, "bind", "size=5", "nothing-like-this")
    if box.runtime.ours:
        log = box.directory / "log"
        box.call("--log", str(log), "run", "--bundle", str(box.bundle), box.name).ok()
        assert log.read_text().count("nothing-like-this") == 1


def test_an_unknown_option_of_a_file_system_is_its_own(box: Box) -> None:
    """It goes to the file system, which refuses what it does not know."""
    box.mount("/target", "tmpfs", "tmpfs", "nothing-like-this")
    done = box.run("/bin/true").refused()
    assert "/target" in done.err or not box.runtime.ours


@pytest.mark.deviates("crun", "1.8 leaves its cgroups")
@pytest.mark.parametrize("kind", ["none", ""])
def test_no_type_without_bind_is_refused(box: Box, kind: str) -> None:
    box.mount("/target", kind, "source")
    box.run("/bin/true").refused()


def test_a_file_system_without_a_source(box: Box) -> None:
    box.config["mounts"].append({"destination": "/target", "type": "tmpfs"})
    assert "rw" in options(mountinfo(box), "/target")


@pytest.mark.parametrize("words", [("bind", "remount", "ro"), ("remount", "bind", "ro", "noexec")])
def test_remount_of_a_bind(box: Box, words: tuple[str, ...]) -> None:
    """mount(8) with bind and remount: the flags of what is mounted there, and nothing comes over it."""
    source = box.directory / "source"
    source.mkdir()
    box.mount("/target", "bind", source, "bind", "nosuid")
    box.mount("/target", "none", source, *words)
    lines = mountinfo(box)
    assert {"nosuid", *words} - {"bind", "remount"} <= options(lines, "/target") or not box.runtime.ours
    assert "ro" in options(lines, "/target")


def test_remount_of_a_file_system(box: Box) -> None:
    box.mount("/target", "tmpfs", "tmpfs", "nosuid", "size=1m", "mode=700")
    box.mount("/target", "tmpfs", "tmpfs", "remount", "size=2m", "nosuid")
    found = options(mountinfo(box), "/target")
    assert {"nosuid", "size=2048k"} <= found


def test_remount_of_what_is_not_mounted_is_refused(box: Box) -> None:
    (box.rootfs / "target").mkdir()
    box.mount("/target", "none", "none", "bind", "remount", "ro")
    box.run("/bin/true").refused()


@pytest.mark.parametrize("target", ["target", "./target", "deep/target/"])
def test_a_relative_destination_starts_at_the_root(box: Box, target: str) -> None:
    box.mount(target, "tmpfs", "tmpfs")
    options(mountinfo(box), os.path.normpath(f"/{target}"))
    if box.runtime.ours:
        log = box.directory / "log"
        box.call("--log", str(log), "run", "--bundle", str(box.bundle), box.name).ok()
        assert "deprecated" in log.read_text()


@pytest.mark.parametrize(
    ("target", "there"),
    [("/a/../b", "/b"), ("/../../b", "/b"), ("//b//", "/b"), ("/b/.", "/b"), ("/b/c/..", "/b")],
)
@pytest.mark.deviates("crun", "1.8 makes nothing on the way to ..", only=["/a/../b", "/b/c/.."])
def test_destinations_are_put_in_order(box: Box, target: str, there: str) -> None:
    box.mount(target, "tmpfs", "tmpfs")
    options(mountinfo(box), there)


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "file", "link"])
def test_bind_of_each_kind_of_file(box: Box, kind: str) -> None:
    """On a file that is made for it, and on one that is there."""
    source = box.directory / "source"
    if kind == "fifo":
        os.mkfifo(source)
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(source))
    elif kind == "device":
        os.mknod(source, 0o020666, os.makedev(1, 3))
    elif kind == "file":
        source.touch()
    else:
        (box.directory / "real").touch()
        source.symlink_to("real")
    (box.rootfs / "there").touch()
    box.mount("/absent", "bind", source, "bind")
    box.mount("/there", "bind", source, "bind", "ro")
    words = {"fifo": "fifo", "socket": "socket", "device": "character special file"}
    done = box.run("/bin/stat", "-c", "%F", "/absent", "/there").ok()
    assert done.lines == [words.get(kind, "regular empty file")] * 2


def test_bind_of_a_directory_on_a_file_is_refused(box: Box) -> None:
    (box.rootfs / "there").touch()
    box.mount("/there", "bind", box.directory, "bind")
    box.run("/bin/true").refused()


@pytest.mark.deviates("crun", "1.8 cannot find its files any more")
def test_a_bind_over_the_root(box: Box) -> None:
    """It is the root of the container, and the mounts after it are made in it."""
    other = box.directory / "other"
    subprocess.run(["cp", "-a", box.rootfs, other], check=True)
    (other / "other").touch()
    mounts = box.config["mounts"]
    box.config["mounts"] = []
    box.mount("/", "bind", other, "bind")
    box.config["mounts"] += mounts
    done = box.sh("ls /; grep -c ' /proc ' /proc/self/mountinfo").ok()
    assert "other" in done.lines
    assert done.lines[-1] == "1"


@pytest.fixture
def mapped(box: Box) -> Box:
    config.with_user_namespace(box.config)
    for path in (box.rootfs, *box.rootfs.rglob("*")):
        os.chown(path, 100_000, 100_000, follow_symlinks=False)
    return box


@pytest.mark.deviates("runc", "1.1 has no mapped mounts")
@pytest.mark.deviates("crun", "1.8 has no ridmap without mappings", only=["ridmap"])
@pytest.mark.parametrize("word", ["idmap", "ridmap"])
def test_idmap_without_mappings_takes_the_containers(mapped: Box, word: str) -> None:
    source = mapped.directory / "source"
    source.mkdir()
    mapped.mount("/target", "bind", source, "rbind", word)
    assert mapped.sh("stat -c %u:%g /target; touch /target/made").ok().lines == ["0:0"]
    assert (source / "made").stat().st_uid == 0


def test_idmap_without_any_mappings_is_refused(box: Box) -> None:
    (box.directory / "source").mkdir()
    box.mount("/target", "bind", box.directory / "source", "bind", "idmap")
    if box.runtime.name != "runc":  # 1.1 takes it for an option of a file system
        box.run("/bin/true").refused()


@pytest.mark.deviates("runc", "1.1 has them for binds alone", only=["rro"])
@pytest.mark.deviates("crun", "1.8 forgets them where it opens the source before")
@pytest.mark.deviates("runc", "1.1 cannot change how times are kept there", only=["noatime"])
@pytest.mark.parametrize("word", ["ro", "nosuid", "noexec", "nodev", "noatime", "rro", "sync", "rw"])
def test_options_in_a_user_namespace(mapped: Box, kind: str, word: str) -> None:
    found = with_option(mapped, kind, word)
    if word != "sync":
        assert {"rro": "ro"}.get(word, word) in found


@pytest.fixture
def mounted_below(box: Box) -> Iterator[Path]:
    source = box.directory / "source"
    (source / "sub").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,nodev,noexec", "tmpfs", source / "sub"], check=True)
    yield source
    subprocess.run(["umount", source / "sub"], check=True)


@pytest.mark.parametrize("word", ["rro", "rnoexec", "rnosuid", "rnodev"])
def test_recursive_options_reach_what_is_below(box: Box, mounted_below: Path, word: str) -> None:
    box.mount("/target", "bind", mounted_below, "rbind", word)
    lines = mountinfo(box)
    assert word[1:] in options(lines, "/target") & options(lines, "/target/sub")
