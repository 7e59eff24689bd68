"""The same virtual machine through a libvirt daemon, which runs QEMU as a user of its own."""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tare.bench.experiments import prepare, start
from tare.bench.experiments.startup import start_and_stop
from tare.bench.host.interrupts import Interrupts
from tare.bench.records.readiness import Mark
from tare.bench.records.resolved import Subject, Workload
from tare.runners.base import Instance, RunnerError, Scratch, Spec
from tare.runners.image.cache import cache_dir
from tare.runners.image.kernel import find
from tare.runners.image.rootfs import payload_root
from tare.runners.image.tree import plain
from tare.runners.vm import backend, connection
from tests import sectors
from tests.conftest import require, wait_until

URI = "qemu:///system"
OPTIONS = {"uri": URI, "accelerator": "tcg"}
DEADLINE_S = 120.0

#: In mount namespaces of their own, /dev/kvm is one that anybody may open: otherwise libvirt finds its knowledge of
#: QEMU out of date before every start, and each takes three quarters of a minute.
PRIVATE = """
set -e
mount --make-rprivate /
if [ -e /dev/kvm ]; then
    mount -t tmpfs none "$1"
    mknod -m 0666 "$1/kvm" c 10 232
    mount --bind "$1/kvm" /dev/kvm
fi
shift
exec "$@"
"""


def _answers() -> bool:
    with suppress(RunnerError), connection.connect(URI, cache_dir()):
        return True
    return False


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Callable[[], int]]:
    """What starts libvirtd, and virtlogd the first time, and gives the former's number; all are ended by their ids."""
    require("root", os.geteuid() == 0, "a system daemon is started by root")
    require("libvirt", connection.libvirt is not None, "import libvirt failed")
    programs = [shutil.which(name, path="/usr/sbin:/usr/bin:/sbin") for name in ("virtlogd", "libvirtd")]
    require("libvirt", all(programs), "virtlogd or libvirtd is not installed")
    (tmp_path / "dev").mkdir()
    with ExitStack() as stack:

        def begin(program: str) -> int:
            command = ["unshare", "--mount", "sh", "-c", PRIVATE, "sh", str(tmp_path / "dev"), program]
            with (tmp_path / "log").open("a") as log:
                process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log))
            stack.callback(process.terminate)
            return process.pid

        logs, libvirtd = (str(program) for program in programs)

        def running() -> int:
            require("libvirt", not _answers(), "a daemon of the host's own must not be killed")
            pid = begin(libvirtd)
            wait_until(_answers, DEADLINE_S, what="libvirtd's answer")
            return pid

        begin(logs)
        yield running


@pytest.fixture
def daemon(request: pytest.FixtureRequest) -> None:
    """A libvirtd; one that runs already is used as it is."""
    require("root", os.geteuid() == 0, "a system daemon is started by root")
    require("libvirt", connection.libvirt is not None, "import libvirt failed")
    if not _answers():
        request.getfixturevalue("daemons")()


def test_marks_come_through_a_daemon(daemon: None, tmp_path: Path) -> None:
    support = backend.probe(OPTIONS, cache_dir())
    require("qemu", support.ok, support.why)
    assert support.facts["daemon"].startswith(f"{URI}: the request goes through it")
    kernel = find(cache_dir()).path
    owner = kernel.stat()
    prefix = f"tare-{secrets.token_hex(3)}"
    spec = Spec(argv=("/payload",), image=plain(payload_root(cache_dir())), memory_bytes=128 << 20, cpus=1)
    scratch = Scratch(directory=tmp_path, cache=cache_dir(), cgroup=None, prefix=prefix)
    marks: list[str] = []
    with backend.prepare(spec, OPTIONS, scratch) as prepared:
        assert len(prepared.daemon_pids) >= 2
        assert prepared.resident_pids == frozenset()
        with prepared.launch(f"{prefix}-1", marks.append) as guest:
            text = b""
            while b"tare ready\n" not in text:
                ready, _, _ = select.select([guest.console], [], [], DEADLINE_S)
                assert ready, f"silence after {text!r}; {guest.explain()}"
                text += os.read(guest.console, 4096)
            (pid,) = guest.pids()
            assert prefix in Path(f"/proc/{pid}/cmdline").read_text()
            assert pid not in prepared.daemon_pids
    assert marks == ["created", "stopped"]
    assert (kernel.stat().st_uid, kernel.stat().st_gid) == (owner.st_uid, owner.st_gid)
    with (
        connection.connect(connection.EMBEDDED, cache_dir()) as own,
        connection.connect(URI, cache_dir()) as hypervisor,
    ):
        assert own.connection.getURI() != hypervisor.connection.getURI()  # a daemon is reached beside the own driver
        assert [domain.name() for domain in hypervisor.connection.listAllDomains()] == []


