"""The figures of an audit: which classes are labelled as which others, and the data map with the issues marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from markupsafe import Markup
from matplotlib.patches import Rectangle

from datawinnow.core.counts import many
from datawinnow.report.run_plots import POINTS, short
from datawinnow.report.svg import INK, KEPT, MARKERS, MUTED, RULE, SERIES, canvas, styled, to_svg

MAX_CONFUSED_CLASSES = 20
"""Classes in the picture of confusions: those with the most suspected labels."""
MARKED = 400
"""Marked points of a kind of issue in the data map, at most."""
ISSUE_MAP_CAPTION = (
    "Each point is an example: how probable its label was to the network, on average over the epochs, and how much "
    "that changed. Examples with an issue are marked; wrong labels lie at the left, what the network wavers about at "
    "the top."
)


def confusion(pairs: Counter[tuple[str, str]]) -> tuple[Markup, str]:
    """How many examples labelled as one class (row) seem to be of another (column), and a caption.

    Args:
        pairs: (label, suggested label) -> number of examples.
    """
    total: Counter[str] = Counter()
    for (label, suggested), count in pairs.items():
        total[label] += count
        total[suggested] += count
    names = [name for name, _ in total.most_common(MAX_CONFUSED_CLASSES)]
    names.sort()
    k, side = len(names), 0.36
    left, below, top = 1.5, 1.2, 0.3
    width, height = max(3.6, left + k * side + 0.1), top + k * side + below
    largest = max(pairs.values())
    with styled():
        # one inch is one unit, from the upper left corner
        figure, axes = canvas(width, height)
        figure.set_layout_engine("none")
        axes.set_position((0, 0, 1, 1))
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.axis("off")
        axes.text(0, top - 0.1, "seems to be (column), labelled as (row)", fontsize=8.5, color=MUTED)
        for i, name in enumerate(names):
            place = (i + 0.5) * side
            axes.text(left - 0.06, top + place, short(name), ha="right", va="center", fontsize=8.5)
            axes.text(
                left + place, top + k * side + 0.06, short(name), ha="center", va="top", rotation=90, fontsize=8.5
            )
            for j, suggested in enumerate(names):
                count = pairs.get((name, suggested), 0)
                axes.add_patch(
                    Rectangle(
                        (left + j * side, top + i * side),
                        side,
                        side,
                        facecolor=KEPT,
                        alpha=0.55 * (count / largest) ** 0.5,
                        edgecolor=RULE,
                        linewidth=0.5,
                    )
                )
                if count:
                    number = f"{count:,}" if count < 1000 else f"{count / 1000:.0f}k"
                    axes.text(left + (j + 0.5) * side, top + place, number, ha="center", va="center", fontsize=8)
        svg = to_svg(figure, "confusion")
    worst = "; ".join(f"{count:,} labelled {a} seem to be {b}" for (a, b), count in pairs.most_common(3))
    caption = f"{many(sum(pairs.values()), 'label')} of {many(len(pairs), 'pair')} of classes. Most often: {worst}."
    if len(total) > len(names):
        caption += f" The {len(names)} of {len(total)} classes with the most are drawn."
    return svg, caption


def issue_map(mean: np.ndarray, std: np.ndarray, marks: Mapping[str, np.ndarray]) -> Markup | None:
    """The data map with the examples of each kind of issue marked; None where nothing was recorded.

    Args:
        mean: (n,) mean of the probability of the label over epochs; NaN for unknown.
        std: (n,) its standard deviation.
        marks: kind of issue -> positions.
    """
    present = np.isfinite(mean) & np.isfinite(std)
    if not present.any():
        return None
    marked = np.zeros(len(mean), dtype=bool)
    for ids in marks.values():
        marked[ids] = True
    ground = np.flatnonzero(present & ~marked)
    rng = np.random.default_rng(0)
    if len(ground) > POINTS:
        ground = rng.choice(ground, POINTS, replace=False)
    with styled():
        figure, axes = canvas(height=3.8)
        axes.plot(
            mean[ground], std[ground], linestyle="none", marker="o", markersize=1.8, color=MUTED, alpha=0.3,
            markeredgewidth=0, label="no issue",
        )  # fmt: skip
        for number, (kind, ids) in enumerate(marks.items()):
            ids = ids[present[ids]]
            if len(ids) > MARKED:
                ids = rng.choice(ids, MARKED, replace=False)
            axes.plot(
                mean[ids], std[ids], linestyle="none", marker=MARKERS[number % len(MARKERS)], markersize=3.2,
                color=SERIES[number % len(SERIES)], alpha=0.8, markeredgewidth=0, label=kind.replace("_", " "),
            )  # fmt: skip
        axes.set_xlabel("mean probability of the label")
        axes.set_title("its standard deviation over epochs", loc="left", fontsize=9, color=MUTED)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(bottom=0)
        # below the axes: points can lie anywhere in them
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8, markerscale=1.6, labelcolor=INK)
        return to_svg(figure, "issuemap")
