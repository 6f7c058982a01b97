"""The reference networks, one architecture a file, named as in the papers; any `nn.Module` works as well."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from datawinnow.core.card import resolve
from datawinnow.core.errors import ArgumentError
from datawinnow.models.alexnet import alexnet
from datawinnow.models.bag_of_embeddings import bag_of_embeddings
from datawinnow.models.convnet import convnet
from datawinnow.models.lenet import lenet
from datawinnow.models.mlp import mlp
from datawinnow.models.resnet import resnet18, resnet34, resnet50
from datawinnow.models.resnet_cifar import resnet8, resnet20
from datawinnow.models.text_cnn import text_cnn
from datawinnow.models.vgg import vgg16_bn
from datawinnow.models.vgg11 import vgg11
from datawinnow.models.vit import vit, vit_base, vit_small, vit_tiny
from datawinnow.text.pretrained import is_pretrained

MODELS: dict[str, Callable[..., nn.Module]] = {
    f.__name__: f
    for f in (
        mlp,
        convnet,
        resnet8,
        resnet20,
        resnet18,
        resnet34,
        resnet50,
        vgg16_bn,
        vgg11,
        alexnet,
        lenet,
        vit,
        vit_tiny,
        vit_small,
        vit_base,
        text_cnn,
        bag_of_embeddings,
    )
}

__all__ = [
    "MODELS",
    "alexnet",
    "bag_of_embeddings",
    "build",
    "choose",
    "convnet",
    "lenet",
    "mlp",
    "resnet8",
    "resnet18",
    "resnet20",
    "resnet34",
    "resnet50",
    "text_cnn",
    "vgg11",
    "vgg16_bn",
    "vit",
    "vit_base",
    "vit_small",
    "vit_tiny",
]


def choose(shape: tuple[int, ...], *, accelerator: bool, vocabulary: int | None = None) -> tuple[str, str]:
    """A network fit for examples of this shape, and one sentence that says why.

    Args:
        shape: shape of one example: (channels, height, width) of an image, (features,), or (length,) of a text.
        accelerator: whether there is a GPU.
        vocabulary: for texts: their token ids are below it.

    Returns:
        Name in `MODELS`, sentence.
    """
    if vocabulary is not None:
        return "text_cnn", "a text CNN (Kim 2014), since the examples are texts (--model hf:PATH for a pretrained one)"
    if len(shape) != 3:
        return "mlp", "an MLP, since the examples are vectors"
    side = max(shape[1:])
    if side <= 16:
        return "resnet8", f"ResNet-8, since images of {side} pixels need no more"
    if not accelerator:
        return (
            "resnet8",
            f"ResNet-8, small enough for {side} pixels without a GPU (--model resnet18 for the papers' network)",
        )
    return "resnet18", f"ResNet-18, the papers' network, for {side} pixels on a GPU"


def build(
    model: str | Callable[..., nn.Module],
    *,
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int | None = None,
    tokenizer: str = "",
    **options: Any,
) -> nn.Module:
    """A fresh network by name, by ``"module:function"``, by ``"hf:PATH"``, or by a callable that returns one.

    Args:
        model: a name in `MODELS`, ``"module:function"``, the weights of a transformers model, or a function. A function
            gets those of ``classes``, ``channels``, ``size``, ``features`` (for texts ``vocabulary`` and ``length``)
            that its signature has.
        shape: shape of one example.
        classes: number of classes.
        vocabulary: for texts: their token ids are below it.
        tokenizer: for texts: whose ids they are; ``""`` for our own.
        options: passed on, for example ``width=32``.

    Raises:
        ArgumentError: unknown name, a module or function that is not there, one that returns no `nn.Module`, or a
            network for another kind of examples.
    """
    if is_pretrained(model):
        return _pretrained(str(model), classes, tokenizer if vocabulary is not None else None, options)
    maker = _from_module(model) if isinstance(model, str) and ":" in model else resolve(model, MODELS, kind="model")
    metadata = _facts(shape, classes, vocabulary)
    try:
        parameters = inspect.signature(maker).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    given = {k: v for k, v in metadata.items() if k in parameters or open_ended}
    unknown = [k for k in options if k not in parameters and not open_ended]
    if unknown:
        have = ", ".join(k for k in parameters if k not in metadata) or "none"
        raise ArgumentError(f"model {model!r} has no option {unknown[0]!r}; its options are: {have}")
    if maker in MODELS.values() and not open_ended:
        _check_kind(model, parameters, shape, vocabulary)
    network = maker(**given, **options)
    if not isinstance(network, nn.Module):
        raise ArgumentError(f"model {model!r} must return a torch.nn.Module, got {type(network).__name__}")
    return network


def _facts(shape: tuple[int, ...], classes: int, vocabulary: int | None) -> dict[str, Any]:
    """What a network may be told of the examples."""
    if vocabulary is not None:
        return {"classes": classes, "vocabulary": vocabulary, "length": shape[0]}
    if len(shape) == 3:
        return {"classes": classes, "channels": shape[0], "size": shape[1]}
    size = 1
    for side in shape:
        size *= side
    return {"classes": classes, "features": size}


def _check_kind(model: Any, parameters: Any, shape: tuple[int, ...], vocabulary: int | None) -> None:
    """Refuse a network of ours that is for another kind of examples."""
    if vocabulary is not None and "vocabulary" not in parameters:
        raise ArgumentError(
            f"model {model!r} takes no texts: use --model text_cnn, bag_of_embeddings or hf:PATH (transformers)"
        )
    if vocabulary is None and "vocabulary" in parameters:
        raise ArgumentError(f"model {model!r} takes texts, but an example has shape {shape}; leave --model out")
    if vocabulary is None and len(shape) != 3 and "features" not in parameters:
        raise ArgumentError(f"model {model!r} takes images, but an example has shape {shape}; use --model mlp")


def _pretrained(name: str, classes: int, tokenizer: str | None, options: dict[str, Any]) -> nn.Module:
    from datawinnow.models.pretrained import pretrained

    if tokenizer is None:
        raise ArgumentError(f"model {name!r} takes texts, and the examples are none; leave --model out")
    if tokenizer != name:
        by = f"by {tokenizer}" if tokenizer else "by datawinnow's own vocabulary"
        raise ArgumentError(
            f"model {name!r} takes token ids by its own tokenizer, but the texts were loaded {by}: load them with "
            f"tokenizer={name!r} (--tokenizer {name})"
        )
    return pretrained(name, classes=classes, **options)


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
