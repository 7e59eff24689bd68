"""Machines that boot from a disk: by firmware, from an overlay or a copy, and from a saved state; and what goes wrong.

Most of them boot a single sector, which says that it is ready, and says it again when it is asked: that takes a second.
A whole Debian is booted once for each thing that only it can show.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tare.bench.experiments import prepare, start
from tare.bench.experiments.startup import PHASES, start_and_stop
from tare.bench.host import audit, workspace
from tare.bench.host.interrupts import Interrupts
from tare.bench.readings.processes import pss_bytes
from tare.bench.records.readiness import Exec, Exit, Line, Mark, Ready, Tcp
from tare.bench.records.resolved import Subject, Workload
from tare.runners.base import Instance, RunnerError, Scratch
from tare.runners.image import sources
from tare.runners.image.cache import cache_dir
from tare.runners.vm import backend, leftovers
from tare.runners.vm.connection import EMBEDDED, connect, runtime_directory
from tare.runners.vm.guest import Guest
from tests.conftest import require
from tests.sectors import bootable

MIB = 1 << 20
#: Long enough for an emulated Debian on a loaded host.
DEADLINE_S = 240.0
OS = "os:bookworm+busybox-static"
PORT = 8080


@dataclass
class Stage:
    """One run's place."""

    scratch: Scratch
    stack: ExitStack
    count: int = 0

    def made(self, image: str, ready: Ready, *command: str, memory_mib: int = 128, **options: Any) -> prepare.Ready:
        tried = self.tried(image, ready, *command, memory_mib=memory_mib, **options)
        assert tried.ready is not None, tried.support.why
        return tried.ready

    def tried(
        self, image: str, ready: Ready, *command: str, memory_mib: int = 128, **options: Any
    ) -> prepare.Preparation:
        self.count += 1
        subject = Subject(
            label="machine",
            runner="vm",
            options={"accelerator": "tcg", **options},
            workload=Workload(command=command, image=image, ready=ready),
            memory_bytes=memory_mib * MIB,
            cpus=2,
        )
        images = prepare.images(self.scratch.cache)
        return prepare.try_subject(subject, images, self.scratch, str(self.count), self.stack)

    def begin(self, made: prepare.Ready, ready: Ready, timeout_s: float = DEADLINE_S) -> start.Started:
        self.count += 1
        contract = start.Contract(ready=ready, timeout_s=timeout_s)
        name = f"{self.scratch.prefix}-{self.count}"
        return start.start(self.stack, made.prepared.launch, name, contract, interrupts=None)

    def end(self) -> None:
        self.stack.close()


def held(cache: Path) -> set[Path]:
    """Directories of this process's machines, all but the embedded driver's."""
    found = {*cache.glob(f"tare-vm-{os.getpid()}-*"), *runtime_directory().glob(f"tare-vm-{os.getpid()}-*")}
    return {path for path in found if not (path / "run" / "qemu" / "driver.pid").exists()}


