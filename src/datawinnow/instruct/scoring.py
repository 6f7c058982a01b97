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
from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.progress import Progress
from datawinnow.instruct.features import PUBLISHED_SCALE, Layout, Standard, layout_of, matrix
from datawinnow.instruct.learn import (
    PAPER_SEED,
    Recipe,
    learn,
    recipe_of,
    score_pool,
    seeds_of,
)
from datawinnow.instruct.leave_one_out import CONSTANT, LeftOut, constant, left_out, network_left_out, ridge_left_out
from datawinnow.instruct.network import Shape, fitting_heads
from datawinnow.instruct.pairs import Pairs
from datawinnow.instruct.ridge import ridge
from datawinnow.instruct.subsets import Subsets

NETWORKS = ("paper", "default")
LEARNED = (*NETWORKS, "ridge")
"""Ways that need labelled subsets; any other is the mean of the indicators, or the name of one."""
MEAN = "mean of indicators"
LABELS = {"paper": "InstructionGPT-4's selector", "default": "the mended selector", "ridge": "ridge regression"}


@dataclass(frozen=True, eq=False)
class Pool:
    """What every way of scoring starts from.

    Attributes:
        pairs: the data.
        layout: which columns are features.
        raw: (n, d) features at the published scale, NaN where a pair lacks something.
        usable: (u,) int64 positions of the pairs that lack nothing.
        subsets: labelled ones, or None.
    """

    pairs: Pairs
    layout: Layout
    raw: Tensor
    usable: Tensor
    subsets: Subsets | None = None

    @property
    def standard(self) -> Standard:
        """Mean and spread of the features of the usable pairs."""
        return Standard.of(self.raw[self.usable])

    def lacking(self) -> dict[str, int]:
        """How many pairs lack a feature, by its name."""
        gone = torch.isnan(self.raw).sum(dim=0).tolist()
        counts: dict[str, int] = {}
        for name, count in zip(self.layout.names, gone, strict=True):
            short = next((v for v, _ in self.layout.vectors if name.startswith(f"{v} ")), name)
            if count:
                counts[short] = max(count, counts.get(short, 0))
        return counts


