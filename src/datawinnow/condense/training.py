"""Networks of a condensation: building them, checking them against the images, and training them on few images."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datawinnow.condense.augment import Augmentation
from datawinnow.condense.features import last_linear
from datawinnow.condense.real_images import RealImages
from datawinnow.core.errors import ArgumentError
from datawinnow.core.module_mode import restore_mode
from datawinnow.core.rng import forked


def build_fresh_network(build: Callable[[], nn.Module], seed: int, *path: str | int) -> nn.Module:
    """``build()`` under a random stream of its own; the global random state is restored.

    Raises:
        ArgumentError: ``build`` is no function, or does not return a network.
    """
    if not callable(build) or isinstance(build, nn.Module):
        raise ArgumentError(
            f"build must be a function that returns a fresh network, got {type(build).__name__}: for example "
            "lambda: models.convnet(classes=10, channels=1, size=28)"
        )
    # Initialisers draw from the global generator, which the caller may be using.
    with forked(seed, *path):
        net = build()
    if not isinstance(net, nn.Module):
        raise ArgumentError(f"build() must return a torch.nn.Module, got {type(net).__name__}")
    return net


def check_network(net: nn.Module, real: RealImages) -> None:
    """Pass one image through a fresh network.

    Raises:
        ArgumentError: it cannot take images of this size, or has fewer outputs than there are classes.
    """
    last_linear(net)
    shape = "x".join(str(side) for side in real.shape)
    try:
        with restore_mode(net), torch.no_grad():
            # Evaluation mode: batch norm cannot train on one image, and the statistics must not change.
            logits = net.eval()(real.take(torch.zeros(1, dtype=torch.int64))[0])
    except (RuntimeError, ValueError, TypeError) as error:
        raise ArgumentError(
            f"the network that build() returns cannot take images of {shape} (channels x height x width): "
            f"{str(error).splitlines()[0]}. Build it for that size, or load the data with another size"
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < real.classes:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ArgumentError(
            f"build() must return a network with an output for each of the {real.classes} classes, (batch, classes) "
            f"logits; for one image it gave {got}"
        )


def resolve_device(name: str | torch.device) -> torch.device:
    """The device of a name; ``"auto"`` is a GPU if there is one.

    Raises:
        ArgumentError: no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ArgumentError(f"device must be 'auto', 'cpu', 'cuda', 'cuda:1', ..., got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ArgumentError(f"device is {name!r}, but torch sees no CUDA device: use 'cpu'")
    return device


def sgd(net: nn.Module, lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> torch.optim.SGD:
    """The optimiser of every network in the papers."""
    return torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)


def train_step(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    """One step on the mean cross-entropy of (b, ...) images; returns the (b, classes) logits before the step."""
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
    """One pass over (n, ...) images in random order, each augmented by itself.

    In mode ``"single"`` a batch shares its operation and each image draws its own parameters, as in the published code
    outside of matching.
    """
    net.train()
    order = torch.randperm(len(x), generator=generator).to(x.device)
    batches = list(torch.split(order, batch))
    if len(batches) > 1 and len(batches[-1]) == 1:  # batch norm cannot work on one image
        batches[-2:] = [torch.cat(batches[-2:])]
    for ids in batches:
        images = x[ids]
        if augment is not None:
            # Every image is its own group: parameters differ within the batch.
            draw = augment.draw(len(ids), generator, one_operation=True)
            images = draw(images, torch.arange(len(ids)))
        train_step(net, optimizer, images, y[ids])


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, y: Tensor, *, batch: int = 512) -> float:
    """Share of (n, ...) images that the network classifies correctly, in evaluation mode."""
    with restore_mode(net):
        net.eval()
        batches = zip(torch.split(x, batch), torch.split(y, batch), strict=True)
        # Summed on the device and read once: reading each batch would wait for the GPU.
        correct = [(net(images).argmax(1) == labels).sum() for images, labels in batches]
    return float(torch.stack(correct).sum()) / len(x)
