"""What a comparison of two runs says, as data: ``tare compare --json`` prints a :class:`RunsComparison`."""

from __future__ import annotations

from typing import Literal

from tare.reports.analysis.figures import Compared, Part
from tare.reports.analysis.model import REPORT_SCHEMA, Claim


class Gated(Part, frozen=True, kw_only=True):
    """Whether a metric of a subject got worse by more than the part ``most`` of itself: see :mod:`.gate`."""

    metric: str
    subject: str
    most: float
    result: Literal["worse", "not worse", "not judged"]
    sentence: str


class RunsComparison(Part, frozen=True, kw_only=True):
    """Two runs compared: ``after`` with ``before``, subject by subject, unpaired.

    ``lead`` is the answer in one sentence, ``metric`` the one that it is about. ``gated`` has a row for each bound that
    the user gave and each subject.
    """

    schema: int = REPORT_SCHEMA
    before: str
    after: str
    answer: tuple[Claim, ...]
    comparisons: tuple[Compared, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    differs: tuple[str, ...]
    warnings: tuple[str, ...]
    name: str = ""
    question: str = ""
    metric: str = ""
    lead: str = ""
    grounds: str = ""
    gated: tuple[Gated, ...] = ()
