"""Networks trained on random subsets, for memorisation: their subsets, and what they classify correctly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datawinnow.core import check
from datawinnow.core.artifact_schemas import SubsetsFile
from datawinnow.core.artifacts import read_json, read_npz_arrays, require_same, write_json, write_npz
from datawinnow.core.card import Card
from datawinnow.core.cost import Cost
from datawinnow.core.duration import estimated_duration
from datawinnow.core.errors import ArgumentError, MissingArrayError, RunError
from datawinnow.core.progress import Progress, named_progress
from datawinnow.core.rng import derive, forked, stream
from datawinnow.core.selection import Selection
from datawinnow.data.dataset_info import DatasetInfo, dataset_info
from datawinnow.data.kept import Kept
from datawinnow.probe import probe
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.network import network_of_run
from datawinnow.train import Recipe, fit
from datawinnow.train.build import Model
from datawinnow.train.network import device_for

SUBSET_ARRAYS = ("subset_mask", "subset_correct")
FRACTION = 0.7
"""Of the examples that a run trains on, as in the paper."""


@dataclass(frozen=True)
class SubsetRuns:
    """Arrays of networks trained on random subsets.

    Attributes:
        arrays: ``subset_mask`` and ``subset_correct``, (runs, n) bool.
        cost: of all runs, including the pass over all examples at the end of each.
    """

    arrays: Mapping[str, Tensor]
    cost: Cost


def subset_runs(
    train: Any,
    *,
    runs: int,
    fraction: float = FRACTION,
    epochs: int,
    build: Callable[[], nn.Module],
    seed: int = 0,
    out: Path,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> SubsetRuns:
    """Train networks on random subsets and record which examples each classifies correctly, trained on or not.

    Every example is in the same number of subsets, ``round(fraction * runs)``, drawn for each example by itself: with
    few runs independent subsets, as the paper's 2,000 are, would leave some examples in all or none of them. A finished
    run is not repeated, and one that was stopped resumes from its last whole epoch.

    Args:
        train: `Examples` or a map-style dataset of ``(x, y)``.
        runs: number of networks, at least 2.
        fraction: of the examples that each trains on.
        epochs: of each training.
        build: returns a fresh network; called in `forked`, once a run.
        seed: of subsets, weights and orders.
        out: folder of the runs.
        recipe: how to train.
        progress: called after each step.

    Raises:
        ArgumentError: fewer than 2 runs, or a fraction that puts every example into all runs or none.
        RunError: ``out`` holds runs of another dataset or made otherwise, or a damaged one.
    """
    check.number("runs", runs, 2, 100_000, integer=True)
    check.number("fraction", fraction, 0, 1)
    recipe = recipe or Recipe()
    runs_per_example = round(fraction * runs)
    if not 0 < runs_per_example < runs:
        raise ArgumentError(
            f"fraction={fraction} of {runs} runs puts every example into {runs_per_example} of them, so there is "
            "nothing to compare; use more runs, or another fraction"
        )
    info = dataset_info(train)
    n = info.n
    metadata = {"runs": runs, "fraction": fraction, "epochs": epochs, "seed": seed, "recipe": recipe.metadata()}
    _check_metadata(out, {"kind": "subsets", "fingerprint": info.fingerprint, **metadata})
    # argsort twice gives ranks: of each example, a random order of the runs; the first ones train on it
    rank = torch.rand(runs, n, generator=stream(seed, "subsets")).argsort(0).argsort(0)
    mask = rank < runs_per_example
    correct, cost = torch.empty(runs, n, dtype=torch.bool), Cost()
    for run in range(runs):
        file = out / f"run-{run:04d}.npz"
        if not file.exists():
            checkpoint = out / f"run-{run:04d}.safetensors"
            # by the number of the run, so that a resumed series trains the same networks
            run_seed = derive(seed, "subset", run)
            with forked(run_seed, "weights"):
                model = build()
            model, history = fit(
                model,
                Kept(info.data, Selection.of(torch.nonzero(mask[run]).flatten(), n)),
                epochs=epochs,
                seed=run_seed,
                recipe=recipe,
                checkpoint=checkpoint,
                fingerprint=info.fingerprint,
                progress=named_progress(progress, f"subset {run + 1} of {runs}"),
            )
            probed = probe(model.to(device_for(recipe.device)), info.data, arrays=("probs",), seed=run_seed)
            _write_run(file, mask[run], probed["probs"].argmax(1) == info.labels, history.cost + probed.cost)
            # after the result is written: a kill in between only leaves a file too many
            checkpoint.unlink(missing_ok=True)
        # read back in any case, which checks the file against the subset
        correct[run], run_cost = _read_run(file, mask[run])
        cost += run_cost
    return SubsetRuns({"subset_mask": mask, "subset_correct": correct}, cost)


def _write_run(file: Path, mask: Tensor, correct: Tensor, cost: Cost) -> None:
    costs = np.array([cost.seconds, cost.forward, cost.backward, cost.flops])
    write_npz(file, {"mask": mask.numpy(), "correct": correct.numpy(), "cost": costs})


def _read_run(file: Path, mask: Tensor) -> tuple[Tensor, Cost]:
    arrays = read_npz_arrays(file, ("mask", "correct", "cost"), remedy="remove it to run it again")
    correct, cost = torch.from_numpy(arrays["correct"]), arrays["cost"].tolist()
    if not np.array_equal(arrays["mask"], mask.numpy()):
        raise RunError(f"{file} trained on another subset than it should have; remove its folder to run them again")
    return correct, Cost(cost[0], int(cost[1]), int(cost[2]), cost[3])


def _check_metadata(out: Path, metadata: dict[str, Any]) -> None:
    """Write the metadata of the runs in ``out``, or refuse those there if they differ.

    Raises:
        RunError: naming the first difference.
    """
    file = out / "about.json"
    if file.exists():
        before = read_json(file, schema=SubsetsFile)
        require_same({key: before.get(key) for key in metadata}, metadata, out)
    else:
        write_json(file, metadata)


def _num_runs(file: Path) -> int:
    return int(read_json(file, schema=SubsetsFile)["runs"])


def subsets_for(
    folder: RunFolder,
    info: DatasetInfo,
    cards: Sequence[Card],
    runs: int | None = None,
    *,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> SubsetRuns | None:
    """The subset runs that some of ``cards`` need; None if none does.

    They train as the run was recorded: with its network and recipe, for as many epochs.

    Args:
        folder: a recorded run; they are kept under ``subsets/`` in it.
        info: of its dataset.
        cards: of the methods.
        runs: number of networks; by default as many as exist.
        model: the function that made the network, or its ``"module:function"``, where the run recorded with one.
        model_options: options of that function.
        progress: called after each step.
        log: called with the cost before they start.

    Raises:
        MissingArrayError: they are needed and none exist, and ``runs`` is None.
    """
    card = next((card for card in cards if set(SUBSET_ARRAYS) & set(card.needs)), None)
    if card is None:
        return None
    existing = sorted((folder.path / "subsets").glob("*/about.json"), key=_num_runs)
    if runs is None and not existing:
        raise MissingArrayError(
            f"{card.key} needs networks trained on random subsets, and this run has none; make them with "
            f"`dw.api.score({str(folder.path)!r}, scores='memorization', subset_runs=8)`"
        )
    folder.recorded()
    runs = _num_runs(existing[-1]) if runs is None else runs
    recipe_fields = {
        key: value
        for key, value in folder.metadata["options"]["record"]["recipe"].items()
        if key in Recipe.__dataclass_fields__
    }
    arithmetic = folder.metadata.get("arithmetic") or {}
    recipe_fields |= {key: arithmetic[key] for key in ("precision", "channels_last") if arithmetic.get(key) is not None}
    recipe = Recipe(**recipe_fields)
    out = folder.path / "subsets" / f"{runs}"
    left = runs - len(list(out.glob("run-*.npz")))
    if left > 0 and log is not None:
        share = round(FRACTION * runs) / runs
        passed = left * folder.epochs * round(share * folder.n)
        spent = folder.metadata["cost"]["record"]
        # by the speed of the recording
        seconds = estimated_duration(spent["seconds"] * passed / max(1, spent["backward"]))
        log(
            f"memorisation: {left} trainings of {folder.epochs} epochs on {share:.0%} of the examples, {passed:,} "
            f"examples passed, {passed / max(1, spent['backward']):.1f} times the recording: {seconds}"
        )
    result = subset_runs(
        info,
        runs=runs,
        epochs=folder.epochs,
        build=lambda: network_of_run(folder, model, model_options),
        seed=int(folder.metadata.get("seed", 0)),
        out=out,
        recipe=recipe,
        progress=progress,
    )
    folder.charge("subsets", result.cost)
    return result
