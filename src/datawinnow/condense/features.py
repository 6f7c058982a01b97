"""Forward passes that return features and feature maps beside the logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from datawinnow.core.counts import a_type
from datawinnow.core.errors import ArgumentError
from datawinnow.core.module_mode import restore_mode

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh, nn.ELU)


@dataclass(frozen=True)
class NetworkOutput:
    """The outputs of a network on b images.

    Attributes:
        logits: (b, classes).
        features: (b, d), the input of the last linear layer.
        maps: outputs (b, ...) of the requested modules, in the order in which they ran.
    """

    logits: Tensor
    features: Tensor
    maps: tuple[Tensor, ...] = ()


def last_linear(net: nn.Module) -> nn.Linear:
    """The last linear layer.

    Raises:
        ArgumentError: there is none.
    """
    layers = [m for m in net.modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise ArgumentError(
            f"build() returned {a_type(net)} without a linear layer: features are the input of the last "
            "nn.Linear; end the network in one"
        )
    return layers[-1]


def matched_modules(net: nn.Module, layers: Sequence[str] | None) -> list[nn.Module]:
    """The modules whose outputs CAFE matches: those named, or all activations.

    Raises:
        ArgumentError: an unknown name, or a network without activation modules.
    """
    if layers is not None:
        modules = dict(net.named_modules())
        for name in layers:
            if name not in modules:
                raise ArgumentError(f"layers names {name!r}, but the network has: {', '.join(n for n in modules if n)}")
        return [modules[name] for name in layers]
    activations: list[nn.Module] = [m for m in net.modules() if isinstance(m, ACTIVATIONS)]
    if not activations:
        raise ArgumentError(
            f"{a_type(net)} has no activation module (nn.ReLU ...) to match: name its layers, "
            "layers=['layer1', 'layer2']"
        )
    return activations


def forward_with_features(
    net: nn.Module, x: Tensor, modules: Sequence[nn.Module] = (), *, recompute: bool = False
) -> NetworkOutput:
    """One forward pass of (b, channels, height, width) images.

    Args:
        net: the network, in its current mode.
        x: the images.
        modules: modules whose outputs are returned as maps.
        recompute: recompute activations in the backward pass instead of storing them (gradient checkpointing).
    """
    head = last_linear(net)

    def run(x: Tensor) -> tuple[Tensor, ...]:
        features: list[Tensor] = []
        maps: list[Tensor] = []

        def keep_input(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            # A pre-hook: the input of the head is the features, however the network computes it.
            features.append(inputs[0].flatten(1))

        def keep_output(_module: nn.Module, _inputs: Any, out: Tensor) -> None:
            maps.append(out)

        hooks = [head.register_forward_pre_hook(keep_input)]
        hooks += [m.register_forward_hook(keep_output) for m in modules]
        try:
            logits = net(x)
        finally:
            for hook in hooks:
                hook.remove()
        return (logits, features[-1], *maps)

    # The hooks are registered inside `run`, so that they act in the recomputation too; the reentrant form does not
    # support torch.autograd.grad.
    out = checkpoint(run, x, use_reentrant=False) if recompute and x.requires_grad else run(x)
    # Means over many images in bfloat16 would lose what is matched.
    logits, features, *maps = (t.float() if t.dtype in (torch.bfloat16, torch.float16) else t for t in out)
    return NetworkOutput(logits, features, tuple(maps))


def images_per_pass(net: nn.Module, x: Tensor) -> int:
    """The number of images in a fast forward pass: on CPUs up to 64 with a largest activation of 4 MB, on GPUs 1 GB.

    Larger buffers may be fresh memory, which the system maps page by page. Measured on one core with a cold allocator,
    an image of 8x8 through 32 channels took 14 us in batches of 32 to 96 and 27 us in batches of 128; one of 28x28 took
    160 us in batches of 11 to 32 and 310 us in batches of 64.
    """
    largest = 1

    def keep(_module: nn.Module, _inputs: Any, out: Any) -> None:
        nonlocal largest
        if isinstance(out, Tensor):
            largest = max(largest, out.numel() * out.element_size())

    hooks = [m.register_forward_hook(keep) for m in net.modules()]
    try:
        # Every module's mode is restored: DC's matching step comes next, on batch norms that were frozen for it.
        with restore_mode(net), torch.no_grad():
            net.eval()(x[:1])
    finally:
        for hook in hooks:
            hook.remove()
    # Never fewer than 8, where the fixed cost of a pass dominates.
    return max(8, min(64, int(4e6 // largest)) if x.device.type == "cpu" else int(1e9 // largest))
