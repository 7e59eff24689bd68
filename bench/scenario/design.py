"""What a scenario asks of its experiment before anything starts: the half of the protocol that a file needs.

The other half, what is done to a subject, is :class:`bench.experiments.base.Experiment`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table of a scenario file: a key that it does not know is an error."""


class Design(Protocol):
    """How an experiment is asked for in a scenario, and what it makes of that.

    ``table`` is the name of its own TOML table, empty where it has none, and ``table_type`` the type of it;
    ``keys_type`` has the keys that a subject may have for it alone, each of them optional. ``own_type`` is what
    :meth:`own` returns, None where that is None. ``exclusive`` are keys of
    either that are refused in a scenario of an experiment that does not know them: one might believe in them there.
    ``precise`` is the metric to which a wanted precision applies, empty where there is none.
    With ``adds_process`` the bare process is a subject where the file names none. With ``tells_memory`` the payload
    says what it sees of memory, which takes time, and memory. With ``keeps`` instances must go on once they are ready.
    """

    name: str
    table: str = ""
    table_type: type[Table] = Table
    keys_type: type[Table] = Table
    own_type: type[msgspec.Struct] | None = None
    exclusive: frozenset[str] = frozenset()
    precise: str = ""
    adds_process: bool = True
    tells_memory: bool = False
    keeps: bool = False

    def check(self, table: Any) -> None:
        """Judge *table*, a ``table_type``, as a whole. Raises Refusal."""
        return

    def own(self, table: Any, keys: Any, memory_bytes: int) -> msgspec.Struct | None:
        """What a subject with *keys* (a ``keys_type``) and this grant is given besides; None for nothing.

        It stands in the record of the run (:attr:`bench.records.resolved.Subject.own`). Raises Refusal.
        """
        return None


class Refusal(ValueError):  # noqa: N818 - becomes a UsageError that names the file
    """A scenario contradicts itself: why, and what would be right."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.why = why
        self.fix = fix


#: The experiments that a file may name.
Designs = Mapping[str, Design]
