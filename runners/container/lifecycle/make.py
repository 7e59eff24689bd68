"""A container's life as operations on its stored state: make, start, destroy. The command line's verbs call these.

Every stage can be killed: what exists is recorded before it is made (the cgroup's name) or before it can outlive us
(the first process is recorded while it still dies with its parent), so that :func:`destroy` finds it all.
"""

from __future__ import annotations

import errno
import os
import select

from ..cgroup import cgroups, hierarchies
from ..errors import OciError, reason
from ..light import json
from ..light.dataclasses import record, replace
from ..reader import BundleError
from . import claim_cgroup, log, state, stored_config
from .checkpoint import checkpoint
from .state import FIFO, State, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

    from ..cgroup.cgroups import Cgroup
    from ..config.bundle import Bundle
    from .notify import Relay
else:
    import _signal as signal  # the module itself imports enum: 3 ms

#: What asks a program to end; see :func:`create._interruptible`.
_INTERRUPT = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_DEATH_MS = 10_000
_EXECUTE_MS = 60_000
#: How long a start waits before it looks whether the container can answer at all.
_LOOK_MS = 1000
SIGKILL = 9


@record(kw_only=True)
class Request:
    """What ``create`` and ``run`` were asked. *console* is a connected socket for the terminal's master, or -1.

    *shown* says that its other end is ours: we show the terminal.

    *network* is one of :data:`bridge.MODES`; empty takes the configuration as it is.
    """

    name: str
    bundle: str
    pid_file: str = ""
    console: int = -1
    shown: bool = False
    preserve_fds: int = 0
    listen_fds: int = 0
    new_keyring: bool = True
    pivot: bool = True
    network: str = ""
    nat: bool = False


@record(kw_only=True)
class Made:
    """A container that waits for its start. Signals are held, see :func:`hold`; *mask* is for :func:`release`."""

    state: State
    config: Bundle
    pidfd: int
    mask: frozenset[int] = frozenset()


def group_of(known: State) -> Cgroup | None:
    """The container's cgroup; None if it has none of its own."""
    return cgroups.for_container(known.cgroup, known.name) if known.cgroup else None


def is_frozen(known: State) -> bool:
    """Whether the container's cgroup is frozen."""
    group = group_of(known)
    return group is not None and group.frozen()


def make(
    store: Store,
    messages: log.Log,
    asked: Request,
    loaded: tuple[Bundle, bytes] | None = None,
    beside: Callable[[], object] = lambda: None,
) -> Made:
    """Create the container *asked*; on any failure, nothing of it is left. Raises OciError; returns with signals held.

    *loaded* is what :func:`stored_config.load` returned, if that was done already. *beside* is called while the first
    process sets itself up on another processor.
    """
    checkpoint("create:start")
    config, text = loaded or stored_config.load(asked.bundle, network=asked.network)
    for line in config.warnings:
        messages.warning(line)
    config = within_reach(config, messages)
    if not config.is_new("mount"):
        from ..setup import shared_mounts

        config = shared_mounts.settled(config, messages.warning)
    _check_terminal(config, asked)
    mask = hold()
    try:
        return _record_and_fill(store, messages, config, text, asked, beside, mask)
    except BaseException:
        release(mask)
        raise


def hold() -> frozenset[int]:
    """Let no signal raise KeyboardInterrupt until :func:`release`, which is given what this returns."""
    return frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT))


def release(mask: frozenset[int]) -> None:
    """What came since :func:`hold` raises KeyboardInterrupt here; what the caller had blocked stays so."""
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _record_and_fill(
    store: Store,
    messages: log.Log,
    config: Bundle,
    text: bytes,
    asked: Request,
    beside: Callable[[], object],
    mask: frozenset[int],
) -> Made:
    """With signals held at both ends: at any moment somebody knows of what there is, and undoes it."""
    lock = store.add(asked.name)
    try:
        known = _first_state(store, messages, config, asked)
        store.write(known)
        checkpoint("create:state")

        def meanwhile() -> None:
            state.place_file(store.file(asked.name, state.CONFIG), text.decode("utf-8"))
            beside()

        try:
            release(mask)
            made = _fill(store, messages, known, config, asked, meanwhile)
            hold()
            return replace(made, mask=mask)
        except BaseException:
            try:
                hold()
            finally:  # it raises what came just before
                destroy(store, messages, store.read(asked.name), config=config, checkpoints=False)
            raise
    except OSError as error:
        store.remove(asked.name)
        raise OciError(f"cannot create the container {asked.name}", reason(error)) from None
    except BundleError as error:
        store.remove(asked.name)
        raise OciError(f"{asked.bundle}/config.json: {error.where}", error.why, error.fix) from None
    except BaseException:
        store.remove(asked.name)
        raise
    finally:
        os.close(lock)


