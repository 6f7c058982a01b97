"""The images of who was chosen when: epoch by epoch, and how often."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from datawinnow.report import words
from datawinnow.report.svg import DROPPED, INK, KEPT, MUTED, RULE, canvas, spread, styled, to_svg

LEVELS = 5
"""Shades above none."""
_WIDE, _HIGH = 4.6, 3.6
_LEFT, _RIGHT, _TOP, _BELOW = 0.12, 1.2, 0.3, 0.46
"""Inches of the image, and of what stands around its cells."""


def raster(shares: np.ndarray, edges: np.ndarray, groups: tuple[float, float, float], name: str) -> Markup:
    """Rows of examples against epochs, in stronger blue where more of a row was trained on.

    Args:
        shares: (rows, columns) in [0, 1].
        edges: (columns + 1,) int64, the epochs, from 0, at which columns begin and end.
        groups: shares of the examples taken always, sometimes and never, from the top on.
        name: prefix of the ids in the SVG.
    """
    first, last = int(edges[0]), int(edges[-1])
    with styled():
        # placed in inches, so that the cells can be put in by hand: matplotlib writes five times as much for one
        figure, axes = canvas(_WIDE, _HIGH)
        figure.set_layout_engine("none")
        wide, high = _WIDE - _LEFT - _RIGHT, _HIGH - _TOP - _BELOW
        axes.set_position((_LEFT / _WIDE, _BELOW / _HIGH, wide / _WIDE, high / _HIGH))
        axes.set_xlim(first + 0.5, last + 0.5)
        axes.set_ylim(1, 0)
        axes.grid(False)
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_xlabel("epoch")
        axes.set_title("examples, the most often chosen on top", loc="left", fontsize=9, color=MUTED)
        _groups(axes, groups)
        drawn = to_svg(figure, name)
    place = f"translate({72 * _LEFT:g} {72 * _TOP:g})"
    size = f"scale({72 * wide / (last - first):.6g} {72 * high / len(shares):.6g})"
    cells = f'<g transform="{place} {size}">{cell_paths(shares, edges - first)}</g></svg>'
    return Markup(str(drawn).replace("</svg>", cells))


def cell_paths(shares: np.ndarray, edges: np.ndarray) -> str:
    """A path a shade: lines as thick as a row, over neighbours of one shade. Units: an epoch across, a row down."""
    levels = np.rint(np.clip(shares, 0, 1) * LEVELS).astype(int)
    lines: dict[int, list[str]] = {level: [] for level in range(1, LEVELS + 1)}
    for i, row in enumerate(levels):
        # Runs of equal shade: one line each instead of a rectangle a cell keeps the page small.
        starts = np.flatnonzero(np.diff(row, prepend=-1))
        for start, end in zip(starts, np.append(starts[1:], len(row)), strict=True):
            if row[start]:
                lines[int(row[start])].append(f"M{edges[start]} {i}h{edges[end] - edges[start]}")
    return "".join(
        f'<path transform="translate(0 .5)" shape-rendering="crispEdges" d="{"".join(drawn)}" '
        f'style="fill: none; stroke: var(--c1); stroke-width: 1; stroke-opacity: {0.95 * level / LEVELS:.2g}"/>'
        for level, drawn in lines.items()
        if drawn
    )


def _groups(axes: Axes, groups: tuple[float, float, float]) -> None:
    """The slim strip to the right of the cells: always, sometimes, never."""
    edges = np.cumsum([0.0, *groups])
    middles = [float(edges[k] + edges[k + 1]) / 2 for k in range(3)]
    places = spread(middles, 0.14, 0.06, 0.94)
    groups_drawn = zip(("always", "sometimes", "never"), (KEPT, MUTED, DROPPED), groups, strict=True)
    across = axes.get_yaxis_transform()  # x of the axes, 1 at their right end; y of the data
    for k, (word, colour, share) in enumerate(groups_drawn):
        if share > 0:
            axes.plot(
                [1.035, 1.035],
                edges[k : k + 2],
                transform=across,
                color=colour,
                linewidth=5,
                solid_capstyle="butt",
                clip_on=False,
            )
        axes.plot([1.06, 1.1], [middles[k], places[k]], transform=across, color=RULE, linewidth=0.8, clip_on=False)
        text = f"{word}\n{words.share(share)}"
        axes.text(1.12, places[k], text, transform=across, va="center", fontsize=9, color=INK, linespacing=1.2)


def counted(times: np.ndarray, chance: np.ndarray, name: str) -> Markup:
    """Histogram of how often examples were chosen, beside chance.

    Args:
        times: (m,) int64 how often each was chosen.
        chance: (choices + 1,) share of the examples that chance would choose 0, 1, ... times.
        name: prefix of the ids in the SVG.
    """
    # As many bins as chance has, from 0 to the number of choices.
    shares = np.bincount(times, minlength=len(chance)) / len(times)
    edges = np.arange(len(chance) + 1) - 0.5
    with styled():
        figure, axes = canvas(_WIDE, _HIGH)
        axes.stairs(100 * shares, edges, fill=True, color=KEPT, alpha=0.55, linewidth=0, label="this policy")
        axes.stairs(100 * chance, edges, color=INK, linewidth=1.3, label="chance")
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_xlabel(f"times chosen, of {len(chance) - 1}")
        axes.set_title("examples, %", loc="left", fontsize=9, color=MUTED)
        axes.legend(frameon=False, fontsize=8.5)
        return to_svg(figure, name)
