"""The plots of ``datawinnow instruct``: indicators of the chosen, and predicted labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from datawinnow.report.svg import KEPT, MARKERS, MUTED, RULE, SERIES, canvas, styled, to_svg


def plot_gaps(means: Sequence[dict[str, Any]], name: str) -> Markup:
    """A bar an indicator: mean of the chosen minus mean of the pool, in standard deviations of the pool."""
    values = np.array([row["gap"] for row in means], dtype=float)
    places = np.arange(len(values))[::-1]
    with styled():
        figure, axes = canvas(height=0.9 + 0.32 * len(values))
        axes.barh(places, values, height=0.6, color=KEPT)
        axes.axvline(0, color=MUTED, linewidth=1)
        # Room for the numbers at the ends of the bars, even if all gaps are 0.
        reach = max(0.1, float(np.abs(values).max()))
        axes.set_xlim(min(0.0, float(values.min())) - 0.3 * reach, max(0.0, float(values.max())) + 0.3 * reach)
        for place, value in zip(places, values, strict=True):
            offset = 3 if value >= 0 else -3
            axes.annotate(
                f"{value:+.2f}".replace("-", "\N{MINUS SIGN}"),
                (value, place),
                (offset, 0),
                textcoords="offset points",
                va="center",
                ha="left" if value >= 0 else "right",
                fontsize=8.5,
            )
        axes.set_yticks(places, [str(row["name"]) for row in means])
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("standard deviations of the pool")
        return to_svg(figure, name)


def plot_predictions(scorers: Sequence[dict[str, Any]], labels: Sequence[float], name: str) -> Markup:
    """Label that each scorer predicts for a subset that was left out, against its true label."""
    truth = np.array(labels, dtype=float)
    shown = [row for row in scorers if row["difference"] is not None]
    with styled():
        figure, axes = canvas(height=3.2)
        ends = np.array([truth.min(), truth.max()])
        axes.plot(ends, ends, color=MUTED, linewidth=1, label="the true label")
        axes.plot(ends, np.full(2, truth.mean()), color=RULE, linewidth=2, label="the mean label")
        for row, colour, marker in zip(shown, SERIES, MARKERS, strict=False):
            axes.plot(
                truth,
                row["predicted"],
                linestyle="none",
                marker=marker,
                markersize=4,
                color=colour,
                alpha=0.8,
                label=str(row["name"]),
            )
        axes.set_xlabel("label of the subset")
        axes.set_title("predicted from the other subsets", loc="left", fontsize=9, color=MUTED)
        axes.legend(frameon=False, fontsize=8.5)
        return to_svg(figure, name)
