"""Errors where callers look for them: one line in the file of ``--log``, in the form that they parse, one on stderr.

containerd's shim takes the last JSON line with level "error" as its message (and refuses a time that is not RFC 3339);
podman looks for certain words in either place.
"""

from __future__ import annotations

import os
import time

from ..errors import OciError, reason
from ..light import json

FORMATS = ("text", "json")
#: From few messages to many, as crun's ``--log-level``; runc has the other two besides.
LEVELS = ("error", "warning", "info", "debug")
_GO_SPELLS = ("No such file or directory", "Permission denied", "Operation not permitted", "Not a directory")
#: The log gets a descriptor above those that ``--preserve-fds`` may pass on.
_HIGH = 512


class Log:
    """Where messages go. *path* may be empty: stderr alone. *level* is the least important kind that is written.

    Raises OciError where the file cannot be written, or a word is unknown.
    """

    def __init__(self, path: str = "", form: str = "text", *, level: str = "warning") -> None:
        if form not in FORMATS:
            raise OciError("--log-format", f"{form!r} is neither {' nor '.join(FORMATS)}", "use text or json")
        if level not in LEVELS:
            raise OciError("--log-level", f"{level!r} is unknown", f"use one of {', '.join(LEVELS)}")
        self._form = form
        self._most = LEVELS.index(level)
        self._fd = _open(path) if path else -1

    def error(self, text: str) -> None:
        """What failed."""
        # Go's spelling: docker's client takes its exit status, 126 or 127, from these words.
        for words in _GO_SPELLS:
            text = text.replace(words, words.lower())
        if self._fd >= 0 or self._form != "text":
            self._write("error", text)
        if self._fd >= 0 or self._form == "text":
            _stderr(f"tare-oci: {text}")

    def warning(self, text: str) -> None:
        """What failed and did not stop the runtime."""
        self._write("warning", text)

    def debug(self, text: str) -> None:
        """What was done, with ``--debug``."""
        self._write("debug", text)

    @property
    def verbose(self) -> bool:
        """Whether :meth:`debug` writes anything."""
        return self._most >= LEVELS.index("debug")

    def _write(self, level: str, text: str) -> None:
        """Write one line to the file, or to stderr if there is no file, as runc does."""
        if LEVELS.index(level) > self._most:
            return
        moment = now()
        if self._form == "json":
            line = json.dumps({"level": level, "msg": text, "time": moment})
        else:
            line = f'time="{moment}" level={level} msg={json.dumps(text)}'
        if self._fd < 0:
            _stderr(line)
            return
        try:
            os.write(self._fd, f"{line}\n".encode())
        except OSError as error:
            _stderr(f"tare-oci: cannot write the log: {reason(error)}")


def _open(path: str) -> int:
    """The file of ``--log``, to append to: opened only once, since it may be a pipe."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise OciError("cannot open the log", why, "name a file that can be written by --log") from None
    from fcntl import F_DUPFD_CLOEXEC, fcntl

    try:
        high = fcntl(fd, F_DUPFD_CLOEXEC, _HIGH)
    except OSError:  # a small RLIMIT_NOFILE
        return fd
    os.close(fd)
    return high


def now(at_ns: int | None = None) -> str:
    """A time (now, if not given) as RFC 3339 in UTC, to the nanosecond."""
    seconds, fraction = divmod(time.time_ns() if at_ns is None else at_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:09d}Z"


def _stderr(line: str) -> None:
    try:
        os.write(2, f"{line}\n".encode(errors="backslashreplace"))
    except OSError:
        pass  # nobody reads it: the caller has closed its end
