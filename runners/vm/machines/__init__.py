"""What a machine starts from: one module for each way to boot, each of which gives a :class:`Recipe`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tare.runners.base import Mark
from tare.runners.vm.domain import DirectBoot, Disk, FirmwareBoot
from tare.runners.vm.guest import Begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What one instance starts from, with what was made for it alone.

    ``files`` hold its disks, and took ``made_bytes`` of the host's disk when they had been made. ``begin`` starts its
    domain, where that is not created; one that was restored is ``asked`` whether it is ready.
    """

    boot: DirectBoot | FirmwareBoot
    disks: tuple[Disk, ...] = ()
    files: tuple[Path, ...] = ()
    made_bytes: int = 0
    begin: Begin | None = None
    asked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Further:
    """What each machine has besides, for a runner that starts something in it: read-only *disks*, and *ports*."""

    disks: tuple[Path, ...] = ()
    ports: int = 1


NOTHING = Further()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What all instances of a subject start from.

    ``own(name, mark)`` makes what the instance *name* has alone, and removes it; it calls ``mark("provisioned")`` where
    that is a disk. ``asker`` runs further commands in it, where it has our program. ``networked`` by a tap device.
    ``system``: its console is its first serial port. ``custom``: it is told more than the kernel's command line.
    One that ``phones`` may say by a request to the host that it is ready.
    ``shown`` is what one starts from, for a reader; ``by_hand`` what a reader may start, of files that stay.
    """

    own: Callable[[str, Mark], AbstractContextManager[Own]]
    shown: Own
    by_hand: Own | None = None
    custom: bool
    networked: bool = False
    asker: Path | None = None
    system: bool = False
    phones: bool = False
    manifest: Mapping[str, str] = field(default_factory=dict)
