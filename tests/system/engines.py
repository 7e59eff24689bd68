"""What podman and docker must be able to do with our runtime as theirs; and with runc, which proves the tests.

The engine is real, with directories of its own below the test's: nothing of the user's engine is touched. The image is
made of busybox, for no registry need be reachable.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import tarfile
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import wait_until
from tests.oci import leftovers
from tests.oci.runtimes import fill
from tests.oci.terminals import own_terminal, read_until

IMAGE = "tare-test-image"
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine's command line, up to the verb; *run* are the options that every container gets."""

    command: tuple[str, ...]
    run_options: tuple[str, ...]
    #: In the names of its containers, and so of all that can be left.
    word: str
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    #: The user who calls it.
    uid: int = 0

    def call(self, *words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
        """Run a verb of the engine to its end."""
        done = subprocess.run(
            [*self.command, *words],
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=DEADLINE_S,
            cwd=self.cwd,
            env=self.environment,
        )
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def words(self, *argv: str, options: Sequence[str] = ()) -> list[str]:
        return ["run", *self.run_options, *options, IMAGE, *argv]

    def run(
        self, *argv: str, options: Sequence[str] = (), stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run *argv* in a container that is removed at its end."""
        return self.call(*self.words(*argv, options=("--rm", *options)), stdin=stdin)

    def start(self, script: str, *options: str) -> str:
        """Start a container in the background; its name."""
        name = f"{self.word}-{script.__hash__() & 0xFFFFFF:x}"
        done = self.call(*self.words("/bin/sh", "-c", script, options=("--detach", "--name", name, *options)))
        assert done.returncode == 0, done.stderr
        return name

    def inspect(self, name: str, template: str) -> str:
        done = self.call("inspect", "--format", template, name)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def until(self, name: str, word: str) -> str:
        """The logs of a container, once *word* is in them."""
        wait_until(lambda: word in self.call("logs", name).stdout, DEADLINE_S, what=f"{word} in the logs of {name}")
        return self.call("logs", name).stdout

    def remove(self, name: str) -> None:
        """Remove a container, and kill it first: removal would wait for it to heed SIGTERM."""
        self.call("kill", name)
        done = self.call("rm", "--force", name)
        assert done.returncode == 0, done.stderr


def image(directory: Path, inside: Path) -> Path:
    """A root filesystem as a tar archive."""
    rootfs = directory / "image"
    fill(rootfs, inside)
    archive = directory / "image.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(rootfs, arcname=".")
    return archive


def answers_a_new_size(master: int, slave: int) -> bool:
    """Whether something is said within half a second after a terminal became 44 lines of 111 columns."""
    for columns in (110, 111):
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 44, columns, 0, 0))
    return bool(select.select([master], [], [], 0.5)[0])


class EngineContract:
    """The tests for whoever may call the engine; a class below gives the fixture ``engine``."""

    def test_output_and_status(self, engine: Engine) -> None:
        done = engine.run("/bin/sh", "-c", "echo out; echo err >&2; exit 7")
        assert (done.returncode, done.stdout) == (7, "out\n")
        assert done.stderr.endswith("err\n")

    def test_standard_input(self, engine: Engine) -> None:
        assert engine.run("/bin/cat", options=("--interactive",), stdin=b"some words").stdout == "some words"

    def test_a_missing_program_is_127(self, engine: Engine) -> None:
        """Which the engine reads from the runtime's message."""
        done = engine.run("/no/such/program")
        assert done.returncode == 127, done.stderr
        assert "/no/such/program" in done.stderr

    def test_a_program_that_may_not_be_run_is_126(self, engine: Engine) -> None:
        done = engine.run("/etc/passwd")
        assert done.returncode == 126, done.stderr

    def test_walls(self, engine: Engine) -> None:
        """The engine's own configuration: capabilities, filter, masks, hostname, PID 1."""
        script = (
            "grep -E '^(CapEff|Seccomp):' /proc/self/status; hostname; echo $$; cat /proc/keys /proc/timer_list | wc -c"
        )
        lines = engine.run("/bin/sh", "-c", script, options=("--hostname", "a-name")).stdout.splitlines()
        assert int(lines[0].split()[1], 16) & (1 << 21) == 0
        assert lines[1:] == ["Seccomp:\t2", "a-name", "1", "0"]

    def test_user_and_directory(self, engine: Engine) -> None:
        done = engine.run(
            *("/bin/sh", "-c", "id -u; id -g; pwd; echo $WORD"),
            options=("--user", "1000:1000", "--workdir", "/tmp", "--env", "WORD=a b"),
        )
        assert done.stdout.splitlines() == ["1000", "1000", "/tmp", "a b"]

    def test_volume(self, engine: Engine) -> None:
        volume = engine.cwd / "volume"
        volume.mkdir(exist_ok=True)
        os.chown(volume, engine.uid, engine.uid)
        engine.run("/bin/sh", "-c", "echo kept > /data/file", options=("--volume", f"{volume}:/data"))
        assert (volume / "file").read_text() == "kept\n"
        done = engine.run("/bin/sh", "-c", "echo no > /data/file", options=("--volume", f"{volume}:/data:ro"))
        assert "Read-only file system" in done.stderr

    def test_readonly_root_and_tmpfs(self, engine: Engine) -> None:
        done = engine.run(
            *("/bin/sh", "-c", "echo x > /x; echo y > /scratch/y && echo written"),
            options=("--read-only", "--tmpfs", "/scratch"),
        )
        assert "Read-only file system" in done.stderr
        assert done.stdout == "written\n"

    def test_logs_exec_and_stop(self, engine: Engine) -> None:
        """A container in the background: what it said, another process in it, its end by SIGTERM and its own status."""
        name = engine.start("trap 'echo bye; exit 3' TERM; echo hello; while :; do sleep 0.05; done")
        engine.until(name, "hello")
        done = engine.call("exec", name, "/bin/sh", "-c", "echo more; exit 4")
        assert (done.returncode, done.stdout) == (4, "more\n")
        assert engine.call("stop", "--time", "20", name).returncode == 0
        assert engine.inspect(name, "{{.State.Status}} {{.State.ExitCode}}") == "exited 3"
        assert engine.call("logs", name).stdout == "hello\nbye\n"
        engine.remove(name)

    def test_kill(self, engine: Engine) -> None:
        name = engine.start("echo hello; exec sleep 1000")
        engine.until(name, "hello")
        assert engine.call("kill", name).returncode == 0
        wait_until(lambda: engine.inspect(name, "{{.State.Status}}") == "exited", DEADLINE_S)
        assert engine.inspect(name, "{{.State.ExitCode}}") == "137"
        engine.remove(name)

    def test_restart(self, engine: Engine) -> None:
        """The same container once more: nothing of its first life is in the way."""
        name = engine.start("echo started; trap 'exit 0' TERM; while :; do sleep 0.05; done")
        engine.until(name, "started")
        assert engine.call("restart", "--time", "20", name).returncode == 0
        wait_until(lambda: engine.call("logs", name).stdout == "started\n" * 2, DEADLINE_S)
        engine.remove(name)

    def test_terminal(self, engine: Engine) -> None:
        """run -it: a terminal inside, typing, the user's size, the status."""
        script = 'tty; read word; echo "[$word]"; until stty size 2>&1 | grep "44 111"; do sleep 0.05; done; exit 5'
        with own_terminal() as (master, slave):
            words = engine.words("/bin/sh", "-c", script, options=("--rm", "-it"))
            running = subprocess.Popen(
                ["setsid", "--ctty", "--wait", *engine.command, *words],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                cwd=engine.cwd,
                env={**engine.environment, "TERM": "xterm"},
            )
            try:
                text = read_until(master, "/dev/")
                os.write(master, b"typed\n")
                text += read_until(master, "[typed]")
                # A new size, for the first is told a moment after the start: how soon is the engine's affair. Again and
                # again: docker's client tells the first size before it listens for changes.
                wait_until(lambda: answers_a_new_size(master, slave), DEADLINE_S)
                text += read_until(master, "44 111")
                assert running.wait(DEADLINE_S) == 5, text
            finally:
                running.kill()
                running.wait()

    def test_exec_with_a_terminal(self, engine: Engine) -> None:
        name = engine.start("echo hello; exec sleep 1000")
        engine.until(name, "hello")
        with own_terminal() as (master, slave):
            running = subprocess.Popen(
                ["setsid", "--ctty", "--wait", *engine.command, "exec", "-it", name, "/bin/sh", "-c", "tty; exit 6"],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                cwd=engine.cwd,
                env=engine.environment,
            )
            try:
                assert "/dev/pts/" in read_until(master, "/dev/pts/")
                assert running.wait(DEADLINE_S) == 6
            finally:
                running.kill()
                running.wait()
        engine.remove(name)

    def test_without_a_filter(self, engine: Engine) -> None:
        """And with another set of capabilities, all that the engine is asked for."""
        options = ("--security-opt", "seccomp=unconfined", "--cap-drop", "ALL", "--cap-add", "KILL")
        words = ("/bin/grep", "-E", "^(CapEff|Seccomp):", "/proc/self/status")
        assert engine.run(*words, options=options).stdout.splitlines() == [f"CapEff:\t{1 << 5:016x}", "Seccomp:\t0"]

    def test_nothing_is_left(self, engine: Engine) -> None:
        """The engine knows no container any more, and the host has nothing that bears its name."""
        done = engine.call("ps", "--all", "--quiet")
        assert done.stdout == ""
        assert list(leftovers.cgroups(engine.word)) == []


class LimitsContract:
    """The tests for who may make cgroups: root, and with cgroup v2 whom systemd or root has given some."""

    def test_pause(self, engine: Engine) -> None:
        name = engine.start("echo hello; exec sleep 1000")
        engine.until(name, "hello")
        assert engine.call("pause", name).returncode == 0
        assert engine.inspect(name, "{{.State.Status}}") == "paused"
        assert engine.call("unpause", name).returncode == 0
        assert engine.inspect(name, "{{.State.Status}}") == "running"
        engine.remove(name)

    def test_the_memory_limit_kills(self, engine: Engine) -> None:
        limit = ("--memory", "32m", "--memory-swap", "32m")
        done = engine.run("/bin/inside", "touch", "128", options=limit)
        assert (done.returncode, done.stdout) == (137, "")
        assert engine.run("/bin/inside", "touch", "8", options=limit).stdout == "touched\n"

    def test_limits_arrive(self, engine: Engine) -> None:
        name = engine.start("echo hello; exec sleep 1000", "--pids-limit", "55", "--cpus", "0.5")
        engine.until(name, "hello")
        pid = engine.inspect(name, "{{.State.Pid}}")
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        (path,) = [line.split(":")[2] for line in lines if line.split(":")[1] in ("pids", "")][:1]
        file = next(Path("/sys/fs/cgroup").glob(f"**{path}/pids.max"))
        assert file.read_text() == "55\n"
        engine.remove(name)
