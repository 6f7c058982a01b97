"""Result rows and a run folder to report on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from datawinnow.api import prune
from datawinnow.data.examples import Augment, Examples
from datawinnow.train import Recipe

HOSTILE = '<script>alert("x")</script>'
LABELS = {"full": "all the data", "shorter_full": "all the data, fewer epochs", "random": "random", "dual": "DUAL"}


def row(method: str, keep: float, seed: int, accuracy: float, **fields: Any) -> dict[str, Any]:
    """One result row of a full run of 30 epochs over 100 examples."""
    train = round(3000 * keep)
    score = 3000 if method == "dual" else 0

    def cost(passes: int) -> dict[str, float]:
        return {"seconds": passes / 100, "forward": 0, "backward": passes, "flops": passes * 1e6}

    return {
        "format": 1, "benchmark": "trial", "dataset": "spots", "fingerprint": "0" * 16, "n": 100, "test_n": 500,
        "model": "mlp", "epochs": 30, "method": method, "label": LABELS[method], "keep": keep, "seed": seed,
        "scenario": "clean", "trained_epochs": 30, "accuracy": accuracy, "test_loss": 1.0, "changed_kept": None,
        "cost": {"score": cost(score), "select": cost(0), "train": cost(train)}, "passes": train,
        "total_passes": train + score, "device": "cpu", "threads": 1, "versions": {}, "commit": "", "finished": "",
        **fields,
    }  # fmt: skip


def grid(**fields: Any) -> list[dict[str, Any]]:
    """Three seeds in which DUAL loses to both references at keep 0.5 and beats random at keep 0.1."""
    means = {("full", 1.0): 0.9, ("shorter_full", 0.5): 0.8, ("random", 0.5): 0.7, ("dual", 0.5): 0.6,
             ("shorter_full", 0.1): 0.5, ("random", 0.1): 0.3, ("dual", 0.1): 0.5}  # fmt: skip
    wobble = {0: -0.010, 1: 0.0, 2: 0.010}
    seed_effect = {0: 0.002, 1: -0.001, 2: 0.001}  # differences by seed are not all equal
    return [
        row(method, keep, seed, accuracy + wobble[seed] + (seed_effect[seed] if method == "dual" else 0.0), **fields)
        for (method, keep), accuracy in means.items()
        for seed in range(3)
    ]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """``rows.jsonl``."""
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def run_folder(path: Path, *, classes: tuple[str, ...] = ("cat", HOSTILE, "dog")) -> Path:
    """A run of 90 little images, pruned to 30%."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    x = torch.randint(0, 60, (90, 3, 8, 8), dtype=torch.uint8, generator=generator)
    x[torch.arange(90), labels] += 120
    train = Examples(x, labels, classes, name="spots", augment=Augment(crop=1, flip=False))
    prune(train, keep=0.3, epochs=4, model="mlp", run=path, score="el2n", test=train,
          recipe=Recipe(batch=16, lr=0.05, precision="fp32"))  # fmt: skip
    return path
