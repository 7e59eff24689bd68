"""Charts of money as inline SVG: the bill of an hour against the number of instances."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from tare.reports import words
from tare.reports.charts import svg
from tare.reports.cost.bills import idle_percent, money
from tare.reports.cost.model import Cost, CostArm

_SMALL = 10.5
_BESIDE = 600


def steps(cost: Cost, colours: Mapping[str, str], *, width: float, name: str) -> str:
    """The bill of an hour against the number of instances: the step that is paid, the line that is used."""
    if not cost.arms:
        return ""
    across = len(cost.arms) if width >= _BESIDE else 1
    down = -(-len(cost.arms) // across)
    cell_w, cell_h = width / across, 190.0
    shared = max(row.billed for arm in cost.arms[:2] for row in arm.rows)
    with svg.drawing(name):
        canvas = Canvas(figsize=(width / 72, down * cell_h / 72), dpi=72, facecolor="none")
        for index, arm in enumerate(cost.arms):
            line, column = divmod(index, across)
            left, bottom = (column * cell_w + 46) / width, 1 - ((line + 1) * cell_h - 26) / (down * cell_h)
            axes = canvas.add_axes((left, bottom, (cell_w - 62) / width, (cell_h - 70) / (down * cell_h)))
            top = shared if index < 2 else max(row.billed for row in arm.rows)
            _steps(axes, arm, cost, top, colours[arm.subject])
        return svg.render(
            canvas, name=name, title=f"The bill of an hour, {cost.title}", description=" ".join(cost.sentences)
        )


def _steps(axes: Axes, arm: CostArm, cost: Cost, top: float, colour: str) -> None:
    n = [row.n for row in arm.rows]
    billed, used = [row.billed for row in arm.rows], [row.used for row in arm.rows]
    axes.fill_between(n, used, billed, step="mid", color=colour, alpha=0.16, linewidth=0)
    axes.step(n, billed, where="mid", color=colour, linewidth=1.6)
    axes.plot(n, used, color=svg.INK, linewidth=1.0)
    if cost.breakeven is not None and arm is cost.arms[0]:
        axes.axvline(cost.breakeven, color=svg.INK, linewidth=0.9, dashes=(1, 2))
    axes.set(xlim=(0.5, max(n) + 0.5), ylim=(0, top * 1.06), facecolor="none")
    axes.set_yticks([tick for tick in MaxNLocator(3).tick_values(0, top) if 0 <= tick <= top * 1.05])
    axes.set_yticklabels([words.plain(tick) for tick in axes.get_yticks()])
    axes.set_xticks([1, *(tick for tick in (10, 20, 30, 40, 50) if tick <= max(n))])
    axes.tick_params(length=0, labelsize=_SMALL)
    for spine in ("top", "right", "left"):
        axes.spines[spine].set_visible(False)
    axes.grid(axis="y", color=svg.RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    mark = " (emulated)" if arm.emulated else ""
    last = arm.rows[-1]
    place = axes.transAxes
    title = f"{svg.plain(arm.title, 24)}{mark}"
    axes.text(0, 1.2, title, transform=place, fontsize=_SMALL + 0.5, fontweight="bold", color=svg.INK, va="bottom")
    below = f"{money(last.billed, cost.currency)} an hour for {last.n}, {idle_percent(last)} % idle"
    axes.text(0, 1.05, below, transform=place, fontsize=_SMALL, color=svg.MUTED, va="bottom")
