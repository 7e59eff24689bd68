"""``linux.resources.blockIO``: weights and rates for block devices, as v1's blkio and v2's io controller name them.

Sources: the OCI runtime specification (config-linux.md, "Block IO"), cgroup-v1/blkio-controller.rst, cgroup-v2.rst
("IO"), Documentation/block/bfq-iosched.rst.
"""

from __future__ import annotations

import os

from ..light.dataclasses import record
from ..reader import SEE, BundleError, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .cgroups import V1, V2

#: Key of the configuration -> file of v1, word of v2's io.max.
_RATES = {
    "throttleReadBpsDevice": ("blkio.throttle.read_bps_device", "rbps"),
    "throttleWriteBpsDevice": ("blkio.throttle.write_bps_device", "wbps"),
    "throttleReadIOPSDevice": ("blkio.throttle.read_iops_device", "riops"),
    "throttleWriteIOPSDevice": ("blkio.throttle.write_iops_device", "wiops"),
}
_LOWEST, _HIGHEST = 10, 1000


@record(kw_only=True)
class BlockIo:
    """*weight* is 10 to 1000 or 0; devices are "major:minor"; rates (*key*, device, bytes or operations a second)."""

    weight: int = 0
    weights: tuple[tuple[str, int], ...] = ()
    rates: tuple[tuple[str, str, int], ...] = ()


def parse_block_io(reader: Reader) -> BlockIo:
    """The :class:`BlockIo` of ``linux.resources.blockIO``. Raises :class:`BundleError`."""
    weight = _weight(reader, "weight")
    _no_leaf(reader)
    weights, rates = [], []
    for item, device in _devices(reader, "weightDevice"):
        if item.lacks("weight") and item.lacks("leafWeight"):
            raise BundleError(item.at("weight"), "is missing, and so is leafWeight", SEE)
        weights.append((device, _weight(item, "weight")))
        _no_leaf(item)
        item.done()
    for key in _RATES:
        for item, device in _devices(reader, key):
            rate = item.take("rate", int)
            if rate < 0:
                raise BundleError(item.at("rate"), "must not be negative", SEE)
            rates.append((key, device, rate))
            item.done()
    reader.done()
    return BlockIo(weight=weight, weights=tuple(weights), rates=tuple(rates))


def _weight(reader: Reader, key: str) -> int:
    weight = reader.take(key, int, 0)
    if weight and not _LOWEST <= weight <= _HIGHEST:
        raise BundleError(reader.at(key), f"is not from {_LOWEST} to {_HIGHEST}", SEE)
    return weight


def _no_leaf(reader: Reader) -> None:
    if reader.take("leafWeight", int, 0):
        reader.warn("leafWeight", "ignored: Linux 5.0 removed it with the CFQ scheduler")


def _devices(reader: Reader, key: str) -> Iterator[tuple[Reader, str]]:
    for item in reader.each(key):
        major, minor = item.take("major", int), item.take("minor", int)
        if major < 0 or minor < 0:
            raise BundleError(item.where, "major and minor must not be negative", SEE)
        yield item, f"{major}:{minor}"


def writes(asked: BlockIo, group: V1 | V2) -> Iterator[tuple[str, str, str]]:
    """What to write for *group*: (key of the configuration, file, text)."""
    unified = group.version == 2
    # The files of a scheduler that has one: BFQ's own weights take the configuration's numbers as they are.
    bfq = "io.bfq.weight" if unified else "blkio.bfq.weight"
    plain = "io.weight" if unified else "blkio.weight"
    if asked.weight or asked.weights:
        file = bfq if _exists(group, "io" if unified else "blkio", bfq) else plain
        # Only v2 has the weights of devices in the same file as the one for all others.
        device_file = file if unified else f"{file}_device"
        scale = weight_of_blkio if file == "io.weight" else int
        if asked.weight:
            yield "weight", file, str(scale(asked.weight))
        for device, weight in asked.weights:
            if weight:
                yield "weightDevice", device_file, f"{device} {scale(weight)}"
    for key, device, rate in asked.rates:
        file, word = _RATES[key]
        if unified:
            yield key, "io.max", f"{device} {word}={rate or 'max'}"
        else:
            yield key, file, f"{device} {rate}"


def _exists(group: V1 | V2, controller: str, file: str) -> bool:
    try:
        return os.path.exists(group.file(controller, file))
    except FileNotFoundError:  # no such hierarchy: the write reports it
        return False


def weight_of_blkio(weight: int) -> int:
    """v2's io.weight, 1 to 10000, for 10 to 1000: a straight line, as in crun and runc."""
    return 1 + (weight - _LOWEST) * 9999 // (_HIGHEST - _LOWEST)
