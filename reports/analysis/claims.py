"""Sentences that the reports of all experiments share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tare.reports import words
from tare.reports.analysis.figures import Compared, SubjectFigures
from tare.reports.analysis.model import Claim


def claim(compared: Compared) -> Claim:
    """A comparison as one sentence in two parts."""
    return Claim(
        lead=compared.lead,
        detail=compared.detail,
        subject=compared.subject,
        verdict=compared.verdict,
        emulated=compared.emulated,
        refused=compared.refused,
    )


def no_answer(subjects: Sequence[SubjectFigures], metric: str) -> Claim | None:
    """What is said where no subject has a figure of *metric*; None where one has."""
    if not subjects or any(subject.figure(metric).median is not None for subject in subjects):
        return None
    detail = words.no_figures({subject.label: subject.figure(metric).why for subject in subjects})
    if all(subject.skipped for subject in subjects):
        detail = "every subject was skipped, so nothing was started"
    refused = next((found for subject in subjects if (found := subject.figure(metric).refused) is not None), None)
    return Claim(lead="No answer", detail=f"{detail}.", subject="", verdict="no figure", refused=refused)


def several_modes(subjects: Iterable[SubjectFigures]) -> Iterator[str]:
    """One sentence for each figure whose values have several modes."""
    for subject in subjects:
        for figure in subject.figures:
            if figure.modes:
                said = words.modes(figure)
                yield f"{subject.label}, {figure.title}: {said} of the values; no value may be near their median"
