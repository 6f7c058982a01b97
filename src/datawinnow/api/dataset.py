"""Datasets as the verbs take them: objects, or DATA with `LoadOptions`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datawinnow.core.counts import a_type
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.load_options import LoadOptions, absolute_source
from datawinnow.core.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from datawinnow.data.dataset_info import DatasetInfo
    from datawinnow.data.standardise import Columns
    from datawinnow.runs.folder import RunFolder
    from datawinnow.train import Recipe

RUNS = Path("runs")
"""Folder of the run folders, where none is named."""


@dataclass(frozen=True)
class Splits:
    """A dataset as a verb reads it.

    Attributes:
        train: description of the training split, with the split in ``train.data``.
        test: test split; None without one.
        load: the options that it was read with; None for a dataset object.
        original: the training split with the values that its owner gave it.
        original_test: the test split likewise.
        columns: of a dataset object: what its vectors were standardised by; None where they are as they were given.
        standardise: of a dataset object: the option as it was asked for.
    """

    train: DatasetInfo
    test: Any
    load: LoadOptions | None
    original: Any = None
    original_test: Any = None
    columns: Columns | None = None
    standardise: bool | None = None

    @property
    def stored_load(self) -> LoadOptions | None:
        """The options that a run folder keeps, for later stages to read the dataset alike."""
        if self.load is None and self.standardise is not None:
            return LoadOptions(standardise=self.standardise)
        return self.load

    def like_train(self, data: Any) -> Any:
        """Held-out data of the user's with the class ids and the standardised columns of the training split.

        Raises:
            ArgumentError: the training split is standardised, and these are no vectors in memory.
            DataError: a label of a class that the training split does not have.
        """
        from datawinnow.data.objects import with_class_ids

        if data is None or not self.train.classes:
            return data
        converted = with_class_ids(data, classes=self.train.classes)
        return converted if self.columns is None else self.columns.standardise(converted)


def require_two_classes(info: DatasetInfo) -> None:
    """Refuse to compare accuracies where there is one class, which every network gets right.

    Raises:
        ArgumentError: all labels are the same.
    """
    if info.n and bool((info.labels == info.labels[0]).all()):
        raise ArgumentError(f"{info.name}: only one class; at least two are needed to learn to tell them apart")


def open_dataset(
    data: Any,
    *,
    test: Any = None,
    load: LoadOptions | None = None,
    model: Any = None,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
    only_sample: bool = False,
) -> Splits:
    """A dataset object as it is, or DATA read as the command line reads it.

    Args:
        data: a map-style dataset of ``(x, y)``, or DATA: ``"digits"``, a path, or ``"hf:owner/name"``.
        test: test split of a dataset object, or of DATA another DATA to test on (``test`` of ``load``).
        load: how DATA is read. The tokenizer is by default that of a pretrained ``model`` of texts.
        model: the network.
        recipe: with a loss of the user's, the targets of a dataset object need not be classes.
        progress: called as DATA is read.
        log: called with each note on how it was read.
        only_sample: decode only a few images of DATA, for an estimate.

    Raises:
        ArgumentError: ``load`` for a dataset object, or a ``test`` of another kind than ``data``: one a dataset object,
            the other read from files.
        DataError: no such data.
    """
    from datawinnow.data.dataset_info import DatasetInfo, dataset_info
    from datawinnow.data.load import load_with
    from datawinnow.data.objects import as_dataset, with_class_ids, with_targets
    from datawinnow.data.standardise import STANDARDISED_NOTE, check_standardise, columns_to_standardise
    from datawinnow.models.registry import check_model_name
    from datawinnow.text.image_processor import takes_images
    from datawinnow.text.pretrained import is_pretrained
    from datawinnow.train.network import device_for

    load = load or LoadOptions()
    if not isinstance(data, (str, Path)):
        named = load.image is not None or load.label is not None
        unsupported = replace(load, image=None, label=None, standardise=None).to_dict()
        if unsupported:
            raise ArgumentError(
                f"of load= (for DATA, a name or a path), a dataset object takes image=, label= and standardise=, got a "
                f"{type(data).__name__} and {unsupported}; dw.load(data, ...) splits and limits it"
            )
        check_standardise(load.standardise)
        if isinstance(test, (str, Path)):
            raise ArgumentError(
                f"test={str(test)!r} is read from files, but the dataset is {a_type(data)}: load both with dw.load, or "
                "give a dataset object as test="
            )
        users_data, users_test = data, test
        has_targets = recipe is not None and recipe.loss is not None and not named and not isinstance(data, DatasetInfo)
        if has_targets:
            data = with_targets(data)
            has_targets = not dataset_info(data).classes
        if has_targets:
            test = None if test is None else with_targets(test)
        elif not isinstance(data, DatasetInfo):
            data = as_dataset(data, image=load.image, label=load.label)
        info = dataset_info(data)
        if has_targets or test is None:
            pass
        elif named:
            test = as_dataset(test, image=load.image, label=load.label, classes=info.classes)
        else:
            test = with_class_ids(test, classes=info.classes)
        data, raw_test, columns = info.data, test, None
        # by default what was arrays or a DataFrame; of all else the owner prepared the values
        is_raw = data is not users_data and (test is None or test is not users_test)
        if load.standardise is not None or is_raw:
            columns = columns_to_standardise(data, load.standardise)
        elif log is not None and data is not users_data and columns_to_standardise(data, None) is not None:
            log(f"data: vectors are used as they are, since the test split is {a_type(users_test)}")
        if columns is not None:
            test = None if test is None else columns.standardise(test)
            standardised = columns.standardise(data)
            info = dataset_info(standardised)
            if log is not None and has_targets:
                log(f"data: {STANDARDISED_NOTE}")
        for note in info.notes if log is not None else ():
            log(f"data: {note}")  # type: ignore[misc]
        return Splits(info, test, None, data, raw_test, columns, load.standardise)
    check_model_name(model)
    if recipe is not None:
        device_for(recipe.device)
    if test is not None:
        if not isinstance(test, (str, Path)):
            raise ArgumentError(
                f"{data} is read from files, so `test=` must be a path or hf:owner/name too, got {a_type(test)}; or "
                "load both and give them as objects"
            )
        load = replace(load, test=str(test))
    if is_pretrained(model) and load.tokenizer is None and not takes_images(model):
        load = replace(load, tokenizer=model)
    train, test = load_with(data, load, progress, only_sample=only_sample)
    for note in train.notes if log is not None else ():
        log(f"data: {note}")  # type: ignore[misc]
    return Splits(dataset_info(train, absolute_source(str(data))), test, load, train, test)


def dataset_of_run(
    folder: RunFolder,
    data: Any = None,
    *,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> Splits:
    """The dataset of a run, read as it was when the run was made.

    Args:
        folder: the run.
        data: a dataset object, or DATA where the run's dataset has moved; by default where it was.
        progress: called as DATA is read.
        log: called with each note on how it was read.

    Raises:
        RunError: the run does not say where its dataset is. (Another dataset is refused by what is done with it.)
    """
    data = folder.dataset.source if data is None else data
    if isinstance(data, str) and not data:
        raise RunError(f"{folder.path} does not say where its dataset is; give it with `data=`")
    load = LoadOptions.from_dict(folder.metadata["options"].get("load", {}))
    if not isinstance(data, (str, Path)):
        load = LoadOptions(standardise=load.standardise)
    return open_dataset(data, load=load, progress=progress, log=log)


def results_folder(out: Path | str | None, verb: str, data: Any, splits: Splits) -> Path:
    """The folder of a verb's results: ``out``, for DATA ``runs/<verb>-<name>``, else a new temporary folder.

    Args:
        out: the folder that the user named.
        verb: as ``"race"``.
        data: what the user gave.
        splits: what was read.
    """
    if out is not None:
        return Path(out)
    if splits.load is None and not getattr(data, "name", None):
        # the name of a class would put the results of different datasets into one folder
        return Path(tempfile.mkdtemp(prefix=f"datawinnow-{verb}-"))
    return RUNS / f"{verb}-{splits.train.name}"


def run_path(run: Path | str | None, splits: Splits, suffix: str = "") -> Path | None:
    """The run folder to write: ``run``, for DATA ``runs/<name>`` by default, and None for a dataset object."""
    if run is not None:
        return Path(run)
    return None if splits.load is None else RUNS / f"{splits.train.name}{suffix}"