def within_reach(config: Bundle, messages: log.Log | None = None) -> Bundle:
    """*config* with the capabilities that the caller has to give; *messages* gets a warning for others (config.md)."""
    if "user" in config.namespaces:
        return config
    from ..linux import capabilities

    granted, lacking = capabilities.grantable(config.process.capabilities)
    if not lacking:
        return config
    if messages is not None:
        messages.warning(f"process.capabilities: {lacking} cannot be granted: this runtime does not have it itself")
    return replace(config, process=replace(config.process, capabilities=granted))


def _check_terminal(config: Bundle, asked: Request) -> None:
    if config.process.terminal and asked.console < 0:
        fix = "give --console-socket, or run in the foreground"
        raise OciError("process.terminal", "nobody takes the terminal", fix)
    if not config.process.terminal and asked.console >= 0:
        raise OciError("--console-socket", "the configuration asks for no terminal", "set process.terminal")


def _first_state(store: Store, messages: log.Log, config: Bundle, asked: Request) -> State:
    return State(
        name=asked.name,
        oci_version=config.version,
        bundle=asked.bundle,
        rootfs=config.rootfs,
        cgroup=claim_cgroup.place(store, config, asked.name, messages.warning),
        annotations=dict(config.annotations),
        created=log.now(),
        owner_uid=os.getuid(),
        lease=f"{store.root}/{asked.name}" if asked.network == "bridge" else "",
    )


def _fill(
    store: Store, messages: log.Log, known: State, config: Bundle, asked: Request, meanwhile: Callable[[], None]
) -> Made:
    from ..cgroup import apply
    from ..setup import parent

    group = group_of(known)
    if group is not None:
        group = claim_cgroup.claim(group, config, messages.warning)
        if group is None:
            known = store.update(known, cgroup="")
        else:
            apply.apply(config.resources, group, messages.warning)
    checkpoint("create:cgroup")
    fifo = store.file(known.name, FIFO)
    os.mkfifo(fifo, 0o622)
    if os.environ.get("NOTIFY_SOCKET"):
        from . import notify

        if notify.manager():
            config = notify.prepared(config, store.file(known.name, notify.DIRECTORY))
    current = known

    def run_hooks(kind: str, pid: int, program: int = -1) -> None:
        nonlocal current
        # The other two kinds run in a copy of us, inside the container: what it changes here is lost with it.
        if not current.pid and kind in ("prestart", "createRuntime"):
            current = store.update(current, pid=pid, pid_start=state.start_time(pid) or 0)
            checkpoint("create:pid")
            meanwhile()
        # After step 2 of runtime.md's lifecycle: its state is "created" (runtime-tools asks for it, crun says it).
        run_kind(config, kind, current if current.pid else replace(current, pid=pid), "created", program=program)
        if kind == "createRuntime":
            checkpoint("create:hooks")

    def record_root(text: str) -> None:
        nonlocal current
        current = store.update(current, shared_root=text)

    made = parent.create(
        config,
        name=known.name,
        fifo=fifo,
        cgroup=group,
        console_socket=asked.console,
        shown=asked.shown,
        preserve_fds=asked.preserve_fds + asked.listen_fds,
        listen_fds=asked.listen_fds,
        run_hooks=run_hooks,
        new_keyring=asked.new_keyring,
        pivot=asked.pivot,
        record_root=record_root,
        filters=filters(store),
    )
    for line in made.warnings:
        messages.warning(line)
    messages.debug(f"created {known.name}: process {made.pid}, cgroup {known.cgroup or 'of the caller'}")
    if current.lease:
        from ..network import bridge

        bridge.setup(made.pid, current.lease, nat=asked.nat)
    checkpoint("create:ready")
    if asked.pid_file:
        state.place_file(asked.pid_file, str(made.pid), 0o644)
        checkpoint("create:pid-file")
    return Made(state=current, config=config, pidfd=made.pidfd)


