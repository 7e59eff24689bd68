"""All calls of libvirt: connections, the event loop, and its errors as RunnerError.

libvirt-python may be absent; then :func:`connect` raises a RunnerError that says so, and importing this module is
still fine.

The embedded driver (https://libvirt.org/drvqemu.html#embedded-driver) runs libvirt's QEMU driver in this process, with
all its state below one directory. A process can have only one such directory for all its life, so it is made on first
use and removed at exit.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree as ET

from tare.runners.base import Accelerator, RunnerError
from tare.runners.guest import workload

# The library configures its log when it is loaded, and would write warnings to our standard error.
os.environ.setdefault("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null")
try:
    import libvirt
except ImportError:
    libvirt = None

__all__ = [
    "EMBEDDED",
    "LARGE",
    "Connection",
    "Domain",
    "Hypervisor",
    "connect",
    "libvirt",
    "make_directory",
    "runtime_directory",
]

#: libvirt-python has no type information.
Domain: TypeAlias = Any
Connection: TypeAlias = Any

#: Where large files go that a daemon's QEMU reads: what its user may enter, and no memory.
LARGE = Path("/var/tmp")
#: The option value that stands for the embedded driver.
EMBEDDED = "qemu:///embed"

# ``stdio_handler``: QEMU's output goes straight to a file. Otherwise it goes to virtlogd: root has none that could be
# asked here, and for any other user libvirt starts one, which outlives the run by half a minute.
# ``remember_owner`` off keeps libvirt from changing the owner of the kernel file.
_QEMU_CONF = """\
remember_owner = 0
security_driver = "none"
stdio_handler = "file"
"""
# Without ``user`` libvirt takes the user libvirt-qemu, finds that it may not open /dev/kvm, and probes QEMU anew for
# every domain: 45 s a start. Another user's driver runs QEMU as that user, and is told of none.
_ROOTS_QEMU_CONF = f"""\
user = "root"
group = "root"
{_QEMU_CONF}"""


@dataclass(slots=True, kw_only=True)
class Hypervisor:
    """An open connection, and what runs behind it. ``address`` is what it is opened by again, if it is lost."""

    uri: str
    embedded: Path | None
    libvirt_version: str
    qemu_version: str
    connection: Connection
    address: str = ""

    def emulator(self, accelerator: Accelerator, machine: str) -> str:
        """The path of the QEMU that would run an x86-64 guest in this way. Raises RunnerError when there is none."""
        kind = "kvm" if accelerator == "kvm" else "qemu"
        try:
            text = self.connection.getDomainCapabilities(None, "x86_64", machine, kind)
        except libvirt.libvirtError as error:
            raise RunnerError(
                f"libvirt cannot run a {machine} guest under {accelerator}",
                str(error),
                "apt-get install qemu-system-x86" if accelerator == "tcg" else 'check /dev/kvm, or accelerator = "tcg"',
            ) from error
        return ET.fromstring(text).findtext("path", "")

    def create(self, name: str, xml: str) -> Domain:
        """Start a transient domain; returns when its processors run. A daemon destroys it if this process dies."""
        # The embedded driver refuses the flag; runners.vm.leftovers.sweep() finds what it leaves.
        flags = 0 if self.embedded else libvirt.VIR_DOMAIN_START_AUTODESTROY
        try:
            self._reopen()
            return self.connection.createXML(xml, flags)
        except libvirt.libvirtError as error:
            raise RunnerError(
                f"libvirt could not start the domain {name}", _plain(str(error)), "tare doctor"
            ) from error

    def _reopen(self) -> None:
        """Connect again to a daemon that has ended meanwhile, and may be there again. Raises libvirt's error."""
        if self.embedded is None and self.address and not self.connection.isAlive():
            self.connection = libvirt.open(self.address)

    def save(self, domain: Domain, file: Path) -> None:
        """Write the state of *domain* to *file*; it has ended then. Raises RunnerError."""
        try:
            domain.save(os.fspath(file))
        except libvirt.libvirtError as error:
            raise RunnerError(
                f"libvirt could not save the state of {domain.name()}", _plain(str(error)), "make room there"
            ) from error

    def restore(self, name: str, file: Path) -> Domain:
        """Start the domain *name* from its state in *file*; returns when its processors run. Raises RunnerError."""
        try:
            self._reopen()
            self.connection.restoreFlags(os.fspath(file), None, 0)
            return self.connection.lookupByName(name)
        except libvirt.libvirtError as error:
            raise RunnerError(
                f"libvirt could not restore the domain {name}", _plain(str(error)), "tare doctor"
            ) from error

    def models(self) -> frozenset[str]:
        """The models of processors that libvirt knows. Raises RunnerError."""
        try:
            return frozenset(self.connection.getCPUModelNames("x86_64"))
        except libvirt.libvirtError as error:
            raise RunnerError("libvirt cannot name its models of processors", str(error)) from error

    def destroy(self, domain: Domain) -> None:
        """Kill *domain*; one that is gone already is fine."""
        gone = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)
        try:
            domain.destroy()
        except libvirt.libvirtError as error:
            if error.get_error_code() not in gone:
                raise RunnerError(f"libvirt could not destroy the domain {domain.name()}", str(error)) from error

    def memory_bytes(self, domain: Domain) -> int:
        """The memory that *domain* has now: its grant without what its balloon holds. Raises RunnerError."""
        try:
            return int(domain.info()[2]) << 10
        except libvirt.libvirtError as error:
            raise RunnerError(f"libvirt cannot read the memory of {domain.name()}", str(error)) from error

    def set_memory(self, domain: Domain, size_bytes: int) -> None:
        """Have the balloon of *domain* leave it *size_bytes*; returns at once. Raises RunnerError if it has none."""
        try:
            domain.setMemoryFlags(size_bytes >> 10, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except libvirt.libvirtError as error:
            raise RunnerError(
                f"libvirt cannot ask {domain.name()} for memory", str(error), 'give it the option balloon = "virtio"'
            ) from error

    def emulator_log(self, name: str) -> Path:
        """Where libvirt keeps what QEMU said on its standard error."""
        return (self.embedded / "log" if self.embedded else Path("/var/log/libvirt")) / "qemu" / f"{name}.log"

    @contextmanager
    def suspensions(self) -> Iterator[int]:
        """An eventfd that becomes readable once any domain is suspended, as QEMU does when it cannot go on."""
        signalled = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

        def changed(_connection: Connection, _domain: Domain, event: int, _detail: int, _opaque: object) -> None:
            if event == libvirt.VIR_DOMAIN_EVENT_SUSPENDED:
                os.eventfd_write(signalled, 1)

        lifecycle = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
        handle = self.connection.domainEventRegisterAny(None, lifecycle, changed, None)
        try:
            yield signalled
        finally:
            self.connection.domainEventDeregisterAny(handle)
            os.close(signalled)


#: This process's embedded driver, once there is one.
_embedded: list[Hypervisor] = []


@contextmanager
def connect(uri: str, cache: Path) -> Iterator[Hypervisor]:
    """Open *uri*; :data:`EMBEDDED` is this process's own driver. Raises RunnerError with what is missing.

    QEMU's capabilities, which take libvirt seconds to find, are kept below *cache* for the embedded driver: they are
    read here, so no start that is timed pays for them. libvirt itself checks that they are still true.
    """
    if libvirt is None:
        raise RunnerError("libvirt-python is not installed", "import libvirt failed", "pip install 'tarebench[vm]'")
    _start_event_loop()
    if uri == EMBEDDED:
        # Kept open until exit: each new connection registers the driver again, and libvirt has room for about 20.
        if not _embedded:
            root = _make_embedded_root(cache)
            _load_what_disks_need(root)
            _embedded.append(_open(uri, f"{uri}?root={root}", root))
        yield _embedded[0]
        return
    hypervisor = _open(uri, _daemon_address(uri) if _embedded else uri, None)
    try:
        yield hypervisor
    finally:
        with suppress(libvirt.libvirtError):
            hypervisor.connection.close()


#: Connections that are only kept.
_kept: list[Connection] = []


def _load_what_disks_need(root: Path) -> None:
    """Load the driver of secrets, which the one of QEMU asks as soon as a domain has a disk, where it is installed.

    If it was loaded then, and its file is newer than that of QEMU's driver, libvirt would think that it itself had
    changed, and would probe QEMU anew: in the middle of a start, for 40 s and more.
    """
    with suppress(libvirt.libvirtError):
        _kept.append(libvirt.open(f"secret:///embed?root={root}"))


def _daemon_address(uri: str) -> str:
    """*uri* with the daemon's socket named: once this process has a QEMU driver, that one would answer for it."""
    own = runtime_directory() / "libvirt" if uri.endswith(":///session") else Path("/run/libvirt")
    for name in ("virtqemud-sock", "libvirt-sock"):
        if (own / name).is_socket():
            return f"{uri.replace('qemu:', 'qemu+unix:', 1)}?socket={own / name}"
    raise RunnerError(f"libvirt cannot open {uri}", f"no daemon listens in {own}", _advice("", uri))


def _open(uri: str, address: str, root: Path | None) -> Hypervisor:
    try:
        connection = libvirt.open(address)
    except libvirt.libvirtError as error:
        raise RunnerError(f"libvirt cannot open {uri}", str(error), _advice(str(error), uri)) from error
    return Hypervisor(
        uri=uri,
        embedded=root,
        libvirt_version=_dotted(connection.getLibVersion()),
        qemu_version=_dotted(_qemu_version(connection)),
        connection=connection,
        address=address,
    )


def _plain(message: str) -> str:
    """A libvirt error on one line: it quotes QEMU's messages with their times and line ends."""
    return "; ".join(re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z ", "", message).splitlines())


def _qemu_version(connection: Connection) -> int:
    try:
        return int(connection.getVersion())
    except libvirt.libvirtError as error:
        raise RunnerError("libvirt found no QEMU", str(error), "apt-get install qemu-system-x86") from error


def _advice(message: str, uri: str) -> str:
    if "libvirt-qemu" in message:
        return "apt-get install libvirt-daemon-system: it makes the user that libvirt was built for"
    if uri == EMBEDDED:
        return "apt-get install libvirt-daemon-driver-qemu libvirt-daemon-system qemu-system-x86"
    return f"start the daemon behind {uri}, or leave out the option uri"


def _dotted(version: int) -> str:
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"


@once
def _start_event_loop() -> None:
    """Start the thread of libvirt's event loop, in which the embedded driver reads QEMU's monitor."""
    # Errors are raised as exceptions; without this they are printed as well.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    libvirt.virEventRegisterDefaultImpl()

    def turn() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=turn, name="libvirt-events", daemon=True).start()


def runtime_directory() -> Path:
    """Where short-lived sockets go: a short path, because a unix socket's ends at 107 bytes."""
    if os.geteuid() == 0:
        return Path("/run")
    return Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp")


def make_directory() -> Path:
    """A new directory where sockets go, this user's only; the caller removes it."""
    return workload.make_directory(runtime_directory())


@once
def _make_embedded_root(cache: Path) -> Path:
    root = make_directory()
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not in a child that was forked
            shutil.rmtree(root, ignore_errors=True)

    atexit.register(remove)
    (root / "etc").mkdir()
    (root / "etc" / "qemu.conf").write_text(_ROOTS_QEMU_CONF if os.geteuid() == 0 else _QEMU_CONF)
    capabilities = cache / "libvirt"
    capabilities.mkdir(parents=True, exist_ok=True)
    (root / "cache").symlink_to(capabilities.absolute())
    return root
