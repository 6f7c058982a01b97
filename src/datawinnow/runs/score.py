"""Scores of a run: computed from the recording and from probes of its network, added to ``scores.parquet``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from datawinnow.core.arrays import chain_arrays, take
from datawinnow.core.card import Card
from datawinnow.core.chance import warn_of_learning
from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError
from datawinnow.core.progress import Progress
from datawinnow.data.dataset_info import DatasetInfo, dataset_info
from datawinnow.methods import Method
from datawinnow.probe import is_probed
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.near_chance import near_chance
from datawinnow.runs.probe_arrays import ProbedArrays, probe_total, probed_arrays
from datawinnow.runs.subset_runs import SUBSET_ARRAYS, SubsetRuns, subsets_for
from datawinnow.train.build import Model


def score_run(
    folder: RunFolder,
    train: Any,
    names: Sequence[str | Callable[..., Tensor]],
    *,
    epochs: int | None = None,
    options: Mapping[str, Any] | None = None,
    subset_runs: int | None = None,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    val: Any = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> dict[str, Tensor]:
    """Compute scores and add them to ``scores.parquet``.

    Args:
        folder: a recorded run.
        train: its dataset.
        names: scores by name, or callables.
        epochs: read only the first so many recorded epochs.
        options: keyword arguments of the score, and of the probe that makes its arrays (with one score only).
        subset_runs: networks to train on random subsets, for memorization; by default those that exist.
        model: the function that made the network, or its ``"module:function"``, where the run recorded with one.
        model_options: options of that function.
        val: held-out data, for scores that match it.
        progress: called after each step.
        log: called with notes.

    Returns:
        name -> (n,).

    Raises:
        MissingArrayError: a score needs an array that was not recorded.
        ArgumentError: no score, unknown ones, options that a score does not have, or options for several scores.
        RunError: not recorded to the end, or another dataset.
    """
    settings = dict(options or {})
    if not names or (settings and len(names) > 1):
        raise ArgumentError(
            f"options {settings} are for one score, but there are {len(names)}: score them one at a time"
            if names
            else "name at least one score, for example ['dual']"
        )
    info = dataset_info(train)
    folder.check_dataset(info)
    warn_of_learning(near_chance(folder))
    methods = [Method.from_score(name, settings) for name in names]
    probed = probed_arrays(
        folder,
        info,
        model=model,
        model_options=model_options,
        val=val,
        options=methods[0].probe_options,
        progress=progress,
        log=log,
    )
    # features by an embedding need no recording
    recorded = folder.arrays(epochs) if any(method.needs_recording for method in methods) else {}
    cards = [card for method in methods if (card := method.score_card) is not None]
    needs = tuple(need for card in cards for need in card.needs)
    arrays = chain_arrays({"labels": info.labels}, probed.arrays(needs), recorded)
    # before any network is probed or trained
    check_arrays(arrays, cards, [need for need in needs if need not in SUBSET_ARRAYS])
    subsets = subsets_for(
        folder, info, cards, subset_runs, model=model, model_options=model_options, progress=progress, log=log
    )
    if subsets is not None:
        arrays = chain_arrays(subsets.arrays, arrays)
    seconds, values, descriptions = 0.0, {}, {}
    for method, card in zip(methods, cards, strict=True):
        probe_cost = probe_needs(probed, card.needs, subsets)
        charge_probes(folder)
        start = time.perf_counter()
        values[card.key] = method.compute_score(arrays)
        seconds += time.perf_counter() - start
        # a probe reads the network after the last epoch, so it is charged for the whole recording
        num_epochs = method.epochs_charged(folder.epochs if probe_cost else epochs or folder.epochs)
        descriptions[card.key] = _describe_score(card, settings, num_epochs, folder.n, probe_cost)
    cost = Cost(seconds)
    folder.write_scores(info, values, descriptions, cost)
    folder.update(cost={"score": cost.as_dict()}, status={"score": "done"})
    return values


def write_method_score(
    folder: RunFolder,
    info: DatasetInfo,
    method: Method,
    values: Tensor,
    cost: Cost,
    epochs: int | None,
    probe_cost: Cost | None,
) -> None:
    """Add the score of a method to ``scores.parquet`` and charge it.

    Args:
        folder: the run.
        info: of its dataset.
        method: a method with a score, resolved for a fraction kept (`Method.at`).
        values: (n,) its score.
        cost: of computing it.
        epochs: recorded epochs that were read; None for all.
        probe_cost: what the method's probes cost, from `probe_needs`.
    """
    card = method.score_card
    if card is None:
        return
    folder.charge("score", cost)
    if not any(is_probed(need) or need in SUBSET_ARRAYS for need in card.needs):
        probe_cost = None  # the selector's
    num_epochs = method.score_only().epochs_charged(folder.epochs if probe_cost else epochs or folder.epochs)
    description = _describe_score(card, method.score_options, num_epochs, folder.n, probe_cost)
    folder.write_scores(info, {description["method"]: values}, {description["method"]: description})
    folder.update(status={"score": "done"})


def check_arrays(arrays: Mapping[str, Tensor], cards: Sequence[Card], needs: Sequence[str]) -> None:
    """Refuse, before the network is probed, a method that needs an array that is not available.

    Raises:
        MissingArrayError: naming it and the verb that makes it.
    """
    # names alone: reading an array here would compute it
    names = dict.fromkeys(arrays)
    for card in cards:
        for need in card.needs:
            if need in needs:
                take(names, need, method=card.key)


def probe_needs(probed: ProbedArrays, needs: Sequence[str], subsets: SubsetRuns | None = None) -> Cost | None:
    """Probe the recorded network for those of ``needs`` that have not been made.

    Returns:
        What the probes or the subset runs behind ``needs`` cost; None if ``needs`` take neither.
    """
    if subsets is not None and any(need in SUBSET_ARRAYS for need in needs):
        return subsets.cost
    return probed.compute(needs) if any(is_probed(need) for need in needs) else None


def charge_probes(folder: RunFolder) -> None:
    """Write the cost of all probes in the folder into ``run.json``."""
    if any((folder.path / "probe").glob("*/*probe.json")):
        folder.charge("probe", probe_total(folder.path / "probe"))


def examples_charged(epochs: int, n: int, probe_cost: Cost | None) -> int:
    """Examples passed: in the recorded epochs that a method reads, and in the probes of the network."""
    return epochs * n + (round(probe_cost.passes) if probe_cost else 0)


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON can hold them: numbers, text and None as they are, anything else as text."""
    return {k: v if isinstance(v, (int, float, str, bool, type(None))) else str(v) for k, v in options.items()}


def _describe_score(
    card: Card, options: Mapping[str, Any], epochs: int, n: int, probe_cost: Cost | None
) -> dict[str, Any]:
    return {
        "method": card.key,
        "label": card.name,
        "options": plain_options({**card.options, **options}),
        "end": card.end,
        "source": card.source,
        "charge": examples_charged(epochs, n, probe_cost),
        "epochs": epochs,
    }