def filters(store: Store) -> str:
    """The directory for compiled system call filters: no name of a container has an @."""
    return f"{store.root}/@seccomp"


def run_kind(
    config: Bundle,
    kind: str,
    known: State,
    status: str,
    excuse: Callable[[str], object] | None = None,
    program: int = -1,
) -> None:
    """Run the hooks of *kind*; see :func:`hooks.run` for *excuse* and *program*. Raises OSError."""
    if not config.hooks.get(kind):
        return
    from ..config import hooks  # late: most containers have none

    text = json.dumps(known.report(status))
    if kind in ("createContainer", "startContainer"):
        hooks.run(config.hooks[kind], text, kind=kind, env=dict(config.process.env), excuse=excuse, program=program)
        return
    try:
        os.chdir(known.bundle)  # where runc and crun run them
    except OSError:
        pass  # the bundle may be gone by the end
    hooks.run(config.hooks[kind], text, kind=kind, excuse=excuse)


def relay(store: Store, known: State) -> Relay | None:
    """The socket by which the container tells a service manager that it is ready; None where none wants to know."""
    if not os.environ.get("NOTIFY_SOCKET") or not os.path.isdir(store.file(known.name, "notify")):
        return None
    from . import notify

    return notify.Relay(store.file(known.name, notify.DIRECTORY)) if notify.manager() else None


def start(store: Store, messages: log.Log, known: State, config: Bundle) -> None:
    """Let the created container *known* run its program. The caller holds the lock. Raises OciError."""
    checkpoint("start:begin")
    status = store.status(known)
    if status != "created":
        raise OciError(f"cannot start the container {known.name}", f"it is {status}, not created")
    if not config.process.argv:
        raise OciError(f"cannot start the container {known.name}", "its configuration has no process", "add one")
    fifo = store.file(known.name, FIFO)
    _release(fifo, known, config)
    checkpoint("start:released")
    messages.debug(f"started {known.name}: process {known.pid} runs {config.process.argv[0]}")
    os.unlink(fifo)
    # runtime.md, "Lifecycle": a poststart hook that fails is a warning, and the others run nevertheless.
    run_kind(config, "poststart", known, "running", messages.warning)
    checkpoint("start:end")


def _release(fifo: str, known: State, config: Bundle) -> None:
    """Open the other end, at which the first process waits, and read what becomes of it. Raises OciError.

    It writes "0" before it executes the program, which closes its end; a text after (or without) that is why it failed.
    """
    failed = f"cannot start the container {known.name}"
    pidfd = state.open_process(known)
    if pidfd is None:
        raise OciError(failed, _ended(known))
    agent = -1
    try:
        if config.seccomp is not None and config.seccomp.listener:
            from ..seccomp import listener

            # Before it is let go: without an agent, nothing is to run.
            agent = listener.connect(config.seccomp)
        said = _follow(fifo, pidfd, known, config, agent)
    finally:
        os.close(pidfd)
        if agent >= 0:
            os.close(agent)
    if said != b"0":
        from ..linux.exec_stub import stub

        program = config.process.argv[0]
        raise OciError(failed, stub.said(said.removeprefix(b"0"), program) if said else _ended(known))


def _ended(known: State) -> str:
    """Why the first process may have ended without a word."""
    from ..cgroup import counters

    return counters.ended("its first process has ended", group_of(known))


def _check_running(known: State, config: Bundle, *, executed: bool) -> None:
    """Say why a started container does not answer, if that will not pass. Raises OciError."""
    failed = f"cannot start the container {known.name}"
    group = group_of(known)
    if group is not None and group.frozen():
        raise OciError(failed, f"its cgroup is frozen: {group.frozen_by()}", "let it run first")
    if executed:
        why = f"{config.process.argv[0]} is not executed within {_EXECUTE_MS // 1000} s"
        raise OciError(failed, why, "see what its execve waits for")


