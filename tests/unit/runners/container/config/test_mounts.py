"""What is made of the mounts, devices and kernel parameters of a configuration, without making any."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tare.runners.container.config import extras, mounts
from tare.runners.container.linux import idmap
from tare.runners.container.linux import mount_calls as k
from tare.runners.container.reader import BundleError, Reader
from tare.runners.container.setup import rootfs_contents
from tare.runners.container.setup.kernel import Kernel
from tare.runners.container.setup.steps import rootfs


def parsed(**values: Any) -> tuple[mounts.Mount, list[str]]:
    """A mount, with a destination if none is given, and what was said of it."""
    reader = Reader({"destination": "/target", "type": "tmpfs", **values}, "mounts[0]")
    return mounts.parse(reader, directory="/bundle"), reader.warnings


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (["sync", "async"], 0),
        (["async", "sync"], k.MS_SYNCHRONOUS),
        (["lazytime", "nolazytime", "dirsync"], k.MS_DIRSYNC),
        (["ro", "defaults", "rw"], 0),
        (["noatime", "relatime"], k.MS_RELATIME),
        (["relatime", "strictatime"], k.MS_STRICTATIME),
        (["user"], k.MS_NOSUID | k.MS_NODEV | k.MS_NOEXEC),
        (["user", "exec"], k.MS_NOSUID | k.MS_NODEV),
        (["owner"], k.MS_NOSUID | k.MS_NODEV),
        (["nofail", "x-gvfs-show", "comment=x", "_netdev"], 0),
        (["silent", "mand", "nomand"], k.MS_SILENT),
    ],
)
def test_flags_of_a_file_system(options: list[str], flags: int) -> None:
    mount, said = parsed(options=options)
    assert (mount.flags, mount.data, said) == (flags, "", [])


def test_unknown_options_go_to_the_file_system_or_are_said() -> None:
    assert parsed(options=["size=1m", "ro", "huge=never"])[0].data == "size=1m,huge=never"
    mount, said = parsed(type="bind", source="x", options=["size=1m"])
    assert (mount.data, mount.source, len(said)) == ("", "/bundle/x", 1)


@pytest.mark.parametrize("target", ["proc", "./proc", "/../proc", "//proc/", "/.././../proc", "proc/."])
def test_destinations(target: str) -> None:
    mount, said = parsed(destination=target)
    assert mount.target == "/proc"
    assert bool(said) == (not target.startswith("/"))


def test_any_file_system_is_the_kernels_to_judge() -> None:
    assert parsed(type="nosuchfs", source="x")[0].kind == "nosuchfs"
    assert parsed(type="tmpfs")[0].source == "tmpfs"


def test_remount_needs_neither_source_nor_type() -> None:
    mount, _ = parsed(type="", options=["remount", "ro"])
    assert (mount.remount, mount.bind, mount.flags) == (True, False, k.MS_RDONLY)
    assert parsed(type="none", options=["bind", "remount"])[0].remount


def test_idmap_needs_ids_from_somewhere() -> None:
    mount, _ = parsed(type="bind", source="/x", options=["idmap"])
    assert (mount.idmap, mount.identity) == (True, None)
    mounts.check([mount], {"user": ""})
    with pytest.raises(BundleError, match="idmap needs"):
        mounts.check([mount], {"mount": ""})


@pytest.mark.parametrize(
    ("targets", "closed_before", "closed_at_the_end"),
    [
        (["/a", "/a/b"], {}, ["/a", "/a/b"]),
        (["/a", "/a"], {1: ["/a"]}, ["/a"]),
        (["/a/b", "/a"], {1: ["/a/b"]}, ["/a"]),
        (["/a", "/ab"], {}, ["/a", "/ab"]),
        (["/a", "/"], {1: ["/a"]}, ["/"]),
    ],
)
def test_each_read_only_tmpfs_is_closed_once(
    targets: list[str], closed_before: dict[int, list[str]], closed_at_the_end: list[str]
) -> None:
    listed = tuple(parsed(destination=target, options=["ro"])[0] for target in targets)
    for number in range(len(listed)):
        steps = list(rootfs_contents.covered(listed, number))
        assert [step.target for step in steps if isinstance(step, rootfs.SetAttributes)] == closed_before.get(
            number, []
        )
    assert [mount.target for mount in rootfs_contents._closing(listed)] == closed_at_the_end


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.100/forwarding", "net/ipv4/conf/eth0.100/forwarding"),
        ("net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding"),
    ],
)
def test_names_of_kernel_parameters(name: str, path: str) -> None:
    linux = Reader({"sysctl": {name: "1"}}, "linux")
    assert extras.sysctls(linux, {"network": ""}) == ((f"/proc/sys/{path}", "1"),)


@pytest.mark.parametrize(
    "name", ["net/../kernel/x", "net//x", "net.ipv4..x", "kernel.hostname", "vm.swappiness", "net", ""]
)
def test_kernel_parameters_of_the_host_are_refused(name: str) -> None:
    with pytest.raises(BundleError):
        extras.sysctls(Reader({"sysctl": {name: "1"}}, "linux"), dict.fromkeys(("network", "ipc", "uts", "user"), ""))


def test_ids_of_the_host() -> None:
    ranges = (idmap.Range(0, 1000, 10), idmap.Range(10, 5000, 5))
    assert [idmap.on_host(ranges, number) for number in (0, 9, 10, 14, 15)] == [1000, 1009, 5000, 5004, 0]
    assert idmap.first() == idmap.first(os.getpid())


def test_pipes_alone_are_given_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A FIFO with a name is a file of somebody's."""
    os.mkfifo(tmp_path / "fifo")
    named = os.open(tmp_path / "fifo", os.O_RDWR)
    plain = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    ends = os.pipe()
    streams = {0: ends[0], 1: named, 2: plain}
    fstat, given = os.fstat, list[tuple[int, int, int]]()

    def look(fd: int) -> os.stat_result:
        return fstat(streams.get(fd, fd))

    monkeypatch.setattr(os, "fstat", look)
    monkeypatch.setattr(os, "fchown", lambda *words: given.append(words))
    try:
        Kernel.own_streams(os.geteuid() + 1, 7)
    finally:
        monkeypatch.undo()
        for fd in (named, plain, *ends):
            os.close(fd)
    assert given == [(0, os.geteuid() + 1, 7)]
