"""``tare-oci``: the command line for people, conmon and containerd's shim. Each verb's function is imported late.

The interface is runc's where callers depend on it: global options before the verb, the text of ``--version``, errors
in ``--log`` and on stderr, the exit status of a container as the exit status of ``run`` and ``exec``.
"""

from __future__ import annotations

import os
import sys

from ..errors import OciError, reason
from ..lifecycle import state
from ..lifecycle.log import Log
from ..light.argparse import Option, Parsed, parse, usage
from ..light.dataclasses import record
from ..reader import BundleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VERSION = "0.1.0"
#: The newest version of the OCI runtime specification that this program knows.
SPEC = "1.2.1"

GLOBAL = (
    Option("root", "DIR", help="the directory for the states of containers"),
    Option("log", "FILE", help="write messages to this file; without it, warnings go to standard error"),
    Option("log-format", "FORMAT", help="text or json"),
    Option("log-level", "LEVEL", help="error, warning, info or debug (default: warning)"),
    Option("debug", help="the same as --log-level debug"),
    Option("systemd-cgroup", help="refused: this runtime writes cgroups itself"),
    Option("cgroup-manager", "NAME", help="cgroupfs or disabled, as in crun"),
    Option("rootless", "WHEN", help="accepted and ignored: the user and the configuration decide"),
    Option("version", short="v", help="show the version"),
    Option("help", short="h", help="show this help"),
)


@record(kw_only=True)
class Call:
    """The options and words of a verb."""

    store: state.Store
    log: Log
    options: Parsed

    def name(self, *, more: bool = False) -> str:
        """The container's name: the first word, and the only one unless *more* are allowed. Raises OciError."""
        words = self.options.words
        if not words:
            raise OciError("no container named", "", "give its name")
        if len(words) > 1 and not more:
            raise OciError(f"unexpected argument {words[1]!r}")
        return words[0]


@record(kw_only=True)
class Verb:
    """*where* is module:function; with *in_order*, options end at the first word that is not an option."""

    where: str
    arguments: str
    meaning: str
    options: tuple[Option, ...] = ()
    in_order: bool = False


_BUNDLE = Option("bundle", "DIR", "b", "the directory with config.json (default: here)")
_PID_FILE = Option("pid-file", "FILE", help="write the number of the first process to this file")
_CONSOLE = Option("console-socket", "PATH", help="send the terminal's master to this socket")
_PRESERVE = Option("preserve-fds", "N", help="pass on descriptors 3 to 3+N-1")
_MAKE = (
    _BUNDLE,
    _PID_FILE,
    _CONSOLE,
    _PRESERVE,
    Option("no-pivot", help="enter the root by MS_MOVE and chroot, for a / on ramfs; isolates less"),
    Option("no-new-keyring", help="keep the caller's session keyring"),
    Option("network", "MODE", help="none, host or bridge, whatever the configuration says"),
    Option("nat", help="with --network bridge: packets leave with the host's address"),
    Option("no-subreaper", help="accepted and ignored: only run in the foreground is a subreaper"),
)
_FORMAT = Option("format", "FORMAT", "f", "table or json")
_LIMITS = (
    Option("resources", "FILE", "r", "linux.resources as JSON; - is standard input; all other limits are ignored"),
    Option("memory", "SIZE", help="bytes, or with k, m, g, t, p; -1 removes this limit and --memory-swap"),
    Option("memory-swap", "SIZE", help="memory and swap together; -1 removes the limit"),
    Option("memory-reservation", "SIZE", help="memory that it keeps when the host's is short"),
    Option("kernel-memory", "SIZE", help="ignored: newer kernels have no such limit"),
    Option("kernel-memory-tcp", "SIZE", help="memory of TCP buffers; only with cgroup v1"),
    Option("cpu-period", "US", help="the period of --cpu-quota"),
    Option("cpu-quota", "US", help="processor time in each period; -1 removes the limit"),
    Option("cpu-burst", "US", help="unused quota that may be used later"),
    Option("cpu-share", "N", help="weight against other cgroups, 2 to 262144"),
    Option("cpu-shares", "N", help="the same as --cpu-share"),
    Option("cpu-idle", "0|1", help="1: run only when no other cgroup does"),
    Option("cpu-rt-period", "US", help="the period of --cpu-rt-runtime; only with cgroup v1"),
    Option("cpu-rt-runtime", "US", help="time of real-time processes in each period; only with cgroup v1"),
    Option("cpuset-cpus", "LIST", help="processors that it may use: 0-3,8"),
    Option("cpuset-mems", "LIST", help="memory nodes that it may use"),
    Option("pids-limit", "N", help="processes and threads; -1 removes the limit"),
    Option("blkio-weight", "N", help="weight for block devices, 10 to 1000"),
    Option("l3-cache-schema", "TEXT", help="refused: Intel RDT"),
    Option("mem-bw-schema", "TEXT", help="refused: Intel RDT"),
)

