"""The selection of a run: chosen by a method, written to ``selection.parquet`` beside the gallery."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datawinnow.core.arrays import chain_arrays
from datawinnow.core.budget import budget_of
from datawinnow.core.chance import warn_near_chance
from datawinnow.core.cost import Cost
from datawinnow.core.progress import Progress
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.data.dataset_info import dataset_info
from datawinnow.methods import Method, create_method
from datawinnow.runs.evidence import moments, notes
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.gallery import is_shown, write_gallery
from datawinnow.runs.near_chance import near_chance
from datawinnow.runs.network import Model
from datawinnow.runs.probe_arrays import probed_arrays
from datawinnow.runs.score import (
    check_arrays,
    examples_charged,
    plain_options,
    run_probes,
    score_method,
)
from datawinnow.runs.selection_file import read_selection, write_selection
from datawinnow.runs.subset_runs import SUBSET_ARRAYS, subsets_for


def select_run(
    folder: RunFolder,
    train: Any,
    *,
    keep: float,
    method: str | Method | None = None,
    seed: int = 0,
    epochs: int | None = None,
    out: Path | None = None,
    gallery: bool = True,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    val: Any = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> Selection:
    """Choose what to keep and write ``selection.parquet`` and the gallery.

    Args:
        folder: a recorded run; for a method that needs no recording, any run.
        train: its dataset.
        keep: fraction kept, in (0, 1].
        method: a method, or the name of one; by default DUAL with Beta sampling.
        seed: of selectors that draw.
        epochs: read only the first so many recorded epochs.
        out: another file for the selection; the run then keeps the selection and the gallery that it had.
        gallery: whether to write the gallery, of images or texts.
        model: the function that made the network, or its ``"module:function"``, where the run recorded with one.
        model_options: options of that function.
        val: held-out data, for methods that match it.
        progress: called after each step.
        log: called with notes.

    Raises:
        ArgumentError: keep out of range, unknown names.
        MissingArrayError: an array is missing.
        RunError: not recorded to the end, or another dataset.
    """
    # refuses a wrong fraction before anything is computed
    budget_of(keep, folder.n)
    method = create_method(method).at(keep)
    method.check_needs(also=SUBSET_ARRAYS)
    info = dataset_info(train)
    folder.check_dataset(info)
    needs, cards = method.needs, method.cards
    if needs:
        warn_near_chance(near_chance(folder))
    subsets = subsets_for(folder, info, cards, model=model, model_options=model_options, progress=progress, log=log)
    # a method that is charged for no epoch reads no recording
    unrecorded = not method.epochs_charged(1) and folder.metadata["status"].get("record") != "done"
    probed = probed_arrays(
        folder,
        info,
        model=model,
        model_options=model_options,
        val=val,
        options=method.probe_options,
        progress=progress,
        log=log,
    )
    recorded: Mapping[str, Tensor] = {} if unrecorded else folder.arrays(epochs)
    arrays = chain_arrays(subsets.arrays if subsets is not None else {}, probed.arrays(needs), recorded)
    check_arrays(arrays, cards, needs)
    # before the clock of the selection starts, as is the score
    probe_cost = run_probes(folder, probed, [need for card in cards for need in card.needs], subsets)
    scores = score_method(folder, info, method, arrays, epochs=epochs, probe_cost=probe_cost)
    start = time.perf_counter()
    # method and fraction are part of the path: two selections of a run share no draws
    generator = stream(seed, "select", method.key, f"{keep:g}")
    selection, _ = method.run(arrays, info.labels, keep=keep, generator=generator, score=scores)
    cost = Cost(time.perf_counter() - start)
    unknown = torch.full((folder.n,), torch.nan)
    p_mean, p_std = moments(recorded["p_label"]) if "p_label" in recorded else (unknown, unknown)
    lines = [""] * folder.n if unrecorded else notes(recorded, p_mean, p_std)
    num_epochs = method.epochs_charged(folder.epochs if method.reads_probe else epochs or folder.epochs)
    cut = {key: value for key, value in (("cutoff", method.cutoff), ("embedding", method.embedding)) if value}
    metadata = {
        "method": method.key,
        "label": method.label,
        "options": plain_options({**method.selector_options(keep), **cut}),
        "score": None if method.score_card is None else method.score_card.key,
        "score_options": plain_options(method.score_options),
        "per_class": method.per_class,
        "keep": keep,
        "seed": seed,
        "budget": len(selection),
        "n": folder.n,
        "fingerprint": info.fingerprint,
        "dataset": folder.dataset.name,
        "epochs": num_epochs,
        "charge": examples_charged(num_epochs, folder.n, probe_cost),
        "load": dict(folder.metadata["options"].get("load", {})),  # how its dataset was loaded, for `train --select`
    }
    write_selection(
        out or folder.path / "selection.parquet",
        selection,
        ids=info.ids,
        labels=info.labels,
        meta={**metadata, **folder.made_by("select", cost)},
        notes=lines,
        p_mean=p_mean,
        p_std=p_std,
    )
    # another file: run.json and the gallery stay about the run's own selection
    if out is not None:
        return selection
    if folder.metadata["options"].get("select") != metadata:  # those files are about another selection
        # before run.json changes: a kill in between leaves no gallery of another selection
        folder.forget("check.json", "gallery.parquet")
    folder.update(cost={"select": cost.as_dict()}, options={"select": metadata}, status={"select": "done"})
    if gallery and is_shown(folder.dataset):
        write_gallery(
            folder, info, selection, recorded, p_mean, lines, seed, model=model, model_options=model_options, log=log
        )
    return selection


def selection_of(folder: RunFolder) -> tuple[Selection, dict[str, Any]]:
    """The run's selection, and what its file says of it.

    Raises:
        RunError: there is none, or it is of another dataset.
    """
    return read_selection(folder.path, fingerprint=folder.dataset.fingerprint, name=folder.dataset.name)
