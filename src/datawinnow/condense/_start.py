"""Where images begin, and whether everything fits together before the first iteration."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.condense._real import Real
from datawinnow.condense._tap import head_of
from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.core.synthetic import check_factor, shrink

INITS = ("real", "noise")


def start(real: Real, per_class: int, factor: int, init: str, seed: int) -> Tensor:
    """(classes * per_class, channels, height, width) float32: random real images, or N(0, 1) noise.

    With a ``factor`` l each image is put together of l x l real ones, made small.

    Raises:
        ArgumentError: a class with fewer images than that takes, or another ``init``.
    """
    check.number("per_class", per_class, 1, 1 << 30, integer=True)
    check.one_of("init", init, INITS)
    check_factor(factor, real.shape[1:])
    if init == "noise":
        shape = (real.classes * per_class, *real.shape)
        return torch.randn(shape, generator=stream(seed, "start")).to(real.device)
    need = per_class * factor**2
    for label, count in enumerate(real.counts):
        if count < need:
            tiles = f" of {factor}x{factor} real ones each" if factor > 1 else ""
            raise ArgumentError(
                f"per_class={per_class} images{tiles} begin from {need} real images of every class, but class {label} "
                f"has {count}: give a smaller per_class, or init='noise'"
            )
    ids = real.draw(need, stream(seed, "start"))
    images, _ = real.at(ids)
    by_class = images.float().view(real.classes, factor**2, per_class, *real.shape)
    return torch.cat([shrink(tiles.flatten(0, 1), factor) for tiles in by_class])


def try_network(net: nn.Module, real: Real) -> None:
    """One image through a fresh network.

    Raises:
        ArgumentError: it cannot take images of this size, or has fewer outputs than there are classes.
    """
    head_of(net)
    shape = "x".join(str(side) for side in real.shape)
    was = net.training
    try:
        with torch.no_grad():
            logits = net.eval()(real.at(torch.zeros(1, dtype=torch.int64))[0])
    except (RuntimeError, ValueError, TypeError) as error:
        raise ArgumentError(
            f"the network that build() gives cannot take images of {shape} (channels x height x width): "
            f"{str(error).splitlines()[0]}. Build it for that size, or load the data with another size"
        ) from error
    finally:
        net.train(was)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < real.classes:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ArgumentError(
            f"build() must give a network with an output for each of the {real.classes} classes, (batch, classes) "
            f"logits; for one image it gave {got}"
        )


def count_classes(labels: Any) -> int:
    """Number of classes, from (n,) ids."""
    return int(check.labels("labels", labels).max()) + 1


def side_of(images: Any) -> int:
    """Height of (n, channels, height, width) images; 0 if they are something else, which is told later."""
    shape = tuple(getattr(images, "shape", ())) or check.as_tensor("images", images).shape
    return int(shape[2]) if len(shape) == 4 else 0


def device_of(name: str | torch.device) -> torch.device:
    """``"auto"`` is a GPU where there is one.

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
        raise ArgumentError(f"device is {name!r}, but torch sees no CUDA device here: give 'cpu'")
    return device
