"""The page of a plan: the advice, the curves through the pilots, and what each way to train for less loses."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from markupsafe import Markup

from datawinnow.core.artifact_schemas import PlanFile
from datawinnow.core.artifacts import read_json
from datawinnow.core.counts import many
from datawinnow.core.result_rows import PLAN_FILE
from datawinnow.report.svg import INK, MARKERS, MUTED, SERIES, canvas, styled, to_svg
from datawinnow.report.words import provenance


def is_plan(folder: Path) -> bool:
    """Whether a folder holds a plan."""
    return (folder / PLAN_FILE).is_file()


def plan_context(folder: Path) -> dict[str, Any]:
    """Template variables of the page of a plan.

    Raises:
        RunError: ``plan.json`` is truncated, newer, or incomplete.
    """
    content = read_json(folder / PLAN_FILE, schema=PlanFile)
    routes = content["routes"]
    figures = []
    if any(route["curve"] for route in routes):
        figures = [
            {
                "svg": error_plot(content),
                "title": "Error by share of the cost",
                "caption": "Points are pilots, one a fold; lines are the fitted curves. A share is of the examples, "
                "trained on for all epochs, or of the operations of the full training on all the examples.",
            },
            {
                "svg": drop_plot(content),
                "title": "Accuracy lost against the full training",
                "caption": f"Bands are 95% of the bootstrap's replicates; the dashed line is the promise, "
                f"{content['max_drop']:g} points. A ring marks the smallest share that keeps it.",
            },
        ]
    return {
        "title": f"Plan for {content['name']}",
        "about": f"{many(content['num_pilots'], 'pilot training')} for a full training of "
        f"{many(content['epochs'], 'epoch')} on {content['n']:,} examples; together they cost "
        f"{content['pilots_cost']:.1f} full trainings.",
        "lead": content["sentence"],
        "notes": [note for note in (content.get("labels"), *content.get("notes", ())) if note],
        "figures": figures,
        "made": provenance(content),
        "rows": [row for route in routes for row in _pilot_rows(route)],
        "full": None if not content.get("full") else f"{100 * statistics.fmean(content['full']):.2f}",
    }


def _pilot_rows(route: dict[str, Any]) -> list[dict[str, str]]:
    drops = {round(point["share"], 2): point["drop"] for point in route["curve"]}
    rows = []
    for pilot in route["pilots"]:
        drop = drops.get(round(pilot["share"], 2))
        loses = "-" if drop is None else f"{100 * drop[0]:.1f} ({100 * drop[1]:.1f} to {100 * drop[2]:.1f})"
        error = f"{100 * statistics.fmean(pilot['errors']):.2f}"
        rows.append({"label": route["label"], "axis": route["axis"], "share": f"{pilot['share']:.1%}"})
        rows[-1] |= {"error": error, "loses": loses}
    return rows


def error_plot(content: dict[str, Any]) -> Markup:
    """Pilots and fitted curves: error in percent over the share, both on logarithmic axes."""
    with styled():
        figure, axes = canvas(4.8, 3.4)
        for number, route in enumerate(content["routes"]):
            colour = SERIES[number % len(SERIES)]
            points = [(pilot["share"], error) for pilot in route["pilots"] for error in pilot["errors"]]
            marker = MARKERS[number % len(MARKERS)]
            axes.scatter(
                [share for share, _ in points],
                [100 * error for _, error in points],
                s=14,
                color=colour,
                marker=marker,
                alpha=0.7,
                linewidths=0,
                label=route["label"],
            )
            curve = route["curve"]
            axes.plot([p["share"] for p in curve], [100 * p["error"] for p in curve], color=colour, linewidth=1.4)
        full = content.get("full") or []
        axes.scatter([1.0] * len(full), [100 * error for error in full], s=14, color=INK, linewidths=0, label="full")
        axes.set_xscale("log")
        shares = sorted({pilot["share"] for route in content["routes"] for pilot in route["pilots"]} | {1.0})
        axes.set_xticks(shares, [f"{share:.3g}" for share in shares])
        axes.minorticks_off()
        axes.set_xlabel("share of the full training")
        axes.set_title("held-out error, %", loc="left", fontsize=9, color=MUTED)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8, loc="upper right")
        return to_svg(figure, "plan-error")


def drop_plot(content: dict[str, Any]) -> Markup:
    """Points of accuracy lost over the share, with the promise and the smallest shares that keep it."""
    with styled():
        figure, axes = canvas(4.8, 3.4)
        limit = content["max_drop"]
        top = max(4 * limit, 1.0)
        for number, route in enumerate(content["routes"]):
            curve, colour = route["curve"], SERIES[number % len(SERIES)]
            if not curve:
                continue
            shares = [point["share"] for point in curve]
            median, low, high = ([100 * point["drop"][i] for point in curve] for i in range(3))
            axes.fill_between(shares, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(shares, median, color=colour, linewidth=1.4, label=route["label"])
            if route.get("share") is not None:
                nearest = min(range(len(shares)), key=lambda i: abs(shares[i] - route["share"]))
                axes.scatter([shares[nearest]], [median[nearest]], s=60, facecolors="none", edgecolors=colour, zorder=4)
        axes.axhline(limit, color=INK, linewidth=0.9, linestyle="--")
        axes.axhline(0, color=MUTED, linewidth=0.7)
        axes.set_ylim(-top, 2 * top)
        axes.set_xlim(0, 1.02)
        axes.set_xlabel("share of the full training")
        axes.set_title("accuracy lost, points", loc="left", fontsize=9, color=MUTED)
        axes.legend(frameon=False, fontsize=8, loc="upper right")
        return to_svg(figure, "plan-drop")
