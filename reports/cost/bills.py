"""What n instances cost an hour: the memory that they need, priced by a price book. Only memory decides.

Checked wherever it is computed: billed = used + idle. Used is the share of each machine's price that the instances'
memory takes of what the machine has left for them; idle is what is paid and not taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tare.bench.records.header import RunHeader, SubjectRecord
from tare.bench.stats.fit import Line
from tare.bench.stats.verdict import LEAST_CHANGE
from tare.reports import words
from tare.reports.cost.model import Cost, CostArm, CostRow
from tare.reports.cost.prices import Book, Size
from tare.runners import layers

#: Bills are made for 1 to so many instances.
MOST = 50
#: A smaller sum is said to be smaller than this.
_LEAST_MONEY = 1e-6


class BillError(ArithmeticError):
    """A bill whose used and idle parts are not what is billed: a defect of tare, never of the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed(Line):
    """The bytes of host memory that n instances of ``subject`` take; b is above 0.

    ``b_low`` and ``b_high`` are the ends of the 95 % interval of b, None with fewer than three rounds.
    """

    subject: SubjectRecord
    b_low: float | None
    b_high: float | None


def bill(book: Book, machines: Sequence[tuple[Size, int]], need: Line) -> CostRow:
    """The bill of an hour for *machines*, each with so many instances. Raises BillError when it does not."""
    used = idle = needed = capacity = 0.0
    for size, count in machines:
        room, takes = book.capacity_bytes(size), need.at(count)
        share = takes / room
        used += size.price_per_hour * share
        idle += size.price_per_hour * (1 - share)
        needed, capacity = needed + takes, capacity + room
    billed = sum(size.price_per_hour for size, _ in machines)
    if not math.isclose(used + idle, billed, rel_tol=1e-9, abs_tol=1e-12) or idle < -1e-9 * billed:
        raise BillError(f"used {used!r} and idle {idle!r} are not the {billed!r} that are billed")
    return CostRow(
        n=sum(count for _, count in machines),
        needed_bytes=needed,
        capacity_bytes=capacity,
        machines=tuple(size.name for size, _ in machines),
        billed=billed,
        used=used,
        idle=idle,
    )


def packed(book: Book, sizes: Sequence[Size], need: Line, most: int = MOST) -> tuple[CostRow, ...]:
    """For n = 1 to *most* the cheapest machines that hold n; empty where no machine of the menu holds one.

    Every number is solved from the smaller ones (dynamic programming), so no choice is cheaper.
    """
    fits = [(size, need.fits(book.capacity_bytes(size))) for size in sizes]
    fits = [(size, count) for size, count in fits if count > 0]
    if not fits:
        return ()
    best: list[tuple[float, tuple[tuple[Size, int], ...]]] = [(0.0, ())]
    for n in range(1, most + 1):
        candidates = ((best[n - min(n, count)], size, min(n, count)) for size, count in fits)
        (price, rest), size, count = min(
            candidates, key=lambda one: (one[0][0] + one[1].price_per_hour, len(one[0][1]))
        )
        best.append((price + size.price_per_hour, (*rest, (size, count))))
    return tuple(bill(book, machines, need) for _, machines in best[1:])


def breakeven(cheaper: Sequence[CostRow], dearer: Sequence[CostRow]) -> int | None:
    """The smallest n from which on the first is billed less, for every larger n that both have; or None."""
    found = None
    for one, other in reversed(list(zip(cheaper, dearer, strict=False))):
        if not one.billed < other.billed - 1e-12:
            break
        found = one.n
    return found


def costs(header: RunHeader, needs: Sequence[MemoryNeed], books: Sequence[tuple[str, Book]]) -> Iterator[Cost]:
    """One cost model for each book, of the first container and virtual machine that ran the same payload.

    *needs* are those of the subjects of whose memory a claim may be made, in the order of the scenario.
    """
    arms = _arms(header, needs)
    if arms is None:
        return
    for name, book in books:
        cost = _cost(name, book, header, *arms)
        if cost is not None:
            yield cost


def _arms(header: RunHeader, needs: Sequence[MemoryNeed]) -> tuple[MemoryNeed, MemoryNeed] | None:
    by_label = {need.subject.label: need for need in needs}
    pairs = [*header.scenario.pairs, *((container, machine) for container in by_label for machine in by_label)]
    for first, second in pairs:
        one, other = by_label.get(first), by_label.get(second)
        if not (one and other) or one.subject.payload != other.subject.payload:
            continue
        if layers.walled_on_host_kernel(one.subject.layers) and layers.own_kernel(other.subject.layers):
            return one, other
    return None


def _cost(name: str, book: Book, header: RunHeader, one: MemoryNeed, other: MemoryNeed) -> Cost | None:
    sizes = book.machines(header.host.memory_bytes, header.host.cpus)
    arms = [arm for need in (one, other) if (arm := _arm(book, sizes, need))]
    if len(arms) < 2:
        return None
    if book.kind == "menu":
        arms += [arm for arm in [_each(book, sizes, other.subject)] if arm]
    first, second = arms[0], arms[1]
    ends = [
        breakeven(packed(book, sizes, on_one_machine(one, low)), packed(book, sizes, on_one_machine(other, high)))
        for low, high in ((one.b_low, other.b_high), (one.b_high, other.b_low))
        if low is not None and high is not None
    ]
    even = breakeven(first.rows, second.rows)
    return Cost(
        book=name,
        title=book.title,
        dated=book.dated.isoformat(),
        currency=book.currency,
        source=book.source,
        example=book.example,
        arms=tuple(arms),
        breakeven=even,
        breakeven_low=ends[0] if len(ends) == 2 else None,
        breakeven_high=ends[1] if len(ends) == 2 else None,
        sentences=tuple(_sentences(book, sizes, arms, (one, other), even, ends)),
    )


