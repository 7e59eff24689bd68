"""How a command ends: its exit code, and for a failure one paragraph with what happened, why, and what to do.

An error that was not foreseen shows no traceback either, but exit code 70 and the path of a file that holds one.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tare.bench.errors import HostError, OutputError, TareError
from tare.reports.cli import streams

#: EX_SOFTWARE of sysexits.h.
UNFORESEEN = 70
#: What a shell shows for a program that SIGPIPE ended: the reader of its output had seen enough.
READER_GONE = 128 + signal.SIGPIPE
_INTERRUPTED = 128 + signal.SIGINT
#: A terminal obeys control characters; a path, a label or a file's text may hold them.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_LONGEST = 2000
_SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG}
_SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}


def run(command: Callable[[], None], *, as_json: bool) -> int:
    """Run *command*; return the exit code of the process. With *as_json* a failure is an object on standard output.

    Nothing but a signal leaves this function: whatever was raised has been reported.
    """
    told = False
    try:
        code = _attempt(command)
    except BaseException as error:  # noqa: BLE001 - nobody is above to tell it
        code, told = _tell(error, as_json=as_json), True
    try:
        streams.finish()
    except (BrokenPipeError, OutputError) as error:
        return code if told else _tell(error, as_json=False)
    return code


def _attempt(command: Callable[[], None]) -> int:
    streams.prepare()
    try:
        command()
    except SystemExit as wish:
        return wish.code if isinstance(wish.code, int) else 0 if wish.code is None else 1
    return 0


def _tell(error: BaseException, *, as_json: bool) -> int:
    """Say what *error* is about; the exit code of its class."""
    if isinstance(error, BrokenPipeError) and streams.reader_is_gone():
        return READER_GONE
    said, code = _understood(error)
    if os.environ.get("TARE_DEBUG") == "1":
        streams.say(_traceback(error))
    _explain(said)
    if as_json and not streams.used():
        data = {"error": said.what, "why": said.why, "fix": said.fix}
        told = {name: streams.utf8(text) for name, text in data.items()}
        try:
            streams.out(json.dumps({**told, "exit_code": code}, indent=2) + "\n")
        except (OSError, OutputError):
            pass  # it is the same failure, or a lesser one than the one that was told
    return code


def _understood(error: BaseException) -> tuple[TareError, int]:
    """*error* in words, and its exit code."""
    from tare.runners.base import RunnerError

    if isinstance(error, TareError):
        return error, error.exit_code
    if isinstance(error, RunnerError):
        return HostError(error.what, error.why, error.fix), HostError.exit_code
    if isinstance(error, KeyboardInterrupt):
        return TareError("interrupted"), _INTERRUPTED
    if isinstance(error, MemoryError):
        return HostError(
            "there is not enough memory", "", "stop programs that use much memory, then run again"
        ), HostError.exit_code
    if isinstance(error, OSError) and error.errno in _SYSTEM | _SHORT:
        what = f"cannot use {os.fsdecode(error.filename)}" if error.filename else "the output could not be written"
        why = error.strerror or str(error)
        if error.errno in _SYSTEM:
            found: TareError = OutputError(what, why, "make room there or choose another place, then run again")
        else:
            found = HostError(what, why, "check `ulimit -a` and what else runs on this host, then run again")
        return found, found.exit_code
    return _unforeseen(error), UNFORESEEN


def _unforeseen(error: BaseException) -> TareError:
    name = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    try:
        log = f"please report it with the file {_log(error)}"
    except OSError as failure:
        log = f"please report it with what TARE_DEBUG=1 prints (its log cannot be written: {failure})"
    return TareError("an unexpected error", f"{name}; this is an error in tare, not yours", log)


def _log(error: BaseException) -> Path:
    """Write what a developer needs; the path of the file, below the cache or else among temporary files."""
    from tare.runners.base import RunnerError
    from tare.runners.image.cache import cache_dir

    words = " ".join(map(repr, sys.argv))
    text = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}\n{words}\nPython {sys.version}\n{os.uname()}\n"
    data = (text + _traceback(error)).encode("utf-8", "backslashreplace")
    try:
        folder = cache_dir() / "errors"
        folder.mkdir(parents=True, exist_ok=True)
        return _written(folder, data)
    except (OSError, RunnerError):
        return _written(Path(tempfile.gettempdir()), data)


def _written(folder: Path, data: bytes) -> Path:
    fd, name = tempfile.mkstemp(prefix=time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()), suffix=".log", dir=folder)
    try:
        with open(fd, "wb") as file:
            file.write(data)
    except OSError:
        Path(name).unlink()
        raise
    return Path(name)


def _traceback(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error))


def _explain(error: TareError) -> None:
    lines = [("tare", error.what), (" why", error.why), (" fix", error.fix)]
    streams.say("".join(f"{name}: {_line(text)}\n" for name, text in lines if text))


def _line(text: str) -> str:
    """*text* on one line, which a terminal only shows, and no longer than anybody reads."""
    plain = _CONTROL.sub("?", text.replace("\n", "; "))
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}..."
