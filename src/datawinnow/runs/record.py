"""`record`: a recorded training run that goes on after a kill at any point, to the same bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from datawinnow.core.arrays import RECORDED
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.files import finite_or_none
from datawinnow.core.progress import Progress
from datawinnow.data.dataset_info import dataset_info
from datawinnow.data.fingerprint import fingerprint_of
from datawinnow.data.tokens import Vocabulary
from datawinnow.record import Recorder, read_column
from datawinnow.runs.early_stopping import Settled, agreement
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.network import Model, build_network, check_outputs
from datawinnow.runs.stage import Stage, augment_of
from datawinnow.train import History, Recipe, fit

VOCABULARY = "vocabulary.json"
"""The words of the training texts and their numbers, without which the network is of no use."""


def begin_run(
    train: Any,
    run: Path,
    *,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    source: str = "",
    log: Callable[[str], None] | None = None,
) -> tuple[RunFolder, nn.Module, dict[str, Any]]:
    """The run folder of a dataset, new or as it is, a fresh network, and its facts; nothing is trained.

    Enough for a method that needs no recording; arguments as in `record`.

    Raises:
        RunError: the folder is about another dataset, or is something else.
        ArgumentError: the network has fewer outputs than the dataset has classes.
    """
    info = dataset_info(train, source)
    built, name, reason = build_network(model, info, seed, model_options)
    check_outputs(built, info)
    if reason and log is not None:
        log(f"network: {reason}")
    count = sum(p.numel() for p in built.parameters())
    about = {"name": name, "parameters": count, "options": dict(model_options or {})}
    folder = RunFolder.create(run, dataset=info, seed=seed, model=about)
    words = getattr(info.data, "vocabulary", None)
    if isinstance(words, Vocabulary) and not (folder.path / VOCABULARY).exists():
        words.write(folder.path / VOCABULARY, info.fingerprint)
    return folder, built, about


def record_run(
    train: Any,
    run: Path,
    *,
    test: Any = None,
    epochs: int = 30,
    schedule_epochs: int | None = None,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    signals: Sequence[str] = RECORDED,
    until_stable: float | Settled | None = None,
    source: str = "",
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> RunFolder:
    """Train briefly on all of ``train`` and record every example at every visit.

    A run that was killed goes on from its last whole epoch; a finished one is taken as it is.

    Args:
        train: `Examples` or a map-style dataset of ``(x, y)``.
        run: the run folder.
        test: evaluated after the last epoch, for the report.
        epochs: epochs to record.
        schedule_epochs: length of the run whose schedule is followed; ``epochs`` unless told.
        model: name, ``"module:function"``, a function that returns a network, or None to choose by size.
        model_options: options of the model.
        seed: of weights, order and augmentation.
        recipe: how to train.
        signals: what to record; add ``"kl_step"`` for TDDS.
        until_stable: end before ``epochs`` once two halves of the last 10 epochs agree so far, in (0, 1], on which
            examples DUAL ranks high (`datawinnow.runs.early_stopping`; 0.5 is what the command line takes); None to
            record all of them.
        source: what the user called the dataset, for later verbs.
        progress: told after each step.
        log: told what was chosen.

    Raises:
        ArgumentError: ``until_stable`` outside (0, 1], or without ``p_label`` among the signals.
        RunError: the folder is about another dataset, or was begun with other options.
        TrainingError: the loss is no longer a number; the epochs before are kept.
    """
    recipe = recipe or Recipe()
    until = _until(until_stable, epochs, signals)
    named: dict[str, Any] = {"model": model, "model_options": model_options}
    info = dataset_info(train, source)
    train = info.data
    folder, built, about = begin_run(info, run, seed=seed, log=log, **named)
    options = {
        "epochs": epochs,
        "schedule_epochs": schedule_epochs or epochs,
        "signals": list(signals),
        "seed": seed,
        "model": about["name"],
        "model_options": about["options"],
        "augment": augment_of(train),
        "until_stable": None if until is None else asdict(until),
        "recipe": recipe.metadata(),
    }
    stage = Stage(folder, "record", epochs)
    _same_options(folder, options, done=stage.done)
    if stage.done:
        stage.tidy()
        if log is not None:
            log(f"{run} is recorded already; using it")
        return folder
    how: dict[str, Any] = {
        "schedule_epochs": schedule_epochs,
        "test": test,
        "seed": seed,
        "on_epoch": stage.on_epoch,
        "progress": progress,
    }
    how["recipe"] = stage.start(built, train, recipe, {"record": options}, log, seed=seed, model=about)
    files: dict[str, Any] = {"which": tuple(signals), "checkpoint": stage.checkpoint}
    trained, history = fit_recorded(built, train, folder.signals, epochs=epochs, until=until, **files, **how)
    result = {"test_accuracy": finite_or_none(history.test_accuracy), "test_loss": finite_or_none(history.test_loss)}
    stage.finish(trained, history, result=result, **({} if until is None else _ended(folder, len(history.rows), until)))
    if until is not None and log is not None:
        log(settled_line(folder.metadata["recorded"], epochs, until.enough))
    return folder


def _until(given: float | Settled | None, epochs: int, signals: Sequence[str]) -> Settled | None:
    until = given if given is None or isinstance(given, Settled) else Settled(given)
    if until is not None:
        until.check_epochs(epochs)
        if "p_label" not in signals:
            raise ArgumentError("until_stable ranks by p_label: add it to the signals")
    return until


def _ended(folder: RunFolder, epochs: int, until: Settled) -> dict[str, Any]:
    """Where a recording ended that could have stopped, for ``run.json``."""
    found = agreement(read_column(folder.signals, "p_label"), window=until.window)
    agreed = None if math.isnan(found) else found
    return {"recorded": {"epochs": epochs, "agreement": agreed}}


def settled_line(recorded: Mapping[str, Any], epochs: int, enough: float) -> str:
    """What became of stopping once the ranking has settled, in a sentence.

    >>> settled_line({"epochs": 17, "agreement": 0.712}, 30, 0.7)
    'the ranking had settled after 17 of up to 30 epochs: two halves of the last ones agree to 0.71'
    >>> settled_line({"epochs": 30, "agreement": 0.43}, 30, 0.7)
    'the ranking had not settled after 30 epochs: two halves of the last ones agree to 0.43, asked for were 0.7'
    """
    agreed = recorded["agreement"]
    word = "not defined" if agreed is None else f"{agreed:.2f}"
    if agreed is not None and agreed >= enough:
        return (
            f"the ranking had settled after {recorded['epochs']} of up to {epochs} epochs: two halves of the last ones "
            f"agree to {word}"
        )
    return (
        f"the ranking had not settled after {epochs} epochs: two halves of the last ones agree to {word}, asked for "
        f"were {enough:g}"
    )


def fit_recorded(
    model: nn.Module,
    train: Any,
    folder: Path,
    *,
    epochs: int,
    which: tuple[str, ...],
    checkpoint: Path,
    until: Settled | None = None,
    **how: Any,
) -> tuple[nn.Module, History]:
    """`fit` with a recorder in ``folder``, whose columns are consolidated at the end.

    Args:
        model: fresh network.
        train: the dataset.
        folder: where the columns go.
        epochs: epochs to train and record.
        which: signals.
        checkpoint: file to go on from; the caller removes it once the recording is written down as done.
        until: ends the recording before ``epochs``, once its ranking has settled.
        how: other arguments of `fit`.

    Raises:
        RunError: the columns there are of another dataset.
    """
    recorder = Recorder(len(train), epochs, signals=which, path=folder, fingerprint=fingerprint_of(train))
    # consolidated already: a kill came later, and the checkpoint holds the network and the history
    writes = None if recorder.consolidated else recorder
    if until is not None:
        how["stop"] = lambda epoch: until.of(recorder, epoch + 1)
    model, history = fit(model, train, epochs=epochs, recorder=writes, checkpoint=checkpoint, **how)
    if until is not None:
        recorder.cut()
    recorder.consolidate()
    for file in (*folder.glob("epoch-*.npz"), *folder.glob("softmax-*.npy")):  # of a kill while these were removed
        file.unlink()
    return model, history


def _same_options(folder: RunFolder, options: dict[str, Any], *, done: bool) -> None:
    before = _flat(folder.metadata["options"].get("record") or {})
    recorded = folder.epochs
    for key, value in _flat(json.loads(json.dumps(options))).items():
        old = before.get(key, value)
        if key == "signals" and done and set(value) <= set(old):
            continue  # more was recorded than is asked for
        if key == "until_stable" and done and _as_long(old, value, recorded, options["epochs"]):
            continue
        if old != value and key != "workers":  # workers change no number
            raise RunError(
                f"{folder.path} was begun with {key}={_word(key, old)}, now it is {_word(key, value)}: give another "
                "--run folder, or the same options as before"
            )


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    return {**{k: v for k, v in options.items() if k != "recipe"}, **options.get("recipe", {})}


def _as_long(old: Mapping[str, Any] | None, now: Mapping[str, Any] | None, recorded: int, epochs: int) -> bool:
    """Whether a finished recording is as long as it would be by ``now``: only how early it might have ended differs."""
    if old is None or now is None or {**old, "first": 0} != {**now, "first": 0}:
        return False
    return bool(recorded >= now["first"] or recorded == epochs)


def _word(key: str, value: Any) -> str:
    """A value in an error; of ``until_stable`` what a user can have given."""
    if key != "until_stable" or value is None:
        return repr(value)
    return f"{value['enough']:g} after at least {value['first']} epochs"
