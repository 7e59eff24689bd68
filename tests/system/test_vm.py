"""Real virtual machines: what arrives, what ends, and that nothing is left."""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tare.bench.readings.processes import pss_bytes
from tare.runners.base import Instance, Launch, Options, Prepared, RunnerError, Scratch, Spec
from tare.runners.image import modules
from tare.runners.image.cache import cache_dir
from tare.runners.image.kernel import find
from tare.runners.image.rootfs import payload_root
from tare.runners.image.tree import plain
from tare.runners.payload import Payload
from tare.runners.vm import acceleration, backend, leftovers
from tare.runners.vm.connection import EMBEDDED, connect, make_directory, runtime_directory
from tare.runners.vm.domain import DiskBoot, Hardware, Machine, domain_xml
from tare.runners.vm.guest import Guest, running
from tare.runners.vm.machines import direct
from tests.conftest import require, wait_until

#: Long enough for an emulated guest on a loaded host.
DEADLINE_S = 90.0
MEMORY_BYTES = 128 << 20
EMULATED: Options = {"accelerator": "tcg"}


@dataclass
class Stage:
    """One run's place, in which virtual machines are prepared."""

    scratch: Scratch
    stack: ExitStack
    marks: list[str] = field(default_factory=list)

    def prepare(
        self,
        *words: str,
        rootfs: Path | None = None,
        options: Options = EMULATED,
        cpus: int = 1,
        memory_bytes: int = MEMORY_BYTES,
    ) -> Prepared:
        root = rootfs or payload_root(self.scratch.cache)
        spec = Spec(argv=words or Payload().argv, image=plain(root), memory_bytes=memory_bytes, cpus=cpus)
        return self.stack.enter_context(backend.prepare(spec, options, self.scratch))

    def start(self, launch: Launch, name: str = "1") -> Guest:
        guest = self.stack.enter_context(launch(f"{self.scratch.prefix}-{name}", self.marks.append))
        assert isinstance(guest, Guest)
        return guest


def traces(prefix: str) -> list[str]:
    """Every process and every domain's cgroup on this host that bears *prefix*."""
    found = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdecimal() and prefix in _command(entry)]
    for mount in set(leftovers.cgroup_mounts(Path("/proc/self/mountinfo").read_text()).values()):
        found += [str(path) for path in mount.glob("machine*/*") if prefix in path.name]
    return found


def directories() -> list[Path]:
    """This process's directories in /run, all but the embedded driver's."""
    own = runtime_directory().glob(f"tare-vm-{os.getpid()}-*")
    return [path for path in own if not (path / "run" / "qemu" / "driver.pid").exists()]


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text(errors="replace")
    except OSError:
        return ""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A place of its own; at the end nothing may be left, and the kernel's file be as it was."""
    support = backend.probe(EMULATED, cache_dir())
    require("libvirt", support.ok, f"{support.why}; {support.fix}")
    kernel = find(cache_dir()).path
    before = kernel.stat()
    scratch = Scratch(directory=tmp_path, cache=cache_dir(), cgroup=None, prefix=f"tare-{secrets.token_hex(3)}")
    with ExitStack() as stack:
        yield Stage(scratch, stack)
    assert traces(scratch.prefix) == []
    assert directories() == []
    after = kernel.stat()
    assert (after.st_uid, after.st_gid, after.st_mode, after.st_mtime_ns) == (
        before.st_uid,
        before.st_gid,
        before.st_mode,
        before.st_mtime_ns,
    )


def read_until(guest: Instance, end: bytes | None) -> bytes:
    """The console up to *end*, or up to its end of file when *end* is None."""
    text = b""
    poll = select.poll()
    poll.register(guest.console, select.POLLIN)
    while end is None or end not in text:
        assert poll.poll(DEADLINE_S * 1000), f"silence after {text!r}; {guest.explain()}"
        try:
            data = os.read(guest.console, 4096)
        except ConnectionResetError:
            data = b""
        if not data:
            assert end is None, f"ended after {text!r}; {guest.explain()}"
            break
        text += data
    return text


def test_three_starts_in_a_row(stage: Stage) -> None:
    prepared = stage.prepare()
    assert "rdinit=/payload" in prepared.manifest["domain.xml"]
    for number in range(3):
        marks: list[str] = []
        with prepared.launch(f"{stage.scratch.prefix}-{number}", marks.append) as guest:
            assert marks == ["created"]
            assert read_until(guest, b"tare ready\n") == b"tare first\ntare ready\n"
            (pid,) = guest.pids()
            assert (
                leftovers.guest_name(_command(Path(f"/proc/{pid}")).split("\0")) == f"{stage.scratch.prefix}-{number}"
            )
            if os.geteuid() == 0:
                assert guest.cgroup is not None
                assert guest.cgroup.is_dir()
        assert marks == ["created", "stopped"]
        assert traces(f"{stage.scratch.prefix}-{number}") == []


