"""Datasets as the verbs take them: objects, or DATA with `LoadOptions`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from datawinnow.core.budget import parse_fraction
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.options import Option
from datawinnow.core.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from datawinnow.data.dataset_info import DatasetInfo
    from datawinnow.runs.folder import RunFolder
    from datawinnow.train import Recipe

RUNS = Path("runs")
"""Folder of the run folders, where none is named."""


@dataclass(frozen=True)
class LoadOptions:
    """How a dataset is read; None stands for the default, or for how the run in question read it.

    Attributes:
        size: side in pixels that images are resized to. Default: as they are if all are of one size up to 64; chosen
            otherwise.
        holdout: fraction of each class held out for testing where the data have no test split. Default: 0.2.
        limit: use only this number of training examples, stratified by class. Default: all.
        split_seed: seed of the draws for ``holdout`` and ``limit``; apart from ``seed``, so that seeds share one
            dataset. Default: 0.
        image: column (or array) of images in Parquet, .npz or hf:. Default: guessed.
        label: column (or array) of labels. Default: guessed.
        text: column of texts, by name or by number from 0. Default: guessed.
        length: tokens of a text; longer texts are truncated. Default: the 99th percentile of the training texts, at
            most 256.
        tokenizer: tokenizer of this transformers model. Default: that of ``model`` if it is pretrained, else the
            words of the training texts.
        header: whether the first line of a .csv or .tsv file names the columns. Default: guessed.
        standardise: give each column of vectors mean 0 and standard deviation 1, by the training split. Default: yes
            where the examples are vectors.
        flip: mirror training images left to right with probability 0.5; not for images of text or digits, or where
            left and right differ. Default: colour images only.
        skip_broken: leave out images that cannot be decoded and broken lines, and report how many; otherwise the first
            is an error.
    """

    PANEL: ClassVar[str] = "Data"

    size: Annotated[int | None, Option("PIXELS")] = None
    holdout: Annotated[float | None, Option("FRACTION")] = None
    limit: Annotated[int | None, Option("N")] = None
    split_seed: Annotated[int | None, Option("N")] = None
    image: Annotated[str | None, Option("NAME")] = None
    label: Annotated[str | None, Option("NAME")] = None
    text: Annotated[str | None, Option("NAME")] = None
    length: Annotated[int | None, Option("TOKENS")] = None
    tokenizer: Annotated[str | None, Option("hf:PATH")] = None
    header: bool | None = None
    standardise: bool | None = None
    flip: bool | None = None
    skip_broken: bool = False

    def to_kwargs(self) -> dict[str, Any]:
        """Those that are set, as keyword arguments of `datawinnow.load`."""
        values = {
            "size": self.size,
            "holdout": parse_fraction(self.holdout),
            "limit": self.limit,
            "seed": self.split_seed,
            "image": self.image,
            "label": self.label,
            "text": self.text,
            "length": self.length,
            "tokenizer": self.tokenizer,
            "header": self.header,
            "standardise": self.standardise,
            "flip": self.flip,
            "on_broken": "skip" if self.skip_broken else None,
        }
        return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True)
class Splits:
    """A dataset as a verb reads it.

    Attributes:
        train: description of the training split, with the split in ``train.data``.
        test: test split; None without one.
        load: keyword arguments of `datawinnow.load` that it was read with; None for a dataset object.
    """

    train: DatasetInfo
    test: Any
    load: dict[str, Any] | None


def open_dataset(
    data: Any,
    *,
    test: Any = None,
    load: LoadOptions | dict[str, Any] | None = None,
    model: Any = None,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> Splits:
    """A dataset object as it is, or DATA read as the command line reads it.

    Args:
        data: a map-style dataset of ``(x, y)``, or DATA: ``"digits"``, a path, or ``"hf:owner/name"``.
        test: test split of a dataset object.
        load: how DATA is read. The tokenizer is by default that of a pretrained ``model``.
        model: the network.
        recipe: with a loss of the user's, the targets of a dataset object need not be classes.
        progress: called as DATA is read.
        log: called with each note on how it was read.

    Raises:
        ArgumentError: ``load`` for a dataset object, or ``test`` for DATA, which brings its own.
        DataError: no such data.
    """
    from datawinnow.data.dataset_info import DatasetInfo, dataset_info
    from datawinnow.data.load import load as load_data
    from datawinnow.data.objects import as_dataset, with_class_ids, with_targets
    from datawinnow.text.pretrained import is_pretrained

    kwargs = load.to_kwargs() if isinstance(load, LoadOptions) else dict(load or {})
    if not isinstance(data, (str, Path)):
        keys = {key: kwargs.pop(key) for key in ("image", "label") if key in kwargs}
        if kwargs:
            raise ArgumentError(
                f"of load= (for DATA, a name or a path), a dataset object takes image= and label=, got a "
                f"{type(data).__name__} and {kwargs}; dw.load(data, ...) splits and limits it"
            )
        if recipe is not None and recipe.loss is not None and not keys and not isinstance(data, DatasetInfo):
            info = dataset_info(with_targets(data))
            if not info.classes:
                return Splits(info, None if test is None else with_targets(test), None)
        info = dataset_info(data if isinstance(data, DatasetInfo) else as_dataset(data, **keys))
        if test is not None:
            test = (
                with_class_ids(test, classes=info.classes)
                if not keys
                else as_dataset(test, **keys, classes=info.classes)
            )
        for note in info.notes if log is not None else ():
            log(f"data: {note}")  # type: ignore[misc]
        return Splits(info, test, None)
    if test is not None:
        raise ArgumentError(f"{data} brings its own test split: leave test= out, or load both and give them as objects")
    if is_pretrained(model):
        kwargs.setdefault("tokenizer", model)
    train, test = load_data(data, progress=progress, **kwargs)
    for note in train.notes if log is not None else ():
        log(f"data: {note}")  # type: ignore[misc]
    return Splits(dataset_info(train, absolute_source(str(data))), test, kwargs)


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
    load = folder.metadata["options"].get("load", {}) if isinstance(data, (str, Path)) else None
    return open_dataset(data, load=load, progress=progress, log=log)


def absolute_source(source: str) -> str:
    """``source`` as it can be found from another working directory."""
    if source == "digits" or source.startswith("hf:"):
        return source
    return str(Path(source).expanduser().resolve())


def run_path(run: Path | str | None, splits: Splits, suffix: str = "") -> Path | None:
    """The run folder to write: ``run``, for DATA ``runs/<name>`` by default, and None for a dataset object."""
    if run is not None:
        return Path(run)
    return None if splits.load is None else RUNS / f"{splits.train.name}{suffix}"
