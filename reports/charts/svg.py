"""From a matplotlib figure to SVG that belongs in a page: its text stays text, its colours follow the page's scheme.

Nothing is drawn or computed here. Colours are handed to matplotlib as placeholders (:data:`INK` and the like) and
turned into ``var(--ink)``: a chart then follows light, dark and print by the same CSS as the text around it.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from tare.reports import words
from tare.reports.charts import numbers
from tare.runners.base import Layers
from tare.runners.layers import outermost

#: Placeholder colour -> CSS variable. The page defines the variables, once for each scheme.
PALETTE = {
    "#010101": "--ink",
    "#020202": "--muted",
    "#030303": "--rule",
    "#040404": "--paper",
    "#050505": "--null",
    "#060606": "--process",
    "#070707": "--container",
    "#080808": "--vm",
    "#090909": "--band",
    "#0a0a0a": "--payload",
    "#0b0b0b": "--guest",
    "#0c0c0c": "--helper",
    "#0d0d0d": "--cache",
    "#0e0e0e": "--slab",
    "#0f0f0f": "--tables",
    "#101010": "--stacks",
    "#111111": "--others",
    "#121212": "--rests",
    "#131313": "--sandbox",
}
INK, MUTED, RULE, PAPER, NULL, PROCESS, CONTAINER, VM, BAND, *_PARTS = PALETTE
#: Whose memory it is, in the order in which it is stacked.
PAYLOAD, GUEST, HELPER, CACHE, SLAB, TABLES, STACKS, OTHERS, RESTS, SANDBOX = _PARTS
_OF_LAYER = {"null": NULL, "process": PROCESS, "container": CONTAINER, "sandbox": SANDBOX, "vm": VM}

#: Draws a chart of a width, in points; the name makes its ids its own. Empty where there is nothing to draw.
Draw = Callable[[float, str], str]
_PHONE = 358
#: Sizes of text, in pixels of the page: the smallest that is read with ease, and that of names and of main numbers.
TEXT, STRONG = 13.0, 14.0

#: Parts a text into pieces of another weight or colour: see :func:`pieces`. Invisible, should it ever be shown.
_PIECE = "\N{INVISIBLE SEPARATOR}"
_PIECES = {"strong": "font-weight: bold; fill: var(--ink)", "muted": "fill: var(--muted)"}

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_COLOUR = re.compile("|".join(PALETTE))
_NUMBERS = re.compile("<metadata>.*?</metadata>", re.DOTALL)
_LOCAL = re.compile(r"url\(#([^)]+)\)")


def colour(runner: str, layers: Layers) -> str:
    """The colour of a subject, as a placeholder."""
    return _OF_LAYER.get(outermost(runner, layers), INK)


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """The settings under which figures are made: text as text, no formulas, ids that depend on *name* alone."""
    with mpl.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": name,
            "text.parse_math": False,  # a label may hold a dollar sign
            "axes.formatter.use_mathtext": False,
            "font.family": "DejaVu Sans",  # ships with matplotlib, and is wider than the page's font: nothing will clip
            "font.size": STRONG,
            "hatch.linewidth": 0.8,
            "axes.edgecolor": RULE,
            "text.color": INK,
            "xtick.color": RULE,
            "ytick.color": RULE,
            "xtick.labelcolor": MUTED,
            "ytick.labelcolor": MUTED,
            "axes.labelcolor": MUTED,
            "figure.dpi": 72,  # one point = one unit of the viewBox = one CSS pixel at full width
        }
    ):
        yield


def pieces(*given: tuple[str, str]) -> str:
    """One text of (style, text), each ``strong``, ``muted``, or a placeholder of a colour."""
    return "".join(f"{_PIECE}{style}:{text}" for style, text in given)


def plain(text: str, most: int = 0) -> str:
    """*text* on one line, without control characters, and with at most *most* characters (0: no limit)."""
    line = " ".join(words.clean(text).replace(_PIECE, "").split())
    return f"{line[: most - 1]}…" if 0 < most < len(line) else line


def name_of(label: str, most: int) -> str:
    """*label* with at most *most* characters, cut in its middle: names of a family differ at their ends."""
    line = plain(label)
    if len(line) <= most:
        return line
    tail = (most - 1) // 2
    return f"{line[: most - 1 - tail]}…{line[len(line) - tail :]}"


def render(figure: Figure, *, name: str, title: str, description: str, columns: Sequence[str] = ()) -> str:
    """*figure* as one ``<svg>`` element, to be set into a page as it is. *name* prefixes every id in it.

    *columns* name what was told of its marks: see :mod:`reports.charts.numbers`.
    """
    buffer = io.StringIO()
    FigureCanvasSVG(figure)
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    root = ET.fromstring(buffer.getvalue())
    _drop(root, "metadata", "style")
    numbers.place(root, columns)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    for element in root.iter():
        _rewrite(element, name)
    for element in root.iter():
        _lighten(element)
    root.set("role", "img")
    root.set("class", "plot")
    root.set("aria-labelledby", f"{name}-title {name}-desc")
    for tag, text in (("desc", description), ("title", title)):
        element = ET.Element(f"{{{_SVG}}}{tag}", {"id": f"{name}-{tag}"})
        element.text = plain(text)
        root.insert(0, element)
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    return ET.tostring(root, encoding="unicode")


def _drop(root: ET.Element, *tags: str) -> None:
    unwanted = {f"{{{_SVG}}}{tag}" for tag in tags}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in unwanted:
                parent.remove(child)


def _rewrite(element: ET.Element, name: str) -> None:
    """Prefix ids and what refers to them, turn placeholders into variables, leave the font to the page."""
    if "id" in element.attrib:
        element.set("id", f"{name}-{element.attrib['id']}")
    link = element.attrib.pop(f"{{{_XLINK}}}href", None)
    if link is not None:
        element.set("href", f"#{name}-{link.removeprefix('#')}")
    for attribute, given in list(element.attrib.items()):
        value = _LOCAL.sub(lambda found: f"url(#{name}-{found[1]})", given)
        if attribute in ("style", "fill", "stroke"):
            value = _COLOUR.sub(lambda found: f"var({PALETTE[found[0]]})", value)
        if element.tag == f"{{{_SVG}}}text" and attribute == "style":
            value = _font(value)
        element.set(attribute, value)
    if element.tag == f"{{{_SVG}}}text" and _PIECE in (element.text or ""):
        _, *found = (element.text or "").split(_PIECE)
        element.text = None
        for style, _, text in (piece.partition(":") for piece in found):
            colour = f"fill: var({PALETTE.get(style, '--ink')})"
            ET.SubElement(element, f"{{{_SVG}}}tspan", {"style": _PIECES.get(style, colour)}).text = text


def _lighten(element: ET.Element) -> None:
    """Leave out what says nothing: the indents, and the style of each mark where all beside it have the same."""
    if not (element.text or "").strip():
        element.text = None
    for inner in element:
        if not (inner.tail or "").strip():
            inner.tail = None
    styles = {(inner.tag, inner.attrib.get("style", "")) for inner in element}
    tag, style = next(iter(styles), ("", ""))
    # Opacity is no inherited property: that of a group is another picture.
    if len(styles) == 1 and tag == f"{{{_SVG}}}use" and style and not re.search(r"(^|; )opacity", style):
        for inner in element:
            del inner.attrib["style"]
        element.set("style", style)


def _font(style: str) -> str:
    """Keep size, weight and anchor of a text's style; drop the family: the page's own is inherited."""
    kept = []
    for declaration in filter(None, (part.strip() for part in style.split(";"))):
        key, _, value = declaration.partition(":")
        if key == "font":
            size = re.search(r"[\d.]+px", value)
            weight = re.search(r"\b(bold|[1-9]00)\b", value)
            kept.append(f"font-size: {size[0] if size else f'{STRONG:g}px'}")
            kept += [f"font-weight: {weight[0]}"] if weight else []
        elif key != "font-family":
            kept.append(declaration)
    return "; ".join(kept)


def both(key: str, draw: Draw, wide: float) -> Markup:
    """The chart for a page twice, for a desk and for a phone, since text must not shrink with the picture.

    One of the two is shown, by the width of the window.
    """
    large, small = draw(wide, f"{key}-w"), draw(_PHONE, f"{key}-n")
    if not large:
        return Markup()
    # Where the numbers behind both are the same, and in one order, once is enough.
    found = _NUMBERS.search(large)
    small = small.replace(found[0], "", 1) if found else small
    # Made by :func:`render` alone, which escapes what it is given: see the docstring of reports.page.render.
    chart = '<div class="{}" data-chart="{}">{}</div>'
    return Markup("").join(
        Markup(chart).format(kind, key, Markup(one)) for kind, one in (("wide", large), ("narrow", small))
    )


def two_scales(key: str, logarithmic: Draw, linear: Draw, wide: float) -> Markup:
    """:func:`both` of a figure that was drawn on two scales: a switch, which needs no script, shows one of them."""
    first, second = both(key, logarithmic, wide), both(f"{key}-linear", linear, wide)
    if not first:
        return Markup()
    return Markup(
        '<div class="scales"><p class="switch" role="group" aria-label="Scale of the figure">'
        '<label><input type="radio" name="scale-{key}" class="logarithmic" checked> logarithmic</label> '
        '<label><input type="radio" name="scale-{key}" class="from-zero"> from zero</label></p>'
        '<div class="on-logarithmic">{first}</div><div class="on-linear">{second}</div></div>'
    ).format(key=key, first=first, second=second)
