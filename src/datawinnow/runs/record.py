"""The stage `record`: a recorded training run that resumes after a kill at any point, to the same bytes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.parameter import UninitializedParameter

from datawinnow.core import check
from datawinnow.core.arrays import RECORDED
from datawinnow.core.chance import warn_of_learning
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.files import finite_or_none
from datawinnow.core.load_options import LoadOptions
from datawinnow.core.progress import Progress, named_progress
from datawinnow.data.dataset_info import DatasetInfo, dataset_info
from datawinnow.data.fingerprint import fingerprint_of
from datawinnow.data.source_positions import source_rows
from datawinnow.data.tokens import Vocabulary
from datawinnow.record import Recorder, read_column
from datawinnow.record.files import remove_epochs, split_into_epochs
from datawinnow.runs.early_stopping import RankStability, split_half_agreement
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.linear_baseline import linear_note
from datawinnow.runs.near_chance import near_chance, training_sentence
from datawinnow.runs.stage import Stage, augment_of, option_text
from datawinnow.train import History, Recipe, fit
from datawinnow.train.build import Model, build_network, check_outputs_for
from datawinnow.train.ledger import MAX_EPOCHS
from datawinnow.train.loggers import loggers_of, with_loggers

if TYPE_CHECKING:
    from lightning_fabric.loggers.logger import Logger

CLASSLESS_SIGNALS = ("loss",)
"""What is recorded of a dataset without classes, which is trained on a loss of the user's."""
VOCABULARY = "vocabulary.json"
"""The words of the training texts and their ids, without which the network cannot be used."""


@dataclass(frozen=True, eq=False)
class RunSetup:
    """A run folder, new or resumed, with its dataset and a fresh network for it; nothing is trained yet.

    Attributes:
        folder: the run folder.
        info: description of the dataset, with the dataset in ``info.data``.
        network: the network, with weights drawn from ``seed``.
        model: what ``run.json`` says of it: ``name``, ``parameters`` and ``options``.
        seed: of weights, order and augmentation.
        loggers: of lightning-fabric; they get the metrics of each epoch.
    """

    folder: RunFolder
    info: DatasetInfo
    network: nn.Module
    model: Mapping[str, Any]
    seed: int
    loggers: Sequence[Logger] = ()


@dataclass(frozen=True, eq=False)
class RecordSettings:
    """How a recording is made.

    Attributes:
        epochs: epochs to record.
        schedule_epochs: length of the training whose schedule is followed; by default ``epochs``.
        signals: what to record; add ``"kl_step"`` for TDDS.
        until_stable: end before ``epochs`` once two halves of the last 10 epochs agree to this rank correlation, in
            (0, 1], on the ranking by DUAL (`datawinnow.runs.early_stopping`); None to record all of them.
        recipe: how to train.

    Raises:
        ArgumentError: ``schedule_epochs`` below ``epochs``, ``until_stable`` outside (0, 1], a recording too short for
            it, or one without ``p_label``.
    """

    epochs: int = 30
    schedule_epochs: int | None = None
    signals: Sequence[str] = RECORDED
    until_stable: float | RankStability | None = None
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        # before anything is read, and before a recording that is to go on is opened for it
        check.number("epochs", self.epochs, 1, MAX_EPOCHS, integer=True)
        if self.schedule_epochs is not None:
            check.number("schedule_epochs", self.schedule_epochs, self.epochs, MAX_EPOCHS)
        if self.stability is None:
            return
        self.stability.check_epochs(self.epochs)
        if "p_label" not in self.signals:
            raise ArgumentError("until_stable ranks by p_label: add it to the signals")

    @property
    def extendable(self) -> bool:
        """Whether more epochs can follow the last one: the schedule goes on, and nothing is made for the end only."""
        goes_on = self.recipe.schedule == "constant" or (self.schedule_epochs or 0) > self.epochs
        # the class probabilities that "kl_step" continues from are not kept
        return goes_on and self.until_stable is None and "kl_step" not in self.signals and not self.recipe.size_schedule

    @property
    def stability(self) -> RankStability | None:
        """The rule that ``until_stable`` stands for; None without one."""
        rule = self.until_stable
        return rule if rule is None or isinstance(rule, RankStability) else RankStability(rule)


