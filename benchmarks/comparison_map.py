"""From the comparison's rows: the map that `auto` chooses by, the image and the table of docs/results.md.

    python benchmarks/comparison_map.py                # after: datawinnow bench benchmarks/comparison.toml

Copies the rows from results/comparison to benchmarks/results/comparison and writes
src/datawinnow/dynamic/benchmarks.json, map.svg beside the rows, and the table of docs/results.md. `--rows FOLDER`
reads the rows from another folder; `--check` writes nothing and says whether the map agrees with the rows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from datawinnow.bench.grid_file import read_suite
from datawinnow.core.verdict import outcome_words, points
from datawinnow.report.comparison import comparison_markdown, gain_map, read_runs
from datawinnow.report.svg import standalone

ROOT = Path(__file__).parent.parent
MAP = ROOT / "src" / "datawinnow" / "dynamic" / "benchmarks.json"
KEPT = ROOT / "benchmarks" / "results" / "comparison"
TEXT_MODELS = ("text_cnn", "bag_of_embeddings")
IMAGE = KEPT / "map.svg"
PAGE = ROOT / "docs" / "results.md"
CLASSES = {"cifar10": 10, "cifar100": 100, "digits": 10, "sst2": 2}
"""By what a setting's name begins with."""
AGAIN = "_again"
"""How the names of settings end that confirm a winner of the setting before it, on seeds of their own."""
TUNING = "tuning"
"""How the names of settings end whose seed chose learning rates: no result."""


def places(rows: Path) -> list[dict[str, Any]]:
    """What each policy gained in each setting, as `datawinnow.dynamic.auto.MeasuredSetting` has it."""
    grids = read_suite(ROOT / "benchmarks" / "comparison.toml")
    found: list[dict[str, Any]] = []
    run = read_runs(rows) if any(rows.glob("*/rows.jsonl")) else []
    confirmed = {
        (name, arm.budget, arm.method) for arm in run if (name := arm.setting.partition(", ")[0]).endswith(AGAIN)
    }
    for arm in run:
        name, _, scenario = arm.setting.partition(", ")
        if name.endswith(TUNING) or name not in grids or arm.gain is None:
            continue
        if (name + AGAIN, arm.budget, arm.method) in confirmed:
            continue  # the trial that it won flatters it
        spec = grids[name].spec_of(arm.method)
        if spec.policy is None or spec.train:
            continue
        gain = arm.gain.interval
        found.append(
            {
                "setting": grids[name].about,
                "n": arm.n,
                "passes": arm.budget,
                "noisy": bool(scenario),
                "kind": "texts" if grids[name].train.model in TEXT_MODELS else "images",
                "label": arm.label,
                "policy": spec.policy,
                "options": spec.options,
                "wrap": spec.wrap,
                "gain": round(gain.mean, 5),
                "half": None if gain.half is None else round(gain.half, 5),
                "seeds": len(arm.seeds),
                "classes": CLASSES[name.partition("_")[0]],
            }
        )
    return found


def text_of(rows: Path) -> str:
    """The map as it is kept, a place a line."""
    found = places(rows)
    lines = "".join(",\n  " + json.dumps(one) for one in found)[1:]
    return '{"made_by": "python benchmarks/comparison_map.py", "settings": [' + lines + ("\n]}\n" if found else "]}\n")


SHOWN = {
    "cifar10": ("CIFAR-10, 10,000 images", "ucb_7"),
    "cifar10_again": ("the same, five other seeds", "ucb_7"),
    "cifar10_fast": ("the same, twice the learning rate", "ucb_7"),
    "cifar10_small": ("the same, half the width", "ucb_7"),
    "cifar10_50k": ("CIFAR-10, all 50,000 images", "ucb_7"),
    "cifar10_noise": ("CIFAR-10, 20% wrong labels", "ucb_7_guarded"),
    "digits_noise_again": ("digits, 20% wrong labels, ten seeds", "guarded"),
    "digits": ("digits", "ucb_7"),
    "cifar100": ("CIFAR-100, 10,000 images", "ucb_7"),
    "sst2": ("SST-2 sentences", "ucb_7"),
    "sst2_noise": ("SST-2, 20% wrong labels", "guarded"),
}
"""By setting: its name in docs/results.md, and the one arm to show."""
START, END = "<!-- comparison: made by benchmarks/comparison_map.py -->", "<!-- /comparison -->"


def table_of(rows: Path) -> str:
    """The table of docs/results.md: each setting's policy beside the best of all the data for no more passes."""
    lines = ["| data | passes | all the data, fewer epochs | chosen | by | difference |", "| --- " * 6 + "|"]
    found = read_runs(rows)
    for name, (about, method) in SHOWN.items():
        here = [arm for arm in found if arm.setting.partition(", ")[0] == name]
        for arm in (arm for arm in here if arm.method == method and arm.gain is not None):
            [other] = [a for a in here if (a.method, a.budget) == ("shorter_full", arm.against)]
            won = arm.gain is not None and arm.gain.outcome == "wins"
            base = f"{100 * other.accuracy.mean:.1f}" + (
                "" if arm.against == arm.budget else f" ({arm.against:g} passes)"
            )
            own = f"{100 * arm.accuracy.mean:.1f}"
            by = arm.label.replace("all that looks right (guarded)", "guarded").replace(", keep 0.7", "")
            few = "" if len(arm.seeds) >= 5 else f", {len(arm.seeds)} seeds"
            verdict = points(arm.gain) + ("" if won else f" ({outcome_words(arm.gain)})") + few
            lines.append(f"| {about} | {arm.budget:g} | {base} | {f'**{own}**' if won else own} | {by} | {verdict} |")
            about = ""
    return "\n".join(lines)


def image_of(rows: Path) -> str:
    """The map as an image, with what it shows in words."""
    return standalone(gain_map(read_runs(rows)), "What choosing gains over all the data for no more passes, in points")


def main() -> None:
    """Read the rows, write the map."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", type=Path, default=ROOT / "results" / "comparison", help="folder of the settings' rows"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the map is not of these rows")
    given = parser.parse_args()
    made = text_of(given.rows)
    if given.check:
        sys.exit(0 if MAP.read_text(encoding="utf-8") == made else f"{MAP.name} is not made from {given.rows}")
    for file in sorted(given.rows.glob("*/rows.jsonl")):
        kept = KEPT / file.parent.name / file.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        if file.resolve() != kept.resolve():
            shutil.copyfile(file, kept)
    MAP.write_text(made, encoding="utf-8")
    IMAGE.write_text(image_of(KEPT), encoding="utf-8")
    before, _, after = PAGE.read_text(encoding="utf-8").partition(START)
    PAGE.write_text(f"{before}{START}\n{table_of(KEPT)}\n{END}{after.partition(END)[2]}", encoding="utf-8")
    print(comparison_markdown(given.rows))


if __name__ == "__main__":
    main()
