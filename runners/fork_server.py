"""Runner "container": our own runtime, started warm: a small fork server has everything ready.

:func:`prepare` starts the fork servers (:mod:`runners.launch.fork_client`). A launch is one message to one of them,
with the ends of three pipes: *gate* (go), *console*, *status* (what failed). While the fork server is in clone3, which
takes about a millisecond for the network namespace alone, this process makes the instance's cgroups; then it opens the
gate.

Thousands may be alive at once, so each holds little: two descriptors here (its console, and its process by a pidfd),
none in the fork server. The gate is closed after the start, *status* once the program runs.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import select
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tare.runners.base import Address, Layers, Option, Options, Prepared, RunnerError, Scratch, Spec, Support
from tare.runners.container.cgroup import cgroups, devices
from tare.runners.container.config.bundle import parse
from tare.runners.container.config.defaults import PIDS_LIMIT
from tare.runners.container.linux.exec_stub import stub
from tare.runners.container.reader import BundleError
from tare.runners.container.warm import leftovers, smallest_container, vfork
from tare.runners.container.warm.instance_cgroups import InstanceCgroupsV1, InstanceCgroupsV2, Limits
from tare.runners.launch import drain, entry, fork_client, frame, host_root

LAYERS: Layers = ("container",)
TYPICAL_S = 0.01
OPTIONS: dict[str, Option] = {}

WALLS = frame.WALLS
_STOP_MS = 20_000
#: How long it may take from the moment when a process has closed its files until its end can be waited for.
_END_MS = 500


class _Report:
    """What a child reports of its set-up: the status pipe, whose other end a successful exec closes."""

    def __init__(self, fd: int, program: str) -> None:
        self._fd = fd
        self._program = program
        self._lock = threading.Lock()  # a later start reads it, too, perhaps while it is being closed
        self.text = ""

    def ended(self) -> bool:
        """Read on; whether nothing more can come. Then the pipe is closed."""
        with self._lock:
            with suppress(BlockingIOError):
                while self._fd >= 0:
                    chunk = os.read(self._fd, 4096)
                    self.text += stub.said(chunk, self._program) if chunk else ""
                    if not chunk:
                        self._close()
            return self._fd < 0

    def close(self) -> None:
        """Close the pipe, even if more may come."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


