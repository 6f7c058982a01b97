"""Does `plan` keep its promise? Plans with many seeds against the accuracy that their advice has on the test split.

Each plan draws other folds. What its advice loses is read off a dense grid: every route at each tenth of the cost, and
the full training, on all the training examples, on the test split, over several seeds; between tenths it is
interpolated. Plans and grid are kept in results/plan_promise, so that a run that was killed goes on. `--full` adds
CIFAR-10 and SST-2, hours on two cores.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from measuring import arguments, finish, say

import datawinnow as dw
from datawinnow.api.plan import CHEAPER_RUN, cheaper_training
from datawinnow.bench import GridData, grid_of, run_grid
from datawinnow.core.result_rows import PLAN_FILE
from datawinnow.data.dataset_info import dataset_info
from datawinnow.train import Recipe

RESULTS = Path(__file__).parents[1] / "results" / "plan_promise"
DATA = Path(os.environ.get("DATAWINNOW_DATA", Path(__file__).parents[2] / "shared" / "data"))
TENTHS = tuple(i / 10 for i in range(1, 10))


@dataclass(frozen=True)
class Case:
    """A dataset, how its full training is done, and the promise.

    Attributes:
        source: dataset.
        epochs: of the full training.
        max_drop: points that may be lost.
        limit: training examples; None for all.
        model: network; None for the default.
        recipe: fields of the recipe.
    """

    source: str
    epochs: int
    max_drop: float
    limit: int | None = None
    model: str | None = None
    recipe: dict[str, Any] = field(default_factory=dict)


CASES = {
    "digits": Case("digits", 20, 1.0),
    "cifar10": Case(str(DATA / "cifar10"), 15, 1.0, 10_000, "resnet8", {"lr": 0.4, "schedule": "one_cycle"}),
    "sst2": Case(str(DATA / "sst2"), 10, 1.0),
}
SMOKE = Case("digits", 6, 5.0, 300, "mlp", {"lr": 0.05, "batch": 32})


def plans_of(case: Case, train: Any, repetitions: int, out: Path) -> list[dict[str, Any]]:
    """``plan.json`` of each repetition."""
    contents = []
    for seed in range(repetitions):
        folder = out / f"plan-{seed}"
        dw.api.plan(
            train,
            max_drop=case.max_drop,
            epochs=case.epochs,
            seed=seed,
            model=case.model,
            recipe=Recipe(precision="fp32", **case.recipe),
            out=folder,
            report=False,
        )
        contents.append(json.loads((folder / PLAN_FILE).read_text(encoding="utf-8")))
        say(f"  plan {seed}: {contents[-1]['sentence']}")
    return contents


def true_drops(case: Case, train: Any, test: Any, seeds: int, out: Path) -> dict[str, list[float]]:
    """Label of a route -> points lost at each tenth of the cost and, last, at all of it."""
    info = dataset_info(train)
    recipe = Recipe(precision="fp32", **case.recipe)
    cheaper = cheaper_training(info, case.epochs, case.model, None, recipe, None)
    tables = [] if cheaper is None else [{"name": CHEAPER_RUN, **cheaper}]
    fields = {key: value for key, value in vars(recipe).items() if value is not None and key != "size_schedule"}
    names = ["random", "shorter_full", *([CHEAPER_RUN] if cheaper else [])]
    grid = {
        "name": "plan promise",
        "data": {"source": info.name},
        "train": {**fields, "epochs": case.epochs, "model": case.model},
        "methods": ["full", *names],
        "method": tables,
        "keep": list(TENTHS),
        "seeds": list(range(seeds)),
    }
    rows = run_grid(grid_of("plan promise", grid), out / "truth", data=GridData(info, test))
    mean = {
        key: statistics.fmean(row["accuracy"] for row in rows if (row["method"], row["keep"]) == key)
        for key in {(row["method"], row["keep"]) for row in rows}
    }
    full = mean["full", 1.0]
    labels = {
        "random": "random examples",
        "shorter_full": "all the data, fewer epochs",
        CHEAPER_RUN: (cheaper or {}).get("label"),
    }
    return {str(labels[name]): [*(100 * (full - mean[name, share]) for share in TENTHS), 0.0] for name in names}


def loss_of(choice: Mapping[str, Any] | None, drops: Mapping[str, Sequence[float]]) -> float:
    """Points that the advice loses on the test split; 0 for training on everything."""
    if choice is None:
        return 0.0
    # never below the first tenth: pilots begin at an eighth
    return float(np.interp(choice["share"], [*TENTHS, 1.0], drops[choice["label"]]))


def study(case: Case, repetitions: int, seeds: int, out: Path) -> dict[str, Any]:
    """How often the promise was kept, what the plans cost, and how far they agree."""
    train, test = dw.load(case.source, limit=case.limit)
    plans = plans_of(case, train, repetitions, out)
    drops = true_drops(case, train, test, seeds, out)
    losses = [loss_of(plan["chosen"], drops) for plan in plans]
    promised = [plan for plan in plans if plan["chosen"] is not None]
    routes = Counter(plan["chosen"]["label"] if plan["chosen"] else "everything" for plan in plans)
    shares = [plan["chosen"]["share"] for plan in promised]
    # every tenth of every route and the full training, on as many folds
    trying_all = 3 * 0.8 * (len(drops) * sum(TENTHS) + 1)
    cost = statistics.fmean(plan["pilots_cost"] for plan in plans)
    return {
        "plans": len(plans),
        "promises": len(promised),
        # a plan that promises nothing keeps nothing
        "kept": sum(
            loss <= case.max_drop for loss, plan in zip(losses, plans, strict=True) if plan["chosen"] is not None
        ),
        "max_drop": case.max_drop,
        "losses": [round(loss, 2) for loss in losses],
        "routes": dict(routes),
        "share_mean": statistics.fmean(shares) if shares else math.nan,
        "share_sd": statistics.stdev(shares) if len(shares) > 1 else 0.0,
        "pilots_cost": cost,
        "cost_against_trying_all": cost / trying_all,
        "true_drops": {label: [round(drop, 2) for drop in of] for label, of in drops.items()},
    }


def main() -> None:
    """Run the study and print a line a dataset."""
    size = arguments(__doc__ or "")
    results = {}
    if size == "smoke":
        with tempfile.TemporaryDirectory() as folder:
            results["digits"] = study(SMOKE, repetitions=2, seeds=2, out=Path(folder))
    else:
        for name in CASES if size == "full" else ["digits"]:
            results[name] = study(CASES[name], repetitions=20, seeds=10, out=RESULTS / name)
    for name, result in results.items():
        say(
            f"{name}: the promise of {result['max_drop']:g} points kept in {result['kept']} of "
            f"{result['promises']} plans that promised a saving, of {result['plans']} (share "
            f"{result['share_mean']:.2f} ± {result['share_sd']:.2f}, sd); pilots cost "
            f"{result['pilots_cost']:.1f} full trainings, {result['cost_against_trying_all']:.0%} of trying every tenth"
        )
    finish("plan_promise", size, {"goal": "kept in 90% of the plans", "results": results})


if __name__ == "__main__":
    main()
