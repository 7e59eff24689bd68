"""A workload of one's own in LXC, systemd-nspawn, gVisor and any OCI runtime; engines that refuse."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tare import runners
from tare.bench.experiments import prepare, start
from tare.bench.host import audit, run_cgroup, workspace
from tare.bench.records.readiness import Exec, Exit, Line, Ready, Tcp
from tare.bench.records.resolved import Subject, Workload
from tare.runners.base import Scratch
from tare.runners.container.cgroup import cgroups
from tare.runners.image.cache import cache_dir
from tests.conftest import require

BUSYBOX = Path("/bin/busybox")
OPTIONS = {"oci": {"binary": "runc"}}
NEEDS = {"oci": "runc", "gvisor": "runsc"}
CONTAINERS = ("lxc", "nspawn", "gvisor", "oci")
UP = Line(pattern="^up")


@pytest.fixture
def scratch() -> Iterator[Scratch]:
    """A run's place; at the end nothing may be left in it or of it."""
    require("root", os.geteuid() == 0, "this is not root")
    prefix = workspace.new_prefix()
    with ExitStack() as outer:
        directory = outer.enter_context(workspace.scratch(prefix))
        opened = outer.enter_context(run_cgroup.opened(prefix))
        cgroup = opened.load if opened else None
        before = audit.take(prefix, directory)
        yield Scratch(directory=directory, cache=cache_dir(), cgroup=cgroup, prefix=prefix)
        leaks = audit.difference(before, audit.take(prefix, directory), str)
        assert not leaks, "\n".join(f"{leak.kind}: {leak.name}" for leak in leaks)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The files of busybox, without /usr."""
    root = tmp_path / "image"
    for name in ("bin", "etc", "dev", "proc", "sys", "run", "tmp", "srv"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for name in ("sh", "cat", "sleep", "id", "nc", "env", "pwd", "true"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    return root


class Trial:
    """Starts a shell script as the workload of one runner."""

    def __init__(self, runner: str, image: Path, scratch: Scratch, stack: ExitStack) -> None:
        self.runner, self.image, self.scratch, self.stack = runner, image, scratch, stack

    def start(self, script: str, ready: Ready = UP, timeout_s: float = 30, **wishes: object) -> start.Started:
        work = Workload(command=("/bin/sh", "-c", script), image=f"dir:{self.image}", ready=ready, **wishes)  # type: ignore[arg-type]
        subject = Subject(
            label="subject",
            runner=self.runner,
            options=dict(OPTIONS.get(self.runner, {})),
            workload=work,
            memory_bytes=64 << 20,
            cpus=1,
        )
        found = prepare.try_subject(subject, prepare.images(self.scratch.cache), self.scratch, "1", self.stack)
        require(NEEDS.get(self.runner, self.runner), found.support.version, found.support.why)
        assert found.ready is not None, found.support.why
        contract = start.Contract(ready=ready, timeout_s=timeout_s)
        launch = found.ready.prepared.launch
        return start.start(self.stack, launch, f"{self.scratch.prefix}-1", contract, interrupts=None)


@pytest.fixture
def trial(request: pytest.FixtureRequest, image: Path, scratch: Scratch) -> Iterator[Trial]:
    with ExitStack() as stack:
        yield Trial(request.param, image, scratch, stack)


everywhere = pytest.mark.parametrize("trial", CONTAINERS, indirect=True)


@everywhere
def test_it_has_its_environment_and_its_directory(trial: Trial) -> None:
    begun = trial.start("echo in $(pwd): $WORD; echo up; exec sleep 600", env={"WORD": "va lue"}, cwd="/srv")
    assert "in /srv: va lue" in begun.console.tail()


@everywhere
def test_it_has_the_rights_of_its_user(trial: Trial) -> None:
    begun = trial.start("id -u; id -g; echo up; exec sleep 600", user="33:34")
    assert begun.console.tail().replace("\r", "").startswith("33\n34\n")


@everywhere
def test_its_port_is_reached_on_its_own_loopback(trial: Trial) -> None:
    begun = trial.start("exec nc -ll -p 8123 -e /bin/cat", Tcp(port=8123))
    assert begun.attempt_s is not None
    assert begun.instance.address().pid in begun.instance.pids()


@everywhere
def test_a_further_command_is_beside_it(trial: Trial) -> None:
    begun = trial.start("echo there > /run/word; exec sleep 600", Exec(argv=("/bin/cat", "/run/word")))
    words = begun.instance.command(["/bin/sh", "-c", "cat /run/word; exit 7"])
    said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    assert (said.stdout, said.returncode) == ("there\n", 7), said.stderr


@everywhere
def test_its_end_has_a_status(trial: Trial) -> None:
    assert trial.start("exit 7", Exit(code=7)).stamps["ready"]


@everywhere
def test_what_it_writes_to_its_root_stays_out_of_the_image(trial: Trial) -> None:
    trial.start("echo changed > /etc/passwd; echo up; exec sleep 600")
    assert "root:x" in (trial.image / "etc/passwd").read_text()


def test_lxc_starts_where_another_engine_left_an_empty_cpuset(image: Path, scratch: Scratch) -> None:
    """In version 1 of cgroups, a new cpuset has no processors, and no process gets into it."""
    assert scratch.cgroup is not None
    cpuset = cgroups.layout().v1.get("cpuset")
    if cpuset is not None:
        Path(cpuset, scratch.cgroup).mkdir(parents=True)
    with ExitStack() as stack:
        Trial("lxc", image, scratch, stack).start("echo up; exec sleep 600")


def test_a_platform_that_does_not_work_is_a_reason_in_time(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    """On some hosts runsc hangs with KVM; where it works, this says so."""
    runner = runners.load("gvisor")
    monkeypatch.setattr(runner, "START_MS", 4000)
    support = runner.probe({"platform": "kvm"}, scratch.cache)
    require("runsc", support.version, support.why)
    assert support.ok or support.why
    assert not [entry for entry in Path("/proc").glob("[0-9]*/cmdline") if b"runsc-sandbox" in _read(entry)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("runner", ["lxc", "nspawn", "gvisor"])
def test_an_ordinary_user_is_told_to_be_root(runner: str) -> None:
    require("root", os.geteuid() == 0, "this is not root")
    require(NEEDS.get(runner, runner), runners.load(runner).probe({}, cache_dir()).ok, "it does not run here")
    ours, its = os.pipe()
    place = Path(tempfile.mkdtemp())  # pytest's own is closed to others
    place.chmod(0o777)
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        support = runners.load(runner).probe({}, place / "cache")
        os.write(its, f"{support.ok}|{support.why}|{support.fix}".encode())
        os._exit(0)
    os.close(its)
    with os.fdopen(ours) as told:
        ok, why, fix = told.read().split("|")
    os.waitpid(child, 0)
    shutil.rmtree(place)
    assert (ok, bool(why), fix) == ("False", True, "run as root: sudo tare ...")
