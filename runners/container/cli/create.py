"""The verbs create, start and run."""

from __future__ import annotations

import os

from ..errors import OciError
from ..lifecycle import claim_cgroup, destroy, make, stored_config
from ..lifecycle import start as start_stage
from ..lifecycle.make import Made, Request
from ..linux import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config.bundle import Bundle
    from ..lifecycle.notify import Relay
    from ..lifecycle.state import State
    from ..linux import pty
    from .main import Call


def create(call: Call) -> int:
    """Make a container that waits."""
    signals.interruptible()
    signals.postpone()
    asked = _request(call)
    if call.options.text("console-socket"):
        asked = _with_console(asked, _connect(call.options.text("console-socket")))
    made = make.make(call.store, call.log, asked)
    os.close(made.pidfd)
    return 0


def start(call: Call) -> int:
    """Let a created container run its program."""
    name = call.name()
    lock = call.store.lock(name)
    try:
        known = call.store.read(name)
        if claim_cgroup.is_frozen(known):
            raise OciError(f"cannot start the container {name}", "it is paused", f"resume {name}")
        relay = start_stage.relay(call.store, known)
        start_stage.start(call.store, call.log, known, stored_config.stored(call.store, known))
    finally:
        os.close(lock)
    if relay is not None:
        _await_ready(relay, known)
    return 0


def _await_ready(relay: Relay, known: State) -> None:
    """Wait until the container is ready or has ended, and tell the service manager."""
    from ..lifecycle import state

    pidfd = state.open_process(known)
    if pidfd is None:
        return
    try:
        with relay:
            relay.await_ready(known.pid, pidfd)
    finally:
        os.close(pidfd)


def run(call: Call) -> int:
    """Create, start, wait, delete; return the container's exit status."""
    asked = _request(call)
    if call.options.on("explain"):
        return _explain(asked)
    signals.interruptible()
    signals.postpone()
    path = call.options.text("console-socket")
    if path:
        asked = _with_console(asked, _connect(path))
    if call.options.on("detach"):
        return _run_detached(call, make.make(call.store, call.log, asked))
    from ..linux import syscalls

    # Orphans of a container without a pid namespace of its own become children of this process, which reaps them.
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    loaded = stored_config.load(asked.bundle, network=asked.network)
    config, _ = loaded
    if config.process.terminal and not path:
        return _run_in_terminal(call, asked, loaded)

    def beside() -> None:
        from . import foreground  # noqa: F401 - what comes next is read while the container is made

    return _run(call, make.make(call.store, call.log, asked, loaded, beside))


def _connect(path: str) -> int:
    from ..linux import pty  # imported late: most containers have none

    return pty.connect(path)


def _run_in_terminal(call: Call, asked: Request, loaded: tuple[Bundle, bytes]) -> int:
    from ..linux import pty

    ours, theirs = pty.pair()
    try:
        made = make.make(call.store, call.log, _with_console(asked, theirs, shown=True), loaded)
        os.close(theirs)
        return _run(call, made, ours)
    finally:
        os.close(ours)


def _run_detached(call: Call, made: Made) -> int:
    try:
        signals.release(made.mask)
        relay = start_stage.relay(call.store, made.state)
        _start(call, made)
        signals.hold()
    except BaseException:
        _undo(call, made)
        raise
    os.close(made.pidfd)
    if relay is not None:
        signals.release(made.mask)
        _await_ready(relay, made.state)
    return 0


def _run(call: Call, made: Made, carrier: int = -1) -> int:
    """Start what is made, wait for its end, delete it. *carrier*, if not negative, is the socket for its terminal."""
    try:
        if carrier < 0:
            status = _stay(call, made)
        else:
            from ..linux import pty

            with pty.Proxy(pty.receive(carrier)) as proxy:
                status = _stay(call, made, proxy)
    except BaseException:
        _undo(call, made)
        raise
    os.close(made.pidfd)
    if not call.options.on("keep"):
        _remove(call, made)
    return status


def _stay(call: Call, made: Made, proxy: pty.Proxy | None = None) -> int:
    from . import foreground

    # Signals are passed on from before the start: the program may expect one at once.
    with foreground.Signals() as passed_on:
        relay = start_stage.relay(call.store, made.state)
        _start(call, made)
        return foreground.attend(made.state.pid, made.pidfd, passed_on, proxy, relay)


def _start(call: Call, made: Made) -> None:
    lock = call.store.lock(made.state.name)
    try:
        start_stage.start(call.store, call.log, made.state, made.config)
    finally:
        os.close(lock)


def _undo(call: Call, made: Made) -> None:
    """Remove what was made: after the end of this process, nobody would."""
    try:
        signals.hold()
    finally:  # it may raise KeyboardInterrupt for a signal that came just before
        _remove(call, made)


def _remove(call: Call, made: Made) -> None:
    try:
        lock = call.store.lock(made.state.name)
    except OciError:
        return  # it was deleted while it ran
    try:
        known = call.store.read(made.state.name)
        if (known.pid, known.pid_start) == (
            made.state.pid,
            made.state.pid_start,
        ):  # else it is another container with the same name
            destroy.destroy(call.store, call.log, made.state, config=made.config)
    finally:
        os.close(lock)


def _request(call: Call) -> Request:
    options = call.options
    bundle, pid_file = os.path.realpath(options.text("bundle") or "."), options.text("pid-file")
    return Request(
        name=call.name(),
        bundle=bundle,
        pid_file=os.path.abspath(pid_file) if pid_file else "",  # a hook runs in another directory
        preserve_fds=options.number("preserve-fds"),
        listen_fds=_listening(call),
        new_keyring=not options.on("no-new-keyring"),
        pivot=not options.on("no-pivot"),
        network=options.text("network"),
        nat=options.on("nat"),
    )


def _listening(call: Call) -> int:
    if not os.environ.get("LISTEN_FDS"):
        return 0
    from ..setup import preserved_fds

    return preserved_fds.listening(call.log.warning)


def _with_console(asked: Request, console: int, *, shown: bool = False) -> Request:
    from ..light.dataclasses import replace

    return replace(asked, console=console, shown=shown)


def _explain(asked: Request) -> int:
    from ..setup import sequence
    from .main import say_lines

    config, _ = stored_config.load(asked.bundle, network=asked.network)
    made = sequence.make(config, pivot=asked.pivot)
    for number, said in enumerate((*(step.describe() for step in made.steps), *made.last_words), 1):
        say_lines(f"{number:3} {said}")
    return 0