def _follow(fifo: str, pidfd: int, known: State, config: Bundle, agent: int) -> bytes:
    """All that the first process says, from its release to its program's start. Raises OciError."""
    end = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    said = b""
    try:
        poll = select.poll()
        poll.register(end, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        while True:
            # Before "0" its hooks run, which have limits of their own.
            ready = dict(poll.poll(_EXECUTE_MS if said else _LOOK_MS))
            if not ready:
                _check_running(known, config, executed=bool(said))
                continue
            try:
                part = os.read(end, 4096)
            except BlockingIOError:
                continue
            if part[:1] == b"0" and not said and agent >= 0 and config.seccomp is not None:
                from ..seccomp import listener

                listener.hand_on(agent, config.seccomp, known.pid, known.report("created"))
            said += part
            # Nothing to read before it has opened its end, or after it has closed it: the end of file, or its death.
            if not part and (said or pidfd in ready or ready.get(end, 0) & select.POLLHUP):
                return said
    finally:
        os.close(end)


def destroy(
    store: Store, messages: log.Log, known: State, *, config: Bundle | None = None, checkpoints: bool = True
) -> None:
    """Kill what is left of the container, remove its cgroup and its state, run its poststop hooks. Raises OciError.

    *config* None reads the stored one. The caller holds the lock.
    """
    passed = checkpoint if checkpoints else _pass
    try:
        group = group_of(known)
        _kill(store, known, group)
        passed("delete:killed")
        if known.shared_root:
            from ..setup import shared_mounts

            shared_mounts.detach(known, messages.warning)
        if known.lease:
            from ..network import bridge

            bridge.teardown(known.lease)
        if group is not None and not (claim_cgroup.shared(store, known) and group.pids()):
            group.remove()
        passed("delete:cgroup")
        if config is None:
            try:
                config = stored_config.stored(store, known)
            except OciError as error:  # a creation that was killed at once
                messages.warning(f"no poststop hooks run: {error}")
        store.remove(known.name)
    except OSError as error:
        raise OciError(f"cannot remove the container {known.name}", reason(error), "try again") from None
    passed("delete:state")
    if config is not None:
        run_kind(config, "poststop", known, "stopped", messages.warning)  # as with poststart


def _pass(_name: str) -> None:
    """No place to die: a creation that failed is being undone."""


def _kill(store: Store, known: State, group: Cgroup | None) -> None:
    """SIGKILL every process of the container, and await their ends."""
    pidfd = state.open_process(known)
    try:
        # Mostly nobody is left: then the directories go at once, and need not be looked into.
        if pidfd is None and group is not None and hierarchies.removed(group.directories()):
            return
        tenant = claim_cgroup.tenant(store, known, group) if group is not None else ""
        if tenant:
            why = f"the container {tenant} is in a cgroup below its own (/{known.cgroup}), and would end with it"
            raise OciError(f"cannot remove the container {known.name}", why, f"delete {tenant} first")
        shared = group is not None and claim_cgroup.shared(store, known)
        if group is not None and shared and pidfd is not None:
            from . import shared_cgroup

            shared_cgroup.end(group, known.pid)
        if pidfd is not None:
            send_signal(pidfd, SIGKILL)  # with a pid namespace, the kernel kills all others with it
        if group is not None and not shared:
            group.kill()  # lets a frozen one go, too: before that nobody in it can die
        if pidfd is not None:
            ended = select.poll()
            ended.register(pidfd, select.POLLIN)
            if not ended.poll(_DEATH_MS):
                raise OSError(errno.EBUSY, "the first process survives SIGKILL", f"/proc/{known.pid}")
    finally:
        if pidfd is not None:
            os.close(pidfd)


def send_signal(pidfd: int, number: int) -> bool:
    """Signal a process; False if it has ended."""
    from _signal import pidfd_send_signal  # type: ignore[import-not-found]

    try:
        pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True
