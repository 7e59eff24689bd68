"""Errors where callers look for them: a line in the file of ``--log`` in the form they parse, and one on stderr.

containerd's shim takes the last JSON line with level "error" as its message (and refuses a time that is not RFC 3339);
podman looks for certain words in either place.
"""

from __future__ import annotations

import os
import time

from . import jsontext
from .failure import OciError, reason

FORMATS = ("text", "json")
_GO_SPELLS = ("No such file or directory", "Permission denied", "Operation not permitted", "Not a directory")


class Log:
    """Where messages go. *path* may be empty: stderr alone."""

    def __init__(self, path: str = "", form: str = "text", *, debug: bool = False) -> None:
        if form not in FORMATS:
            raise OciError("--log-format", f"{form!r} is neither {' nor '.join(FORMATS)}", "use text or json")
        self._path = path
        self._form = form
        self._debug = debug

    def error(self, text: str) -> None:
        """What failed."""
        # Go's spelling: docker's client takes its exit status, 126 or 127, from these words.
        for words in _GO_SPELLS:
            text = text.replace(words, words.lower())
        self._write("error", text)
        _stderr(f"tare-oci: {text}")

    def warning(self, text: str) -> None:
        """What failed and did not stop us."""
        self._write("warning", text)
        if not self._path:
            _stderr(f"tare-oci: warning: {text}")

    def debug(self, text: str) -> None:
        """What was done, with ``--debug``."""
        if self._debug:
            self._write("debug", text)
            if not self._path:
                _stderr(f"tare-oci: debug: {text}")

    def _write(self, level: str, text: str) -> None:
        if not self._path:
            return
        moment = now()
        if self._form == "json":
            line = jsontext.dumps({"level": level, "msg": text, "time": moment})
        else:
            line = f'time="{moment}" level={level} msg={jsontext.dumps(text)}'
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                os.write(fd, f"{line}\n".encode())
            finally:
                os.close(fd)
        except OSError as error:
            _stderr(f"tare-oci: cannot write the log {reason(error)}")


def now(at_ns: int | None = None) -> str:
    """A moment (now, if not given) as RFC 3339 in UTC, to the nanosecond."""
    seconds, fraction = divmod(time.time_ns() if at_ns is None else at_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:09d}Z"


def _stderr(line: str) -> None:
    try:
        os.write(2, f"{line}\n".encode(errors="backslashreplace"))
    except OSError:
        pass  # nobody reads it: whoever started us closed its end
