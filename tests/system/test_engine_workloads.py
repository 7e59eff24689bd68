"""A workload of one's own in LXC, systemd-nspawn, gVisor, user-mode Linux and any OCI runtime; engines that refuse."""

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
RUNNERS = ("lxc", "nspawn", "gvisor", "oci", "uml")
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
    for name in ("sh", "cat", "sleep", "id", "nc", "env", "pwd", "true", "head", "wc"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    return root


class Trial:
    """Starts a shell script as the workload of one runner."""

    def __init__(self, runner: str, image: Path, scratch: Scratch, stack: ExitStack) -> None:
        self.runner, self.image, self.scratch, self.stack = runner, image, scratch, stack
        self.count = 0

    def start(
        self, script: str, ready: Ready = UP, timeout_s: float = 30, arguments: tuple[str, ...] = (), **wishes: object
    ) -> start.Started:
        self.count += 1
        command = ("/bin/sh", "-c", script, *arguments)
        work = Workload(command=command, image=f"dir:{self.image}", ready=ready, **wishes)  # type: ignore[arg-type]
        subject = Subject(
            label="subject",
            runner=self.runner,
            options=dict(OPTIONS.get(self.runner, {})),
            workload=work,
            memory_bytes=64 << 20,
            cpus=1,
        )
        number = str(self.count)
        found = prepare.try_subject(subject, prepare.images(self.scratch.cache), self.scratch, number, self.stack)
        require(NEEDS.get(self.runner, self.runner), found.support.version, found.support.why)
        assert found.ready is not None, found.support.why
        contract = start.Contract(ready=ready, timeout_s=timeout_s)
        launch = found.ready.prepared.launch
        return start.start(self.stack, launch, f"{self.scratch.prefix}-{number}", contract, interrupts=None)


@pytest.fixture
def trial(request: pytest.FixtureRequest, image: Path, scratch: Scratch) -> Iterator[Trial]:
    with ExitStack() as stack:
        yield Trial(request.param, image, scratch, stack)


everywhere = pytest.mark.parametrize("trial", RUNNERS, indirect=True)


@everywhere
def test_it_has_its_environment_and_its_directory(trial: Trial) -> None:
    begun = trial.start("echo in $(pwd): $WORD; echo up; exec sleep 600", env={"WORD": "va lue"}, cwd="/srv")
    assert "in /srv: va lue" in begun.console.tail()


@everywhere
def test_it_has_the_rights_of_its_user(trial: Trial) -> None:
    begun = trial.start("id -u; id -g; echo up; exec sleep 600", user="33:34")
    assert begun.console.tail().replace("\r", "").startswith("33\n34\n")


@everywhere
def test_its_port_is_reached_in_a_network_of_its_own(trial: Trial) -> None:
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


in_uml = pytest.mark.parametrize("trial", ["uml"], indirect=True)


def inside(begun: start.Started, *argv: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(begun.instance.command(argv), capture_output=True, check=False, timeout=60)


@in_uml
def test_what_a_kernel_s_command_line_cannot_hold_reaches_a_workload(trial: Trial) -> None:
    script = 'echo "$quiet|$1|$0"; echo up; exec sleep 600'
    begun = trial.start(script, arguments=('a "b"', "c\nd"), env={"quiet": 'x "y"'})
    assert begun.console.tail().startswith('x "y"|c\nd|a "b"\n')


@in_uml
def test_output_and_status_of_further_commands(trial: Trial) -> None:
    begun = trial.start("exec sleep 600", Exec(argv=("/bin/true",)))
    done = inside(begun, "/bin/sh", "-c", "echo out; echo error >&2; kill -9 $$")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"error\n", 137)
    assert inside(begun, "/bin/nothing").returncode == 127
    assert inside(begun, "/bin/sh", "-c", 'echo ${#1} "$2"', "sh", "x" * 60000, "\x03\r\x11").stdout == (
        b"60000 \x03\r\x11\n"
    )
    much = inside(begun, "/bin/sh", "-c", "head -c 1048576 /dev/urandom > /tmp/x; cat /tmp/x /tmp/x").stdout
    assert (len(much), much[: 1 << 20]) == (2 << 20, much[1 << 20 :])


@in_uml
def test_a_command_whose_asker_is_killed_ends_and_the_next_is_served(trial: Trial) -> None:
    begun = trial.start("exec sleep 600", Exec(argv=("/bin/true",)))
    for command in ("sleep 4321", "while :; do echo y; done"):
        words = begun.instance.command(("/bin/sh", "-c", f"echo begun; {command}"))
        with subprocess.Popen(words, stdout=subprocess.PIPE) as asker:
            assert asker.stdout is not None
            assert asker.stdout.readline() == b"begun\n"
            asker.kill()
        assert inside(begun, "/bin/sh", "-c", "echo alive").stdout == b"alive\n"
    assert b"4321" not in inside(begun, "/bin/sh", "-c", "cat /proc/[0-9]*/cmdline").stdout


@in_uml
def test_what_it_writes_last_arrives(trial: Trial) -> None:
    begun = trial.start("head -c 4194304 /dev/zero; echo the end", Exit())
    assert begun.console.tail().endswith("the end\n")


@in_uml
def test_a_large_image_is_a_disk_and_each_machine_has_its_own_layer(trial: Trial) -> None:
    (trial.image / "large").write_bytes(os.urandom(40 << 20))
    seen = "head -c 99999999 /large | wc -c; echo mine > /large; cat /large; echo up; exec sleep 600"
    for _ in range(2):
        assert trial.start(seen).console.tail().split()[:2] == [str(40 << 20), "mine"]


@in_uml
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo no such table >&2; exit 3", "the workload ended with status 3"),
        ("echo c > /proc/sysrq-trigger", "its kernel has ended\nguest kernel: "),
        ("x=abcdefgh; while :; do x=$x$x; done", "the workload ended with status 137"),
    ],
)
def test_why_it_ended_too_early(trial: Trial, script: str, said: str) -> None:
    with pytest.raises(start.StartFailed) as caught:
        trial.start(script)
    assert said in caught.value.reason


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
