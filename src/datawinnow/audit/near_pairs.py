"""Pairs of examples that are nearly the same, and what differs, for images, texts and vectors alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NearPairs:
    """Pairs of examples that are nearly the same.

    Attributes:
        first: (m,) int64 positions.
        second: (m,) int64 positions of the others.
        similarity: (m,) float32 in [0, 1].
        change: (m,) int64, what differs: a number of a sentence in ``changes``; 0 is the simplest change.
        changes: the sentences, with ``{other}`` for the name of the other example.
    """

    first: Tensor
    second: Tensor
    similarity: Tensor
    change: Tensor
    changes: tuple[str, ...]


def join_pairs(results: Sequence[NearPairs], changes: tuple[str, ...]) -> NearPairs:
    """Each pair once, the smaller position first: as it is most similar, of equal ones by the simplest change.

    Args:
        results: with the same ``changes``.
        changes: the sentences, also where there are no results.
    """
    if not results:
        none = torch.empty(0, dtype=torch.int64)
        return NearPairs(none, none, torch.empty(0), none, changes)
    a, b = torch.cat([r.first for r in results]), torch.cat([r.second for r in results])
    similarity, change = torch.cat([r.similarity for r in results]), torch.cat([r.change for r in results])
    first, second = torch.minimum(a, b), torch.maximum(a, b)
    # rounded: changes that agree to three digits are told apart by which is simpler
    worse = (1 - similarity.double()).mul(1000).round() * len(changes) + change
    order = torch.argsort(worse, stable=True)
    key, by_key = torch.sort((first * (int(second.max()) + 1 if len(second) else 1) + second)[order], stable=True)
    new = torch.ones_like(key, dtype=torch.bool)
    new[1:] = key[1:] != key[:-1]
    kept = order[by_key[new]]
    return NearPairs(first[kept], second[kept], similarity[kept], change[kept], changes)
