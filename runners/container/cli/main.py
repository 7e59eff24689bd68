"""``tare-oci``: the command line that conmon, containerd's shim and people use; one verb, one function, imported late.

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
#: The newest version of the OCI runtime specification that is known here.
SPEC = "1.2.1"

GLOBAL = (
    Option("root", "DIR", help="where containers are recorded"),
    Option("log", "FILE", help="write messages there; without it, warnings go to standard error"),
    Option("log-format", "FORMAT", help="text or json"),
    Option("log-level", "LEVEL", help="error, warning, info or debug (default: warning)"),
    Option("debug", help="say what is done, as --log-level debug"),
    Option("systemd-cgroup", help="refused: cgroups are driven directly"),
    Option("cgroup-manager", "NAME", help="cgroupfs or disabled, as crun's"),
    Option("rootless", "WHEN", help="accepted, as runc does; the user and the configuration decide"),
    Option("version", short="v", help="show the version"),
    Option("help", short="h", help="show this"),
)


@record(kw_only=True)
class Call:
    """What a verb is given."""

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
    """*where* is module:function; *in_order*: options end at the first word that is none."""

    where: str
    arguments: str
    meaning: str
    options: tuple[Option, ...] = ()
    in_order: bool = False


_BUNDLE = Option("bundle", "DIR", "b", "the directory with config.json (default: here)")
_PID_FILE = Option("pid-file", "FILE", help="write the first process's number there")
_CONSOLE = Option("console-socket", "PATH", help="send the terminal's master to this socket")
_PRESERVE = Option("preserve-fds", "N", help="hand on descriptors 3 to 3+N-1")
_MAKE = (
    _BUNDLE,
    _PID_FILE,
    _CONSOLE,
    _PRESERVE,
    Option("no-pivot", help="enter the root by MS_MOVE and chroot: where / is a ramfs; less tight"),
    Option("no-new-keyring", help="keep the caller's session keyring"),
    Option("network", "MODE", help="none, host or bridge, whatever the configuration says"),
    Option("nat", help="with --network bridge: outwards under the host's address"),
    Option("no-subreaper", help="accepted: only run in the foreground is one"),
)
_FORMAT = Option("format", "FORMAT", "f", "table or json")
_LIMITS = (
    Option("resources", "FILE", "r", "linux.resources as JSON; - is standard input; all other limits are ignored"),
    Option("memory", "SIZE", help="bytes, or with k, m, g, t, p; -1 lifts it and --memory-swap"),
    Option("memory-swap", "SIZE", help="memory and swap together; -1 lifts it"),
    Option("memory-reservation", "SIZE", help="what it keeps when memory is short"),
    Option("kernel-memory", "SIZE", help="ignored: kernels took it away"),
    Option("kernel-memory-tcp", "SIZE", help="of buffers of TCP; cgroup v1 alone"),
    Option("cpu-period", "US", help="in which --cpu-quota may be used"),
    Option("cpu-quota", "US", help="processor time in each period; -1 lifts it"),
    Option("cpu-burst", "US", help="what may be saved up on top of the quota"),
    Option("cpu-share", "N", help="weight among others, 2 to 262144"),
    Option("cpu-shares", "N", help="the same"),
    Option("cpu-idle", "0|1", help="1: run when nobody else does"),
    Option("cpu-rt-period", "US", help="for real-time processes; cgroup v1 alone"),
    Option("cpu-rt-runtime", "US", help="for real-time processes; cgroup v1 alone"),
    Option("cpuset-cpus", "LIST", help="processors: 0-3,8"),
    Option("cpuset-mems", "LIST", help="memory nodes"),
    Option("pids-limit", "N", help="processes and threads; -1 lifts it"),
    Option("blkio-weight", "N", help="weight for block devices, 10 to 1000"),
    Option("l3-cache-schema", "TEXT", help="refused: Intel RDT"),
    Option("mem-bw-schema", "TEXT", help="refused: Intel RDT"),
)

VERBS = {
    "create": Verb(where="create:create", arguments="NAME", meaning="Make a container that waits.", options=_MAKE),
    "start": Verb(where="create:start", arguments="NAME", meaning="Let a created container run its program."),
    "run": Verb(
        where="create:run",
        arguments="NAME",
        meaning="Create, start, wait, delete; the exit status is the container's.",
        options=(
            *_MAKE,
            Option("detach", short="d", help="do not wait"),
            Option("keep", help="do not delete it afterwards"),
            Option("explain", help="print the steps and run nothing"),
        ),
    ),
    "state": Verb(where="inspect:state", arguments="NAME", meaning="Print the state as JSON."),
    "kill": Verb(
        where="delete:kill",
        arguments="NAME [SIGNAL]",
        meaning="Send a signal (TERM).",
        options=(Option("all", short="a", help="to every process of the container"),),
    ),
    "delete": Verb(
        where="delete:delete",
        arguments="NAME",
        meaning="Remove a stopped container.",
        options=(Option("force", short="f", help="kill it first; an unknown name is not an error"),),
    ),
    "exec": Verb(
        where="exec:execute",
        arguments="NAME [PROGRAM ARGUMENTS...]",
        meaning="Run another program in a running container.",
        in_order=True,
        options=(
            Option("process", "FILE", "p", "the process object of a configuration"),
            Option("cwd", "DIR", help="its directory"),
            Option("env", "NAME=VALUE", "e", "add to its environment", many=True),
            Option("user", "UID[:GID]", "u", "its user and group"),
            Option("additional-gids", "GID", "g", "one more group", many=True),
            Option("cap", "CAP_NAME", "c", "one more capability", many=True),
            Option("no-new-privs", help="set no_new_privs"),
            Option("tty", short="t", help="give it a terminal"),
            Option("detach", short="d", help="do not wait"),
            _PID_FILE,
            _CONSOLE,
            _PRESERVE,
            Option("ignore-paused", help="also in a paused container, where it waits"),
            Option("process-label", "LABEL", help="refused: SELinux"),
            Option("apparmor", "PROFILE", help="refused: AppArmor"),
            Option("no-subreaper", help="accepted"),
            Option("cgroup", "[CONTROLLERS:]PATH", help="in a cgroup below the container's", many=True),
        ),
    ),
    "ps": Verb(
        where="inspect:ps",
        arguments="NAME [OPTIONS OF PS]",
        meaning="List its processes.",
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
        meaning="Print what it uses at each interval, and when its memory runs out, as lines of JSON.",
        options=(
            Option("interval", "TIME", help="between two lines: 500ms, 5s (default), 1m30s"),
            Option("stats", help="print one line and end"),
        ),
    ),
    "pause": Verb(where="pause:pause", arguments="NAME", meaning="Stop all its processes from running."),
    "resume": Verb(where="pause:resume", arguments="NAME", meaning="Let them run again."),
    "update": Verb(where="update:update", arguments="NAME", meaning="Change its limits.", options=_LIMITS),
    "features": Verb(where="inspect:features", arguments="", meaning="Print what this runtime can do as JSON."),
    "spec": Verb(
        where="inspect:spec",
        arguments="",
        meaning="Write a config.json to start from.",
        options=(_BUNDLE, Option("rootless", help="for an ordinary user")),
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks; return the exit status. Does not raise for bad input."""
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
    """A fault of this program, in one line: what, where, and how to tell of it."""
    place, trace = "", error.__traceback__
    while trace is not None:
        place, trace = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}", trace.tb_next
    said = f"{type(error).__name__}: {error}".replace("\n", " ")
    fix = "please report it, with the command; TARE_DEBUG=1 shows the traceback"
    return f"a fault of this program ({said}, at {place}); {fix}"


def _own_children() -> None:
    """Be told of the ends of our children, whatever the caller does about its own: exec hands on what is ignored.

    Ignored, SIGCHLD has the kernel throw their statuses away (wait(2)); blocked, it would never come.
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
    """Lines in the form that engines and scripts know of runc, and crun's line of what is built in."""
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
    data = text.encode("utf-8", "surrogateescape")  # a path of the host may be no text
    while data:
        data = data[os.write(1, data) :]


def say_lines(text: str) -> None:
    """Print *text* and a line's end."""
    _say(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
