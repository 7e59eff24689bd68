"""tare-oci as people and engines call it: terminals, signals, exec, limits, deaths in between."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tare.runners.container.cgroup import cgroups
from tare.runners.container.cli import main
from tare.runners.container.config.defaults import default_config
from tare.runners.container.lifecycle import checkpoint
from tare.runners.container.linux import pty as our_pty
from tests.conftest import require, wait_until

MAIN = [sys.executable, "-I", "-S", os.fspath(Path(main.__file__).parents[1] / "__main__.py")]
DEADLINE_S = 30
#: A shell that says when it is ready, and waits.
WAIT = "echo ready; while :; do sleep 0.05; done"


class Box:
    """One bundle, and the runtime with a root directory of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.name = f"tare-cli-{os.getpid()}"
        self.bundle = place / "bundle"
        #: Seconds to sleep, by which a process can be found.
        self.unique = str(10_000_000 + os.getpid())
        rootfs = self.bundle / "rootfs"
        for name in ("bin", "proc", "sys", "dev", "tmp", "etc"):
            (rootfs / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", rootfs / "bin")
        for name in ("sh", "sleep", "true", "cat", "tty", "stty", "id", "env", "kill", "ps", "pwd"):
            (rootfs / "bin" / name).symlink_to("busybox")
        self.config: dict[str, Any] = default_config(
            argv=["/bin/sh"],
            env=[("PATH", "/bin"), ("HOME", "/")],
            rootfs="rootfs",
            cgroup=self.name,
            memory_bytes=1 << 27,
            cpus=1,
            count_swap=cgroups.counts_swap(),
        )

    def command(self, *words: str) -> list[str]:
        return [*MAIN, "--root", os.fspath(self.place / "root"), *words]

    def save(self, *argv: str, **process: Any) -> None:
        self.config["process"] |= {"args": list(argv)} | process
        (self.bundle / "config.json").write_text(json.dumps(self.config))

    def oci(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        # Files, not pipes: a container that waits has the other ends, and reading to the end of a pipe waits for it.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            done = subprocess.run(
                self.command(*words),
                cwd=self.bundle,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                check=False,
                timeout=DEADLINE_S,
                env=os.environ | env,
            )
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, out.read(), err.read())

    def ok(self, *words: str) -> str:
        done = self.oci(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def state(self) -> dict[str, Any]:
        return json.loads(self.ok("state", self.name))  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def started(self, script: str = WAIT) -> Iterator[subprocess.Popen[str]]:
        """The runtime in the foreground, its container ready; killed at the end if it still runs."""
        self.save("/bin/sh", "-c", script)
        command = self.command("run", self.name)
        with subprocess.Popen(
            command, cwd=self.bundle, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as running:
            assert running.stdout is not None
            assert running.stdout.readline() == "ready\n"
            try:
                yield running
            finally:
                if running.poll() is None:
                    self.oci("kill", self.name, "KILL")
                    assert running.wait(DEADLINE_S) == 128 + signal.SIGKILL


def leftovers(name: str) -> list[str]:
    """Cgroups that bear *name*."""
    return cgroups.find(name)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    require("root", os.geteuid() == 0, "not root")
    require("cgroups", not cgroups.usable(), cgroups.usable())
    if not Path("/bin/busybox").exists():
        pytest.fail("no /bin/busybox: ./bootstrap installs it")
    made = Box(tmp_path)
    yield made
    made.oci("delete", "--force", made.name)
    assert list((tmp_path / "root").glob("[!@]*")) == []
    assert leftovers(made.name) == []


class Screen:
    """Our end of a terminal: everything that was shown."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.seen = ""

    def until(self, word: str) -> str:
        while word not in self.seen:
            try:
                data = os.read(self.master, 4096)
            except OSError:  # EIO: hung up
                data = b""
            if not data:
                pytest.fail(f"{word!r} was not shown, but {self.seen!r}")
            self.seen += data.decode()
        return self.seen

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextlib.contextmanager
def on_a_terminal(command: list[str], cwd: Path, *, rows: int = 33, columns: int = 77) -> Iterator[tuple[Screen, int]]:
    """Run *command* in a session of its own on a new terminal; yield (screen, pid). The block waits for its end."""
    pid, master = pty.fork()
    if pid == 0:
        try:
            os.chdir(cwd)
            os.read(0, 16)  # until the terminal has its size; the whole line, or the program reads the rest
            os.execv(command[0], command)
        finally:
            os._exit(127)
    screen = Screen(master)
    screen.size(rows, columns)
    screen.type("g\n")
    try:
        yield screen, pid
    finally:
        os.close(master)


def status_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_run_in_a_terminal(box: Box) -> None:
    box.save("/bin/sh", "-c", "tty; stty size; read a; echo got:$a; exit 4", terminal=True)
    with on_a_terminal(box.command("run", box.name), box.bundle) as (screen, pid):
        screen.until("/dev/pts/0")
        screen.until("33 77")
        screen.type("word\r")
        screen.until("got:word")
        assert status_of(pid) == 4


def test_a_terminals_size_and_keys_reach_the_container(box: Box) -> None:
    script = "trap 'stty size' WINCH; trap 'echo interrupted; exit 6' INT; echo up; while :; do sleep 0.05; done"
    box.save("/bin/sh", "-c", script, terminal=True)
    with on_a_terminal(box.command("run", box.name), box.bundle) as (screen, pid):
        screen.until("up")
        screen.size(10, 20)
        screen.until("10 20")
        screen.type("\x03")
        screen.until("interrupted")
        assert status_of(pid) == 6


def test_console_socket_gets_the_master(box: Box) -> None:
    box.save("/bin/sh", "-c", "tty; echo out", terminal=True)
    path = box.place / "console"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(path))
        server.listen()
        assert "nothing receives the terminal" in box.oci("create", box.name).stderr
        box.ok("create", "--console-socket", os.fspath(path), box.name)
        carrier, _ = server.accept()
        with carrier:
            master = our_pty.receive(carrier.fileno())
        box.ok("start", box.name)
        Screen(master).until("out")
        os.close(master)
    wait_until(lambda: box.state()["status"] == "stopped", DEADLINE_S)


def test_console_socket_without_a_terminal_is_refused(box: Box) -> None:
    box.save("/bin/true")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(box.place / "console"))
        server.listen()
        done = box.oci("create", "--console-socket", os.fspath(box.place / "console"), box.name)
    assert "asks for no terminal" in done.stderr


def test_exec_in_a_terminal(box: Box) -> None:
    with box.started():
        command = box.command("exec", "--tty", box.name, "/bin/sh", "-c", "tty; stty size; exit 5")
        with on_a_terminal(command, box.bundle) as (screen, pid):
            screen.until("/dev/pts/0")
            screen.until("33 77")
            assert status_of(pid) == 5


def test_signals_in_the_foreground_go_to_the_container(box: Box) -> None:
    with box.started("trap 'echo caught' USR1; trap 'exit 9' TERM; " + WAIT) as running:
        assert running.stdout is not None
        running.send_signal(signal.SIGUSR1)
        assert running.stdout.readline() == "caught\n"
        running.terminate()
        assert running.wait(DEADLINE_S) == 9
        assert box.oci("state", box.name).returncode == 1


def test_exec_is_in_everything_that_the_container_is_in(box: Box) -> None:
    with box.started():
        look = "for n in mnt pid uts ipc net cgroup; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup"
        (box.bundle / "rootfs/bin/readlink").symlink_to("busybox")
        inside = box.ok("exec", box.name, "/bin/sh", "-c", look)
        first = box.state()["pid"]
        wanted = [
            os.fspath(Path(f"/proc/{first}/ns/{name}").readlink())
            for name in ("mnt", "pid", "uts", "ipc", "net", "cgroup")
        ]
        assert inside.splitlines()[:6] == wanted
        # Of a cgroup namespace whose root is the container's cgroup, all that is seen is the root.
        assert {line.rpartition(":")[2] for line in inside.splitlines()[6:]} <= {"/"}


def test_exec_by_options_and_by_a_file(box: Box) -> None:
    with box.started():
        said = box.ok(
            "exec",
            "--cwd",
            "/tmp",
            "-e",
            "A=b c",
            "--user",
            "7:8",
            box.name,
            "/bin/sh",
            "-c",
            "pwd; echo $A; id -u; id -g",
        )
        assert said.split("\n")[:4] == ["/tmp", "b c", "7", "8"]
        process = {
            "args": ["sh", "-c", "pwd; id -u; id -G; exit 3"],
            "cwd": "/bin",
            "env": ["PATH=/bin"],
            "user": {"uid": 5, "gid": 6, "additionalGids": [9]},
        }
        (box.place / "process.json").write_text(json.dumps(process))
        pid_file = box.place / "pid"
        done = box.oci(
            "exec", "--process", os.fspath(box.place / "process.json"), "--pid-file", os.fspath(pid_file), box.name
        )
        assert done.stdout.split("\n")[:3] == ["/bin", "5", "6 9"]
        assert done.returncode == 3
        assert pid_file.read_text().isdecimal()


def test_exec_says_why_it_did_not_start(box: Box) -> None:
    with box.started():
        for words, said in (
            (("/bin/nothing",), "nothing"),
            (("--cwd", "/nowhere", "/bin/true"), "/nowhere"),
            (("--env", "A", "/bin/true"), "--env"),
            (("--user", "root", "/bin/true"), "--user"),
        ):
            options, program = words[:-1], words[-1]
            done = box.oci("exec", *options, box.name, program)
            assert done.returncode == 255
            assert said in done.stderr
            assert "Traceback" not in done.stderr
        assert len(json.loads(box.ok("ps", "-f", "json", box.name))) >= 1


def test_exec_status_of_a_signal_and_detached(box: Box) -> None:
    with box.started():
        assert box.oci("exec", box.name, "/bin/sh", "-c", "kill -9 $$").returncode == 137
        before = len(json.loads(box.ok("ps", "-f", "json", box.name)))
        box.ok("exec", "-d", box.name, "/bin/sleep", "1000")
        assert len(json.loads(box.ok("ps", "-f", "json", box.name))) >= before
        assert "sleep 1000" in box.ok("exec", box.name, "/bin/ps")


def test_a_program_that_is_no_program_fails_the_start(box: Box) -> None:
    text = box.bundle / "rootfs/bin/text"
    text.write_text("neither ELF nor a script\n")
    text.chmod(0o755)
    box.save("/bin/text")
    box.ok("create", box.name)
    done = box.oci("start", box.name)
    assert done.returncode == 1
    assert "/bin/text" in done.stderr
    wait_until(lambda: box.state()["status"] == "stopped", DEADLINE_S)


def test_limits_change_while_it_runs(box: Box) -> None:
    with box.started():
        group = cgroups.for_container(box.name, box.name)
        (box.place / "r.json").write_text(json.dumps({"pids": {"limit": 77}}))
        box.ok("update", "--resources", os.fspath(box.place / "r.json"), box.name)
        assert Path(group.file("pids", "pids.max")).read_text().strip() == "77"
        (box.place / "r.json").write_text(json.dumps({"pids": {"limit": "many"}}))
        assert "pids.limit" in box.oci("update", "--resources", os.fspath(box.place / "r.json"), box.name).stderr


def test_explain_runs_nothing(box: Box) -> None:
    box.save("/bin/sh", "-c", "echo ran")
    said = box.ok("run", "--explain", box.name)
    assert "pivot_root" in said
    assert "ran\n" not in said
    assert not (box.place / "root").exists()


def test_a_cgroup_with_strangers_in_it_is_refused(box: Box) -> None:
    """A container that fails is removed with its cgroup: they would die with it."""
    group = cgroups.for_container(box.name, box.name)
    group.create()
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        group.add(stranger.pid)
        box.save("/bin/true")
        assert "cgroup is not empty" in box.oci("run", box.name).stderr
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
        group.kill()
        group.remove()


@pytest.mark.parametrize("name", checkpoint.NAMES)
def test_whatever_a_death_leaves_can_be_removed(box: Box, name: str) -> None:
    box.save("/bin/sleep", box.unique)
    verbs = {"create": ("create",), "start": ("create", "start"), "delete": ("create", "start", "delete")}
    *before, last = verbs[name.partition(":")[0]]
    for verb in before:
        box.ok(verb, box.name)
    words = (
        ["--force"] if last == "delete" else ["--pid-file", os.fspath(box.place / "pid")] if last == "create" else []
    )
    done = box.oci(last, *words, box.name, TARE_OCI_TEST="1", TARE_OCI_CRASH=name)
    assert done.returncode == -signal.SIGKILL
    box.ok("delete", "--force", box.name)
    wait_until(lambda: not _alive(box), DEADLINE_S)


def _alive(box: Box) -> list[str]:
    """Processes of the container: its program, or the runtime's copy that was to become it."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{entry}/cmdline").read_text()
                if os.fspath(box.place) in command or box.unique in command:
                    found.append(command)
    return found
