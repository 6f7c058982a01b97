"""Training a head on features that are computed once, where all else is frozen."""

from __future__ import annotations

import time
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError
from datawinnow.core.module_mode import restore_mode
from datawinnow.core.operations import flop_counter
from datawinnow.core.rng import forked, stream
from datawinnow.data.batches import batches_of, forward_batch
from datawinnow.data.examples import Examples
from datawinnow.data.objects import TargetDataset
from datawinnow.models.head import find_head, tapped
from datawinnow.models.outputs import returns_logits
from datawinnow.train.flops import flops_per_example
from datawinnow.train.network import device_for, first_batch, num_classes, set_training_mode
from datawinnow.train.precision import autocast
from datawinnow.train.recipe import Recipe


@dataclass(frozen=True)
class CachedFeatures:
    """The features of a dataset, and the head to train on them.

    Attributes:
        head: the layer that is trained.
        data: the features as a dataset, with those of the examples that are trained on.
        test: of the test split; None without one.
        cost: of the pass over the examples that are trained on.
        trained_share: operations of training the head on an example over those of training the whole network.
        note: for the user.
    """

    head: nn.Module
    data: Examples
    test: Examples | None
    cost: Cost
    trained_share: float
    note: str


def cache_features(model: nn.Module, dataset: Any, index: Tensor, test: Any, recipe: Recipe) -> CachedFeatures:
    """Pass the examples once through the frozen layers of a network.

    Args:
        model: the network, its parameters frozen already.
        dataset: of ``(x, y)``.
        index: (m,) ids of the examples that are trained on.
        test: test split; None for none.
        recipe: how to train.

    Raises:
        ArgumentError: more than the head is trained, the frozen layers are random in training, or so are the examples.
    """
    device, classes = device_for(recipe.device), num_classes(dataset)
    if isinstance(dataset, TargetDataset):
        raise ArgumentError("`cache_features=True` needs examples with classes: leave it out")
    with forked(0, "flops"), restore_mode(model), returns_logits(model, classes):
        model.to(device).eval()
        _, x, _ = first_batch(_without_augmentation(dataset), device, 2)
        model_head = find_head(model, x)
        inside = {id(p) for p in model_head.module.parameters()}
        names = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in inside]
        if names:
            raise ArgumentError(
                f"`cache_features=True` trains the head {model_head.name!r} alone, but {names[0]} is trained too: add "
                "`freeze=['backbone']`"
            )
        _check_repeatable(model, dataset, x)
        start = time.perf_counter()
        with flop_counter() as counter:
            data = _head_inputs(model, model_head, dataset, index, device, recipe)
        cost = Cost(time.perf_counter() - start, forward=len(index), flops=float(counter.get_total_flops()))
        tested = None
        if test is not None:
            tested = _head_inputs(model, model_head, test, torch.arange(len(test)), device, recipe)
        full = _full_flops(model, x)
    of_head = sum(flops_per_example(model_head.module, data.x[:2].to(device)))
    note = f"the features of {len(index):,} examples are computed once, and {model_head.name!r} is trained on them"
    if getattr(dataset, "augment", None) is not None:
        note += "; augmentation is off"
    return CachedFeatures(model_head.module, data, tested, cost, of_head / full if full else 1.0, note)


def _without_augmentation(dataset: Any) -> Any:
    has_augment = is_dataclass(dataset) and getattr(dataset, "augment", None) is not None
    return replace(dataset, augment=None) if has_augment else dataset


def _check_repeatable(model: nn.Module, dataset: Any, x: Tensor) -> None:
    """Refuse a network or a dataset that gives other features the second time."""
    with torch.no_grad():
        fixed = model.eval()(x)
        set_training_mode(model)
        trained = [model(x) for _ in range(2)]
        model.eval()
    if not all(torch.allclose(fixed, each, rtol=1e-4, atol=1e-5) for each in trained):
        raise ArgumentError(
            "`cache_features=True`: the frozen layers give other features in training than in evaluation (dropout, or "
            "a batch norm that is not frozen): set dropout to 0, or leave it out"
        )
    plain = _without_augmentation(dataset)
    for i in range(min(8, len(plain))):
        if not torch.equal(torch.as_tensor(plain[i][0]), torch.as_tensor(plain[i][0])):
            raise ArgumentError(
                f"`cache_features=True`: example {i} differs when it is read twice; take random transforms out of the "
                "dataset, or leave it out"
            )


@torch.no_grad()
def _head_inputs(
    model: nn.Module, head: Any, dataset: Any, index: Tensor, device: torch.device, recipe: Recipe
) -> Examples:
    """The inputs of the head as a dataset of as many examples; those not in ``index`` are 0."""
    plain = _without_augmentation(dataset)
    features: Tensor | None = None
    labels = torch.zeros(len(dataset), dtype=torch.int64)
    order = index.sort().values
    with tapped(model, head) as tap:
        tap.remember = True
        for ids, x, y in batches_of(plain, device, workers=recipe.workers).train(
            order, forward_batch(plain, 500), stream(0, "probe")
        ):
            with autocast(device, recipe.precision):
                tap(x)
            rows = tap.take_features(len(x)).float().cpu()
            features = torch.zeros(len(dataset), rows.shape[1]) if features is None else features
            features[ids.cpu()], labels[ids.cpu()] = rows, y.cpu()
    assert features is not None
    classes = getattr(dataset, "classes", None) or range(int(labels.max()) + 1)
    return Examples(features, labels, tuple(map(str, classes)), name=getattr(dataset, "name", "data"))


def _full_flops(model: nn.Module, x: Tensor) -> float:
    """Operations of training all parameters on an example."""
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        return sum(flops_per_example(model, x))
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
