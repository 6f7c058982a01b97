"""How stable scores are: their rank correlation across seeds, across networks, and of early epochs with the last.

Forgetting, DUAL and input curvature, by Spearman's rank correlation (ties share their mean rank). Recordings are kept
in results/stability, so that a run that was killed goes on. `--full` takes half an hour on two idle cores.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from measuring import arguments, finish, say

from datawinnow import scores
from datawinnow.core.artifacts import read_json, write_json
from datawinnow.core.errors import RunError
from datawinnow.core.files import atomic_write
from datawinnow.core.rng import forked
from datawinnow.data.fingerprint import fingerprint_of
from datawinnow.data.load import load
from datawinnow.models import build
from datawinnow.probe import probe
from datawinnow.record import read_column
from datawinnow.report.correlations import spearman
from datawinnow.runs.record import RecordSettings, fit_recorded
from datawinnow.train import History, Recipe
from datawinnow.train.checkpoint import load_checkpoint, save_checkpoint

RESULTS = Path(__file__).parents[1] / "results" / "stability"
DATA = Path(os.environ.get("DATAWINNOW_DATA", Path(__file__).parents[2] / "shared" / "data"))
SIGNALS = ("p_label", "correct", "seen")


@dataclass(frozen=True)
class Network:
    """A network and how it is trained."""

    model: str
    lr: float
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Size:
    """What is compared.

    Attributes:
        source: dataset.
        limit: stratified training examples; None for all.
        epochs: of every recording; scores are also read at a third, a half and two thirds of them.
        seeds: how many.
        networks: each is recorded with every seed.
        precision: of the training.
        rate: examples that an idle 2-core machine passes in a second, to tell how long it will take.
    """

    source: str
    limit: int | None
    epochs: int
    seeds: int
    networks: tuple[Network, ...]
    precision: str
    rate: float

    @property
    def ends(self) -> tuple[int, ...]:
        """Numbers of epochs after which the scores are read: 10, 15, 20 and 30 of 30."""
        return (self.epochs // 3, self.epochs // 2, 2 * self.epochs // 3, self.epochs)

    @property
    def window(self) -> int:
        """Epochs of DUAL's window: 10, or all that the earliest score can read."""
        return min(10, self.ends[0])


RESNET = Network("resnet8", 0.1)
SMALL = (RESNET, Network("convnet", 0.05, {"width": 16, "norm": "batch"}))
# At width 64 the ConvNet costs what ResNet-8 does; batch norm, since the papers' instance norm takes six times as long
# on a CPU in bf16.
LARGE = (RESNET, Network("convnet", 0.05, {"width": 64, "norm": "batch"}))
SIZES = {
    "smoke": Size("digits", 300, 6, 2, SMALL, "fp32", 6_000),
    "default": Size("digits", None, 30, 3, SMALL, "fp32", 6_000),
    "full": Size(str(DATA / "cifar10"), 10_000, 30, 3, LARGE, "bf16", 4_400),
}
PROBE = 3
"""Curvature's cost in examples passed in training: two gradients with respect to the input, in float32."""

Scores = dict[tuple[str, int, str, int], np.ndarray]
"""(network, seed, score, epochs read) -> (n,)."""


def record(size: Size, network: Network, seed: int, data: tuple[Any, Any], folder: Path) -> dict[str, Any]:
    """What the recording of a network and seed in ``folder`` reached; it is made now, or ended, if it is not whole."""
    train, test = data
    recipe = Recipe(lr=network.lr, precision=size.precision, channels_last=True)
    metadata = {
        "fingerprint": fingerprint_of(train),
        "epochs": size.epochs,
        "seed": seed,
        "model": network.model,
        "model_options": network.options,
        "recipe": recipe.metadata(),
    }
    done, checkpoint = folder / "recording.json", folder / "checkpoint.safetensors"
    settings_file = folder / "begun.json"
    if settings_file.exists() and {key: read_json(settings_file).get(key) for key in metadata} != metadata:
        raise RunError(f"{folder} holds a recording with other settings: remove it")
    if done.exists():
        return read_json(done)
    write_json(settings_file, metadata)
    model = fresh(network, train, seed)

    def keep_weights(epoch: int, _: History) -> None:
        if epoch + 1 in size.ends:
            save_checkpoint(weights_file(folder, epoch + 1), model, None, {})

    _, history = fit_recorded(
        model, train, folder, RecordSettings(size.epochs, signals=SIGNALS, recipe=recipe), checkpoint=checkpoint,
        test=test, seed=seed, on_epoch=keep_weights,
    )  # fmt: skip
    lost = [end for end in size.ends if not weights_file(folder, end).exists()]
    if lost:  # killed between the checkpoint of an epoch and its weights
        raise RunError(f"{folder} lacks the weights after epoch {lost[0]}, lost to a kill: remove it and run again")
    write_json(done, {**metadata, "test_accuracy": history.test_accuracy, "seconds": history.cost.seconds})
    checkpoint.unlink(missing_ok=True)
    return read_json(done)


def fresh(network: Network, train: Any, seed: int) -> Any:
    """The network with the weights of a seed."""
    with forked(seed, "weights"):
        return build(network.model, shape=train.shape, classes=len(train.classes), **network.options)


