"""`MODELS`: the networks by name; `choose` picks one for the examples, `build` makes a fresh one."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from datawinnow.core.card import resolve, unknown_option
from datawinnow.core.errors import ArgumentError
from datawinnow.core.import_function import import_function
from datawinnow.core.model_names import TEXT_MODELS
from datawinnow.core.normalisation import Normalisation
from datawinnow.models.alexnet import alexnet
from datawinnow.models.bag_of_embeddings import bag_of_embeddings
from datawinnow.models.convnet import convnet
from datawinnow.models.lenet import lenet
from datawinnow.models.mlp import mlp
from datawinnow.models.outputs import always_return_logits
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
        return (
            "text_cnn",
            "a text CNN (Kim 2014), since the examples are texts (`model='hf:PATH'` for a pretrained one)",
        )
    if len(shape) != 3:
        return "mlp", "an MLP, since the examples are vectors"
    side = max(shape[1:])
    if side <= 16:
        return "resnet8", f"ResNet-8, since images of {side} pixels need no more"
    if not accelerator:
        return (
            "resnet8",
            f"ResNet-8, small enough for {side} pixels without a GPU (`model='resnet18'` for the papers' network)",
        )
    return "resnet18", f"ResNet-18, the papers' network, for {side} pixels on a GPU"


DIMENSION_NAMES = {
    "classes": ("num_classes", "n_classes"),
    "channels": ("in_channels", "in_chans"),
    "size": ("image_size", "img_size"),
    "features": ("in_features",),
    "vocabulary": ("vocab_size",),
}
"""Other names by which functions of users and of libraries take the dimensions of the examples."""


def build(
    model: str | Callable[..., nn.Module] | nn.Module,
    *,
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int | None = None,
    tokenizer: str = "",
    normalisation: Normalisation | None = None,
    **options: Any,
) -> nn.Module:
    """A fresh network by name, by ``"module:function"``, by ``"hf:PATH"``, by a class or function, or a copy of one.

    What the network returns may be logits, or a dict, tuple or object that holds them (`models.outputs`).

    Args:
        model: a name in `MODELS`, ``"module:function"``, the weights of a transformers model, a class or function, or a
            network. A class or function gets those of ``classes``, ``channels``, ``size`` (``(height, width)`` if the
            sides differ), ``features`` (for texts ``vocabulary`` and ``length``) that its signature has, also under the
            names of `DIMENSION_NAMES`. A network is copied with its weights: every training then starts from them,
            whatever its seed.
        shape: shape of one example.
        classes: number of classes.
        vocabulary: for texts: number of token ids.
        tokenizer: for texts: the tokenizer that made the ids; ``""`` for datawinnow's own.
        normalisation: for images: how they were normalised, for a pretrained model; None for images as they are.
        options: of the network, for example ``width=32``.

    Raises:
        ArgumentError: an unknown name, module or function, a function that returns no `nn.Module` or needs an argument
            that is not given, options of a network that is built already, or a network for another kind of examples.
    """
    if isinstance(model, nn.Module):
        return always_return_logits(_copied(model, options), classes)
    if is_pretrained(model):
        if vocabulary is None:
            return _build_pretrained_images(str(model), shape, classes, normalisation, options)
        return _build_pretrained(str(model), classes, tokenizer, options)
    # No name in MODELS has a colon.
    by_path = isinstance(model, str) and ":" in model
    factory = import_function(str(model), "model") if by_path else resolve(model, MODELS, kind="model")
    try:
        parameters: Mapping[str, inspect.Parameter] = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # some callables written in C have no signature
        parameters = {}
    # A function with **kwargs gets every dimension and may ignore it.
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    dimensions = _dimensions(shape, classes, vocabulary)
    for name, synonyms in DIMENSION_NAMES.items():
        present = [synonym for synonym in synonyms if synonym in parameters]
        if name in dimensions and name not in parameters and present:
            dimensions[present[0]] = dimensions.pop(name)
    unknown = [name for name in options if name not in parameters and not takes_any]
    if unknown:
        raise unknown_option(f"model {model!r}", unknown[0], [name for name in parameters if name not in dimensions])
    if factory in MODELS.values():
        by_data = sorted(set(options) & set(dimensions))
        if by_data:
            raise ArgumentError(f"model {model!r}: {by_data[0]} follows from the data and is no option")
        _check_kind(model, parameters, shape, vocabulary)
    accepted = {name: value for name, value in dimensions.items() if name in parameters or takes_any}
    accepted |= options
    missing = [
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and name not in accepted
    ]
    if missing:
        raise ArgumentError(
            f"model {name_of_model(model)} needs {', '.join(missing)}, which the examples (shape {tuple(shape)}, "
            f"{classes} classes) do not tell: give `model_options={{{missing[0]!r}: ...}}`, or a "
            "function without arguments that returns the network"
        )
    try:
        network = factory(**accepted)
    except (TypeError, ValueError, OverflowError, RuntimeError, MemoryError) as error:
        # of a function of the user's the traceback says more
        if factory not in MODELS.values() or not options or isinstance(error, ArgumentError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise ArgumentError(f"model {model!r} cannot be built with the options {options}: {reason}") from error
    if not isinstance(network, nn.Module):
        raise ArgumentError(f"model {name_of_model(model)} must return a torch.nn.Module, got {type(network).__name__}")
    return network if factory in MODELS.values() else always_return_logits(network, classes)


def name_of_model(model: Any) -> str:
    """A name or ``"module:function"`` as it is; the name of a class or function; a network's class."""
    if isinstance(model, str):
        return model
    return str(getattr(model, "__name__", type(model).__name__))


