"""A workload of a user's in a guest: what its init is told, what it boots from, and what is read of its end."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from tare.bench.readiness import prober
from tare.runners.base import RunnerError, Scratch, Spec, User
from tare.runners.container.linux import syscalls
from tare.runners.image import sources
from tare.runners.image.kernel import Kernel
from tare.runners.launch import drain
from tare.runners.vm import backend, guest, inside, network, workload
from tare.runners.vm.connection import Hypervisor
from tests.conftest import require
from tests.cpio import read

MIB = 1 << 20
KERNEL = Kernel(path=Path("/k/vmlinux"), release="6.1.0", digest="d")


def spec(root: Path, **wishes: Any) -> Spec:
    root.mkdir(exist_ok=True)
    (root / "serve").touch()
    given: dict[str, Any] = {"argv": ("/serve",), "memory_bytes": 128 * MIB, "cpus": 1, "custom": True, **wishes}
    return Spec(image=sources.find(str(root), root.parent / "cache"), **given)


def test_the_init_is_told_all_that_a_specification_says(tmp_path: Path) -> None:
    asked = spec(
        tmp_path / "root",
        argv=("/serve", "", "a b\nc"),
        env=(("A", "1 = 2"), ("B", "")),
        cwd="/srv",
        user=User(uid=7, gid=8, groups=(9, 10)),
    )
    told = inside.description(asked, ["virtio.ko"], on_disk=True, networked=True)
    assert told.decode().split("\0") == [
        "mvirtio.ko", "htare", "w/srv", "u7", "g8", "s9", "s10", "d/dev/vda", "a10.0.0.2", "p10.0.0.1",
        "eA=1 = 2", "eB=", "c/serve", "c", "ca b\nc", "",
    ]  # fmt: skip
    assert b"/dev/vda" not in inside.description(asked, [], on_disk=False, networked=False)


def test_a_word_with_a_nul_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="NUL"):
        inside.description(spec(tmp_path / "root", argv=("/serve", "a\0b")), [], on_disk=False, networked=False)


@pytest.mark.parametrize(("grant_mib", "most_mib"), [(72, 0), (60, 0), (128, 28), (1024, 256)])
def test_how_much_is_held_in_memory(grant_mib: int, most_mib: int) -> None:
    assert workload.most_bytes(grant_mib * MIB) == most_mib * MIB


@pytest.mark.compiler
def test_a_small_image_is_in_memory_with_our_files_beside_it(tmp_path: Path) -> None:
    asked = spec(tmp_path / "root")
    with workload.assembled(asked, KERNEL, "auto", (), tmp_path / "cache") as made:
        entries = read(made.initrd.read_bytes())
        assert {"serve", ".tare/init", ".tare/workload", "dev/ttyS1"} <= entries.keys()
        assert entries[".tare/workload"].data.endswith(b"c/serve\0")
        assert (made.disk, made.networked) == (None, False)
    assert not made.initrd.exists()


@pytest.mark.compiler
def test_a_large_image_is_a_disk_that_is_kept(tmp_path: Path) -> None:
    asked = spec(tmp_path / "root", ports=(80,))
    (tmp_path / "root" / "large").write_bytes(bytes(29 * MIB))
    with workload.assembled(asked, KERNEL, "auto", (), tmp_path / "cache") as made:
        assert made.disk is not None
        assert "serve" not in read(made.initrd.read_bytes())
        assert made.networked
    assert made.disk.exists()


def test_an_image_that_must_be_in_memory_and_cannot_be_is_refused_with_what_would_do(tmp_path: Path) -> None:
    asked = spec(tmp_path / "root")
    (tmp_path / "root" / "large").write_bytes(bytes(40 * MIB))
    refused = pytest.raises(RunnerError, match=r"too large.*40 MiB; 28 fit into a guest of 128 MiB")
    with refused as caught, workload.assembled(asked, KERNEL, "memory", (), tmp_path / "cache"):
        pass
    assert "memory_mib to 160" in caught.value.fix
    assert 'root = "disk"' in caught.value.fix


def test_the_root_of_the_host_is_refused_with_one_command(tmp_path: Path) -> None:
    asked = Spec(argv=("/bin/true",), image=sources.find("host", tmp_path), memory_bytes=128 * MIB, cpus=1, custom=True)
    scratch = Scratch(directory=tmp_path, cache=tmp_path, cgroup=None, prefix="tare-0")
    with pytest.raises(RunnerError, match="image host") as caught, backend.prepare(asked, {}, scratch):
        pass
    assert "tare image build debian:bookworm+python3" in caught.value.fix


@pytest.mark.parametrize(
    ("log", "status"),
    [
        ("", None),
        ("tare init: the workload ended with status 3\r\n[    1.2] reboot: Power down\r\n", 3),
        ("the workload ended with status 3\n", None),
    ],
)
def test_how_a_workload_ended_is_read_from_the_log(log: str, status: int | None) -> None:
    assert inside.ended_with(log) == status


def started(stack: ExitStack, *, log: bytes, lives: bool) -> guest.Guest:
    """A guest whose emulator is a process that waits, or has ended, and whose kernel said *log*."""
    emulator = subprocess.Popen(["sleep", "60"] if lives else ["true"])
    stack.callback(emulator.wait)
    stack.callback(emulator.kill)
    handle = os.pidfd_open(emulator.pid)
    stack.callback(os.close, handle)
    ours, theirs = socket.socketpair()
    stack.enter_context(ours)
    ours.setblocking(False)
    if lives:
        stack.enter_context(theirs)
    else:
        theirs.close()
        select.select([handle], [], [])
    tail = drain.Tail(4000)
    tail.keep(log)
    return guest.Guest(
        name="tare-1", console=ours.fileno(), emulator_pid=emulator.pid, cgroup=None, log=-1, log_tail=tail,
        emulator_log=Path("/nowhere"), emulator_status=(), hypervisor=cast(Hypervisor, None), domain=None,
        emulator=handle, inside=guest.Inside(control=Path("/run/ctl"), asker=Path("/ask"), networked=True),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("log", "lives", "status"),
    [
        (b"", True, None),
        (b"tare init: the workload ended with status 3\n", False, 3),
        (b"Kernel panic - not syncing\n", False, 137),  # the machine ended, and the workload with it
    ],
)
def test_the_status_of_a_workload(log: bytes, lives: bool, status: int | None) -> None:
    with ExitStack() as stack:
        assert started(stack, log=log, lives=lives).status() == status


def test_a_guest_with_a_workload_is_reached_and_entered() -> None:
    with ExitStack() as stack:
        found = started(stack, log=b"", lives=True)
        assert found.command(("ls", "-l")) == ("/ask", "/run/ctl", "ls", "-l")
        address = found.address()
        assert (address.host, address.pid, address.link) == ("10.0.0.2", found.emulator_pid, "tare-tap")


def test_a_tap_is_in_a_namespace_of_its_own_and_goes_with_it() -> None:
    require("root", os.geteuid() == 0, "a network namespace is made by root")
    before = sorted(os.listdir("/sys/class/net"))
    said = network.with_tap(lambda: Path("/proc/thread-self/net/dev").read_text())
    assert "tare-tap:" in said
    assert network.trouble() == ""
    assert sorted(os.listdir("/sys/class/net")) == before


def test_attempts_begin_with_the_first_frame_of_a_guest() -> None:
    require("root", os.geteuid() == 0, "a packet socket is opened by root")
    over = threading.Event()
    told: list[bool] = []

    def listen(where: int | None = None) -> None:
        if where is not None:
            syscalls.setns(where, syscalls.CLONE_NEWNET)
        told.append(prober.heard("tare-tap", over.is_set))

    def play() -> None:
        """The guest is whoever has the tap open."""
        tap = network.opened()
        try:
            address = f"/proc/self/task/{threading.get_native_id()}/ns/net"
            where = os.open(address, os.O_RDONLY)
            waiter = threading.Thread(target=listen, args=(where,))
            waiter.start()
            waiter.join(0.3)
            assert told == []
            os.write(tap, bytes(10) + b"\xff" * 6 + b"\x52\x54\x00\x00\x00\x01\x08\x06" + bytes(46))
            waiter.join(10)
            assert told == [True]
            listen()  # it was heard before
            assert told == [True, True]
            os.close(where)
        finally:
            os.close(tap)

    network.with_tap(play)


def test_a_wait_for_a_frame_ends_when_it_is_told() -> None:
    require("root", os.geteuid() == 0, "a packet socket is opened by root")
    assert network.with_tap(lambda: prober.heard("tare-tap", lambda: True)) is False
