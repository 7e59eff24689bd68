"""Runner "container": our own runtime, started warm, by a small helper that has everything ready.

:func:`prepare` starts the helper (``runners/container/warm.py``). A launch is one message to it, with the ends of three
pipes: *gate* (go), *console*, *status* (what failed). While the helper is inside clone3, which takes about a
millisecond for the network namespace alone, this process makes the instance's cgroups; then it opens the gate.

There are as many helpers as processors, forked from the first. They are resident: ``Prepared.resident_pids``; they and
their containers die with this process.
"""

from __future__ import annotations

import json
import os
import platform
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from runners import payload
from runners.base import PREFIX, Instance, Kind, Mark, Option, Options, Prepared, RunnerError, Scratch, Spec, Support
from runners.container import borrow, cgroups, devices, leftovers, stub, trial
from runners.container.bundle import parse
from runners.container.defaults import PIDS_LIMIT, default_config
from runners.container.reader import BundleError
from runners.container.warm import LARGEST_REQUEST, MARKER

KIND: Kind = "container"
TYPICAL_S = 0.01
OPTIONS: dict[str, Option] = {}

WALLS = (
    "mount namespace",
    "pid namespace",
    "uts namespace",
    "ipc namespace",
    "network namespace",
    "cgroup namespace",
    "private root (overlay)",
    "14 capabilities",
    "no new privileges",
    "system call filter",
    "masked /proc and /sys",
    "own session keyring",
)
_LIMITED = ("memory", "cpus", "pids")
_CODE = "import sys; sys.path.insert(0, sys.argv[1]); from container.warm import main; sys.exit(main(sys.argv[3:]))"
_START_MS = 20_000
_STOP_MS = 20_000
_MOST_HELPERS = 8


class _Helper:
    """Our end of the helper: one request at a time, each answered once."""

    def __init__(self, control: socket.socket, log: Path) -> None:
        self.pid = 0
        self._control = control
        self._log = log
        self._one_at_a_time = threading.Lock()

    @property
    def busy(self) -> bool:
        """Whether a request is under way: it sets up one container at a time."""
        return self._one_at_a_time.locked()

    def await_ready(self) -> None:
        """Read its first words, which say who it is."""
        self._control.settimeout(_START_MS / 1000)
        words, _ = self.ask("")
        self.pid = int(words[1])
        self._control.settimeout(None)

    def ask(
        self, message: str, fds: Sequence[int] = (), meanwhile: Callable[[], None] | None = None
    ) -> tuple[list[str], list[int]]:
        """Send *message*, run *meanwhile*, and return the reply's words and descriptors."""
        with self._one_at_a_time:
            try:
                if message:
                    socket.send_fds(self._control, [message.encode()], fds)
                failure = _attempt(meanwhile)
                data, received, _, _ = socket.recv_fds(self._control, LARGEST_REQUEST, 1, socket.MSG_CMSG_CLOEXEC)
            except OSError as error:
                raise self._gone(str(error)) from error
            except BaseException:
                # Interrupted between question and answer: the next answer would be taken for another question's.
                # Without its socket the helper kills its containers and exits.
                self._control.close()
                raise
        words = data.decode().split("\0")
        if failure is not None:
            for fd in received:
                os.close(fd)
            raise failure
        if words[0] == "error":
            raise RunnerError("the container helper refused", words[1], "see `tare doctor`")
        if not data:
            raise self._gone("its socket ended")
        return words, received

    def _gone(self, why: str) -> RunnerError:
        log = self._log.read_text(errors="replace").strip()
        return RunnerError(
            "the container helper is gone", log[-500:] or why, "run again; `tare clean` removes leftovers"
        )

    def close(self) -> None:
        """End of file: it kills what is left, and exits."""
        self._control.close()


def _attempt(action: Callable[[], None] | None) -> OSError | RunnerError | None:
    try:
        if action is not None:
            action()
    except (OSError, RunnerError) as error:
        return error
    return None