def pool_of(pairs: Pairs, *, indicators: tuple[str, ...] | None = None) -> Pool:
    """The features of the pairs, and who has all of them.

    Raises:
        ArgumentError: an indicator that no pair has.
    """
    layout = layout_of(pairs, indicators=indicators)
    raw = matrix(layout, pairs.numbers, pairs.vectors, scale=PUBLISHED_SCALE)
    usable = torch.nonzero(~torch.isnan(raw).any(dim=1)).flatten()
    return Pool(pairs, layout, raw, usable)


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of the pool by one way.

    Attributes:
        way: its name.
        label: its name for people.
        score: (n,) float32, high is good, NaN for pairs that lack a feature.
        seeds: (k, n) scores by k seeds, the first of them ``score``; one row where nothing is drawn.
        loss: mean squared error on the labelled subsets before the last step; None where nothing is trained.
        about: options, for the record.
    """

    way: str
    label: str
    score: Tensor
    seeds: Tensor
    loss: float | None = None
    about: dict[str, Any] = field(default_factory=dict)


def score_by(
    pool: Pool,
    way: str,
    *,
    seed: int | None = None,
    agreeing: int = 5,
    ends: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Scored:
    """Score every pair.

    Args:
        pool: features, and for what is learned the labelled subsets.
        way: ``"paper"``, ``"default"``, ``"ridge"``, ``"mean of indicators"``, or the name of an indicator.
        seed: of the networks; None is 42 in paper mode, as published, and 0 otherwise.
        agreeing: how many seeds to train, to see how far they agree; the first one's scores are used.
        ends: which end of an indicator is good, where its card says it.
        options: of `Recipe`, changed from the mode's.
        progress: called with what is done, how far, of how many.

    Returns:
        `Scored`.

    Raises:
        ArgumentError: no labelled subsets for what is learned from them, or no such indicator.
        DataError: not one pair that has all of the features, which what is learned needs.
    """
    if way not in LEARNED:
        return _by_indicator(pool, way, ends or {})
    _subsets(pool, way)
    if not len(pool.usable):
        lacking = ", ".join(f"{count:,} of {len(pool.pairs):,} lack {name}" for name, count in pool.lacking().items())
        raise DataError(
            f"no pair has all of the features that {way!r} needs: {lacking or 'there are none'}; choose by an "
            "indicator that pairs have (--score)"
        )
    if way == "ridge":
        means, _ = _means(pool)
        found = ridge(means, _subsets(pool, way).labels)
        score = _spread(pool, found(pool.standard(pool.raw[pool.usable])).float())
        return Scored(way, LABELS[way], score, score[None], about={"penalty": found.penalty, "error": found.error})
    recipe = recipe_of(way, **dict(options or {}))
    x, there, notes = training_sets(pool, recipe)
    first = (PAPER_SEED if recipe.published_seed else 0) if seed is None else seed
    check.number("agreeing", agreeing, 1, 10**4, integer=True)
    asked = [first, *[other for other in range(agreeing + 1) if other != first]][:agreeing]
    seeds = [each for one in asked for each in seeds_of(recipe, one)]

    def log(done: int) -> None:
        if progress is not None:
            progress("training", done, len(seeds))

    labels = _subsets(pool, way).labels
    learned = learn(x, labels, recipe=recipe, seeds=seeds, there=there, progress=log)
    inputs = pool.raw[pool.usable]
    inputs = pool.standard(inputs) if recipe.standardise else inputs
    size = x.shape[1] if there is None else max(1, round(float(there.sum(dim=1).float().mean())))
    scores = score_pool(learned, inputs, recipe=recipe, size=size, seed=first, progress=progress)
    rows = _spread(pool, scores.view(len(asked), -1, len(inputs)).mean(dim=1))
    shape = Shape(x.shape[2], fitting_heads(x.shape[2], recipe.heads))
    about = {"recipe": asdict(recipe), "seeds": asked, "parameters": shape.parameters, "notes": list(notes)}
    loss = float(learned.loss[: recipe.networks].mean())
    return Scored(way, LABELS[way], rows[0], rows, loss, about)


def _subsets(pool: Pool, way: str) -> Subsets:
    if pool.subsets is None:
        raise ArgumentError(
            f"{way!r} is learned from labelled subsets: give them with --subsets FILE.npz (subsets=), or choose by an "
            "indicator"
        )
    return pool.subsets


def _spread(pool: Pool, values: Tensor) -> Tensor:
    """(..., n): ``values`` at the usable pairs, NaN elsewhere."""
    out = torch.full((*values.shape[:-1], len(pool.pairs)), torch.nan)
    out[..., pool.usable] = values
    return out


def training_sets(pool: Pool, recipe: Recipe) -> tuple[Tensor, Tensor | None, tuple[str, ...]]:
    """(s, m, d) features of the labelled subsets as a recipe wants them, who is there, and notes.

    Raises:
        ArgumentError: features of the file where it has none, or subsets of unequal size across the pool.
    """
    subsets = _subsets(pool, "this mode")
    notes: tuple[str, ...] = ()
    if recipe.members == "file" or subsets.member is None:
        if subsets.own is None:
            raise ArgumentError("the subsets' file has no features of its own: use members='pool' (--mode default)")
        x, there = subsets.own, None
    else:
        usable = torch.zeros(len(pool.pairs), dtype=torch.bool)
        usable[pool.usable] = True
        real = subsets.member >= 0
        there = real & usable[subsets.member.clamp_min(0)]
        if not bool(there.any(dim=1).all()):
            raise ArgumentError(f"no pair of subset {int((~there.any(dim=1)).int().argmax())} has all features")
        if lost := int((real & ~there).sum()):
            notes = (f"{lost:,} members of labelled subsets lack a feature and are left out",)
        x = pool.raw[subsets.member.clamp_min(0)].nan_to_num()
    if recipe.standardise:
        x = pool.standard(x)
    if there is not None and bool(there.all()):
        there = None
    if there is not None and recipe.across == "pool":
        sizes = there.sum(dim=1)
        raise ArgumentError(
            "attention across the sets needs subsets of one size, without gaps; here they have "
            f"{int(sizes.min())} to {int(sizes.max())} pairs: use --mode default (across='set')"
        )
    return x, there, notes


def _means(pool: Pool) -> tuple[Tensor, Tensor | None]:
    """(s, d) mean standardised features of the labelled subsets: of the pool's features where members are known."""
    x, there, _ = training_sets(pool, recipe_of("default"))
    if there is None:
        return x.mean(dim=1), None
    return (x * there[..., None]).sum(dim=1) / there.sum(dim=1, keepdim=True), there


