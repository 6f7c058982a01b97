"""Training of the selector network on sets whose mean score should be their label, and scoring of the pool."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import TrainingError
from datawinnow.core.progress import Progress
from datawinnow.core.rng import stream
from datawinnow.instruct.network import Across, Selectors, Shape, drawn, fitting_heads, forward

TOGETHER = 1
"""Copies trained at a time. More are no faster, and products of another size round otherwise, which the published
arithmetic (nothing is scaled) makes into another network: with 5 at a time, seed 42 shares a third of its 200 with what
it chooses alone."""


@dataclass(frozen=True)
class Recipe:
    """How the network is trained and used.

    Attributes:
        across: ``"pool"``: an item attends to the items at its position in the other sets and, when the pool is scored,
            to the whole pool (published: a batch taken for a sequence). ``"set"``: to its own set.
        standardise: features in units of the pool's spread, and labels in units of theirs; otherwise as they are
            (published: a text feature of 127 beside a length of 37).
        members: ``"pool"``: the subsets' features are the pool's, of one PCA; ``"file"``: those of the subsets' file
            (published: a PCA fitted on each subset, so that its axes are not the pool's).
        whole: sort scores by their whole part, so that ties fall back to the order of the file (published).
        published_seed: begin from the weights that ``torch.manual_seed(seed)`` gives, as the published code does.
        networks: copies with different seeds whose scores are averaged.
        deals: how often the pool is dealt into sets of the subsets' size for scoring, each item's scores then being
            averaged; 0 lets each item attend to itself alone. For ``across="set"``.
        epochs: full-batch steps. (The published code keeps its "best" weights by a loss that it has just set to 0:
            they are the last ones.)
        rate: Adam's learning rate.
        decay: Adam's weight decay.
        heads: of the attention.
    """

    across: Across = "set"
    standardise: bool = True
    members: str = "pool"
    whole: bool = False
    published_seed: bool = False
    networks: int = 3
    deals: int = 8
    epochs: int = 20
    rate: float = 0.01
    decay: float = 0.0
    heads: int = 4

    def __post_init__(self) -> None:
        check.one_of("across", self.across, ("pool", "set"))
        check.one_of("members", self.members, ("pool", "file"))
        for name, low in (("networks", 1), ("deals", 0), ("epochs", 1), ("heads", 1)):
            check.number(name, getattr(self, name), low, 10**6, integer=True)
        check.number("rate", self.rate, 0, 1e3)
        check.number("decay", self.decay, 0, 1e3)


PAPER = Recipe(
    across="pool", standardise=False, members="file", whole=True, published_seed=True, networks=1, deals=0
)  # fmt: skip
"""The published arithmetic (condense.md 1.11), with the 4 heads of its checkpoint."""
DEFAULT = Recipe()
PAPER_SEED = 42


@dataclass(frozen=True, eq=False)
class Learned:
    """Trained copies and the scale of their labels.

    Attributes:
        nets: k copies, without gradients.
        mean: (k,) what is added to a score.
        spread: (k,) what it is multiplied with before.
        loss: (k,) mean squared error over the training sets before the last step, in squared units of the labels.
    """

    nets: Selectors
    mean: Tensor
    spread: Tensor
    loss: Tensor


def seeds_of(recipe: Recipe, seed: int) -> list[int]:
    """Seeds of the copies that are averaged: the seed itself where there is one copy."""
    if recipe.networks == 1:
        return [seed]
    return [seed * 1_000_003 + i for i in range(recipe.networks)]


def learn(
    x: Tensor,
    labels: Tensor,
    *,
    recipe: Recipe,
    seeds: list[int],
    there: Tensor | None = None,
    without: list[int | None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Learned:
    """Train one copy for each seed: ``min mean over sets of (mean over items of score - label)^2`` by Adam.

    Args:
        x: (s, m, d) features of s sets.
        labels: (s,) what each set is worth.
        recipe: how.
        seeds: one a copy.
        there: (s, m) bool, False for padding.
        without: for each copy the set that it does not see, or None for all; None for nobody.
        progress: called with the copies done.

    Returns:
        `Learned`.

    Raises:
        TrainingError: the loss is no longer a number.
    """
    s = len(labels)
    left = without if without is not None else [None] * len(seeds)
    shape = Shape(x.shape[2], fitting_heads(x.shape[2], recipe.heads))
    step = TOGETHER
    done: list[Learned] = []
    for first in range(0, len(seeds), step):
        some = slice(first, first + step)
        seen = torch.stack([torch.tensor([i for i in range(s) if i != out]) for out in left[some]])
        done.append(_train(shape, x, labels, seen, recipe, seeds[some], there))
        if progress is not None:
            progress(min(len(seeds), first + step))
    if len(done) == 1:
        return done[0]
    joined = [torch.cat(parts) for parts in zip(*(one.nets.weights for one in done), strict=True)]
    layers = tuple(type(done[0].nets.layers[0])(*joined[6 * i : 6 * i + 6]) for i in range(shape.layers))
    nets = Selectors(shape, layers, joined[-2], joined[-1])
    mean, spread, loss = (torch.cat([getattr(one, name) for one in done]) for name in ("mean", "spread", "loss"))
    return Learned(nets, mean, spread, loss)


def _train(
    shape: Shape, x: Tensor, labels: Tensor, seen: Tensor, recipe: Recipe, seeds: list[int], there: Tensor | None
) -> Learned:
    nets = drawn(shape, seeds, published=recipe.published_seed)
    optimizer = torch.optim.Adam(nets.weights, lr=recipe.rate, weight_decay=recipe.decay, foreach=True)
    same = bool((seen == seen[:1]).all())
    chosen = seen[:1] if same else seen
    sets, target = x[chosen], labels[seen]
    mask = None if there is None else there[chosen]
    mean, spread = torch.zeros(len(seeds)), torch.ones(len(seeds))
    if recipe.standardise:
        mean, spread = target.mean(dim=1), target.std(dim=1, correction=0)
        spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    aim = (target - mean[:, None]) / spread[:, None]
    loss = torch.zeros(len(seeds))
    for _ in range(recipe.epochs):
        optimizer.zero_grad(set_to_none=True)
        scores = forward(nets, sets, across=recipe.across, there=mask)
        errors = (of_sets(scores, mask) - aim).square().mean(dim=1)
        errors.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss = errors.detach()
    if not math.isfinite(float(loss.sum())):
        raise TrainingError(f"the selector's loss is {float(loss.sum())}: lower rate={recipe.rate:g}, or standardise")
    for weight in nets.weights:
        weight.requires_grad_(False)
    return Learned(nets, mean, spread, loss * spread.square())


def of_sets(scores: Tensor, there: Tensor | None) -> Tensor:
    """(k, s) mean score of each set, without padding."""
    if there is None:
        return scores.mean(dim=2)
    return (scores * there).sum(dim=2) / there.sum(dim=2)


@torch.no_grad()
def predict(learned: Learned, x: Tensor, *, recipe: Recipe, there: Tensor | None = None) -> Tensor:
    """(k, s) what each copy expects of each set, in units of the labels; across the pool, of all sets together."""
    mask = None if there is None else there[None]
    found = of_sets(forward(learned.nets, x[None], across=recipe.across, there=mask), mask)
    return learned.mean[:, None] + learned.spread[:, None] * found


@torch.no_grad()
def score_pool(
    learned: Learned, x: Tensor, *, recipe: Recipe, size: int, seed: int, progress: Progress | None = None
) -> Tensor:
    """(k, n) score of every item of the pool, by every copy, in units of the labels.

    With ``across="pool"`` each item attends to all items. (The published code scores 114 identical copies of each and
    takes their mean: one is enough, and gives the same.) With ``across="set"`` the pool is dealt into sets of about
    ``size`` items, `Recipe.deals` times, and an item's scores are averaged; or each stands alone.

    Args:
        learned: k trained copies.
        x: (n, d) features.
        recipe: how it was trained.
        size: items of a labelled subset.
        seed: of the dealing.
        progress: called with what is done, how far, of how many.
    """
    n = len(x)
    total = torch.zeros(len(learned.nets), n)
    rounds = max(1, recipe.deals) if recipe.across == "set" else 1
    for turn in range(rounds):
        for i in range(len(learned.nets)):
            one = learned.nets.take(slice(i, i + 1))
            if recipe.across == "pool":
                total[i] = forward(one, x[None, :, None], across="pool")[0, :, 0]
            elif recipe.deals == 0:
                total[i] = forward(one, x[None, :, None], across="set")[0, :, 0]
            else:
                total[i] += _dealt(one, x, size, stream(seed, "instruct", "deal", turn))
            if progress is not None:
                progress("scoring", turn * len(learned.nets) + i + 1, rounds * len(learned.nets))
    return learned.mean[:, None] + learned.spread[:, None] * total / rounds


def _dealt(one: Selectors, x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """(n,) scores within sets of nearly equal size that are dealt anew."""
    n = len(x)
    sets = max(1, round(n / size))
    most = -(-n // sets)
    hand = torch.full((most * sets,), -1, dtype=torch.int64)
    hand[:n] = torch.randperm(n, generator=generator)
    hand = hand.view(most, sets).T  # dealt in turns: only the last places may be empty
    there = hand >= 0
    mask = None if bool(there.all()) else there[None]
    scores = forward(one, x[hand.clamp_min(0)][None], across="set", there=mask)[0]
    out = torch.empty(n)
    out[hand[there]] = scores[there]
    return out


def recipe_of(mode: str, **changes: object) -> Recipe:
    """The recipe of a mode, with some of its options changed.

    Raises:
        ArgumentError: another mode, or an option that is none.
    """
    check.one_of("mode", mode, ("paper", "default"))
    names = Recipe.__dataclass_fields__
    for name in changes:
        check.one_of("an option of the selector", name, tuple(names))
    return replace(PAPER if mode == "paper" else DEFAULT, **changes)  # type: ignore[arg-type]