@dataclass(slots=True)
class _Container:
    """A started container; see :class:`runners.base.Instance`."""

    name: str
    program: str
    console: int
    group: cgroups.Cgroup | None
    pid: int
    pidfd: int
    status: int
    helper: _Helper
    text: str = field(default="")

    @property
    def cgroup(self) -> Path | None:
        """See :class:`runners.base.Instance`."""
        return self.group.path if self.group is not None else None

    def pids(self) -> frozenset[int]:
        """Its processes; the helper serves all instances and is counted as resident."""
        if self.group is not None:
            return self.group.pids()
        return frozenset() if _ended(self.pidfd, 0) else frozenset({self.pid})

    def explain(self) -> str:
        """The step that failed, or how the first process ended; empty while it runs."""
        with suppress(BlockingIOError):
            while chunk := os.read(self.status, 4096):
                self.text += stub.said(chunk, self.program)
        if self.text:
            return self.text.strip()
        # The descriptors of a dying process are closed a moment before its end can be waited for.
        if not _ended(self.pidfd, _STOP_MS if trial.hung_up(self.console) else 0):
            return ""
        words, _ = self.helper.ask(f"look\0{self.pid}")
        code, status = int(words[1]), int(words[2])
        how = f"exited with status {status}" if code == os.CLD_EXITED else f"was killed by signal {status}"
        return f"the first process of {self.name} {how}"

    def stop(self) -> None:
        """SIGKILL the first process, with which the kernel kills all others of its pid namespace; await its end."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        if not _ended(self.pidfd, _STOP_MS):
            raise RunnerError(f"{self.name} survives SIGKILL", f"process {self.pid}", "look at /proc/PID/stack")


def _ended(pidfd: int, timeout_ms: int) -> bool:
    """Whether the process has ended; waits up to *timeout_ms*. pidfd_open(2): readable from then on."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_ms))


class _Launcher:
    """Starts instances; what is the same for all of them is computed here, once."""

    def __init__(
        self,
        helpers: Sequence[_Helper],
        spec: Spec,
        parent: cgroups.Cgroup | None,
        rules: devices.RulesV1 | devices.RulesV2 | None,
    ) -> None:
        self._helpers = helpers
        self._spec = spec
        self._parent = parent
        self._rules = rules

    @contextmanager
    def __call__(self, name: str, mark: Mark) -> Iterator[Instance]:
        """See :data:`runners.base.Launch`."""
        with ExitStack() as stack:
            container = self._start(name, stack)
            try:
                mark("created")
                yield container
            finally:
                container.stop()
                mark("stopped")

    def _start(self, name: str, stack: ExitStack) -> _Container:
        # The first one whenever it is free: its memory is in the caches.
        helper = next((each for each in self._helpers if not each.busy), self._helpers[0])
        group = self._parent.child(name) if self._parent is not None else None
        ruled = self._rules.of(name) if isinstance(self._rules, devices.RulesV1) else None
        for each in (group, ruled):
            if each is not None:
                stack.callback(each.remove)
        with ExitStack() as theirs:
            # Their ends must be closed here: end of file on ours means that they died. The gate is used once.
            gate_out, gate = _pipe(ours=theirs, theirs=theirs, we="write")
            console, console_in = _pipe(ours=stack, theirs=theirs, we="read")
            status, status_in = _pipe(ours=stack, theirs=theirs, we="read")
            fds = [gate_out, console_in, status_in]
            words = ["start"]
            if isinstance(group, cgroups.V2):
                self._create(group, None)
                fds.append(os.open(group.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                theirs.callback(os.close, fds[-1])
            elif group is not None:
                words += [f"{path}/tasks" for path in (*group.paths(), *(ruled.paths() if ruled else ()))]

            def meanwhile() -> None:
                if isinstance(group, cgroups.V1):
                    self._create(group, ruled)
                os.write(gate, b"g")

            answer, (pidfd,) = helper.ask("\0".join(words), fds, meanwhile)
        stack.callback(os.close, pidfd)
        pid = int(answer[1])
        stack.callback(_reap, helper, pid)
        return _Container(name, self._spec.argv[0], console, group, pid, pidfd, status, helper)

    def _create(self, group: cgroups.Cgroup, ruled: cgroups.V1 | None) -> None:
        try:
            group.create()
            if ruled is not None:
                ruled.create()
            elif isinstance(group, cgroups.V2) and isinstance(self._rules, devices.RulesV2):
                self._rules.attach(group)
            group.limit(memory_bytes=self._spec.memory_bytes, pids=PIDS_LIMIT, cpus=self._spec.cpus)
        except OSError as error:
            why = f"{error.filename}: {error.strerror}"
            raise RunnerError(f"cannot make the cgroup {group.relative}", why, "see `tare doctor`") from error


def _reap(helper: _Helper, pid: int) -> None:
    with suppress(RunnerError):  # the helper is gone, and whoever adopted its children reaps them
        helper.ask(f"reap\0{pid}")


def _pipe(*, ours: ExitStack, theirs: ExitStack, we: Literal["read", "write"]) -> tuple[int, int]:
    """A pipe whose one end is closed with *ours* and the other with *theirs*. What we read does not block."""
    reader, writer = os.pipe()
    ours.callback(os.close, reader if we == "read" else writer)
    theirs.callback(os.close, writer if we == "read" else reader)
    if we == "read":
        os.set_blocking(reader, False)
    return reader, writer


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """See :meth:`runners.base.Runner.prepare`: start the helper, and have it read the configuration."""
    has_rules = scratch.cgroup is not None and devices.enforceable(cgroups.layout())
    config = default_config(
        argv=spec.argv,
        env=spec.env,
        rootfs=os.fspath(spec.rootfs.resolve()),
        cgroup=scratch.cgroup,
        memory_bytes=spec.memory_bytes,
        cpus=spec.cpus,
        count_swap=cgroups.counts_swap(),
        deny_devices=has_rules,
    )
    try:
        parse(config, directory="/")
    except BundleError as error:
        raise RunnerError(f"{error.where} cannot be run", error.why, error.fix) from error
    text = json.dumps(config, indent=2)
    with ExitStack() as stack:
        parent = rules = None
        try:
            if scratch.cgroup is not None:
                parent = cgroups.at(scratch.cgroup)
                parent.create()
                if has_rules:
                    rules = devices.rules(parent, f"{scratch.directory.name}-rules")
                    stack.enter_context(rules.held())
        except OSError as error:
            raise RunnerError(f"cannot make the cgroup {scratch.cgroup}", str(error), "see `tare doctor`") from error
        helpers = _start_helpers(text, scratch, stack)
        yield Prepared(
            launch=_Launcher(helpers, spec, parent, rules),
            manifest={"config.json": text},
            resident_pids=frozenset(each.pid for each in helpers),
        )


def _start_helpers(config: str, scratch: Scratch, stack: ExitStack) -> list[_Helper]:
    """One for each processor that we may use: a helper stands still while it sets up a container."""
    base = scratch.directory / "layer"
    base.mkdir()
    stack.callback(base.rmdir)
    file, log = scratch.directory / "config.json", scratch.directory / "helper.log"
    file.write_text(config)
    library = Path(__file__).parent
    with ExitStack() as theirs:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(_helpers())]
        helpers = [_Helper(ours, log) for ours, _ in pairs]
        sockets = [theirs.enter_context(their).fileno() for _, their in pairs]
        numbers = ",".join(map(str, sockets))
        arguments = [str(library), MARKER, numbers, str(os.getpid()), leftovers.mine(), str(base)]
        with file.open("rb") as stdin, log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-E", "-c", _CODE, *arguments],
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=sockets,
                env={},
                cwd="/",
                start_new_session=True,  # Ctrl-C is for tare, which then ends its helper in order
            )
    stack.callback(_await_end, process)
    for helper in helpers:
        stack.callback(helper.close)
    for helper in helpers:
        helper.await_ready()
    return helpers


