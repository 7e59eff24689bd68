"""What a guest with a workload of a user's boots from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tare.runners.base import RunnerError, Spec
from tare.runners.guest import inside, workload
from tare.runners.image import sources
from tests.cpio import read

MIB = 1 << 20
MACHINE = workload.Machine(
    devices=inside.Devices(disk="/dev/vda", link="eth0"), least_bytes=72 * MIB, modules=None, for_disk=("overlay",)
)


def spec(root: Path, **wishes: Any) -> Spec:
    root.mkdir(exist_ok=True)
    (root / "serve").touch()
    given: dict[str, Any] = {"argv": ("/serve",), "memory_bytes": 128 * MIB, "cpus": 1, "custom": True, **wishes}
    return Spec(image=sources.find(str(root), root.parent / "cache"), **given)


@pytest.mark.parametrize(("grant_mib", "most_mib"), [(72, 0), (60, 0), (128, 28), (1024, 256)])
def test_how_much_is_held_in_memory(grant_mib: int, most_mib: int) -> None:
    assert workload.most_bytes(grant_mib * MIB, 72 * MIB) == most_mib * MIB


@pytest.mark.compiler
def test_a_small_image_is_in_memory_with_our_files_beside_it(tmp_path: Path) -> None:
    asked = spec(tmp_path / "root")
    with workload.assembled(asked, MACHINE, "auto", tmp_path / "cache") as made:
        entries = read(made.initrd.read_bytes())
        assert {"serve", ".tare/init", ".tare/workload", "dev/ttyS1"} <= entries.keys()
        assert entries[".tare/workload"].data.endswith(b"c/serve\0")
        assert (made.disk, made.networked) == (None, False)
    assert not made.initrd.exists()


@pytest.mark.compiler
def test_a_large_image_is_a_disk_that_is_kept(tmp_path: Path) -> None:
    asked = spec(tmp_path / "root", ports=(80,))
    (tmp_path / "root" / "large").write_bytes(bytes(29 * MIB))
    with workload.assembled(asked, MACHINE, "auto", tmp_path / "cache") as made:
        assert made.disk is not None
        assert "serve" not in read(made.initrd.read_bytes())
        assert made.networked
    assert made.disk.exists()


def test_an_image_that_must_be_in_memory_and_cannot_be_is_refused_with_what_would_do(tmp_path: Path) -> None:
    asked = spec(tmp_path / "root")
    (tmp_path / "root" / "large").write_bytes(bytes(40 * MIB))
    refused = pytest.raises(RunnerError, match=r"too large.*40 MiB; 28 fit into a guest of 128 MiB")
    with refused as caught, workload.assembled(asked, MACHINE, "memory", tmp_path / "cache"):
        pass
    assert "memory_mib to 160" in caught.value.fix
    assert 'root = "disk"' in caught.value.fix


@pytest.mark.compiler
@pytest.mark.parametrize(("root", "found"), [("memory", False), ("disk", True)])
def test_the_modules_for_a_disk_come_with_one(tmp_path: Path, root: workload.Root, found: bool) -> None:
    (tmp_path / "overlay.ko").write_bytes(b"depends=\0")
    machine = replace(MACHINE, modules=tmp_path)
    with workload.assembled(spec(tmp_path / "root"), machine, root, tmp_path / "cache") as made:
        entries = read(made.initrd.read_bytes())
        assert (".tare/overlay.ko" in entries) == found
        assert (b"moverlay.ko\0" in entries[".tare/workload"].data) == found
