"""Charts of money as inline SVG: the bill of an hour against the number of instances."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from tare.reports.charts import svg
from tare.reports.charts.looks import Look
from tare.reports.charts.multiples import Cell, mark, small_multiples, unseen
from tare.reports.cost.bills import idle_percent, money
from tare.reports.cost.model import Cost


def steps(cost: Cost, looks: Mapping[str, Look], *, width: float, name: str) -> str:
    """The bill of an hour against the number of instances: the step that is paid, the line that is used."""
    arms = {arm.title: arm for arm in cost.arms}
    cells = [
        Cell(
            label=arm.title,
            subject=arm.subject,
            look=looks[arm.subject],
            number=money(arm.rows[-1].billed, cost.currency),
            rest=f"for {arm.rows[-1].n}, {idle_percent(arm.rows[-1])} % idle",
            x=[float(row.n) for row in arm.rows],
            y=[row.billed for row in arm.rows],
        )
        for arm in cost.arms
    ]

    def draw(axes: Axes, cell: Cell) -> None:
        used = [row.used for row in arms[cell.label].rows]
        axes.fill_between(cell.x, used, cell.y, step="mid", color=cell.look.colour, alpha=0.16, linewidth=0)
        axes.step(cell.x, cell.y, where="mid", color=cell.look.colour, linewidth=1.6)
        axes.plot(cell.x, used, color=svg.INK, linewidth=1.0, dashes=(4, 2))
        unseen(axes, cell.x, cell.y, "billed")
        unseen(axes, cell.x, used, "used")
        if cost.breakeven is not None and cell is cells[0]:
            mark(axes, cost.breakeven)

    return small_multiples(
        cells, draw, across="instances", upward="a bill of an hour", unit=cost.currency, width=width, name=name,
        title=f"The bill of an hour, {cost.title}", description=" ".join(cost.sentences),
    )  # fmt: skip
