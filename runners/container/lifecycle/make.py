"""The first stage of a container's life: it is made, and waits for its start. The verbs create and run call this.

The runtime can be killed at any moment: everything is recorded before it is made (the cgroup's name), or before it can
outlive the runtime (the first process, while it still dies with its parent). So :func:`destroy.destroy` finds all of
it.
"""

from __future__ import annotations

import os

from ..errors import OciError, reason
from ..light.dataclasses import record, replace
from ..linux import signals
from ..reader import BundleError
from . import claim_cgroup, destroy, hooks, log, state, stored_config
from .checkpoint import checkpoint
from .state import FIFO, State, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..cgroup.cgroups import Cgroup
    from ..config.bundle import Bundle


@record(kw_only=True)
class Request:
    """What ``create`` and ``run`` were asked for. *console* is a connected socket for the terminal's master, or -1.

    *shown* says that this process has the other end of it, and shows the terminal.

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
    """A container that waits for its start. Signals are blocked, see :func:`hold`; *mask* is for :func:`release`."""

    state: State
    config: Bundle
    pidfd: int
    mask: frozenset[int] = frozenset()


def make(
    store: Store,
    messages: log.Log,
    asked: Request,
    loaded: tuple[Bundle, bytes] | None = None,
    beside: Callable[[], object] = lambda: None,
) -> Made:
    """Create the container *asked*; on any failure, nothing of it is left. Raises OciError.

    It returns with signals blocked. *loaded* is what :func:`stored_config.load` returned, if it was called already.
    *beside* is called while the first process sets itself up on another processor.
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
    mask = signals.hold()
    try:
        return _record_and_fill(store, messages, config, text, asked, beside, mask)
    except BaseException:
        signals.release(mask)
        raise


def _record_and_fill(
    store: Store,
    messages: log.Log,
    config: Bundle,
    text: bytes,
    asked: Request,
    beside: Callable[[], object],
    mask: frozenset[int],
) -> Made:
    """Create it with signals blocked, so that at any moment what exists is known and can be undone."""
    lock = store.add(asked.name)
    try:
        known = _first_state(store, messages, config, asked)
        store.write(known)
        checkpoint("create:state")

        def meanwhile() -> None:
            state.place_file(store.file(asked.name, state.CONFIG), text.decode("utf-8"))
            beside()

        try:
            signals.release(mask)
            made = _fill(store, messages, known, config, asked, meanwhile)
            signals.hold()
            return replace(made, mask=mask)
        except BaseException:
            try:
                signals.hold()
            finally:  # it raises what came just before
                destroy.destroy(store, messages, store.read(asked.name), config=config, checkpoints=False)
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
    """*config* without the capabilities that the caller lacks; *messages* gets a warning for those (config.md)."""
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
        raise OciError("process.terminal", "nothing receives the terminal", fix)
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
    """Make all that the container consists of, in order: cgroup, fifo, first process, network, pid-file."""
    from ..setup import parent

    known, group = _make_cgroup(store, messages, known, config)
    checkpoint("create:cgroup")
    fifo = store.file(known.name, FIFO)
    os.mkfifo(fifo, 0o622)
    config = _with_notify_socket(store, known, config)
    record = _Record(store, known, config, meanwhile)
    made = parent.create(
        config,
        name=known.name,
        fifo=fifo,
        cgroup=group,
        console_socket=asked.console,
        shown=asked.shown,
        preserve_fds=asked.preserve_fds + asked.listen_fds,
        listen_fds=asked.listen_fds,
        run_hooks=record.run_hooks,
        new_keyring=asked.new_keyring,
        pivot=asked.pivot,
        record_root=record.shared_root,
        filters=filters(store),
    )
    for line in made.warnings:
        messages.warning(line)
    messages.debug(f"created {known.name}: process {made.pid}, cgroup {known.cgroup or 'of the caller'}")
    if known.lease:
        from ..network import bridge

        bridge.setup(made.pid, known.lease, nat=asked.nat)
    checkpoint("create:ready")
    if asked.pid_file:
        state.place_file(asked.pid_file, str(made.pid), 0o644)
        checkpoint("create:pid-file")
    return Made(state=record.state, config=config, pidfd=made.pidfd)


def _make_cgroup(store: Store, messages: log.Log, known: State, config: Bundle) -> tuple[State, Cgroup | None]:
    """The cgroup with its limits in force, or None where there is none; and the state, which says so."""
    group = claim_cgroup.group_of(known)
    if group is None:
        return known, None
    from ..cgroup import apply

    group = claim_cgroup.claim(group, config, messages.warning)
    if group is None:
        return store.update(known, cgroup=""), None
    apply.apply(config.resources, group, messages.warning)
    return known, group


def _with_notify_socket(store: Store, known: State, config: Bundle) -> Bundle:
    """*config* with a socket for the container if a service manager waits for its readiness, else as it is."""
    if not os.environ.get("NOTIFY_SOCKET"):
        return config
    from . import notify

    return notify.prepared(config, store.file(known.name, notify.DIRECTORY)) if notify.manager() else config


class _Record:
    """The *state* of a container that is being made: stored again as soon as there is more to know."""

    def __init__(self, store: Store, known: State, config: Bundle, meanwhile: Callable[[], None]) -> None:
        self.state = known
        self._store, self._config, self._meanwhile = store, config, meanwhile

    def run_hooks(self, kind: str, pid: int, program: int = -1) -> None:
        """Record the first process before its first hook, then run the hooks of *kind*: see :func:`parent.create`."""
        # The other two kinds run in a copy of this process, in the container: a change here would be lost with it.
        if not self.state.pid and kind in ("prestart", "createRuntime"):
            self.state = self._store.update(self.state, pid=pid, pid_start=state.start_time(pid) or 0)
            checkpoint("create:pid")
            self._meanwhile()
        shown = self.state if self.state.pid else replace(self.state, pid=pid)
        # After step 2 of runtime.md's lifecycle: its state is "created" (runtime-tools asks for it, crun says it).
        hooks.run_kind(self._config, kind, shown, "created", program=program)
        if kind == "createRuntime":
            checkpoint("create:hooks")

    def shared_root(self, text: str) -> None:
        """Record what is mounted in the caller's mount namespace: see :func:`shared_mounts.attach`."""
        self.state = self._store.update(self.state, shared_root=text)


def filters(store: Store) -> str:
    """The directory for compiled system call filters; no container's name holds an @."""
    return f"{store.root}/@seccomp"
