"""`MODELS`: the networks by name; `choose` picks one for the examples, `build` makes a fresh one."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from datawinnow.core.card import resolve
from datawinnow.core.errors import ArgumentError
from datawinnow.core.model_names import TEXT_MODELS
from datawinnow.models.alexnet import alexnet
from datawinnow.models.bag_of_embeddings import bag_of_embeddings
from datawinnow.models.convnet import convnet
from datawinnow.models.lenet import lenet
from datawinnow.models.mlp import mlp
from datawinnow.models.resnet import resnet8, resnet18, resnet20, resnet34, resnet50
from datawinnow.models.text_cnn import text_cnn
from datawinnow.models.vgg import vgg11, vgg16_bn
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
"""A function that returns a fresh network, by name."""


def choose(shape: tuple[int, ...], *, accelerator: bool, vocabulary: int | None = None) -> tuple[str, str]:
    """The default network for examples of a shape.

    Args:
        shape: shape of one example: (channels, height, width) of an image, (features,), or (length,) of a text.
        accelerator: whether a GPU is available.
        vocabulary: for texts: number of token ids.

    Returns:
        Name in `MODELS`, and a phrase that says why.
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
        vocabulary: for texts: number of token ids.
        tokenizer: for texts: the tokenizer that made the ids; ``""`` for datawinnow's own.
        options: of the network, for example ``width=32``.

    Raises:
        ArgumentError: an unknown name, module or function, a function that returns no `nn.Module`, or a network for
            another kind of examples.
    """
    if is_pretrained(model):
        return _build_pretrained(str(model), classes, tokenizer if vocabulary is not None else None, options)
    # No name in MODELS has a colon.
    by_path = isinstance(model, str) and ":" in model
    factory = _import_factory(str(model)) if by_path else resolve(model, MODELS, kind="model")
    try:
        parameters: Mapping[str, inspect.Parameter] = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # some callables written in C have no signature
        parameters = {}
    # A function with **kwargs gets every dimension and may ignore it.
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    dimensions = _dimensions(shape, classes, vocabulary)
    unknown = [name for name in options if name not in parameters and not takes_any]
    if unknown:
        valid = ", ".join(name for name in parameters if name not in dimensions) or "none"
        raise ArgumentError(f"model {model!r} has no option {unknown[0]!r}; its options are: {valid}")
    if factory in MODELS.values():
        _check_kind(model, parameters, shape, vocabulary)
    accepted = {name: value for name, value in dimensions.items() if name in parameters or takes_any}
    network = factory(**accepted, **options)
    if not isinstance(network, nn.Module):
        raise ArgumentError(f"model {model!r} must return a torch.nn.Module, got {type(network).__name__}")
    return network


def _dimensions(shape: tuple[int, ...], classes: int, vocabulary: int | None) -> dict[str, int]:
    """The arguments by which a network is fitted to the examples."""
    if vocabulary is not None:
        return {"classes": classes, "vocabulary": vocabulary, "length": shape[0]}
    if len(shape) == 3:
        return {"classes": classes, "channels": shape[0], "size": shape[1]}
    return {"classes": classes, "features": math.prod(shape)}


def _check_kind(
    model: Any, parameters: Mapping[str, inspect.Parameter], shape: tuple[int, ...], vocabulary: int | None
) -> None:
    """Raise if one of `MODELS` is for another kind of examples."""
    if vocabulary is not None and "vocabulary" not in parameters:
        raise ArgumentError(
            f"model {model!r} takes no texts: use --model {', '.join(TEXT_MODELS)} or hf:PATH (transformers)"
        )
    if vocabulary is None and "vocabulary" in parameters:
        raise ArgumentError(f"model {model!r} takes texts, but an example has shape {shape}; leave --model out")
    if vocabulary is None and len(shape) != 3 and "features" not in parameters:
        raise ArgumentError(f"model {model!r} takes images, but an example has shape {shape}; use --model mlp")


def _build_pretrained(name: str, classes: int, tokenizer: str | None, options: dict[str, Any]) -> nn.Module:
    from datawinnow.models.pretrained import pretrained

    if tokenizer is None:
        raise ArgumentError(f"model {name!r} takes texts, but the examples are no texts; leave --model out")
    if tokenizer != name:
        tokenized_by = f"by {tokenizer}" if tokenizer else "by datawinnow's own vocabulary"
        raise ArgumentError(
            f"model {name!r} takes token ids by its own tokenizer, but the texts were loaded {tokenized_by}: load them "
            f"with tokenizer={name!r} (--tokenizer {name})"
        )
    return pretrained(name, classes=classes, **options)


def _import_factory(path: str) -> Callable[..., nn.Module]:
    """The function of a ``"module:function"``."""
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ArgumentError(
            f"--model {path}: cannot import module {module_name!r} ({error}); it must be on the Python "
            "path (run from its folder, or set PYTHONPATH)"
        ) from error
    factory = getattr(module, name, None)
    if not callable(factory):
        raise ArgumentError(f"--model {path}: module {module_name!r} has no function {name!r}")
    return factory  # type: ignore[no-any-return]
