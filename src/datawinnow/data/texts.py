"""Labelled texts: choosing their columns, checking their cells, and encoding both splits as token ids."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.data.arrow import LABEL_NAMES
from datawinnow.data.assemble import (
    ReadOptions,
    check_classes,
    few_broken,
    hold_out,
    limit_note,
    limit_stream,
    shape_of_train,
)
from datawinnow.data.examples import Examples, Origin, stratified
from datawinnow.data.images import SUFFIXES
from datawinnow.data.labels import Classes, LabelColumn, label_splits
from datawinnow.data.padding import text_lengths
from datawinnow.data.separated import NOT_UTF8
from datawinnow.data.tokens import MAX_DEFAULT_LENGTH, Vocabulary, tokenize_splits, tokenize_texts
from datawinnow.text.pretrained import is_pretrained

TEXT_NAMES = ("text", "sentence", "review", "content", "document", "body", "comment", "tweet", "message", "utterance")
TEXT_LABEL_NAMES = (*LABEL_NAMES, "sentiment", "category", "rating", "stars", "intent", "polarity")
PREVIEW_ROWS = 1000
"""Rows at the top of a file from which its columns are guessed."""


def has_header(first: Sequence[str], rest: Sequence[Sequence[str]], columns: Sequence[str | None]) -> bool:
    """Whether the first record of a table names the columns.

    It does if it holds a name in ``columns`` or a usual one that stands in no other record, or a text that is none of
    the labels of the others.

    Args:
        first: cells of the first record.
        rest: cells of other records.
        columns: names or numbers of columns from the user; None where the user gives none.
    """
    cells = [cell.strip().removeprefix("\ufeff") for cell in first]
    rows = [[cell.strip() for cell in row] for row in rest if len(row) == len(cells) and list(row) != list(first)]
    if any(name in cells for name in columns if name is not None and not name.isdecimal()):
        return True
    values = [{row[i] for row in rows} for i in range(len(cells))]
    usual = (*TEXT_NAMES, *TEXT_LABEL_NAMES)
    if any(cell.casefold() in usual and cell not in values[i] for i, cell in enumerate(cells)):
        return True
    # columns without a value are none; spreadsheets leave them
    have = [i for i in range(len(cells)) if cells[i] or values[i] - {""}]
    names = [cells[i] for i in have]
    if len(rows) < 3 or len(set(names)) < len(names) or any(_is_numeric(name) or not name for name in names):
        return False
    by_user = [int(name) for name in columns if name is not None and name.isdecimal() and int(name) < len(cells)]
    if len(have) != 2 and not by_user:
        return False
    label = by_user[-1] if by_user else have[_shorter_column([[row[i] for row in rows] for i in have])]
    # repeated values show that the column holds classes; a first cell that is none of them is a name
    return cells[label] not in values[label] and len(values[label]) < len(rows)


def _is_numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def choose_text_columns(
    columns: Mapping[str, Sequence[Any]], where: str, text: str | None, label: str | None
) -> tuple[str, str]:
    """Names of the columns of texts and labels.

    A column that the user does not name is guessed: by the usual names; else it is the only one that remains; else, of
    two, the one with longer values holds the texts.

    Args:
        columns: name -> the values of a few records.
        where: the file, for errors.
        text: the column of texts; None to guess.
        label: the column of labels; None to guess.

    Raises:
        DataError: no such column, or it cannot be guessed; the error lists the columns of the file.
    """
    have = list(columns)
    texts = text or _usual_name(have, TEXT_NAMES, without=label)
    labels = label or _usual_name(have, TEXT_LABEL_NAMES, without=texts)
    if texts is None and labels is not None:
        rest = [name for name in have if name != labels and _has_strings(columns[name])]
        texts = rest[0] if len(rest) == 1 else None
    elif labels is None and texts is not None:
        rest = [name for name in have if name != texts]
        labels = rest[0] if len(rest) == 1 else None
    elif texts is None and len(have) == 2:
        shorter = _shorter_column([columns[name] for name in have])
        texts, labels = have[1 - shorter], have[shorter]
    for content, column, option in (("texts", texts, "text"), ("labels", labels, "label")):
        if column is None or column not in have:
            missing = f"no column {column!r}" if column else f"no column with a known name for {content}"
            numeric = [name for name in have if name != labels and _are_numbers(columns[name][1:])]  # without the names
            hint = CSV_NUMBERS_HINT if len(numeric) > 1 and len(numeric) >= len(have) - 1 else ""
            raise DataError(
                f"{where} has {missing}; its columns are {', '.join(have) or 'none'}. Name the column of "
                f"{content} with `{option}=`{hint}"
            )
    if texts == labels:
        raise DataError(f"{where}: `text={texts!r}` and `label={labels!r}` name the same column; a text is no class")
    if text is None and _are_image_names(columns[str(texts)]):
        raise DataError(
            f"column {texts!r} of {where} holds names of images, no texts: give the folder of the images with this "
            f"table as metadata.csv in it; or, to read the names themselves, say so with `text={texts!r}`"
        )
    if text is None and _are_numbers(columns[str(texts)]):
        raise DataError(
            f"column {texts!r} of {where} holds numbers, no texts{CSV_NUMBERS_HINT}. To read them as texts, say so "
            f"with `text={texts!r}`"
        )
    assert texts is not None  # both were checked above
    assert labels is not None
    return texts, labels


CSV_NUMBERS_HINT = (
    "; a table of numbers is read in Python, dw.load(pandas.read_csv(file), label=...), or from an .npz file with "
    "arrays x and y"
)
"""What to do with vectors, for errors."""


def _are_numbers(values: Sequence[Any]) -> bool:
    # an empty cell is a missing number
    texts = [text for value in values if value is not None and (text := str(value).strip())]
    return len(texts) > 0 and all(_is_numeric(text) for text in texts)


def _are_image_names(values: Sequence[Any]) -> bool:
    return len(values) > 0 and all(isinstance(v, str) and v.strip().lower().endswith(SUFFIXES) for v in values)


def _usual_name(have: Sequence[str], names: Sequence[str], without: str | None) -> str | None:
    # reversed, so that of two names that differ only in case the first counts
    folded = {name.strip().casefold(): name for name in reversed(have) if name != without}
    return next((folded[name] for name in names if name in folded), None)


def _has_strings(values: Sequence[Any]) -> bool:
    return any(isinstance(value, str) for value in values)


def _shorter_column(columns: Sequence[Sequence[Any]]) -> int:
    """Index of the column with the shorter values."""
    lengths = [fmean(len(str(value)) for value in column) if len(column) else 0.0 for column in columns]
    return int(np.argmin(lengths))


def text_of(value: Any) -> tuple[str, str]:
    """The text in a cell, and its fault; ``""`` for none."""
    if value is None:
        return "", "its text is missing"
    if not isinstance(value, str):
        return "", f"its text is {value!r:.40}, which is no text"
    return (value, "") if value.strip() else ("", "its text is empty")


def usual_width(rows: Sequence[Sequence[str]]) -> int:
    """Number of cells that most records of a table have."""
    return Counter(len(row) for row in rows).most_common(1)[0][0]


@dataclass(frozen=True, eq=False, repr=False)
class Texts(Examples):
    """A dataset of texts in memory; also a map-style dataset of ``(x, y)``.

    As `Examples`, but for these:

    Attributes:
        x: (n, length) int32 token ids; 0 is padding after the end of a text, which no reference network reads.
        texts: (n,) the texts themselves.
        vocabulary: fitted on the train split; the fingerprint covers it and the texts, also with a ``tokenizer``.
        tokenizer: ``"hf:PATH"`` if the ids are those of a transformers model, plus 1 since 0 is padding; ``""`` if they
            are of ``vocabulary``.
        vocabulary_size: upper bound of the ids: the number of rows of a network's embedding.

    Raises:
        DataError: shapes, dtypes or labels that do not fit together.
    """

    texts: Sequence[str] = ()
    vocabulary: Vocabulary | None = None
    tokenizer: str = ""
    vocabulary_size: int = 0

    def check_x(self) -> None:
        """Refuse an x that is not token ids, a row for each text.

        Raises:
            DataError: naming its dtype, shape or range.
        """
        if self.x.dtype != torch.int32 or self.x.ndim != 2:
            raise DataError(
                f"{self.name}: x must be int32 token ids of shape (n, length), got {self.x.dtype} of shape "
                f"{tuple(self.x.shape)}"
            )
        if len(self.texts) != len(self.x):
            raise DataError(f"{self.name}: {len(self.texts)} texts for {len(self.x)} rows of token ids")
        if len(self.x) and (int(self.x.min()) < 0 or int(self.x.max()) >= self.vocabulary_size):
            raise DataError(
                f"{self.name}: token ids from {int(self.x.min())} to {int(self.x.max())}, but vocabulary_size="
                f"{self.vocabulary_size}: they must be 0 (padding) and above, and below it"
            )

    @cached_property
    def text_lengths(self) -> Tensor:
        """(n,) int64 number of tokens of each text, without padding."""
        return text_lengths(self.x)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of a hash over labels, texts and the vocabulary.

        Not over the ids: examples chosen with one tokenizer are the same examples under another.
        """
        digest = hashlib.sha256(f"texts {self.n}".encode())
        digest.update(self.labels.numpy().tobytes())
        vocabulary = self.vocabulary or Vocabulary((), self.x.shape[1])
        for text in (*self.texts, *vocabulary.tokens):
            # surrogates stand for bytes that were not UTF-8
            encoded = text.encode("utf-8", "surrogatepass")
            # the length first: "ab", "c" and "a", "bc" are different texts
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
        digest.update(f"length {vocabulary.length}".encode())
        return digest.hexdigest()[:16]

    def subset(self, index: Tensor, *, name: str | None = None) -> Texts:
        """The examples at ``index`` (m,) as a dataset of its own, with this one's vocabulary."""
        return replace(
            self,
            x=self.x[index],
            labels=self.labels[index],
            texts=[self.texts[int(i)] for i in index],
            ids=[self.id_of(int(i)) for i in index],
            origin=(self.origin or Origin("arrays", "", num_rows=self.n)).take(index),
            name=name or self.name,
        )


