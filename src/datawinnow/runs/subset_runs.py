"""Networks trained on random subsets, for memorisation: which run trained on which example, and which has it right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datawinnow.core import check
from datawinnow.core.artifacts import read_json, require_same, write_json
from datawinnow.core.card import Card
from datawinnow.core.cost import Cost
from datawinnow.core.duration import duration
from datawinnow.core.errors import ArgumentError, MissingArrayError, RunError
from datawinnow.core.files import atomic_write
from datawinnow.core.progress import Progress
from datawinnow.core.rng import derive, forked, stream
from datawinnow.core.selection import Selection
from datawinnow.data.dataset_info import DatasetInfo, dataset_info
from datawinnow.data.kept import Kept
from datawinnow.probe import probe
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.network import Model
from datawinnow.runs.probe_arrays import network_of_run
from datawinnow.train import Recipe, fit
from datawinnow.train.network import fabric_for

SUBSET_ARRAYS = ("subset_mask", "subset_correct")
FRACTION = 0.7
"""Of the examples that a run trains on, as in the paper."""


@dataclass(frozen=True)
class SubsetRuns:
    """What the runs gave.

    Attributes:
        arrays: ``subset_mask`` and ``subset_correct``, (runs, n) bool.
        cost: of all runs, the look at all examples at their ends included.
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
    """Train networks on random subsets and see which examples each has right, unaugmented, trained on or not.

    Every example is in the same number of subsets, ``round(fraction * runs)``, drawn for each by itself: with few runs
    independent subsets, as the paper's 2,000 are, would leave some examples in all or none of them. A finished run is
    not made again, and one that was killed goes on from its last whole epoch.

    Args:
        train: `Examples` or a map-style dataset of ``(x, y)``.
        runs: how many networks, at least 2.
        fraction: of the examples that each trains on.
        epochs: of each training.
        build: gives a fresh network; called in `forked`, once a run.
        seed: of subsets, weights and orders.
        out: folder of the runs.
        recipe: how to train.
        progress: told after each step.

    Raises:
        ArgumentError: fewer than 2 runs, or a fraction that puts every example into all runs or none.
        RunError: ``out`` holds runs of another dataset or made otherwise, or a damaged one.
    """
    check.number("runs", runs, 2, 100_000, integer=True)
    check.number("fraction", fraction, 0, 1)
    recipe = recipe or Recipe()
    each = round(fraction * runs)
    if not 0 < each < runs:
        raise ArgumentError(
            f"fraction={fraction} of {runs} runs puts every example into {each} of them, so there is nothing to "
            "compare with; ask for more runs, or another fraction"
        )
    info = dataset_info(train)
    n = info.n
    about = {"runs": runs, "fraction": fraction, "epochs": epochs, "seed": seed, "recipe": recipe.metadata()}
    _check_metadata(out, {"kind": "subsets", "fingerprint": info.fingerprint, **about})
    rank = torch.rand(runs, n, generator=stream(seed, "subsets")).argsort(0).argsort(0)
    mask = rank < each
    right, cost = torch.empty(runs, n, dtype=torch.bool), Cost()
    for run in range(runs):
        file = out / f"run-{run:04d}.npz"
        if not file.exists():
            checkpoint = out / f"run-{run:04d}.safetensors"
            named = _named(progress, f"subset {run + 1} of {runs}")
            how: dict[str, Any] = {"epochs": epochs, "recipe": recipe, "progress": named, "checkpoint": checkpoint}
            _one(info, mask[run], build, derive(seed, "subset", run), file, how)
            checkpoint.unlink(missing_ok=True)
        right[run], spent = _read(file, mask[run])
        cost += spent
    return SubsetRuns({"subset_mask": mask, "subset_correct": right}, cost)


def _one(
    info: DatasetInfo, mask: Tensor, build: Callable[[], nn.Module], seed: int, file: Path, how: Mapping[str, Any]
) -> None:
    """Train on the examples of ``mask``, look at all, and write both down with what it cost."""
    with forked(seed, "weights"):
        model = build()
    chosen = Selection.of(torch.nonzero(mask).flatten(), len(mask))
    model, history = fit(model, Kept(info.data, chosen), seed=seed, **how)
    found = probe(model.to(fabric_for(how["recipe"].device).device), info.data, arrays=("probs",), seed=seed)
    right = found["probs"].argmax(1) == info.labels
    cost = history.cost + found.cost
    with atomic_write(file) as part, part.open("wb") as handle:
        spent = np.array([cost.seconds, cost.forward, cost.backward, cost.flops])
        np.savez(handle, mask=mask.numpy(), correct=right.numpy(), cost=spent)