VERBS = {
    "create": Verb(
        where="create:create", arguments="NAME", meaning="Make a container, which waits for start.", options=_MAKE
    ),
    "start": Verb(where="create:start", arguments="NAME", meaning="Let a created container run its program."),
    "run": Verb(
        where="create:run",
        arguments="NAME",
        meaning="Create, start, wait, delete; exit with the container's status.",
        options=(
            *_MAKE,
            Option("detach", short="d", help="return as soon as it runs"),
            Option("keep", help="do not delete the container afterwards"),
            Option("explain", help="print the steps and run nothing"),
        ),
    ),
    "state": Verb(where="inspect:state", arguments="NAME", meaning="Print the state as JSON."),
    "kill": Verb(
        where="delete:kill",
        arguments="NAME [SIGNAL]",
        meaning="Send a signal to a container (default: TERM).",
        options=(Option("all", short="a", help="send it to every process of the container"),),
    ),
    "delete": Verb(
        where="delete:delete",
        arguments="NAME",
        meaning="Remove a stopped container.",
        options=(Option("force", short="f", help="kill the container first; an unknown name is not an error"),),
    ),
    "exec": Verb(
        where="exec:execute",
        arguments="NAME [PROGRAM ARGUMENTS...]",
        meaning="Run another program in a running container.",
        in_order=True,
        options=(
            Option("process", "FILE", "p", "a file with the process object of a configuration"),
            Option("cwd", "DIR", help="the directory in which the program starts"),
            Option("env", "NAME=VALUE", "e", "add to the environment of the program", many=True),
            Option("user", "UID[:GID]", "u", "user and group of the program"),
            Option("additional-gids", "GID", "g", "one more group", many=True),
            Option("cap", "CAP_NAME", "c", "one more capability", many=True),
            Option("no-new-privs", help="set no_new_privs"),
            Option("tty", short="t", help="give the program a terminal"),
            Option("detach", short="d", help="return as soon as it runs"),
            _PID_FILE,
            _CONSOLE,
            _PRESERVE,
            Option("ignore-paused", help="in a paused container, wait until it is resumed"),
            Option("process-label", "LABEL", help="refused: SELinux"),
            Option("apparmor", "PROFILE", help="refused: AppArmor"),
            Option("no-subreaper", help="accepted and ignored"),
            Option("cgroup", "[CONTROLLERS:]PATH", help="run in a cgroup below the container's", many=True),
        ),
    ),
    "ps": Verb(
        where="inspect:ps",
        arguments="NAME [OPTIONS OF PS]",
        meaning="List the processes of a container.",
        options=(_FORMAT,),
        in_order=True,
    ),
    "list": Verb(
        where="inspect:list_all",
        arguments="",
        meaning="List all containers below --root.",
        options=(_FORMAT, Option("quiet", short="q", help="names only")),
    ),
    "events": Verb(
        where="events:events",
        arguments="NAME",
        meaning="Print a line of JSON at each interval, and at each shortage of memory.",
        options=(
            Option("interval", "TIME", help="time between two lines: 500ms, 5s (default), 1m30s"),
            Option("stats", help="print one line and exit"),
        ),
    ),
    "pause": Verb(where="pause:pause", arguments="NAME", meaning="Freeze all processes of a container."),
    "resume": Verb(
        where="pause:resume", arguments="NAME", meaning="Let the processes of a paused container run again."
    ),
    "update": Verb(
        where="update:update", arguments="NAME", meaning="Change the limits of a container.", options=_LIMITS
    ),
    "features": Verb(where="inspect:features", arguments="", meaning="Print what this runtime can do as JSON."),
    "spec": Verb(
        where="inspect:spec",
        arguments="",
        meaning="Write a config.json to start from.",
        options=(_BUNDLE, Option("rootless", help="write it for an ordinary user")),
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status. Does not raise for bad input."""
    _own_children()
    messages = Log()
    try:
        given = parse(sys.argv[1:] if arguments is None else arguments, GLOBAL, what="tare-oci", in_order=True)
        level = "debug" if given.on("debug") else given.text("log-level", "warning")
        messages = Log(given.text("log"), given.text("log-format", "text"), level=level)
        return _dispatch(given, messages)
    except OciError as error:
        messages.error(str(error))
    except BundleError as error:
        messages.error(str(error))
    except OSError as error:
        messages.error(reason(error))
    except KeyboardInterrupt:
        messages.error("interrupted")
        return 130
    except Exception as error:
        if "TARE_DEBUG" in os.environ:
            raise
        messages.error(_unforeseen(error))
    return 1


def _unforeseen(error: Exception) -> str:
    """An error in this program itself, in one line: what, where, and how to report it."""
    place, trace = "", error.__traceback__
    while trace is not None:
        place, trace = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}", trace.tb_next
    said = f"{type(error).__name__}: {error}".replace("\n", " ")
    fix = "please report it, with the command; TARE_DEBUG=1 shows the traceback"
    return f"a fault of this program ({said}, at {place}); {fix}"


def _own_children() -> None:
    """Get SIGCHLD for our children, even if the caller ignores or blocks it, which a program inherits.

    If SIGCHLD is ignored, the kernel drops their exit statuses (wait(2)); if it is blocked, it never comes.
    """
    import _signal  # type: ignore[import-not-found]

    if _signal.getsignal(_signal.SIGCHLD) != _signal.SIG_DFL:
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGCHLD,))


def _dispatch(given: Parsed, messages: Log) -> int:
    if given.on("version"):
        _say(_version())
        return 0
    asked = given.on("help") or given.words in (["help"], ["h"])
    if asked or not given.words:
        _say(_overview())
        return 0 if asked else 1
    for name in ("systemd-cgroup",):
        if given.on(name):
            raise OciError(f"--{name}", "is not supported", "let the engine use cgroupfs (podman: --cgroup-manager)")
    if given.text("cgroup-manager", "cgroupfs") not in ("cgroupfs", "disabled"):
        raise OciError("--cgroup-manager", f"{given.text('cgroup-manager')!r} is not supported", "use cgroupfs")
    word, *rest = given.words
    if word in ("help", "h"):  # of runc
        word, rest = rest[0], ["--help"]
    verb = VERBS.get(word)
    if verb is None:
        raise OciError(f"no such command: {word}", "", f"there are: {' '.join(VERBS)}")
    known = (*verb.options, GLOBAL[-1])
    options = parse(rest, known, what=f"tare-oci {word}", in_order=verb.in_order, elsewhere=GLOBAL)
    messages.debug(f"{word} {' '.join(rest)}: tare-oci {VERSION}, process {os.getpid()}")
    if options.on("help"):
        _say(usage(word, verb.arguments, verb.meaning, known))
        return 0
    store = state.Store(os.path.abspath(given.text("root") or state.default_root()))
    return _function(verb.where)(Call(store=store, log=messages, options=options))


def _function(where: str) -> Callable[[Call], int]:
    module, _, name = where.partition(":")
    # Not importlib, which is not loaded yet: with a package and a list of names, __import__ returns the module.
    found: Callable[[Call], int] = getattr(__import__(f"{__package__}.{module}", fromlist=[name]), name)
    return found


def _version() -> str:
    """Lines in the form of runc, which engines and scripts parse, and crun's line of features."""
    python = sys.version.split()[0]
    return f"tare-oci version {VERSION}\ncommit: {VERSION}\nspec: {SPEC}\npython: {python}\n+CAP +SECCOMP +EBPF\n"


def _overview() -> str:
    lines = ["usage: tare-oci [options] COMMAND ...", ""]
    lines += [f"  {name:10} {verb.meaning}" for name, verb in VERBS.items()]
    lines += ["", "options, before COMMAND:"]
    for option in GLOBAL:
        lines.append(f"  --{option.name + (' ' + option.value if option.value else ''):24} {option.help}")
    return "\n".join(lines) + "\n"


def _say(text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")  # a path of the host may not be UTF-8
    while data:
        data = data[os.write(1, data) :]


def say_lines(text: str) -> None:
    """Print *text* and a line's end."""
    _say(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