def test_two_at_once(stage: Stage) -> None:
    launch = stage.prepare(options={**EMULATED, "machine": "pc"}).launch
    first, second = stage.start(launch, "1"), stage.start(launch, "2")
    for guest in (first, second):
        read_until(guest, b"tare ready\n")
    assert first.pids().isdisjoint(second.pids())
    assert first.cgroup is None or first.cgroup != second.cgroup


def test_a_payload_that_ends_switches_the_machine_off(stage: Stage) -> None:
    guest = stage.start(stage.prepare(*Payload(exit_code=3).argv).launch)
    assert read_until(guest, None) == b"tare first\ntare ready\ntare exit 3\n"
    wait_until(lambda: "QEMU ended with exit code 0" in guest.explain(), DEADLINE_S)


def test_a_kernel_that_panics_is_explained(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "init").write_bytes(b"no program at all")
    (tmp_path / "root" / "init").chmod(0o755)
    guest = stage.start(stage.prepare("/init", rootfs=tmp_path / "root").launch)
    assert read_until(guest, None) == b""
    assert "Kernel panic" in guest.explain()
    assert "guest kernel: " in guest.explain()


def test_qemu_killed_from_outside(stage: Stage) -> None:
    guest = stage.start(stage.prepare().launch)
    os.kill(guest.emulator_pid, signal.SIGKILL)
    read_until(guest, None)
    wait_until(lambda: "exit code -9" in guest.explain(), DEADLINE_S)


def test_a_start_that_fails_is_an_error_and_leaves_nothing(stage: Stage) -> None:
    launch = stage.prepare(cpus=5000).launch
    with pytest.raises(RunnerError, match="could not start"):
        stage.start(launch)
    assert stage.marks == []


def test_the_accelerator_is_what_was_proved(stage: Stage) -> None:
    auto = backend.probe({}, stage.scratch.cache)
    demanded = backend.probe({"accelerator": "kvm"}, stage.scratch.cache)
    assert auto.ok, auto.why
    assert (auto.accelerator == "kvm") == demanded.ok
    if not demanded.ok:
        assert auto.facts["kvm"].startswith("not usable: ")
        assert auto.facts["kvm"].removeprefix("not usable: ") in demanded.why


#: xor ax,ax; mov ds,ax; mov dx,COM2; mov si,text; cld
#: next: lodsb; test al,al; jz end; out dx,al; jmp next
#: end: hlt; jmp end
BOOT_CODE = bytes.fromhex("31c0 8ed8 baf802 be167c fc ac 84c0 7403 ee ebf8 f4 ebfd")


@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_the_kvm_wiring_carries_a_few_instructions(stage: Stage, tmp_path: Path, machine: Machine) -> None:
    """The same XML and the same start as for Linux, but a boot sector: it runs even where KVM cannot carry Linux."""
    trouble = acceleration.device_trouble()
    require("kvm", not trouble, trouble)
    image = tmp_path / "boot.img"
    image.write_bytes((BOOT_CODE + b"tare ready\n\0").ljust(510, b"\0") + b"\x55\xaa" + bytes((1 << 20) - 512))
    directory = make_directory()
    stage.stack.callback(directory.rmdir)
    stage.stack.enter_context(leftovers.unmade_machine_cgroups())
    hypervisor = stage.stack.enter_context(connect(EMBEDDED, stage.scratch.cache))
    hardware = Hardware(
        accelerator="kvm",
        machine=machine,
        cpu="host-plain",
        cpus=1,
        memory_bytes=MEMORY_BYTES,
        emulator=hypervisor.emulator("kvm", machine),
    )
    name = f"{stage.scratch.prefix}-kvm"

    def describe(console: Path, log: Path) -> str:
        return domain_xml(name, hardware, DiskBoot(image=image), console=console, log=log)

    with running(hypervisor, name, directory, describe, stage.marks.append) as guest:
        assert read_until(guest, b"tare ready\n").endswith(b"tare ready\n")
    assert stage.marks == ["created", "stopped"]


