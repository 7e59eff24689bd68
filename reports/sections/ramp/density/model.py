"""What a report says about how many fit, and what the host is like meanwhile, as data. Bytes are floats."""

from __future__ import annotations

from typing import Literal

from tare.reports.analysis.figures import Refused
from tare.reports.sections.ramp.memory.model import Row


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

    Where ``places`` > 1 instances share a machine, what is taken rises by steps. Then the lines rest on readings with
    full machines, ``predicted`` is a number of full machines, and memory is compared at one such alone.
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
    refused: Refused | None = None
    places: int = 1


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


class CurvePoint(Row, frozen=True, kw_only=True):
    """One point of a curve: the median of ``readings`` values, the least and the most of them."""

    n: int
    value: float
    least: float
    most: float
    readings: int


class Curve(Row, frozen=True, kw_only=True):
    """One quantity of one subject against the count.

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
    """With ``n`` left on the scale-down ``down_bytes`` of the host were not free, on the scale-up it was ``up_bytes``.

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
    """The scale-down of one subject, medians over ``rounds``, from ``reached`` to none. ``seconds`` is removal alone.

    Where its ledger is not ``balanced``, ``sentence`` claims nothing of its memory.
    """

    subject: str
    rounds: int
    reached: int
    seconds: float
    balanced: bool
    points: tuple[DescentPoint, ...]
    sentence: str
