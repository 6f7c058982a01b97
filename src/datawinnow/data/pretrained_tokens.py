"""Token ids of two splits by the tokenizer of a transformers model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from datawinnow.core.errors import ArgumentError
from datawinnow.core.progress import Progress
from datawinnow.data.tokens import LONGEST, fitting_length, padded
from datawinnow.text.pretrained import load_pretrained, load_tokenizer, max_tokens_of

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
        raise ArgumentError(f"length={length} is more than the {limit} tokens that {name} takes")
    ids = _tokenize(tokenizer, train, None, progress)
    sizes = np.asarray([len(row) for row in ids], dtype=np.int64)
    cut_length = min(limit, fitting_length(sizes, length, min(limit, LONGEST)))
    # long texts are tokenised again, not sliced: a mark at the end of a text stays at its end
    long = [i for i, row in enumerate(ids) if len(row) > cut_length]
    for i, row in zip(long, _tokenize(tokenizer, [train[i] for i in long], cut_length, None), strict=True):
        ids[i] = row
    test_ids = _tokenize(tokenizer, test, cut_length, progress)
    size = 2 + max(len(tokenizer), max((max(row, default=0) for row in (*ids, *test_ids)), default=0))
    return (_pad(ids, cut_length), _pad(test_ids, cut_length)), size, int((sizes > cut_length).sum())


def _tokenize(tokenizer: Any, texts: Sequence[str], length: int | None, progress: Progress | None) -> list[list[int]]:
    ids: list[list[int]] = []
    for first in range(0, len(texts), TEXTS_PER_CALL):
        batch = list(texts[first : first + TEXTS_PER_CALL])
        ids += tokenizer(batch, truncation=length is not None, max_length=length, verbose=False)["input_ids"]
        if progress is not None:
            progress("tokenising", len(ids), len(texts))
    return ids


def _pad(rows: list[list[int]], length: int) -> Tensor:
    flat = np.asarray([token + 1 for row in rows for token in row], dtype=np.int64)
    return padded(flat, np.asarray([len(row) for row in rows], dtype=np.int64), length)
