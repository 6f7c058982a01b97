"""Training a network on a handful of images: by an epoch over synthetic ones, or by a step on real ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datawinnow.condense._augment import Augmentation


def sgd(net: nn.Module, lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> torch.optim.SGD:
    """The optimiser of every network in the papers."""
    return torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)


def train_step(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    """One step on the mean cross-entropy of (b, ...) images; the logits before it, (b, classes)."""
    logits: Tensor = net(x)
    loss = F.cross_entropy(logits, y)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimizer.step()
    return logits.detach()


def train_epoch(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    *,
    batch: int,
    augment: Augmentation | None,
    generator: torch.Generator,
) -> None:
    """One pass over (n, ...) images in random order, augmented each by itself.

    In mode ``"single"`` a batch shares its operation and each image has parameters of its own, as the published code
    has it outside of matching.
    """
    net.train()
    order = torch.randperm(len(x), generator=generator).to(x.device)
    parts = list(torch.split(order, batch))
    if len(parts) > 1 and len(parts[-1]) == 1:  # batch norm cannot work on one image
        parts[-2:] = [torch.cat(parts[-2:])]
    for index in parts:
        images = x[index]
        if augment is not None:
            drawn = augment.draw(len(index), generator, one_operation=True)
            images = drawn(images, torch.arange(len(index)))
        train_step(net, optimizer, images, y[index])


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, y: Tensor, *, batch: int = 512) -> float:
    """Share of (n, ...) images that the network gets right, in evaluation mode."""
    was = net.training
    net.eval()
    parts = zip(torch.split(x, batch), torch.split(y, batch), strict=True)
    right = [(net(part).argmax(1) == label).sum() for part, label in parts]
    net.train(was)
    return float(torch.stack(right).sum()) / len(x)
