"""The stage `train`: a run folder for a training on kept examples, with its cost and accuracy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from datawinnow.core.chance import warn_of_learning
from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.files import finite_or_none
from datawinnow.core.load_options import LoadOptions
from datawinnow.core.progress import Progress
from datawinnow.core.selection import Selection
from datawinnow.core.selection_history import FILE_NAME
from datawinnow.data.fingerprint import labels_of
from datawinnow.data.kept import Kept
from datawinnow.data.source_positions import source_rows
from datawinnow.dynamic.sampler.resume import policy_repr
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.kept_patches import describe_sparsity, write_patches
from datawinnow.runs.linear_baseline import linear_note
from datawinnow.runs.near_chance import near_chance, training_sentence
from datawinnow.runs.record import RunSetup
from datawinnow.runs.selection_file import selection_digest
from datawinnow.runs.selection_history import PlanRecording, SelectionHistoryWriter, write_notes
from datawinnow.runs.stage import Stage, augment_of
from datawinnow.train import Recipe, fit
from datawinnow.train.loggers import with_loggers
from datawinnow.vit import SparseLevels


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A finished training.

    Attributes:
        run: its run folder, with the network, the history and the cost.
        accuracy: on the test split after the last epoch; None without one, or if it is not finite.
        test: the test split; None without one.
        selection_metadata: what ``selection.parquet`` says of the examples that were trained on; empty for all.
        policy: the policy that chose among them; None for none.
    """

    run: RunFolder
    accuracy: float | None
    test: Any
    selection_metadata: Mapping[str, Any]
    policy: Any


@dataclasses.dataclass(frozen=True, eq=False)
class TrainSettings:
    """How a training is done.

    Attributes:
        epochs: passes over the selected examples; with ``passes`` it does not count.
        passes: instead of ``epochs``: with a policy, as many examples in all as that many epochs on all the selected.
        policy: chooses again in each epoch, among the selected examples (`datawinnow.dynamic`).
        record_plan: file for the plans of ``policy``, for `datawinnow.dynamic.Replay`; None for none.
        levels: token and attention levels of a vision transformer; the example level is a ``policy`` and ignored here.
        recipe: how to train.

    Raises:
        ArgumentError: ``record_plan`` without a policy.
    """

    epochs: float | None = 30
    passes: float | None = None
    policy: Any = None
    record_plan: Path | None = None
    levels: SparseLevels | None = None
    recipe: Recipe = dataclasses.field(default_factory=Recipe)

    def __post_init__(self) -> None:
        if self.record_plan is not None and self.policy is None:
            raise ArgumentError("record_plan requires a policy: without one every epoch trains on all the data")


