"""The reference networks, one architecture a file, named as in the papers; any `nn.Module` works as well."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from datawinnow.core.card import resolve
from datawinnow.core.errors import ArgumentError
from datawinnow.models.convnet import convnet
from datawinnow.models.mlp import mlp
from datawinnow.models.resnet import resnet18, resnet34, resnet50
from datawinnow.models.resnet_cifar import resnet8, resnet20
from datawinnow.models.vgg import vgg16_bn

MODELS: dict[str, Callable[..., nn.Module]] = {
    f.__name__: f for f in (mlp, convnet, resnet8, resnet20, resnet18, resnet34, resnet50, vgg16_bn)
}

__all__ = [
    "MODELS",
    "build",
    "choose",
    "convnet",
    "mlp",
    "resnet8",
    "resnet18",
    "resnet20",
    "resnet34",
    "resnet50",
    "vgg16_bn",
]


def choose(shape: tuple[int, ...], *, accelerator: bool) -> tuple[str, str]:
    """A network fit for examples of this shape, and one sentence that says why.

    Args:
        shape: shape of one example: (channels, height, width) of a picture, or (features,).
        accelerator: whether there is a GPU.

    Returns:
        Name in `MODELS`, sentence.
    """
    if len(shape) != 3:
        return "mlp", "an MLP, since the examples are vectors"
    side = max(shape[1:])
    if side <= 16:
        return "resnet8", f"ResNet-8, since pictures of {side} pixels need no more"
    if not accelerator:
        return (
            "resnet8",
            f"ResNet-8, small enough for {side} pixels without a GPU (--model resnet18 for the papers' network)",
        )
    return "resnet18", f"ResNet-18, the papers' network, for {side} pixels on a GPU"


def build(model: str | Callable[..., nn.Module], *, shape: tuple[int, ...], classes: int, **options: Any) -> nn.Module:
    """A fresh network by name, by ``"module:function"``, or by a callable that returns one.

    Args:
        model: a name in `MODELS`, ``"module:function"``, or a function. A function gets those of ``classes``,
            ``channels``, ``size``, ``features`` that its signature has.
        shape: shape of one example.
        classes: number of classes.
        options: passed on, for example ``width=32``.

    Raises:
        ArgumentError: unknown name, a module or function that is not there, or one that returns no `nn.Module`.
    """
    maker = _from_module(model) if isinstance(model, str) and ":" in model else resolve(model, MODELS, kind="model")
    facts: dict[str, Any] = {"classes": classes}
    if len(shape) == 3:
        facts |= {"channels": shape[0], "size": shape[1]}
    else:
        size = 1
        for side in shape:
            size *= side
        facts["features"] = size
    try:
        parameters = inspect.signature(maker).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    given = {k: v for k, v in facts.items() if k in parameters or open_ended}
    unknown = [k for k in options if k not in parameters and not open_ended]
    if unknown:
        have = ", ".join(k for k in parameters if k not in facts) or "none"
        raise ArgumentError(f"model {model!r} has no option {unknown[0]!r}; its options are: {have}")
    if len(shape) != 3 and "features" not in parameters and not open_ended and maker in MODELS.values():
        raise ArgumentError(f"model {model!r} takes pictures, but an example has shape {shape}; use --model mlp")
    network = maker(**given, **options)
    if not isinstance(network, nn.Module):
        raise ArgumentError(f"model {model!r} must return a torch.nn.Module, got {type(network).__name__}")
    return network


def _from_module(path: str) -> Callable[..., nn.Module]:
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ArgumentError(
            f"--model {path}: cannot import module {module_name!r} ({error}); it must be on the Python "
            "path (run from its folder, or set PYTHONPATH)"
        ) from error
    maker = getattr(module, name, None)
    if not callable(maker):
        raise ArgumentError(f"--model {path}: module {module_name!r} has no function {name!r}")
    return maker  # type: ignore[no-any-return]
