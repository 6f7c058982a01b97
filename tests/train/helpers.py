"""Small data and networks for training, and a literal training loop."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from datawinnow.core.rng import forked, stream
from datawinnow.data.examples import Augment, Examples
from datawinnow.models import mlp, resnet8

PLAIN = {"precision": "fp32", "device": "cpu", "workers": 0, "batch": 16}
"""Options that leave nothing to be measured."""


def blobs(n: int = 60, seed: int = 0) -> Examples:
    """Three overlapping classes of 5-vectors."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    return Examples(torch.randn(n, 5, generator=g) + labels[:, None], labels, ("a", "b", "c"), "blobs")


def images(n: int = 48, size: int = 12, seed: int = 0, augment: Augment | None = None) -> Examples:
    """Two classes of random colour images, the second brighter."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    x = torch.randint(0, 150, (n, 3, size, size), generator=g) + 100 * labels[:, None, None, None]
    return Examples(x.to(torch.uint8), labels, ("dark", "light"), "images", augment=augment)


def vector_net(seed: int = 0, dropout: float = 0.0, norm: bool = False) -> nn.Module:
    """An MLP for `blobs`."""
    with forked(seed, "weights"):
        layers: list[nn.Module] = [mlp(features=5, classes=12, width=10)]
        layers += [nn.BatchNorm1d(12)] if norm else []
        layers += [nn.ReLU(), nn.Dropout(dropout), nn.Linear(12, 3)]
        return nn.Sequential(*layers)


def image_net(seed: int = 0, width: int = 4) -> nn.Module:
    """A narrow ResNet-8 for `images`; of width 16 it can be trained in channels-last."""
    with forked(seed, "weights"):
        return resnet8(classes=2, width=width)


def weights(model: nn.Module) -> torch.Tensor:
    """Everything a network holds, in one vector."""
    return torch.cat([v.detach().double().flatten() for v in model.state_dict().values()])


def literal_fit(
    model,
    x,
    y,
    *,
    index,
    epochs,
    schedule_epochs,
    batch,
    seed,
    peak,
    factor,
    optimizer="sgd",
    smoothing=0.0,
    gamma=0.0,
    weight=None,
    last=None,
):
    """Training written from the formulas in float64, each parameter by hand; weights and the learning rates used.

    ``last``: how many examples the last epoch passes, if not all; the schedule then ends with it.
    """
    model = copy.deepcopy(model).double()
    parameters = list(model.parameters())
    state = [{"m": torch.zeros_like(p), "v": torch.zeros_like(p)} for p in parameters]
    rates, time = [], 0
    full_steps = math.ceil(len(index) / batch)
    planned = schedule_epochs * full_steps if last is None else (epochs - 1) * full_steps + math.ceil(last / batch)
    for epoch in range(epochs):
        order = index[torch.randperm(len(index), generator=stream(seed, "order", epoch))].tolist()
        if last is not None and epoch == epochs - 1:
            order = order[:last]
        steps = math.ceil(len(order) / batch)
        small, num_larger = divmod(len(order), steps)
        for step in range(steps):
            batch_ids = [order.pop(0) for _ in range(small + (step < num_larger))]
            rate = peak * factor((epoch * full_steps + step) / planned)
            rates.append(rate)
            log_p = model(x[batch_ids].double()).log_softmax(1)
            losses = [
                (-(1 - smoothing) * row[int(y[i])] - smoothing * row.mean()) * (1 - row[int(y[i])].exp()) ** gamma
                for row, i in zip(log_p, batch_ids, strict=True)
            ]
            loss = sum(
                v * (1.0 if weight is None else float(weight[i])) for v, i in zip(losses, batch_ids, strict=True)
            )
            grads = torch.autograd.grad(loss / len(batch_ids), parameters)
            time += 1
            with torch.no_grad():
                for p, g, s in zip(parameters, grads, state, strict=True):
                    if optimizer == "sgd":  # Nesterov momentum 0.9, weight decay 5e-4 in the gradient
                        g = g + 5e-4 * p
                        s["m"] = 0.9 * s["m"] + g
                        p -= rate * (g + 0.9 * s["m"])
                    else:  # AdamW: betas 0.9 and 0.999, decoupled weight decay 5e-4
                        p -= rate * 5e-4 * p
                        s["m"] = 0.9 * s["m"] + 0.1 * g
                        s["v"] = 0.999 * s["v"] + 0.001 * g * g
                        p -= rate * (s["m"] / (1 - 0.9**time)) / ((s["v"] / (1 - 0.999**time)).sqrt() + 1e-8)
    return weights(model), rates