def weights_file(folder: Path, epochs: int) -> Path:
    """Where the weights after so many epochs lie."""
    return folder / f"weights-{epochs}.safetensors"


def curvature(network: Network, train: Any, folder: Path, epochs: int) -> np.ndarray:
    """(n,) input curvature after so many epochs, from its file if it is there."""
    file = folder / f"curvature-{epochs}.npy"
    if not file.exists():
        model = fresh(network, train, 0)
        load_checkpoint(weights_file(folder, epochs), model, None)
        values = probe(model, train, arrays="curvature")["curvature"].numpy()
        with atomic_write(file) as temporary, temporary.open("wb") as out:
            np.save(out, values)
    stored: np.ndarray = np.load(file, allow_pickle=False)
    return stored


def read(size: Size, network: Network, seed: int, train: Any, folder: Path) -> Scores:
    """The scores of one recording, read after each of ``size.ends``."""
    p_label, correct, seen = (read_column(folder, name) for name in SIGNALS)
    scores_by_run: Scores = {}
    for end in size.ends:
        ranked = {
            "forgetting": scores.forgetting(correct[:end], seen[:end]).numpy(),
            "dual": scores.dual(p_label[:end], window=size.window).numpy(),
            "curvature": curvature(network, train, folder, end),
        }
        scores_by_run |= {(network.model, seed, name, end): value for name, value in ranked.items()}
    return scores_by_run


def compared(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Mean, least and greatest rank correlation of some pairs; 0 where one of a pair is constant: it ranks nothing."""
    correlations = [float(np.nan_to_num(spearman(np.stack(pair))[0, 1])) for pair in pairs]
    return {
        "mean": float(np.mean(correlations)),
        "min": min(correlations),
        "max": max(correlations),
        "pairs": len(correlations),
    }


def summary(size: Size, scores_by_run: Scores) -> dict[str, Any]:
    """Every comparison: across seeds, across networks (each seed of one with each of the other), early with the end."""
    names = ("forgetting", "dual", "curvature")
    networks, seeds, last = [network.model for network in size.networks], range(size.seeds), size.epochs
    across_seeds = {
        model: {
            name: compared(
                [
                    (scores_by_run[model, a, name, last], scores_by_run[model, b, name, last])
                    for a, b in itertools.combinations(seeds, 2)
                ]
            )
            for name in names
        }
        for model in networks
    }
    first, second = networks
    across_networks = {
        name: compared(
            [
                (scores_by_run[first, a, name, last], scores_by_run[second, b, name, last])
                for a, b in itertools.product(seeds, seeds)
            ]
        )
        for name in names
    }
    early = {
        model: {
            name: {
                str(end): compared(
                    [(scores_by_run[model, s, name, end], scores_by_run[model, s, name, last]) for s in seeds]
                )
                for end in size.ends[:-1]
            }
            for name in names
        }
        for model in networks
    }
    return {"across_seeds": across_seeds, "across_networks": across_networks, "early": early}


def measure(size: Size, out: Path) -> dict[str, Any]:
    """Record what is missing in ``out``, and compare."""
    data = load(size.source, limit=size.limit)
    train = data[0]
    plan = [(network, seed) for network in size.networks for seed in range(size.seeds)]
    folders = {(network.model, seed): out / f"{network.model}-seed{seed}" for network, seed in plan}
    missing = sum(not (folder / "recording.json").exists() for folder in folders.values())
    passes = missing * len(train) * (size.epochs + PROBE * len(size.ends))
    say(f"{missing} of {len(plan)} recordings to make, about {passes / size.rate:,.0f} s on 2 idle cores; in {out}")
    scores_by_run: Scores = {}
    reached: dict[str, list[float]] = {network.model: [] for network in size.networks}
    seconds = 0.0
    for network, seed in plan:
        folder = folders[network.model, seed]
        metadata = record(size, network, seed, data, folder)
        scores_by_run |= read(size, network, seed, train, folder)
        reached[network.model].append(metadata["test_accuracy"])
        seconds += metadata["seconds"]
        say(f"{network.model}, seed {seed}: test accuracy {metadata['test_accuracy']:.3f}, {metadata['seconds']:.0f} s")
    result = summary(size, scores_by_run)
    for model, each in result["across_seeds"].items():
        for name, row in each.items():
            at = ", ".join(f"{end}: {r['mean']:.2f}" for end, r in result["early"][model][name].items())
            say(f"{model:8} {name:10} across seeds {row['mean']:.2f} [{row['min']:.2f}, {row['max']:.2f}]; early {at}")
    for name, row in result["across_networks"].items():
        say(f"across networks {name:10} {row['mean']:.2f} [{row['min']:.2f}, {row['max']:.2f}]")
    about = {"n": len(train), "epochs": size.epochs, "seeds": size.seeds, "window": size.window}
    return {**about, "test_accuracy": reached, "recorded_seconds": seconds, **result}


def main(argv: list[str] | None = None) -> None:
    chosen = arguments(__doc__ or "", argv)
    goal = {"goal": "none: which scores the papers call stable, at CPU scale"}
    if chosen == "smoke":
        with tempfile.TemporaryDirectory() as name:
            result = measure(SIZES[chosen], Path(name))
    else:
        result = measure(SIZES[chosen], RESULTS / chosen)
    finish("stability", chosen, {**goal, **result})


if __name__ == "__main__":
    main()