def _by_indicator(pool: Pool, way: str, ends: Mapping[str, str]) -> Scored:
    names = pool.layout.indicators if way == MEAN else (way,)
    for name in names:
        if name not in pool.pairs.numbers:
            have = ", ".join([*LEARNED, "mean", *sorted(pool.pairs.numbers)])
            raise ArgumentError(f"no way of scoring is called {name!r}; there are: {have}")
    if not names:
        raise ArgumentError(
            "the pairs have no indicator to take the mean of: compute one, or name a field with --score"
        )
    total = np.zeros(len(pool.pairs))
    for name in names:
        values = pool.pairs.numbers[name]
        end = ends.get(name, "high")
        if end == "middle":
            values = -np.abs(values - np.nanmedian(values))
        spread = np.nanstd(values) if way == MEAN else 1.0
        centre = np.nanmean(values) if way == MEAN else 0.0
        total += (-1 if end == "low" else 1) * (values - centre) / (spread or 1.0)
    score = torch.from_numpy((total / len(names)).astype(np.float32))
    shown = f"the mean of {', '.join(names)}, each standardised" if way == MEAN else way
    return Scored(way, shown, score, score[None], about={"indicators": list(names)})


def left_out_by(
    pool: Pool, ways: tuple[str, ...], *, seed: int | None = None, options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> list[LeftOut]:  # fmt: skip
    """Errors of each way on labelled subsets left out, behind those of knowing nothing.

    Args:
        pool: with labelled subsets.
        ways: of `LEARNED`.
        seed: of the networks, as in `score_by`.
        options: of `Recipe`.
        progress: called with what is done, how far, of how many.
    """
    subsets = _subsets(pool, ways[0])
    found = [left_out(CONSTANT, constant(subsets.labels.double().numpy()), subsets.labels)]
    for way in ways:
        if way == "ridge":
            predicted = ridge_left_out(_means(pool)[0], subsets.labels)
        else:
            recipe = recipe_of(way, **dict(options or {}))
            x, there, _ = training_sets(pool, recipe)
            first = (PAPER_SEED if recipe.published_seed else 0) if seed is None else seed

            def log(what: str, done: int, total: int, way: str = way) -> None:
                if progress is not None:
                    progress(f"{what} ({way})", done, total)

            predicted = network_left_out(x, subsets.labels, recipe=recipe, seed=first, there=there, progress=log)
        found.append(left_out(way, predicted, subsets.labels))
    return found


def digest(pool: Pool, *parts: object) -> str:
    """What leaving out depends on, hashed: the features, the subsets, and whatever else."""
    found = hashlib.sha256(repr(parts).encode() + pool.raw.numpy().tobytes())
    if pool.subsets is not None:
        for array in (pool.subsets.labels, pool.subsets.member, pool.subsets.own):
            found.update(b"-" if array is None else array.numpy().tobytes())
    return found.hexdigest()[:16]