def on_one_machine(line: Line, b: float | None = None) -> Line:
    """What n instances on one machine need; a fixed cost below 0 counts as 0. *b* above 0 replaces that of *line*."""
    return Line(a=max(0.0, line.a), b=line.b if b is None or b <= 0 else b)


def _arm(book: Book, sizes: Sequence[Size], need: MemoryNeed) -> CostArm | None:
    found = packed(book, sizes, on_one_machine(need))
    if not found:
        return None
    return CostArm(
        subject=need.subject.label,
        title=f"{need.subject.label}, packed",
        a=need.a,
        b=need.b,
        b_low=need.b_low,
        b_high=need.b_high,
        rows=found,
        emulated=need.subject.accelerator == "tcg",
    )


def _each(book: Book, sizes: Sequence[Size], subject: SubjectRecord) -> CostArm | None:
    """Each virtual machine rented as one: the smallest of the menu that grants what it was granted."""
    enough = [size for size in sizes if book.capacity_bytes(size) >= subject.memory_bytes]
    if not enough:
        return None
    size = min(enough, key=lambda one: one.price_per_hour)
    granted = Line(a=0.0, b=float(subject.memory_bytes))
    rows = tuple(bill(book, [(size, 1)] * n, granted) for n in range(1, MOST + 1))
    return CostArm(
        subject=subject.label, title="one rented machine each", a=0.0, b=granted.b, b_low=None, b_high=None, rows=rows,
        emulated=False,
    )  # fmt: skip


def _sentences(
    book: Book,
    sizes: Sequence[Size],
    arms: Sequence[CostArm],
    needs: Sequence[MemoryNeed],
    even: int | None,
    ends: list[int | None],
) -> Iterator[str]:
    one, other = arms[0], arms[1]
    n = min(len(one.rows), len(other.rows))
    bills = []
    for arm, need in zip(arms[:2], needs, strict=True):
        bounds = [packed(book, sizes, on_one_machine(need, b)) for b in (need.b_low, need.b_high) if b is not None]
        between = [found[n - 1].billed for found in bounds if len(found) >= n]
        bills.append(
            f"as {arm.subject} {money(arm.rows[n - 1].billed, book.currency)} an hour{_between(between, book)}"
        )
    yield f"{n} instances cost {' and '.join(bills)}, on machines of this price book; only memory decides."
    yield _even(one, other, even, ends, n)
    idle = [f"{idle_percent(arm.rows[n - 1])} % of the bill of {arm.subject}" for arm in (one, other)]
    alone = [f"{idle_percent(arm.rows[0])} % for {arm.subject}" for arm in (one, other)]
    yield f"Idle (paid, not used) are {' and '.join(idle)} at {n} instances; with one instance, {' and '.join(alone)}."
    if book.minimum_s > 0:
        billed = book.billed_seconds(5.0)
        yield f"A machine that runs for 5 s is billed {billed:.0f} s: {100 * (1 - 5.0 / billed):.0f} % of that is idle."


def _even(one: CostArm, other: CostArm, even: int | None, ends: list[int | None], n: int) -> str:
    if even is None:
        same = abs(one.rows[n - 1].billed / other.rows[n - 1].billed - 1) < LEAST_CHANGE
        why = "both need the same machines" if same else "it is not cheaper at the end of the range"
        return f"Up to {n} instances {one.subject} is not cheaper than {other.subject} by this book: {why}."
    known = [str(end) if end is not None else f"more than {n}" for end in ends]
    between = f" (95 % CI {known[0]} to {known[1]})" if len(known) == 2 else ""
    return f"From {words.plural(even, 'instance')} on{between}, {one.subject} is cheaper than {other.subject}."


def money(value: float, currency: str) -> str:
    """``0.16 USD``: three significant digits, never in powers of ten."""
    if 0 < value < _LEAST_MONEY:
        return f"< {_LEAST_MONEY:f} {currency}"
    exponent = int(f"{value:.2e}".partition("e")[2]) if value else 0
    return f"{value:.{max(2, 2 - exponent)}f} {currency}"


def _between(values: list[float], book: Book) -> str:
    if len(values) < 2:
        return ""
    low, high = (money(end, book.currency).removesuffix(f" {book.currency}") for end in (min(values), max(values)))
    return f" (95 % CI {low} to {high})" if low != high else " (the same over its 95 % CI)"


def idle_percent(row: CostRow) -> str:
    """The idle part of a bill; never rounded up to all of it."""
    share = 100 * row.idle / row.billed if row.billed else 0.0
    return f"{share:.0f}" if share < 99 else f"{math.floor(share * 10) / 10:.1f}"
