"""A score for every pair: by the selector network, by ridge regression, by one indicator, or by their mean."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import unknown_name
from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.progress import Progress
from datawinnow.instruct.features import PUBLISHED_SCALE, FeatureLayout, Standardiser, feature_matrix, layout_of
from datawinnow.instruct.leave_one_out import (
    MEAN_LABEL,
    LeaveOneOut,
    leave_one_out,
    mean_of_others,
    network_predictions,
    ridge_predictions,
)
from datawinnow.instruct.network import NetworkShape, fitting_heads
from datawinnow.instruct.pairs import Pairs
from datawinnow.instruct.ridge_model import ridge
from datawinnow.instruct.selector import (
    PAPER_SEED,
    SelectorRecipe,
    network_seeds,
    recipe_of,
    score_pool,
    train_selectors,
)
from datawinnow.instruct.subsets import LabelledSubsets

NETWORK_SCORERS = ("paper", "default")
LEARNED_SCORERS = (*NETWORK_SCORERS, "ridge")
"""Scorers that need labelled subsets."""
MEAN_SCORER = "mean"
"""The mean of the standardised indicators. Any other scorer is the name of an indicator."""
SCORER_LABELS = {
    "paper": "InstructionGPT-4's selector",
    "default": "the corrected selector",
    "ridge": "ridge regression",
}


@dataclass(frozen=True, eq=False)
class FeaturePool:
    """The pairs as features.

    Attributes:
        pairs: the data.
        layout: which columns are features.
        raw: (n, d) features at the published scale, NaN where a pair lacks something.
        usable: (u,) int64 positions of the pairs that lack nothing.
        subsets: labelled ones, or None.
    """

    pairs: Pairs
    layout: FeatureLayout
    raw: Tensor
    usable: Tensor
    subsets: LabelledSubsets | None = None

    @property
    def standardiser(self) -> Standardiser:
        """Fitted to the usable pairs."""
        return Standardiser.fit(self.raw[self.usable])

    def missing_counts(self) -> dict[str, int]:
        """Number of pairs that lack a feature, by its name."""
        counts: dict[str, int] = {}
        columns = [name for name, width in self.layout.vectors for _ in range(width)] + list(self.layout.indicators)
        for name, count in zip(columns, torch.isnan(self.raw).sum(dim=0).tolist(), strict=True):
            if count:
                # A vector has several columns under one name; the worst of them counts.
                counts[name] = max(count, counts.get(name, 0))
        return counts

    def require_subsets(self, scorer: str) -> LabelledSubsets:
        """The labelled subsets.

        Raises:
            ArgumentError: there are none.
        """
        if self.subsets is None:
            raise ArgumentError(
                f"{scorer!r} is learned from labelled subsets: give them with `subsets=FILE`, or choose by an indicator"
            )
        return self.subsets

    def scatter(self, values: Tensor) -> Tensor:
        """(..., n): the values of the usable pairs, NaN elsewhere."""
        scores = torch.full((*values.shape[:-1], len(self.pairs)), torch.nan)
        scores[..., self.usable] = values
        return scores


def pool_of(pairs: Pairs, *, indicators: tuple[str, ...] | None = None) -> FeaturePool:
    """The features of the pairs, by default those of `layout_of`.

    Raises:
        ArgumentError: an indicator that no pair has.
    """
    layout = layout_of(pairs, indicators=indicators)
    raw = feature_matrix(layout, pairs.numbers, pairs.vectors, scale=PUBLISHED_SCALE)
    usable = torch.nonzero(~torch.isnan(raw).any(dim=1)).flatten()
    return FeaturePool(pairs, layout, raw, usable)


@dataclass(frozen=True, eq=False)
class PairScores:
    """Scores of the pairs by one scorer.

    Attributes:
        scorer: its name.
        label: its name in a sentence.
        score: (n,) float32, high is good, NaN for pairs that lack a feature.
        seed_scores: (k, n) scores by k seeds, the first of them ``score``; one row where nothing is random.
        loss: mean squared error on the labelled subsets before the last step; None where no network is trained.
        details: options and sizes, as JSON has them.
    """

    scorer: str
    label: str
    score: Tensor
    seed_scores: Tensor
    loss: float | None = None
    details: dict[str, Any] = field(default_factory=dict)


def score_pairs(
    pool: FeaturePool,
    scorer: str,
    *,
    seed: int | None = None,
    num_seeds: int = 5,
    ends: Mapping[str, str] | None = None,
    recipe_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> PairScores:
    """Score every pair.

    Args:
        pool: features, and for learned scorers the labelled subsets.
        scorer: ``"paper"``, ``"default"``, ``"ridge"``, ``"mean"`` (of the indicators), or the name of an indicator.
        seed: of the networks; None is 42 in paper mode, as published, and 0 otherwise.
        num_seeds: seeds to train, to see how far they agree; the scores of the first are used.
        ends: which end of an indicator is good, ``"high"``, ``"low"`` or ``"middle"``; high by default.
        recipe_options: fields of `SelectorRecipe` to change.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        `PairScores`.

    Raises:
        ArgumentError: no labelled subsets for a learned scorer, or no such indicator.
        DataError: a learned scorer, and no pair that has all of the features.
    """
    if scorer not in LEARNED_SCORERS:
        return _score_by_indicators(pool, scorer, ends or {})
    labels = pool.require_subsets(scorer).labels
    if not len(pool.usable):
        n = len(pool.pairs)
        missing = ", ".join(f"{count:,} of {n:,} lack {name}" for name, count in pool.missing_counts().items())
        raise DataError(
            f"no pair has all of the features that {scorer!r} needs: {missing or 'there are none'}; choose by an "
            "indicator that pairs have (`score=`)"
        )
    features = pool.raw[pool.usable]
    if scorer == "ridge":
        model = ridge(_mean_features(pool), labels)
        score = pool.scatter(model(pool.standardiser(features)).float())
        details: dict[str, Any] = {"penalty": model.penalty, "error": model.error}
        return PairScores(scorer, SCORER_LABELS[scorer], score, score[None], details=details)
    recipe = recipe_of(scorer, recipe_options)
    x, mask, notes = training_sets(pool, recipe)
    first = _first_seed(recipe, seed)
    check.number("num_seeds", num_seeds, 1, 10**4, integer=True)
    # The requested seed first; one spare, since it may be among the others.
    seeds = [first, *[other for other in range(num_seeds + 1) if other != first]][:num_seeds]
    copies = [copy for one in seeds for copy in network_seeds(recipe, one)]

    def report(done: int) -> None:
        if progress is not None:
            progress("training", done, len(copies))

    trained = train_selectors(x, labels, recipe=recipe, seeds=copies, mask=mask, progress=report)
    if recipe.standardise:
        features = pool.standardiser(features)
    # Without padding the subsets have one size; otherwise their mean size.
    size = x.shape[1] if mask is None else max(1, round(float(mask.sum(dim=1).float().mean())))
    scores = score_pool(trained, features, recipe=recipe, size=size, seed=first, progress=progress)
    rows = pool.scatter(scores.view(len(seeds), -1, len(features)).mean(dim=1))  # (seeds, n)
    shape = NetworkShape(x.shape[2], fitting_heads(x.shape[2], recipe.heads))
    details = {"recipe": asdict(recipe), "seeds": seeds, "parameters": shape.parameters, "notes": list(notes)}
    # Of the copies of the first seed, whose scores are used.
    loss = float(trained.loss[: recipe.networks].mean())
    return PairScores(scorer, SCORER_LABELS[scorer], rows[0], rows, loss, details)


def _first_seed(recipe: SelectorRecipe, seed: int | None) -> int:
    return (PAPER_SEED if recipe.published_seed else 0) if seed is None else seed


def training_sets(pool: FeaturePool, recipe: SelectorRecipe) -> tuple[Tensor, Tensor | None, tuple[str, ...]]:
    """Features of the labelled subsets for a recipe.

    Returns:
        (s, m, d) features; (s, m) bool, False for padding, or None without padding; notes.

    Raises:
        ArgumentError: features of the file where it has none, or subsets of unequal size across the pool.
    """
    subsets = pool.require_subsets("this mode")
    notes: tuple[str, ...] = ()
    mask: Tensor | None = None
    if recipe.member_features == "file" or subsets.member is None:
        if subsets.features is None:
            raise ArgumentError("the subsets' file has no features: use `mode='default'`")
        x = subsets.features
    else:
        is_usable = torch.zeros(len(pool.pairs), dtype=torch.bool)
        is_usable[pool.usable] = True
        is_member = subsets.member >= 0
        mask = is_member & is_usable[subsets.member.clamp_min(0)]
        if not bool(mask.any(dim=1).all()):
            raise ArgumentError(f"no pair of subset {int((~mask.any(dim=1)).int().argmax())} has all features")
        if num_unusable := int((is_member & ~mask).sum()):
            notes = (f"{num_unusable:,} members of labelled subsets lack a feature and are left out",)
        # Padding (-1) reads row 0 and is masked; NaN must go, since 0 * NaN is NaN.
        x = pool.raw[subsets.member.clamp_min(0)].nan_to_num()
        mask = None if bool(mask.all()) else mask
    if recipe.standardise:
        x = pool.standardiser(x)
    if mask is not None and recipe.across == "pool":
        sizes = mask.sum(dim=1)
        raise ArgumentError(
            "attention across the sets needs subsets of one size, without gaps; here they have "
            f"{int(sizes.min())} to {int(sizes.max())} pairs: use `mode='default'`"
        )
    return x, mask, notes


def _mean_features(pool: FeaturePool) -> Tensor:
    """(s, d) mean standardised features of the labelled subsets, those of the pool where the members are known."""
    x, mask, _ = training_sets(pool, recipe_of("default"))
    if mask is None:
        return x.mean(dim=1)
    return (x * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def _score_by_indicators(pool: FeaturePool, scorer: str, ends: Mapping[str, str]) -> PairScores:
    is_mean = scorer == MEAN_SCORER
    names = pool.layout.indicators if is_mean else (scorer,)
    for name in names:
        if name not in pool.pairs.numbers:
            raise unknown_name(
                "scorer or indicator", name, [*LEARNED_SCORERS, MEAN_SCORER, *sorted(pool.pairs.numbers)]
            )
    if not names:
        raise ArgumentError(
            "the pairs have no indicator to take the mean of: compute one, or name a field with `score=`"
        )
    total = np.zeros(len(pool.pairs))
    for name in names:
        values = pool.pairs.numbers[name]
        end = ends.get(name, "high")
        if end == "middle":
            # Nearest to the median becomes the highest.
            values = -np.abs(values - np.nanmedian(values))
        centre, spread = (np.nanmean(values), np.nanstd(values)) if is_mean else (0.0, 1.0)
        # A pair without one of the indicators is NaN in the sum, so it is not ranked by the others.
        total += (-1 if end == "low" else 1) * (values - centre) / (spread or 1.0)
    score = torch.from_numpy((total / len(names)).astype(np.float32))
    label = f"the mean of {', '.join(names)}, each standardised" if is_mean else scorer
    return PairScores(scorer, label, score, score[None], details={"indicators": list(names)})


def leave_out_subsets(
    pool: FeaturePool,
    scorers: tuple[str, ...],
    *,
    seed: int | None = None,
    recipe_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> list[LeaveOneOut]:
    """Errors of learned scorers on labelled subsets that are left out.

    Args:
        pool: with labelled subsets.
        scorers: of `LEARNED_SCORERS`.
        seed: of the networks, as in `score_pairs`.
        recipe_options: fields of `SelectorRecipe` to change.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        `MEAN_LABEL` first, then the scorers.
    """
    labels = pool.require_subsets(scorers[0]).labels
    rows = [leave_one_out(MEAN_LABEL, mean_of_others(labels.double().numpy()), labels)]
    for scorer in scorers:
        if scorer == "ridge":
            predicted = ridge_predictions(_mean_features(pool), labels)
        else:
            recipe = recipe_of(scorer, recipe_options)
            x, mask, _ = training_sets(pool, recipe)

            def report(stage: str, done: int, total: int, scorer: str = scorer) -> None:
                if progress is not None:
                    progress(f"{stage} ({scorer})", done, total)

            predicted = network_predictions(
                x, labels, recipe=recipe, seed=_first_seed(recipe, seed), mask=mask, progress=report
            )
        rows.append(leave_one_out(scorer, predicted, labels))
    return rows


def pool_digest(pool: FeaturePool, *settings: object) -> str:
    """A hash over the features, the subsets and settings: what the result of `leave_out_subsets` depends on."""
    digest = hashlib.sha256(repr(settings).encode() + pool.raw.numpy().tobytes())
    if pool.subsets is not None:
        for array in (pool.subsets.labels, pool.subsets.member, pool.subsets.features):
            digest.update(b"-" if array is None else array.numpy().tobytes())
    return digest.hexdigest()[:16]
