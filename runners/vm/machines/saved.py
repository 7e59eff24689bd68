"""A state that was saved once, when the workload was ready, and that every instance is restored from.

libvirt restores a domain only under the name and with the files that it had. The file of a saved state begins with a
header and the domain's XML, of which it is made (``qemu_saveimage.h`` of libvirt: a magic, five numbers, room for
more; then the XML and a *cookie*, each with a NUL at its end, in a field of fixed size; then QEMU's own stream). So
before each restoring the XML there is replaced by the instance's own; the rest is not touched. One is restored at a
time.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import struct
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast
from xml.etree import ElementTree as ET

from tare.runners.base import Instance, Mark, RunnerError
from tare.runners.vm.connection import Domain, Hypervisor
from tare.runners.vm.domain import Disk, FirmwareBoot
from tare.runners.vm.guest import Guest
from tare.runners.vm.machines import Own, Recipe, system
from tare.runners.vm.options import Provision

_MAGIC, _VERSION = b"LibvirtQemudSave", 2
#: magic, version, size of the field after the header, was it running, compression, place of the cookie in the field.
_HEADER = struct.Struct("=16s5I56x")


class SavedState:
    """The state of one instance in a file of *directory*, and of its disk; others are restored from them."""

    def __init__(self, hypervisor: Hypervisor, recipe: Recipe, how: Provision, directory: Path) -> None:
        self._hypervisor, self._recipe, self._how, self._directory = hypervisor, recipe, how, directory
        self._file = directory / "state"
        self._disk: Disk | None = None
        self._shared: tuple[Disk, ...] = ()
        self._variables: tuple[Path, Path] | None = None
        self._definition = ""
        self._cookie = b""
        self._lock = threading.Lock()
        #: What the instance starts from that is to be saved.
        self._original: Own | None = None

    @property
    def size_bytes(self) -> int:
        """The size of the saved state, without that of its disk."""
        return self._file.stat().st_size

    @contextmanager
    def original(self, name: str, mark: Mark) -> Iterator[Own]:
        """What the instance starts from whose state will be saved (:meth:`keep`)."""
        with self._recipe.own(name, mark) as own:
            self._original = own
            yield own

    def keep(self, instance: Instance) -> None:
        """Save the state of *instance*, which is ready; it has ended then. Raises RunnerError, OSError."""
        own, guest = cast(Own, self._original), cast(Guest, instance)
        self._hypervisor.save(guest.domain, self._file)
        if own.files:  # its disk as it was then; the next one's is made from it
            first = own.disks[0]
            self._disk = dataclasses.replace(first, path=self._directory / "disk")
            os.link(first.path, self._disk.path)
            self._shared = own.disks[1:]
        if isinstance(own.boot, FirmwareBoot) and own.boot.loader is not None and own.boot.variables is not None:
            kept = self._directory / "variables"
            shutil.copyfile(own.boot.variables, kept)
            self._variables = own.boot.loader, kept
        self._definition, self._cookie = _read(self._file)

    @contextmanager
    def own(self, name: str, mark: Mark) -> Iterator[Own]:
        """What the instance *name* starts from: the saved state, and a disk of its own. Raises RunnerError."""
        original = self._original
        if original is None or not self._definition:
            raise RunnerError(f"{name} cannot be restored", "no state was saved")
        with ExitStack() as stack:
            if self._disk is None:
                yield dataclasses.replace(original, begin=self._begin, asked=True)
                return
            made = stack.enter_context(
                system.own_disk(self._disk, self._shared, self._how, self._directory, self._variables, name)
            )
            mark("provisioned")
            yield dataclasses.replace(made, begin=self._begin, asked=True)

    def _begin(self, name: str, xml: str) -> Domain:
        with self._lock:
            _write(self._file, renamed(self._definition, xml), self._cookie)
            return self._hypervisor.restore(name, self._file)


def renamed(saved: str, wanted: str) -> str:
    """The definition *saved* with the name and the files of *wanted*, and with a new identity."""
    domain, new = ET.fromstring(saved), ET.fromstring(wanted)
    _text(domain, "name", new.findtext("name", ""))
    _text(domain, "uuid", str(uuid.uuid4()))
    for kind, key in (("serial", _port), ("channel", _target), ("disk", _target)):
        sources = {key(device): device.find("source") for device in new.iterfind(f"devices/{kind}")}
        for device in domain.iterfind(f"devices/{kind}"):
            source, now = sources.get(key(device)), device.find("source")
            if source is not None and now is not None:
                now.attrib.update(source.attrib)
    for disk in domain.iterfind("devices/disk"):  # what is below it is another file now, which libvirt finds itself
        for below in disk.findall("backingStore"):
            disk.remove(below)
    # It says the path of the port a second time.
    for console in domain.iterfind("devices/console"):
        cast(ET.Element, domain.find("devices")).remove(console)
    variables = new.findtext("os/nvram")
    if variables:
        _text(domain, "os/nvram", variables)
    return ET.tostring(domain, encoding="unicode")


def _text(domain: ET.Element, path: str, text: str) -> None:
    found = domain.find(path)
    if found is None:
        raise RunnerError("a saved state cannot be restored", f"its definition has no {path}")
    found.text = text


def _port(device: ET.Element) -> str:
    target = device.find("target")
    return "" if target is None else target.get("port", "")


def _target(device: ET.Element) -> str:
    target = device.find("target")
    return "" if target is None else target.get("dev", "") or target.get("name", "")


def _read(file: Path) -> tuple[str, bytes]:
    """The definition and the cookie in the saved state *file*. Raises RunnerError for a file of another form."""
    with file.open("rb") as stream:
        header = stream.read(_HEADER.size)
        try:
            magic, version, size, _, compressed, place = _HEADER.unpack(header)
        except struct.error:
            magic, version, size, compressed, place = b"", 0, 0, 0, 0
        if (magic, version, compressed) != (_MAGIC, _VERSION, 0) or place > size:
            why = f"{file} is of version {version}, compression {compressed}, and those that are known are 2 and 0"
            raise RunnerError("this libvirt's saved states cannot be restored under another name", why)
        field = stream.read(size)
    definition, cookie = (field[:place], field[place:]) if place else (field, b"")
    return definition.rstrip(b"\0").decode(), cookie.rstrip(b"\0")


def _write(file: Path, definition: str, cookie: bytes) -> None:
    """Put *definition* and *cookie* into the saved state *file*. Raises RunnerError where they do not fit."""
    with file.open("r+b") as stream:
        magic, version, size, running, compressed, place = _HEADER.unpack(stream.read(_HEADER.size))
        first = definition.encode() + b"\0"
        field = first + (cookie + b"\0" if place else b"")
        if len(field) > size:
            raise RunnerError("a saved state cannot be restored", f"its definition has {len(field)} bytes, {size} fit")
        stream.seek(0)
        stream.write(_HEADER.pack(magic, version, size, running, compressed, len(first) if place else 0))
        stream.write(field.ljust(size, b"\0"))
