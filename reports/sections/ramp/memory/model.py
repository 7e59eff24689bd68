"""What a report says about memory, as data. See :mod:`reports.analysis.model` for the whole.

Bytes are floats, medians over rounds; ``low`` and ``high`` are 95 % bootstrap intervals over rounds, None with fewer
than three of them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from tare.bench.records.metrics import Metric
from tare.bench.records.rows import Serves
from tare.reports.analysis.figures import Refused
from tare.runners.base import Layers

#: Two metrics of a ramp are not read but fitted: one value a round (docs/explanation/method.md).
MARGIN = Metric(
    name="margin_bytes",
    unit="bytes",
    title="marginal cost",
    meaning="host memory that one more instance takes: the b of the line a + b × n through the readings above one",
    most=2.0**46,
)
FIRST = Metric(
    name="first_bytes",
    unit="bytes",
    title="the first",
    meaning="host memory that the first instance takes",
    most=2.0**46,
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all rows: frozen, by keyword."""


class ProgramMemory(Row, frozen=True, kw_only=True):
    """The anonymous memory of one program. ``serves``: it serves all instances (:data:`bench.records.rows.Serves`)."""

    role: str
    serves: Serves
    bytes: float


class LedgerRow(Row, frozen=True, kw_only=True):
    """The ledger of one subject at ``n`` instances: ``host_change_bytes`` = the sum of ``parts`` + ``residual_bytes``.

    All are changes against the reading before the first instance of the same ramp. ``parts`` are the medians of each
    part over rounds, so the residual is what the medians leave; its interval resamples rounds and does the same sum.
    ``allowed_bytes`` is the largest residual that balances; ``rounds_balanced`` of ``rounds`` balance on their own.
    ``available_change_bytes`` is what MemAvailable lost: another counter, not a part. ``guest_ram_bytes`` is guest
    memory that lies within the parts, where there is any. ``programs`` are those parts that are anonymous memory of
    programs which run instances. ``round_residual_bytes`` and ``round_residual_fraction`` have
    one entry a round; ``rounds_within`` counts those whose residual is at most ``within_fraction`` of their change.
    """

    subject: str
    n: int
    host_change_bytes: float
    host_change_low: float | None
    host_change_high: float | None
    parts: dict[str, float]
    residual_bytes: float
    residual_low: float | None
    residual_high: float | None
    residual_fraction: float
    residual_fraction_low: float | None
    residual_fraction_high: float | None
    allowed_bytes: float
    balanced: bool
    rounds_balanced: int
    rounds: int
    round_residual_bytes: tuple[float, ...]
    round_residual_fraction: tuple[float, ...]
    within_fraction: float
    rounds_within: int
    available_change_bytes: float
    programs: tuple[ProgramMemory, ...] = ()
    guest_ram_bytes: float = 0.0
    why: str = ""
    others_bytes: float = 0.0
    refused: Refused | None = None


class CounterLine(Row, frozen=True, kw_only=True):
    """``a + b * n`` of one counter of one subject. ``a`` is the fixed cost, ``b`` the marginal cost.

    ``straight`` is None where it could not be tested, ``why`` says why. ``first_segment`` is the margin from the
    smallest number above 1 to ``split``, ``last_segment`` that from there to the largest; ``split`` is about a fifth.
    """

    subject: str
    counter: str
    title: str
    a: float
    a_low: float | None
    a_high: float | None
    b: float
    b_low: float | None
    b_high: float | None
    bend: float | None
    straight: bool | None
    first_segment: float
    last_segment: float
    split: int
    numbers: tuple[int, ...]
    rounds: int
    why: str = ""


class Step(Row, frozen=True, kw_only=True):
    """Of a subject whose machines take ``places`` instances: what one more takes of the host, by where it is.

    ``margin_bytes``: while its machine has room; ``step_bytes``: the first one of a further machine, with that machine.
    """

    subject: str
    places: int
    rounds: int
    emulated: bool
    margin_bytes: float
    margin_low: float | None
    margin_high: float | None
    step_bytes: float
    step_low: float | None
    step_high: float | None


class GivenBack(Row, frozen=True, kw_only=True):
    """What came back once all ``n`` instances were removed, as a fraction of what they had taken."""

    subject: str
    n: int
    taken_bytes: float
    left_bytes: float
    fraction: float
    low: float | None
    high: float | None
    teardown_seconds: float | None
    rounds: int


class Released(Row, frozen=True, kw_only=True):
    """Memory that the payload touched while it lives: how much of it did the host get back, and how?

    The payload unmapped it, freed it ``lazily``, or ``kept`` it (``freed``); the host asked for ``reclaim_bytes`` by
    ``reclaims``, or did not (0); a virtual machine has a ``balloon`` (its option; empty for others).
    ``touched_bytes`` and ``released_bytes`` are host changes for one instance at ``n``, above those of the ``plain``
    subject where there is one; ``partly_unmapped_bytes`` of the latter lie in huge pages of which a part was given
    back. ``fraction`` is None where touching did not show.
    """

    touched: str
    released: str
    plain: str
    freed: Literal["unmapped", "lazily", "kept"]
    reclaim_bytes: int
    reclaims: str
    balloon: str
    partly_unmapped_bytes: float
    n: int
    asked_bytes: int
    touched_bytes: float
    released_bytes: float
    fraction: float | None
    low: float | None
    high: float | None
    rounds: int
    emulated: bool


class Owner(Row, frozen=True, kw_only=True):
    """One owner of memory of one instance. ``place``: within the walls (``guest``: there, and a guest's kernel's), in
    user space outside, or the host's kernel. ``share`` is its part of what all owners have that have any.
    """

    name: str
    place: Literal["inside", "guest", "runtime", "kernel", "unknown"]
    bytes: float
    text: str = ""
    share: float = 0.0


class MemoryLayers(Row, frozen=True, kw_only=True):
    """Who owns which bytes of one instance: the ledger at ``n`` instances divided by n."""

    subject: str
    kind: str
    layers: Layers
    n: int
    total_bytes: float
    kernels: int
    owners: tuple[Owner, ...]
    emulated: bool


class Inside(Row, frozen=True, kw_only=True):
    """What the payload of one subject sees of memory from within, in its own ``/proc/meminfo`` (medians).

    ``host_view`` says that ``total_bytes`` is the host's own: the walls hide no memory. ``kept_bytes`` = grant - total
    is what a guest's kernel has taken before anything runs; None where its grant is not a guest's memory.
    ``margin_bytes`` is what one more container takes of the machine that they share, by the account of the machine's
    kernel; None where there is none, or too few were read. ``whose`` memory it sees: the host's, that of its own guest,
    that of a machine which several share, or something else. ``sentence`` says it.
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
    whose: Literal["host", "guest", "machine", "own"] = "own"
    margin_bytes: float | None = None


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
