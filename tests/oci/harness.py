"""Drives one OCI runtime's program the way an engine does: a bundle, a state directory, one command after another.

Nothing here knows a runtime. What the tests say is therefore said of crun, runc and tare-oci alike.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest

from tests.conftest import wait_until

#: Our own runtime's program.
OURS = "tare-oci"
DEADLINE_S = 20.0
#: The word that a script prints when it has got as far as a test waits for.
READY = "-- ready --"
#: What a test's own processes need of the environment; the rest could hide a leak into the container.
ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/root", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A command that has ended: its status (negative: the command itself ended by a signal), and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of standard output."""
        return self.out.splitlines()

    def ok(self) -> Done:
        """This, if the status is 0; otherwise the test fails with what was said."""
        assert self.status == 0, f"status {self.status}\nout: {self.out}\nerr: {self.err}"
        return self

    def refused(self) -> Done:
        """This, if it failed as an error does: a status of its own, a message, and no trace of the program's inside."""
        assert self.status != 0, f"it was accepted\nout: {self.out}\nerr: {self.err}"
        assert self.status > 0, f"ended by a signal: {self.status}\nerr: {self.err}"
        assert self.err.strip(), "refused without a word"
        no_trace(self.err)
        return self


def no_trace(text: str) -> None:
    """Fail if *text* is a program's inside turned out."""
    assert "Traceback (most recent call last)" not in text, text
    assert "panic:" not in text, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """One runtime's program."""

    name: str
    binary: str

    @property
    def ours(self) -> bool:
        return self.name == OURS


