"""The same thing by other definitions: one quantity of one subject has as many numbers as there are ways to count it.

A report uses one of them throughout. The others stand behind a fold, so that a reader who comes with a number from
elsewhere finds which one it is; what this run did not measure is named, with the command that measures it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from tare.reports.analysis.figures import Figure
from tare.reports.analysis.model import Counted, Definition, OneQuantity


def counted(subject: str, figure: Figure) -> Counted:
    """The figure as a number of a definition."""
    return Counted(subject=subject, value=figure.median, low=figure.low, high=figure.high)


def quantity(name: str, unit: str, definitions: Iterable[Definition]) -> tuple[OneQuantity, ...]:
    """*definitions* of one quantity, each number with its share of the largest that its subject has.

    A definition without any number, and without a command that would measure it, is left out; where none has a number,
    there is nothing to show.
    """
    kept = [one for one in definitions if one.numbers or one.command]
    most: dict[str, float] = {}
    for number in (number for one in kept for number in one.numbers):
        most[number.subject] = max(most.get(number.subject, 0.0), number.value or 0.0)
    shared = (replace(one, numbers=tuple(_shared(one.numbers, most))) for one in kept)
    return (OneQuantity(quantity=name, unit=unit, definitions=tuple(shared)),) if most else ()


def _shared(numbers: Sequence[Counted], most: Mapping[str, float]) -> Iterable[Counted]:
    for number in numbers:
        whole, value = most[number.subject], number.value or 0.0
        yield replace(number, share=max(0.0, value) / whole if whole > 0 else 0.0)
