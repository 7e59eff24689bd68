"""How a subject looks in every figure of a page: a colour by its kind, and a shape of its own.

Nothing is told by colour alone, so that a page says the same in grey, and to a reader who sees fewer
colours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tare.reports.analysis.figures import SubjectFigures
from tare.reports.charts import svg

#: Markers of matplotlib, and the same shape as a character, filled and hollow.
SHAPES = (
    ("o", "●", "○"), ("s", "■", "□"), ("^", "▲", "△"), ("D", "◆", "◇"), ("v", "▼", "▽"), ("*", "★", "☆"),
    ("<", "◀", "◁"), (">", "▶", "▷"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """``colour`` is a placeholder of :mod:`reports.charts.svg`; ``emulated`` subjects have hollow marks."""

    colour: str
    marker: str
    glyph: str
    emulated: bool

    @property
    def face(self) -> str:
        """What its marks are filled with."""
        return svg.PAPER if self.emulated else self.colour


def looks(subjects: Iterable[SubjectFigures]) -> Mapping[str, Look]:
    """Label -> look, by the place among the subjects of the run; shapes begin again after the eighth."""
    found = {}
    for place, subject in enumerate(subjects):
        marker, filled, hollow = SHAPES[place % len(SHAPES)]
        emulated = subject.result_class == "emulated"
        found[subject.label] = Look(
            colour=svg.colour(subject.runner, subject.layers),
            marker=marker,
            glyph=hollow if emulated else filled,
            emulated=emulated,
        )
    return found