def run_training(
    setup: RunSetup,
    settings: TrainSettings,
    *,
    test: Any = None,
    selection: Selection | None = None,
    selection_metadata: Mapping[str, Any] | None = None,
    load: LoadOptions | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> Trained:
    """Train on the selected examples (or on all) in a run folder that holds nothing else; a killed run resumes.

    Args:
        setup: from `datawinnow.runs.record.begin_run`.
        settings: how the training is done.
        test: evaluated after the last epoch.
        selection: which examples, with what weight; all when None.
        selection_metadata: what ``selection.parquet`` says of the selection.
        load: how the dataset was loaded.
        progress: called after each step.
        log: called with what was chosen.

    Returns:
        The folder has ``result`` (accuracy and loss on the test split after the last epoch) and ``cost["train"]`` in
        ``run.json``, ``history.parquet`` and ``model.safetensors``; with a policy ``selection_history.safetensors``,
        the examples of each epoch, and ``selection_notes.parquet``, why each was trained on or left out; with
        ``levels`` ``patches.parquet``, the patches that the network keeps of some images.

    Raises:
        RunError: the folder holds a recording, or was started with other options.
        TrainingError: the loss is no longer a number.
    """
    passes, policy, recipe, levels = settings.passes, settings.policy, settings.recipe, settings.levels
    epochs = settings.epochs if passes is None else None
    # the example level is the `policy`
    levels = None if levels is None or not levels.sparse else dataclasses.replace(levels, examples=False)
    info, train = setup.info, setup.info.data
    folder, network, seed = setup.folder, setup.network, setup.seed
    options = {
        "epochs": epochs,
        "seed": seed,
        "model": setup.model["name"],
        "model_options": setup.model["options"],
        "augment": augment_of(train),
        "recipe": recipe.metadata(),
        "selection": _selection_options(selection, selection_metadata),
        "policy": None if policy is None else policy_repr(policy),
        "passes": passes,
        "record_plan": settings.record_plan is not None,
        "levels": None if levels is None else levels.to_options(),
    }
    _check_folder(folder)
    stage = Stage(folder, "train", None if epochs is None else math.ceil(epochs))
    if (folder.path / "history.parquet").exists():  # before the first epoch all may change
        stage.require_same_options(
            options,
            texts={
                "selection": _selection_text,
                "record_plan": _plan_text,
                "levels": repr,
            },
        )
    plan = None
    if settings.record_plan is not None:
        plan = PlanRecording(Path(settings.record_plan), stage.checkpoint.parent / "plan")
    if stage.done:
        stage.tidy()
        if plan is not None:
            plan.check_written(folder.path)
        if log is not None:
            log(f"{folder.path} is trained already; using it")
        return _trained(folder, test, selection_metadata, policy)
    # before the arithmetic is measured: the sparse network is the one that trains
    if levels is not None:
        levels.sparsify(network, epochs or passes or 1)
        if log is not None:
            log(describe_sparsity(network, info.shape))
    recipe = stage.start(
        network,
        train,
        recipe,
        {"train": options, "load": {} if load is None else load.to_dict()},
        log,
        seed=seed,
        model=setup.model,
        recorded=(selection_metadata or {}).get("recorded"),
    )
    recorded_policy = fitted_policy = policy if plan is None else plan.wrap(policy)
    on_plan = None
    if policy is not None:
        on_plan = SelectionHistoryWriter(
            folder.path / FILE_NAME,
            folder.n,
            fingerprint=info.fingerprint,
            candidates=None if selection is None else selection.index,
            labels=labels_of(train),
            rows=source_rows(train),
        )
        fitted_policy = on_plan.watch(fitted_policy)
    else:
        folder.forget(FILE_NAME)  # of a training by a policy, killed in its first epoch
    network, history = fit(
        network,
        train if selection is None else Kept(train, selection),
        epochs=epochs,
        passes=passes,
        test=test,
        seed=seed,
        policy=fitted_policy,
        recipe=recipe,
        checkpoint=stage.checkpoint,
        fingerprint=info.fingerprint,
        on_epoch=with_loggers(stage.on_epoch, setup.loggers),
        on_plan=on_plan,
        progress=progress,
    )
    if levels is not None:
        write_patches(folder, network, train if test is None else test)
    if plan is not None:  # before the stage is done: after a kill in between, the same command still writes the plan
        made_by = f"{options['policy']} on {setup.model['name']}"
        rows = source_rows(train)
        plan.write(recorded_policy, history, selection, rows, fingerprint=info.fingerprint, made_by=made_by)
    if on_plan is not None and (folder.path / FILE_NAME).exists():
        write_notes(folder, info)
    result = {
        "test_accuracy": finite_or_none(history.test_accuracy),
        "test_loss": finite_or_none(history.test_loss),
        "near_chance": training_sentence(info, history, test, on_all=policy is None and selection is None),
    }
    stage.finish(network, history, {"result": result})
    on_all = policy is None and selection is None
    if log is not None and on_all and (note := linear_note(train, test, history.test_accuracy, recipe.optimizer)):
        log(note)
    if plan is not None:
        plan.clean_up()
    return _trained(folder, test, selection_metadata, policy)


def scoring_charge(selection_metadata: Mapping[str, Any] | None) -> Cost:
    """Cost of finding a selection, in examples passed, as its file says."""
    return Cost(backward=int((selection_metadata or {}).get("charge", 0)))


def _trained(folder: RunFolder, test: Any, selection_metadata: Mapping[str, Any] | None, policy: Any) -> Trained:
    warn_of_learning(near_chance(folder))
    return Trained(folder, folder.metadata["result"]["test_accuracy"], test, selection_metadata or {}, policy)


def _selection_options(selection: Selection | None, metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if selection is None:
        return None
    source = {key: (metadata or {}).get(key) for key in ("method", "label", "keep", "seed", "charge")}
    return {**source, "kept": len(selection), "sha256": selection_digest(selection)}


def _check_folder(folder: RunFolder) -> None:
    if "record" in folder.metadata["status"] or "select" in folder.metadata["status"]:
        raise RunError(f"{folder.path} holds a recording or a selection; give training a `run=` folder of its own")


def _selection_text(options: Mapping[str, Any] | None) -> str:
    if options is None:
        return "all examples"
    method = options.get("label") or options.get("method") or "an unknown method"
    return f"{options['kept']:,} by {method} (sha256 {str(options.get('sha256'))[:8]})"


def _plan_text(is_written: bool) -> str:
    return "a file" if is_written else "no file"
