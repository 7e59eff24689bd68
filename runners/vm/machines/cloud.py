"""A disk of the user's own, as a cloud starts it: a copy of it, and a second disk that says who it is.

That is the data source *NoCloud* of cloud-init: a small FAT file system labelled ``CIDATA``, with the files
``meta-data``, ``user-data`` and ``network-config``. A system without cloud-init does not look at it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tare.runners.base import RunnerError, Spec
from tare.runners.guest import inside, network
from tare.runners.vm.connection import Hypervisor
from tare.runners.vm.domain import HARDWARE_ADDRESS, Disk
from tare.runners.vm.machines import Recipe, place, provision, system
from tare.runners.vm.options import Wanted

_PACKAGES = "apt-get install dosfstools mtools"
_SEED_BYTES = 4 << 20
_META = "instance-id: tare\nlocal-hostname: tare\n"


@contextmanager
def recipe(spec: Spec, wanted: Wanted, hypervisor: Hypervisor, cache: Path, *, tap: bool) -> Iterator[Recipe]:
    """What guests of *spec* start from. Raises RunnerError."""
    if not inside.is_init(spec):
        raise RunnerError(
            "boot = cloud runs no command", "a machine of your own runs what is on its disk, or in its user-data",
            'leave the command out, and say it in user_data; or boot = "disk"',
        )  # fmt: skip
    image = spec.image.shape("machine")
    if provision.format_of(image) == "qcow2":
        fix = "fetch the image again"
        place.run(["qemu-img", "check", "-q", str(image)], f"the image {image} is damaged", provision.QEMU_IMG, fix)
    files = {
        "meta-data": _META,
        "user-data": user_data(wanted.user_data, tap=tap),
        "network-config": interfaces(wanted, tap=tap),
    }
    with ExitStack() as stack:
        work = stack.enter_context(place.stage(hypervisor, cache))
        image = place.reachable(hypervisor, image, work)
        base = Disk(path=image, format=provision.format_of(image), bus=wanted.disk_bus, cache=wanted.disk_cache)
        # On virtio whatever the other is on: other buses have no disk that is only read, and all guests read this one.
        seed = Disk(path=_seed(files, work), read_only=True)
        disk = system.Booting(base, (seed,), wanted, work)
        yield Recipe(
            own=disk.own,
            shown=disk.shown,
            by_hand=disk.by_hand,
            custom=True,
            networked=tap,
            system=True,
            phones=tap,
            manifest=files,
        )


def user_data(given: Path | None, *, tap: bool) -> str:
    """The user-data: those of the file *given*, or none but that cloud-init says when it is done. Raises RunnerError.

    It says so by a request to the host where there is a network, else on the console.
    """
    if given is not None:
        try:
            return given.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RunnerError(
                f"the user-data {given} cannot be read", str(error), "correct the option user_data"
            ) from error
    if tap:
        return f"#cloud-config\nphone_home:\n  url: http://{network.HOST}/\n  post: [instance_id]\n  tries: 5\n"
    return '#cloud-config\nfinal_message: "\\ntare ready"\n'


def interfaces(wanted: Wanted, *, tap: bool) -> str:
    """The network configuration, version 2 of cloud-init's; JSON is YAML."""
    if not tap and wanted.network != "user":
        return '{"version": 2, "ethernets": {}}\n'
    said: dict[str, object] = {"match": {"macaddress": HARDWARE_ADDRESS}}
    said |= {"addresses": [f"{network.GUEST}/{network.BITS}"]} if tap else {"dhcp4": True}
    return json.dumps({"version": 2, "ethernets": {"eth0": said}}) + "\n"


def _seed(files: dict[str, str], directory: Path) -> Path:
    """A file system with *files*, as cloud-init looks for it."""
    target = directory / "seed.vfat"
    with target.open("xb") as stream:
        stream.truncate(_SEED_BYTES)
    what = "the disk with the user-data cannot be made"
    place.run(["mkfs.vfat", "-n", "CIDATA", str(target)], what, _PACKAGES)
    for name, text in files.items():
        (directory / name).write_text(text, "utf-8")
        place.run(["mcopy", "-i", str(target), str(directory / name), f"::{name}"], what, _PACKAGES)
    return target
