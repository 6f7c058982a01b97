"""Selections: chosen by a method in memory, or from a run and written to its ``selection.parquet``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datawinnow.core.arrays import LazyArrays, chain_arrays, of_examples
from datawinnow.core.budget import budget_of
from datawinnow.core.chance import warn_of_learning
from datawinnow.core.cost import Cost
from datawinnow.core.draw import tie_seed_of
from datawinnow.core.errors import CapacityError
from datawinnow.core.progress import Progress
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.data.dataset_info import DatasetInfo, dataset_info
from datawinnow.methods import Method, create_method
from datawinnow.runs.evidence import guess_notes, moments, notes
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.gallery import is_shown, write_gallery
from datawinnow.runs.guesses import network_guesses
from datawinnow.runs.method_notes import method_notes
from datawinnow.runs.near_chance import near_chance
from datawinnow.runs.probe_arrays import probed_arrays
from datawinnow.runs.score import (
    charge_probes,
    check_arrays,
    examples_charged,
    plain_options,
    probe_needs,
    write_method_score,
)
from datawinnow.runs.selection_file import read_selection, write_selection
from datawinnow.runs.stage import arithmetic_of
from datawinnow.runs.subset_runs import SUBSET_ARRAYS, subsets_for
from datawinnow.train.build import Model

MAX_NAMES = 5
"""Classes that a warning names."""


@dataclass(frozen=True, eq=False)
class SelectionResult:
    """What a method chose, with what it was computed from.

    Attributes:
        selection: the kept examples.
        score: (n,) the method's score; None without one.
        recorded: arrays of the recording by name; empty where the method reads none.
        arrays: all that the method can read by name, each loaded when it is read.
        epochs: recorded epochs that the method is charged for.
        probe_cost: of the passes over the network, or of the subset runs, that the method reads; None for neither.
        score_cost: of computing the score from its arrays.
        select_cost: of choosing the examples.
        warnings: what a user should know of the selection.
    """

    selection: Selection
    score: Tensor | None
    recorded: Mapping[str, Tensor]
    arrays: Mapping[str, Tensor]
    epochs: int
    probe_cost: Cost | None
    score_cost: Cost
    select_cost: Cost
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Cleaning:
    """What is left out before a method chooses.

    Attributes:
        reason: (n,) int8, the `Reason` of each example that is left out; 0 for those that the method may choose.
        notes: sentence of each that is left out, by its position.
    """

    reason: Tensor
    notes: Mapping[int, str]

    @property
    def remaining(self) -> Tensor:
        """(m,) int64 examples that the method may choose."""
        return torch.nonzero(self.reason == 0).flatten()

    def counts(self) -> dict[str, int]:
        """Examples that are left out, by reason, in the order in which they are."""
        return {
            reason.word: int((self.reason == int(reason)).sum())
            for reason in (Reason.BROKEN, Reason.DUPLICATE, Reason.SUSPECT)
        }


def _run_on_remaining(
    method: Method,
    arrays: Mapping[str, Tensor],
    labels: Tensor,
    score: Tensor | None,
    cleaning: Cleaning,
    *,
    keep: float,
    generator: torch.Generator,
) -> Selection:
    """The method's choice among what a cleaning leaves, as many as of all.

    Raises:
        CapacityError: fewer are left.
    """
    n, index = labels.numel(), cleaning.remaining
    budget, left = budget_of(keep, n), index.numel()
    if budget > left:
        raise CapacityError(
            f"`keep={keep:g}` of {n:,} examples are {budget:,}, but only {left:,} are left once broken examples, "
            f"duplicates and wrong labels are out: keep at most {int(1000 * left / n) / 1000:g}",
            left,
        )
    chosen, _ = method.run(
        of_examples(arrays, index),
        labels[index],
        keep=budget / left,
        generator=generator,
        score=None if score is None else score[index],
    )
    inner = chosen.reason if chosen.reason is not None else Selection.of(chosen.index, left).reason
    assert inner is not None
    return Selection(index[chosen.index], chosen.weight, cleaning.reason.index_copy(0, index, inner))


def selection_draws(seed: int, method: Method, keep: float) -> torch.Generator:
    """Random numbers of a selection: the method and the fraction kept are part of the path, so no two share draws."""
    return stream(seed, "select", method.key, f"{keep:g}")


def select_examples(
    info: DatasetInfo,
    method: Method,
    *,
    keep: float,
    generator: torch.Generator,
    folder: RunFolder | None = None,
    epochs: int | None = None,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    val: Any = None,
    cleaning: Cleaning | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> SelectionResult:
    """Resolve the arrays that a method needs, score, and select: the one way that prune, select and the bench share.

    Nothing is written but the arrays of probes and subset runs, which ``folder`` keeps for other methods.

    Args:
        info: of the dataset.
        method: the method.
        keep: fraction kept, in (0, 1].
        generator: for selectors that draw.
        folder: the run that the method reads; None for a method that needs neither a recording nor its network.
        epochs: read only the first so many recorded epochs.
        model: the function that made the network, where the run only knows its name.
        model_options: options of that network.
        val: held-out data, for methods that match it.
        cleaning: what is left out before the method chooses; None for nothing.
        progress: called after each step.
        log: called with notes and warnings.

    Raises:
        ArgumentError: keep out of range, or what the score or the selector raises.
        MissingArrayError: an array is missing.
        RunError: not recorded to the end, or another dataset.
    """
    budget_of(keep, info.n)
    method = method.at(keep)
    method.check_needs(also=SUBSET_ARRAYS)
    cards, needs = method.cards, method.needs
    recorded: Mapping[str, Tensor] = {}
    arrays: Mapping[str, Tensor] = {}
    probed, subsets, probe_cost, num_epochs = None, None, None, 0
    if folder is not None:
        folder.check_dataset(info)
        if needs:
            warn_of_learning(near_chance(folder))
        subsets = subsets_for(folder, info, cards, model=model, model_options=model_options, progress=progress, log=log)
        # a method that is charged for no epoch reads no recording
        if method.epochs_charged(1) or folder.metadata["status"].get("record") == "done":
            recorded = folder.arrays(epochs)
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
        arrays = chain_arrays(subsets.arrays if subsets is not None else {}, probed.arrays(needs), recorded)
        # a probe reads the network after the last epoch, so it is charged for the whole recording
        num_epochs = method.epochs_charged(folder.epochs if method.reads_probe else epochs or folder.epochs)
    arrays = chain_arrays({"labels": info.labels}, arrays)
    check_arrays(arrays, cards, needs)
    if probed is not None:
        # before the clock of the score and the selection starts
        probe_cost = probe_needs(probed, [need for card in cards for need in card.needs], subsets)
    start = time.perf_counter()
    score = None if method.score_card is None else method.compute_score(arrays)
    scored = time.perf_counter()
    if cleaning is None:
        selection, _ = method.run(arrays, info.labels, keep=keep, generator=generator, score=score)
    else:
        selection = _run_on_remaining(method, arrays, info.labels, score, cleaning, keep=keep, generator=generator)
    select_cost = Cost(time.perf_counter() - scored)
    warnings = _warnings(selection, info)
    if log is not None:
        for warning in warnings:
            log(warning)
    return SelectionResult(
        selection, score, recorded, arrays, num_epochs, probe_cost, Cost(scored - start), select_cost, warnings
    )


def _warnings(selection: Selection, info: DatasetInfo) -> tuple[str, ...]:
    """What makes a selection unfit for training: classes of which nothing is kept."""
    num_classes = len(info.classes)
    if bool((info.labels < 0).any()):  # targets that are no classes
        return ()
    sizes = torch.bincount(info.labels, minlength=num_classes)
    kept = torch.bincount(info.labels[selection.index.cpu()], minlength=num_classes)
    lost = torch.nonzero((sizes > 0) & (kept == 0)).flatten().tolist()
    if not lost:
        return ()
    names = [info.classes[i] if i < num_classes else str(i) for i in lost]
    shown = ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")
    return (
        f"warning: no example is kept of {len(lost)} of {int((sizes > 0).sum())} classes ({shown}), so a network "
        "trained on this selection cannot learn them: keep a larger fraction, or the same share of every class "
        "(`per_class=True`)",
    )


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
    check_selection: Callable[[Selection], None] | None = None,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    val: Any = None,
    cleaning: Cleaning | None = None,
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
        check_selection: called with the selection before anything is written about it; it may raise.
        model: the function that made the network, or its ``"module:function"``, where the run recorded with one.
        model_options: options of that function.
        val: held-out data, for methods that match it.
        cleaning: what is left out before the method chooses; None for nothing.
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
    info, draws = dataset_info(train), selection_draws(seed, method, keep)
    result = select_examples(
        info,
        method,
        keep=keep,
        generator=draws,
        folder=folder,
        epochs=epochs,
        model=model,
        model_options=model_options,
        val=val,
        cleaning=cleaning,
        progress=progress,
        log=log,
    )
    selection, recorded = result.selection, result.recorded
    if check_selection is not None:
        check_selection(selection)
    if result.probe_cost is not None:
        charge_probes(folder)
    if result.score is not None:
        write_method_score(folder, info, method, result.score, result.score_cost, epochs, result.probe_cost)
    unknown = torch.full((folder.n,), torch.nan)
    p_mean, p_std = moments(recorded["p_label"]) if "p_label" in recorded else (unknown, unknown)
    why = method_notes(method, keep, selection, result.score, result.arrays, p_mean, info, tie_seed=tie_seed_of(draws))
    is_probed = "probs" in method.needs
    guess, p_guess = network_guesses(
        folder,
        info,
        chain_arrays(recorded, LazyArrays({"probs": partial(result.arrays.__getitem__, "probs")} if is_probed else {})),
        model=model,
        model_options=model_options,
        log=log,
    )
    learned = notes(recorded, p_mean, p_std) if "p_label" in recorded else [""] * folder.n
    guessed = guess_notes(guess, p_guess, info, also_right=is_probed)
    lines = ["; ".join(filter(None, clauses)) for clauses in zip(why, learned, guessed, strict=True)]
    for i, note in ({} if cleaning is None else cleaning.notes).items():
        lines[i] = note  # the method did not see it
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
        "epochs": result.epochs,
        "charge": examples_charged(result.epochs, folder.n, result.probe_cost),
        "load": dict(folder.metadata["options"].get("load", {})),  # how its dataset was loaded, for `train --select`
    }
    if cleaning is not None:
        metadata["cleaned"] = cleaning.counts()
    write_selection(
        out or folder.path / "selection.parquet",
        selection,
        info=info,
        meta={**metadata, "recorded": arithmetic_of(folder), **folder.made_by("select", result.select_cost)},
        notes=lines,
        p_mean=p_mean,
        p_std=p_std,
        guess=guess,
        p_guess=p_guess,
    )
    # another file: run.json and the gallery stay about the run's own selection
    if out is not None:
        return selection
    if folder.metadata["options"].get("select") != metadata:  # those files are about another selection
        # before run.json changes: a kill in between leaves no gallery of another selection
        folder.forget("check.json", "gallery.parquet")
    folder.update(
        cost={"select": result.select_cost.as_dict()}, options={"select": metadata}, status={"select": "done"}
    )
    if gallery and is_shown(folder.dataset):
        write_gallery(folder, info, selection, recorded, p_mean, guess, lines, seed)
    return selection


def selection_of(folder: RunFolder) -> tuple[Selection, dict[str, Any]]:
    """The run's selection, and what its file says of it.

    Raises:
        RunError: there is none, or it is of another dataset.
    """
    return read_selection(folder.path, fingerprint=folder.dataset.fingerprint, name=folder.dataset.name)