@dataclass(slots=True)
class _Container:
    """A started container; see :class:`runners.base.Instance`."""

    name: str
    console: int
    group: cgroups.Cgroup | None
    pid: int
    pidfd: int
    report: _Report
    server: fork_client.ForkServer
    door: _Door

    @property
    def cgroup(self) -> Path | None:
        """See :class:`runners.base.Instance`."""
        return self.group.path if self.group is not None else None

    def pids(self) -> frozenset[int]:
        """Its processes, without the fork server, which serves all instances and is in ``resident_pids``."""
        if self.group is not None:
            return self.group.pids()
        return frozenset() if _ended(self.pidfd, 0) else frozenset({self.pid})

    def explain(self) -> str:
        """The step that failed, or how the first process ended; empty while it runs."""
        self.report.ended()
        if self.report.text:
            return self.report.text.strip()
        end = self._end()
        if end is None:
            return ""
        code, status = end
        how = f"exited with status {status}" if code == os.CLD_EXITED else f"was killed by signal {status}"
        return f"the first process of {self.name} {how}"

    def address(self) -> Address:
        """See :class:`runners.base.Instance`."""
        return frame.loopback(self.pid)

    def command(self, argv: Sequence[str]) -> Sequence[str]:
        """See :class:`runners.base.Instance`."""
        return self.door.command(self.pid, self.group, argv)

    def status(self) -> int | None:
        """See :class:`runners.base.Instance`."""
        end = self._end()
        if end is None:
            return None
        code, status = end
        return status if code == os.CLD_EXITED else 128 + status

    def _end(self) -> tuple[int, int] | None:
        """How the first process ended: si_code and si_status of waitid(2); None while it runs."""
        # A process closes its descriptors a moment before its parent can wait for its end.
        if not _ended(self.pidfd, _END_MS if smallest_container.hung_up(self.console) else 0):
            return None
        words, _ = self.server.ask(f"look\0{self.pid}")
        return int(words[1]), int(words[2])

    def reclaim(self, size_bytes: int) -> None:
        """See :class:`runners.base.Instance`."""
        frame.reclaim(self.group, self.name, size_bytes)

    def stop(self) -> None:
        """Kill the first process, and with it all others of its pid namespace; wait for its end."""
        drain.leave(self.console)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        if not _ended(self.pidfd, _STOP_MS):
            raise RunnerError(
                f"{self.name} does not end after SIGKILL", f"process {self.pid}", f"look at /proc/{self.pid}/stack"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Door:
    """How a further command gets into a container of *spec*: by the program *entry*, behind *filtered*."""

    spec: Spec
    entry: Path | None
    filtered: Path | None

    def command(self, pid: int, group: cgroups.Cgroup | None, argv: Sequence[str]) -> Sequence[str]:
        """See :meth:`runners.base.Instance.command`."""
        if self.entry is None:
            raise RunnerError(f"{argv[0]} cannot be run beside the payload", "its image holds no other program")
        files = () if group is None else group.entrances()
        return (*entry.beside(self.entry, pid, self.spec, cgroups=files, filtered=self.filtered), *argv)


def _door(spec: Spec, config: dict[str, object], scratch: Scratch, stack: ExitStack) -> _Door:
    """Compile what a further command needs, once; nothing where the payload runs."""
    if frame.runs_payload(spec):
        return _Door(spec=spec, entry=None, filtered=None)
    compiled = entry.filter_of(config)
    file = scratch.directory / "filter.bpf"
    if compiled:
        file.write_bytes(compiled)
        stack.callback(file.unlink)
    return _Door(spec=spec, entry=entry.binary(scratch.cache), filtered=file if compiled else None)


def _ended(pidfd: int, timeout_ms: int) -> bool:
    """Whether the process has ended; waits up to *timeout_ms*. pidfd_open(2): readable from then on."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_ms))


class _Starter:
    """Starts instances; what is the same for all of them is computed here, once."""

    def __init__(
        self,
        servers: Sequence[fork_client.ForkServer],
        spec: Spec,
        groups: InstanceCgroupsV1 | InstanceCgroupsV2 | None,
        door: _Door,
    ) -> None:
        self._servers = servers
        self._door = door
        self._spec = spec
        self._groups = groups
        #: The reports of those whose program may not run yet; each start checks them.
        self._reports: list[_Report] = []
        self._one_looks = threading.Lock()
        self._of_thread = threading.local()
        self._threads = itertools.count()

    def _server(self) -> fork_client.ForkServer:
        """This thread's own fork server, if there are enough: one that sets up a container cannot reap meanwhile.

        A thread keeps its fork server, whose memory is in the caches.
        """
        mine: fork_client.ForkServer | None = getattr(self._of_thread, "server", None)
        if mine is None:
            mine = self._of_thread.server = self._servers[next(self._threads) % len(self._servers)]
        return min((mine, *self._servers), key=lambda each: each.waiting)

    def start(self, name: str, stack: ExitStack) -> _Container:
        """See :data:`runners.launch.frame.Start`."""
        warm = self._server()
        groups = self._groups
        if groups is not None:
            stack.callback(groups.remove, name)
        with ExitStack() as theirs:
            # The other ends must be closed here: end of file at this end means that the child has died. The gate is
            # used once.
            gates = theirs.enter_context(ExitStack())
            gate_out, gate = frame.pipe(ours=gates, theirs=theirs, we="write")
            console, console_in = frame.pipe(ours=stack, theirs=theirs, we="read")
            report, status_in = self._report()
            stack.callback(report.close)
            theirs.callback(os.close, status_in)
            fds = [gate_out, console_in, status_in]
            entrances: list[str] = []
            if isinstance(groups, InstanceCgroupsV2):
                _create(groups, name)
                fds.append(groups.open(name))
                theirs.callback(os.close, fds[-1])
            elif groups is not None:
                entrances = groups.entrances(name)

            def meanwhile() -> None:
                with gates:  # if this fails, end of file makes the child exit: the fork server waits for that
                    if isinstance(groups, InstanceCgroupsV1):
                        _create(groups, name)
                    os.write(gate, b"g")

            beside = any(each.waiting for each in self._servers if each is not warm)
            pid, pidfd = warm.start(entrances, fds, meanwhile, beside=beside)
        stack.callback(os.close, pidfd)
        stack.callback(warm.reap, pid)
        group = groups.of(name) if groups is not None else None
        return _Container(name, console, group, pid, pidfd, report, warm, self._door)

    def _report(self) -> tuple[_Report, int]:
        """A child's report, and the end of its pipe for the child."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        report = _Report(reader, self._spec.argv[0])
        with self._one_looks:
            self._reports = [each for each in self._reports if not each.ended()]
            self._reports.append(report)
        return report, writer


def _create(groups: InstanceCgroupsV1 | InstanceCgroupsV2, name: str) -> None:
    try:
        groups.create(name)
    except OSError as error:
        why = f"{error.filename}: {error.strerror}"
        raise RunnerError(f"cannot make the cgroup {groups.of(name).relative}", why, "see `tare doctor`") from error


def _groups(scratch: Scratch, spec: Spec, stack: ExitStack) -> InstanceCgroupsV1 | InstanceCgroupsV2 | None:
    """The cgroups of the instances, with the device rules if these can be enforced."""
    parent = frame.parent(scratch)
    if parent is None:
        return None
    limits = Limits(memory_bytes=spec.memory_bytes, pids=PIDS_LIMIT, cpus=spec.cpus)
    try:
        if isinstance(parent, cgroups.V2):
            return InstanceCgroupsV2(parent, stack.enter_context(devices.RulesV2()), limits)
        rules = None
        if devices.enforceable(parent.layout):
            rules = stack.enter_context(devices.RulesV1(parent, f"{scratch.directory.name}-rules"))
        return stack.enter_context(InstanceCgroupsV1(parent, rules, limits))
    except OSError as error:
        raise RunnerError(f"cannot make the cgroup {scratch.cgroup}", str(error), "see `tare doctor`") from error


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """See :meth:`runners.base.Runner.prepare`: start the fork server, and have it read the configuration."""
    has_rules = scratch.cgroup is not None and devices.enforceable(cgroups.layout())
    host_root.check(spec, scratch)
    config = frame.config(
        spec,
        rootfs=os.fspath(spec.rootfs.resolve()),
        cgroup=scratch.cgroup,
        count_swap=cgroups.counts_swap(),
        deny_devices=has_rules,
    )
    try:
        parse(config, directory="/")
    except BundleError as error:
        raise RunnerError(f"{error.where} cannot be run", error.why, error.fix) from error
    text = json.dumps(config, indent=2)
    with ExitStack() as stack:
        groups = _groups(scratch, spec, stack)
        door = _door(spec, config, scratch, stack)
        servers = fork_client.start(text, scratch.directory, stack)
        yield Prepared(
            launch=frame.launcher(_Starter(servers, spec, groups, door).start),
            manifest={"config.json": text},
            resident_pids=frozenset(each.pid for each in servers),
        )


def probe(options: Options, cache: Path) -> Support:
    """See :meth:`runners.base.Runner.probe`: starts one container."""
    no_cgroups = cgroups.usable()
    try:
        frame.prove(prepare, options, cache, label="container", grouped=not no_cgroups, fix=_fix)
    except RunnerError as error:
        return Support(ok=False, why=str(error), fix=frame.need_root() or error.fix)
    return Support(
        ok=True,
        version=f"tare's own, Python {platform.python_version()}",
        walls=WALLS if no_cgroups or not devices.enforceable(cgroups.layout()) else (*WALLS, frame.DEVICE_RULES),
        unlimited=frame.LIMITS if no_cgroups else (),
        reclaims="" if no_cgroups else cgroups.reclaimer(),
        reached=frame.LOOPBACK,
        enters=entry.ENTERS,
        facts={"cgroups": no_cgroups or cgroups.mode(), "children": _children()},
    )


def _fix(_said: str) -> str:
    return frame.need_root()


def _children() -> str:
    """How the fork server's children get their memory, which makes a difference of about a millisecond."""
    if cgroups.mode() == "v2":
        return "copy the fork server's memory, because they are born in their cgroup"
    why = vfork.why_not()
    return (
        f"copy the fork server's memory, because {why}" if why else "run in the fork server's memory until exec (vfork)"
    )


def sweep() -> Sequence[str]:
    """See :meth:`runners.base.Runner.sweep`: fork servers whose tare has ended. Their containers die with them."""
    try:
        return leftovers.remove()
    except OSError as error:
        raise RunnerError("cannot remove leftovers", str(error), frame.need_root()) from error