@dataclass(frozen=True)
class RawTexts:
    """A split as it was read.

    Attributes:
        texts: of the examples.
        labels: of the examples.
        origin: where they came from, with their rows.
        ids: their names.
        names: of the classes; None where the file has no list of them.
    """

    texts: list[str]
    labels: LabelColumn
    origin: Origin
    ids: list[str]
    names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _LabelledTexts:
    texts: Sequence[str]
    labels: Tensor
    origin: Origin
    ids: Sequence[str]

    def take(self, index: Tensor) -> _LabelledTexts:
        places = index.tolist()
        texts, ids = [self.texts[i] for i in places], [self.ids[i] for i in places]
        return _LabelledTexts(texts, self.labels[index], self.origin.take(index), ids)


def broken_note(broken: Sequence[tuple[str, str]], num_good: int, split: str, options: ReadOptions) -> tuple[str, ...]:
    """A note about broken lines, which ``on_broken="skip"`` leaves out where they are few.

    Args:
        broken: place and fault of each.
        num_good: number of examples that are not broken.
        split: name of the split.
        options: of `load`.

    Raises:
        DataError: there are broken lines and ``on_broken`` is ``"raise"``, or they are too many to leave out.
    """
    if not broken:
        return ()
    count, total = len(broken), len(broken) + num_good
    (place, fault), has_few = broken[0], few_broken(count, total)
    if options.on_broken == "skip" and has_few:
        return (f"{count:,} broken {split} lines are left out, the first {place}: {fault} ({total:,} lines in all)",)
    in_all = f" ({count:,} are broken in all, {f'of {total:,}' if num_good else 'every one'})" if count > 1 else ""
    remedy = "mend such lines"
    if has_few:
        remedy += ", or leave them out with `on_broken='skip'`"
    else:
        remedy += f"; too many are broken to leave them out{_kinds_of_faults(broken)}"
    raise DataError(f"{place}: {fault}{in_all}; {remedy}")