def begin_run(
    train: Any,
    run: Path,
    *,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    load: LoadOptions | None = None,
    logger: Logger | Sequence[Logger] | None = None,
    log_dir: Path | str | None = None,
    log: Callable[[str], None] | None = None,
) -> RunSetup:
    """Create or open a run folder and build the network; enough for a method that needs no recording.

    Args:
        train: a map-style dataset of ``(x, y)``, or its `DatasetInfo`.
        run: the run folder.
        model: name, ``"module:function"``, a function that returns a network, or None to choose by the shape of the
            examples.
        model_options: options of the model.
        seed: of weights, order and augmentation.
        load: how the dataset was loaded, for later stages to load it so.
        logger: as of `loggers_of`; the metrics of each epoch go there.
        log_dir: as of `loggers_of`.
        log: called with the reason for the network, where it is chosen.

    Raises:
        RunError: the folder is about another dataset, or is something else.
        ArgumentError: the network has fewer outputs than the dataset has classes.
    """
    loggers = loggers_of(logger, log_dir, run.name)  # refused before there is a folder
    info = dataset_info(train)
    network, name, reason = build_network(model, info, seed, model_options)
    if info.classes:  # outputs for a loss of the user's are checked with it, in `fit`
        check_outputs_for(network, info, seed)
    if reason and log is not None:
        log(f"network: {reason}")
    parameters = sum(0 if isinstance(p, UninitializedParameter) else p.numel() for p in network.parameters())
    description = {"name": name, "parameters": parameters, "options": dict(model_options or {})}
    _check_load(run, info, load)
    folder = RunFolder.create(run, dataset=info, seed=seed, model=description)
    vocabulary = getattr(info.data, "vocabulary", None)
    if isinstance(vocabulary, Vocabulary) and not (folder.path / VOCABULARY).exists():
        vocabulary.write(folder.path / VOCABULARY, info.fingerprint)
    if load is not None and (folder.is_empty or "record" not in folder.metadata["options"]):
        folder.update(options={"load": load.to_dict()})  # a recording keeps how it was read
    return RunSetup(folder, info, network, description, seed, loggers)


def _check_load(run: Path, info: DatasetInfo, load: LoadOptions | None) -> None:
    """Refuse the dataset of another run by the option that makes it another, where there is one.

    Raises:
        RunError: naming it.
    """
    if load is None or not (run / "run.json").exists():
        return
    folder = RunFolder.open(run)
    before = LoadOptions.from_dict(folder.metadata["options"].get("load", {}))
    # the fingerprint is of the training split alone
    load = LoadOptions.from_dict(load.to_dict())
    is_same = folder.dataset.fingerprint == info.fingerprint and before.test == load.test
    if folder.is_empty or is_same or before == load:
        return
    for option in fields(LoadOptions):
        old, new = getattr(before, option.name), getattr(load, option.name)
        if old != new:
            raise RunError(
                f"{run} is of the data with {option_text(option.name, old)}, not with {option_text(option.name, new)}: "
                "use another `run=` folder, or the same options as before"
            )


