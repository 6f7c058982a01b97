"""From the comparison's rows: the map that `auto` chooses by, the image and the table of docs/results.md.

    python benchmarks/comparison_map.py    # after: datawinnow bench benchmarks/comparison.toml, or half_cost.toml

Copies the rows from results/comparison and results/half_cost to benchmarks/results/comparison and writes
src/datawinnow/dynamic/benchmarks.json, map.svg beside the rows, and the table of docs/results.md. `--rows FOLDER`
(repeatable) reads the rows from other folders; `--check` writes nothing and says whether the map agrees with the rows
that are kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from datawinnow.bench import Grid
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
SHAPES: dict[str, tuple[int, int]] = {"cifar10": (3, 32), "cifar100": (3, 32), "digits": (1, 8)}
"""Channels and side of images, by what a setting's name begins with."""
SUITES = ("comparison", "half_cost")
"""Files of grids whose settings are measured."""
AGAIN = "_again"
"""How the names of settings end that confirm a winner of the setting before it, on seeds of their own."""
FINE_TUNED = "_finetuned"
"""In the names of settings that begin with a pretrained network: `auto` is for training from nothing."""
TUNING = "tuning"
"""How the names of settings end whose seed chose learning rates: no result."""


def all_grids() -> dict[str, Grid]:
    """The grids of all settings, by their names."""
    return {name: grid for suite in SUITES for name, grid in read_suite(ROOT / "benchmarks" / f"{suite}.toml").items()}


def measured_settings(rows: Path) -> list[dict[str, Any]]:
    """What each policy gained in each setting, as `datawinnow.dynamic.auto.MeasuredSetting` has it."""
    grids = all_grids()
    entries: list[dict[str, Any]] = []
    all_runs = read_runs(rows) if any(rows.glob("*/rows.jsonl")) else []
    confirmed_runs = {
        (name, run.budget, run.method) for run in all_runs if (name := run.setting.partition(", ")[0]).endswith(AGAIN)
    }
    for run in all_runs:
        name, _, scenario = run.setting.partition(", ")
        if name.endswith(TUNING) or FINE_TUNED in name or name not in grids or run.gain is None:
            continue
        if (name + AGAIN, run.budget, run.method) in confirmed_runs:
            continue  # the trial that it won flatters it
        spec = grids[name].spec_of(run.method)
        size_schedule = spec.train.get("size_schedule")
        if (spec.policy is None and size_schedule is None) or set(spec.train) - {"size_schedule"}:
            continue
        gain = run.gain.interval
        dataset = name.partition("_")[0]
        channels, size = SHAPES.get(dataset, (None, None))
        entries.append(
            {
                "setting": grids[name].about,
                "n": run.n,
                "passes": run.budget,
                "noisy": bool(scenario),
                "kind": "texts" if grids[name].train.model in TEXT_MODELS else "images",
                "label": run.label,
                "policy": spec.policy or "",
                "options": spec.options,
                "wrap": spec.wrap,
                "gain": round(gain.mean, 5),
                "half": None if gain.half is None else round(gain.half, 5),
                "seeds": len(run.seeds),
                "classes": CLASSES[dataset],
                "channels": channels,
                "size": size,
            }
        )
        if size_schedule is not None:
            # as a share of the size, which other sizes of images have too
            start = size_schedule["start"]
            entries[-1]["size_schedule"] = {**size_schedule, "start": start if start < 1 else start / size}
    return entries


def map_text(rows: Path) -> str:
    """The map as it is kept, a place a line."""
    entries = measured_settings(rows)
    lines = "".join(",\n  " + json.dumps(one) for one in entries)[1:]
    return (
        '{"made_by": "python benchmarks/comparison_map.py", "settings": [' + lines + ("\n]}\n" if entries else "]}\n")
    )


SHOWN = {
    "cifar10_15": ("CIFAR-10, 10,000 images, small first", "early_views_ucb_7"),
    "cifar100_15": ("CIFAR-100, 10,000 images, small first", "early_views"),
    "sst2_short_first": ("SST-2 sentences, half the tokens first", "short_first"),
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
"""By setting: its name in docs/results.md, and the one method to show."""
START, END = "<!-- comparison: made by benchmarks/comparison_map.py -->", "<!-- /comparison -->"


def results_table(rows: Path) -> str:
    """The table of docs/results.md: each setting's policy beside the best of all the data for no more passes."""
    lines = ["| data | passes | all the data, fewer epochs | chosen | by | difference |", "| --- " * 6 + "|"]
    entries = read_runs(rows)
    for name, (about, method) in SHOWN.items():
        runs = [run for run in entries if run.setting.partition(", ")[0] == name]
        for run in (run for run in runs if run.method == method and run.gain is not None):
            [other] = [a for a in runs if (a.method, a.budget) == ("shorter_full", run.against)]
            won = run.gain is not None and run.gain.outcome == "wins"
            base = f"{100 * other.accuracy.mean:.1f}" + (
                "" if run.against == run.budget else f" ({run.against:g} passes)"
            )
            ours = f"{100 * run.accuracy.mean:.1f}"
            by = run.label.replace("all that looks right (guarded)", "guarded").replace(", keep 0.7", "")
            seeds_note = "" if len(run.seeds) >= 5 else f", {len(run.seeds)} seeds"
            verdict = points(run.gain) + ("" if won else f" ({outcome_words(run.gain)})") + seeds_note
            lines.append(f"| {about} | {run.budget:g} | {base} | {f'**{ours}**' if won else ours} | {by} | {verdict} |")
            about = ""
    return "\n".join(lines)


def map_image(rows: Path) -> str:
    """The map as an image with a description."""
    return standalone(gain_map(read_runs(rows)), "What choosing gains over all the data for no more passes, in points")


def main() -> None:
    """Read the rows, write the map."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", type=Path, action="append", help="folder of the settings' rows (default: those of both grids)"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the map is not of these rows")
    options = parser.parse_args()
    if options.check:
        sys.exit(0 if MAP.read_text(encoding="utf-8") == map_text(KEPT) else f"{MAP.name} is not made from {KEPT}")
    for folder in options.rows or [ROOT / "results" / suite for suite in SUITES]:
        for file in sorted([*folder.glob("*/rows.jsonl"), *folder.glob("*/grid.json")]):
            kept = KEPT / file.parent.name / file.name
            kept.parent.mkdir(parents=True, exist_ok=True)
            if file.resolve() != kept.resolve():
                shutil.copyfile(file, kept)
    text = map_text(KEPT)
    MAP.write_text(text, encoding="utf-8")
    IMAGE.write_text(map_image(KEPT), encoding="utf-8")
    before, _, after = PAGE.read_text(encoding="utf-8").partition(START)
    PAGE.write_text(f"{before}{START}\n{results_table(KEPT)}\n{END}{after.partition(END)[2]}", encoding="utf-8")
    print(comparison_markdown(KEPT))


if __name__ == "__main__":
    main()