def _kinds_of_faults(broken: Sequence[tuple[str, str]]) -> str:
    """What is wrong with how many, where there are several faults, and what a frequent one means."""
    counts = Counter(fault for _, fault in broken)
    kinds = "; ".join(f"{fault}: {count:,}, first {_place_of(broken, fault)}" for fault, count in counts.most_common(3))
    text = f" ({kinds})" if len(counts) > 1 else ""
    if NOT_UTF8 in counts:
        text += (
            ". A file that is not UTF-8 is often Windows-1252: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW converts it"
        )
    return text


def _place_of(broken: Sequence[tuple[str, str]], fault: str) -> str:
    return next(place for place, other in broken if other == fault)


def check_text_options(options: ReadOptions) -> None:
    """Refuse options for images, and a tokenizer that is not one of a transformers model.

    Raises:
        ArgumentError: naming the option.
    """
    for name, value in (("size", options.size), ("image", options.image)):
        if value is not None:
            hint = "`length=` is the tokens of an example" if name == "size" else "`text=` names their column"
            raise ArgumentError(f"`{name}={value!r}` is for images, but these are texts; {hint}")
    if options.tokenizer is not None and not is_pretrained(options.tokenizer):
        raise ArgumentError(
            f"tokenizer must be hf:PATH, that of a transformers model, or left out, got {options.tokenizer!r}"
        )


