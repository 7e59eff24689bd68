"""Reading decoded JSON so that no key is missed: what nobody takes is refused by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, cast

_T = TypeVar("_T")
SEE = "see config.md of the OCI specification"
NOT_YET = "remove it; this runtime does not do that yet (crun and runc do)"


class BundleError(ValueError):
    """A configuration that cannot be run as it stands: *where* in it, *why*, and the *fix*."""

    def __init__(self, where: str, why: str, fix: str = NOT_YET) -> None:
        super().__init__(f"{where}: {why}; {fix}")
        self.where = where
        self.why = why
        self.fix = fix


class Reader:
    """Takes keys out of one JSON object; :meth:`done` refuses what nobody took."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, Mapping):
            raise BundleError(where or "config.json", "must be an object", SEE)
        self._left = dict(cast("Mapping[str, object]", value))
        self.where = where

    def at(self, key: str) -> str:
        """The path of *key* in the file."""
        return f"{self.where}.{key}" if self.where else key

    def take(self, key: str, kind: type[_T], default: _T | None = None) -> _T:
        """The value of *key*, which must be of *kind*. Raises BundleError."""
        value = self._left.pop(key, default)
        # JSON's true is not a number, though Python's is.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            what = "is missing" if value is None else f"must be of type {kind.__name__}"
            raise BundleError(self.at(key), what, SEE)
        return value

    def below(self, key: str, default: object = None) -> Reader:
        """The object at *key*."""
        return Reader(self._left.pop(key, default), self.at(key))

    def texts(self, key: str) -> tuple[str, ...]:
        """The list of texts at *key*; empty when there is none."""
        values: list[object] = self.take(key, list, [])
        if not all(isinstance(value, str) and "\0" not in value for value in values):
            raise BundleError(self.at(key), "must be a list of texts", SEE)
        return tuple(cast("list[str]", values))

    def done(self) -> None:
        """Refuse by its name what nobody took and what is not empty."""
        for key, value in self._left.items():
            if value not in (None, False, "", [], {}):
                raise BundleError(self.at(key), "is not supported")
