"""`prune`: from a dataset to the examples worth training on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datawinnow.api.dataset import open_dataset, run_path
from datawinnow.core.arrays import RECORDED
from datawinnow.core.bars import with_progress
from datawinnow.core.counts import a_type, many
from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.load_options import LoadOptions
from datawinnow.core.progress import Progress, ProgressOption

if TYPE_CHECKING:
    from lightning_fabric.loggers.logger import Logger

    from datawinnow.data.dataset_info import DatasetInfo
    from datawinnow.methods import Method
    from datawinnow.probe.embeddings import Embedding
    from datawinnow.runs.folder import RunFolder
    from datawinnow.runs.prune import Pruned
    from datawinnow.runs.record import RunSetup
    from datawinnow.runs.select import Cleaning
    from datawinnow.train import Recipe
    from datawinnow.train.build import Model


PUBLISHED_EPOCHS = 200
"""Epochs of the trainings that the published c_d of Beta sampling is for."""


@with_progress
def prune(
    train: Any,
    *,
    keep: float | str,
    method: str | Method | None = None,
    score: Any = None,
    select_by: Any = None,
    options: Mapping[str, Any] | None = None,
    score_options: Mapping[str, Any] | None = None,
    per_class: bool = False,
    clean: bool = False,
    embedding: Embedding | None = None,
    epochs: int = 30,
    schedule_epochs: int | None = None,
    until_stable: float | None = None,
    train_epochs: int | None = None,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    test: Any = None,
    val: Any = None,
    load: LoadOptions | None = None,
    run: Path | str | None = None,
    log_dir: Path | str | None = None,
    logger: Logger | Sequence[Logger] | None = None,
    check: bool = False,
    check_seeds: int = 1,
    out: Path | str | None = None,
    report: bool | Path | str = False,
    progress: ProgressOption = None,
    log: Callable[[str], None] | None = None,
) -> Pruned:
    """Record a short training run, score every example, and keep the fraction worth keeping.

    Args:
        train: `Examples` or any map-style dataset of ``(x, y)``; or DATA, as ``"digits"``, a path or
            ``"hf:owner/name"``.
        keep: fraction kept, in (0, 1], as 0.3 or 30%.
        method: a method by name, as ``datawinnow methods`` lists them; by default DUAL with Beta sampling.
        score: instead of ``method``: rank by this score.
        select_by: instead of ``method``: choose with this selector.
        options: of the selector.
        score_options: of the score, or of the probe of the network that it needs.
        per_class: keep the same share of every class.
        clean: leave out what an audit finds before the method chooses: first broken examples and duplicates (also of
            test examples), then labels that are likely wrong. Without a method of your own, the remaining are then
            ranked by hardness (DUAL) and drawn so that all degrees of it are covered.
        embedding: features by a pretrained model, ``"hf:PATH"``, or by ``"module:function"`` (or a function) from a
            batch to (b, d), in place of those of the recorded network: methods that read features alone then need no
            training. Images and vectors come as a network is trained on them, texts as strings.
        epochs: epochs recorded: passes over all the data. DUAL's paper records 30 of a 200-epoch schedule.
        schedule_epochs: epochs of the training that is planned; recording follows the first part of its schedule.
            Default: as many as ``epochs``.
        until_stable: end before ``epochs`` once the ranking by DUAL is stable: once two halves of the last 10 epochs,
            which share none, agree on it to this rank correlation, in (0, 1].
        train_epochs: epochs of the training on the kept examples that is planned, for the check and the cost; Beta
            sampling keeps the easier examples that a short one wants (c_d, as published from 200 epochs on). Default:
            as many as ``schedule_epochs``.
        model: network to record with; by default chosen by the shape of the examples.
        model_options: its options.
        recipe: how to train.
        seed: of everything random.
        test: test split, for the check and the report: of a dataset object another object; for DATA, which brings its
            own, another DATA.
        val: held-out data, for methods that match it (GLISTER, GradMatch); never the test split. By default a tenth of
            ``train`` stands in.
        load: how DATA is read.
        run: run folder to write, from which a run that was stopped resumes. By default ``runs/<name>`` for DATA, and a
            temporary one for a dataset object.
        check: train on the kept examples, on as many random ones, and on all the data, in full and for fewer epochs,
            and report which is best and by how much.
        check_seeds: repeats of the check with paired weights and orders; one is only an indication.
        out: write the kept examples to this folder, in the layout they came in, and the test split whole; new or
            empty. Default: they are not written.
        report: write the HTML page: True for ``report.html`` in the run folder, or a file.
        log_dir: folder for the metrics of each epoch, as a CSV file and for TensorBoard where it is installed. Default:
            none.
        logger: a logger of lightning-fabric or Lightning (TensorBoard, W&B, MLflow, CSV), or several, which gets the
            metrics of each epoch.
        progress: True shows a bar on stderr, or a line every 10 seconds where stderr is no terminal; a function is
            called with ``(stage, done, total)``. Default: no progress is shown.
        log: called with the estimate and with what was chosen and noticed.

    Returns:
        The kept examples, for `fit` or a DataLoader; ``.selection`` has their ids, weights and reasons.

    Raises:
        ArgumentError: keep outside (0, 1], unknown names or options, fewer epochs than the score needs, or a check
            without a test split; before anything is trained.
        MissingArrayError: the method needs an array that neither a recording nor its network makes.
        DataError: ``out`` is not empty.
        RunError: ``run`` is about another dataset, or was started with other options.
    """
    from datawinnow.core.budget import budget_of, parse_fraction
    from datawinnow.core.lock import only_writer
    from datawinnow.methods import create_method
    from datawinnow.runs.early_stopping import stability_for
    from datawinnow.runs.probe_arrays import check_movable
    from datawinnow.runs.prune import Pruned
    from datawinnow.runs.record import RecordSettings, begin_run, run_recording
    from datawinnow.runs.select import select_examples, select_run, selection_draws
    from datawinnow.runs.selection_file import selection_digest
    from datawinnow.train import Recipe

    keep = parse_fraction(keep)
    budget_of(keep, 1)
    if clean and method is None and score is None and select_by is None:
        score, select_by = "dual", "coverage"
    _check_arguments(epochs, schedule_epochs, train_epochs, check_seeds, recipe, load)
    planned = train_epochs or schedule_epochs or epochs
    chosen = create_method(
        method,
        score=score,
        select_by=select_by,
        options=options,
        score_options=score_options,
        per_class=per_class,
        embedding=embedding,
    )
    is_fitted = train_epochs is not None or planned < PUBLISHED_EPOCHS
    chosen = chosen.fitted(planned if is_fitted else None)
    if log is not None and chosen.options.get("train_epochs") == planned:
        log(f"Beta sampling: fitted to a training of {many(planned, 'epoch')} on the kept examples (`train_epochs=`)")
    if isinstance(train, (str, Path)):  # before anything is read
        chosen.dry_run(keep=keep, epochs=epochs)
    splits = open_dataset(train, test=test, load=load, model=model, recipe=recipe, progress=progress, log=log)
    info, test = splits.train, splits.test
    if not info.classes:
        _check_classless(chosen)
        if clean:
            raise ArgumentError("`clean=True` compares labels, and the dataset has no classes")
    if check and recipe is not None and recipe.loss is not None:
        raise ArgumentError("check compares accuracies of the cross-entropy: with a loss of your own leave it out")
    budget_of(keep, info.n)
    val = splits.like_train(val)
    settings = RecordSettings(
        epochs,
        schedule_epochs,
        (*RECORDED, "kl_step") if "kl_step" in chosen.needs else RECORDED,
        None if until_stable is None else stability_for(chosen, keep=keep, epochs=epochs, threshold=until_stable),
        recipe or Recipe(),
    )
    chosen.dry_run(keep=keep, epochs=epochs, n=info.n)
    check_movable(chosen.needs, info.data)
    if check and test is None:
        raise ArgumentError(
            "`check=True` needs a test split (`test=`): accuracy on the training examples decides nothing"
        )
    if out is not None and not hasattr(splits.original, "origin"):
        raise ArgumentError(
            f"`out=` writes datasets that datawinnow loaded, not {a_type(splits.original)}: leave it out and "
            "train on what prune returns, or use .selection.index with your own dataset"
        )
    path = run_path(run, splits)
    _check_out(path, out)
    if report is True and path is None:
        raise ArgumentError("`report=True` writes the page into the run folder: give `run=`, or a path as `report=`")
    if path is None and not chosen.needs and not (check or report or clean):  # needs no run
        draws = selection_draws(seed, chosen, keep)
        selection = select_examples(info, chosen, keep=keep, generator=draws, val=val, log=log).selection
        _write_kept(splits.original, selection, out, splits.original_test, log=log)
        return Pruned(splits.original, selection, test=splits.original_test, train_epochs=planned)
    with ExitStack() as scratch:
        folder_path = path or Path(scratch.enter_context(tempfile.TemporaryDirectory(prefix="datawinnow-"))) / "run"
        scratch.enter_context(only_writer(folder_path, option="run", who="another command"))
        setup = begin_run(
            info,
            folder_path,
            model=model,
            model_options=model_options,
            seed=seed,
            load=splits.stored_load,
            logger=logger,
            log_dir=log_dir,
            log=log,
        )
        folder = setup.folder
        # the report counts the cost by it, and `select` fits Beta sampling to it
        folder.update(options={"prune": {"train_epochs": planned, "is_fitted": is_fitted}})
        recorded = folder.metadata["status"].get("record") == "done"
        if log is not None and info.classes and (check or not recorded):
            seeds = check_seeds if check else 0
            log(_estimate(setup, chosen, recipe, keep, epochs, planned, seeds, may_stop=until_stable is not None))
        if chosen.needs_recording or clean:
            run_recording(setup, settings, test=test, progress=progress, log=log)
        cleaning = None
        if clean:
            network = {"model": model, "model_options": model_options}
            cleaning = _cleaning(folder, info, splits.test, network, progress, log)
        if progress is not None:
            progress(f"selecting by {chosen.label}", 0, 1)
        selection = select_run(
            folder,
            info,
            keep=keep,
            method=chosen,
            seed=seed,
            gallery=path is not None or bool(report),
            check_selection=lambda selection: _check_out(folder.path, out, selection_digest(selection)),
            model=model,
            model_options=model_options,
            val=val,
            cleaning=cleaning,
            progress=progress,
            log=log,
        )
        if log is not None and cleaning is not None:
            left = len(cleaning.remaining)
            log(f"clean: then {chosen.label} keeps {len(selection):,} of the {left:,} that are left")
        if progress is not None:
            progress(f"selecting by {chosen.label}", 1, 1)
        answer = None
        if check:
            from datawinnow.bench.check import check as compare

            answer = compare(
                folder,
                info,
                test,
                selection,
                keep=keep,
                epochs=planned,
                seeds=check_seeds,
                model=model,
                model_options=model_options,
                recipe=recipe,
                progress=progress,
                log=log,
            )
        _write_kept(splits.original, selection, out, splits.original_test, folder, log)
        page = None
        if report:
            from datawinnow import report as pages

            page = pages.write(folder.path, None if report is True else report)
    return Pruned(
        splits.original,
        selection,
        run=None if path is None else folder,
        test=splits.original_test,
        check=answer,
        report=page,
        train_epochs=planned,
    )


def _cleaning(
    folder: RunFolder,
    info: DatasetInfo,
    test: Any,
    network: Mapping[str, Any],
    progress: Progress | None,
    log: Callable[[str], None] | None,
) -> Cleaning:
    """What an audit of the recording leaves out, and a note that says it in order."""
    from datawinnow.runs.audit import AuditedData, arrays_of_run, audit_dataset, cleaning_of

    arrays = arrays_of_run(folder, info, progress=progress, log=log, **network)
    data = AuditedData(info, test, int(folder.metadata.get("seed", 0)))
    cleaning = cleaning_of(audit_dataset(data, arrays, folder=folder, progress=progress))
    if log is not None:
        counts = cleaning.counts()
        log(
            f"clean: first {many(counts['broken'], 'broken example')} and {many(counts['duplicate'], 'duplicate')} are "
            f"left out, then {many(counts['suspect'], 'likely wrong label')}"
        )
    return cleaning


def _check_classless(method: Method) -> None:
    """Refuse a method that reads classes, of a dataset without any.

    Raises:
        ArgumentError: naming what it reads.
    """
    needing = [need for need in method.needs if need not in ("loss", "seen")]
    if method.per_class:
        needing.append("labels")
    if needing:
        raise ArgumentError(
            f"{method.label} needs {', '.join(needing)}, which only classes have, and with a loss of your own only the "
            "loss is recorded: choose by it (`score='loss'`) or at random (`method='random'`)"
        )


def _check_arguments(
    epochs: Any, schedule_epochs: Any, train_epochs: Any, check_seeds: Any, recipe: Any, load: Any
) -> None:
    """Refuse what would otherwise fail after the recording was paid for.

    Raises:
        ArgumentError: a number of epochs or seeds below 1 or not an integer, or a mapping in place of a dataclass.
    """
    from datawinnow.core import check as arguments
    from datawinnow.train import Recipe

    arguments.number("epochs", epochs, 1, 1 << 20, integer=True)
    arguments.number("check_seeds", check_seeds, 1, 10_000, integer=True)
    for name, value in (("schedule_epochs", schedule_epochs), ("train_epochs", train_epochs)):
        if value is not None:
            arguments.number(name, value, 1, 1 << 20, integer=True)
    if recipe is not None and not isinstance(recipe, Recipe):
        raise ArgumentError(f"recipe must be a dw.Recipe, as dw.Recipe(lr=0.1), got {type(recipe).__name__}")
    if load is not None and not isinstance(load, LoadOptions):
        raise ArgumentError(f"load must be dw.api.LoadOptions, as LoadOptions(limit=1000), got {type(load).__name__}")


def _check_out(run: Path | None, out: Path | str | None, digest: str | None = None) -> None:
    """Refuse an ``out`` that holds something else than this selection (any of the run's, before it is chosen).

    Raises:
        DataError: naming it.
    """
    if out is None or _is_written(run, out, digest):
        return
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"`out={str(out)!r}` exists already and is not an empty folder; give another, or remove it")


def _is_written(run: Path | None, out: Path | str, digest: str | None = None) -> bool:
    """Whether the run has written ``out`` before, of the selection with this digest (None for any)."""
    from datawinnow.runs.folder import RunFolder

    if run is None or not (run / "run.json").exists() or not Path(out).is_dir():
        return False
    written = RunFolder.open(run).metadata["options"].get("out")
    if not isinstance(written, dict) or written.get("path") != str(Path(out).resolve()):
        return False
    return any(Path(out).iterdir()) and digest in (None, written.get("selection"))


def _write_kept(
    dataset: Any,
    selection: Any,
    out: Path | str | None,
    test: Any,
    folder: RunFolder | None = None,
    log: Callable[[str], None] | None = None,
) -> None:
    """Write the kept examples, unless the run has done so before it was stopped."""
    if out is None:
        return
    from datawinnow.data.write import write_kept
    from datawinnow.runs.selection_file import selection_digest

    digest = selection_digest(selection)
    if folder is not None:
        if _is_written(folder.path, out, digest):
            return
        # before the folder appears, as a whole: a kill in between leaves a folder that the run knows
        folder.update(options={"out": {"path": str(Path(out).resolve()), "selection": digest}})
    # a test split of the user's own kind stays with the user
    write_kept(dataset, selection.index, out, test=test if hasattr(test, "origin") else None, log=log)


def _estimate(
    setup: RunSetup,
    method: Method,
    recipe: Recipe | None,
    keep: float,
    epochs: int,
    train_epochs: int,
    check_seeds: int,
    *,
    may_stop: bool,
) -> str:
    """The estimate of what is still to be done, in a sentence."""
    from datawinnow.runs.estimate import estimate_run, sentence

    answer = estimate_run(
        setup.info,
        epochs=epochs,
        network=setup.network,
        model=setup.model["name"],
        recipe=recipe,
        method=method,
        keep=keep if check_seeds else None,
        train_epochs=train_epochs if check_seeds else None,
    )
    stages = answer["seconds_by_stage"]
    if setup.folder.metadata["status"].get("record") == "done":
        stages.pop("record", None)
    if "train" in stages:  # a seed has three trainings of as many examples, and one on all the data
        stages["check"] = (3 + 1 / keep) * check_seeds * stages.pop("train")
    upper_bound = ", if the ranking is not stable before" if may_stop and "record" in stages else ""
    return f"estimate{upper_bound}: {sentence({**answer, 'seconds': sum(stages.values())})}"
