"""How well an audit finds wrong labels: planted noise, one recording, beside cleanlab's confident learning.

Symmetric, pair and instance-dependent noise at 5, 10, 20 and 40% on digits (and, with `--full`, 10,000 images of
CIFAR-10 and the sentences of SST-2). The audit has one training of the network, and confident learning out-of-fold
probabilities of five more with the same epochs: 4 times as many examples passed. Cells are kept in
results/audit_labels, so that a run that was killed goes on. `--full` takes many hours on two cores.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import arguments, finish, say
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from datawinnow import scenarios
from datawinnow.audit import LabelErrors, find_label_errors
from datawinnow.core.rng import stream
from datawinnow.data.dataset_info import dataset_info
from datawinnow.data.load import load
from datawinnow.probe import probe
from datawinnow.record import Recorder
from datawinnow.train import Recipe, fit
from datawinnow.train.build import build_network

RESULTS = Path(__file__).parents[1] / "results" / "audit_labels"
DATA = Path(os.environ.get("DATAWINNOW_DATA", Path(__file__).parents[2] / "shared" / "data"))
FOLDS = 5
NOISES = ("symmetric", "pair", "instance_dependent")
RATES = (0.05, 0.1, 0.2, 0.4)
TEXT_COLUMNS = 256
"""Columns of the counts of token ids by which instance-dependent noise tells texts apart."""


@dataclass(frozen=True)
class Setting:
    """A dataset and how its network is trained.

    Attributes:
        name: of the dataset.
        source: of it.
        limit: training examples; None for all.
        epochs: of the recording and of every fold.
        recipe: how to train.
        model: network; None to choose by the shape of the examples.
        model_options: its options.
    """

    name: str
    source: str
    limit: int | None
    epochs: int
    recipe: Recipe
    model: str | None = None
    model_options: dict[str, Any] = field(default_factory=dict)

    def network(self, train: Any, seed: int) -> Any:
        """The network with the weights of a seed."""
        return build_network(self.model, dataset_info(train), seed, self.model_options)[0]


FP32 = Recipe(precision="fp32", channels_last=False)
DIGITS = Setting("digits", "digits", None, 30, FP32)
CIFAR = Setting("cifar10", str(DATA / "cifar10"), 10_000, 30, Recipe(precision="bf16", channels_last=True))
# as sst2.toml; its train split has 6,920 sentences
SST2 = Setting("sst2", str(DATA / "sst2"), None, 20, Recipe(precision="fp32"), "text_cnn", {"width": 64, "filters": 32})
SIZES: dict[str, tuple[Sequence[Setting], Sequence[str], Sequence[float], int]] = {
    "smoke": ((Setting("digits", "digits", 300, 8, FP32),), ("symmetric",), (0.2,), 1),
    "default": ((DIGITS,), NOISES, RATES, 1),
    "full": ((DIGITS, CIFAR, SST2), NOISES, RATES, 3),
}


def vectors_of(train: Any) -> Tensor:
    """(n, d) numbers by which instance-dependent noise tells examples apart."""
    if getattr(train, "texts", None):
        counts = torch.zeros(len(train), TEXT_COLUMNS)
        ids = train.x.long()
        return counts.scatter_add_(1, ids % TEXT_COLUMNS, (ids > 0).float())
    return torch.as_tensor(train.x.flatten(1).float())


def out_of_fold(train: Any, setting: Setting, seed: int) -> tuple[Tensor, int]:
    """(n, c) class probabilities of networks that were not trained on the example, and the examples passed."""
    probs, passed = torch.zeros(len(train), len(train.classes)), 0
    labels = train.labels.numpy()
    for k, (kept, left) in enumerate(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(labels, labels)):
        fold = train.subset(torch.from_numpy(kept))
        fold_seed = 1000 * seed + k
        network = setting.network(fold, fold_seed)
        model, history = fit(network, fold, epochs=setting.epochs, seed=fold_seed, recipe=setting.recipe)
        rest = train.subset(torch.from_numpy(left))
        probs[torch.from_numpy(left)] = torch.as_tensor(np.asarray(probe(model, rest, arrays=("probs",))["probs"]))
        passed += history.cost.backward
    return probs, passed


def measured(errors: LabelErrors, wrong: Tensor, truth: Tensor) -> dict[str, float]:
    """Precision and recall at one half, AUROC, calibration error in ten bins, and how often the suggestion is right."""
    p, is_wrong = errors.p_wrong.numpy(), wrong.numpy()
    flagged = p >= 0.5
    bins = np.minimum((p * 10).astype(int), 9)
    return {
        "precision": float(is_wrong[flagged].mean()) if flagged.any() else 0.0,
        "recall": float(flagged[is_wrong].mean()),
        "auroc": float(roc_auc_score(is_wrong, p)),
        "calibration_error": sum(
            float((bins == b).mean()) * abs(float(p[bins == b].mean()) - float(is_wrong[bins == b].mean()))
            for b in np.unique(bins)
        ),
        "suggestion_right": float((errors.suggested == truth)[wrong].float().mean()),
        "rate": errors.rate,
    }


def cell(setting: Setting, noise: str, rate: float, seed: int) -> dict[str, Any]:
    """One training with planted noise: what the audit finds, and what confident learning finds."""
    train, _ = load(setting.source, limit=setting.limit)
    truth = train.labels
    plant = {"symmetric": scenarios.symmetric, "pair": scenarios.pair}.get(noise, scenarios.instance_dependent)
    draws = stream(seed, "audit", noise)
    _, labels, wrong = plant(vectors_of(train), truth, rate=rate, generator=draws, classes=len(train.classes))
    noisy = train.with_labels(labels)
    started = time.perf_counter()
    recorder = Recorder(len(noisy), setting.epochs, signals=("p_label", "margin", "correct"))
    network = setting.network(noisy, seed)
    model, history = fit(network, noisy, epochs=setting.epochs, seed=seed, recipe=setting.recipe, recorder=recorder)
    probed = probe(model, noisy, arrays=("features", "probs"))
    recorded = time.perf_counter()
    errors = find_label_errors(labels, features=probed["features"], probs=probed["probs"], p_label=recorder["p_label"])
    audited = time.perf_counter()
    probs, passed = out_of_fold(noisy, setting, seed)
    return {
        "dataset": setting.name,
        "noise": noise,
        "wanted_rate": rate,
        "seed": seed,
        "n": len(noisy),
        "epochs": setting.epochs,
        "audit": measured(errors, wrong, truth),
        "confident_learning": measured(find_label_errors(labels, probs=probs, engine="cleanlab"), wrong, truth),
        "audit_of_folds": measured(find_label_errors(labels, probs=probs), wrong, truth),
        "is_separated": errors.is_separated,
        "passes_ratio": passed / history.cost.backward,
        "seconds": {"record": recorded - started, "audit": audited - recorded},
    }


def summary(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the seeds, a row a dataset, noise and rate."""
    groups: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for one in cells:
        groups.setdefault((one["dataset"], one["noise"], one["wanted_rate"]), []).append(one)
    return [
        {
            "dataset": dataset,
            "noise": noise,
            "rate": rate,
            "seeds": len(group),
            **{
                name: {key: float(np.mean([one[name][key] for one in group])) for key in group[0][name]}
                for name in ("audit", "confident_learning", "audit_of_folds")
            },
        }
        for (dataset, noise, rate), group in groups.items()
    ]


