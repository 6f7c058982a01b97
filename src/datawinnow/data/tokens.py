"""Words of a text and their numbers: a small tokenizer, and a vocabulary that is fitted on the train split."""

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
from datawinnow.core.errors import RunError

PADDING, UNKNOWN = 0, 1
"""Ids that are no token of the vocabulary: what fills a row up, and every word that is not in it."""
MOST_TOKENS, LEAST_COUNT = 30_000, 2
"""Of a vocabulary; a word seen once is unknown, so that unknown words are trained too."""
LONGEST = 256
"""Tokens of an example unless told; the rest is cut off."""
WHOLE = 0.99
"""Share of the texts that must fit in uncut: the few longest would make all rows longer."""

_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # written without spaces: a token each
_WORD = rf"[^\W{_ALONE}]"
_TOKEN = re.compile(rf"[{_ALONE}]|{_WORD}+(?:['\u2019]{_WORD}+)*|[^\w\s]")

Ids = NDArray[np.int64]


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
        most: int = MOST_TOKENS,
        least: int = LEAST_COUNT,
    ) -> tuple[Vocabulary, Tensor, int]:
        """A vocabulary of the texts of a train split.

        Args:
            texts: of the examples, (n,).
            length: tokens of an example; unless told what 99 of 100 texts fit in, at most 256.
            most: tokens in the vocabulary, the most frequent ones (of equally frequent ones the first in order).
            least: times that a token must occur.

        Returns:
            The vocabulary, the (n, length) int32 ids of the texts, and how many texts were cut.
        """
        table: dict[str, int] = {}
        flat, sizes = _flat(texts, lambda token: table.setdefault(token, len(table)))
        counts = np.bincount(flat, minlength=len(table))
        names = list(table)
        chosen = sorted((i for i in range(len(names)) if counts[i] >= least), key=lambda i: (-counts[i], names[i]))
        chosen = chosen[:most]
        number = np.full(len(names), UNKNOWN, dtype=np.int64)
        number[chosen] = np.arange(2, len(chosen) + 2)
        made = cls(tuple(names[i] for i in chosen), fitting_length(sizes, length))
        return made, padded(number[flat], sizes, made.length), int((sizes > made.length).sum())

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.tokens, start=2)}

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Texts (n,) as (n, length) int32 ids."""
        numbers = self._numbers
        return padded(*_flat(texts, lambda token: numbers.get(token, UNKNOWN)), self.length)

    def write(self, path: Path, fingerprint: str) -> None:
        """Write it down, beside what is trained with it.

        Raises:
            RunError: the disk is full.
        """
        metadata = {"kind": "vocabulary", "fingerprint": fingerprint, "length": self.length}
        write_json(path, {**metadata, "tokens": list(self.tokens)})

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """The vocabulary in a file that `write` made: for texts that a trained network has not seen.

        Raises:
            RunError: there is none, or damaged.
        """
        metadata = read_json(path)
        tokens, length = metadata.get("tokens"), metadata.get("length")
        good = isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)
        if metadata.get("kind") != "vocabulary" or not good or not isinstance(length, int):
            raise RunError(f"{path} is no vocabulary, or damaged: record again into another --run folder")
        return cls(tuple(map(str, tokens or ())), length)


def fitting_length(sizes: Ids, told: int | None, most: int = LONGEST) -> int:
    """Tokens of an example: as told, but not longer than the longest text; else what `WHOLE` of the texts fit in.

    >>> fitting_length(np.arange(1, 201), None), fitting_length(np.arange(1, 201), 500)
    (198, 200)
    """
    if told is not None:
        return max(1, min(told, int(sizes.max())))
    enough = np.sort(sizes)[int(np.ceil(WHOLE * len(sizes))) - 1]
    return max(1, min(most, int(enough)))


def padded(flat: Ids, sizes: Ids, length: int) -> Tensor:
    """Ids of all texts, one after the other, as rows.

    Args:
        flat: (t,) ids.
        sizes: (n,) how many of them are of each text.
        length: of a row.

    Returns:
        (n, length) int32; 0 behind the end of a text. One without any token is one unknown token.
    """
    rows = np.repeat(np.arange(len(sizes)), sizes)
    places = np.arange(len(flat)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    within = places < length
    out = np.zeros((len(sizes), length), dtype=np.int32)
    out[rows[within], places[within]] = flat[within]
    out[sizes == 0, 0] = UNKNOWN
    return torch.from_numpy(out)


def _flat(texts: Iterable[str], number: Any) -> tuple[Ids, Ids]:
    """Numbers of all tokens in a row, and how many each text has."""
    flat: list[int] = []
    sizes: list[int] = []
    for text in texts:
        before = len(flat)
        flat.extend(map(number, tokenize(text)))
        sizes.append(len(flat) - before)
    return np.asarray(flat, dtype=np.int64), np.asarray(sizes, dtype=np.int64)
