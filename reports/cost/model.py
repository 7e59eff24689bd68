"""What a report says about money, as data. See :mod:`reports.analysis.model` for the whole."""

from __future__ import annotations

from tare.reports.analysis.figures import Part


class CostRow(Part, frozen=True, kw_only=True):
    """What ``n`` instances cost an hour. ``billed`` = ``used`` + ``idle``; ``machines`` are names of the menu."""

    n: int
    needed_bytes: float
    capacity_bytes: float
    machines: tuple[str, ...]
    billed: float
    used: float
    idle: float


class CostArm(Part, frozen=True, kw_only=True):
    """One way to run n instances of the same payload, priced by one book. ``low`` and ``high`` are bytes a margin."""

    subject: str
    title: str
    a: float
    b: float
    b_low: float | None
    b_high: float | None
    rows: tuple[CostRow, ...]
    emulated: bool


class Cost(Part, frozen=True, kw_only=True):
    """One price book applied to both ways. ``breakeven`` is the smallest n from which on the first is cheaper."""

    book: str
    title: str
    dated: str
    currency: str
    source: tuple[str, ...]
    example: str
    arms: tuple[CostArm, ...]
    breakeven: int | None
    breakeven_low: int | None
    breakeven_high: int | None
    sentences: tuple[str, ...]