def main(argv: Sequence[str] | None = None) -> None:
    size = arguments(__doc__ or "", argv)
    settings, noises, rates, seeds = SIZES[size]
    folder = RESULTS if size != "smoke" else None
    cells = []
    for setting in settings:
        for noise in noises:
            for rate in rates:
                for seed in range(seeds):
                    name = f"{setting.name}-{noise}-{rate:g}-{seed}.json"
                    file = None if folder is None else folder / name
                    if file is not None and file.exists():
                        one = json.loads(file.read_text())
                    else:
                        one = cell(setting, noise, rate, seed)
                        if file is not None:
                            file.parent.mkdir(parents=True, exist_ok=True)
                            file.write_text(json.dumps(one))
                    cells.append(one)
                    a, c = one["audit"], one["confident_learning"]
                    say(
                        f"{name[:-5]:38} AUROC {a['auroc']:.4f} ({c['auroc']:.4f}), precision {a['precision']:.2f} "
                        f"({c['precision']:.2f}), recall {a['recall']:.2f} ({c['recall']:.2f}), calibration error "
                        f"{a['calibration_error']:.3f}; passes x {one['passes_ratio']:.1f}"
                    )
    rows = summary(cells)
    ahead = sum(row["audit"]["auroc"] >= row["confident_learning"]["auroc"] for row in rows)
    goal = "AUROC ahead of confident learning everywhere, at a fifth of the trainings"
    finish("audit_labels", size, {"goal": goal, "ahead": ahead, "of": len(rows), "rows": rows})


if __name__ == "__main__":
    main()
