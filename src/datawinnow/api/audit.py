"""`audit`: what is wrong with a dataset."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from datawinnow.api.dataset import Splits, dataset_of_run, open_dataset, run_path
from datawinnow.core.bars import with_progress
from datawinnow.core.errors import ArgumentError
from datawinnow.core.load_options import LoadOptions
from datawinnow.core.progress import Progress, ProgressOption

if TYPE_CHECKING:
    from datawinnow.record import Recorder
    from datawinnow.runs.audit import Audit
    from datawinnow.runs.folder import RunFolder
    from datawinnow.train import Recipe
    from datawinnow.train.build import Model


AUDIT_EPOCHS = 30
"""Epochs of a recording for an audit."""


@with_progress
def audit(
    train: Any = None,
    *,
    labels: Any = None,
    probs: Any = None,
    features: Any = None,
    classes: Sequence[str] | None = None,
    recorder: Recorder | None = None,
    test: Any = None,
    engine: Literal["datawinnow", "cleanlab"] = "datawinnow",
    epochs: int = AUDIT_EPOCHS,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    load: LoadOptions | None = None,
    run: Path | str | None = None,
    csv: bool = False,
    apply: Path | str | None = None,
    report: bool | Path | str = False,
    progress: ProgressOption = None,
    log: Callable[[str], None] | None = None,
) -> Audit:
    """Find wrong labels, duplicates, leakage, outliers, broken examples and odd classes.

    The labels of the training split are compared by its recording, those of the test split by the network that was
    trained without them.

    There are four ways to call it: with DATA or a dataset object, of which a short training is recorded; with a run
    folder, whose recording is used; with a dataset and the `Recorder` of a training of your own; and with arrays alone.

    Args:
        train: a map-style dataset of ``(x, y)``, DATA, or a run folder that `record` or `prune` made. None with
            ``labels``.
        labels: (n,) int class ids, in place of a dataset.
        probs: (n, c) class probabilities, out of fold where there is no recording.
        features: (n, d) of each example, for neighbours and outliers, in place of those of the recorded network.
        classes: names of the classes, with ``labels``. Default: the class ids.
        recorder: of a training on ``train``; give its network as ``model`` too, and classes can be suggested.
        test: test split, for leakage and missing classes: of a dataset object another object; for DATA, which brings
            its own, another DATA.
        engine: how labels are compared: ``"datawinnow"`` by the recording, ``"cleanlab"`` by confident learning of
            cleanlab on out-of-fold probabilities, which take five more trainings.
        epochs: epochs recorded: passes over all the data. A run folder has its own, and refuses others.
        model: network; by default chosen by the shape of the examples.
        model_options: its options.
        recipe: how to train.
        seed: of weights, order, augmentation and draws.
        load: how DATA is read.
        run: run folder to write. By default ``runs/<name>`` for DATA, and none for a dataset object.
        csv: write ``issues.csv`` beside ``issues.parquet``.
        apply: write the cleaned dataset to this folder, new or empty, in the layout it came in: what is suggested is
            done, or what the file of decisions that is given says. Default: nothing is changed.
        report: write the page: True for ``audit.html`` in the run folder, or a file.
        progress: True shows a bar on stderr, or a line every 10 seconds where stderr is no terminal; a function is
            called with ``(stage, done, total)``. Default: no progress is shown.
        log: called with what was chosen.

    Returns:
        The issues as a table, and the probability of a wrong label for every example. With a run folder they are in its
        ``issues.parquet`` and ``audit.json`` too.

    Raises:
        ArgumentError: arguments that exclude each other, or arrays about different examples.
        RunError: the run is not recorded to the end, or is of another dataset.

    >>> import datawinnow as dw
    >>> labels = [0, 1] * 100
    >>> probs = [[0.95, 0.05], [0.05, 0.95]] * 100
    >>> labels[:8] = [1, 0] * 4
    >>> audit = dw.audit(labels=labels, probs=probs)
    >>> audit.counts()["label"], audit.issues.rows[0].action
    (8, 'relabel:0')
    """
    if report is True and run is None and _run_folder(train) is None and not isinstance(train, (str, Path)):
        raise ArgumentError("`report=True` writes the page into the run folder: give `run=`, or a path as `report=`")
    if report and (labels is not None or recorder is not None):
        raise ArgumentError("the page of an audit is of a run: leave `report=` out with labels= or recorder=")
    decisions = load.decisions if load is not None and apply is not None else None
    if apply is not None:
        from datawinnow.core.decisions import read_decisions
        from datawinnow.runs.audit import check_empty

        # before anything is trained
        check_empty(apply)
        if decisions is not None:
            # the audit is of all the data, and what the file says is done afterwards
            load = replace(load or LoadOptions(), decisions=None)
            read_decisions(decisions)
    if labels is not None:
        if train is not None or recorder is not None or test is not None:
            raise ArgumentError("labels= stands in place of a dataset: leave train, recorder and test out")
        result = _of_arrays(labels, probs, features, classes, engine, seed)
    elif train is None:
        raise ArgumentError("give a dataset, DATA, a run folder, or labels= with probs= or features=")
    elif classes is not None:
        raise ArgumentError("classes= goes with labels=; a dataset has its own")
    elif recorder is not None:
        splits = open_dataset(train, test=test, load=load, recipe=recipe, progress=progress, log=log)
        result = _of_recorder(splits, recorder, model, {"probs": probs, "features": features}, engine, seed)
    elif probs is not None and engine != "cleanlab":
        raise ArgumentError("probs= goes with labels=, recorder= or engine='cleanlab'; a recording makes its own")
    else:
        folder = _run_folder(train)
        with ExitStack() as scratch:
            if folder is not None:
                if run is not None:
                    raise ArgumentError("`run=` is of a new recording; the audit of a run is written into its folder")
                _check_read_as_recorded(load or LoadOptions())
                _check_trained_as_recorded(epochs, seed, recipe)
                if test is not None:
                    raise ArgumentError("the data of a run are read as they were recorded: leave `test=` out")
                splits = dataset_of_run(folder, progress=progress, log=log)
                folder.check_dataset(splits.train)
            else:
                from datawinnow.core.lock import only_writer
                from datawinnow.runs.record import RecordSettings, begin_run, run_recording
                from datawinnow.train import Recipe

                settings = RecordSettings(epochs, recipe=recipe or Recipe())
                splits = open_dataset(
                    train, test=test, load=load, model=model, recipe=recipe, progress=progress, log=log
                )
                if not splits.train.classes:
                    raise ArgumentError("an audit compares classes, and the dataset has none")
                path = run_path(run, splits)
                path = path or Path(scratch.enter_context(tempfile.TemporaryDirectory(prefix="datawinnow-"))) / "run"
                scratch.enter_context(only_writer(path, option="run", who="another command"))
                network = {"model": model, "model_options": model_options}
                setup = begin_run(splits.train, path, seed=seed, load=splits.stored_load, log=log, **network)  # type: ignore[arg-type]
                folder = run_recording(setup, settings, test=splits.test, progress=progress, log=log)
            result = _of_run(splits, folder, probs, features, model, model_options, engine, csv, progress, log)
            _write_page(folder.path, report)
    if apply is not None:
        result.apply(apply, decisions=decisions, log=log)
    return result


def _write_page(folder: Path, report: bool | Path | str) -> None:
    from datawinnow.report.audit_page import write_audit_page

    if report:
        write_audit_page(folder, None if report is True else report)


def _check_read_as_recorded(load: LoadOptions) -> None:
    """Refuse options of reading for a run folder.

    Raises:
        ArgumentError: naming those that were given.
    """
    default = LoadOptions()
    if load == default:
        return
    if load == replace(default, decisions=load.decisions):
        raise ArgumentError(
            "the audit of a run is of all its data: `decisions=` needs `apply=`, the folder to write to"
        )
    names = [f"`{item.name}=`" for item in fields(load) if getattr(load, item.name) != getattr(default, item.name)]
    raise ArgumentError(f"the data of a run are read as they were recorded: leave {', '.join(names)} out")


def _check_trained_as_recorded(epochs: int, seed: int, recipe: Recipe | None) -> None:
    """Refuse options of training for a run folder, whose network is trained already.

    Raises:
        ArgumentError: naming those that were given.
    """
    from datawinnow.train import Recipe

    default = Recipe()
    changed = {"epochs": epochs != AUDIT_EPOCHS, "seed": seed != 0}
    for name, value in vars(recipe or default).items():
        # where it is computed, not what is
        changed[name] = name not in ("device", "workers", "precision", "channels_last") and value != vars(default)[name]
    names = [f"`{name}=`" for name, is_changed in changed.items() if is_changed]
    if names:
        raise ArgumentError(f"the network of a run is trained already: leave {', '.join(names)} out, or audit the data")


def _of_arrays(labels: Any, probs: Any, features: Any, classes: Sequence[str] | None, engine: Any, seed: int) -> Audit:
    """The audit of arrays alone: wrong labels, odd classes, and with features outliers and near duplicates."""
    import torch

    from datawinnow.audit.classes import class_issues
    from datawinnow.audit.content import EMBEDDING_CHANGES, near_vector_pairs, same_content
    from datawinnow.audit.duplicates import duplicate_issues, group_duplicates
    from datawinnow.audit.outliers import outlier_issues, outlyingness
    from datawinnow.core import check
    from datawinnow.core.issues import IssueTable
    from datawinnow.runs.audit import Audit, AuditedData, audit_metadata, recorded_issues, without_relabelled_outliers

    class_ids = check.labels("labels", labels)
    n = class_ids.numel()
    number = max(int(class_ids.max()) + 1, 0 if probs is None else check.as_tensor("probs", probs).shape[-1])
    names = [str(k) for k in range(number)] if classes is None else [str(name) for name in classes]
    if len(names) < number:
        raise ArgumentError(f"classes names {len(names)} classes, but labels or probs have {number}")
    data = AuditedData(_info_of_labels(class_ids, names), seed=seed)
    arrays = {} if probs is None else {"probs": check.distributions("probs", probs)}
    if features is not None:
        arrays["features"] = check.matrix("features", features)
    issues = class_issues({"train": class_ids}, names)
    of_labels, errors, notes = recorded_issues(data, arrays, engine=engine)
    issues += of_labels
    if features is not None:
        rows = arrays["features"]
        if len(rows) != n:
            raise ArgumentError(f"features has {len(rows):,} rows, labels {n:,}: they are about other examples")
        same = same_content(rows)
        first = torch.nonzero(same == torch.arange(n)).flatten()
        near = near_vector_pairs(rows, first, metric="cosine", changes=EMBEDDING_CHANGES, seed=seed)
        groups = group_duplicates(same, near, labels=class_ids)
        issues += duplicate_issues(groups, labels=class_ids, classes=names, contents="features")
        issues += outlier_issues(outlyingness(rows, seed=seed), labels=class_ids, classes=names)
    ids = [str(i) for i in range(n)]
    table = IssueTable.of(
        without_relabelled_outliers(issues),
        ids={"train": ids},
        labels={"train": [names[y] for y in class_ids.tolist()]},
    )
    return Audit(table, errors, audit_metadata(data, table, errors, notes, engine))


def _info_of_labels(labels: Any, names: Sequence[str]) -> Any:
    """A description of a dataset of which there are labels only."""
    import hashlib

    from datawinnow.data.dataset_info import DatasetInfo

    digest = hashlib.sha256(labels.numpy().tobytes()).hexdigest()[:16]
    info = DatasetInfo(name="labels", fingerprint=digest, n=len(labels), shape=(), classes=tuple(names), data=labels)
    info.__dict__["labels"] = labels  # fills the cached property
    return info


def _of_recorder(
    splits: Splits, recorder: Recorder, model: Any, arrays: Mapping[str, Any], engine: Any, seed: int
) -> Audit:
    """The audit of a dataset by the recording of the user's own training."""
    from torch import nn

    from datawinnow.probe import probe
    from datawinnow.runs.audit import SOURCES, AuditedData, audit_dataset

    if recorder.n != splits.train.n:
        raise ArgumentError(
            f"the recorder is of {recorder.n:,} examples, the dataset has {splits.train.n:,}: give the dataset that it "
            "recorded"
        )
    if engine == "cleanlab" and arrays["probs"] is None:
        raise ArgumentError("engine='cleanlab' with a recorder needs out-of-fold probs=")
    recorded = {name: recorder[name] for name in SOURCES if name in recorder}
    user_arrays = {name: value for name, value in arrays.items() if value is not None}
    if isinstance(model, nn.Module) and len(user_arrays) < 2:
        probed = probe(model, splits.train, arrays=("features", "probs"))
        recorded |= {name: probed[name] for name in ("features", "probs")}
    recorded |= user_arrays
    data = AuditedData(splits.train, splits.test, seed)
    return audit_dataset(data, recorded, engine=engine, out_of_fold=arrays["probs"])


