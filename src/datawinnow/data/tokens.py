"""Tokens of texts and their ids: a vocabulary fitted on the train split, or the tokenizer of a transformers model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datawinnow.core.artifacts import read_json, write_json
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.progress import Progress
from datawinnow.text.pretrained import load_pretrained, load_tokenizer, max_tokens_of

PADDING, UNKNOWN = 0, 1
"""TokenIds that are not in the vocabulary: padding, and that of every word outside it."""
MAX_TOKENS, MIN_COUNT = 30_000, 2
"""Of a vocabulary; a word seen once is unknown, so that unknown words are trained too."""
MAX_DEFAULT_LENGTH = 256
"""Tokens of an example at most, if its length is not set; the rest is cut off."""
UNCUT_FRACTION = 0.99
"""Fraction of the texts that must fit uncut: the few longest would make all rows longer."""

_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # written without spaces: a token each
_WORD = rf"[^\W{_ALONE}]"
_TOKEN = re.compile(rf"[{_ALONE}]|{_WORD}+(?:['\u2019]{_WORD}+)*|[^\w\s]")

TokenIds = NDArray[np.int64]


def tokenize(text: str) -> list[str]:
    """Lower-cased words, and each mark of punctuation by itself.

    Unicode is brought to one form first (NFKC). A letter of Chinese or Japanese is a token; scripts of other languages
    that leave no spaces are not divided.

    >>> tokenize("It's GOOD, isn't it?")
    ["it's", 'good', ',', "isn't", 'it', '?']
    """
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).lower())


@dataclass(frozen=True)
class Vocabulary:
    """Which tokens have a number, and how long an example is.

    Attributes:
        tokens: the token with id 2, 3, ...; id 0 is padding and 1 any other token.
        length: tokens of an example; longer ones are cut, shorter ones padded.
    """

    tokens: tuple[str, ...]
    length: int

    def __len__(self) -> int:
        return len(self.tokens) + 2

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        *,
        length: int | None = None,
        max_tokens: int = MAX_TOKENS,
        min_count: int = MIN_COUNT,
    ) -> tuple[Vocabulary, Tensor, int]:
        """A vocabulary of the texts of a train split.

        Args:
            texts: of the examples, (n,).
            length: tokens of an example; by default the number that 99 of 100 texts fit in, at most 256.
            max_tokens: size of the vocabulary: the most frequent tokens, equally frequent ones in sorted order.
            min_count: occurrences that a token must have.

        Returns:
            The vocabulary, the (n, length) int32 ids of the texts, and how many texts were cut.
        """
        table: dict[str, int] = {}
        # numbered by first appearance in one pass; renumbered by frequency below
        flat, sizes = _flat_ids(texts, lambda token: table.setdefault(token, len(table)))
        counts = np.bincount(flat, minlength=len(table))
        names = list(table)
        chosen = sorted((i for i in range(len(names)) if counts[i] >= min_count), key=lambda i: (-counts[i], names[i]))
        chosen = chosen[:max_tokens]
        # provisional number -> id; tokens that are not chosen become unknown
        number = np.full(len(names), UNKNOWN, dtype=np.int64)
        number[chosen] = np.arange(2, len(chosen) + 2)
        vocabulary = cls(tuple(names[i] for i in chosen), fitting_length(sizes, length))
        ids = padded(number[flat], sizes, vocabulary.length)
        return vocabulary, ids, int((sizes > vocabulary.length).sum())

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.tokens, start=2)}

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Texts (n,) as (n, length) int32 ids."""
        numbers = self._numbers
        return padded(*_flat_ids(texts, lambda token: numbers.get(token, UNKNOWN)), self.length)

    def write(self, path: Path, fingerprint: str) -> None:
        """Write it as JSON, beside the network that is trained with it.

        Raises:
            RunError: the disk is full.
        """
        metadata = {"kind": "vocabulary", "fingerprint": fingerprint, "length": self.length}
        write_json(path, {**metadata, "tokens": list(self.tokens)})

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """Read a file that `write` wrote: for texts that a trained network has not seen.

        Raises:
            RunError: no such file, or damaged.
        """
        remedy = "record again into another `run=` folder"
        metadata = read_json(path, kind="vocabulary", required=("tokens", "length"), remedy=remedy)
        tokens, length = metadata["tokens"], metadata["length"]
        if not isinstance(length, int) or not isinstance(tokens, list) or not all(isinstance(t, str) for t in tokens):
            raise RunError(f"{path} is damaged (tokens must be texts, and length an integer); {remedy}")
        return cls(tuple(tokens), length)


def fitting_length(sizes: TokenIds, length: int | None, max_length: int = MAX_DEFAULT_LENGTH) -> int:
    """Tokens of an example: ``length``, but at most those of the longest text; by default as `UNCUT_FRACTION` requires.

    >>> fitting_length(np.arange(1, 201), None), fitting_length(np.arange(1, 201), 500)
    (198, 200)
    """
    if length is not None:
        return max(1, min(length, int(sizes.max())))
    # the smallest length that UNCUT_FRACTION of the texts fit in
    needed = np.sort(sizes)[int(np.ceil(UNCUT_FRACTION * len(sizes))) - 1]
    return max(1, min(max_length, int(needed)))


