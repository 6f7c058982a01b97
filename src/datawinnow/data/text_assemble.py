"""From texts and labels as they stand in files to two splits of token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.data.assemble import Options, check_classes, held_out, limit_note, limit_stream
from datawinnow.data.examples import Origin, stratified
from datawinnow.data.labels import class_values, named, numbered, renumbering_note
from datawinnow.data.texts import Texts
from datawinnow.data.tokens import LONGEST, Vocabulary
from datawinnow.text.pretrained import is_pretrained


@dataclass(frozen=True)
class RawTexts:
    """A split as it was read.

    Attributes:
        texts: of the examples.
        values: (n,) labels as integers, or as texts.
        where: the place of an example in words, for errors.
        origin: where they came from; its ``rows`` are told.
        ids: their names.
        names: of the classes, where the file has a list of them.
    """

    texts: list[str]
    values: NDArray[np.int64] | list[str]
    where: Callable[[int], str]
    origin: Origin
    ids: list[str]
    names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Split:
    texts: Sequence[str]
    labels: Tensor
    origin: Origin
    ids: Sequence[str]

    def take(self, index: Tensor) -> _Split:
        places = index.tolist()
        rows = index if self.origin.rows is None else self.origin.rows[index]
        origin = replace(self.origin, rows=rows)
        return _Split([self.texts[i] for i in places], self.labels[index], origin, [self.ids[i] for i in places])


def without_broken(broken: Sequence[tuple[str, str]], good: int, which: str, options: Options) -> tuple[str, ...]:
    """A note about examples that were left out, if the user wants that.

    Args:
        broken: place and fault of each.
        good: how many are not broken.
        which: split.
        options: the user's.

    Raises:
        DataError: there are some and they are not to be left out, or there is no other.
    """
    if not broken:
        return ()
    (place, fault), count = broken[0], len(broken)
    if options.on_broken == "raise" or not good:
        others = f" ({count:,} are broken in all{'' if good else ', every one'})" if count > 1 else ""
        raise DataError(
            f"{place}: {fault}{others}; mend such lines, or leave them out with on_broken='skip' (--skip-broken)"
        )
    return (f"{count:,} broken {which} lines are left out, the first {place}: {fault}",)


def check_text_options(options: Options) -> None:
    """Refuse options that are for images, and a tokenizer that is none.

    Raises:
        ArgumentError: naming it.
    """
    for name, value in (("size", options.size), ("image", options.image)):
        if value is not None:
            hint = "length= (--length) is the tokens of an example" if name == "size" else "text= names their column"
            raise ArgumentError(f"{name}={value!r} is for images, but these are texts; {hint}")
    if options.tokenizer is not None and not is_pretrained(options.tokenizer):
        raise ArgumentError(
            f"tokenizer must be hf:PATH, that of a transformers model, or left out, got {options.tokenizer!r}"
        )


def assemble_texts(
    train: RawTexts, test: RawTexts | None, name: str, options: Options, notes: tuple[str, ...]
) -> tuple[Texts, Texts]:
    """Class ids, a held-out split where there is no test split, the limit, and then token ids.

    The vocabulary is of the examples that are trained on: not of the test split, nor of what the limit leaves out.

    Args:
        train: what to train on.
        test: what to test on; None to hold out a part of ``train``.
        name: of the dataset.
        options: the user's.
        notes: what was chosen so far.

    Raises:
        DataError: only one class, or labels that fit no class.
    """
    first, second, classes, more = _labelled(train, test)
    notes += (*more, *check_classes(first.labels, classes, name))
    if second is None:
        kept, out, note = held_out(first.labels, options.holdout, options.seed)
        first, second, notes = first.take(kept), first.take(out), (*notes, note)
    if options.limit is not None and options.limit < len(first.labels):
        chosen = stratified(first.labels, options.limit, limit_stream(options.seed))
        notes += (limit_note(len(chosen), len(first.labels)),)
        first = first.take(chosen)
    vocabulary, x, cut = Vocabulary.fit(first.texts, length=options.length)
    if options.tokenizer is None:
        ids, size, whose = (x, vocabulary.encode(second.texts)), len(vocabulary), ""
    else:
        from datawinnow.data.pretrained_tokens import tokenize_splits

        whose = options.tokenizer
        ids, size, cut = tokenize_splits(whose, first.texts, second.texts, options.length, options.progress)
    length = ids[0].shape[1]
    if cut:
        longer = f" (length=, --length, up to {LONGEST} unless told)" if options.length is None else ""
        notes += (f"{cut:,} training texts are longer than {length} tokens and are cut{longer}",)
    made = [
        Texts(
            x, split.labels, classes, name, which, split.ids, origin=split.origin, notes=notes, texts=split.texts,
            vocabulary=vocabulary, tokenizer=whose, vocabulary_size=size,
        )
        for x, split, which in zip(ids, (first, second), ("train", "test"), strict=True)
    ]  # fmt: skip
    return made[0], made[1]


def _labelled(train: RawTexts, test: RawTexts | None) -> tuple[_Split, _Split | None, tuple[str, ...], tuple[str, ...]]:
    """Both splits with class ids, the names of the classes, and what was decided about them."""
    values: list[int] | list[str] = []
    notes: tuple[str, ...] = ()
    if train.names is not None and not isinstance(train.values, list):
        names, labels = train.names, named(train.values, train.names, train.where)
    else:
        values = class_values(train.values, train.where)
        names, labels = tuple(map(str, values)), numbered(train.values, values, train.where)
        notes = renumbering_note(values)
    first = _Split(train.texts, labels, train.origin, train.ids)
    if test is None:
        return first, None, names, notes
    if values or isinstance(test.values, list):
        known = values or list(names)
        texts = isinstance(known[0], str)
        given = [str(v) for v in test.values] if texts and not isinstance(test.values, list) else test.values
        labels = numbered(given, known, test.where)
    else:
        labels = named(test.values, names, test.where)
    return first, _Split(test.texts, labels, test.origin, test.ids), names, notes


def rows_of(rows: Sequence[int]) -> Tensor:
    """(n,) int64 rows for an origin."""
    return torch.tensor(list(rows), dtype=torch.int64)
