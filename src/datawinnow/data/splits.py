"""Splits: what the names of files, folders and arrays mean, and which split is used for what; one rule for all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datawinnow.core.errors import DataError

SPLIT_WORD = re.compile(
    r"(?:^|[-._ 0-9/])"
    r"(?:(?P<train>train(?:ing)?(?:set)?)|(?P<validation>validation|valid|dev|val(?:set)?)"
    r"|(?P<test>test(?:ing)?(?:set)?|eval(?:uation)?))"
    r"(?=[-._ 0-9/]|$)",
    re.IGNORECASE,
)
"""A word for a split, between the ends of a name, separators and digits."""
SHARD = re.compile(r"-(\d{5})-of-(\d{5})")
"""Number of a shard and of all of them, as the Hugging Face hub names files."""
SPLITS = ("train", "validation", "test")


def split_of(name: str) -> str:
    """The split that a name means: ``"train"``, ``"validation"`` or ``"test"``; ``""`` for none, or more than one.

    >>> split_of("mydata_Test.parquet"), split_of("dev"), split_of("latest"), split_of("train_test_split")
    ('test', 'validation', '', '')
    """
    words = [str(match.lastgroup) for match in SPLIT_WORD.finditer(name)]
    shard = SHARD.search(name)
    if shard is not None:
        # the word before the number of the shard is the split: test-suite-train-00000-of-00001
        before = [str(match.lastgroup) for match in SPLIT_WORD.finditer(name[: shard.start()])]
        words = before[-1:] or words
    return words[0] if len(set(words)) == 1 else ""


def split_and_rest(name: str) -> tuple[str, str]:
    """The word for a split in a name, and the name without it.

    >>> split_and_rest("x_train"), split_and_rest("val_images"), split_and_rest("weights")
    (('train', 'x'), ('val', 'images'), ('', 'weights'))
    """
    match = SPLIT_WORD.search(name) if split_of(name) else None
    if match is None or match.lastgroup is None:
        return "", name
    start, end = match.span(match.lastgroup)
    return name[
        start:end
    ], f"{name[:start].rstrip('-._ ')}{name[end:].lstrip('-._ ') if not name[:start] else name[end:]}"


def is_split_word(name: str) -> bool:
    """Whether a name is nothing but a word for a split, perhaps with a number: ``Train``, ``val2017``."""
    match = SPLIT_WORD.match(name)
    return match is not None and not name[match.end() :].strip("-._ 0123456789")


def readable_name(name: str) -> str:
    r"""A file's name as text that any file can hold: bytes that are not UTF-8 are written as ``\xe9``."""
    if name.isascii():
        return name
    return os.fsencode(name).decode("utf-8", "backslashreplace")


SPLIT_COLUMNS = ("split", "splits", "subset", "set", "partition", "usage", "is_train", "is_test")
"""Names of columns that say which split a row belongs to, in lower case."""


def split_columns(names: Iterable[Any], *used: Any) -> list[Any]:
    """Columns of a table that are called like one of splits, but for those that are used as examples or labels."""
    return [name for name in names if str(name).strip().casefold() in SPLIT_COLUMNS and name not in used]


def refuse_split_column(values: Mapping[Any, Iterable[Any]], source: str, advice: str) -> None:
    """Refuse a table that says that some of its rows are to train on and the rest are not.

    Args:
        values: different cells of each column that `split_columns` names.
        source: the table, for the error.
        advice: what to do.

    Raises:
        DataError: a column has a word for the train split and another word.
    """
    for column, cells in values.items():
        words = {text: _split_of_cell(str(column), text) for text in sorted({str(v).strip() for v in cells} - {""})}
        if "train" in words.values() and set(words.values()) != {"train"}:
            raise DataError(
                f"column {column!r} of {source} says which split a row belongs to "
                f"({shortened_list([repr(word) for word in words])}), and a table is read as one split, in which rows "
                f"to test on would be trained on: {advice}"
            )


def file_a_split(suffix: str) -> str:
    """Advice for `refuse_split_column`: files that are read as splits."""
    return f"write the rows of each split into a file of its own, train{suffix} and test{suffix}, and give their folder"


def _split_of_cell(column: str, text: str) -> str:
    """The split that a cell means; of a column ``is_train`` or ``is_test``, which holds yes or no."""
    truth = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}.get(text.casefold())
    if column.strip().casefold() in ("is_train", "is_test"):
        return "" if truth is None else ("train" if truth == (column.strip().casefold() == "is_train") else "test")
    return split_of(text)


@dataclass(frozen=True)
class SplitChoice:
    """Which of a dataset's splits are used.

    Attributes:
        train: name of the split to train on.
        test: name of the split to test on; ``""`` to hold one out.
        unused: names of the splits that are not used.
        notes: for the user.
    """

    train: str
    test: str
    unused: tuple[str, ...]
    notes: tuple[str, ...]


