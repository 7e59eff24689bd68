"""Reads decoded JSON so that no key is missed: a key that no code takes becomes a warning.

A runtime must not fail on properties that it does not know (OCI config.md, "Extensibility"). All readers of one
configuration share one list of warnings, so that each warning appears once.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _T = TypeVar("_T")

SEE = "see config.md of the OCI specification"
#: Python's types -> how JSON's are called in messages.
_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number with a fraction or an exponent",
    bool: "true or false",
}
NOT_YET = "remove it; this runtime does not do that yet (crun and runc do)"


class BundleError(ValueError):
    """A configuration that cannot be run as it stands: *where* in it, *why*, and the *fix*."""

    def __init__(self, where: str, why: str, fix: str = NOT_YET) -> None:
        super().__init__(f"{where}: {why}; {fix}")
        self.where = where
        self.why = why
        self.fix = fix


class Reader:
    """Takes keys out of one JSON object; :meth:`done` warns of the others. *warnings* gets a line for each."""

    def __init__(self, value: object, where: str, warnings: list[str] | None = None) -> None:
        if not isinstance(value, dict):
            raise BundleError(where or "config.json", f"must be an object, not {_kind(value)}", SEE)
        self._left: dict[str, object] = dict(value)
        self.where = where
        self.warnings: list[str] = [] if warnings is None else warnings

    def at(self, key: str) -> str:
        """The path of *key* in the file."""
        return f"{self.where}.{key}" if self.where else key

    def take(self, key: str, kind: type[_T], default: _T | None = None) -> _T:
        """The value of *key*, which must be of *kind*; null counts as absent. Raises BundleError."""
        value = self._left.pop(key, None)
        if value is None:
            value = default
        # JSON's true is not a number, though Python's is.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            what = "is missing" if value is None else f"must be {_KINDS[kind]}, not {_kind(value)}"
            raise BundleError(self.at(key), what, SEE)
        if kind is str and "\0" in value:  # type: ignore[operator]  # mypy does not see that it is a text
            raise BundleError(self.at(key), "holds a zero byte, which ends a text in the kernel's calls", "take it out")
        return value

    def ignore(self, key: str) -> None:
        """Take *key*, whatever its value."""
        self._left.pop(key, None)

    def left(self) -> tuple[str, ...]:
        """The keys that are not taken yet."""
        return tuple(self._left)

    def lacks(self, key: str) -> bool:
        """Whether *key* is absent or null."""
        return self._left.get(key) is None

    def empty(self, key: str) -> bool:
        """Whether *key* is absent, null or an object without keys."""
        return not self._left.get(key)

    def below(self, key: str, default: object = None) -> Reader:
        """The object at *key*; null counts as absent."""
        value = self._left.pop(key, None)
        return Reader(default if value is None else value, self.at(key), self.warnings)

    def each(self, key: str) -> list[Reader]:
        """The objects in the list at *key*; empty when there is none."""
        values: list[object] = self.take(key, list, [])
        return [Reader(value, f"{self.at(key)}[{i}]", self.warnings) for i, value in enumerate(values)]

    def texts(self, key: str) -> tuple[str, ...]:
        """The list of texts at *key*; empty when there is none."""
        values: list[object] = self.take(key, list, [])
        for i, value in enumerate(values):
            if not isinstance(value, str) or "\0" in value:
                what = "a text without zero bytes" if isinstance(value, str) else f"a text, not {_kind(value)}"
                raise BundleError(f"{self.at(key)}[{i}]", f"must be {what}", SEE)
        return tuple(values)  # type: ignore[arg-type]  # checked one by one above

    def pairs(self, key: str, *, null: str | None = None) -> dict[str, str]:
        """The object of texts at *key*; empty when there is none. A null in it is *null*, if that is a text."""
        values: dict[str, object] = self.take(key, dict, {})
        values = {name: null if value is None else value for name, value in values.items()}
        for name, value in values.items():
            if not name or not isinstance(value, str):
                what = f"must be a text, not {_kind(value)}" if name else "must have a name"
                raise BundleError(f"{self.at(key)}.{name}", what, SEE)
        return {name: str(value) for name, value in values.items()}

    def warn(self, key: str, why: str) -> None:
        """Add a warning that *key* is not in force, and why. The same warning is added only once."""
        line = f"{self.at(key)}: {why}"
        if line not in self.warnings:
            self.warnings.append(line)

    def done(self) -> None:
        """Warn of each key that was not taken and is not empty."""
        for key, value in self._left.items():
            if value not in (None, False, "", [], {}):
                self.warn(key, "is not known here and is ignored")


def _kind(value: object) -> str:
    """The type of *value*, for a message."""
    return "null" if value is None else _KINDS[type(value)]
