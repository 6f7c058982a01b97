"""The plots of `plots` where a scenario has too many methods for a line and a label each: rows, and named leaders."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from datawinnow.core.interval import Interval
from datawinnow.report.plots import Look, bar, label_ends, limit_to_percent
from datawinnow.report.svg import CARD, INK, MUTED, SERIES, canvas, styled, to_svg
from datawinnow.report.table import FULL, RANDOM, SHORTER, Table, TableCell

MOST = 14
"""Methods, references included, that lines can tell apart."""
ROW_LETTERS = 26
"""Letters of a line beside a row."""
NAMED = 16
"""Names beside a scatter plot at most."""
REFERENCE: dict[str, tuple[str, Any]] = {SHORTER: ("shorter full run", "--"), RANDOM: ("random", ":")}
CAPTIONS = {
    "cost": "Scoring is included: a method further left at the same height is cheaper for one training run. Each point "
    "is a method at one keep, a diamond a reference. A name marks a method that no cheaper method at the same keep "
    "beats on the mean. The star is full training.",
    "keep": "One row per method, the best on top; one colour per keep. At a given keep all pass the same number of "
    "training examples. Bars: 95% intervals, from three seeds on.",
    "changed": "Share of changed examples among the kept, lowest on top; random choice keeps the share of the dataset.",
    "shorter": "A point left of the dashed line of its colour loses to all the data for fewer epochs.",
}


def crowded(table: Table, scenario: str) -> bool:
    """Whether a scenario has more methods than lines can tell apart."""
    return len({cell.method for cell in table.of(scenario)}) > MOST


def accuracy_cost(table: Table, scenario: str, name: str) -> Markup | None:
    """Accuracy against total passes relative to full training; None where full is missing (there is no scale then)."""
    full = table.full(scenario)
    if full is None:
        return None
    keeps = table.keeps(scenario)
    with styled():
        figure, axes = canvas(height=3.6)
        ends: list[tuple[float, float, str, Look]] = []
        for keep, colour in zip(keeps, _colours(keeps), strict=True):
            cells = table.of(scenario, keep=keep)
            cells = tuple(cell for cell in cells if cell.method != FULL)
            # The most expensive leaders, which are the most accurate, where there is no room for all names.
            leading = leaders(cells)[-(NAMED // len(keeps)) :]
            for cell in cells:
                x, y = _cost_of_cell(cell), 100 * cell.accuracy.mean
                lead = cell in leading
                axes.plot(
                    [x],
                    [y],
                    linestyle="none",
                    marker="D" if cell.is_reference else "o",
                    markersize=5.5 if lead else 4,
                    color=colour,
                    alpha=1.0 if lead else 0.45,
                    markeredgecolor=CARD,
                    markeredgewidth=0.5,
                )
                if lead:
                    label = REFERENCE[cell.method][0] if cell.method in REFERENCE else cell.label
                    ends.append((x, y, label, Look(colour, "o")))
        axes.plot(
            [100],
            [100 * full.accuracy.mean],
            marker="*",
            markersize=11,
            color=INK,
            markeredgecolor=CARD,
            linestyle="none",
            zorder=4,
        )
        axes.set_xlabel("total cost, % of a full run")
        axes.set_ylabel("test accuracy, %")
        axes.margins(x=0.06, y=0.08)
        axes.set_xlim(left=0)
        _legend(axes, keeps, [Line2D([], [], marker="*", markersize=9, color=INK, linestyle="none", label=full.label)])
        label_ends(axes, ends)
        return to_svg(figure, name)


def leaders(cells: Sequence[TableCell]) -> list[TableCell]:
    """Cells that no cheaper cell beats on the mean accuracy, from the cheapest to the most expensive."""
    best: list[TableCell] = []
    # Of equally expensive cells the better comes first, so the other is no leader.
    for cell in sorted(cells, key=lambda cell: (cell.total_passes, -cell.accuracy.mean)):
        if not best or cell.accuracy.mean > best[-1].accuracy.mean:
            best.append(cell)
    return best


def accuracy_keep(table: Table, scenario: str, name: str) -> Markup:
    """Accuracy of every method at every keep, with intervals, references as lines."""
    return _rows(table, scenario, name, of=lambda cell: cell.accuracy, label="test accuracy, %", full=True, best=max)


def changed_keep(table: Table, scenario: str, name: str) -> Markup | None:
    """Share of changed examples among the kept; None where the scenario changes none."""
    if not any(cell.changed_kept for cell in table.of(scenario)):
        return None
    return _rows(
        table,
        scenario,
        name,
        of=lambda cell: cell.changed_kept,
        label="changed among the kept, %",
        full=False,
        best=min,
    )


def _rows(
    table: Table,
    scenario: str,
    name: str,
    *,
    of: Callable[[TableCell], Interval | None],
    label: str,
    full: bool,
    best: Callable[..., float],
) -> Markup:
    """A row a method, a dot a keep."""
    keeps = table.keeps(scenario)
    values = {(cell.method, cell.keep): bounds for cell in table.of(scenario) if (bounds := of(cell)) is not None}
    names = {cell.method: cell.label for cell in table.of(scenario) if not cell.is_reference}
    order = _ordered([method for method in names if any((method, keep) in values for keep in keeps)], keeps, values)
    if best is max:
        order.reverse()
    with styled():
        shown = row_names([names[method] for method in order])
        lines_of_text = max((text.count("\n") + 1 for text in shown), default=1)
        figure, axes = canvas(height=1.1 + 0.165 * len(order) * lines_of_text)
        for k, (keep, colour) in enumerate(zip(keeps, _colours(keeps), strict=True)):
            for method, (_, dash) in REFERENCE.items():
                if (method, keep) in values:
                    axes.axvline(100 * values[method, keep].mean, color=colour, linewidth=1, linestyle=dash, zorder=1.5)
            for row, method in enumerate(order):
                bounds = values.get((method, keep))
                if bounds is None:
                    continue
                place = row + (k - (len(keeps) - 1) / 2) * 0.16  # side by side where keeps are equal
                half = bar(bounds)
                axes.plot(
                    [100 * bounds.mean - half, 100 * bounds.mean + half], [place] * 2, color=colour, linewidth=1.1
                )
                axes.plot(
                    [100 * bounds.mean],
                    [place],
                    linestyle="none",
                    marker="o",
                    markersize=4.5,
                    color=colour,
                    markeredgecolor=CARD,
                    markeredgewidth=0.5,
                )
        drawn_references = [
            look for method, look in REFERENCE.items() if any((method, keep) in values for keep in keeps)
        ]
        lines = [
            Line2D([], [], color=MUTED, linewidth=1, linestyle=dash, label=name_of_line)
            for name_of_line, dash in drawn_references
        ]
        full_run = table.full(scenario)
        if full and full_run is not None:
            axes.axvline(100 * full_run.accuracy.mean, color=INK, linewidth=1)
            lines.insert(0, Line2D([], [], color=INK, linewidth=1, label=full_run.label))
        axes.set_yticks(range(len(order)), shown)
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.tick_params(axis="y", labelcolor=INK, length=0)
        axes.tick_params(axis="x", labeltop=len(order) > MOST)
        axes.set_xlabel(label)
        limit_to_percent(axes, "x")
        _legend(axes, keeps, lines)
        return to_svg(figure, name)


def _ordered(methods: Sequence[str], keeps: Sequence[float], values: dict[tuple[str, float], Interval]) -> list[str]:
    """Methods from low to high; one that lacks a keep is compared at those that it has."""
    # Relative to the mean of each keep: a method that was only run at high keeps would otherwise rank first.
    centre = {keep: _mean_accuracy([values[m, keep].mean for m in methods if (m, keep) in values]) for keep in keeps}

    def height(method: str) -> float:
        return _mean_accuracy([values[method, keep].mean - centre[keep] for keep in keeps if (method, keep) in values])

    return sorted(methods, key=height)


def _legend(axes: Axes, keeps: Sequence[float], handles: Sequence[Line2D]) -> None:
    """Colours of the keeps and what else is drawn, above the axes."""
    dots = [
        Line2D([], [], marker="o", markersize=5, color=colour, linestyle="none", label=f"keep {100 * keep:g}%")
        for keep, colour in zip(keeps, _colours(keeps), strict=True)
    ]
    if keeps == (1.0,):  # nothing is left out for the whole training, and what a policy keeps is in its name
        dots = []
    axes.figure.legend(
        handles=[*dots, *handles],
        loc="outside upper left",
        ncols=3,
        frameon=False,
        fontsize=8.5,
        handletextpad=0.5,
        columnspacing=1.2,
    )


def _colours(keeps: Sequence[float]) -> list[str]:
    return [SERIES[i % len(SERIES)] for i in range(len(keeps))]


def _cost_of_cell(cell: TableCell) -> float:
    return 100 * (cell.relative_passes or 0.0)


def _mean_accuracy(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def row_names(labels: Sequence[str]) -> list[str]:
    """The names of rows in lines of 26 letters; of many methods only their beginning, where it is theirs alone."""
    short = [
        label if len(label) <= ROW_LETTERS else label[: ROW_LETTERS - 1] + "\N{HORIZONTAL ELLIPSIS}" for label in labels
    ]
    if len(labels) > MOST and len(set(short)) == len(set(labels)):
        return short
    return ["\n".join(textwrap.wrap(label, ROW_LETTERS)) or label for label in labels]