def run_recording(
    setup: RunSetup,
    settings: RecordSettings,
    *,
    test: Any = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> RunFolder:
    """Train briefly on all examples and record every one of them at every visit.

    A recording that was killed resumes from its last whole epoch; a finished one is used unchanged, unless more epochs
    can follow: then they do, and the scores, selection, probes and networks on subsets of the shorter one are removed.

    Args:
        setup: from `begin_run`.
        settings: how the recording is made.
        test: evaluated after the last epoch, for the report.
        progress: called after each step.
        log: called with notes on choices.

    Returns:
        The run folder.

    Raises:
        RunError: the folder was started with other options.
        TrainingError: the loss is no longer a number; the epochs before are kept.
    """
    if not setup.info.classes:
        settings = replace(settings, signals=CLASSLESS_SIGNALS)
    stability = settings.stability
    folder, train = setup.folder, setup.info.data
    options = {
        "epochs": settings.epochs,
        "schedule_epochs": settings.schedule_epochs or settings.epochs,
        "signals": list(settings.signals),
        "seed": setup.seed,
        "model": setup.model["name"],
        "model_options": setup.model["options"],
        "augment": augment_of(train),
        "until_stable": None if stability is None else asdict(stability),
        "recipe": settings.recipe.metadata(),
    }
    stage = Stage(folder, "record", settings.epochs, extendable=settings.extendable)
    extends = _extends(folder, stage, options)
    if stage.has_epochs:
        ignore = _unaffected_options(folder, options) if stage.done else set[str]()
        if extends:
            ignore |= {"epochs", "schedule_epochs"} if settings.recipe.schedule == "constant" else {"epochs"}
        stage.require_same_options(options, ignore=ignore, texts={"until_stable": _stability_text})
    else:  # nothing is recorded yet, so all may change; a kill may have come before the first checkpoint
        remove_epochs(folder.signals, settings.epochs)
    if stage.done and not extends:
        stage.tidy()
        warn_of_learning(near_chance(folder))
        if log is not None:
            log(f"{folder.path} is recorded already; using it")
        return folder
    if stage.done:
        folder.check_files()  # before they are built on; while it goes on, they change
    if stage.done and folder.forget_results() and log is not None:
        log(
            f"{folder.path} goes on from {folder.epochs} to {settings.epochs} epochs: its scores, selection, probes "
            "and networks on subsets were of the shorter recording and are removed; make them again"
        )
    recipe = stage.start(
        setup.network, train, settings.recipe, {"record": options}, log, seed=setup.seed, model=setup.model
    )
    training = _training_digest(options)
    if stage.checkpoint.exists():
        split_into_epochs(folder.signals, settings.epochs, setup.info.labels, training)
    trained, history = fit_recorded(
        setup.network,
        train,
        folder.signals,
        replace(settings, recipe=recipe),
        checkpoint=stage.checkpoint,
        fingerprint=folder.metadata["dataset"]["fingerprint"],
        test=test,
        seed=setup.seed,
        training=training,
        on_epoch=with_loggers(stage.on_epoch, setup.loggers),
        progress=named_progress(progress, "recording"),
    )
    metadata = {
        "result": {
            "test_accuracy": finite_or_none(history.test_accuracy),
            "test_loss": finite_or_none(history.test_loss),
            "near_chance": training_sentence(setup.info, history, test),
        }
    }
    if stability is not None:
        metadata["recorded"] = _recorded_until(folder, len(history.rows), stability)
    stage.finish(trained, history, metadata)
    warn_of_learning(near_chance(folder))
    if log is not None and (note := linear_note(train, test, history.test_accuracy, recipe.optimizer)):
        log(note)
    if stability is not None and log is not None:
        log(stability_sentence(folder.metadata["recorded"], settings.epochs, stability.threshold))
    return folder


def _training_digest(options: Mapping[str, Any]) -> str:
    """16 hex digits that tell a recording from those of another seed, network or recipe; of any length."""
    changeable = ("epochs", "schedule_epochs", "until_stable")
    decisive = {key: value for key, value in options.items() if key not in changeable}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _recorded_until(folder: RunFolder, epochs: int, stability: RankStability) -> dict[str, Any]:
    """Where a recording with early stopping ended, for ``run.json``."""
    agreement = split_half_agreement(read_column(folder.signals, "p_label"), window=stability.window)
    # JSON has no NaN
    return {"epochs": epochs, "agreement": None if math.isnan(agreement) else agreement}


def stability_sentence(recorded: Mapping[str, Any], epochs: int, threshold: float) -> str:
    """Where a recording with early stopping ended and why, in a sentence.

    >>> stability_sentence({"epochs": 17, "agreement": 0.712}, 30, 0.7)
    'the ranking was stable after 17 of up to 30 epochs: two halves of the last ones agree to 0.71 (threshold 0.7)'
    >>> stability_sentence({"epochs": 30, "agreement": 0.43}, 30, 0.7)
    'the ranking was not stable after 30 epochs: two halves of the last ones agree to 0.43 (threshold 0.7)'
    """
    agreement = recorded["agreement"]
    stable = agreement is not None and agreement >= threshold
    ending = f"stable after {recorded['epochs']} of up to {epochs} epochs"
    if not stable:
        ending = f"not stable after {epochs} epochs"
    value = "an undefined correlation" if agreement is None else f"{agreement:.2f}"
    return f"the ranking was {ending}: two halves of the last ones agree to {value} (threshold {threshold:g})"


def fit_recorded(
    model: nn.Module,
    train: Any,
    folder: Path,
    settings: RecordSettings,
    *,
    checkpoint: Path,
    fingerprint: str | None = None,
    test: Any = None,
    seed: int = 0,
    training: str | None = None,
    on_epoch: Callable[[int, History], None] | None = None,
    progress: Progress | None = None,
) -> tuple[nn.Module, History]:
    """`fit` with a recorder in ``folder``, whose columns are consolidated at the end.

    Args:
        model: fresh network.
        train: the dataset.
        folder: where the columns go.
        settings: how the recording is made.
        checkpoint: file to resume from; the caller removes it once ``run.json`` says that the recording is done.
        fingerprint: of ``train``, where the caller has it; by default it is computed, which reads the dataset.
        test: test split, evaluated after the last epoch.
        seed: of weights, order and augmentation.
        training: text that tells this training from others on the same data.
        on_epoch: called with each finished epoch and the history.
        progress: called after each step.

    Raises:
        RunError: the columns in ``folder`` are of another dataset.
    """
    fingerprint = fingerprint or fingerprint_of(train)
    until = settings.stability
    recorder = Recorder(
        len(train),
        settings.epochs,
        signals=tuple(settings.signals),
        path=folder,
        fingerprint=fingerprint,
        rows=source_rows(train),
        training=training,
    )
    # consolidated already: a kill came later, and the checkpoint holds the network and the history
    writes = None if recorder.consolidated else recorder
    model, history = fit(
        model,
        train,
        epochs=settings.epochs,
        schedule_epochs=settings.schedule_epochs,
        test=test,
        seed=seed,
        recipe=settings.recipe,
        recorder=writes,
        checkpoint=checkpoint,
        fingerprint=fingerprint,
        on_epoch=on_epoch,
        # `recorder`, not `writes`: a resume after consolidation asks again about the last epoch
        stop=None if until is None else lambda epoch: until.is_reached(recorder, epoch + 1),
        progress=progress,
    )
    if until is not None:
        recorder.cut()
    recorder.consolidate()
    for file in (*folder.glob("epoch-*.npz"), *folder.glob("softmax-*.npy")):  # of a kill while these were removed
        file.unlink()
    return model, history


def _extends(folder: RunFolder, stage: Stage, options: Mapping[str, Any]) -> bool:
    """Whether more epochs are asked for than the recording has or was started with.

    Raises:
        RunError: it is finished, and none can follow.
    """
    before = folder.metadata["options"].get("record")
    if before is None or options["epochs"] <= before["epochs"] or before.get("until_stable") is not None:
        return False
    if stage.done and not stage.checkpoint.exists():
        raise RunError(
            f"{folder.path} is a finished recording of {before['epochs']} epochs, and none can follow: record "
            f"`epochs={options['epochs']}` into another `run=` folder. What can be extended is a recording "
            "that follows a longer schedule (`schedule_epochs=`) or `schedule='constant'`, at one input size and "
            "without the signal kl_step"
        )
    return True


def _unaffected_options(folder: RunFolder, options: Mapping[str, Any]) -> set[str]:
    """Names of the options that may differ from those of a finished recording, since it has all that they ask for."""
    before = folder.metadata["options"]["record"]
    names = set()
    if set(options["signals"]) <= set(before["signals"]):
        names.add("signals")
    if _is_long_enough(before.get("until_stable"), options["until_stable"], folder.epochs, options["epochs"]):
        names.add("until_stable")
    return names


def _is_long_enough(
    old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, num_recorded: int, epochs: int
) -> bool:
    """Whether a finished recording is as long as the ``new`` rule makes it: only the minimum of epochs may differ."""
    if old is None or new is None or {**old, "min_epochs": 0} != {**new, "min_epochs": 0}:
        return False
    return bool(num_recorded >= new["min_epochs"] or num_recorded == epochs)


def _stability_text(value: Mapping[str, Any] | None) -> str:
    """A rule in an error: the parts that follow from the user's options."""
    return "None" if value is None else f"{value['threshold']:g} after at least {value['min_epochs']} epochs"