def _copied(network: nn.Module, options: Mapping[str, Any]) -> nn.Module:
    """A copy of the user's network, which stays as it is."""
    name = type(network).__name__
    if options:
        raise ArgumentError(
            f"model_options {sorted(options)} are for a class, a function or a name, but this {name} is built already: "
            f"give model={name}"
        )
    try:
        return copy.deepcopy(network)
    except Exception as error:  # a network may hold anything, such as open files
        raise ArgumentError(
            f"the network {name} cannot be copied ({error}): give a class or a function that returns one, as "
            f"model=lambda: {name}(...)"
        ) from error


def _dimensions(shape: tuple[int, ...], classes: int, vocabulary: int | None) -> dict[str, Any]:
    """The arguments by which a network is fitted to the examples."""
    if vocabulary is not None:
        return {"classes": classes, "vocabulary": vocabulary, "length": shape[0]}
    if len(shape) == 3:
        size = shape[1] if shape[1] == shape[2] else tuple(shape[1:])
        return {"classes": classes, "channels": shape[0], "size": size}
    return {"classes": classes, "features": math.prod(shape)}


def check_model_name(model: Any) -> None:
    """Refuse a name that is of no network, without its dataset; ``"module:function"`` and hf: are looked up later.

    Raises:
        ArgumentError: no network is called so.
    """
    if isinstance(model, str) and ":" not in model:
        resolve(model, MODELS, kind="model")


def _check_kind(
    model: Any, parameters: Mapping[str, inspect.Parameter], shape: tuple[int, ...], vocabulary: int | None
) -> None:
    """Raise if one of `MODELS` is for another kind of examples."""
    if vocabulary is not None and "vocabulary" not in parameters:
        raise ArgumentError(
            f"model {model!r} does not take texts: use `model='{TEXT_MODELS[0]}'`, "
            f"{', '.join(TEXT_MODELS[1:])} or hf:PATH (transformers)"
        )
    if vocabulary is None and "vocabulary" in parameters:
        raise ArgumentError(f"model {model!r} takes texts, but an example has shape {shape}; leave `model=` out")
    if vocabulary is None and len(shape) != 3 and "features" not in parameters:
        raise ArgumentError(f"model {model!r} takes images, but an example has shape {shape}; use `model='mlp'`")


def _build_pretrained_images(
    name: str, shape: tuple[int, ...], classes: int, normalisation: Normalisation | None, options: dict[str, Any]
) -> nn.Module:
    from datawinnow.models.pretrained import pretrained_images

    if len(shape) != 3:
        raise ArgumentError(
            f"model {name!r} takes images or texts, but an example has shape {shape}; leave `model=` out"
        )
    return pretrained_images(name, classes=classes, size=shape[1:], normalisation=normalisation, **options)


def _build_pretrained(name: str, classes: int, tokenizer: str, options: dict[str, Any]) -> nn.Module:
    from datawinnow.models.pretrained import pretrained

    if tokenizer != name:
        tokenized_by = f"by {tokenizer}" if tokenizer else "with the vocabulary of the training texts"
        raise ArgumentError(
            f"model {name!r} takes the token ids of its tokenizer, but the texts were tokenized {tokenized_by}: load "
            f"them with `tokenizer={name!r}`"
        )
    return pretrained(name, classes=classes, **options)
