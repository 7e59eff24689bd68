"""Which traces on a host are ours: names, owners, cgroups; all from recorded text."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tare.runners.vm import leftovers

V1 = """\
25 24 0:22 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
26 24 0:23 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
"""
V2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = V1 + "31 24 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n24 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
NAME = "qemu-embed-e363ce3f-1-tare-1a2b-1.libvirt-qemu"


def test_mounts() -> None:
    mounts = leftovers.cgroup_mounts(HYBRID)
    assert mounts["cpuacct"] == Path("/sys/fs/cgroup/cpu,cpuacct")
    assert mounts["memory"] == Path("/sys/fs/cgroup/memory")
    assert mounts[""] == Path("/sys/fs/cgroup/unified")
    assert leftovers.cgroup_mounts("40 24 8:1 / / rw - ext4 /dev/sda1 rw\n") == {}
    assert leftovers.cgroup_mounts("40 24 8:1 / /x\u2028y\x0cz rw - ext4 /dev/sda1 rw\n") == {}


@pytest.mark.parametrize(
    ("mountinfo", "memberships", "own", "expected"),
    [
        (
            V1,
            f"2:cpu,cpuacct:/machine/{NAME}/emulator\n",
            "2:cpu,cpuacct:/\n",
            f"/sys/fs/cgroup/cpu,cpuacct/machine/{NAME}",
        ),
        (V1, f"2:cpu,cpuacct:/machine/{NAME}\n", "2:cpu,cpuacct:/\n", f"/sys/fs/cgroup/cpu,cpuacct/machine/{NAME}"),
        (V2, f"0::/machine/{NAME}/libvirt/emulator\n", "0::/user\n", f"/sys/fs/cgroup/machine/{NAME}"),
        (
            V2,
            "0::/machine.slice/machine-qemu\\x2d1\\x2dtare.scope/libvirt/emulator\n",
            "0::/user.slice\n",
            "/sys/fs/cgroup/machine.slice/machine-qemu\\x2d1\\x2dtare.scope",
        ),
        # libvirt took the unified hierarchy and left QEMU in cpuacct where we are
        (
            HYBRID,
            f"0::/machine/{NAME}/emulator\n2:cpu,cpuacct:/login\n",
            "2:cpu,cpuacct:/login\n0::/\n",
            f"/sys/fs/cgroup/unified/machine/{NAME}",
        ),
        (V2, "0::/user\n", "0::/user\n", None),
        (V1, "2:memory:/machine/x\n", "2:memory:/\n", None),
    ],
)
def test_the_cgroup_that_counts(mountinfo: str, memberships: str, own: str, expected: str | None) -> None:
    found = leftovers.domain_cgroup(memberships, own, leftovers.cgroup_mounts(mountinfo))
    assert found == (Path(expected) if expected else None)


def qemu(name: str, *more: str, program: str = "/usr/bin/qemu-system-x86_64") -> list[str]:
    return [program, "-name", f"guest={name},debug-threads=on", "-S", *more]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (qemu("tare-1a2b-1"), "tare-1a2b-1"),
        (qemu("tare-proof-7", program="/usr/libexec/qemu-kvm"), "tare-proof-7"),
        (qemu("web"), ""),
        (qemu("untare-1"), ""),
        (qemu("x,guest=tare-1"), ""),
        (["/bin/less", "-name", "guest=tare-1"], ""),
        (["/usr/bin/qemu-system-x86_64", "-name"], ""),
        (["/usr/bin/qemu-system-x86_64", "-append", "guest=tare-1"], ""),
        ([], ""),
    ],
)
def test_a_qemu_is_ours_by_its_name_alone(command: list[str], name: str) -> None:
    assert leftovers.guest_name(command) == name


def test_the_owner_is_in_the_console_s_name() -> None:
    chardev = f"socket,id=charserial1,path=/run/tare-vm-9-x/{leftovers.console_name(3)}"
    assert leftovers.owner(qemu("tare-1", "-chardev", chardev)) == os.getpid()
    assert leftovers.owner(qemu("tare-1", "-chardev", "socket,path=/tmp/other.sock")) is None


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("tare-0a1b2c-12", True),
        ("tare-0a1b2c-12-3", True),
        ("tare-proof-77", True),
        ("tare-lab", False),
        ("tare-lab-1", False),
        ("tare-dev-7", False),
    ],
)
def test_a_machine_that_a_user_calls_so_is_no_orphan(tmp_path: Path, name: str, ours: bool) -> None:
    program = tmp_path / "qemu-system-x86_64"
    program.symlink_to("/bin/bash")
    command = qemu(name, program=str(program))
    words: list[str | Path] = [program, "-c", "echo; read x; exit 0", *command[1:]]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as machine:
        assert machine.stdout is not None
        machine.stdout.readline()  # exec has ended: until then /proc has no command line
        found = {pid for pid, _ in leftovers._orphans()}
        machine.communicate()
    assert (machine.pid in found) == ours


def test_sweep_removes_only_directories_of_the_dead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(leftovers, "runtime_directory", lambda: tmp_path)
    monkeypatch.setattr(leftovers, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(leftovers, "LARGE", tmp_path / "large")
    monkeypatch.setattr(leftovers, "_orphans", lambda: iter(()))
    monkeypatch.setattr(leftovers, "_stale_cgroups", list)
    dead = 2**22 + 1  # above the kernel's PID_MAX_LIMIT
    for name in (f"tare-vm-{dead}-x", f"tare-vm-{os.getpid()}-x", "tare-vm-what", "other", f"cache/tare-vm-{dead}-y"):
        (tmp_path / name / "run").mkdir(parents=True)
    assert leftovers.sweep() == [
        f"directory {tmp_path}/{name}" for name in (f"cache/tare-vm-{dead}-y", f"tare-vm-{dead}-x")
    ]
    assert {path.name for path in tmp_path.iterdir()} == {f"tare-vm-{os.getpid()}-x", "tare-vm-what", "other", "cache"}
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_parent_of_domains_that_was_there_before_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(leftovers, "cgroup_mounts", lambda _: {"cpu": tmp_path / "cpu", "memory": tmp_path / "memory"})
    (tmp_path / "cpu" / "machine").mkdir(parents=True)
    (tmp_path / "memory").mkdir()
    with leftovers.unmade_machine_cgroups():
        (tmp_path / "memory" / "machine").mkdir()
    assert (tmp_path / "cpu" / "machine").is_dir()
    assert not (tmp_path / "memory" / "machine").exists()
