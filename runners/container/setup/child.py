"""What the first process of a container does between clone and exec, while it is a copy of the runtime.

It talks with its parent over two pipes, in turns: it writes one message, and the parent answers with one byte. End of
file means that the other has ended. Messages are a letter and a text, see :data:`CREATED` and those below it; that of
:data:`READY` are the warnings. It waits for an answer only if the parent has something to do first
(:attr:`Ends.awaited`): each turn wakes two processes, which takes some 0.2 ms.

Then it waits at the exec fifo for ``start``, and reports there: "0" as soon as it is the small program of :mod:`stub`,
and nothing more if that could execute the container's program.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat

from ..light.dataclasses import record
from ..linux import rootfs, syscalls
from ..linux.exec_stub import stub
from .kernel import Kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Sequence
    from typing import NoReturn

    from ..config.hooks import RunHooks
    from ..config.process import Process
    from .sequence import StepSequence
    from .steps.basic import Step
else:
    import _signal  # the module itself imports enum: 3 ms

#: Messages to the parent.
CREATED, HOOKS, LIMITS, READY, FAILED = b"N", b"H", b"L", b"R", b"F"
#: The exit status of a container whose set-up failed, as in shells' "cannot execute".
SETUP_FAILED = 126
#: What execvp(3) takes where the environment has no PATH.
_DEFAULT_PATH = "/bin:/usr/bin"
_LONGEST_PASSWD = 1 << 20
_DAC_OVERRIDE = 1 << 1
_SIGNALS = 64


@record(kw_only=True)
class Ends:
    """What the first process needs: its ends of the pipes, the directory and the name of the fifo, and the stub.

    *awaited* are the messages that the parent has to act on before the first process goes on. *hook_stub* is the stub
    for hooks of startContainer, if there are any.
    """

    up: int
    down: int
    fifo_directory: int
    fifo: str
    stub: int
    awaited: bytes
    hook_stub: int = -1


def tell(fd: int, kind: bytes, text: str = "") -> None:
    """One message."""
    os.write(fd, kind + text.encode(errors="surrogateescape")[:4000])


def ask(ends: Ends, kind: bytes, text: str = "") -> None:
    """Send a message, and wait for the answer if it is awaited. Ends this process if the parent has ended."""
    if kind not in ends.awaited:
        return
    tell(ends.up, kind, text)
    if not os.read(ends.down, 1):
        os._exit(SETUP_FAILED)


def changed_signals() -> tuple[int, ...]:
    """The signals whose disposition is not the default. The parent asks: a copy would have to copy the pages for it."""
    return tuple(
        number
        for number in range(1, _SIGNALS + 1)
        if number not in (9, 19, 32, 33)  # SIGKILL, SIGSTOP, and the C library's own
        and _signal.getsignal(number) != _signal.SIG_DFL
    )


def reset_signals(changed: tuple[int, ...]) -> None:
    """Set default dispositions and an empty mask: else the program would inherit which signals the caller ignores."""
    for number in changed:
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


class StepError(OSError):
    """A step that failed: its text names it."""


def run(steps: Sequence[Step]) -> list[str]:
    """Do *steps*; return a line for each that failed and is excused. Raises :class:`StepError`."""
    kernel = Kernel()
    excused = []
    for step in steps:
        try:
            step.apply(kernel)
        except OSError as error:
            if error.errno in step.tolerated:
                continue
            said = f"cannot {step.describe()}: {words(error)}"
            if error.errno not in step.excused:
                raise StepError(error.errno, said) from None
            excused.append(said)
    return excused


def words(error: OSError) -> str:
    """The text of an error, with its path."""
    said = error.strerror or str(error)
    return f"{error.filename}: {said}" if error.filename else said


def _unforeseen(error: BaseException) -> str:
    return "there is not enough memory" if isinstance(error, MemoryError) else f"{type(error).__name__}: {error}"


def become_first(
    plan: StepSequence,
    process: Process,
    first: Step | None,
    ends: Ends,
    *,
    preserve_fds: int,
    listen_fds: int,
    run_hooks: RunHooks,
    changed: tuple[int, ...],
) -> NoReturn:
    """Run as the child of clone3. Never returns: it executes the program, or exits with :data:`SETUP_FAILED`.

    *preserve_fds* descriptors stay open; the first *listen_fds* of them come from a service manager. *changed* are the
    parent's :func:`changed_signals`.
    """
    report = ends.up
    try:
        # Until the parent has recorded this process: the parent may be killed.
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 9)
        reset_signals(changed)
        ask(ends, CREATED)
        if first is not None:
            run((first,))
        excused = run(plan.outside)
        ask(ends, HOOKS)
        run_hooks("createContainer", os.getpid(), -1)
        excused += run(plan.entering)
        ask(ends, LIMITS)
        excused += run(plan.credentials)
        path, env = prepare(process, listen_fds)
        if not os.access(ends.fifo, os.W_OK, dir_fd=ends.fifo_directory, effective_ids=True):
            raise PermissionError(errno.EACCES, f"the container's user {process.uid} cannot write to {ends.fifo}")
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 0)
        ask(ends, READY, "\n".join(excused))
        os.close(ends.up)
        os.close(ends.down)
        # This returns when `start` opens the other end. The path does not begin at the root, which is the container's
        # by now.
        report = os.open(ends.fifo, os.O_WRONLY | os.O_CLOEXEC, dir_fd=ends.fifo_directory)
        os.close(ends.fifo_directory)
        run_hooks("startContainer", os.getpid(), ends.hook_stub)
        execute(path, process, env, report=report, program=ends.stub, preserve_fds=preserve_fds)
    except OSError as error:
        tell(report, FAILED if report == ends.up else b"", words(error))
    except BaseException as error:  # noqa: BLE001 - a copy of the runtime must not go on anywhere else
        tell(report, FAILED if report == ends.up else b"", _unforeseen(error))
    finally:
        os._exit(SETUP_FAILED)


def become(
    process: Process, steps: Sequence[Step], *, report: int, program: int, preserve_fds: int = 0, listen_fds: int = 0
) -> NoReturn:
    """Run as a process that has entered a container: do *steps*, execute *program*, the stub. Never returns.

    *steps* are those of :func:`sequence.becoming`, made before entering. What fails is written to *report*, in words or
    in the form that :func:`stub.said` reads; a successful exec closes *report*.
    """
    try:
        reset_signals(changed_signals())
        os.chdir("/")
        run(steps)
        path, env = prepare(process, listen_fds)
        execute(path, process, env, report=report, program=program, preserve_fds=preserve_fds)
    except OSError as error:
        tell(report, b"", words(error))
    except BaseException as error:  # noqa: BLE001 - a copy of the runtime must not go on anywhere else
        tell(report, b"", _unforeseen(error))
    finally:
        os._exit(SETUP_FAILED)


def prepare(process: Process, listen_fds: int = 0) -> tuple[str, dict[str, str]]:
    """The path of the program, found as the user that the caller is by now, and its environment. Raises OSError."""
    env = dict(process.env)
    overrides = bool(process.capabilities.effective & _DAC_OVERRIDE)
    # a container without a process is never started
    path = find(process.argv[0], env.get("PATH", _DEFAULT_PATH), overrides=overrides) if process.argv else ""
    if not env.get("HOME"):
        env["HOME"] = home(process.uid)
    if listen_fds:
        # sd_listen_fds(3). The number is the one in the container's pid namespace.
        env.setdefault("LISTEN_FDS", str(listen_fds))
        env.setdefault("LISTEN_PID", str(os.getpid()))
    return path, env


def find(name: str, search: str, *, overrides: bool = False) -> str:
    """The path of the program *name*, as execvp(3) finds it. Raises OSError.

    *overrides* says that the caller has CAP_DAC_OVERRIDE. What access(2) denies is refused here, while the creation can
    still fail; for all else, execve decides.
    """
    if "/" in name:
        _check(name, overrides=overrides)
        return name
    denied = False
    for directory in search.split(":"):
        path = posixpath.join(directory or ".", name)
        try:
            _check(path, overrides=overrides)
        except PermissionError:
            denied = True
        except OSError:
            continue
        else:
            return path
    if denied:
        raise PermissionError(errno.EACCES, f"process.args: {name} cannot be executed: permission denied")
    raise FileNotFoundError(errno.ENOENT, f"process.args: {name}: executable file not found in $PATH ({search})")


def _check(path: str, *, overrides: bool) -> None:
    try:
        found = os.stat(path)
    except OSError as error:
        raise OSError(error.errno, f"process.args: {path}: {error.strerror}") from None
    # Without faccessat2(2), the C library judges by the file's mode, and ignores capabilities.
    allowed = os.access(path, os.X_OK, effective_ids=True) or (overrides and found.st_mode & 0o111)
    if not stat.S_ISREG(found.st_mode) or not allowed:
        raise PermissionError(errno.EACCES, f"process.args: {path} cannot be executed: permission denied")


def home(uid: int, *, root: int = -1) -> str:
    """The home directory of *uid* by the passwd(5) of the directory *root* (negative: of the root directory).

    It is "/" if there is none, or no plain file.
    """
    # Not relative to the current directory, which is the program's by now: a file etc/passwd in it means nothing.
    top = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if root < 0 else root
    try:
        fd = rootfs.find("/etc/passwd", os.O_RDONLY | os.O_NONBLOCK, root=top)
    except OSError:
        return "/"
    finally:
        if root < 0:
            os.close(top)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return "/"
        text = os.read(fd, _LONGEST_PASSWD).decode(errors="surrogateescape")
    except OSError:
        return "/"
    finally:
        os.close(fd)
    for line in text.split("\n"):  # not splitlines(), which also splits at a form feed or at U+2028
        fields = line.split(":")
        if len(fields) > 5 and fields[2] == str(uid) and "\0" not in fields[5]:
            return fields[5] or "/"
    return "/"


def execute(path: str, process: Process, env: dict[str, str], *, report: int, program: int, preserve_fds: int) -> None:
    """Execute the program through the stub; descriptors 3 to 2 + *preserve_fds* stay open. Raises OSError."""
    import fcntl

    # inheritable: the stub gets it, and closes it
    end = fcntl.fcntl(report, fcntl.F_DUPFD, 3 + preserve_fds)
    argv = stub.words(end, path, process.argv)
    syscalls.close_range(3 + preserve_fds, 0xFFFFFFFF, syscalls.CLOSE_RANGE_CLOEXEC)
    os.set_inheritable(end, True)
    os.execve(program, argv, env)