ORPHANED = """
import os, signal, sys
from pathlib import Path
from tare.runners.vm import backend
from tare.runners.base import Scratch, Spec
from tare.runners.image.cache import cache_dir
from tare.runners.image.rootfs import payload_root
from tare.runners.image.tree import plain
cache = cache_dir()
spec = Spec(argv=("/payload",), image=plain(payload_root(cache)), memory_bytes=128 << 20, cpus=1)
scratch = Scratch(directory=Path("/"), cache=cache, cgroup=None, prefix=sys.argv[1])
with backend.prepare(spec, {"accelerator": "tcg"}, scratch) as prepared:
    with prepared.launch(sys.argv[1] + "-99", lambda phase: None):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_sweep_ends_what_a_killed_run_left_and_nothing_else(stage: Stage) -> None:
    alive = stage.start(stage.prepare().launch, "alive")
    lost = subprocess.run([sys.executable, "-c", ORPHANED, stage.scratch.prefix], check=False)
    assert lost.returncode == -signal.SIGKILL
    assert len([trace for trace in traces(f"{stage.scratch.prefix}-99") if trace.isdecimal()]) == 1
    removed = backend.sweep()
    assert any(f"({stage.scratch.prefix}-99)" in text for text in removed)
    wait_until(lambda: traces(f"{stage.scratch.prefix}-99") == [], DEADLINE_S, what="the lost machine's end")
    assert not any("alive" in text for text in removed)
    assert not any(text.startswith("directory") and f"-{os.getpid()}-" in text for text in removed)
    read_until(alive, b"tare ready\n")
    assert not any(f"{stage.scratch.prefix}-99" in text for text in backend.sweep())


MIB = 1 << 20
FREES_96_MIB = Payload(touch_mib=96, release=True).argv


def resident_mib(guest: Guest) -> float:
    return pss_bytes(guest.pids()) / MIB


def test_a_guest_that_reports_its_free_pages_gives_them_back_unasked(stage: Stage) -> None:
    options = {**EMULATED, "balloon": "free-page-reporting"}
    prepared = stage.prepare(*FREES_96_MIB, options=options, memory_bytes=256 * MIB)
    assert prepared.pause_s > 0
    guest = stage.start(prepared.launch)
    read_until(guest, b"tare ready")
    before = resident_mib(guest)  # some 300; reported are blocks that were free for two seconds
    wait_until(lambda: resident_mib(guest) < before - 48, DEADLINE_S, what="memory to come back")


def test_a_guest_gives_what_it_has_free_when_its_host_asks_by_the_balloon(stage: Stage) -> None:
    options = {**EMULATED, "balloon": "virtio"}
    guest = stage.start(stage.prepare(*FREES_96_MIB, options=options, memory_bytes=256 * MIB).launch)
    read_until(guest, b"tare ready")
    before = resident_mib(guest)
    guest.reclaim(64 * MIB)
    assert guest.hypervisor.memory_bytes(guest.domain) == 192 * MIB
    assert resident_mib(guest) < before - 32
    guest.reclaim(160 * MIB)  # more than it can spare: it gives what it can, and lives
    assert guest.hypervisor.memory_bytes(guest.domain) < 128 * MIB
    assert guest.explain() == ""


def test_without_a_balloon_a_guest_cannot_be_asked(stage: Stage) -> None:
    assert backend.probe(EMULATED, cache_dir()).reclaims == ""
    guest = stage.start(stage.prepare().launch)
    read_until(guest, b"tare ready")
    with pytest.raises(RunnerError, match="cannot ask") as caught:
        guest.reclaim(MIB)
    assert 'balloon = "virtio"' in caught.value.fix


def test_a_guest_without_the_driver_does_not_answer(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "added", lambda *_: ())
    guest = stage.start(stage.prepare(options={**EMULATED, "balloon": "virtio"}).launch)
    read_until(guest, b"tare ready")
    with pytest.raises(RunnerError, match="does not move its balloon"):
        guest.reclaim(MIB)


def test_a_module_that_cannot_be_loaded_ends_the_guest_and_is_named(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = modules.tree

    def torn(directory: Path, wanted: Sequence[str], cache: Path) -> Path:
        tree = tmp_path / "torn"
        shutil.copytree(found(directory, wanted, cache), tree)
        (tree / "modules" / "virtio_balloon.ko").write_bytes(b"no module")  # others may be built in
        return tree

    monkeypatch.setattr(modules, "tree", torn)
    guest = stage.start(stage.prepare(options={**EMULATED, "balloon": "virtio"}).launch)
    assert b"ready" not in read_until(guest, None)
    assert "virtio_balloon.ko: Exec format error" in guest.explain()
