"""The plots of a run: the data map, score histograms, how the scores agree, training and how much it passed."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from datawinnow.report.correlations import Agreement, word
from datawinnow.report.svg import DROPPED, INK, KEPT, MUTED, RULE, canvas, styled, to_svg

POINTS = 3000
"""Points drawn in a data map at most: more would only cover each other and swell the page."""


def data_map(mean: np.ndarray, std: np.ndarray, kept: np.ndarray) -> Markup | None:
    """Mean of ``p_label`` against its spread over epochs, kept and dropped; None where neither is known."""
    present = np.flatnonzero(np.isfinite(mean) & np.isfinite(std))
    if not len(present):
        return None
    if len(present) > POINTS:
        present = np.random.default_rng(0).choice(present, POINTS, replace=False)
    with styled():
        figure, axes = canvas()
        # In slices of both colours by turns, so that neither covers the other.
        for chunk in np.array_split(present, min(10, len(present))):
            for mask, colour in ((~kept, DROPPED), (kept, KEPT)):
                ids = chunk[mask[chunk]]
                axes.plot(
                    mean[ids],
                    std[ids],
                    linestyle="none",
                    marker="o",
                    markersize=2.2,
                    color=colour,
                    alpha=0.55,
                    markeredgewidth=0,
                )
        for colour, name in ((DROPPED, "dropped"), (KEPT, "kept")):
            axes.plot([], [], linestyle="none", marker="o", markersize=2.2, color=colour, label=name)
        axes.set_xlabel("mean probability of the label")
        axes.set_title("its standard deviation over epochs", loc="left", fontsize=9, color=MUTED)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper right", frameon=False, fontsize=8.5, markerscale=3)
        return to_svg(figure, "datamap")


def histogram(values: np.ndarray, kept: np.ndarray | None, name: str) -> Markup | None:
    """How a score is distributed, kept and dropped; None where it has no finite value."""
    fine = np.isfinite(values)
    if not fine.any():
        return None
    low, high = float(values[fine].min()), float(values[fine].max())
    # Equal values still need a bin of some width.
    edges = np.linspace(low, high if high > low else low + 1, 41)
    with styled():
        figure, axes = canvas(height=2.4)
        series = (
            [(fine, INK, "all")] if kept is None else [(fine & ~kept, DROPPED, "dropped"), (fine & kept, KEPT, "kept")]
        )
        for mask, colour, label in series:
            counts, _ = np.histogram(values[mask], edges)
            axes.stairs(counts, edges, color=colour, linewidth=1.5, label=label)
        axes.set_xlabel("score")
        axes.set_title("examples", loc="left", fontsize=9, color=MUTED)
        axes.legend(frameon=False, fontsize=8.5)
        return to_svg(figure, name)


NUMBERED = 12
"""Scores up to which the cells of a heat map are large enough for their numbers."""
_LEFT, _BELOW, _TOP = 1.5, 1.45, 0.5
"""Inches for the names left of a heat map and below it, and for its scale above."""


def heat_map(agreement: Agreement) -> Markup:
    """Rank correlations of the scores, a row and a column each: blue agrees, orange opposes, pale is unrelated."""
    k, numbered = len(agreement.names), len(agreement.names) <= NUMBERED
    side = 0.36 if numbered else 0.18  # of a cell, in inches: of one number, or of one line of a name
    width, height = max(3.6, _LEFT + k * side + 0.1), _TOP + k * side + _BELOW
    with styled():
        # one inch is one unit, from the upper left corner, so that nothing needs to be measured
        figure, axes = canvas(width, height)
        figure.set_layout_engine("none")
        axes.set_position((0, 0, 1, 1))
        axes.set_xlim(0, width)
        # The y axis points down, so that rows are read from the top.
        axes.set_ylim(height, 0)
        axes.axis("off")
        strength = 0.55 if numbered else 0.95  # numbers need a ground on which ink is readable
        for i, name in enumerate(agreement.names):
            place = (i + 0.5) * side
            axes.text(_LEFT - 0.06, _TOP + place, short(name), ha="right", va="center", fontsize=8.5)
            axes.text(
                _LEFT + place, _TOP + k * side + 0.06, short(name), ha="center", va="top", rotation=90, fontsize=8.5
            )
            for j in range(k):
                value = float(agreement.matrix[i, j])
                _draw_cell(axes, _LEFT + j * side, _TOP + i * side, side, value, strength)
                if numbered:
                    axes.text(_LEFT + (j + 0.5) * side, _TOP + place, word(value), ha="center", va="center", fontsize=8)
        _colour_scale(axes, strength)
        return to_svg(figure, "agreement")


def short(name: str, letters: int = 18) -> str:
    """A name that fits beside an axis."""
    return name if len(name) <= letters else name[: letters - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _draw_cell(axes: Axes, x: float, y: float, side: float, value: float, strength: float) -> None:
    """A square whose colour is a correlation; a diagonal line where there is none."""
    present = not math.isnan(value)
    axes.add_patch(
        Rectangle(
            (x, y),
            side,
            side,
            facecolor=(KEPT if value > 0 else DROPPED) if present else "none",
            edgecolor="none",
            alpha=strength * abs(value) if present else None,
            clip_on=False,
        )
    )
    if not present:
        axes.plot([x, x + side], [y + side, y], color=MUTED, linewidth=0.5)


def _colour_scale(axes: Axes, strength: float) -> None:
    """Which colour is which correlation, in the upper left."""
    values, side = np.linspace(-1, 1, 9), 0.2
    axes.add_patch(Rectangle((_LEFT, 0.08), side * len(values), side, facecolor="none", edgecolor=RULE, linewidth=0.7))
    for i, value in enumerate(values):
        _draw_cell(axes, _LEFT + i * side, 0.08, side, float(value), strength)
        if value in (-1, 0, 1):
            axes.text(
                _LEFT + (i + 0.5) * side,
                0.31,
                f"{value:.0f}".replace("-", "\N{MINUS SIGN}"),
                ha="center",
                va="top",
                fontsize=8,
                color=MUTED,
            )


def training(history: pa.Table) -> Markup:
    """Training accuracy by epoch, and the test accuracy where it was measured."""
    # Epochs count from 0 in files and from 1 for people.
    epochs = history.column("epoch").to_numpy() + 1
    with styled():
        figure, axes = canvas(height=2.4)
        axes.plot(epochs, 100 * history.column("accuracy").to_numpy(), color=KEPT, linewidth=1.5, label="training")
        if "test_accuracy" in history.column_names:
            # Nulls become NaN: the test split is usually evaluated after the last epoch only.
            test = np.array(history.column("test_accuracy").to_pylist(), dtype=float)
            seen = np.isfinite(test)
            if seen.any():
                axes.plot(
                    epochs[seen], 100 * test[seen], color=INK, marker="o", markersize=5, linestyle="none", label="test"
                )
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_xlabel("epoch")
        axes.set_title("accuracy, %", loc="left", fontsize=9, color=MUTED)
        axes.legend(frameon=False, fontsize=8.5, loc="lower right")
        return to_svg(figure, "training")


def fractions(shares: np.ndarray) -> Markup:
    """(epochs,) shares of the examples that the epochs trained on, as a flight of steps."""
    with styled():
        figure, axes = canvas(height=2.4)
        axes.stairs(100 * shares, np.arange(len(shares) + 1) + 0.5, color=KEPT, linewidth=1.5, baseline=None)
        axes.set_xlabel("epoch")
        axes.set_xlim(0.5, len(shares) + 0.5)
        axes.set_ylim(0, 104)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_title("examples trained on, %", loc="left", fontsize=9, color=MUTED)
        return to_svg(figure, "fractions")
