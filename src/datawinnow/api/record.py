"""`record`: a short training run in which every example is recorded at every visit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datawinnow.api.dataset import RUNS, open_dataset, run_path
from datawinnow.core.arrays import RECORDED
from datawinnow.core.bars import with_progress
from datawinnow.core.card import unknown_name
from datawinnow.core.load_options import LoadOptions
from datawinnow.core.progress import ProgressOption

if TYPE_CHECKING:
    from lightning_fabric.loggers.logger import Logger

    from datawinnow.runs.folder import RunFolder
    from datawinnow.train import Recipe
    from datawinnow.train.build import Model

EXTRA_SIGNALS = ("kl_step",)
"""Signals that are recorded only when named."""


@with_progress
def record(
    train: Any,
    *,
    epochs: int = 30,
    schedule_epochs: int | None = None,
    until_stable: float | None = None,
    signals: Sequence[str] = (),
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    test: Any = None,
    load: LoadOptions | None = None,
    run: Path | str | None = None,
    log_dir: Path | str | None = None,
    logger: Logger | Sequence[Logger] | None = None,
    progress: ProgressOption = None,
    log: Callable[[str], None] | None = None,
) -> RunFolder:
    """Train briefly on all the data and record every example at every visit.

    A recording that was stopped resumes from its last whole epoch; a finished one is used as it is. One that follows a
    longer schedule (``schedule_epochs``), or a constant one, goes on where ``epochs`` is larger than before.

    Args:
        train: a map-style dataset of ``(x, y)``, or DATA.
        epochs: epochs recorded: passes over all the data.
        schedule_epochs: epochs of the training that is planned; recording follows the first part of its schedule.
            Default: as many as ``epochs``.
        until_stable: end before ``epochs`` once two halves of the last 10 epochs, which share none, agree on the
            ranking by DUAL to this rank correlation, in (0, 1].
        signals: record this as well (repeatable): ``"kl_step"``, which TDDS needs; it keeps a row of class
            probabilities an example in memory.
        model: network; by default chosen by the shape of the examples.
        model_options: its options.
        recipe: how to train.
        seed: of weights, order and augmentation.
        test: test split, evaluated after the last epoch: of a dataset object another object; for DATA, which brings its
            own, another DATA.
        load: how DATA is read.
        run: run folder to write; by default ``runs/<name>``.
        log_dir: folder for the metrics of each epoch, as a CSV file and for TensorBoard where it is installed. Default:
            none.
        logger: a logger of lightning-fabric or Lightning (TensorBoard, W&B, MLflow, CSV), or several, which gets the
            metrics of each epoch.
        progress: True shows a bar on stderr, or a line every 10 seconds where stderr is no terminal; a function is
            called with ``(stage, done, total)``. Default: no progress is shown.
        log: called with what was chosen.

    Returns:
        The run folder; its ``arrays()`` are the recorded columns.

    Raises:
        ArgumentError: an unknown signal, or ``until_stable`` outside (0, 1].
        RunError: the folder is about another dataset, or was started with other options.
        TrainingError: the loss is no longer a number; the epochs before are kept.
    """
    from datawinnow.core.lock import only_writer
    from datawinnow.runs.record import RecordSettings, begin_run, run_recording
    from datawinnow.train import Recipe

    signals = [signals] if isinstance(signals, str) else signals
    for name in signals:
        if name not in (*RECORDED, *EXTRA_SIGNALS):
            raise unknown_name("signal", name, (*RECORDED, *EXTRA_SIGNALS))
    recorded_signals = tuple(dict.fromkeys([*RECORDED, *signals]))
    # refuses before there is a folder
    settings = RecordSettings(epochs, schedule_epochs, recorded_signals, until_stable, recipe or Recipe())
    splits = open_dataset(train, test=test, load=load, model=model, recipe=recipe, progress=progress, log=log)
    path = run_path(run, splits) or RUNS / splits.train.name
    with only_writer(path, option="run", who="another command"):
        setup = begin_run(
            splits.train,
            path,
            model=model,
            model_options=model_options,
            seed=seed,
            load=splits.stored_load,
            logger=logger,
            log_dir=log_dir,
            log=log,
        )
        return run_recording(setup, settings, test=splits.test, progress=progress, log=log)
