"""Training of the selector network on sets whose mean score should be their label, and scoring of the pool."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import TrainingError
from datawinnow.core.progress import Progress
from datawinnow.core.rng import stream
from datawinnow.instruct.network import (
    Across,
    Layer,
    NetworkShape,
    Selectors,
    fitting_heads,
    forward,
    init_selectors,
)


@dataclass(frozen=True)
class SelectorRecipe:
    """How the network is trained and used.

    Attributes:
        across: ``"pool"``: an item attends to the items at its position in the other sets and, when the pool is scored,
            to the whole pool (published: a batch taken for a sequence). ``"set"``: to its own set.
        standardise: features and labels with mean 0 and standard deviation 1; otherwise unscaled (published: a text
            feature of 127 beside a length of 37).
        member_features: ``"pool"``: those of the members in the pool, of one PCA; ``"file"``: those in the subsets'
            file (published: a PCA fitted on each subset, so that its axes are not the pool's).
        published_seed: start from the weights that ``torch.manual_seed(seed)`` gives, as the published code does.
        networks: copies with different seeds whose scores are averaged.
        deals: how often the pool is dealt into sets of the subsets' size for scoring, each item's scores then being
            averaged; 0 lets each item attend to itself alone. For ``across="set"``.
        epochs: full-batch steps. (The published code keeps its "best" weights by a loss that it has just set to 0:
            they are the last ones.)
        lr: Adam's learning rate.
        weight_decay: Adam's weight decay.
        heads: of the attention.
    """

    across: Across = "set"
    standardise: bool = True
    member_features: str = "pool"
    published_seed: bool = False
    networks: int = 3
    deals: int = 8
    epochs: int = 20
    lr: float = 0.01
    weight_decay: float = 0.0
    heads: int = 4

    def __post_init__(self) -> None:
        check.one_of("across", self.across, ("pool", "set"))
        check.one_of("member_features", self.member_features, ("pool", "file"))
        for name, low in (("networks", 1), ("deals", 0), ("epochs", 1), ("heads", 1)):
            check.number(name, getattr(self, name), low, 10**6, integer=True)
        check.number("lr", self.lr, 0, 1e3)
        check.number("weight_decay", self.weight_decay, 0, 1e3)


PAPER_RECIPE = SelectorRecipe(
    across="pool", standardise=False, member_features="file", published_seed=True, networks=1, deals=0
)
"""The published arithmetic, with the 4 heads of the published checkpoint."""
PAPER_SEED = 42


def recipe_of(mode: str, changes: Mapping[str, object] | None = None) -> SelectorRecipe:
    """The recipe of a mode, ``"paper"`` or ``"default"``, with some of its fields changed.

    Raises:
        ArgumentError: another mode, or an unknown field.
    """
    check.one_of("mode", mode, ("paper", "default"))
    for name in changes or {}:
        check.one_of("an option of the selector", name, tuple(SelectorRecipe.__dataclass_fields__))
    return replace(PAPER_RECIPE if mode == "paper" else SelectorRecipe(), **(changes or {}))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class TrainedSelectors:
    """k trained copies and the scale of their labels.

    Attributes:
        nets: the copies, without gradients.
        mean: (k,) added to a score.
        spread: (k,) multiplied with a score before.
        loss: (k,) mean squared error over the training sets before the last step, in squared units of the labels.
    """

    nets: Selectors
    mean: Tensor
    spread: Tensor
    loss: Tensor


def network_seeds(recipe: SelectorRecipe, seed: int) -> list[int]:
    """Seeds of the copies that are averaged: the seed itself where there is one copy."""
    if recipe.networks == 1:
        return [seed]
    # A large prime: the copies of seeds 0, 1, 2, ... do not overlap.
    return [seed * 1_000_003 + i for i in range(recipe.networks)]


def train_selectors(
    x: Tensor,
    labels: Tensor,
    *,
    recipe: SelectorRecipe,
    seeds: list[int],
    mask: Tensor | None = None,
    left_out: list[int | None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> TrainedSelectors:
    """Train one copy for each seed: ``min mean over sets of (mean over items of score - label)^2`` by Adam.

    Copies are trained one at a time. Several at once are no faster, and matrix products of another size round
    differently, which the published arithmetic (nothing is scaled) amplifies: with 5 at a time, seed 42 shares a third
    of its 200 pairs with what it chooses alone.

    Args:
        x: (s, m, d) features of s sets.
        labels: (s,) label of each set.
        recipe: how to train.
        seeds: one a copy.
        mask: (s, m) bool, False for padding.
        left_out: for each copy the set that it does not see, or None for all sets.
        progress: called with the number of copies done.

    Raises:
        TrainingError: the loss is not finite.
    """
    copies: list[TrainedSelectors] = []
    for i, seed in enumerate(seeds):
        excluded = None if left_out is None else left_out[i]
        # Left out of the features too: across="pool" would let the other sets attend to it.
        index = torch.tensor([j for j in range(len(labels)) if j != excluded])
        copies.append(_train_one(x[index], labels[index], recipe, seed, None if mask is None else mask[index]))
        if progress is not None:
            progress(i + 1)
    if len(copies) == 1:
        return copies[0]
    shape = copies[0].nets.shape
    weights = [torch.cat(tensors) for tensors in zip(*(copy.nets.weights for copy in copies), strict=True)]
    layers = tuple(Layer(*weights[6 * i : 6 * i + 6]) for i in range(shape.layers))
    nets = Selectors(shape, layers, weights[-2], weights[-1])
    mean, spread, loss = (torch.cat([getattr(copy, name) for copy in copies]) for name in ("mean", "spread", "loss"))
    return TrainedSelectors(nets, mean, spread, loss)


def _train_one(x: Tensor, labels: Tensor, recipe: SelectorRecipe, seed: int, mask: Tensor | None) -> TrainedSelectors:
    width = x.shape[2]
    nets = init_selectors(
        NetworkShape(width, fitting_heads(width, recipe.heads)), [seed], published=recipe.published_seed
    )
    optimizer = torch.optim.Adam(nets.weights, lr=recipe.lr, weight_decay=recipe.weight_decay, foreach=True)
    x, labels = x[None], labels[None]  # one copy
    mask = None if mask is None else mask[None]
    mean, spread = torch.zeros(1), torch.ones(1)
    if recipe.standardise:
        mean, spread = labels.mean(dim=1), labels.std(dim=1, correction=0)
        # Equal labels have no spread; they are then only centred.
        spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    target = (labels - mean[:, None]) / spread[:, None]
    loss = torch.zeros(1)
    for _ in range(recipe.epochs):
        optimizer.zero_grad(set_to_none=True)
        scores = forward(nets, x, across=recipe.across, mask=mask)
        errors = (mean_score(scores, mask) - target).square().mean(dim=1)
        errors.sum().backward()
        optimizer.step()
        loss = errors.detach()
    if not math.isfinite(float(loss.sum())):
        raise TrainingError(f"the selector's loss is {float(loss.sum())}: lower lr={recipe.lr:g}, or standardise")
    for weight in nets.weights:
        weight.requires_grad_(False)
    # A squared error scales with the square of the labels' unit.
    return TrainedSelectors(nets, mean, spread, loss * spread.square())


def mean_score(scores: Tensor, mask: Tensor | None) -> Tensor:
    """(k, s) mean score of each set of (k, s, m) scores, padding left out."""
    if mask is None:
        return scores.mean(dim=2)
    return (scores * mask).sum(dim=2) / mask.sum(dim=2)


@torch.no_grad()
def predict(trained: TrainedSelectors, x: Tensor, *, recipe: SelectorRecipe, mask: Tensor | None = None) -> Tensor:
    """Predicted labels of sets; with ``across="pool"`` all sets are predicted together.

    Args:
        trained: k copies.
        x: (s, m, d) features.
        recipe: how they were trained.
        mask: (s, m) bool, False for padding.

    Returns:
        (k, s) in units of the labels.
    """
    mask = None if mask is None else mask[None]
    scores = mean_score(forward(trained.nets, x[None], across=recipe.across, mask=mask), mask)
    return trained.mean[:, None] + trained.spread[:, None] * scores


@torch.no_grad()
def score_pool(
    trained: TrainedSelectors,
    x: Tensor,
    *,
    recipe: SelectorRecipe,
    size: int,
    seed: int,
    progress: Progress | None = None,
) -> Tensor:
    """Score of every item of the pool by every copy.

    With ``across="pool"`` each item attends to all items. (The published code scores 114 identical copies of each item
    and takes their mean, which is the score of one.) With ``across="set"`` the pool is dealt into sets of about
    ``size`` items, `SelectorRecipe.deals` times, and an item's scores are averaged; or each item stands alone.

    Args:
        trained: k copies.
        x: (n, d) features.
        recipe: how they were trained.
        size: items of a labelled subset.
        seed: of the dealing.
        progress: called as ``progress("scoring", done, total)``.

    Returns:
        (k, n) in units of the labels.
    """
    k, n = len(trained.nets), len(x)
    total = torch.zeros(k, n)
    # Across the pool nothing is random, so one round is all.
    rounds = max(1, recipe.deals) if recipe.across == "set" else 1
    for turn in range(rounds):
        for i in range(k):
            copy = trained.nets.take(slice(i, i + 1))
            if recipe.across == "pool" or recipe.deals == 0:
                total[i] = forward(copy, x[None, :, None], across=recipe.across)[0, :, 0]
            else:
                # The same deal for every copy, so that copies differ by their weights alone.
                total[i] += _score_dealt_sets(copy, x, size, stream(seed, "instruct", "deal", turn))
            if progress is not None:
                progress("scoring", turn * k + i + 1, rounds * k)
    return trained.mean[:, None] + trained.spread[:, None] * total / rounds


def _score_dealt_sets(copy: Selectors, x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """(n,) scores within random sets of nearly equal size."""
    n = len(x)
    # Nearly the size of the labelled subsets, since the network has only seen sets of that size.
    num_sets = max(1, round(n / size))
    width = -(-n // num_sets)
    index = torch.full((width * num_sets,), -1, dtype=torch.int64)
    index[:n] = torch.randperm(n, generator=generator)
    index = index.view(width, num_sets).T  # dealt in turns, so that only the last column has empty places
    mask = index >= 0
    forward_mask = None if bool(mask.all()) else mask[None]
    scores = forward(copy, x[index.clamp_min(0)][None], across="set", mask=forward_mask)[0]
    pool_scores = torch.empty(n)
    pool_scores[index[mask]] = scores[mask]
    return pool_scores
