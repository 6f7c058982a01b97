"""The verb `train`: a run folder of its own for a training on kept examples, with what it cost and reached."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.files import finite_or_none
from datawinnow.core.progress import Progress
from datawinnow.core.selection import Selection
from datawinnow.core.selection_history import FILE_NAME
from datawinnow.data.dataset_info import dataset_info
from datawinnow.data.fingerprint import labels_of
from datawinnow.data.kept import Kept
from datawinnow.dynamic.sampler.resume import policy_repr
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.kept_patches import describe_sparsity, write_patches
from datawinnow.runs.network import Model
from datawinnow.runs.record import begin_run
from datawinnow.runs.selection_file import digest
from datawinnow.runs.selection_history import PlanRecording, SelectionHistoryWriter
from datawinnow.runs.stage import Stage, augment_of
from datawinnow.train import Recipe, fit
from datawinnow.vit import SparseLevels


def train_run(
    train: Any,
    run: Path,
    *,
    test: Any = None,
    selection: Selection | None = None,
    about: Mapping[str, Any] | None = None,
    policy: Any = None,
    record_plan: Path | None = None,
    levels: SparseLevels | None = None,
    epochs: float | None = 30,
    passes: float | None = None,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    source: str = "",
    load: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> RunFolder:
    """Train on the selected examples (or on all) and leave a run folder behind; a killed run goes on.

    Args:
        train: the whole dataset.
        run: the run folder, of its own.
        test: evaluated after the last epoch.
        selection: which examples, with what weight; all when None.
        about: what ``selection.parquet`` says of the selection.
        policy: chooses anew what each epoch trains on, among the selected examples (`datawinnow.dynamic`).
        record_plan: file for what it planned, for `datawinnow.dynamic.Replay`; None for none.
        levels: token and attention levels of a vision transformer; the example level is a ``policy`` and ignored here.
        epochs: passes over the selected examples.
        passes: instead of them: with a policy, as many examples in all as that many epochs on all the selected.
        model: network; chosen by size unless told.
        model_options: its options.
        seed: of weights, order and augmentation.
        recipe: how to train.
        source: what the user called the dataset.
        load: options that it was loaded with.
        progress: told after each step.
        log: told what was chosen.

    Returns:
        The folder, with ``result`` (accuracy and loss on the test split after the last epoch, None without one) and
        ``cost["train"]`` in its facts, ``history.parquet`` and ``model.safetensors``; with a policy
        ``selection_history.safetensors``, the examples of each epoch; with ``levels`` ``patches.parquet``, which
        patches of some images it keeps.

    Raises:
        ArgumentError: ``record_plan`` without a policy.
        RunError: the folder is about another dataset, holds a recording, or was begun with other options.
        TrainingError: the loss is no longer a number.
    """
    recipe, epochs = recipe or Recipe(), epochs if passes is None else None
    levels = None if levels is None or not levels.sparse else dataclasses.replace(levels, examples=False)
    if record_plan is not None and policy is None:
        raise ArgumentError("record_plan goes with a policy: without one every epoch trains on everything")
    info = dataset_info(train, source)
    train = info.data
    folder, built, network = begin_run(info, run, model=model, model_options=model_options, seed=seed, log=log)
    options = {
        "epochs": epochs,
        "seed": seed,
        "model": network["name"],
        "model_options": network["options"],
        "augment": augment_of(train),
        "recipe": recipe.metadata(),
        "selection": _chosen(selection, about),
        "policy": None if policy is None else policy_repr(policy),
        "passes": passes,
        "record_plan": record_plan is not None,
        "levels": None if levels is None else levels.to_options(),
    }
    _same_training(folder, options)
    stage = Stage(folder, "train", None if epochs is None else math.ceil(epochs))
    plan = None if record_plan is None else PlanRecording(Path(record_plan), stage.checkpoint.parent / "plan")
    if stage.done:
        stage.tidy()
        if plan is not None:
            plan.check_written(run)
        if log is not None:
            log(f"{run} is trained already; using it")
        return folder
    kept = train if selection is None else Kept(train, selection)
    how: dict[str, Any] = {"checkpoint": stage.checkpoint, "on_epoch": stage.on_epoch, "progress": progress}
    asked = {"train": options, "load": dict(load or {})}
    if levels is not None:
        levels.sparsify(built, epochs or passes or 1)
        if log is not None:
            log(describe_sparsity(built, folder.metadata["dataset"]["shape"]))
    how["recipe"] = stage.start(built, train, recipe, asked, log, seed=seed, model=network)
    policy = policy if plan is None else plan.wrap(policy)
    if policy is not None:
        how["on_plan"] = _history_writer(train, folder, selection)
    else:
        folder.forget(FILE_NAME)  # of a training with one that was killed before the end of its first epoch
    built, history = fit(built, kept, epochs=epochs, passes=passes, test=test, seed=seed, policy=policy, **how)
    if levels is not None:
        write_patches(folder, built, train if test is None else test)
    if plan is not None:  # before it is done: who was killed in between gets the plan with the same command
        plan.write(
            policy,
            history,
            selection,
            folder.n,
            fingerprint=folder.metadata["dataset"]["fingerprint"],
            made_by=f"{options['policy']} on {network['name']}",
        )
    reached = {"test_accuracy": finite_or_none(history.test_accuracy), "test_loss": finite_or_none(history.test_loss)}
    stage.finish(built, history, result=reached)
    if plan is not None:
        plan.clean_up()
    return folder


def scoring_charge(about: Mapping[str, Any] | None) -> Cost:
    """What finding a selection cost, in examples passed, as its file says."""
    return Cost(backward=int((about or {}).get("charge", 0)))


def _history_writer(train: Any, folder: RunFolder, selection: Selection | None) -> SelectionHistoryWriter:
    return SelectionHistoryWriter(
        folder.path / FILE_NAME,
        folder.n,
        fingerprint=folder.metadata["dataset"]["fingerprint"],
        candidates=None if selection is None else selection.index,
        labels=labels_of(train),
    )


def _chosen(selection: Selection | None, about: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if selection is None:
        return None
    named = {key: (about or {}).get(key) for key in ("method", "label", "keep", "seed", "charge")}
    return {**named, "kept": len(selection), "sha256": digest(selection)}


def _same_training(folder: RunFolder, options: Mapping[str, Any]) -> None:
    if "record" in folder.metadata["status"] or "select" in folder.metadata["status"]:
        raise RunError(f"{folder.path} holds a recording or a selection; give training a folder of its own with --run")
    before = folder.metadata["options"].get("train")
    if before is None or not (folder.path / "history.parquet").exists():
        return  # before the first epoch all may change
    for key, value in json.loads(json.dumps(options)).items():
        was = before.get(key, value)
        if key == "recipe":  # what an older version did not have yet was at its default
            was = {**Recipe().metadata(), **was}
        if was == value:
            continue
        if key == "selection":
            raise RunError(
                f"{folder.path} was trained on another selection ({_named(before.get(key))}, now "
                f"{_named(value)}): give another --run folder"
            )
        raise RunError(
            f"{folder.path} was begun with {key}={was!r}, now it is {value!r}: give another "
            "--run folder, or the same options as before"
        )


def _named(chosen: Mapping[str, Any] | None) -> str:
    if chosen is None:
        return "all examples"
    return f"{chosen['kept']:,} by {chosen.get('label') or chosen.get('method') or 'an unknown method'}"


__all__ = ["scoring_charge", "train_run"]
