"""What the first process of a guest is told, and what is read of the end of its workload."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tare.runners.base import RunnerError, Spec, User
from tare.runners.guest import inside
from tare.runners.image import sources

MIB = 1 << 20
VM = inside.Devices(disk="/dev/vda", link="eth0")
UML = inside.Devices(disk="/dev/ubda", link="vec0", terminal="/dev/ttyS1")


def spec(root: Path, **wishes: Any) -> Spec:
    root.mkdir(exist_ok=True)
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
    told = inside.description(asked, VM, ["virtio.ko"], on_disk=True, networked=True)
    assert told.decode().split("\0") == [
        "mvirtio.ko", "htare", "w/srv", "u7", "g8", "s9", "s10", "d/dev/vda", "leth0", "a10.0.0.2", "p10.0.0.1",
        "eA=1 = 2", "eB=", "c/serve", "c", "ca b\nc", "",
    ]  # fmt: skip
    assert b"/dev/vda" not in inside.description(asked, VM, [], on_disk=False, networked=False)


def test_each_kind_of_machine_has_devices_of_its_own(tmp_path: Path) -> None:
    told = inside.description(spec(tmp_path / "root"), UML, [], on_disk=True, networked=True).split(b"\0")
    assert {b"d/dev/ubda", b"lvec0", b"t/dev/ttyS1"} <= set(told)


def test_a_machine_that_is_asked_by_several_ports_is_told_how_many(tmp_path: Path) -> None:
    several = dataclasses.replace(VM, ports=12)
    asked = spec(tmp_path / "root")
    assert b"n12" in inside.description(asked, several).split(b"\0")
    assert not [word for word in inside.description(asked, VM).split(b"\0") if word.startswith(b"n")]


def test_a_word_with_a_nul_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="NUL"):
        inside.description(spec(tmp_path / "root", argv=("/serve", "a\0b")), VM, [], on_disk=False, networked=False)


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