@dataclass(kw_only=True)
class Box:
    """A bundle, and the container that is made of it: change :attr:`config`, then call what an engine calls.

    Commands write into files, not pipes: a container holds its engine's standard output open long after the command
    that made it has returned.
    """

    runtime: Runtime
    directory: Path
    name: str
    config: dict[str, Any]
    environment: dict[str, str] = field(default_factory=lambda: dict(ENVIRONMENT))
    uid: int | None = None
    count: int = 0
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def bundle(self) -> Path:
        return self.directory / "bundle"

    @property
    def rootfs(self) -> Path:
        return self.bundle / "rootfs"

    @property
    def state_directory(self) -> Path:
        return self.directory / "state"

    @property
    def process(self) -> dict[str, Any]:
        found: dict[str, Any] = self.config["process"]
        return found

    @property
    def linux(self) -> dict[str, Any]:
        found: dict[str, Any] = self.config["linux"]
        return found

    @property
    def resources(self) -> dict[str, Any]:
        found: dict[str, Any] = self.linux.setdefault("resources", {})
        return found

    def mount(self, target: str, kind: str, source: str | Path, *options: str) -> None:
        """Add a mount after those that are there."""
        mounts = self.config["mounts"]
        mounts.append({"destination": target, "type": kind, "source": os.fspath(source), "options": list(options)})

    def without(self, *namespaces: str) -> None:
        """Leave out these namespaces, and what cannot be had without them."""
        self.linux["namespaces"] = [each for each in self.linux["namespaces"] if each["type"] not in namespaces]
        if "uts" in namespaces:
            self.config.pop("hostname", None)

    def save(self) -> None:
        """Write config.json."""
        (self.bundle / "config.json").write_text(json.dumps(self.config, indent=1))

    def command(self, *words: str) -> list[str]:
        return [self.runtime.binary, "--root", os.fspath(self.state_directory), *words]

    def begin(
        self,
        *words: str,
        stdin: int | IO[Any] | None = None,
        pass_fds: Sequence[int] = (),
        prefix: Sequence[str] = (),
        **more: Any,
    ) -> Running:
        """Start a command of the runtime, through the command *prefix* if there is one."""
        self.count += 1
        out, err = (self.directory / f"{self.count}.{kind}" for kind in ("out", "err"))
        more = {"extra_groups": [], "user": self.uid, "group": self.uid} | more if self.uid else more
        # Not /dev/null: crun gives what it has as standard input to the container's user, and that is the host's node.
        (self.directory / "nothing").touch()
        with out.open("wb") as stdout, err.open("wb") as stderr, (self.directory / "nothing").open("rb") as nothing:
            child = subprocess.Popen(
                [*prefix, *self.command(*words)],
                stdin=nothing if stdin is None else stdin,
                **({"stdout": stdout, "stderr": stderr} | more),
                cwd=self.bundle,
                env=self.environment,
                pass_fds=pass_fds,
            )
        self.children.append(child)
        return Running(child=child, out_file=out, err_file=err)

    def call(self, *words: str, **more: Any) -> Done:
        """Run a command of the runtime to its end."""
        return self.begin(*words, **more).wait()

    # -- what an engine calls

    def run(self, *argv: str, options: Sequence[str] = (), **more: Any) -> Done:
        """Run *argv* in the foreground, from creation to removal. No argv: what the configuration says."""
        self._write(argv)
        return self.call("run", *options, "--bundle", os.fspath(self.bundle), self.name, **more)

    def sh(self, script: str, **more: Any) -> Done:
        """The same for a shell script."""
        return self.run("/bin/sh", "-c", script, **more)

    def create(self, *argv: str, options: Sequence[str] = (), **more: Any) -> Running:
        """Create the container; the answer is its output, which goes on after the command's end."""
        self._write(argv)
        started = self.begin("create", *options, "--bundle", os.fspath(self.bundle), self.name, **more)
        started.wait().ok()
        return started

    def create_again(self, *argv: str) -> Done:
        """Ask for another container of the same name."""
        self._write(argv)
        return self.call("create", "--bundle", os.fspath(self.bundle), self.name)

    def live(self, script: str = "", **more: Any) -> Running:
        """Create and start a container that runs *script* and then stays; the answer when the script is through."""
        made = self.create("/bin/sh", "-c", f"{script}\necho '{READY}'\nexec sleep 1000", **more)
        self.call("start", self.name).ok()
        made.until(READY)
        return made

    def exec(self, *argv: str, options: Sequence[str] = (), **more: Any) -> Done:
        return self.call("exec", *options, self.name, *argv, **more)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.call("state", self.name).ok().out)
        return found

    def status(self) -> str:
        return str(self.state()["status"])

    def until_stopped(self) -> None:
        wait_until(lambda: self.status() == "stopped", DEADLINE_S, what="the container is stopped")

    def kill(self, signal_name: str = "KILL", *, options: Sequence[str] = ()) -> Done:
        return self.call("kill", *options, self.name, signal_name)

    def delete(self, *options: str) -> Done:
        return self.call("delete", *options, self.name)

    def abandon(self) -> None:
        """Kill what a failed test did not wait for."""
        for child in self.children:
            child.kill()
            child.wait()

    def gone(self) -> bool:
        """Whether the runtime knows the container no more."""
        return self.call("state", self.name).status != 0

    def _write(self, argv: Sequence[str]) -> None:
        if argv:
            self.process["args"] = list(argv)
        self.save()


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A command that was started, and the files that it (or its container) writes to."""

    child: subprocess.Popen[bytes]
    out_file: Path
    err_file: Path

    @property
    def out(self) -> str:
        return self.out_file.read_text(errors="replace")

    @property
    def err(self) -> str:
        return self.err_file.read_text(errors="replace")

    def until(self, word: str) -> str:
        """The output, once *word* is in it."""

        def there() -> bool:
            return word in self.out

        wait_until(there, DEADLINE_S, what=f"{word!r} in {self.out!r}, {self.err!r}")
        return self.out

    def wait(self) -> Done:
        """Await the command's end."""
        try:
            status = self.child.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            pytest.fail(f"{' '.join(map(str, self.child.args))} did not end in {DEADLINE_S:g} s: {self.err}")  # type: ignore[arg-type]
        return Done(status=status, out=self.out, err=self.err)