def _helpers() -> int:
    return min(len(os.sched_getaffinity(0)), _MOST_HELPERS)


def _await_end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_STOP_MS / 1000)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def probe(options: Options, cache: Path) -> Support:
    """See :meth:`runners.base.Runner.probe`: starts one container."""
    group = f"{PREFIX}probe-container-{os.getpid()}"
    no_cgroups = cgroups.usable()
    try:
        with trial.directory(os.fspath(payload.binary(cache)), payload.PATH) as place, ExitStack() as stack:
            if not no_cgroups:
                stack.callback(cgroups.at(group).remove)
            spec = Spec(
                argv=(payload.PATH, *payload.arguments()),
                rootfs=Path(place, "rootfs"),
                memory_bytes=1 << 26,
                cpus=1,
            )
            scratch = Scratch(directory=Path(place), cache=cache, cgroup=None if no_cgroups else group, prefix=group)
            prepared = stack.enter_context(prepare(spec, options, scratch))
            instance = stack.enter_context(prepared.launch("trial", lambda _: None))
            if not trial.await_word(instance.console, b"tare ready"):
                return Support(ok=False, why=f"a trial container did not start: {instance.explain()}", fix=_fix())
    except RunnerError as error:
        return Support(ok=False, why=str(error), fix=error.fix or _fix())
    except OSError as error:
        return Support(ok=False, why=f"a trial container did not start: {error}", fix=_fix())
    return Support(
        ok=True,
        version=f"tare's own, Python {platform.python_version()}",
        walls=WALLS if no_cgroups or not devices.enforceable(cgroups.layout()) else (*WALLS, "device rules"),
        unlimited=_LIMITED if no_cgroups else (),
        facts={"cgroups": no_cgroups or cgroups.mode(), "children": _children()},
    )


def _children() -> str:
    """How the helper's children get their memory: it decides about a millisecond."""
    if cgroups.mode() == "v2":
        return "copy the helper's memory: they are born into their cgroup"
    why = borrow.why_not()
    return f"copy the helper's memory: {why}" if why else "borrow the helper's memory"


def _fix() -> str:
    return "" if os.geteuid() == 0 else "run as root: sudo tare ..."


def sweep() -> Sequence[str]:
    """See :meth:`runners.base.Runner.sweep`: helpers whose tare is gone. Their containers die with them."""
    try:
        return leftovers.remove()
    except OSError as error:
        raise RunnerError("cannot remove leftovers", str(error), _fix()) from error
