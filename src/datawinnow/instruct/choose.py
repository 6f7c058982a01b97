"""Which pairs to keep: by quotas over clusters, without near-duplicates, by the selectors that images have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datawinnow import select
from datawinnow.core import check
from datawinnow.core.arrays import take
from datawinnow.core.budget import budget_of, check_budget
from datawinnow.core.card import card_of, check_options, resolve
from datawinnow.core.errors import ArgumentError, CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.instruct.clusters import clusters_of
from datawinnow.instruct.features import VECTORS
from datawinnow.instruct.pairs import Pairs
from datawinnow.instruct.quotas import cluster_quotas

FIELDS = ("cluster", "spectral_cluster")
"""Fields taken for clusters where nobody names one."""


@dataclass(frozen=True)
class Choice:
    """How to choose by a score.

    Attributes:
        by: a selector of `datawinnow.select` or ``"cluster_quotas"``; with clusters it works in each by its share.
        clusters: a field of the data, ``"kmeans"``, ``"spectral"``, ``"none"``, or ``"auto"`` for a field called
            cluster or spectral_cluster, else clusters of the embeddings, else none.
        number: of clusters that are made.
        embedding: the vectors that clusters and near-duplicates are found by; None takes the first there is.
        duplicates: cosine distance within which two pairs are near-duplicates; None looks for none.
        whole: sort by the score's whole part, for ``cluster_quotas``.
        options: of the selector.
    """

    by: str = "top"
    clusters: str = "auto"
    number: int = 10
    embedding: str | None = None
    duplicates: float | None = None
    whole: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


PUBLISHED = Choice(by="cluster_quotas", whole=True)


@dataclass(frozen=True, eq=False)
class Clustered:
    """Clusters of the pairs.

    Attributes:
        label: (n,) int64, -1 where a pair has none; None without clusters.
        says: where they come from.
    """

    label: Tensor | None
    says: str


def budget_from(keep: int | float, n: int) -> int:
    """Pairs to keep: a whole number is a number of pairs, a fraction in (0, 1] a share of them.

    Raises:
        ArgumentError: neither, or more than there are.

    >>> budget_from(200, 3439), budget_from(0.5, 10), budget_from(1.0, 10)
    (200, 5, 10)
    """
    if isinstance(keep, int) and not isinstance(keep, bool):
        return check_budget(keep, n, items="pairs")
    return budget_of(keep, n)


def embedding_of(pairs: Pairs, name: str | None) -> tuple[str, np.ndarray] | None:
    """The vectors that stand for the pairs; None where there are none and none is asked for.

    Raises:
        ArgumentError: no such vectors.
    """
    if name is None:
        name = next(
            (v for v in ("image_embedding", VECTORS[0], "text_embedding", VECTORS[1]) if v in pairs.vectors), None
        )
        if name is None:
            return None
    if name not in pairs.vectors:
        have = ", ".join(sorted(pairs.vectors)) or "none"
        raise ArgumentError(f"no pair has a list of numbers called {name!r}; there are: {have}")
    return name, pairs.vectors[name]


def cluster(pairs: Pairs, choice: Choice, *, paper: bool, seed: int = 0) -> Clustered:
    """The clusters that a choice asks for.

    Args:
        pairs: the data.
        choice: how.
        paper: make spectral clusters where ``"auto"`` finds no field, as published; k-means otherwise.
        seed: of the spectral method.

    Raises:
        ArgumentError: no such field, one whose numbers are not whole and at least 0, or no embeddings to cluster.
    """
    wanted = choice.clusters
    if wanted == "none":
        return Clustered(None, "no clusters")
    if wanted == "auto":
        wanted = next((name for name in FIELDS if name in pairs.numbers), "")
        if not wanted:
            if embedding_of(pairs, choice.embedding) is None:
                return Clustered(None, "no clusters: the pairs have no embeddings and no field called cluster")
            wanted = "spectral" if paper else "kmeans"
    if wanted not in ("kmeans", "spectral"):
        return Clustered(_field(pairs, wanted), f"clusters of the field {wanted}")
    found = embedding_of(pairs, choice.embedding)
    if found is None:
        raise ArgumentError(f"clusters={wanted!r} needs embeddings: compute them (--clip, --embed), or --clusters none")
    name, vectors = found
    there = np.isfinite(vectors).all(axis=1)
    label = torch.full((len(pairs),), -1, dtype=torch.int64)
    k = min(choice.number, int(there.sum()))
    label[torch.from_numpy(there)] = clusters_of(vectors[there], k, by=wanted, seed=seed)
    return Clustered(label, f"{k} clusters of {name} by {'k-means' if wanted == 'kmeans' else 'the spectral method'}")


def _field(pairs: Pairs, name: str) -> Tensor:
    if name not in pairs.numbers:
        have = ", ".join(sorted(pairs.numbers)) or "none"
        raise ArgumentError(f"clusters={name!r} is neither kmeans, spectral, none nor a field; there are: {have}")
    values = pairs.numbers[name]
    known = values[~np.isnan(values)]
    if (known < 0).any() or (known != np.floor(known)).any() or (known > 2**31).any():
        raise ArgumentError(f"clusters={name!r} must hold whole numbers of 0 and above, got {known.min():g} and others")
    return torch.from_numpy(np.where(np.isnan(values), -1, values).astype(np.int64))


def choose(
    score: Tensor, pairs: Pairs, clustered: Clustered, *, keep: int | float, choice: Choice, seed: int = 0
) -> Selection:
    """Choose pairs by a score.

    Args:
        score: (n,) float, high is good; NaN for pairs that cannot be chosen.
        pairs: the data.
        clustered: of `cluster`.
        keep: how many, or what share.
        choice: how.
        seed: of a selector that draws.

    Returns:
        `Selection`, the best first; pairs without a score, a cluster or an embedding that is needed have the reason
        ``unscored``.

    Raises:
        ArgumentError: an unknown selector or option, or a budget outside 1 to n.
        CapacityError: fewer pairs can be chosen than are asked for.
        MissingArrayError: a selector that needs what pairs do not have (``p_label``, ...).
    """
    n = len(pairs)
    budget = budget_from(keep, n)
    method = resolve(choice.by, {**select.METHODS, "cluster_quotas": cluster_quotas}, kind="selector")
    check_options(method, choice.options)
    own = card_of(method)
    there = ~torch.isnan(score)
    if clustered.label is not None:
        there &= clustered.label >= 0
    vectors = None
    if choice.duplicates is not None or "features" in own.needs:
        found = embedding_of(pairs, choice.embedding)
        if found is None:
            raise ArgumentError("near-duplicates and coverage need embeddings: compute them (--clip, --embed)")
        vectors = torch.from_numpy(found[1])
        there &= torch.isfinite(vectors).all(dim=1)
    ids = torch.nonzero(there).flatten()
    if budget > len(ids):
        raise CapacityError(
            f"keep={budget}, but only {len(ids)} of {n} pairs have all that is needed to be chosen; keep fewer, or see "
            "above what the others lack",
            len(ids),
        )
    arrays: dict[str, Any] = {"score": score[ids]}
    if vectors is not None:
        arrays["features"] = vectors[ids]
    if clustered.label is not None:
        arrays["labels"] = arrays["clusters"] = clustered.label[ids]
    chosen = _called(method, arrays, budget, choice, clustered.label is not None, seed)
    reason = torch.full((n,), int(Reason.UNSCORED), dtype=torch.int8)
    assert chosen.reason is not None
    reason[ids] = chosen.reason
    return Selection(ids[chosen.index], chosen.weight, reason)


def _called(
    method: Callable[..., Any], arrays: dict[str, Any], budget: int, choice: Choice, clustered: bool, seed: int
) -> Selection:
    own = card_of(method)
    options = dict(choice.options)
    if own.key == "cluster_quotas":
        options["whole"] = choice.whole
        if not clustered:
            arrays["clusters"] = torch.zeros(len(arrays["score"]), dtype=torch.int64)
    needed = [take(arrays, name, method=own.key) for name in own.needs]
    wrapped: Callable[..., Selection] = method
    if clustered and own.key != "cluster_quotas" and "labels" not in own.needs:
        wrapped = select.per_class(wrapped)
        options["labels"] = arrays["labels"]
    if choice.duplicates is not None:
        check.number("duplicates", choice.duplicates, 0, 2)
        wrapped = select.deduplicated(wrapped, threshold=choice.duplicates)
        options["features"] = arrays["features"]
    if "generator" in card_of(wrapped).takes:
        options["generator"] = stream(seed, "instruct", "select")
    return wrapped(*needed, budget=budget, **options)
