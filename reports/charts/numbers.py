"""The numbers behind a figure: which mark shows which number, and whose it is.

An artist of matplotlib carries what is told of it through the drawing as its gid, which the SVG has as ``id``; then
:func:`place` moves it to where a page wants it. A mark gets ``data-row``: its row among all rows of the figure, which
stand once in its ``<metadata>``. What belongs to a subject gets ``data-subject``, and the class ``emulated`` if it is.
A script reads them; without one the figure is what it was.
"""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import msgspec
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from tare.reports import words

_SVG = "{http://www.w3.org/2000/svg}"
#: What matplotlib draws a mark as; a line with markers has both.
_MARKS = (f"{_SVG}use", f"{_SVG}path")

#: A number as it was measured, a word, or nothing.
Value: TypeAlias = float | int | str | None
#: The values of one mark, by the columns of its figure, and last how a reader is told them.
Row: TypeAlias = tuple[Value, ...]


class Told(msgspec.Struct, omit_defaults=True):
    """What is told of an artist: whose it is, empty where what is around it says so; and the rows of its marks.

    Rows that are not *marked* are numbers of the figure, and no mark shows one of them alone.
    """

    subject: str = ""
    emulated: bool = False
    rows: list[list[Value]] = []
    marked: bool = True


def tell(artist: Artist, rows: Iterable[Row], *, marked: bool = True) -> None:
    """The numbers of *artist*: a row for each of its marks, in the order in which they are drawn.

    One shape that stands for many rows is a mark of none, *marked* or not; they are among the numbers of the figure.
    """
    told = _told(artist.get_gid())
    told.rows = [[_finite(value) for value in row] for row in rows]
    told.marked = marked
    _carry(artist, told)


def say(axes: Axes, said: Callable[..., str]) -> None:
    """Add to each row that was told of what is in *axes* how a reader is told it: what *said* makes of its values."""
    for artist in axes.get_children():
        told = _told(artist.get_gid())
        if told.rows:
            told.rows = [[*row, said(*row)] for row in told.rows]
            _carry(artist, told)


def belong(artist: Artist, subject: str, *, emulated: bool) -> None:
    """*artist*, with all that is in it, is about *subject*; about all of a class, if it is empty."""
    told = _told(artist.get_gid())
    told.subject, told.emulated = words.clean(subject), emulated  # as the page has it around the figure
    _carry(artist, told)


@contextmanager
def about(axes: Axes, subject: str, *, emulated: bool) -> Iterator[None]:
    """What is added to *axes* within is about *subject*."""
    before = {id(artist) for artist in axes.get_children()}
    yield
    for artist in axes.get_children():
        if id(artist) not in before:
            belong(artist, subject, emulated=emulated)


def place(root: ET.Element, columns: Sequence[str]) -> None:
    """Move what was told from the ids of a drawing to the attributes of its marks and, if any, to its metadata."""
    subjects: dict[tuple[str, bool], int] = {}
    rows: list[list[Value]] = []
    _place(root, ("", False), subjects, rows)
    if rows:
        box = ET.Element(f"{_SVG}metadata")
        # In ASCII: no character is left that XML forbids, or that ends a line of a script.
        data = {
            "columns": list(columns),
            "subjects": [subject for subject, _ in subjects],
            "emulated": [emulated for _, emulated in subjects],
            "rows": rows,
        }
        box.text = json.dumps(data, separators=(",", ":"), allow_nan=False)
        root.insert(0, box)


def _place(
    element: ET.Element, whose: tuple[str, bool], subjects: dict[tuple[str, bool], int], rows: list[list[Value]]
) -> None:
    told = _told(element.get("id"))
    if told.subject or told.rows or told.emulated:
        del element.attrib["id"]
    if told.subject:
        whose = told.subject, told.emulated
        element.set("data-subject", told.subject)
    if told.emulated:
        element.set("class", "emulated")
    if told.rows:
        inside = list(_drawn(element)) if told.marked else []
        each = ([one for one in inside if one.tag == kind] for kind in _MARKS)
        for place, mark in enumerate(next((some for some in each if len(some) == len(told.rows)), ()), len(rows)):
            mark.set("data-row", str(place))
        number = subjects.setdefault(whose, len(subjects))
        rows += [[number, *row] for row in told.rows]
    for child in element:
        _place(child, whose, subjects, rows)


def _drawn(element: ET.Element) -> Iterator[ET.Element]:
    """*element* and what is in it, but for what is only defined there, to be used elsewhere."""
    yield element
    for child in element:
        if child.tag != f"{_SVG}defs":
            yield from _drawn(child)


def _told(gid: str | None) -> Told:
    return msgspec.json.decode(gid, type=Told) if gid and gid.startswith("{") else Told()


def _carry(artist: Artist, told: Told) -> None:
    artist.set_gid(json.dumps(msgspec.to_builtins(told)))


def _finite(value: Value) -> Value:
    """*value* as JSON can hold it: NumPy's numbers as Python's, what is no number as nothing."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, int):
        value = float(value)
        return value if math.isfinite(value) else None
    return int(value)
