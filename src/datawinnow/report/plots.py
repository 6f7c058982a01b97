"""The plots of a table of results: accuracy against total cost, accuracy against keep, noise kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes

from datawinnow.core.interval import Interval
from datawinnow.report import words
from datawinnow.report.svg import CARD, INK, MARKERS, MUTED, SERIES, canvas, spread, styled, to_svg
from datawinnow.report.table import FULL, RANDOM, SHORTER, Table, TableCell

CAPTIONS = {
    "cost": "Cost includes scoring: further left at the same height is cheaper for one training run. Each line "
    "connects the keeps of a method; the star is full training.",
    "keep": "At a given keep all methods pass the same number of training examples. Bars: 95% intervals, from three "
    "seeds on.",
    "changed": "Share of changed examples among the kept; random choice keeps the share of the dataset.",
    "shorter": "Points below the dashed line lose to all the data for fewer epochs.",
}
"""Captions of the plots."""
MIN_BAR_SEEDS = 3
"""Seeds from which an interval is drawn: that of two is wider than the axes (it is in the table)."""


def bar(bounds: Interval | None) -> float:
    """Half the interval as it is drawn, in percent; 0 for too few seeds."""
    return 100 * (bounds.half or 0.0) if bounds is not None and bounds.n >= MIN_BAR_SEEDS else 0.0


def limit_to_percent(axes: Axes, axis: str) -> None:
    """Cut an axis to 0 to 100%, beyond which intervals mean nothing."""
    low, high = axes.get_ylim() if axis == "y" else axes.get_xlim()
    set_limits = axes.set_ylim if axis == "y" else axes.set_xlim
    set_limits(max(low, 0.0) if low < 0 else low, min(high, 102.0))


@dataclass(frozen=True)
class Look:
    """How a method is drawn, the same in every plot of a page."""

    colour: str
    marker: str
    dash: str = "-"


def looks(table: Table) -> dict[str, Look]:
    """A look a method: ink for references, a colour and a marker for each of the others; from the ninth on, dashed."""
    looks_by_method = {FULL: Look(INK, "*"), SHORTER: Look(INK, "o", "--"), RANDOM: Look(MUTED, "o", ":")}
    methods_compared = [method for method in table.methods if method not in looks_by_method]
    for i, method in enumerate(methods_compared):
        # Colours repeat after eight methods; the dash tells them apart.
        dash = ("-", "--", "-.")[i // len(SERIES) % 3]
        looks_by_method[method] = Look(SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)], dash)
    return looks_by_method


def accuracy_cost(table: Table, scenario: str, name: str) -> Markup | None:
    """Accuracy against total passes relative to full training; None where full is missing (there is no scale then)."""
    if table.full(scenario) is None:
        return None
    return _draw_lines(
        table,
        scenario,
        name,
        x=lambda cell: 100 * (cell.relative_passes or 0.0),
        y=lambda cell: 100 * cell.accuracy.mean,
        labels=("total cost, % of a full run", "test accuracy, %"),
    )


def accuracy_keep(table: Table, scenario: str, name: str) -> Markup:
    """Accuracy against keep, with intervals; full training as a horizontal line."""
    return _draw_lines(
        table,
        scenario,
        name,
        x=lambda cell: 100 * cell.keep,
        y=lambda cell: 100 * cell.accuracy.mean,
        half=lambda cell: bar(cell.accuracy),
        labels=("kept, % of the examples", "test accuracy, %"),
    )


def changed_keep(table: Table, scenario: str, name: str) -> Markup | None:
    """Share of changed examples among the kept; None where the scenario changes none."""
    if not any(cell.changed_kept for cell in table.of(scenario)):
        return None
    return _draw_lines(
        table,
        scenario,
        name,
        x=lambda cell: 100 * cell.keep,
        y=lambda cell: None if cell.changed_kept is None else 100 * cell.changed_kept.mean,
        half=lambda cell: bar(cell.changed_kept),
        labels=("kept, % of the examples", "changed among the kept, %"),
    )


def _draw_lines(
    table: Table,
    scenario: str,
    name: str,
    *,
    x: Callable[[TableCell], float],
    y: Callable[[TableCell], float | None],
    labels: tuple[str, str],
    half: Callable[[TableCell], float] | None = None,
) -> Markup:
    """One line a method through its keeps, labelled where it ends."""
    look = looks(table)
    by_keep = half is not None
    of_accuracy = labels[1].startswith("test accuracy")
    with styled():
        figure, axes = canvas()
        methods = [method for method in table.methods if table.of(scenario, method=method)]
        series = [method for method in methods if method != FULL]
        width = max((cell.keep for cell in table.of(scenario) if cell.method != FULL), default=1.0) * 100
        ends: list[tuple[float, float, str, Look]] = []
        for i, method in enumerate(series):
            cells = sorted((c for c in table.of(scenario, method=method) if y(c) is not None), key=lambda c: c.keep)
            if not cells:
                continue
            # Dodged a little where x is shared, so that intervals stand side by side.
            shift = (i - (len(series) - 1) / 2) * width * 0.008 if by_keep else 0.0
            xs, ys = [x(cell) + shift for cell in cells], [float(y(cell) or 0.0) for cell in cells]
            style = look[method]
            if half is not None:
                axes.errorbar(xs, ys, [half(c) for c in cells], fmt="none", ecolor=style.colour, elinewidth=1.1)
            axes.plot(
                xs,
                ys,
                color=style.colour,
                linestyle=style.dash,
                linewidth=1.4,
                marker=style.marker,
                markersize=5,
                markeredgecolor=CARD,
                markeredgewidth=0.6,
            )
            label = "shorter full run" if method == SHORTER else cells[-1].label
            ends.append((xs[-1], ys[-1], label, style))
        if by_keep:
            keeps = sorted({100 * keep for keep in table.keeps(scenario)})
            axes.set_xticks(keeps, [f"{keep:g}" for keep in keeps])
        full = table.full(scenario)
        value = None if full is None else y(full)
        if full is not None and value is not None and of_accuracy:
            _full(axes, full, x(full), value, by_keep=by_keep)
        axes.set_xlabel(labels[0])
        axes.set_title(labels[1], loc="left", fontsize=9, color=MUTED)
        axes.grid(visible=False, axis="x")
        axes.margins(x=0.06, y=0.08)
        limit_to_percent(axes, "y")
        if not by_keep:
            axes.set_xlim(left=0)
        label_ends(axes, ends)
        return to_svg(figure, name)


def _full(axes: Axes, full: TableCell, x: float, y: float, *, by_keep: bool) -> None:
    """Full training: a horizontal line across the keeps, or a star at its own cost."""
    axes.axhline(y, color=INK, linewidth=0.9, zorder=1.5, alpha=1.0 if by_keep else 0.35)
    if by_keep:
        left = axes.get_xlim()[0]
        axes.annotate(
            f"{full.label} {words.percent(full.accuracy)}",
            (left, y),
            (2, 3),
            textcoords="offset points",
            fontsize=8.5,
            color=INK,
        )
    else:
        axes.plot([x], [y], marker="*", markersize=11, color=INK, markeredgecolor=CARD, zorder=4, linestyle="none")
        axes.annotate(full.label, (x, y), (0, 7), textcoords="offset points", ha="center", fontsize=8.5, color=INK)


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, Look]]) -> None:
    """Names in a column right of the axes, in the order of the lines' ends, each with a hairline to its end."""
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    axes.set_ylim(low, high)
    # Fixed before lines are drawn outside of the axes, which would otherwise rescale them.
    axes.set_xlim(left, right)
    places = spread([y for _, y, _, _ in ends], (high - low) * 0.066, low, high)
    for (x, y, label, look), place in zip(ends, places, strict=True):
        edge = right + (right - left) * 0.04
        axes.plot(
            [x, right, edge], [y, y, place], color=look.colour, linewidth=0.5, alpha=0.55, clip_on=False, zorder=1
        )
        axes.annotate(
            label if len(label) <= 18 else label[:17] + "…",
            (edge, place),
            (2, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=look.colour,
            annotation_clip=False,
        )
