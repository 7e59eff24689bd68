"""What probe() and prepare() say without a hypervisor: every missing thing has its reason and its fix."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from tare.runners.base import RunnerError, Scratch, Spec
from tare.runners.image.kernel import Kernel
from tare.runners.image.tree import plain
from tare.runners.vm import acceleration, backend, connection, guest
from tare.runners.vm.connection import Hypervisor
from tare.runners.vm.domain import DirectBoot, Hardware

KERNEL = Kernel(path=Path("/k/vmlinux"), release="6.1.0", digest="d")
BOOT = DirectBoot(kernel=Path("/k"), initrd=Path("/i"), command_line="")


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """A cache with a kernel in it; nobody starts it."""
    directory = tmp_path / "linux-6.1.0-d"
    directory.mkdir()
    (directory / "release.txt").write_text("6.1.0\n")
    (directory / "vmlinux").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"machine": "microvm"}, "microvm"),
        ({"accelerator": "hvf"}, "hvf"),
        ({"uri": "qemu+ssh://elsewhere/system"}, "local socket"),
        ({"uri": "qemu+ssh://localhost/system"}, "its usual socket"),
        ({"uri": "qemu+unix:///system?socket=/run/other"}, "its usual socket"),
        ({"uri": "xen:///system"}, "xen"),
        ({"kernle": "/k"}, "kernle"),
        ({"kernel": 7}, "kernel"),
        ({"kernel": "/nowhere/vmlinuz"}, "/nowhere/vmlinuz"),
        ({"balloon": "hot air"}, "hot air"),
        ({"balloon": "virtio"}, "no module virtio_pci"),  # the cached kernel came with none
    ],
)
def test_a_bad_option_is_a_reason_not_an_error(options: dict[str, object], why: str, kernel: Path) -> None:
    support = backend.probe(options, kernel)
    assert not support.ok
    assert why in support.why


def test_without_a_kernel(tmp_path: Path) -> None:
    support = backend.probe({}, tmp_path)
    assert not support.ok
    assert "no guest kernel" in support.why
    assert "bootstrap" in support.fix


def test_without_libvirt(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "libvirt", None)
    support = backend.probe({}, kernel)
    assert not support.ok
    assert "libvirt-python" in support.why
    assert "pip install" in support.fix


def test_on_another_architecture(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_architecture", lambda: "riscv64")
    support = backend.probe({}, kernel)
    assert not support.ok
    assert "riscv64" in support.why


class FakeHypervisor:
    """Speaks like :class:`Hypervisor` and starts nothing."""

    uri, embedded, qemu_version, libvirt_version = "qemu:///embed", Path("/run/x"), "7.2.22", "9.0.0"

    def emulator(self, accelerator: str, machine: str) -> str:
        return "/usr/bin/qemu"

    @contextmanager
    def suspensions(self) -> Iterator[int]:
        yield -1


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def connect(uri: str, cache: Path) -> Iterator[Hypervisor]:
        yield cast(Hypervisor, FakeHypervisor())

    monkeypatch.setattr(backend, "connect", connect)
    monkeypatch.setattr(acceleration, "device_trouble", lambda: "")


@pytest.mark.compiler
def test_an_unproved_kvm_is_never_taken_silently(
    kernel: Path, connected: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceleration, "first_mark", lambda *_: "no sign of life")
    auto = backend.probe({}, kernel)
    assert (auto.ok, auto.accelerator) == (True, "tcg")
    assert "no sign of life" in auto.facts["kvm"]
    demanded = backend.probe({"accelerator": "kvm"}, kernel)
    assert (demanded.ok, demanded.accelerator) == (False, None)
    assert "no sign of life" in demanded.why
    assert "tcg" in demanded.fix


@pytest.mark.compiler
def test_a_proved_kvm_is_used(kernel: Path, connected: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration, "first_mark", lambda *_: "")
    support = backend.probe({}, kernel)
    assert (support.ok, support.accelerator) == (True, "kvm")
    assert support.facts["kvm"].startswith("proved")
    emulated = backend.probe({"accelerator": "tcg"}, kernel)
    assert (emulated.ok, emulated.accelerator) == (True, "tcg")


def prove(cache: Path) -> acceleration.Proof:
    hypervisor = cast(Hypervisor, FakeHypervisor())
    return acceleration.prove(hypervisor, "q35", KERNEL, BOOT, directory=Path("/run/x"), cache=cache)


def test_a_proof_is_kept(tmp_path: Path, connected: None, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def first_mark(_: object, hardware: Hardware, *rest: object) -> str:
        tried.append(hardware.cpu)
        return "" if hardware.cpu == "host-plain" else "stuck"

    monkeypatch.setattr(acceleration, "first_mark", first_mark)
    assert prove(tmp_path).cpu == "host-plain"
    assert prove(tmp_path).cpu == "host-plain"
    assert tried == ["host", "host-plain"]
    (kept,) = tmp_path.glob("kvm-*.json")
    kept.write_text("{")
    assert prove(tmp_path).cpu == "host-plain"
    assert len(tried) == 4
    assert json.loads(kept.read_text())["cpu"] == "host-plain"


def test_a_start_that_failed_is_no_proof(tmp_path: Path, connected: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def first_mark(*_: object) -> str:
        raise RunnerError("it did not start", "out of memory")

    monkeypatch.setattr(acceleration, "first_mark", first_mark)
    assert "out of memory" in prove(tmp_path).why
    assert list(tmp_path.iterdir()) == []


def test_the_device(tmp_path: Path) -> None:
    assert "No such file" in acceleration.device_trouble(tmp_path / "kvm")
    (tmp_path / "kvm").touch()
    assert acceleration.device_trouble(tmp_path / "kvm") == ""


@pytest.mark.parametrize(
    ("memory_mib", "init", "why"),
    [(64, "/payload", "64 MiB are not enough"), (128, "/missing", "there is no /missing")],
)
def test_a_spec_that_cannot_be(tmp_path: Path, memory_mib: int, init: str, why: str) -> None:
    (tmp_path / "payload").touch()
    spec = Spec(argv=(init,), image=plain(tmp_path), memory_bytes=memory_mib << 20, cpus=1)
    scratch = Scratch(directory=tmp_path, cache=tmp_path, cgroup=None, prefix="tare-0")
    with pytest.raises(RunnerError, match=why), backend.prepare(spec, {}, scratch):
        pass


LOG = """\
2026-11-24 03:19:32.239+0000: starting up libvirt version: 9.0.0, package: 9.0.0-4
-msg timestamp=on
2026-11-24 03:19:32.239+0000: Domain id=1 is tainted: high-privileges
2026-11-24T03:19:32.309562Z qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69
KVM internal error. Suberror: 1
emulation failure
RAX=0 RBX=0
2026-11-24T03:19:32.309562Z qemu-system-x86_64: terminating on signal 15 from pid 1 (x)
2026-11-24 03:19:32.312+0000: shutting down, reason=failed
"""


def test_what_qemu_said_is_told_from_what_libvirt_said() -> None:
    assert guest.emulator_messages(LOG) == [
        "qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69",
        "KVM internal error. Suberror: 1",
        "emulation failure",
    ]
    assert guest.emulator_messages("") == []


def test_importing_needs_no_libvirt() -> None:
    code = "import sys; sys.modules['libvirt'] = None; from tare import runners; print(*runners.load('vm').LAYERS)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "vm\n"


def test_a_balloon_needs_a_kernel_that_came_with_its_modules(kernel: Path) -> None:
    image = bytearray(0x400)
    image[0x1FE:0x200], image[0x202:0x206], image[0x206:0x208] = b"\x55\xaa", b"HdrS", (0x020F).to_bytes(2, "little")
    given = kernel / "bzImage"
    given.write_bytes(bytes(image))
    support = backend.probe({"balloon": "virtio", "kernel": str(given)}, kernel)
    assert not support.ok
    assert "needs modules" in support.why
    assert "leave out the option kernel" in support.fix
