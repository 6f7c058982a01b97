"""What a comparison says: where choosing wins, its tables, and what its page shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datawinnow.report import words
from datawinnow.report.comparison import CLAIM, TUNING, Arm, arms, sure
from datawinnow.report.comparison_plots import SAYS, the_map


def comparison_context(path: Path) -> dict[str, Any]:
    """What the page of a comparison shows."""
    found = arms(path)
    names = list(dict.fromkeys(arm.setting for arm in found))
    return {
        "title": path.name,
        "about": "Every arm passes as many examples as all the data for fewer epochs, everything counted but what "
        "is told to be paid beforehand.",
        "says": verdict(found),
        "figure": {"svg": the_map(found), "title": "When does choosing pay?", "says": SAYS},
        "needed": needed_by,
        "other": other,
        "settings": [(name, [arm for arm in found if arm.setting == name]) for name in names],
    }


HALVES = 2.0
"""From so many times the passes on, that choosing saves is worth a sentence."""


def halved(found: Sequence[Arm]) -> list[str]:
    """Where the shorter full run needs at least twice the passes for what choosing reaches, in words.

    Only where choosing beats it at no more passes, beyond noise, and where more passes are of use to it: else fewer may
    do as well. Of every setting the arm that saves most.
    """
    return [
        f"{arm.setting} ({arm.label}, {arm.budget:g} passes: all the data need {_needs(arm)})"
        for arm in _most(found, lambda arm: arm.needs is not None or (arm.peak or 0.0) >= HALVES * arm.budget)
        if (arm.saves or 0.0) >= HALVES
    ]


def unreached(found: Sequence[Arm]) -> list[str]:
    """Where every length of the shorter full run, longer ones too, stays below what choosing reaches, in words."""
    return [
        f"{arm.setting} ({arm.label}, {arm.budget:g} passes; all the data up to {arm.upper_bound_epochs:g} were tried)"
        for arm in _most(
            found, lambda arm: arm.upper_bound_epochs is not None and (arm.peak or 0.0) < HALVES * arm.budget
        )
    ]


def _most(found: Sequence[Arm], which: Callable[[Arm], bool]) -> list[Arm]:
    """Of every setting that tunes nothing the surest winner that saves most, of some."""
    best: dict[str, Arm] = {}
    for arm in found:
        if arm.fair and sure(arm) and not arm.setting.endswith(TUNING) and which(arm):
            other = best.get(arm.setting)
            if other is None or (arm.saves or 0, arm.accuracy.mean) > (other.saves or 0, other.accuracy.mean):
                best[arm.setting] = arm
    return list(best.values())


def verdict(found: Sequence[Arm]) -> str:
    """Where choosing beats the shorter full run with five seeds, and where it does not, in words.

    Controls and what was paid for beside the budget are in the tables, and win nothing; nor does a setting that tunes.
    """
    won, open_, lost = [], [], []
    for setting in dict.fromkeys(arm.setting for arm in found if not arm.setting.endswith(TUNING)):
        for budget in dict.fromkeys(arm.budget for arm in found if arm.setting == setting):
            here = [a for a in found if (a.setting, a.budget) == (setting, budget) and a.fair]
            place = f"{setting} at {budget:g} passes"
            best = max((a for a in here if sure(a)), key=lambda a: a.accuracy.mean, default=None)
            if best is not None and best.gain is not None:
                of = f", the best of {best.num_candidates}" if best.num_candidates > 1 else ""
                won.append(f"{place} ({best.label}, {words.points(best.gain)} points{other(best)}{of})")
            elif here and all(len(a.seeds) >= CLAIM for a in here):
                lost.append(place)
            elif here:
                open_.append(place)
    parts = []
    if won:
        parts.append(f"Choosing beats all the data for fewer epochs in {words.listed(won)}.")
    if half := halved(found):
        parts.append(f"Half the passes or fewer are enough in {words.listed(half)}.")
    if never := unreached(found):
        parts.append(f"No length of all the data reaches it in {words.listed(never)}.")
    if lost:
        parts.append(f"Nothing beats it in {words.listed(lost)}.")
    if open_:
        parts.append(f"Not settled (fewer than {CLAIM} seeds): {words.listed(open_)}.")
    return " ".join(parts) or "There is nothing to compare yet."


def gained(arm: Arm) -> str:
    """The gain in points, and against which budget where that is a smaller one."""
    return f"{words.points(arm.gain)}{other(arm)}"


def other(arm: Arm) -> str:
    """Against which budget the gain is, where that is a smaller one."""
    return "" if arm.against in (None, arm.budget) else f" against {arm.against:g} passes"


def needed_by(arm: Arm) -> str:
    """The passes that the shorter full run needs for as much, and what was paid beforehand, in words.

    Not where the two cannot be told apart: then nobody knows what it needs.
    """
    apart = arm.gain is not None and arm.gain.verdict in ("wins", "loses")
    found = f"{_needs(arm)} ({_factor(arm)})" if apart and arm.saves is not None else "-"
    return found + _beforehand(arm)


def _needs(arm: Arm) -> str:
    return (
        f"more than {arm.upper_bound_epochs:g} passes" if arm.needs is None else f"{arm.needs:.1f} passes"
    )  # or none is enough


def _factor(arm: Arm) -> str:
    return f"{'over ' if arm.needs is None else ''}{arm.saves:.2f}x"


def _beforehand(arm: Arm) -> str:
    if not arm.upfront_cost:
        return ""
    paid, apart = f"; {arm.upfront_cost:.1f} paid beforehand", arm.gain is not None and arm.gain.verdict == "wins"
    if arm.pays_back is None or not (apart or math.isinf(arm.pays_back)):
        return paid
    return paid + (": never pays back" if math.isinf(arm.pays_back) else f": pays back after {arm.pays_back:.1f} runs")


def comparison_markdown(path: Path) -> str:
    """The verdict and a table a setting, as Markdown."""
    found = arms(path)
    out = [verdict(found), ""]
    for setting in dict.fromkeys(arm.setting for arm in found):
        head = "passes | method | seeds | accuracy % | gain, points | reference needs | operations | seconds"
        out += [f"**{setting}**", "", f"| {head} |", "| --- | --- | --- | --- | --- | --- | --- | --- |"]
        for arm in (a for a in found if a.setting == setting):
            gain = "-" if arm.gain is None else f"{gained(arm)} {words.mark(arm.gain)}"
            cells = [
                f"{arm.budget:g}",
                arm.label,
                str(len(arm.seeds)),
                words.percent(arm.accuracy),
                gain,
                needed_by(arm),
                words.flops(arm.flops),
                words.seconds(arm.seconds),
            ]
            out.append("| " + " | ".join(cells) + " |")
        out.append("")
    return "\n".join(out)
