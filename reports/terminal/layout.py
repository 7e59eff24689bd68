"""Lines for a terminal of any width: no number and no word is cut, and what is wide stands at the end of a line.

A table that is too wide for its terminal puts the name of each row on a line of its own, above its figures; where the
figures alone are too wide, the table is turned: a line for each figure. Where there is no terminal, no line is broken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions
from rich.text import Text

from tare.reports import words

#: Between two columns, and before what belongs to the line above.
GAP = 2
#: Prose beside a name is not set narrower than this.
_LEAST_PROSE = 24


@dataclass(frozen=True, slots=True)
class Lines:
    """Finished lines: rich neither folds nor cuts them."""

    lines: Sequence[Text]

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> Iterator[Text]:
        for line in self.lines:
            line.no_wrap, line.overflow = True, "ignore"
            yield line


def wrap(text: Text, width: int, first: str = "", rest: str = "") -> Iterator[Text]:
    """*text* in lines of *width* cells, broken between words, but for a number and its unit; a longer word stays whole.

    *first* stands before the first line, *rest* before all others.
    """
    lead = first
    for paragraph in text.split("\n", allow_blank=True):
        start = end = 0
        for word in re.finditer(r"[^ ]+", words.together(paragraph.plain)):
            if end > start and Text(lead).cell_len + paragraph[start : word.end()].cell_len > width:
                yield Text(lead) + paragraph[start:end]
                lead, start = rest, word.start()
            end = word.end()
        yield Text(lead) + paragraph[start:end]
        lead = rest


def listed(items: Iterable[Text], width: int) -> Iterator[Text]:
    """Each of *items* after a bullet."""
    for item in items:
        yield from wrap(item, width, "• ", "  ")


def named(rows: Iterable[tuple[Text, Text]], width: int) -> Iterator[Text]:
    """A name and its text beside it; below it, where the terminal is narrow."""
    known = list(rows)
    column = max((name.cell_len for name, _ in known), default=0) + GAP
    for name, text in known:
        if column + _LEAST_PROSE > width:
            yield name
            yield from wrap(text, width, " " * GAP, " " * GAP)
            continue
        first, *others = wrap(text, width - column)
        yield Text() + name + Text(" " * (column - name.cell_len)) + first
        yield from (Text(" " * column) + line for line in others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under *titles*; a Text in place of a row stands alone on its line. The first column names the row.

    Columns are set to the right but for the first and those named in *left*. With *open_end* the last one, a path, may
    leave the terminal: it is never broken.
    """

    titles: Sequence[str]
    rows: Sequence[Sequence[Text] | Text]
    left: tuple[int, ...] = ()
    open_end: bool = False

    def lines(self, width: int) -> Iterator[Text]:
        """The table in at most *width* cells, if no single figure with its title is wider."""
        cells = [row for row in self.rows if not isinstance(row, Text)]
        widths = [max([len(title), *(row[place].cell_len for row in cells)]) for place, title in enumerate(self.titles)]
        if self.open_end:
            widths[-1] = len(self.titles[-1])
        figures = sum(widths[1:]) + GAP * (len(widths) - 2)
        if widths[0] + GAP + figures <= width:
            yield from self._side_by_side(widths, figures + GAP + widths[0])
        elif GAP + figures <= width:
            yield from self._name_above(widths, GAP + figures)
        else:
            yield from self._turned(width)

    def _side_by_side(self, widths: Sequence[int], width: int) -> Iterator[Text]:
        yield self._line([Text(title, style="bold") for title in self.titles], widths)
        yield Text("─" * width)
        for row in self.rows:
            yield row if isinstance(row, Text) else self._line(row, widths)

    def _name_above(self, widths: Sequence[int], width: int) -> Iterator[Text]:
        indented = [0, *widths[1:]]
        yield Text(self.titles[0], style="bold")
        yield self._line([Text(), *(Text(title, style="bold") for title in self.titles[1:])], indented)
        yield Text("─" * width)
        for row in self.rows:
            if isinstance(row, Text):
                yield row
            else:
                yield row[0]
                yield self._line([Text(), *row[1:]], indented)

    def _turned(self, width: int) -> Iterator[Text]:
        column = GAP + max(map(len, self.titles[1:])) + GAP
        for row in self.rows:
            if isinstance(row, Text):
                yield row
                continue
            yield Text.assemble(row[0], style="bold")
            for title, cell in zip(self.titles[1:], row[1:], strict=True):
                beside = column + cell.cell_len <= width
                head = Text(" " * GAP + title.ljust(column - GAP if beside else 0))
                yield head + cell if beside else head
                if not beside:
                    yield from wrap(cell, width, " " * GAP * 2, " " * GAP * 2)

    def _line(self, cells: Sequence[Text], widths: Sequence[int]) -> Text:
        """One row; no spaces after its last cell."""
        line = Text()
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            space = " " * (width - cell.cell_len)
            before = " " * GAP if place else ""
            line += Text(before) + (cell + Text(space) if place in (0, *self.left) else Text(space) + cell)
        line.rstrip()
        return line
