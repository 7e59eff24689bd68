"""Any workload in a virtual machine: when it is ready, how it ends, what gets into it, and what goes wrong."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tare.bench.experiments import prepare, specification
from tare.bench.experiments.start import Contract, Started, StartFailed, start
from tare.bench.host import audit
from tare.bench.records.readiness import Exec, Exit, Http, Line, Mark, Ready, Tcp
from tare.bench.records.resolved import Subject, Workload
from tare.runners.base import Image, Prepared, RunnerError, Scratch, Spec
from tare.runners.image import sources
from tare.runners.image.cache import cache_dir
from tare.runners.payload import Payload
from tare.runners.vm import backend
from tare.runners.vm.connection import make_directory
from tare.runners.vm.guest import Guest
from tests.conftest import require, wait_until

#: Long enough for an emulated guest on a loaded host.
DEADLINE_S = 90.0
EMULATED: dict[str, str] = {"accelerator": "tcg"}
PORT = 8080
PROGRAMS = "sh httpd sleep cat id env pwd hostname echo touch test head ls mount true printf wc nc dd".split()
SERVE = f"exec httpd -f -p {PORT} -h /srv"


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Busybox, a page, and a user."""
    busybox = shutil.which("busybox")
    require("busybox", busybox, "no busybox on PATH")
    root = tmp_path_factory.mktemp("image") / "root"
    for folder in ("bin", "etc", "srv"):
        (root / folder).mkdir(parents=True)
    shutil.copy(str(busybox), root / "bin" / "busybox")
    for name in PROGRAMS:
        (root / "bin" / name).symlink_to("busybox")
    (root / "srv" / "index.html").write_text("weighed\n")
    (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\nweb:x:33:44::/srv:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\nweb:x:44:\nmore:x:55:web\n")
    return sources.find(str(root), tmp_path_factory.mktemp("cache"))


def subject(*command: str, ready: Ready, **said: Any) -> Subject:
    return Subject(
        label="vm", runner="vm", options={**EMULATED}, payload=Payload(), memory_bytes=128 << 20, cpus=1,
        workload=Workload(command=command, ready=ready, **said),
    )  # fmt: skip


@dataclass
class Stage:
    """One run's place, in which workloads are started in virtual machines."""

    scratch: Scratch
    stack: ExitStack
    image: Image
    count: int = 0

    def spec(self, *command: str, ready: Ready, **said: Any) -> Spec:
        return specification.of(subject(*command, ready=ready, **said), self.image)

    def prepare(self, *command: str, ready: Ready, options: dict[str, str] | None = None, **said: Any) -> Prepared:
        spec = self.spec(*command, ready=ready, **said)
        return self.stack.enter_context(backend.prepare(spec, {**EMULATED, **(options or {})}, self.scratch))

    def begin(self, prepared: Prepared, ready: Ready, timeout_s: float = DEADLINE_S) -> Started:
        self.count += 1
        contract = Contract(ready=ready, timeout_s=timeout_s)
        name = f"{self.scratch.prefix}-{self.count}"
        return start(self.stack, prepared.launch, name, contract, interrupts=None)

    def run(self, *command: str, ready: Ready, timeout_s: float = DEADLINE_S, **said: Any) -> Started:
        return self.begin(self.prepare(*command, ready=ready, **said), ready, timeout_s)


def opened(image: Image, stack: ExitStack) -> Stage:
    support = backend.probe(EMULATED, cache_dir())
    require("libvirt", support.ok, f"{support.why}; {support.fix}")
    directory = make_directory()
    stack.callback(shutil.rmtree, directory)
    scratch = Scratch(directory=directory, cache=cache_dir(), cgroup=None, prefix=f"tare-{secrets.token_hex(3)}")
    return Stage(scratch, stack, image)


@pytest.fixture
def stage(image: Image) -> Iterator[Stage]:
    """A place of its own; at the end nothing may be left."""
    with ExitStack() as outer:
        with ExitStack() as stack:
            found = opened(image, stack)
            before = audit.take(found.scratch.prefix, found.scratch.directory)
            held = set(cache_dir().glob(f"tare-vm-{os.getpid()}-*"))
            yield found
        prefix = found.scratch.prefix
        leaks = audit.difference(before, audit.take(prefix, found.scratch.directory), str)
        assert [leak for leak in leaks if prefix in leak.name] == []  # the server for all tests is a process, too
        assert set(cache_dir().glob(f"tare-vm-{os.getpid()}-*")) <= held
        outer.pop_all()


@pytest.fixture(scope="module")
def server(image: Image) -> Iterator[Guest]:
    """A guest in which a web server runs, for all tests that only look at it."""
    require("root", os.geteuid() == 0, "a guest's network is made by root")
    with ExitStack() as stack:
        said: dict[str, Any] = {"env": {"COLOUR": "blue and green"}, "cwd": "/srv", "user": "web"}
        started = opened(image, stack).run("sh", "-c", SERVE, ready=Http(port=PORT), **said)
        assert isinstance(started.instance, Guest)
        yield started.instance


def inside(guest: Guest, *argv: str, **wishes: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(guest.command(argv), capture_output=True, check=False, timeout=DEADLINE_S, **wishes)


def test_a_further_command_has_the_workload_s_surroundings(server: Guest) -> None:
    done = inside(
        server, "sh", "-c", "id -u; id -g; id -G; pwd; hostname; echo $COLOUR; cat /srv/index.html; echo $PATH"
    )
    assert done.stdout.decode().splitlines() == [
        "33", "44", "44 55", "/srv", "tare", "blue and green", "weighed",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]  # fmt: skip
    assert (done.stderr, done.returncode) == (b"", 0)


@pytest.mark.parametrize(
    ("argv", "status", "out", "error"),
    [
        (("true",), 0, b"", b""),
        (("sh", "-c", "echo out; echo error >&2; exit 7"), 7, b"out\n", b"error\n"),
        (("sh", "-c", "kill -9 $$"), 137, b"", b""),
        (("nothing-of-this-name",), 127, b"", b"init: nothing-of-this-name: No such file or directory\n"),
        (("/etc/passwd",), 126, b"", b"init: /etc/passwd: Permission denied\n"),
        (("printf", "%s|", "", "a b", "c\nd"), 0, b"|a b|c\nd|", b""),
        (("cat",), 0, b"", b""),  # its standard input is empty
        (("sh", "-c", "(sleep 1000) & echo done"), 0, b"done\n", b""),  # what it leaves behind is not waited for
    ],
)
def test_output_and_status_of_a_further_command(
    server: Guest, argv: tuple[str, ...], status: int, out: bytes, error: bytes
) -> None:
    done = inside(server, *argv)
    assert (done.returncode, done.stdout, done.stderr) == (status, out, error)


def test_every_byte_of_a_megabyte_comes_out(server: Guest) -> None:
    done = inside(server, "sh", "-c", "head -c 1048576 /dev/urandom > /tmp/x; cat /tmp/x; cat /tmp/x")
    assert len(done.stdout) == 2 << 20
    assert done.stdout[: 1 << 20] == done.stdout[1 << 20 :]


def test_a_command_whose_asker_is_killed_ends_and_the_next_is_served(server: Guest) -> None:
    for command in ("sleep 4321", "while :; do echo y; done"):
        with subprocess.Popen(server.command(("sh", "-c", f"echo begun; {command}")), stdout=subprocess.PIPE) as asker:
            assert asker.stdout is not None
            assert asker.stdout.readline() == b"begun\n"
            asker.kill()
        assert inside(server, "echo", "alive").stdout == b"alive\n"
    found = inside(server, "sh", "-c", "cat /proc/[0-9]*/cmdline").stdout
    assert b"4321" not in found
    assert b"echo y" not in found.replace(b"cat /proc", b"")


def test_those_who_ask_at_once_are_served_one_after_the_other(server: Guest) -> None:
    askers = [
        subprocess.Popen(server.command(("sh", "-c", f"sleep 0.3; echo {number}")), stdout=subprocess.PIPE)
        for number in range(3)
    ]
    assert sorted(asker.communicate(timeout=DEADLINE_S)[0] for asker in askers) == [b"0\n", b"1\n", b"2\n"]


def test_what_a_program_finds_is_there(server: Guest) -> None:
    done = inside(
        server,
        "sh",
        "-c",
        "ls -d /dev/null /dev/shm /dev/pts /proc/self /sys/class /run /tmp; echo ok > /dev/shm/x; ls /.tare",
    )
    assert done.stdout.decode().split() == [
        "/dev/null", "/dev/pts", "/dev/shm", "/proc/self", "/run", "/sys/class", "/tmp", "init", "workload",
    ]  # fmt: skip
    assert done.returncode == 0


def test_the_host_s_network_is_not_touched(server: Guest) -> None:
    assert [name for name in os.listdir("/sys/class/net") if name.startswith("tare")] == []
    assert Path(f"/proc/{server.emulator_pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()


def test_a_port_is_ready_when_the_server_listens_and_not_when_the_machine_does(stage: Stage) -> None:
    require("root", os.geteuid() == 0, "a guest's network is made by root")
    late = "echo early; sleep 2; echo listening; exec nc -l -p 8080"
    started = stage.run("sh", "-c", late, ready=Tcp(port=PORT))
    assert "listening" in started.console.tail()
    assert started.since_request_s("ready") > 2
    assert started.attempt_s is not None


def test_a_line_a_mark_and_a_command_inside(stage: Stage) -> None:
    assert stage.run(
        "sh", "-c", "echo Serving on 1; exec sleep 1000", ready=Line(pattern=r"^Serving on \d$")
    ).instance.pids()
    assert stage.run("sh", "-c", "echo tare ready; exec sleep 1000", ready=Mark()).instance.pids()
    ready = Exec(argv=("test", "-e", "/made"))
    assert stage.run("sh", "-c", "sleep 1; touch /made; exec sleep 1000", ready=ready).since_request_s("ready") > 1


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -15 $$", 143)])
def test_the_end_of_a_workload(stage: Stage, script: str, code: int) -> None:
    started = stage.run("sh", "-c", script, ready=Exit(code=code))
    assert started.instance.status() == code


def test_what_it_writes_last_arrives(stage: Stage) -> None:
    started = stage.run("sh", "-c", "dd if=/dev/zero bs=1024 count=64 2>/dev/null; echo the end", ready=Exit())
    assert started.console.tail().endswith("the end\n")


def failed(stage: Stage, *command: str, ready: Ready, timeout_s: float = DEADLINE_S, **said: Any) -> str:
    with pytest.raises(StartFailed) as caught:
        stage.run(*command, ready=ready, timeout_s=timeout_s, **said)
    return f"{caught.value.status}: {caught.value.reason}"


def test_a_workload_that_ends_at_once_says_with_which_status(stage: Stage) -> None:
    said = failed(stage, "sh", "-c", "echo no such table >&2; exit 3", ready=Http(port=PORT))
    assert said.startswith("failed: it ended before it was ready")
    assert "the workload ended with status 3" in said
    assert "no such table" in said


def test_one_that_ends_with_another_status(stage: Stage) -> None:
    assert "it ended with status 3" in failed(stage, "sh", "-c", "exit 3", ready=Exit())


def test_one_that_never_listens(stage: Stage) -> None:
    said = failed(stage, "sleep", "1000", ready=Tcp(port=PORT), timeout_s=15)
    assert said.startswith(f"timeout: port {PORT} accepted no connection within 15 s: Connection refused")


def test_a_guest_that_panics(stage: Stage) -> None:
    said = failed(stage, "sh", "-c", "echo c > /proc/sysrq-trigger", ready=Tcp(port=PORT))
    assert said.startswith("failed: ")
    assert "sysrq triggered crash" in said


def test_a_guest_whose_agent_ends_gets_no_command_in_and_is_one_that_timed_out(stage: Stage) -> None:
    """The agent is what serves commands from the host. It is named like the first process, which has the number 1."""
    kill = "read -r name <$one/comm; [ $name != init ] || [ $one = /proc/1 ] || kill -9 ${one#/proc/}"
    script = f"for one in /proc/[0-9]*; do {kill}; done; touch /tmp/gone; exec sleep 1000"
    said = failed(stage, "sh", "-c", script, ready=Exec(argv=("test", "-e", "/tmp/gone")), timeout_s=25)
    assert said.startswith("timeout: ")
    assert "within 25 s" in said


def test_one_that_needs_more_memory_than_the_guest_has(stage: Stage) -> None:
    said = failed(stage, "sh", "-c", "x=abcdefgh; while :; do x=$x$x; done", ready=Exit())
    assert "the workload ended with status 137" in said
    assert "Out of memory" in said


def test_a_program_that_the_image_lacks_is_said_before_anything_starts(stage: Stage) -> None:
    with pytest.raises(RunnerError, match="has no program nginx"):
        stage.prepare("nginx", ready=Tcp(port=80))


def test_a_file_that_is_no_program(stage: Stage, tmp_path: Path) -> None:
    shutil.copytree(stage.image.directory, tmp_path / "root", symlinks=True)
    (tmp_path / "root" / "bin" / "broken").write_bytes(b"echo no script\n")
    (tmp_path / "root" / "bin" / "broken").chmod(0o755)
    stage.image = sources.find(str(tmp_path / "root"), tmp_path / "cache")
    assert "broken: Exec format error" in failed(stage, "broken", ready=Exit())


def test_with_a_balloon_a_command_gets_in_all_the_same(stage: Stage) -> None:
    ready = Exec(argv=("true",))
    started = stage.run("sleep", "1000", ready=ready, options={"balloon": "virtio"})
    started.instance.reclaim(16 << 20)


def test_an_image_that_does_not_fit_into_memory_is_refused_or_becomes_a_disk(stage: Stage, tmp_path: Path) -> None:
    shutil.copytree(stage.image.directory, tmp_path / "root", symlinks=True)
    (tmp_path / "root" / "large").write_bytes(os.urandom(40 << 20))
    stage.image = sources.find(str(tmp_path / "root"), tmp_path / "cache")
    with pytest.raises(RunnerError, match="too large to be held in memory"):
        stage.prepare("true", ready=Exit(), options={"root": "memory"})
    seen = "wc -c < /large; touch /large && echo mine > /new; cat /new; ls -d /.tare; exec sleep 1000"
    prepared = stage.prepare("sh", "-c", seen, ready=Line(pattern="mine"))
    assert ".ext4" in prepared.manifest["domain.xml"]
    for _ in range(2):  # both at once, each with a layer of its own
        said = stage.begin(prepared, Line(pattern="mine")).console.tail().split()
        assert said[:2] == [str(40 << 20), "mine"]


def test_two_guests_have_the_same_address_and_do_not_meet(stage: Stage) -> None:
    require("root", os.geteuid() == 0, "a guest's network is made by root")
    ready = Http(port=PORT)
    prepared = stage.prepare("sh", "-c", SERVE, ready=ready)
    first, second = (stage.begin(prepared, ready).instance for _ in range(2))
    assert first.address().host == second.address().host
    assert first.address().pid != second.address().pid


def test_the_host_s_root_is_refused_with_one_command_that_makes_an_image(stage: Stage) -> None:
    asked = subject("true", ready=Exit(), image="host")
    found = prepare.try_subject(asked, prepare.images(stage.scratch.cache), stage.scratch, "1", stage.stack)
    assert "cannot take the image host" in found.record.skipped
    assert "tare image build debian:bookworm+python3" in found.record.fix


def test_a_guest_that_outlives_its_run_is_ended_and_its_network_with_it(stage: Stage) -> None:
    require("root", os.geteuid() == 0, "a guest's network is made by root")
    with ExitStack() as stack:
        started = Stage(stage.scratch, stack, stage.image).run("sh", "-c", SERVE, ready=Http(port=PORT))
        guest = started.instance
        assert isinstance(guest, Guest)
        namespace = Path(f"/proc/{guest.emulator_pid}/ns/net").readlink()
        assert namespace in held_namespaces()
        os.kill(guest.emulator_pid, signal.SIGKILL)
        wait_until(lambda: guest.status() == 137, DEADLINE_S)
    wait_until(lambda: namespace not in held_namespaces(), DEADLINE_S)


def held_namespaces() -> set[Path]:
    """The network namespaces of all threads on this host, those of our own process among them."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/task/[0-9]*/ns/net"):
        with suppress(OSError):
            found.add(path.readlink())
    return found