def padded(flat: TokenIds, sizes: TokenIds, length: int) -> Tensor:
    """TokenIds of all texts, one after the other, as rows.

    Args:
        flat: (t,) ids.
        sizes: (n,) how many of them are of each text.
        length: of a row.

    Returns:
        (n, length) int32; 0 behind the end of a text. One without any token is one unknown token.
    """
    rows = np.repeat(np.arange(len(sizes)), sizes)
    # position within its text: the position in `flat` less the start of the text
    places = np.arange(len(flat)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    within = places < length
    out = np.zeros((len(sizes), length), dtype=np.int32)
    out[rows[within], places[within]] = flat[within]
    # a row of padding alone has nothing for a network to average
    out[sizes == 0, 0] = UNKNOWN
    return torch.from_numpy(out)


def _flat_ids(texts: Iterable[str], number: Any) -> tuple[TokenIds, TokenIds]:
    """Numbers of all tokens in a row, and how many each text has."""
    flat: list[int] = []
    sizes: list[int] = []
    for text in texts:
        before = len(flat)
        flat.extend(map(number, tokenize(text)))
        sizes.append(len(flat) - before)
    return np.asarray(flat, dtype=np.int64), np.asarray(sizes, dtype=np.int64)


TEXTS_PER_CALL = 1000


def tokenize_splits(
    name: str, train: Sequence[str], test: Sequence[str], length: int | None, progress: Progress | None = None
) -> tuple[tuple[Tensor, Tensor], int, int]:
    """Both splits as ids that are 1 higher than the tokenizer's, so that 0 is always padding.

    Args:
        name: ``hf:PATH``.
        train: texts.
        test: texts.
        length: tokens of an example, the marks that the tokenizer adds included; by default the number that 99 of 100
            training texts fit in, at most 256.
        progress: called as ``progress("tokenising", done, n)``.

    Returns:
        (n, length) int32 of each split; the size of the vocabulary, which every id is below; the number of training
        texts that were cut.

    Raises:
        ArgumentError: transformers is not installed, there is no such tokenizer, or ``length`` is more tokens than the
            model takes.
    """
    tokenizer = load_tokenizer(name, f"the tokenizer {name}")
    try:
        config = load_pretrained("AutoConfig", name, name)
    except ArgumentError:  # a tokenizer without a model
        config = None
    limit = max_tokens_of(tokenizer, config)
    if length is not None and length > limit:
        raise ArgumentError(f"`length={length}` is more than the {limit} tokens that {name} takes")
    ids = _pretrained_ids(tokenizer, train, None, progress)
    sizes = np.asarray([len(row) for row in ids], dtype=np.int64)
    cut_length = min(limit, fitting_length(sizes, length, min(limit, MAX_DEFAULT_LENGTH)))
    # long texts are tokenised again, not sliced: a mark at the end of a text stays at its end
    long = [i for i, row in enumerate(ids) if len(row) > cut_length]
    for i, row in zip(long, _pretrained_ids(tokenizer, [train[i] for i in long], cut_length, None), strict=True):
        ids[i] = row
    test_ids = _pretrained_ids(tokenizer, test, cut_length, progress)
    # ids go up by 1 for padding, and the size is one above the largest; added tokens may exceed len(tokenizer)
    size = 2 + max(len(tokenizer), max((max(row, default=0) for row in (*ids, *test_ids)), default=0))
    return (
        (_pad_pretrained(ids, cut_length), _pad_pretrained(test_ids, cut_length)),
        size,
        int((sizes > cut_length).sum()),
    )


def tokenize_texts(name: str, texts: Sequence[str], length: int, progress: Progress | None = None) -> Tensor:
    """Texts as the (n, length) int32 ids of `tokenize_splits`, longer ones cut.

    Raises:
        ArgumentError: transformers is not installed, or there is no such tokenizer.
    """
    tokenizer = load_tokenizer(name, f"the tokenizer {name}")
    return _pad_pretrained(_pretrained_ids(tokenizer, texts, length, progress), length)


def _pretrained_ids(
    tokenizer: Any, texts: Sequence[str], length: int | None, progress: Progress | None
) -> list[list[int]]:
    ids: list[list[int]] = []
    for first in range(0, len(texts), TEXTS_PER_CALL):
        batch = list(texts[first : first + TEXTS_PER_CALL])
        # not verbose: it would warn of texts longer than the model takes, which are cut later
        ids += tokenizer(batch, truncation=length is not None, max_length=length, verbose=False)["input_ids"]
        if progress is not None:
            progress("tokenising", len(ids), len(texts))
    return ids


def _pad_pretrained(rows: list[list[int]], length: int) -> Tensor:
    flat = np.asarray([token + 1 for row in rows for token in row], dtype=np.int64)
    return padded(flat, np.asarray([len(row) for row in rows], dtype=np.int64), length)
