"""Two runs, compared -> one offline HTML file: the changes on one scale, every figure, and what else differs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tare.reports import words
from tare.reports.analysis.figures import Compared
from tare.reports.analysis.several.model import RunsComparison
from tare.reports.page.render import environment

#: The scale reaches at least so far to either side: a change of a few per cent must not look large.
_LEAST_REACH = 1.25
#: An interval that is wider ends at the edge.
_MOST_REACH = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A subject's change, and where its marks stand: per cent of the width, None where there is none."""

    of: Compared
    called: bool
    point: float | None
    low: float | None
    high: float | None


def page(comparison: RunsComparison) -> str:
    """The whole page."""
    known = sorted(comparison.comparisons, key=lambda one: one.emulated)
    main = [one for one in known if one.metric == comparison.metric]
    reach = _reach(main)
    thresholds = [one.threshold for one in main if one.threshold is not None]
    band = 100 * math.log1p(min(thresholds, default=0.0)) / math.log(reach)
    groups: dict[str, list[Compared]] = {}
    for one in known:
        groups.setdefault(one.metric, []).append(one)
    text = (
        environment()
        .get_template("several/comparison.html")
        .render(
            comparison=comparison,
            main=main[0] if main else None,
            rows=[_row(one, reach) for one in main],
            metrics=sorted(groups.items(), key=lambda group: group[0] != comparison.metric),
            one=50,
            band=round(band, 2),
            band_at=50,  # of what is left beside it: its middle is in the middle
            least=1 / reach,
            most=reach,
            emulated_mark=words.EMULATED,
        )
    )
    return words.clean(text)


def _reach(main: Sequence[Compared]) -> float:
    """The factor at either end of the scale."""
    ends = [end for one in main for end in (one.ratio, one.low, one.high) if end is not None and end > 0]
    far = max((max(end, 1 / end) for end in ends), default=1.0)
    return min(_MOST_REACH, max(_LEAST_REACH, far * 1.05))


def _row(one: Compared, reach: float) -> Row:
    def place(ratio: float | None) -> float | None:
        if ratio is None or ratio <= 0:
            return None
        return round(min(100.0, max(0.0, 50 + 50 * math.log(ratio) / math.log(reach))), 2)

    low, high = place(one.low), place(one.high)
    whole = low is not None and high is not None
    return Row(
        of=one,
        called=one.verdict in ("lower", "higher"),
        point=place(one.ratio),
        low=low if whole else None,
        high=high if whole else None,
    )