def choose_splits(
    names: Iterable[str],
    source: str,
    is_labelled: Callable[[str, str], bool] = lambda *_: True,
    *,
    only: Literal["", "train", "test"] = "",
) -> SplitChoice:
    """Choose the split to train on, and the one to test on: a test split, else a validation split, with labels.

    Args:
        names: of the splits; of several that mean the same, the one called just so is meant.
        source: the dataset, for errors.
        is_labelled: ``is_labelled(train, name)`` says whether a split that means test or validation has labels.
        only: where the train and the test split are of two sources, what this one is read for. The split is then the
            ``train`` of the choice, which has no ``test``: to test, the source's test split, else its only one.

    Raises:
        DataError: no split to train on, or several; with ``only="test"``, several splits but not one to test on.
    """
    names = list(names)
    meanings = {name: split_of(name) for name in names}
    if only == "test" and len(names) > 1:
        return _choose_only_test(meanings, source, is_labelled)
    if only == "test":
        return SplitChoice(names[0], "", (), ())
    trains = [name for name in names if meanings[name] == "train"]
    if len(trains) > 1:
        trains = [name for name in trains if name.casefold() == "train"] or trains
    notes = []
    unnamed = [name for name in names if not meanings[name]]
    if not trains and len(unnamed) == 1:
        trains = unnamed
        if len(names) > 1:
            notes.append(f"{unnamed[0]} is used as the train split")
    if len(trains) != 1:
        listed = f"{source} has the splits {', '.join(names) or 'none'}"
        if trains:
            raise DataError(
                f"{listed}, of which {', '.join(trains)} are to train on; leave one of them, or call it train"
            )
        raise DataError(f"{listed}, but none named train")
    train = trains[0]
    candidates = sorted(
        (name for name in names if meanings[name] in ("test", "validation")),
        # of two that mean the same, the one called just so comes first
        key=lambda name: (meanings[name] != "test", name.casefold() not in SPLITS),
    )
    if only == "train":
        notes += [f"{name} is not used: the test split is of another source" for name in names if name != train]
        return SplitChoice(train, "", tuple(name for name in names if name != train), tuple(notes))
    unlabelled = [name for name in candidates if not is_labelled(train, name)]
    test = next((name for name in candidates if name not in unlabelled), "")
    if test and meanings[test] == "validation":
        notes.append(f"the {test} split is used as the test split")
    for name in names:
        if name in unlabelled:
            notes.append(f"{name} is not used: its labels are missing")
        elif name not in (train, test):
            notes.append(f"{name} is not used: {test or train} is the {'test' if test else 'train'} split")
    unused = tuple(name for name in names if name not in (train, test))
    return SplitChoice(train, test, unused, tuple(notes))


def _choose_only_test(meanings: Mapping[str, str], source: str, is_labelled: Callable[[str, str], bool]) -> SplitChoice:
    """The split of a source with several that is tested on: its test split, whose labels must be known."""
    tests = [name for name, meaning in meanings.items() if meaning == "test"]
    if len(tests) > 1:
        tests = [name for name in tests if name.casefold() == "test"] or tests
    if len(tests) != 1:
        raise DataError(
            f"{source} has the splits {', '.join(meanings)}, {'several' if tests else 'none'} of them to test on: give "
            "the file or folder of the one that is meant"
        )
    test = tests[0]
    trains = [name for name, meaning in meanings.items() if meaning == "train"]
    if trains and not is_labelled(trains[0], test):
        raise DataError(f"{test} of {source} has no labels to test on: give the file or folder of another split")
    unused = tuple(name for name in meanings if name != test)
    return SplitChoice(test, "", unused, tuple(f"{name} of {source} is not used" for name in unused))


def name_of_files(paths: Sequence[Path], meaning: str) -> str:
    """What a split in ``paths`` is called: as its files if they share a name that means it, else by its meaning.

    Args:
        paths: files of the split.
        meaning: of their names, or that of the folder that they are in; ``""`` for none, where the files are listed.
    """
    stems = {SHARD.sub("", path.stem) for path in paths}
    if len(stems) == 1 and meaning == split_of(stem := stems.pop()):
        return readable_name(stem)
    return meaning or shortened_list([readable_name(path.name) for path in paths], 3)


HIDDEN_NAMES = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini")


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that systems and editors leave beside the user's."""
    return name.startswith(".") or name in HIDDEN_NAMES or name.lower() in SYSTEM_FILES


def shortened_list(names: Collection[str], limit: int = 5) -> str:
    """Names separated by commas; of many only the first, and how many more there are.

    >>> shortened_list("abcdefg", 3)
    'a, b, c and 4 more'
    """
    first = list(names)[:limit]
    rest = len(names) - len(first)
    return ", ".join(first) + (f" and {rest:,} more" if rest else "")


def count_by_class(classes: Sequence[str], counts: Sequence[int], limit: int = 10) -> str:
    """Classes with their numbers of examples: all of a few, else the first ones and the range of the counts.

    >>> count_by_class(("cat", "dog"), (10, 4))
    'cat: 10, dog: 4'
    """
    listed = [f"{name}: {count:,}" for name, count in zip(classes, counts, strict=True)]
    if len(listed) <= limit:
        return ", ".join(listed)
    return f"{shortened_list(listed, limit // 2)}, each {min(counts):,} to {max(counts):,}"
