"""What a network says of images beside its logits: features before the last linear layer, and maps on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from datawinnow.core.errors import ArgumentError

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh, nn.ELU)


@dataclass(frozen=True)
class Seen:
    """What was seen of b images.

    Attributes:
        logits: (b, classes).
        features: (b, d), what the last linear layer gets.
        maps: outputs of the layers asked for, (b, ...), in the order that they ran.
    """

    logits: Tensor
    features: Tensor
    maps: tuple[Tensor, ...] = ()


def head_of(net: nn.Module) -> nn.Linear:
    """The last linear layer.

    Raises:
        ArgumentError: there is none.
    """
    layers = [m for m in net.modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise ArgumentError(
            f"build() gave a {type(net).__name__} without a linear layer: its features are what the last nn.Linear "
            "gets; end the network in one"
        )
    return layers[-1]


def activations_of(net: nn.Module, layers: Sequence[str] | None) -> list[nn.Module]:
    """The modules whose outputs are maps: those named, or all activations.

    Raises:
        ArgumentError: a name that is not there, or no activation module.
    """
    if layers is not None:
        known = dict(net.named_modules())
        for name in layers:
            if name not in known:
                raise ArgumentError(f"layers names {name!r}, but the network has: {', '.join(n for n in known if n)}")
        return [known[name] for name in layers]
    found: list[nn.Module] = [m for m in net.modules() if isinstance(m, ACTIVATIONS)]
    if not found:
        raise ArgumentError(
            f"a {type(net).__name__} has no activation as a module (nn.ReLU ...) to look at: name its layers, "
            "layers=['layer1', 'layer2']"
        )
    return found


def look(net: nn.Module, x: Tensor, modules: Sequence[nn.Module] = (), *, recompute: bool = False) -> Seen:
    """One forward pass of (b, channels, height, width) images.

    Args:
        net: the network, in whatever mode it is.
        x: the images.
        modules: what else to look at.
        recompute: forget what the backward pass needs and compute it again there (gradient checkpointing).
    """
    head = head_of(net)

    def run(x: Tensor) -> tuple[Tensor, ...]:
        features: list[Tensor] = []
        maps: list[Tensor] = []

        def keep_input(_module: nn.Module, given: tuple[Any, ...]) -> None:
            features.append(given[0].flatten(1))

        def keep_output(_module: nn.Module, _given: Any, out: Tensor) -> None:
            maps.append(out)

        hooks = [head.register_forward_pre_hook(keep_input)]
        hooks += [m.register_forward_hook(keep_output) for m in modules]
        try:
            logits = net(x)
        finally:
            for hook in hooks:
                hook.remove()
        return (logits, features[-1], *maps)

    out = checkpoint(run, x, use_reentrant=False) if recompute and x.requires_grad else run(x)
    logits, features, *maps = (t.float() if t.dtype in (torch.bfloat16, torch.float16) else t for t in out)
    return Seen(logits, features, tuple(maps))


def images_at_once(net: nn.Module, x: Tensor) -> int:
    """How many images to pass forward together so that it stays fast: up to 64, of 4 MB at the largest activation.

    Beyond, every buffer may be fresh memory that the system hands out page by page, unless the allocator happens to
    have kept one as large. On one core, where it had none, an image of 8x8 through 32 channels took 14 us in batches of
    32 to 96 and 27 us in those of 128; one of 28x28 160 us in 11 to 32 and 310 us in 64. On a GPU it is 1 GB, whatever
    the number.
    """
    largest = 1

    def keep(_module: nn.Module, _given: Any, out: Any) -> None:
        nonlocal largest
        if isinstance(out, Tensor):
            largest = max(largest, out.numel() * out.element_size())

    hooks = [m.register_forward_hook(keep) for m in net.modules()]
    was = net.training
    try:
        net.eval()
        with torch.no_grad():
            net(x[:1])
    finally:
        net.train(was)
        for hook in hooks:
            hook.remove()
    return max(8, min(64, int(4e6 // largest)) if x.device.type == "cpu" else int(1e9 // largest))
