"""Which pairs to keep: by quotas over clusters, without near-duplicates, by the selectors that images have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datawinnow import select as selectors
from datawinnow.core import check
from datawinnow.core.arrays import take
from datawinnow.core.budget import budget_of, check_budget, parse_fraction
from datawinnow.core.card import card_of, check_options, resolve
from datawinnow.core.draw import tie_seed_of
from datawinnow.core.errors import ArgumentError, CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.instruct.clusters import clusters_of
from datawinnow.instruct.features import VECTORS
from datawinnow.instruct.options import ChoiceOptions
from datawinnow.instruct.pairs import Pairs
from datawinnow.instruct.quotas import cluster_quotas

CLUSTER_FIELDS = ("cluster", "spectral_cluster")
EMBEDDING_FIELDS = ("image_embedding", VECTORS[0], "text_embedding", VECTORS[1])
"""Fields that ``"auto"`` and None look for; the first present is taken."""


@dataclass(frozen=True, eq=False)
class PairClusters:
    """Clusters of the pairs.

    Attributes:
        label: (n,) int64, -1 where a pair has none; None without clusters.
        description: where they come from.
    """

    label: Tensor | None
    description: str


def parse_keep(keep: int | float | str) -> int | float:
    """``"200"`` is a number of pairs, ``"0.1"`` and ``"10%"`` are a fraction of them, ``"1.0"`` is all of them.

    Raises:
        ArgumentError: a text that is neither.

    >>> parse_keep("200"), parse_keep("0.1"), parse_keep("1.0"), parse_keep("10%")
    (200, 0.1, 1.0, 0.1)
    """
    if isinstance(keep, str) and keep.strip().isdecimal():
        return int(keep)
    try:
        return parse_fraction(keep)
    except ArgumentError:
        raise ArgumentError(
            f"`keep=` must be a number of pairs (200) or a fraction (0.1 or 10%), got {keep!r}"
        ) from None


def pairs_budget(keep: int | float | str, n: int) -> int:
    """Number of pairs to keep: an integer is that number, a fraction in (0, 1] a fraction of the n pairs.

    Raises:
        ArgumentError: neither, or more than there are.

    >>> pairs_budget(200, 3439), pairs_budget(0.5, 10), pairs_budget(1.0, 10), pairs_budget("50%", 10)
    (200, 5, 10, 5)
    """
    keep = parse_keep(keep)
    if isinstance(keep, int) and not isinstance(keep, bool):
        return check_budget(keep, n, items="pairs")
    return budget_of(keep, n)


def resolve_selector(name: str) -> Callable[..., Selection]:
    """The selector of a name.

    Raises:
        ArgumentError: no such selector.
    """
    methods = {**selectors.METHODS, "cluster_quotas": cluster_quotas}
    return resolve(name, methods, kind="selector")


def embedding_of(pairs: Pairs, name: str | None) -> tuple[str, np.ndarray] | None:
    """Name and (n, d) vectors of the embeddings; None where ``name`` is None and there are none.

    Raises:
        ArgumentError: no such vectors.
    """
    if name is None:
        name = next((field_name for field_name in EMBEDDING_FIELDS if field_name in pairs.vectors), None)
        if name is None:
            return None
    if name not in pairs.vectors:
        have = ", ".join(sorted(pairs.vectors)) or "none"
        raise ArgumentError(f"no pair has a list of numbers called {name!r}; there are: {have}")
    return name, pairs.vectors[name]


def make_clusters(pairs: Pairs, choice: ChoiceOptions, *, paper: bool, seed: int = 0) -> PairClusters:
    """The clusters that a choice names.

    Args:
        pairs: the data.
        choice: how.
        paper: ``"auto"`` makes spectral clusters where there is no field, as published; k-means otherwise.
        seed: of the spectral method.

    Raises:
        ArgumentError: no such field, a field of other values than integers of 0 and above, or no embeddings.
    """
    method = choice.clusters
    if method == "none":
        return PairClusters(None, "no clusters")
    if method == "auto":
        method = next((name for name in CLUSTER_FIELDS if name in pairs.numbers), "")
        if not method:
            if embedding_of(pairs, choice.embedding) is None:
                return PairClusters(None, "no clusters: the pairs have no embeddings and no field called cluster")
            method = "spectral" if paper else "kmeans"
    if method not in ("kmeans", "spectral"):
        return PairClusters(_read_cluster_field(pairs, method), f"clusters of the field {method}")
    embedding = embedding_of(pairs, choice.embedding)
    if embedding is None:
        raise ArgumentError(
            f"`clusters={method!r}` needs embeddings: compute them (`clip=`, `embed=`), or give `clusters='none'`"
        )
    name, vectors = embedding
    is_finite = np.isfinite(vectors).all(axis=1)
    label = torch.full((len(pairs),), -1, dtype=torch.int64)
    k = min(choice.num_clusters, int(is_finite.sum()))
    # Only rows with all numbers are clustered; the others keep -1.
    label[torch.from_numpy(is_finite)] = clusters_of(vectors[is_finite], k, method=method, seed=seed)
    return PairClusters(
        label, f"{k} clusters of {name} by {'k-means' if method == 'kmeans' else 'the spectral method'}"
    )


def _read_cluster_field(pairs: Pairs, name: str) -> Tensor:
    if name not in pairs.numbers:
        have = ", ".join(sorted(pairs.numbers)) or "none"
        raise ArgumentError(f"`clusters={name!r}` is neither kmeans, spectral, none nor a field; there are: {have}")
    column = pairs.numbers[name]
    values = column[~np.isnan(column)]
    if (values < 0).any() or (values != np.floor(values)).any() or (values > 2**31).any():
        raise ArgumentError(
            f"`clusters={name!r}` must hold whole numbers of 0 and above, got {values.min():g} and others"
        )
    return torch.from_numpy(np.where(np.isnan(column), -1, column).astype(np.int64))


def choose_pairs(
    score: Tensor, pairs: Pairs, clusters: PairClusters, *, keep: int | float, choice: ChoiceOptions, seed: int = 0
) -> Selection:
    """Choose pairs by a score.

    Args:
        score: (n,) float, high is good; NaN for pairs that cannot be chosen.
        pairs: the data.
        clusters: of `make_clusters`.
        keep: how many, or what fraction.
        choice: how.
        seed: of a selector that draws.

    Returns:
        `Selection`, the best first; pairs that lack a score, a cluster or an embedding that is needed have the reason
        ``unscored``.

    Raises:
        ArgumentError: an unknown selector or option, or a budget outside 1 to n.
        CapacityError: fewer pairs can be chosen than the budget.
        MissingArrayError: a selector that needs what pairs do not have (``p_label``, ...).
    """
    n = len(pairs)
    budget = pairs_budget(keep, n)
    selector = resolve_selector(choice.select or "top")
    check_options(selector, choice.select_options)
    card = card_of(selector)
    is_candidate = ~torch.isnan(score)
    if clusters.label is not None:
        # -1 is no cluster; a class id for `per_class` must be 0 or above.
        is_candidate &= clusters.label >= 0
    vectors = None
    if choice.duplicates is not None or "features" in card.needs:
        embedding = embedding_of(pairs, choice.embedding)
        if embedding is None:
            raise ArgumentError("near-duplicates and coverage need embeddings: compute them (`clip=`, `embed=`)")
        vectors = torch.from_numpy(embedding[1])
        is_candidate &= torch.isfinite(vectors).all(dim=1)
    ids = torch.nonzero(is_candidate).flatten()
    if budget > len(ids):
        raise CapacityError(
            f"`keep={budget}`, but only {len(ids)} of {n} pairs have all that the choice needs; keep fewer, or see "
            "above what the others lack",
            len(ids),
        )
    arrays: dict[str, Any] = {"score": score[ids]}
    if vectors is not None:
        arrays["features"] = vectors[ids]
    if clusters.label is not None:
        arrays["labels"] = arrays["clusters"] = clusters.label[ids]
    elif card.key == "cluster_quotas":
        arrays["clusters"] = torch.zeros(len(ids), dtype=torch.int64)
    options = dict(choice.select_options)
    if card.key == "cluster_quotas":
        options["truncate"] = choice.truncate_scores
    # Clusters play the part of classes; a selector that needs labels itself gets them as an array.
    elif clusters.label is not None and "labels" not in card.needs:
        selector = selectors.per_class(selector)
        options["labels"] = arrays["labels"]
    if choice.duplicates is not None:
        check.number("duplicates", choice.duplicates, 0, 2)
        # Outermost: duplicates are passed over across clusters too.
        selector = selectors.deduplicated(selector, threshold=choice.duplicates)
        options["features"] = arrays["features"]
    if "generator" in card_of(selector).takes:
        options["generator"] = stream(seed, "instruct", "select")
    if "tie_seed" in card_of(selector).takes:
        options["tie_seed"] = tie_seed_of(stream(seed, "instruct", "select"))
    chosen = selector(*(take(arrays, name, method=card.key) for name in card.needs), budget=budget, **options)
    reason = torch.full((n,), int(Reason.UNSCORED), dtype=torch.int8)
    assert chosen.reason is not None
    reason[ids] = chosen.reason
    return Selection(ids[chosen.index], chosen.weight, reason)