@pytest.fixture
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A place of its own; at the end nothing may be left: no domain, disk, socket, network or cgroup."""
    for program in ("mkfs.vfat", "mcopy", "syslinux", "qemu-img", "sfdisk"):
        found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        require("machine", found, f"no {program} on PATH")
    support = backend.probe({"accelerator": "tcg"}, cache_dir())
    require("libvirt", support.ok, f"{support.why}; {support.fix}")
    prefix = workspace.new_prefix()
    before_all = held(cache_dir())
    with workspace.scratch(prefix) as directory:
        before = audit.take(prefix, directory)
        with ExitStack() as stack:
            yield Stage(Scratch(directory=directory, cache=cache_dir(), cgroup=None, prefix=prefix), stack)
        leaks = audit.difference(before, audit.take(prefix, directory), str)
        assert [leak for leak in leaks if leak.kind != "scratch entry"] == []
    with connect(EMBEDDED, cache_dir()) as hypervisor:
        assert [one.name() for one in hypervisor.connection.listAllDomains() if prefix in one.name()] == []
    assert held(cache_dir()) <= before_all


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"machine": "pc", "disk_bus": "ide", "provision": "copy"},
        {"disk_bus": "sata", "disk_cache": "none"},
        {"disk_bus": "scsi", "disk_cache": "unsafe", "cpu": "qemu64"},
        {"machine": "pc", "disk_cache": "writethrough", "cpu": "max", "network": "user"},
    ],
    ids=lambda options: "-".join(options.values()) or "default",
)
def test_a_disk_boots_in_every_machine(stage: Stage, tmp_path: Path, options: dict[str, Any]) -> None:
    disk = bootable(tmp_path / "disk.raw")
    before = disk.read_bytes()
    made = stage.made(f"disk:{disk}", Mark(), boot="cloud", **options)
    begun = stage.begin(made, Mark())
    assert begun.stamps.keys() >= {"requested", "provisioned", "created", "firmware", "ready"}
    guest = begun.instance
    assert isinstance(guest, Guest)
    use = guest.disk()
    assert use is not None
    assert 0 < use.made_bytes < MIB
    assert guest.status() is None
    with pytest.raises(RunnerError, match="not tare's own"):
        guest.command(["true"])
    stage.end()
    assert disk.read_bytes() == before, "what a guest writes is its own"


def test_a_qcow2_image_boots_as_a_raw_one_does(stage: Stage, tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    command = ["qemu-img", "convert", "-O", "qcow2", str(bootable(tmp_path / "raw")), str(disk)]
    subprocess.run(command, check=True)
    for provision in ("overlay", "copy"):
        begun = stage.begin(stage.made(f"disk:{disk}", Mark(), boot="cloud", provision=provision), Mark())
        assert begun.stamps["provisioned"] < begun.stamps["ready"]


def test_a_state_is_saved_once_and_many_are_restored_at_once(stage: Stage, tmp_path: Path) -> None:
    disk = bootable(tmp_path / "disk.raw")
    made = stage.made(f"disk:{disk}", Mark(), boot="restore", saved="cloud")
    begun = [stage.begin(made, Mark()) for _ in range(3)]
    guests = [one.instance for one in begun]
    assert len({guest.pids() for guest in guests}) == 3
    names = {
        Path(f"/proc/{pid}/cmdline").read_text().split("guest=")[1].split(",")[0]
        for guest in guests
        for pid in guest.pids()
    }
    assert len(names) == 3
    assert all(stage.scratch.prefix in name for name in names)
    files = {file for guest in guests if isinstance(guest, Guest) for file in guest.manner.files}
    assert len(files) == 3, "each has a disk of its own"
    for one in begun:
        assert one.stamps["provisioned"] < one.stamps["created"] < one.stamps["ready"]
        assert "firmware" not in one.stamps, "nothing boots"


def test_what_never_gets_ready_has_no_state_to_save(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "_ORIGINAL_S", 3.0)
    disk = bootable(tmp_path / "disk.raw", b"I never get ready\n")
    tried = stage.tried(f"disk:{disk}", Mark(), boot="restore", saved="cloud")
    assert tried.ready is None
    assert "did not get ready" in tried.support.why
    assert "I never get ready" in tried.support.why


def test_a_workload_that_ends_has_no_state_to_save(stage: Stage) -> None:
    busybox = shutil.which("busybox")
    require("busybox", busybox, "no busybox on PATH")
    tried = stage.tried("busybox", Exit(), "true", memory_mib=128, boot="restore")
    assert "has ended" in tried.support.why


def test_a_disk_without_a_boot_loader_never_gets_ready_and_its_firmware_says_why(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(MIB))
    made = stage.made(f"disk:{tmp_path / 'disk.raw'}", Line(pattern="login: "), boot="cloud")
    with pytest.raises(start.StartFailed) as caught:
        stage.begin(made, Line(pattern="login: "), timeout_s=6)
    assert caught.value.status == "timeout"
    assert "No bootable device" in caught.value.reason


def test_an_image_that_is_damaged_is_refused_before_anything_starts(stage: Stage, tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    command = ["qemu-img", "convert", "-O", "qcow2", str(bootable(tmp_path / "raw")), str(disk)]
    subprocess.run(command, check=True)
    with disk.open("r+b") as stream:
        stream.seek(64 << 10)  # the table of reference counts
        stream.write(b"\xff" * (64 << 10))
    tried = stage.tried(f"disk:{disk}", Mark(), boot="cloud")
    assert tried.ready is None
    assert "is damaged" in tried.support.why
    assert "fetch" in tried.support.fix


def test_a_full_disk_while_cloning_is_said_and_leaves_nothing(stage: Stage, tmp_path: Path) -> None:
    require("root", os.geteuid() == 0, "only root mounts a file system")
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bootable(tmp_path / "sector").read_bytes()[:512] + os.urandom(32 * MIB))
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tare-test", str(small)], check=True)
    stage.stack.callback(subprocess.run, ["umount", str(small)], check=True)
    stage.scratch = Scratch(directory=stage.scratch.directory, cache=small, cgroup=None, prefix=stage.scratch.prefix)
    made = stage.made(f"disk:{disk}", Mark(), boot="cloud", provision="copy")
    with pytest.raises(RunnerError, match=r"No space left on device; \d+ MiB are free"):
        stage.begin(made, Mark())
    assert list(small.glob("*/*.disk")) == []
    stage.begin(stage.made(f"disk:{disk}", Mark(), boot="cloud"), Mark())  # an overlay has room


def test_a_shared_copy_is_refused_where_the_file_system_has_none(stage: Stage, tmp_path: Path) -> None:
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(cache_dir())], capture_output=True, text=True, check=True)
    made = stage.made(f"disk:{bootable(tmp_path / 'disk.raw')}", Mark(), boot="cloud", provision="reflink")
    if kind.stdout.strip() in ("xfs", "btrfs"):
        assert stage.begin(made, Mark()).stamps["ready"]
        return
    with pytest.raises(RunnerError, match="shares no blocks"):
        stage.begin(made, Mark())


def test_a_machine_that_is_killed_is_an_outcome_and_the_next_one_starts(stage: Stage, tmp_path: Path) -> None:
    disk = bootable(tmp_path / "disk.raw", b"waiting\n")
    ready = Line(pattern="never said")
    made = stage.made(f"disk:{disk}", ready, boot="cloud")

    @contextmanager
    def launch(name: str, mark: Callable[[str], None]) -> Iterator[Instance]:
        with made.prepared.launch(name, mark) as guest:
            for pid in guest.pids():
                os.kill(pid, signal.SIGKILL)
            yield guest

    contract = start.Contract(ready=ready, timeout_s=30)
    with Interrupts() as interrupts:
        ended = start_and_stop(launch, f"{stage.scratch.prefix}-8", contract, interrupts=interrupts, cpu_ns=None)
    assert ended.status == "failed"
    assert "QEMU ended with exit code -9" in ended.reason
    assert stage.begin(made, Line(pattern="waiting")).stamps["ready"]


def test_a_processor_that_nobody_knows_and_huge_pages_that_are_not_there_are_refused(
    stage: Stage, tmp_path: Path
) -> None:
    disk = bootable(tmp_path / "disk.raw")
    tried = stage.tried(f"disk:{disk}", Mark(), boot="cloud", cpu="Haswel")
    assert "no processor Haswel" in tried.support.why
    assert "Haswell" in tried.support.why
    tried = stage.tried(f"disk:{disk}", Mark(), boot="cloud", hugepages="yes", memory_mib=1 << 20)
    assert "huge pages" in tried.support.why
    assert "vm.nr_hugepages" in tried.support.fix


def test_another_runner_cannot_take_a_disk_nor_the_cloud_a_command(stage: Stage, tmp_path: Path) -> None:
    disk = bootable(tmp_path / "disk.raw")
    tried = stage.tried(f"disk:{disk}", Mark())
    assert "disk of a whole machine" in tried.support.why
    tried = stage.tried(f"disk:{disk}", Mark(), "/bin/true", boot="cloud")
    assert "command cannot be said" in tried.support.why


def test_the_domain_that_is_kept_is_one_that_virsh_starts(stage: Stage, tmp_path: Path) -> None:
    disk = bootable(tmp_path / "disk.raw")
    texts = stage.made(f"disk:{disk}", Mark(), boot="cloud").prepared.manifest
    assert {"domain.xml", "virsh.xml", "user-data", "meta-data", "network-config"} <= texts.keys()
    assert "DISK" in texts["domain.xml"]
    before = disk.read_bytes()
    with connect(EMBEDDED, cache_dir()) as hypervisor, leftovers.unmade_machine_cgroups():
        name = f"tare-{secrets.token_hex(3)}-1"
        domain = hypervisor.connection.createXML(texts["virsh.xml"].replace("tare-by-hand", name), 0)
        try:
            running = ET.fromstring(domain.XMLDesc(0))
            port = running.find("devices/serial/source")
            assert port is not None
            assert port.get("path", "").startswith("/dev/pts/")
        finally:
            domain.destroy()
    assert disk.read_bytes() == before


# ---- a whole Debian ----


@pytest.fixture(scope="session")
def debian() -> str:
    """The image of a whole Debian, made once and kept."""
    require("mmdebstrap", shutil.which("mmdebstrap"), "no mmdebstrap on PATH")
    sources.find(OS, cache_dir())
    return OS


def test_a_workload_is_a_service_of_a_whole_debian_and_its_phases_add_up(stage: Stage, debian: str) -> None:
    require("root", os.geteuid() == 0, "a guest's network is made by root")
    ready = Tcp(port=PORT)
    command = ("busybox", "httpd", "-f", "-p", str(PORT), "-h", "/etc")
    made = stage.made(debian, ready, *command, memory_mib=512, boot="disk")
    begun = stage.begin(made, ready)
    stamps = begun.stamps
    order = ["requested", "provisioned", "created", "firmware", "kernel", "initramfs", "init", "ready"]
    assert set(order) <= stamps.keys()
    found = sorted(order, key=lambda phase: stamps[phase])
    # The processors may run, and firmware speak, a moment before libvirt says that the domain is there.
    assert [phase for phase in found if phase != "created"] == [phase for phase in order if phase != "created"]
    parts = [(stamps[after] - stamps[before]) / 1e9 for before, after in itertools.pairwise(found)]
    assert sum(parts) == pytest.approx(begun.since_request_s("ready"), rel=0.01)
    guest = begun.instance
    assert guest.status() is None
    said = subprocess.run(
        guest.command(["busybox", "cat", "/proc/1/comm"]), capture_output=True, text=True, check=False
    )
    assert said.stdout == "systemd\n", said.stderr
    failing = subprocess.run(guest.command(["sh", "-c", "exit 7"]), check=False)
    assert failing.returncode == 7
    assert pss_bytes(guest.pids()) > 100 * MIB


def test_debian_is_restored_to_its_login_prompt_with_a_disk_of_its_own(stage: Stage, debian: str) -> None:
    ready = Line(pattern="login: ")
    made = stage.made(debian, ready, "/sbin/init", memory_mib=512, boot="restore", saved="disk")
    first, second = stage.begin(made, ready), stage.begin(made, ready)
    for begun in (first, second):
        assert "tare login: " in begun.console.tail()
    told = subprocess.run(
        first.instance.command(["sh", "-c", "echo mine > /etc/mine; sync; cat /etc/mine"]),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.stdout == "mine\n", told.stderr
    other = subprocess.run(second.instance.command(["cat", "/etc/mine"]), capture_output=True, text=True, check=False)
    assert other.returncode == 1, "a disk of its own"


def test_the_same_debian_boots_with_its_root_on_a_disk_and_says_that_it_panicked(stage: Stage, debian: str) -> None:
    ready = Line(pattern="never said")
    script = "mount -t proc none /proc; echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger"
    made = stage.made(debian, ready, "sh", "-c", script, memory_mib=256, boot="direct-disk")
    with pytest.raises(start.StartFailed) as caught:
        stage.begin(made, ready, timeout_s=90)
    assert caught.value.status == "failed"
    assert "Kernel panic" in caught.value.reason


@pytest.mark.proof
def test_debian_boots_by_uefi_and_shows_its_login_prompt(stage: Stage, debian: str) -> None:
    ready = Line(pattern="login: ")
    made = stage.made(debian, ready, "/sbin/init", memory_mib=512, boot="disk", firmware="efi", provision="copy")
    with Interrupts() as interrupts:
        result = start_and_stop(
            made.prepared.launch,
            f"{stage.scratch.prefix}-9",
            start.Contract(ready=ready, timeout_s=DEADLINE_S),
            interrupts=interrupts,
            cpu_ns=None,
        )
    assert result.status == "ok", result.reason
    stamped = {f"{phase}_seconds" for phase in PHASES} - {"first_seconds"}
    assert stamped <= result.values.keys()
    assert result.values["disk_bytes"] >= result.values["provisioned_bytes"] > 100 * MIB


@pytest.mark.proof
def test_the_same_debian_boots_directly_with_its_init_as_process_1(stage: Stage, debian: str) -> None:
    ready = Exec(argv=("systemctl", "is-active", "--quiet", "multi-user.target"))
    made = stage.made(debian, ready, "/sbin/init", memory_mib=512, boot="direct-disk")
    begun = stage.begin(made, ready)
    said = subprocess.run(begun.instance.command(["cat", "/proc/1/comm"]), capture_output=True, text=True, check=False)
    assert said.stdout == "systemd\n"


CLOUD = "os:bookworm+busybox-static+cloud-init+ifupdown+openssh-server"


@pytest.mark.proof
@pytest.mark.parametrize("ready", [Mark(), Tcp(port=22)], ids=("call", "ssh"))
def test_a_debian_with_cloud_init_calls_and_its_ssh_answers(stage: Stage, tmp_path: Path, ready: Ready) -> None:
    require("root", os.geteuid() == 0, "a guest's network is made by root")
    require("mmdebstrap", shutil.which("mmdebstrap"), "no mmdebstrap on PATH")
    disk = tmp_path / "disk.qcow2"
    made_of = sources.find(CLOUD, cache_dir()).shape("machine")
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(made_of), str(disk)], check=True)
    made = stage.made(f"disk:{disk}", ready, memory_mib=512, boot="cloud", network="tap")
    begun = stage.begin(made, ready)
    assert begun.stamps.keys() >= {"firmware", "kernel", "init", "ready"}