def _read(file: Path, mask: Tensor) -> tuple[Tensor, Cost]:
    try:
        with np.load(file, allow_pickle=False) as found:
            same = np.array_equal(found["mask"], mask.numpy())
            right, cost = torch.from_numpy(found["correct"]), found["cost"].tolist()
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise RunError(f"{file} is truncated or damaged ({error}); remove it to run it again") from None
    if not same:
        raise RunError(f"{file} trained on another subset than it should have; remove its folder to run them again")
    return right, Cost(cost[0], int(cost[1]), int(cost[2]), cost[3])


def _check_metadata(out: Path, metadata: dict[str, Any]) -> None:
    """Write the metadata of the runs in ``out``, or refuse those there if they differ.

    Raises:
        RunError: naming the first difference.
    """
    file = out / "about.json"
    if file.exists():
        before = read_json(file)
        require_same({key: before.get(key) for key in metadata}, metadata, out)
    else:
        write_json(file, metadata)


def subsets_for(
    folder: RunFolder,
    info: DatasetInfo,
    cards: Sequence[Card],
    runs: int | None = None,
    *,
    model: Model = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
    **_: Any,
) -> SubsetRuns | None:
    """The subset runs that some of ``cards`` need; None if none does.

    They train as the run was recorded: its network, its recipe, as many epochs.

    Args:
        folder: a recorded run; they are kept under ``subsets/`` in it.
        info: of its dataset.
        cards: of the methods.
        runs: how many; those that are there unless told.
        model: the function that made the network, where the run only knows its name.
        progress: told after each step.
        log: told what it will cost, before it starts.

    Raises:
        MissingArrayError: they are needed, none are there, and nobody says how many.
    """
    own = next((card for card in cards if set(SUBSET_ARRAYS) & set(card.needs)), None)
    if own is None:
        return None
    there = sorted((folder.path / "subsets").glob("*/about.json"), key=lambda file: int(read_json(file)["runs"]))
    if runs is None and not there:
        raise MissingArrayError(
            f"{own.key} needs networks trained on random subsets, which are not there; make them with: datawinnow "
            f"score {folder.path} --score memorization --subset-runs 8"
        )
    folder.recorded()
    runs = int(read_json(there[-1])["runs"]) if runs is None else runs
    recorded = folder.metadata["options"]["record"]
    told = {key: value for key, value in recorded["recipe"].items() if key in Recipe.__dataclass_fields__}
    recipe = Recipe(**{**told, **{k: folder.metadata["arithmetic"][k] for k in ("precision", "channels_last")}})
    out = folder.path / "subsets" / f"{runs}"
    left = runs - len(list(out.glob("run-*.npz")))
    if left > 0 and log is not None:
        share = round(FRACTION * runs) / runs
        passed = left * folder.epochs * round(share * folder.n)
        spent = folder.metadata["cost"]["record"]
        seconds = duration(spent["seconds"] * passed / max(1, spent["backward"]), rough=True)
        log(
            f"memorisation: {left} trainings of {folder.epochs} epochs on {share:.0%} of the examples, {passed:,} "
            f"examples passed, {passed / max(1, spent['backward']):.1f} times the recording: about {seconds}"
        )

    how: dict[str, Any] = {"epochs": folder.epochs, "recipe": recipe, "progress": progress}
    how |= {"build": lambda: network_of_run(folder, model), "seed": int(folder.metadata.get("seed", 0)), "out": out}
    found = subset_runs(info, runs=runs, **how)
    folder.charge("subsets", found.cost)
    return found


def _named(progress: Progress | None, what: str) -> Progress | None:
    return None if progress is None else lambda _, done, total: progress(what, done, total)


__all__ = ["SubsetRuns", "subset_runs", "subsets_for"]
