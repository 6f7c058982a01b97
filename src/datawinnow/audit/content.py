"""Examples of the same content: images by their pixels, vectors by their numbers, texts by their letters."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datawinnow.audit.near_pairs import NearPairs, join_pairs
from datawinnow.core import check
from datawinnow.core.close_pairs import close_pairs
from datawinnow.core.neighbours import DistanceMetric, knn
from datawinnow.core.rng import stream

ROWS_PER_BLOCK = 1024
TEXT_CHANGES = ("the text {other} but for case, punctuation and spaces",)
VECTOR_CHANGES = ("nearly the numbers of {other}",)
EMBEDDING_CHANGES = ("nearly the embedding of {other}",)
NEIGHBOUR_SAMPLE = 1000
"""Rows whose distance to the nearest other gives the usual one."""


def content_digests(x: Any) -> list[bytes]:
    """(n,) digests of 16 bytes of the content of each row, whatever its layout in memory.

    Args:
        x: (n, ...) tensor or array; numbers that compare equal (0.0 and -0.0) have the same digest, as NaN have.
    """
    rows = check.as_tensor("x", x)
    digests = []
    for block in rows.split(ROWS_PER_BLOCK):
        if block.is_floating_point():
            # numpy has no bfloat16
            block = block.float() if block.dtype is torch.bfloat16 else block
            block = torch.where(block.isnan(), torch.full_like(block, torch.nan), block + 0.0)
        flat = np.ascontiguousarray(block.flatten(1).numpy() if block.ndim > 1 else block.numpy()[:, None])
        digests += [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in flat]
    return digests


def first_with(contents: Iterable[Hashable]) -> Tensor:
    """(n,) int64, the position of the first example with the same content.

    >>> first_with(["a", "b", "a"]).tolist()
    [0, 1, 0]
    """
    first: dict[Hashable, int] = {}
    return torch.tensor([first.setdefault(content, i) for i, content in enumerate(contents)], dtype=torch.int64)


def same_content(x: Any) -> Tensor:
    """(n,) int64, the position of the first example with the same content.

    Args:
        x: (n, ...) tensor or array of images or vectors, or a sequence of n texts.

    >>> same_content([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]).tolist()
    [0, 1, 0]
    """
    if len(x) and isinstance(x[0], str):
        return first_with(x)
    return first_with(content_digests(x))


class _Spaces(dict[int, int]):
    """A table for `str.translate` that makes a space of every letter but letters, digits, marks and symbols."""

    def __missing__(self, code: int) -> int:
        self[code] = code if unicodedata.category(chr(code))[0] in "LNMS" else 32
        return self[code]


_SPACES = _Spaces()
_SPACE_OUTSIDE_NUMBERS = re.compile(r"(?<!\d) | (?!\d)")


def normal_form(text: str) -> str:
    """The letters, digits and symbols of a text, without case, punctuation and spaces.

    Numbers stay apart: ``3.5`` is not ``35``. A text of punctuation alone keeps it.

    >>> normal_form("It's  GOOD -- 3.5 stars!") == normal_form("its good, 3.5 stars")
    True
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = " ".join(folded.translate(_SPACES).split())
    return _SPACE_OUTSIDE_NUMBERS.sub("", words) or " ".join(folded.split())


def near_text_pairs(texts: Sequence[str], among: Tensor | None = None) -> NearPairs:
    """Pairs of texts that differ in case, punctuation and spaces only.

    Args:
        texts: (n,) texts.
        among: (m,) int64 positions to compare, such as one of each content; all by default.

    Returns:
        `NearPairs` with every pair of such texts' first and another.

    >>> pairs = near_text_pairs(["A fine film.", "Dull", "a fine film"])
    >>> pairs.first.tolist(), pairs.second.tolist()
    ([0], [2])
    """
    positions = torch.arange(len(texts)) if among is None else among
    # an empty text is broken, not like another
    first = first_with(normal_form(texts[i]) or i for i in positions.tolist())
    repeated = torch.nonzero(first != torch.arange(len(positions))).flatten()
    similarity = torch.ones(len(repeated))
    pairs = NearPairs(
        positions[first[repeated]], positions[repeated], similarity, torch.zeros_like(repeated), TEXT_CHANGES
    )
    return join_pairs([pairs], TEXT_CHANGES)


def near_vector_pairs(
    x: Any,
    among: Tensor | None = None,
    *,
    tolerance: float = 0.1,
    metric: DistanceMetric = "euclidean",
    changes: tuple[str, ...] = VECTOR_CHANGES,
    seed: int = 0,
) -> NearPairs:
    """Pairs of vectors or embeddings that are much nearer to each other than neighbours usually are.

    Args:
        x: (n, d) float, finite.
        among: (m,) int64 positions to compare, such as one of each content; all by default.
        tolerance: the largest distance, as a fraction of the usual one: the median, over a sample, of the distance to
            the nearest other row. If most rows have near duplicates, so are usual neighbours: nothing stands out.
        metric: ``"euclidean"``, or ``"cosine"`` for embeddings.
        changes: what differs, in words.
        seed: of the sample and the index.

    Returns:
        `NearPairs`; the similarity is 1 minus the distance as a fraction of the usual one.

    Raises:
        ArgumentError: another shape, NaN or infinity, or a tolerance outside [0, 1].
    """
    rows = check.matrix("x", x)
    check.number("tolerance", tolerance, 0, 1)
    positions = torch.arange(len(rows)) if among is None else among
    rows = rows if among is None or len(among) == len(rows) else rows[among]
    usual = usual_distance(rows, metric=metric, seed=seed)
    if not usual > 0:
        return join_pairs([], changes)
    # a cosine distance grows with the square of the angle: the tolerance is one of angles
    radius = usual * (tolerance**2 if metric == "cosine" else tolerance)
    pairs = close_pairs(rows, radius, metric=metric, seed=seed)
    share = pairs.distance / usual
    similarity = 1 - (share.clamp_min(0).sqrt() if metric == "cosine" else share)
    kinds = torch.zeros_like(pairs.query)
    return join_pairs([NearPairs(positions[pairs.query], positions[pairs.row], similarity, kinds, changes)], changes)


def usual_distance(rows: Tensor, *, metric: DistanceMetric = "euclidean", seed: int = 0) -> float:
    """Median distance to the nearest other row, over a sample of rows; 0 with fewer than two."""
    if len(rows) < 2:
        return 0.0
    if len(rows) <= 2 * NEIGHBOUR_SAMPLE:
        return float(knn(rows, 1, metric=metric)[1].median())
    drawn = torch.randperm(len(rows), generator=stream(seed, "near vectors", "sample"))[:NEIGHBOUR_SAMPLE]
    nearest = torch.full((NEIGHBOUR_SAMPLE,), torch.inf, dtype=rows.dtype)
    for first in range(0, len(rows), 16_384):
        block = rows[first : first + 16_384]
        distances = _distances(rows[drawn], block, metric)
        inside = torch.nonzero((drawn >= first) & (drawn < first + len(block))).flatten()
        distances[inside, drawn[inside] - first] = torch.inf
        nearest = torch.minimum(nearest, distances.amin(1))
    return float(nearest.median())


def _distances(a: Tensor, b: Tensor, metric: DistanceMetric) -> Tensor:
    if metric == "euclidean":
        return torch.cdist(a, b)
    return 1 - torch.nn.functional.normalize(a, dim=1) @ torch.nn.functional.normalize(b, dim=1).T
