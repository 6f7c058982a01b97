"""Token ids by the tokenizer of a transformers model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from datawinnow.core.errors import ArgumentError
from datawinnow.core.pretrained import located, transformers_for
from datawinnow.core.progress import Progress
from datawinnow.data.tokens import LONGEST, fitting_length, padded

AT_ONCE = 1000
"""Texts that are tokenised in a call."""


def tokenizer_of(name: str) -> Any:
    """The tokenizer of ``hf:PATH``.

    Raises:
        ArgumentError: transformers is not installed, or there is no tokenizer.
    """
    transformers = transformers_for(f"the tokenizer {name}")
    path, how = located(name)
    try:
        return transformers.AutoTokenizer.from_pretrained(path, trust_remote_code=False, **how)
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        raise ArgumentError(f"cannot load the tokenizer of {name}: {str(error).strip()[:400]}") from error


def longest_of(name: str, tokenizer: Any) -> int:
    """How many tokens a model takes, as its tokenizer says, or its configuration where that says nothing."""
    path, how = located(name)
    try:
        configuration = transformers_for(name).AutoConfig.from_pretrained(path, trust_remote_code=False, **how)
    except (OSError, ValueError):  # a tokenizer alone
        configuration = None
    places = getattr(configuration, "max_position_embeddings", None)
    said = [int(size) for size in (tokenizer.model_max_length, places) if isinstance(size, int) and size > 0]
    return min([*said, 1 << 20])


def encode(
    name: str, train: Sequence[str], test: Sequence[str], length: int | None, progress: Progress | None = None
) -> tuple[tuple[Tensor, Tensor], int, int]:
    """Both splits as ids that are 1 higher than the tokenizer's, so that 0 is padding whatever it takes for that.

    Args:
        name: ``hf:PATH``.
        train: texts.
        test: texts.
        length: tokens of an example, the tokenizer's own marks included; unless told what 99 of 100 training texts fit
            in, at most 256.
        progress: called now and then.

    Returns:
        (n, length) int32 of each split, the number that all ids are below, how many training texts were cut.

    Raises:
        ArgumentError: as `tokenizer_of`, or more tokens than the model takes.
    """
    tokenizer = tokenizer_of(name)
    most = longest_of(name, tokenizer)
    if length is not None and length > most:
        raise ArgumentError(f"length={length} is more than the {most} tokens that {name} takes")
    ids = _ids(tokenizer, train, None, progress)
    sizes = np.asarray([len(row) for row in ids], dtype=np.int64)
    chosen = min(most, fitting_length(sizes, length, min(most, LONGEST)))
    ids = _cut(tokenizer, train, ids, chosen)
    other = _ids(tokenizer, test, chosen, progress)
    made = [_padded(rows, chosen) for rows in (ids, other)]
    size = 2 + max(len(tokenizer), max((max(row, default=0) for row in (*ids, *other)), default=0))
    return (made[0], made[1]), size, int((sizes > chosen).sum())


def _ids(tokenizer: Any, texts: Sequence[str], length: int | None, progress: Progress | None) -> list[list[int]]:
    how: dict[str, Any] = {"truncation": length is not None, "verbose": False}
    if length is not None:
        how["max_length"] = length
    found: list[list[int]] = []
    for first in range(0, len(texts), AT_ONCE):
        found += tokenizer(list(texts[first : first + AT_ONCE]), **how)["input_ids"]
        if progress is not None:
            progress("tokenising", len(found), len(texts))
    return found


def _cut(tokenizer: Any, texts: Sequence[str], ids: list[list[int]], length: int) -> list[list[int]]:
    """The longer ones again: a mark at their end stays there."""
    longer = [i for i, row in enumerate(ids) if len(row) > length]
    again = _ids(tokenizer, [texts[i] for i in longer], length, None)
    for i, row in zip(longer, again, strict=True):
        ids[i] = row
    return ids


def _padded(rows: list[list[int]], length: int) -> Tensor:
    flat = np.asarray([token + 1 for row in rows for token in row], dtype=np.int64)
    return padded(flat, np.asarray([len(row) for row in rows], dtype=np.int64), length)
