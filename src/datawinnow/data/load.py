"""``load()``: a dataset from whatever the user has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.progress import Progress
from datawinnow.data.assemble import Loaded, Options
from datawinnow.data.digits import load_digits
from datawinnow.data.folder import load_folder
from datawinnow.data.hub import load_hub
from datawinnow.data.images import OnBroken
from datawinnow.data.npz import load_npz
from datawinnow.data.parquet import find_parquet, load_parquet
from datawinnow.data.records import SUFFIXES
from datawinnow.data.text_files import find_texts, load_text_files
from datawinnow.data.texts import Texts

MIRRORED = (
    "in training, images are mirrored left to right half of the time; where a mirrored image means another thing "
    "(text, digits, left and right), switch that off with flip=False (--no-flip)"
)
WHAT_DATA_CAN_BE = (
    "DATA can be: digits (embedded); a folder of images by class (FOLDER/train/<class>/*.png beside FOLDER/test, or "
    "FOLDER/<class>/*.png); a .parquet file or a folder of train-*.parquet and test-*.parquet; an .npz file; labelled "
    "texts in a .csv, .tsv or .jsonl file, or a folder of train.tsv and test.tsv; or hf:owner/name from the Hugging "
    "Face hub"
)


def load(
    source: str | Path,
    *,
    size: int | None = None,
    seed: int = 0,
    holdout: float = 0.2,
    image: str | None = None,
    label: str | None = None,
    on_broken: OnBroken = "raise",
    memory: int | None = None,
    limit: int | None = None,
    flip: bool | None = None,
    progress: Progress | None = None,
    text: str | None = None,
    length: int | None = None,
    tokenizer: str | None = None,
) -> tuple[Loaded, Loaded]:
    """Read a dataset as a train and a test split.

    What is chosen on the user's behalf (size, a held-out test split, an axis of channels) is told in ``train.notes``.

    Images that took a while to decode are kept in ``~/.cache/datawinnow`` (``DATAWINNOW_CACHE``; empty for no cache),
    up to 10 GB (``DATAWINNOW_CACHE_GB``); beyond that, those not used for longest are removed.

    Args:
        source: ``"digits"``; a folder of images by class; a Parquet file or a folder of shards in the layout of the
            Hugging Face hub; an ``.npz`` file; labelled texts in a ``.csv``, ``.tsv`` or ``.jsonl`` file or in a folder
            with one for each split (``train.tsv``, ``test.tsv``); or ``"hf:owner/name"``.
        size: side in pixels that images are resized to; None keeps images of one size up to 64 pixels, and chooses
            otherwise.
        seed: of every draw made here: the held-out split, the limit.
        holdout: fraction of each class that becomes the test split when the source has none, in (0, 1).
        image: name of the column or array of images; None guesses.
        label: name of the column or array of labels; None guesses.
        on_broken: ``"raise"`` names the first broken image or line; ``"skip"`` leaves such out and tells how many.
        memory: bytes that decoded images may take, else they are decoded on demand; None for half of what is free.
        limit: number of training examples, drawn with every class's share kept; None, or more than there are, for all.
        flip: whether training mirrors images left to right half of the time; None for colour images only, which is
            told. Not for images that mean another thing mirrored: text, digits, left and right.
        progress: called now and then as ``progress(description, done, total)``.
        text: name of the column of texts (its number, from 0, in a file without a line of names); None guesses.
        length: tokens of a text's row: longer ones are cut, shorter ones padded. None for what 99 of 100 training texts
            fit in, at most 256.
        tokenizer: ``"hf:PATH"`` for token ids of a transformers model, which training that model needs; None for the
            words of the training texts.

    Returns:
        ``(train, test)``, each `Examples` in memory, `Texts`, or `LazyExamples` decoded on demand. Images are uint8
        of shape (channels, height, width), texts int32 token ids of shape (length,), labels int64 class ids.

    Raises:
        ArgumentError: an option outside its range.
        DataError: nothing there, or not what it must be; the error names the file, row or column and what to do.

    >>> train, test = load("digits")
    >>> len(train), len(test), train.shape
    (1438, 359, (1, 8, 8))
    """
    options = Options(
        size, seed, holdout, image, label, on_broken, memory, limit, progress, text, length, tokenizer
    ).checked()
    if flip not in (None, True, False):
        raise ArgumentError(f"flip must be True, False or None, got {flip!r}")
    if (name := str(source)).startswith("hf:"):
        found = load_hub(name, options)
    elif name == "digits":
        _no_columns(options, name)
        found = load_digits(options)
    else:
        found = _load_path(Path(source).expanduser(), name, options)
    if not isinstance(found[0], Texts):
        _no_texts(options, name)
    return _mirrored(*found, flip)


def _mirrored(train: Loaded, test: Loaded, flip: bool | None) -> tuple[Loaded, Loaded]:
    """Both splits, mirrored in training as told, and a note where they are."""
    if train.augment is None:
        if flip:
            raise ArgumentError(f"flip=True, but {train.name} holds no images that could be mirrored: leave it out")
        return train, test
    if flip is not None:
        augment = replace(train.augment, flip=flip)
        train, test = replace(train, augment=augment), replace(test, augment=augment)
    if train.augment is not None and train.augment.flip:
        train = replace(train, notes=(*train.notes, MIRRORED))
    return train, test


def _load_path(path: Path, text: str, options: Options) -> tuple[Loaded, Loaded]:
    if path.is_dir():
        path = path.resolve()
        try:
            parquet = find_parquet(path)
        except PermissionError:
            raise DataError(f"the folder {path} may not be read; change its permissions") from None
        if parquet:
            return load_parquet(path, parquet, options)
        if (path / "train.npz").is_file():
            test = path / "test.npz"
            return load_npz(path / "train.npz", options, test if test.is_file() else None)
        texts = find_texts(path)
        if texts:
            return load_text_files(path, texts, options)
        _no_columns(options, text)
        return load_folder(path, options)
    if not path.exists():
        hub = f" For a dataset of the hub, write hf:{text}." if text.count("/") == 1 and "." not in text else ""
        raise DataError(f"no such file or folder: {text}.{hub} {WHAT_DATA_CAN_BE}")
    if path.suffix.lower() == ".parquet":
        return load_parquet(path, {"": [path.resolve()]}, options)
    if path.suffix.lower() == ".npz":
        return load_npz(path.resolve(), options)
    if path.suffix.lower() in SUFFIXES:
        return load_text_files(path.resolve(), {"": [path.resolve()]}, options)
    raise DataError(f"cannot read {text}: not a kind of data that is known. {WHAT_DATA_CAN_BE}")


def _no_columns(options: Options, text: str) -> None:
    for name, value in (("image", options.image), ("label", options.label), ("text", options.text)):
        if value is not None:
            raise ArgumentError(
                f"{name}={value!r} names a column, but {text} has none; it is for Parquet, .npz, hf: and files of texts"
            )


def _no_texts(options: Options, source: str) -> None:
    for name, value in (("text", options.text), ("length", options.length), ("tokenizer", options.tokenizer)):
        if value is not None:
            raise ArgumentError(f"{name}={value!r} is for texts, and {source} holds none that were read: leave it out")
