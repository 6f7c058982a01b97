"""The map of a comparison: what choosing gains against passes per example."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from datawinnow.report.comparison import TUNING, Arm
from datawinnow.report.svg import INK, MARKERS, MUTED, SERIES, panels, styled, to_svg
from datawinnow.report.table import CLEAN

SAYS = (
    "Above the line it is worth choosing, below it all the data for fewer epochs is better. Each point is a setting "
    "and a budget, compared with the best of all the data for no more passes; bars: 95% over paired "
    "seeds. One seed has no bar."
)


def the_map(found: Sequence[Arm], most: int = 6) -> Markup:
    """Gain over the shorter full run against passes per example, a colour a method, a marker a setting.

    Clean data and changed ones have a panel each, since what wrong labels cost is another scale. Drawn are the methods
    that choose and stand in most places, the best of them first; all are in the tables.
    """
    compared = [arm for arm in found if arm.gain is not None and arm.chooses and not arm.setting.endswith(TUNING)]
    places = {m: [a for a in compared if a.method == m] for m in dict.fromkeys(a.method for a in compared)}
    chosen = sorted(places, key=lambda m: (-len(places[m]), -sum(_gain(a) for a in places[m]) / len(places[m])))[:most]
    drawn = [arm for arm in compared if arm.method in chosen]
    settings = list(dict.fromkeys(arm.setting for arm in drawn))
    sides = {"clean": [a for a in drawn if a.scenario == CLEAN], "changed": [a for a in drawn if a.scenario != CLEAN]}
    sides = {title: of for title, of in sides.items() if of} or {"clean": []}
    with styled():
        figure, panes = panels(len(sides), 4.0 + 3.2 * len(sides), 3.6)
        for axes, (title, here) in zip(panes, sides.items(), strict=True):
            _panel(axes, here, chosen, settings)
            axes.set_title(title if len(sides) > 1 else "", loc="left", fontsize=9, color=MUTED)
        panes[0].set_ylabel("points over all the data, no more passes")
        marks: list[Any] = [
            Line2D([], [], color=SERIES[i % len(SERIES)], linewidth=3, label=places[method][0].label)
            for i, method in enumerate(chosen)
        ]
        marks += [
            Line2D([], [], color=MUTED, linestyle="none", marker=MARKERS[i % len(MARKERS)], label=setting)
            for i, setting in enumerate(settings)
        ]
        if marks:
            figure.legend(handles=marks, frameon=False, fontsize=8, loc="outside right center")
        return to_svg(figure, "map")


def _panel(axes: Axes, here: Sequence[Arm], chosen: Sequence[str], settings: Sequence[str]) -> None:
    axes.axhline(0, color=INK, linewidth=1)
    for i, method in enumerate(chosen):
        shift = 1 + 0.03 * (i - (len(chosen) - 1) / 2)  # side by side, not on top of each other
        for j, setting in enumerate(settings):
            points = sorted((a for a in here if (a.setting, a.method) == (setting, method)), key=lambda a: a.budget)
            if points:
                x, y = [a.budget * shift for a in points], [_gain(a) for a in points]
                axes.errorbar(x, y, [_reach(a) for a in points], color=SERIES[i % len(SERIES)], markersize=5,
                              marker=MARKERS[j % len(MARKERS)], linewidth=1.2, elinewidth=1)  # fmt: skip
    if budgets := sorted({round(arm.budget, 6) for arm in here}):
        axes.set_xscale("log")
        axes.set_xticks(budgets, [f"{b:g}" for b in budgets])
        axes.set_xticks([], minor=True)
    axes.set_xlabel("passes per example")


def _gain(arm: Arm) -> float:
    assert arm.gain is not None, arm.method
    return 100 * arm.gain.interval.mean


def _reach(arm: Arm) -> float:
    half = 0.0 if arm.gain is None else arm.gain.interval.half
    return 100 * half if half is not None and math.isfinite(half) else 0.0
