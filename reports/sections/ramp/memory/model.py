"""What a report says about memory and density, as data. See :mod:`reports.analysis.model` for the whole.

Bytes are floats, medians over rounds; ``low`` and ``high`` are 95 % bootstrap intervals over rounds, None with fewer
than three of them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from tare.runners.base import Layers


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all rows: frozen, by keyword."""


class LedgerRow(Row, frozen=True, kw_only=True):
    """The account of one subject at ``n`` instances: ``host_change_bytes`` = the sum of ``parts`` + ``residual_bytes``.

    All are changes against the reading before the first instance of the same ramp. ``parts`` are the medians of each
    part over rounds, so the residual is what the medians leave; its interval resamples rounds and does the same sum.
    ``allowed_bytes`` is the largest residual that balances; ``rounds_balanced`` of ``rounds`` balance on their own.
    ``available_change_bytes`` is what MemAvailable lost: another counter, not a part. ``guest_ram_bytes`` is guest
    memory that lies within the parts, where there is any. ``round_residual_bytes`` and ``round_residual_fraction`` have
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
    guest_ram_bytes: float = 0.0
    why: str = ""


class CounterLine(Row, frozen=True, kw_only=True):
    """``a + b * n`` of one counter of one subject. ``a`` is what the first brings along, ``b`` the margin of one more.

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
    user space outside, or the host's kernel.
    """

    name: str
    place: Literal["inside", "guest", "runtime", "kernel", "unknown"]
    bytes: float
    text: str = ""


class MemoryLayers(Row, frozen=True, kw_only=True):
    """Who owns which bytes of one instance: the account at ``n`` instances divided by n."""

    subject: str
    kind: str
    layers: Layers
    n: int
    total_bytes: float
    kernels: int
    owners: tuple[Owner, ...]
    emulated: bool


class DensityRow(Row, frozen=True, kw_only=True):
    """Prediction and what was reached.

    ``predicted`` is the smaller of ``memory_instances`` (until memory would be short) and ``cpu_instances`` (until the
    processors' floor would be passed, by processor time in the windows), ``bound`` says whose it is; each is None, and
    its ``why`` says why, where it cannot be predicted. ``cpu_margin`` is in processors an instance.

    ``compared`` says what ``error_fraction`` = (reached - predicted) / predicted is about. ``instances``: a rule on
    memory or on processors ended the ramp; processors count on the predicted side only where a floor guards them,
    else memory's number alone was put to the test. ``bytes`` at ``reached`` instances: another rule ended it before.
    The processors' floor is looked at where the counts are read: it held at ``held``, and was passed at ``reached``. So
    the most that fit are from ``held`` to ``reached`` - 1; the error is 0 for a prediction among these, else that
    against the nearer end. ``held`` is None where another rule ended the ramp.

    ``readings`` and ``cpu_readings`` are the numbers that the lines rest on. ``reached_bytes`` is what the instances
    took of MemAvailable, without the ``others_bytes`` that other processes of the host took meanwhile; ``cpu_others``
    is how many processors these used at the last reading, more than before the first instance.
    """

    subject: str
    round: int
    predicted: int | None
    predicted_low: int | None
    predicted_high: int | None
    bound: Literal["memory", "processors"] | None
    memory_instances: int | None
    memory_low: int | None
    memory_high: int | None
    cpu_instances: int | None
    cpu_low: int | None
    cpu_high: int | None
    cpu_margin: float | None
    cpu_others: float | None
    cpu_readings: tuple[int, ...]
    cpu_why: str
    reached: int
    held: int | None
    lost: int
    stopped_by: str
    rule: str
    compared: Literal["instances", "bytes", "nothing"]
    error_fraction: float | None
    predicted_bytes: float | None
    predicted_bytes_low: float | None
    predicted_bytes_high: float | None
    reached_bytes: float
    others_bytes: float
    margin_bytes: float | None
    first_bytes: float | None
    readings: tuple[int, ...]
    knee: int | None
    teardown_seconds: float | None
    given_back_fraction: float | None
    why: str = ""


class Capacity(Row, frozen=True, kw_only=True):
    """What a host of another size would hold, by the lines of one ramp: an extrapolation.

    ``floor_percent`` of its memory must stay available and ``cpu_floor_percent`` of its processor time idle.
    ``instances`` is the smaller of what memory and processors allow and ``bound`` says whose it is. ``why`` says what
    is not known of the other, or of both.
    """

    subject: str
    round: int
    ram_bytes: int
    processors: int
    floor_percent: float
    cpu_floor_percent: float
    instances: int | None
    low: int | None
    high: int | None
    bound: Literal["memory", "processors"] | None
    why: str
