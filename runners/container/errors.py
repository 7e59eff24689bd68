"""The errors of the runtime: *what* was tried, *why* it failed, and how to *fix* it."""

from __future__ import annotations


class OciError(Exception):
    """A refused request or a failed step; its text is one line."""

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        super().__init__("; ".join(part for part in (f"{what}: {why}" if why else what, fix) if part))
        self.what = what
        self.why = why
        self.fix = fix


def reason(error: OSError) -> str:
    """The path and the reason of *error*, in the order of a shell's messages: ``path: reason``."""
    said = error.strerror or str(error)
    return f"{error.filename}: {said}" if error.filename else said