def test_a_daemon_that_dies_in_the_middle_of_a_trial_is_an_outcome_and_the_next_one_asks_again(
    daemons: Callable[[], int], tmp_path: Path
) -> None:
    dead = daemons()
    prefix = f"tare-{secrets.token_hex(3)}"
    spec = Spec(argv=("/payload",), image=plain(payload_root(cache_dir())), memory_bytes=128 << 20, cpus=1)
    scratch = Scratch(directory=tmp_path, cache=cache_dir(), cgroup=None, prefix=prefix)
    contract = start.Contract(ready=Mark(), timeout_s=DEADLINE_S)
    with backend.prepare(spec, OPTIONS, scratch) as prepared, Interrupts() as interrupts:
        pids: list[int] = []

        @contextmanager
        def launch(name: str, mark: Callable[[str], None]) -> Iterator[Instance]:
            with prepared.launch(name, mark) as guest:
                pids.extend(guest.pids())
                os.kill(dead, signal.SIGKILL)
                yield guest

        lost = start_and_stop(launch, f"{prefix}-1", contract, interrupts=interrupts, cpu_ns=None)
        assert lost.status == "failed"
        assert "libvirt could not destroy the domain" in lost.reason
        wait_until(lambda: not Path(f"/proc/{pids[0]}").exists(), 10, what="the end of QEMU")
        assert list(Path("/sys/fs/cgroup").glob(f"**/*-{prefix}-1.libvirt-qemu")) == []
        daemons()
        again = start_and_stop(prepared.launch, f"{prefix}-2", contract, interrupts=interrupts, cpu_ns=None)
        assert again.status == "ok", again.reason


@pytest.mark.parametrize(
    "boot", [{"boot": "cloud"}, {"boot": "restore", "saved": "cloud"}], ids=lambda one: one["boot"]
)
def test_a_disk_boots_and_a_state_is_restored_through_a_daemon(
    daemon: None, tmp_path: Path, boot: dict[str, str]
) -> None:
    require("machine", shutil.which("mcopy") and shutil.which("qemu-img"), "no mcopy or no qemu-img on PATH")
    prefix = f"tare-{secrets.token_hex(3)}"
    scratch = Scratch(directory=tmp_path, cache=cache_dir(), cgroup=None, prefix=prefix)
    disk = sectors.bootable(tmp_path / "disk.raw")
    work = Workload(image=f"disk:{disk}", ready=Mark())
    subject = Subject(
        label="x", runner="vm", options={**OPTIONS, **boot}, workload=work, memory_bytes=128 << 20, cpus=1
    )
    with ExitStack() as helpers, ExitStack() as stack:
        tried = prepare.try_subject(subject, prepare.images(cache_dir()), scratch, "1", helpers)
        assert tried.ready is not None, tried.support.why
        contract = start.Contract(ready=Mark(), timeout_s=DEADLINE_S)
        begun = start.start(stack, tried.ready.prepared.launch, f"{prefix}-1", contract, interrupts=None)
        assert begun.stamps["provisioned"] < begun.stamps["ready"]
    assert list(connection.LARGE.glob(f"tare-vm-{os.getpid()}-*")) == []
