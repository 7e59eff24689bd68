"""What an instance that is a test's own has to have, and is not asked for."""

from __future__ import annotations

from collections.abc import Sequence

from tare.runners.base import Address


class Still:
    """It has no port, takes no command, and does not end."""

    def reclaim(self, size_bytes: int) -> None:
        raise AssertionError("nobody asked for memory")

    def address(self) -> Address:
        raise AssertionError("nobody asked for a port")

    def command(self, argv: Sequence[str]) -> Sequence[str]:
        raise AssertionError("nobody asked for a command")

    def status(self) -> int | None:
        return None