def _of_run(
    splits: Splits,
    folder: RunFolder,
    probs: Any,
    features: Any,
    model: Any,
    model_options: Any,
    engine: Any,
    csv: bool,
    progress: Progress | None,
    log: Callable[[str], None] | None,
) -> Audit:
    """The audit of a recorded run, written into its folder."""
    import time

    from datawinnow.core.cost import Cost
    from datawinnow.runs.audit import AuditedData, arrays_of_run, audit_dataset, out_of_fold_probs, write_audit

    started = time.perf_counter()
    data = AuditedData(splits.train, splits.test, int(folder.metadata.get("seed", 0)))
    network = {"model": model, "model_options": model_options}
    # a hidden test split has no labels to compare
    test = splits.test if data.labels().keys() >= {"test"} else None
    arrays = arrays_of_run(folder, splits.train, test=test, progress=progress, log=log, **network)
    if features is not None:
        from datawinnow.core.arrays import chain_arrays

        arrays = chain_arrays({"features": features}, arrays)
    if engine == "cleanlab" and probs is None:
        probs = out_of_fold_probs(folder, splits.train, progress=progress, **network)
    result = audit_dataset(data, arrays, engine=engine, out_of_fold=probs, folder=folder, progress=progress)
    # with the values that their owner gave them, if they are to be written
    result = replace(result, train=splits.original, test=splits.original_test)
    cost = Cost(seconds=time.perf_counter() - started)
    write_audit(result, folder.path, p_label=folder.arrays()["p_label"], csv=csv, cost=cost)
    folder.charge("audit", cost)
    return result


def _run_folder(train: Any) -> RunFolder | None:
    """The run folder that ``train`` is; None for a dataset."""
    from datawinnow.runs.folder import RunFolder

    if isinstance(train, RunFolder):
        return train
    if isinstance(train, (str, Path)) and (Path(train) / "run.json").is_file():
        return RunFolder.open(train)
    return None