def assemble_texts(
    train: RawTexts, test: RawTexts | None, name: str, options: ReadOptions, notes: tuple[str, ...]
) -> tuple[Texts, Texts]:
    """Both splits with class ids and token ids.

    Without a test split one is held out; then the limit is applied. The vocabulary is fitted on the examples that are
    trained on: not on the test split, nor on examples that the limit leaves out.

    Args:
        train: examples to train on.
        test: examples to test on; None to hold out a fraction of ``train``.
        name: of the dataset.
        options: of `load`.
        notes: for the user, so far.

    Raises:
        DataError: only one class, or labels that fit no class.
    """
    first, second, classes, label_notes = _label_texts(train, test, options.kept_classes)
    notes += (*label_notes, *classes.notes)
    if options.train is not None:
        test_texts = _encoded_like(options.train, first, classes.names, name, options, notes)
        return test_texts, test_texts
    notes += check_classes(first.labels, classes.names, name)
    if second is None and not options.only:
        train_index, test_index, note = hold_out(first.labels, options.holdout, options.seed)
        first, second, notes = first.take(train_index), first.take(test_index), (*notes, note)
    if options.limit is not None and options.limit < len(first.labels):
        chosen = stratified(first.labels, options.limit, limit_stream(options.seed))
        notes += (limit_note(len(chosen), len(first.labels)),)
        first = first.take(chosen)
    test_words = () if second is None else second.texts
    # fitted with a tokenizer too: the fingerprint covers it, so that it is the same under both
    vocabulary, x, num_cut = Vocabulary.fit(first.texts, length=options.length)
    if options.tokenizer is None:
        train_ids, test_ids, size = x, vocabulary.encode(test_words), len(vocabulary)
    else:
        (train_ids, test_ids), size, num_cut = tokenize_splits(
            options.tokenizer, first.texts, test_words, options.length, options.progress
        )
    length = train_ids.shape[1]
    if num_cut:
        hint = f" (`length=`; by default at most {MAX_DEFAULT_LENGTH})" if options.length is None else ""
        notes += (f"{num_cut:,} training texts are longer than {length} tokens and are cut{hint}",)

    def dataset(ids: Tensor, texts: _LabelledTexts, split: str) -> Texts:
        return Texts(
            ids,
            texts.labels,
            classes.names,
            name,
            split,
            texts.ids,
            origin=texts.origin,
            notes=notes,
            texts=texts.texts,
            vocabulary=vocabulary,
            tokenizer=options.tokenizer or "",
            vocabulary_size=size,
        )

    loaded = dataset(train_ids, first, "train")
    return loaded, (loaded if second is None else dataset(test_ids, second, "test"))


def _encoded_like(
    train: Any,
    texts: _LabelledTexts,
    classes: tuple[str, ...],
    name: str,
    options: ReadOptions,
    notes: tuple[str, ...],
) -> Texts:
    """A test split from another source, in the token ids of the train split.

    Raises:
        DataError: the train split holds no texts.
    """
    length = shape_of_train(train, "texts", name)[0]
    if train.tokenizer:
        ids = tokenize_texts(train.tokenizer, texts.texts, length, options.progress)
    else:
        ids = train.vocabulary.encode(texts.texts)
    return Texts(
        ids,
        texts.labels,
        classes,
        name,
        "test",
        texts.ids,
        origin=texts.origin,
        notes=notes,
        texts=texts.texts,
        vocabulary=train.vocabulary,
        tokenizer=train.tokenizer,
        vocabulary_size=train.vocabulary_size,
    )


def _label_texts(
    train: RawTexts, test: RawTexts | None, kept: Sequence[str]
) -> tuple[_LabelledTexts, _LabelledTexts | None, Classes, tuple[str, ...]]:
    classes, labels, test_labels, notes = label_splits(
        train.labels, None if test is None else test.labels, train.names, kept
    )
    train_texts = _LabelledTexts(train.texts, labels, train.origin, train.ids)
    if test is None or test_labels is None:
        return train_texts, None, classes, notes
    return train_texts, _LabelledTexts(test.texts, test_labels, test.origin, test.ids), classes, notes


def row_tensor(rows: Sequence[int]) -> Tensor:
    """(n,) int64 rows of an `Origin`."""
    return torch.tensor(list(rows), dtype=torch.int64)
