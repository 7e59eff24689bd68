"""The verb exec: runs another program in a running container, by options or by a file, and waits for its end."""

from __future__ import annotations

import os

from ..cgroup import enter
from ..config import process
from ..errors import OciError, reason
from ..lifecycle import claim_cgroup, exec_process, make, state, stored_config
from ..light import json
from ..light.dataclasses import replace
from ..linux import pty as terminals
from ..linux import signals
from ..linux.capabilities import Capabilities, mask_of
from ..reader import BundleError, Reader
from ..setup import preserved_fds
from . import foreground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config.process import Process
    from ..lifecycle.state import State
    from ..light.argparse import Parsed
    from .main import Call

_FAILED = 255  # as runc: most programs never exit with it


def execute(call: Call) -> int:
    """Run another program in a container; returns its exit status, or 255 if it did not start."""
    try:
        return _execute(call)
    except (OciError, BundleError) as error:
        call.log.error(f"exec failed: {error}")
    except OSError as error:
        call.log.error(f"exec failed: {reason(error)}")
    return _FAILED


def _execute(call: Call) -> int:
    options = call.options
    for name in ("process-label", "apparmor"):
        if options.text(name):
            raise OciError(f"--{name}", "is not supported", "leave it out")
    name = call.name(more=True)
    known = call.store.read(name)
    config = stored_config.stored(call.store, known)
    config = make.within_reach(config)  # these warnings were written when it was created
    wanted = _process(call, config.process)
    wanted = make.within_reach(replace(config, process=wanted), call.log).process
    target = _target(call, known)
    group = claim_cgroup.group_of(known)
    path = options.text("console-socket")
    if path and not wanted.terminal:
        raise OciError("--console-socket", "the process asks for no terminal", "set process.terminal, or give --tty")
    if wanted.terminal and not path and options.on("detach"):
        raise OciError("process.terminal", "nothing receives the terminal", "give --console-socket, or do not detach")
    preserve_fds, listen_fds = options.number("preserve-fds"), preserved_fds.listening(call.log.warning)
    preserved_fds.check(preserve_fds + listen_fds)
    entry = exec_process.Entry(
        config=config,
        process=wanted,
        group=group,
        first=known.pid,
        entrances=() if group is None else enter.below(group, options.texts("cgroup")),
        target=target,
        console=terminals.connect(path) if path else -1,
        preserve_fds=preserve_fds,
        listen_fds=listen_fds,
        filters=make.filters(call.store),
        known=known,
        pid_file=options.text("pid-file"),
        patient=options.on("ignore-paused"),
    )
    signals.interruptible()
    if not options.on("detach"):
        signals.postpone()
    if wanted.terminal and not path:
        return _in_terminal(entry)
    pid = exec_process.enter(entry)
    return 0 if options.on("detach") else _attend(pid)


def _target(call: Call, known: State) -> int:
    status = call.store.status(known, claim_cgroup.is_frozen)
    if status == "paused" and call.options.on("ignore-paused"):
        status = "running"
    if status == "paused":
        # runc's words, which callers may know.
        raise OciError("cannot exec in a paused container", known.name, "use --ignore-paused to override")
    target = state.open_process(known) if status in ("created", "running") else None
    if target is None:
        raise OciError(f"cannot exec in the container {known.name}", f"container not running: it is {status}")
    return target


def _process(call: Call, base: Process) -> Process:
    """The process to start in a container whose own process is *base*."""
    options, warnings = call.options, list[str]()
    path = options.text("process")
    if path:
        try:
            wanted = _by_file(Reader(json.loads(state.read_bytes(path)), "process", warnings), base)
        except BundleError as error:
            raise OciError(f"{path}: {error.where}", error.why, error.fix) from None
        except ValueError as error:
            raise OciError(path, str(error), "correct the JSON") from None
        wanted = replace(wanted, terminal=True) if options.on("tty") else wanted
    else:
        wanted = _by_options(options, base, warnings)
    for line in warnings:
        call.log.warning(line)
    return wanted


def _by_file(file: Reader, base: Process) -> Process:
    """The process in the file. As in runc, some keys that it lacks are taken from the container."""
    kept: dict[str, object] = {}
    for key, name in (("capabilities", "capabilities"), ("oomScoreAdj", "oom_score_adj"), ("rlimits", "rlimits")):
        if file.lacks(key):
            kept[name] = getattr(base, name)
    return replace(process.parse(file), **kept)


def _by_options(options: Parsed, base: Process, warnings: list[str]) -> Process:
    """The container's own process with another program, and with the changes of the options."""
    argv = tuple(options.words[1:])
    if not argv:
        raise OciError("no program given", "", "name one, or give --process")
    pairs = [text.partition("=") for text in options.texts("env")]
    if not all(name and equals for name, equals, _ in pairs):
        raise OciError("--env", "must be NAME=VALUE")
    uid, gid = _user(options.text("user"), base)
    return replace(
        base,
        argv=argv,
        env=base.env + tuple((name, value) for name, _, value in pairs),
        cwd=options.text("cwd") or base.cwd,
        terminal=options.on("tty"),
        console_size=None,
        uid=uid,
        gid=gid,
        groups=base.groups + tuple(_id("--additional-gids", text) for text in options.texts("additional-gids")),
        no_new_privileges=base.no_new_privileges or options.on("no-new-privs"),
        capabilities=_with(base.capabilities, options.texts("cap"), uid, warnings),
    )


def _user(text: str, base: Process) -> tuple[int, int]:
    uid, colon, gid = text.partition(":")
    if not text:
        return base.uid, base.gid
    if not uid.isdecimal() or (colon and not gid.isdecimal()):
        raise OciError("--user", f"{text!r} is not UID or UID:GID", "give numbers")
    return _id("--user", uid), _id("--user", gid) if colon else base.gid


def _id(option: str, text: str) -> int:
    """The number of a user or a group. The number after the highest means "no change" to the kernel: setresuid(2)."""
    number = int(text) if text.isdecimal() and len(text) < 100 else -1
    if not 0 <= number <= process.HIGHEST_ID:
        raise OciError(option, f"{text[:100]!r} is not a number from 0 to {process.HIGHEST_ID}", "give one")
    return number


def _with(kept: Capabilities, names: list[str], uid: int, warnings: list[str]) -> Capabilities:
    """For a user that is not root also in the ambient set, and so in the inheritable one: else exec would drop it."""
    more = mask_of(Reader({"--cap": names}, "", warnings), "--cap")
    inherited = more if uid else 0
    return Capabilities(
        bounding=kept.bounding | more,
        effective=kept.effective | more,
        permitted=kept.permitted | more,
        inheritable=kept.inheritable | inherited,
        ambient=kept.ambient | inherited,
    )


def _in_terminal(entry: exec_process.Entry) -> int:
    ours, theirs = terminals.pair()
    try:
        # The program may read the terminal's size at once, before the proxy has set it.
        sized = replace(entry.process, console_size=terminals.own_size())
        pid = exec_process.enter(replace(entry, console=theirs, process=sized, shown=True))
        os.close(theirs)
        try:
            proxy = terminals.Proxy(terminals.receive(ours))
        except (OciError, OSError):
            exec_process.end(pid)
            raise
        with proxy:
            return _attend(pid, proxy)
    finally:
        os.close(ours)


def _attend(pid: int, proxy: terminals.Proxy | None = None) -> int:
    pidfd = os.pidfd_open(pid)
    try:
        with foreground.Signals() as passed_on:
            return foreground.attend(pid, pidfd, passed_on, proxy)
    finally:
        os.close(pidfd)
