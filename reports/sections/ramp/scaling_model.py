"""What a report says of the way up, as data: curves, margins part by part, the view from inside, the cost of reading.

See :mod:`reports.analysis.model` for the whole, and memory_model.py beside this for the account. Bytes are floats.
"""

from __future__ import annotations

from typing import Literal

from tare.reports.sections.ramp.memory.model import Row
from tare.runners.base import Layers


class Inside(Row, frozen=True, kw_only=True):
    """What the payload of one subject sees of memory from within, in its own ``/proc/meminfo`` (medians).

    ``host_view`` says that ``total_bytes`` is the host's own: the walls hide no memory. ``kept_bytes`` = grant - total
    is what a guest's kernel has taken before anything runs; None where there is no guest. ``sentence`` says it.
    """

    subject: str
    kind: str
    layers: Layers
    n: int
    grant_bytes: int
    host_view: bool
    total_bytes: float
    kept_bytes: float | None
    free_bytes: float
    available_bytes: float
    cached_bytes: float
    slab_bytes: float
    page_tables_bytes: float
    kernel_stack_bytes: float
    anon_bytes: float
    percpu_bytes: float
    instances: int
    rounds: int
    sentence: str
    emulated: bool


class CurvePoint(Row, frozen=True, kw_only=True):
    """One point of a curve: the median of ``readings`` values, the least and the most of them."""

    n: int
    value: float
    least: float
    most: float
    readings: int


class Curve(Row, frozen=True, kw_only=True):
    """One quantity of one subject against the number alive.

    Starts (``ready_seconds``) are put together from one count to the next. ``knee`` is the first number from which on
    the curve has left what it was up to a fifth of the largest, for good; None while it has not. ``why`` says by what.
    """

    subject: str
    metric: str
    title: str
    unit: str
    points: tuple[CurvePoint, ...]
    knee: int | None
    why: str


class DescentPoint(Row, frozen=True, kw_only=True):
    """With ``n`` left on the way down ``down_bytes`` of the host were not free, on the way up it was ``up_bytes``.

    The ``removed`` instances between the number above and this one took ``removal_seconds``, several at a time, which
    is ``each_seconds`` for each; None at the top. Waiting for memory to settle is not in them.
    """

    n: int
    up_bytes: float
    down_bytes: float
    removed: int = 0
    removal_seconds: float | None = None
    each_seconds: float | None = None


class Descent(Row, frozen=True, kw_only=True):
    """The way down of one subject, medians over ``rounds``, from ``reached`` to none. ``seconds`` is removal alone.

    Where its account is not ``balanced``, ``sentence`` claims nothing of its memory.
    """

    subject: str
    rounds: int
    reached: int
    seconds: float
    balanced: bool
    points: tuple[DescentPoint, ...]
    sentence: str


class Margin(Row, frozen=True, kw_only=True):
    """What one more instance took between ``start`` and ``end`` alive, part by part, in bytes an instance.

    ``margin_bytes`` = the sum of ``parts`` + ``residual_bytes``, medians over rounds. ``own_bytes`` leaves the memory
    of other processes out, ``kept_bytes`` page cache, too; ``guest_ram_bytes`` lies within the parts. Counts are put
    together until what lies between can be seen.
    """

    subject: str
    start: int
    end: int
    margin_bytes: float
    own_bytes: float
    kept_bytes: float
    parts: dict[str, float]
    residual_bytes: float
    guest_ram_bytes: float
    rounds: int


class Moved(Row, frozen=True, kw_only=True):
    """One part of the margin before and after the split; ``share`` of the whole change, None where there is none."""

    part: str
    title: str
    early_bytes: float
    late_bytes: float
    share: float | None


class Constancy(Row, frozen=True, kw_only=True):
    """Does one more cost the same from the first to the last? ``early`` is the margin up to ``split``, ``late`` beyond.

    Both leave page cache and the memory of other processes out. ``verdict``: ``same`` where the change is below 5 %,
    and more would have been seen; ``changes`` where it is not, and passes ``unseen_fraction``, the least that can be
    seen; else ``not seen``. ``moved`` has the parts and the residual, sorted by how much each changes. ``consists``,
    ``stays``, ``why`` and ``first`` say it in sentences; ``why`` is empty where nothing changes, ``first`` where one
    alone was not read. ``rule`` is how the kernel brings such a change about; several subjects may have the same.
    """

    subject: str
    start: int
    split: int
    end: int
    early_bytes: float
    late_bytes: float
    change_fraction: float | None
    unseen_fraction: float | None
    verdict: Literal["same", "changes", "not seen"]
    moved: tuple[Moved, ...]
    consists: str
    stays: str
    why: str
    first: str
    rule: str
    emulated: bool


class Sampling(Row, frozen=True, kw_only=True):
    """What reading itself cost in one subject's ramps.

    ``seconds`` and ``bytes`` are medians over rounds at ``n``. ``fraction`` is the median over all readings of what one
    left behind, as a part of what the instances had taken by then; ``least`` and ``most`` are its ends.
    """

    subject: str
    n: int
    readings: int
    seconds: float
    bytes: float
    fraction: float | None
    least: float | None
    most: float | None
    sentence: str
