"""The verb `train`: a run folder of its own for a training on kept examples, with what it cost and reached."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from datawinnow.core.cost import Cost
from datawinnow.core.errors import RunError
from datawinnow.core.selection import Selection
from datawinnow.data.kept import Kept
from datawinnow.pipeline.about import Model
from datawinnow.pipeline.folder import RunFolder
from datawinnow.pipeline.recording import begin
from datawinnow.train import History, Progress, Recipe, fit
from datawinnow.train.checkpoint import save_checkpoint
from datawinnow.train.fit import fabric_for

CHECKPOINT = Path("checkpoint") / "train.safetensors"


def train_run(
    train: Any,
    run: Path,
    *,
    test: Any = None,
    selection: Selection | None = None,
    about: Mapping[str, Any] | None = None,
    epochs: int = 30,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    source: str = "",
    load: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> RunFolder:
    """Train on the selected examples (or on all) and leave a run folder behind; a killed run goes on.

    Args:
        train: the whole dataset.
        run: the run folder, of its own.
        test: evaluated after the last epoch.
        selection: which examples, with what weight; all when None.
        about: what ``selection.parquet`` says of the selection.
        epochs: passes over the selected examples.
        model: network; chosen by size unless told.
        model_options: its options.
        seed: of weights, order and augmentation.
        recipe: how to train.
        source: what the user called the dataset.
        load: options that it was loaded with.
        progress: told after each step.
        tell: told what was chosen.

    Returns:
        The folder, with ``result`` (accuracy and loss on the test split after the last epoch, None without one) and
        ``cost["train"]`` in its facts, ``history.parquet`` and ``model.safetensors``.

    Raises:
        RunError: the folder is about another dataset, holds a recording, or was begun with other options.
        TrainingError: the loss is no longer a number.
    """
    recipe = recipe or Recipe()
    how: dict[str, Any] = {"model": model, "model_options": model_options, "seed": seed, "source": source}
    folder, built, network = begin(train, run, tell=tell, **how)
    options = {
        "epochs": epochs,
        "seed": seed,
        "model": network["name"],
        "model_options": network["options"],
        "recipe": recipe.facts(),
        "selection": _chosen(selection, about),
    }
    _same_training(folder, options)
    if folder.facts["status"].get("train") == "done":
        if tell is not None:
            tell(f"{run} is trained already; using it")
        return folder
    folder.update(
        options={"train": options, "load": dict(load or {})},
        status={"train": "begun"},
        seed=seed,
        device=fabric_for(recipe.device).device.type,
        model=network,
    )

    def on_epoch(epoch: int, history: History) -> None:
        folder.write_history(history.rows)
        folder.update(status={"train": f"epoch {epoch + 1} of {epochs}"})

    built, history = fit(
        built,
        train if selection is None else Kept(train, selection),
        epochs=epochs,
        test=test,
        seed=seed,
        recipe=recipe,
        checkpoint=run / CHECKPOINT,
        on_epoch=on_epoch,
        progress=progress,
    )
    for note in history.notes:
        if tell is not None:
            tell(f"arithmetic: {note}")
    folder.write_history(history.rows)
    facts = {"model": network["name"], "fingerprint": folder.facts["dataset"]["fingerprint"]}
    save_checkpoint(run / "model.safetensors", built, None, facts)
    folder.update(
        cost={"train": history.cost.as_dict()},
        status={"train": "done"},
        arithmetic={"precision": history.precision, "channels_last": history.channels_last},
        result={"test_accuracy": _or_none(history.test_accuracy), "test_loss": _or_none(history.test_loss)},
    )
    (run / CHECKPOINT).unlink(missing_ok=True)
    if (run / "checkpoint").is_dir() and not any((run / "checkpoint").iterdir()):
        (run / "checkpoint").rmdir()
    return folder


def scoring_charge(about: Mapping[str, Any] | None) -> Cost:
    """What finding a selection cost, in examples passed, as its file says."""
    return Cost(backward=int((about or {}).get("charge", 0)))


def _chosen(selection: Selection | None, about: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if selection is None:
        return None
    digest = hashlib.sha256(selection.index.numpy().tobytes() + selection.weight.numpy().tobytes())
    named = {key: (about or {}).get(key) for key in ("method", "label", "keep", "seed", "charge")}
    return {**named, "kept": len(selection), "sha256": digest.hexdigest()[:16]}


def _same_training(folder: RunFolder, options: Mapping[str, Any]) -> None:
    if "record" in folder.facts["status"] or "select" in folder.facts["status"]:
        raise RunError(f"{folder.path} holds a recording or a selection; give training a folder of its own with --run")
    before = folder.facts["options"].get("train")
    if before is None or not (folder.path / "history.parquet").exists():
        return  # before the first epoch all may change
    for key, value in json.loads(json.dumps(options)).items():
        if before.get(key) == value:
            continue
        if key == "selection":
            raise RunError(
                f"{folder.path} was trained on another selection ({_named(before.get(key))}, now "
                f"{_named(value)}): give another --run folder"
            )
        raise RunError(
            f"{folder.path} was begun with {key}={before.get(key)!r}, now it is {value!r}: give another "
            "--run folder, or the same options as before"
        )


def _named(chosen: Mapping[str, Any] | None) -> str:
    if chosen is None:
        return "all examples"
    return f"{chosen['kept']:,} by {chosen.get('label') or chosen.get('method') or 'an unknown method'}"


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


__all__ = ["scoring_charge", "train_run"]
