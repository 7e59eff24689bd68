"""One chart twice, for a desk and for a phone: text must not shrink with the picture."""

from __future__ import annotations

from collections.abc import Callable

from markupsafe import Markup

#: Draws a chart of a width, in points; the name makes its ids its own. Empty where there is nothing to draw.
Draw = Callable[[float, str], str]

_PHONE = 358


def both(key: str, draw: Draw, wide: float) -> Markup:
    """The chart for a page: one of the two is shown, by the width of the window."""
    large, small = draw(wide, f"{key}-w"), draw(_PHONE, f"{key}-n")
    if not large:
        return Markup()
    # From reports.charts.svg alone, which escapes what it is given: see the docstring of reports.page.render.
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(Markup(large), Markup(small))
