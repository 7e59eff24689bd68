"""The leading figure as lines of text: one bar a subject, from zero, its value beside it; legible without colour."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from tare.reports.analysis.model import Bar, Lead
from tare.reports.terminal import layout
from tare.reports.terminal.figures import plain

#: Bars are not drawn shorter than this; where less room is left, there are names and values alone.
_LEAST, _MOST = 10, 40
_GAP = " " * layout.GAP
#: Eighths of a cell, from none to seven; an emulated bar is of another shade.
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
_FULL, _EMULATED = "█", "▒"


def bars(lead: Lead, width: int) -> Iterator[Text]:
    """What the bars are, then one line for each, and an empty line; nothing where there are none."""
    if not lead.bars:
        return
    yield from layout.wrap(plain(lead.title, style="dim"), width)
    names = [plain(one.subject + (" (emulated)" if one.emulated else "")) for one in lead.bars]
    column = max(name.cell_len for name in names)
    values = [plain(one.shown) for one in lead.bars]
    digits = max(value.cell_len for value in values)
    room = min(_MOST, width - column - digits - 2 * layout.GAP)
    longest = max((one.value for one in lead.bars if one.value is not None), default=0.0)
    for one, name, value in zip(lead.bars, names, values, strict=True):
        drawn = Text(_drawn(one, longest, room).ljust(room) + _GAP) if room >= _LEAST else Text()
        line = name + Text(" " * (column - name.cell_len) + _GAP) + drawn
        line += Text(" " * (digits - value.cell_len)) + Text(value.plain, style="bold")
        note = plain(one.note, style="dim")
        beside = bool(note) and line.cell_len + layout.GAP + note.cell_len <= width
        if beside:
            line += Text(_GAP) + note
        line.rstrip()
        yield line
        if note and not beside:
            yield from layout.wrap(note, width, _GAP, _GAP)
    yield Text()


def _drawn(bar: Bar, longest: float, room: int) -> str:
    """A bar in proportion, of a tenth of a cell at least; nothing where there is no figure above zero."""
    if bar.value is None or bar.value <= 0 or longest <= 0:
        return ""
    eighths = max(1, round(8 * room * bar.value / longest))
    if bar.emulated:
        return _EMULATED * max(1, round(eighths / 8))
    return _FULL * (eighths // 8) + _EIGHTHS[eighths % 8]
