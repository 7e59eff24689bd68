"""The options of the runner vm: what they mean, and which cannot be."""

from __future__ import annotations

import pytest

from tare.runners.base import RunnerError
from tare.runners.vm import options


def test_without_options_it_is_the_least_machine() -> None:
    wanted = options.read({})
    assert (wanted.boot, wanted.restored, wanted.from_disk, wanted.timeline) == ("direct", False, False, False)
    assert (wanted.machine, wanted.root, wanted.network, wanted.cpu) == ("q35", "auto", "auto", "")


def test_a_whole_system_boots_by_bios_from_an_overlay_and_says_how_far_it_is() -> None:
    wanted = options.read({"boot": "disk"})
    assert (wanted.from_disk, wanted.timeline) == (True, True)
    assert (wanted.firmware, wanted.provision, wanted.disk_bus, wanted.disk_cache) == (
        "bios",
        "overlay",
        "virtio",
        "writeback",
    )


def test_what_is_restored_is_the_boot_that_was_saved_and_has_no_timeline() -> None:
    wanted = options.read({"boot": "restore", "saved": "disk", "firmware": "efi"})
    assert (wanted.boot, wanted.restored, wanted.from_disk, wanted.timeline) == ("disk", True, True, False)
    assert options.read({"boot": "restore"}).boot == "direct"


def test_the_root_of_a_direct_boot_with_a_disk_is_on_that() -> None:
    assert options.read({"boot": "direct-disk"}).root == "disk"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"saved": "disk"}, "boot = restore restores"),
        ({"boot": "restore", "timeline": "yes"}, "does not boot"),
        ({"boot": "direct-disk", "firmware": "efi"}, "starts the kernel itself"),
        ({"provision": "copy"}, "no disk that is written to"),
        ({"disk_cache": "none"}, "no disk that is written to"),
        ({"boot": "disk", "user_data": "/etc/hostname"}, "no cloud-init"),
        ({"boot": "disk", "root": "memory"}, "root on a disk"),
        ({"boot": "disk", "kernel": "/vmlinuz"}, "kernel that is on the disk"),
        ({"boot": "disk", "balloon": "virtio"}, "no balloon"),
        ({"disk_bus": "sata"}, "in memory"),
        ({"boot": "direct-disk", "disk_bus": "sata"}, "virtio alone"),
        ({"boot": "disk", "disk_bus": "ide"}, "SATA alone"),
        ({"cpu": "a b"}, "letters, digits"),
        ({"boot": "floppy"}, "known: direct, direct-disk, disk, cloud, restore"),
        ({"network": "wifi"}, "known: auto, none, user, tap"),
        ({"hugepages": "maybe"}, "known: no, yes"),
    ],
)
def test_what_cannot_be_or_has_no_effect_is_refused(given: dict[str, str], why: str) -> None:
    with pytest.raises(RunnerError) as caught:
        options.read(given)
    assert why in str(caught.value)


def test_a_whole_system_is_known_to_take_longer() -> None:
    system, program = ("/sbin/init",), ("/payload",)
    assert options.typical_s({}, program) < options.typical_s({"boot": "disk"}, system)
    assert options.typical_s({"boot": "restore"}, system) < 1
    assert options.typical_s({"boot": "direct-disk"}, program) < options.typical_s({"boot": "direct-disk"}, system)
