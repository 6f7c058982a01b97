"""``load()``: a dataset from any source that a `Reader` reads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datawinnow.core.bars import with_progress
from datawinnow.core.budget import parse_fraction
from datawinnow.core.counts import a_type
from datawinnow.core.decisions import read_decisions
from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.load_options import LoadOptions
from datawinnow.core.progress import Progress, ProgressOption
from datawinnow.data.assemble import DEFAULT_HOLDOUT, Loaded, ReadOptions
from datawinnow.data.decisions import apply_decisions
from datawinnow.data.digits import load_digits
from datawinnow.data.examples import Examples
from datawinnow.data.folder import load_folder
from datawinnow.data.hub import is_saved_dataset, load_hub, load_saved_dataset
from datawinnow.data.images import SUFFIXES, OnBroken
from datawinnow.data.npz import find_npz, load_npz
from datawinnow.data.objects import load_object
from datawinnow.data.other_test import described_test, matched_test
from datawinnow.data.output_mark import kept_classes
from datawinnow.data.parquet import find_parquet, load_parquet
from datawinnow.data.sampled import SampledImages
from datawinnow.data.standardise import columns_to_standardise
from datawinnow.data.summary import summary_notes
from datawinnow.data.text_files import TEXT_SUFFIXES, find_texts, load_text_files
from datawinnow.data.texts import Texts

LOGGER = logging.getLogger("datawinnow.data")
"""Every note on how a dataset was read, at level INFO."""
MIRRORED_NOTE = (
    "in training, images are mirrored left to right half of the time; where a mirrored image means another thing "
    "(text, digits, left and right), switch that off with `flip=False`"
)


_UNPACK = "it is packed: unpack it, and give the file or folder in it"
_PICKLED = "its arrays may be pickled, which runs code: save them with numpy.savez(file, x=x, y=y)"
ADVICE_BY_SUFFIX = {
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst"), _UNPACK),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar"), _UNPACK),
    **dict.fromkeys((".pt", ".pth", ".pkl", ".pickle"), _PICKLED),
    ".npy": "it holds one array, and labels are needed too: save both with numpy.savez(file, x=x, y=y)",
    ".json": "write it as JSON lines, one object a line, in a .jsonl file (pandas.read_json(file).to_json(new, "
    "orient='records', lines=True)), or rename it to .jsonl if it is such already",
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "save the sheet as .csv"),
    ".txt": "rename it to .csv or .tsv if it holds a text and a label in each line",
    **dict.fromkeys(SUFFIXES, "it is one image: give the folder of all"),
}
"""What to do about files that are not read, by the end of their names."""


@dataclass(frozen=True)
class Reader:
    """A kind of source that `load` reads.

    Attributes:
        description: of the source, for the error about an unknown one.
        reads: whether the reader is for a source; a path that exists is resolved, and others are as the user has them.
        load: ``load(source, options)`` returns the train and the test split.
        has_columns: whether the options ``image``, ``label`` and ``text`` can name columns of the source.
    """

    description: str
    reads: Callable[[Path], bool]
    load: Callable[[Path, ReadOptions], tuple[Loaded, Loaded]]
    has_columns: bool = True


def _file(*suffixes: str) -> Callable[[Path], bool]:
    return lambda path: path.is_file() and path.suffix.lower() in suffixes


READERS = (
    Reader("digits (embedded)", lambda source: str(source) == "digits", load_digits, has_columns=False),
    Reader("hf:owner/name from the Hugging Face hub", lambda source: str(source).startswith("hf:"), load_hub),
    Reader("a .parquet file", _file(".parquet"), load_parquet),
    Reader("an .npz file", _file(".npz"), load_npz),
    Reader("labelled texts in a .csv, .tsv or .jsonl file", _file(*TEXT_SUFFIXES), load_text_files),
    Reader("a folder of save_to_disk of `datasets`", is_saved_dataset, load_saved_dataset),
    Reader(
        "a folder of train-*.parquet and test-*.parquet", lambda f: f.is_dir() and bool(find_parquet(f)), load_parquet
    ),
    Reader("a folder of train.npz and test.npz", lambda folder: bool(find_npz(folder)), load_npz),
    Reader("a folder of train.tsv and test.tsv", lambda f: f.is_dir() and bool(find_texts(f)), load_text_files),
    Reader(
        "a folder of images by class (FOLDER/train/<class>/*.png beside FOLDER/test, or FOLDER/<class>/*.png)",
        Path.is_dir,
        load_folder,
    ),
)
"""All readers; the first that reads a source is used."""
KINDS_OF_DATA = f"DATA can be: {'; '.join(reader.description for reader in READERS)}"


@with_progress
def load(
    source: Any,
    *,
    size: int | None = None,
    seed: int = 0,
    holdout: float | str | None = None,
    image: str | int | None = None,
    label: str | int | None = None,
    on_broken: OnBroken = "raise",
    memory: int | None = None,
    limit: int | None = None,
    flip: bool | None = None,
    progress: ProgressOption = None,
    text: str | int | None = None,
    length: int | None = None,
    tokenizer: str | None = None,
    header: bool | None = None,
    standardise: bool | None = None,
    decisions: Path | str | None = None,
    test: Path | str | None = None,
) -> tuple[Loaded, Loaded]:
    """Read a dataset as a train and a test split.

    What was taken for what (splits and classes with their counts, columns, sizes) and whatever is chosen for the user
    (a held-out test split, the axis of channels) is in ``train.notes``, and logged by ``logging`` at level INFO.

    Images that take over a second to decode are cached in ``~/.cache/datawinnow`` (``DATAWINNOW_CACHE``; empty for no
    cache), up to 10 GB (``DATAWINNOW_CACHE_GB``); beyond that, the least recently used are removed.

    Args:
        source: ``"digits"``; a folder of images by class; a Parquet file or a folder of shards in the layout of the
            Hugging Face hub; an ``.npz`` file; labelled texts in a ``.csv``, ``.tsv`` or ``.jsonl`` file or in a folder
            with one for each split (``train.tsv``, ``test.tsv``); a folder of ``save_to_disk`` of `datasets`; or
            ``"hf:owner/name"``. Or a dataset object: a map-style dataset of ``(x, y)`` or of dicts, arrays ``(x, y)``,
            a DataFrame, or a dict of splits; of the options it takes ``image``, ``label``, ``holdout``, ``limit``,
            ``seed`` and ``standardise``, and the others are an error.
        size: side in pixels that images are resized to; None keeps images of one size up to 64 pixels, and chooses
            otherwise.
        seed: of every draw made here: the held-out split, the limit.
        holdout: fraction of each class that becomes the test split when the source has none, in (0, 1); None for 0.2.
        image: name of the column or array of images; None guesses.
        label: name of the column or array of labels; None guesses.
        on_broken: ``"raise"`` names the first broken image or line; ``"skip"`` leaves them out, with a note.
        memory: bytes that decoded images may take, else they are decoded on demand; None for half of what is free.
        limit: number of training examples, a stratified sample; None, or more than the dataset has, for all.
        flip: whether training mirrors images left to right half of the time; None for colour images only. Not for
            images that mean another thing mirrored: text, digits, left and right.
        progress: True shows a bar on stderr, or a line every 10 seconds where stderr is no terminal; a function is
            called with ``(stage, done, total)``. Default: no progress is shown.
        text: name of the column of texts, or its number, from 0; None guesses.
        length: tokens of a text's row: longer ones are cut, shorter ones padded. None for what 99 of 100 training texts
            fit in, at most 256.
        tokenizer: ``"hf:PATH"`` for token ids of a transformers model, which training that model needs; None for the
            words of the training texts.
        header: whether the first line of a ``.csv`` or ``.tsv`` names the columns; None guesses.
        standardise: whether each column of vectors gets mean 0 and standard deviation 1, by the train split; None for
            yes for vectors in files, arrays and DataFrames; `Examples` and datasets of items stay as they are.
        decisions: a ``.csv`` file of decisions about examples, with the columns ``id`` and ``action`` (keep, drop or
            relabel:NAME); dropped examples are left out, and others get the label. None for none.
        test: another source, whose test split (without splits all of it) is tested on; of ``source`` then all is
            trained on, but for a test split of its own. Classes are matched by name, images get the size of the
            training images, texts their vocabulary. None for the test split of ``source``, or one that is held out.

    Returns:
        ``(train, test)``, each `Examples` in memory, `Texts`, or `LazyExamples` decoded on demand. Images are uint8
        of shape (channels, height, width), texts int32 token ids of shape (length,), labels int64 class ids.

    Raises:
        ArgumentError: an option outside its range.
        DataError: no such data, or not valid; the error names the file, row or column and what to do.

    >>> train, test = load("digits")
    >>> len(train), len(test), train.shape
    (1438, 359, (1, 8, 8))
    """
    options = ReadOptions(
        size,
        seed,
        _holdout_of(holdout, test),
        _column_name("image", image),
        _column_name("label", label),
        on_broken,
        memory,
        limit,
        progress,
        _column_name("text", text),
        length,
        tokenizer,
        header,
    )
    return _decided(*_read(source, options, test, flip=flip, standardise=standardise), decisions)


def load_with(
    source: str | Path, options: LoadOptions, progress: Progress | None = None, *, only_sample: bool = False
) -> tuple[Loaded, Loaded]:
    """`load` with the options of a verb.

    Args:
        source: as of `load`.
        options: of the verb.
        progress: as of `load`.
        only_sample: decode only a few images, for an estimate: the splits are then `SampledImages`.
    """
    read_options = ReadOptions(
        options.size,
        options.split_seed or 0,
        _holdout_of(options.holdout, options.test),
        _column_name("image", options.image),
        _column_name("label", options.label),
        "skip" if options.skip_broken else "raise",
        None,
        options.limit,
        progress,
        _column_name("text", options.text),
        options.length,
        options.tokenizer,
        options.header,
        only_sample=only_sample,
    )
    splits = _read(source, read_options, options.test, flip=options.flip, standardise=options.standardise)
    # a sample of images for an estimate is not that of a few decisions less
    return splits if only_sample else _decided(*splits, options.decisions)


def _decided(train: Loaded, test: Loaded, decisions: Path | str | None) -> tuple[Loaded, Loaded]:
    """Both splits after the decisions in a file; as they are without one."""
    return (train, test) if decisions is None else apply_decisions(train, test, read_decisions(decisions))


def _holdout_of(holdout: float | str | None, test: Any) -> float:
    """The fraction to hold out.

    Raises:
        ArgumentError: it is set, but the test split is of another source.
    """
    if holdout is None:
        return DEFAULT_HOLDOUT
    if test is not None:
        raise ArgumentError("`test=` brings the test split, so nothing is held out: leave `holdout=` out")
    return parse_fraction(holdout)


def _read(
    source: Any, options: ReadOptions, test_source: Path | str | None, *, flip: bool | None, standardise: bool | None
) -> tuple[Loaded, Loaded]:
    """`load`, with most of its options as readers have them."""
    options = options.checked()
    if flip not in (None, True, False):
        raise ArgumentError(f"flip must be True, False or None, got {flip!r}")
    if not isinstance(source, (str, Path)):
        _refuse_object_options(options, flip, test_source)
        train, test = load_object(
            source,
            image=options.image,
            label=options.label,
            holdout=options.holdout,
            limit=options.limit,
            seed=options.seed,
        )
        is_raw = not isinstance(source, Examples)  # such were made or loaded with the values that they are to have
        return _with_summary(*_standardised(train, test, standardise if is_raw or standardise is not None else False))
    if test_source is None:
        train, test = _read_source(str(source), options)
    elif not isinstance(test_source, (str, Path)):
        raise ArgumentError(
            f"test must be a path or hf:owner/name, as the data are, got {a_type(test_source)}: give both as objects"
        )
    else:
        train, _ = _read_source(str(source), replace(options, only="train"))
        train, test = _with_test_of(str(test_source), train, options)
    train, test = _standardised(train, test, standardise)
    return _with_summary(*_set_flip(train, test, flip))


def _read_source(name: str, options: ReadOptions) -> tuple[Loaded, Loaded]:
    """Both splits of a source; the one that ``options.only`` names twice."""
    path, reader = _find_reader(name)
    options = replace(options, kept_classes=kept_classes(path) if options.train is None else options.train.classes)
    if not reader.has_columns:
        _refuse_columns(options, name)
    train, test = reader.load(path, options)
    if not isinstance(train, Texts):
        _refuse_text_options(options, name)
    return train, test


def _with_test_of(source: str, train: Loaded, options: ReadOptions) -> tuple[Loaded, Loaded]:
    """The train split, with notes on how the test split was read, and the test split of another source.

    Raises:
        DataError: the two sources do not fit together, or are one.
    """
    memory = None if options.memory is None else max(0, options.memory - _size_in_memory(train))
    read, _ = _read_source(source, replace(options, only="test", train=train, memory=memory))
    test = matched_test(train, read, source)
    notes = [f"{source}: {note}" for note in test.notes if note not in train.notes]
    notes.append(f"the test split is {described_test(test, source)}; classes are matched by name")
    if isinstance(train, SampledImages) and isinstance(test, SampledImages):
        decoding = train.decoding.plus(test.decoding)
        train, test = replace(train, decoding=decoding), replace(test, decoding=decoding)
    return replace(train, notes=(*train.notes, *notes)), test


def _size_in_memory(dataset: Loaded) -> int:
    """Bytes that the examples take."""
    return dataset.x.numel() * dataset.x.element_size() if isinstance(dataset, Examples) else 0


def _with_summary(train: Any, test: Any) -> tuple[Any, Any]:
    """Both splits, with what was taken for what as the first notes, which are logged too."""
    if all(hasattr(train, name) for name in ("notes", "labels", "classes")) and hasattr(test, "labels"):
        train = replace(train, notes=(*summary_notes(train, test), *train.notes))
        for note in train.notes:
            LOGGER.info("%s: %s", train.name, note)
    return train, test


def _column_name(option: str, column: str | int | None) -> str | None:
    """A column as the readers take it: its name, or its number as a text."""
    if column is None or isinstance(column, str):
        return column
    if isinstance(column, bool) or not isinstance(column, int) or column < 0:
        raise ArgumentError(f"{option} must be the name of a column, or its number from 0, got {column!r}")
    return str(column)


def _find_reader(source: str) -> tuple[Path, Reader]:
    """The path of a source, resolved if it exists, and its reader.

    Raises:
        DataError: no such file or folder, or no reader reads it.
    """
    if not source.strip():
        raise ArgumentError(f"the source is empty ({source!r}): give a path; a dot is the current folder")
    path = Path(source)
    local = path.expanduser()
    if local.exists() and source != "digits" and not source.startswith("hf:"):
        path = local.resolve()
    try:
        reader = next((reader for reader in READERS if reader.reads(path)), None)
    except PermissionError:
        raise DataError(f"the folder {path} may not be read; change its permissions") from None
    if reader is not None:
        return path, reader
    if local.exists():
        advice = ADVICE_BY_SUFFIX.get(path.suffix.lower(), "")
        raise DataError(f"cannot read {source}: {advice or f'not a kind of data that is known. {KINDS_OF_DATA}'}")
    hint = f" For a dataset of the hub, write hf:{source}." if source.count("/") == 1 and "." not in source else ""
    raise DataError(f"no such file or folder: {source}.{hint} {KINDS_OF_DATA}")


def _standardised(train: Loaded, test: Loaded, standardise: bool | None) -> tuple[Loaded, Loaded]:
    """Both splits with each column of vectors at mean 0 and standard deviation 1 in the train split, and a note."""
    columns = columns_to_standardise(train, standardise)
    return (train, test) if columns is None else (columns.standardise(train), columns.standardise(test))


def _set_flip(train: Loaded, test: Loaded, flip: bool | None) -> tuple[Loaded, Loaded]:
    """Both splits with the user's ``flip``, and a note if training mirrors images."""
    if train.augment is None:
        if flip:
            raise ArgumentError(f"`flip=True`, but {train.name} holds no images that could be mirrored: leave it out")
        return train, test
    if flip is not None:
        augment = replace(train.augment, flip=flip)
        train, test = replace(train, augment=augment), replace(test, augment=augment)
    if train.augment is not None and train.augment.flip:
        train = replace(train, notes=(*train.notes, MIRRORED_NOTE))
    return train, test


def _refuse_columns(options: ReadOptions, source: str) -> None:
    for name, value in (("image", options.image), ("label", options.label), ("text", options.text)):
        if value is not None:
            raise ArgumentError(
                f"`{name}={value!r}` names a column, but {source} has none; it is for Parquet, .npz, hf: and files of "
                "texts"
            )


def _refuse_object_options(options: ReadOptions, flip: bool | None, test: Any) -> None:
    for name, value in (
        ("size", options.size),
        ("text", options.text),
        ("length", options.length),
        ("tokenizer", options.tokenizer),
        ("header", options.header),
        ("flip", flip),
        ("test", test),
        ("on_broken", None if options.on_broken == "raise" else options.on_broken),
    ):
        if value is not None:
            raise ArgumentError(
                f"`{name}={value!r}` is for data that are read from files; a dataset object is used as it is: leave it "
                "out, and prepare the examples in the dataset"
            )


def _refuse_text_options(options: ReadOptions, source: str) -> None:
    for name, value in (
        ("text", options.text),
        ("length", options.length),
        ("tokenizer", options.tokenizer),
        ("header", options.header),
    ):
        if value is not None:
            raise ArgumentError(
                f"`{name}={value!r}` is for texts, and {source} holds none that were read: leave it out"
            )
