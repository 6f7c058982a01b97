"""What all condensers share: options declared and described once, and the decorator that adds them to a method."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from datawinnow.core.card import card, check_options
from datawinnow.core.synthetic import Synthetic

F = TypeVar("F", bound=Callable[..., Synthetic])


class Shared(TypedDict, total=False):
    """Options of every condenser; `ABOUT` describes them, `DEFAULTS` holds their defaults."""

    mean: Sequence[float] | None
    std: Sequence[float] | None
    classes: Sequence[str]
    momentum: float
    device: str
    precision: str
    chunk: int | None
    at_once: int | None
    recompute: bool
    checkpoint: Path | str | None
    every: int | None
    on_iteration: Callable[[int, float | None, Callable[[], Synthetic]], None] | None
    progress: Callable[[str, int, int], None] | None


DEFAULTS: dict[str, Any] = {
    "mean": None,
    "std": None,
    "classes": (),
    "momentum": 0.5,
    "device": "auto",
    "precision": "fp32",
    "chunk": None,
    "at_once": None,
    "recompute": False,
    "checkpoint": None,
    "every": None,
    "on_iteration": None,
    "progress": None,
}
ABOUT = {
    "images": "(n, channels, height, width) uint8 images, normalised by ``mean`` and ``std``, or floating numbers "
    "that are normalised already. Any size that the network takes.",
    "labels": "(n,) int class ids from 0, every class with an image.",
    "per_class": "synthetic images of every class.",
    "build": "a function without arguments that returns a fresh network, (b, channels, height, width) -> (b, classes) "
    "logits, whose last `torch.nn.Linear` gets its features; called under a seed of its own.",
    "generator": "CPU `torch.Generator`; one number is drawn from it, the seed of everything.",
    "iterations": "outer iterations.",
    "real_batch": "real images of every class a step; all of a class that has fewer.",
    "lr": "learning rate of the pixels; tied to sums over features (2,048 in the papers), so a network of many more or "
    "fewer wants another (an MLP in DC and DSA: 0.01). DM: None for 1, or 10 from 100 images a class on (with fewer "
    "than 100 classes).",
    "init": '``"real"`` begins with random real images, ``"noise"`` with N(0, 1).',
    "augment": "done to real and synthetic images alike and in training: an `Augmentation`, a strategy such as "
    '``"color_crop_cutout_scale_rotate"`` (no flip: for digits), or None to switch it off.',
    "mean": "per channel of pixels in [0, 1]; None measures it of uint8 images.",
    "std": "likewise.",
    "classes": "names of the classes, for files.",
    "momentum": "of the pixels, in [0, 1).",
    "device": '``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``.',
    "precision": '``"bf16"`` runs forward passes of features in bfloat16, means and pixels stay float32; not for '
    "methods that match gradients.",
    "chunk": "real images a forward pass; None as many as stay in cache. Changes speed and rounding only.",
    "at_once": "classes whose graph is held together; None for all, on CPUs as many as stay in cache. Fewer need less "
    "memory; the same but for rounding. CAFE holds them all: its discrimination is between classes.",
    "recompute": "compute activations of the synthetic images again in the backward pass instead of holding them "
    "(gradient checkpointing); not for methods that match gradients, where ``at_once=1`` saves what can be saved.",
    "checkpoint": "file to write now and then and, if it is there, to go on from: the images are then the same to the "
    "byte (same machine kind and threads).",
    "every": "iterations between two checkpoints; None for one a minute.",
    "on_iteration": "called as ``on_iteration(done, loss, synthetic)`` at the start (loss None) and after each "
    "iteration; ``synthetic()`` gives the images as they are then.",
    "progress": "called as ``progress(what, done, total)`` after each iteration.",
    "net_lr": "learning rate of the networks, where they are trained.",
    "net_batch": "images a step of those; IDM: real ones, None for the paper's.",
    "outer": "matching steps a network, T; None by images a class: 1 at 1, 10 at 10, ... 50 at 50.",
    "inner": "epochs on the images between two of them; None likewise: 1, 50 at 10, 25 at 20, ... 10 at 50.",
    "metric": '``"rows"``, 1 - cosine summed over rows of weights, biases and norms left out (the paper); '
    '``"mse"`` and ``"cos"`` of all parameters.',
    "together": "gradients of all classes in one pass, or one after the other; None for what is faster.",
    "layers": "names of the layers whose outputs are matched, shallow to deep; None for every activation module.",
    "shallow": "weight of all of those but the last, whose weight is 1.",
    "discriminate": "weight of the loss of real features classified by the synthetic mean features.",
    "still": "lambda_1: a network is done when the range of its last ``window`` accuracies is below this, in [0, 1].",
    "moves": "lambda_2: it is trained on the images until that range is above this, in [0, 1].",
    "window": "accuracies looked at.",
    "query": "fresh real images of every class that an accuracy is measured on.",
    "outer_most": "steps of the images a network at most.",
    "inner_most": "epochs on the images between two steps at most; where accuracy stays flat, the published loop "
    "has no end.",
    "factor": "l: each image holds l x l tiles, enlarged before use; 1 for none. None for the paper's: 2, and 1 at 50 "
    "images a class of 128 pixels and more.",
    "ce_weight": "weight of the regulariser, times the network's accuracy in percent (0 to 100); None for the paper's: "
    "0.5, 0.1, 0.8 or 3 by dataset and images a class.",
    "first": "networks in the queue at the start.",
    "most": "networks at most; None for 100, and 50 at 128 pixels and more.",
    "push_every": "iterations after which a fresh network comes in; None for the paper's: 5, 30 or 50.",
    "trained": "networks trained on real images an iteration.",
    "steps": "steps of each; None for the paper's: 10 or 50.",
    "net_momentum": "of the networks.",
    "weight_decay": "of the networks.",
    "reset_every": "iterations after which the networks' accuracies are counted anew.",
}
EXAMPLE = """
>>> import torch
>>> from datawinnow import condense, models
>>> x, y, build = torch.rand(8, 1, 8, 8), torch.arange(8) % 2, lambda: models.mlp(classes=2)
>>> made = condense.{name}(x, y, per_class=1, build=build, generator=torch.Generator(), iterations=1)
>>> made.images.shape, made.labels.tolist()
(torch.Size([2, 1, 8, 8]), [0, 1])"""
RAISES = """ArgumentError: a class with fewer images than ``per_class`` begins from, images that the network cannot
        take, an unknown option or one out of range.
    DivergedError: the loss is no longer a number; it holds the last good images, saved beside the ``checkpoint`` too.
    RunError: a checkpoint of another run or data; the disk is full."""


def condenser(name: str, source: str, *, cost: str) -> Callable[[F], F]:
    """Make a function a condenser: with the shared options, their descriptions, and a card.

    Args:
        name: the name that people use.
        source: paper and section.
        cost: time and memory in words.
    """

    def attach(function: F) -> F:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        extra = [inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY, default=v) for k, v in DEFAULTS.items()]

        @functools.wraps(function)
        def method(images: Any, labels: Any, **options: Any) -> Synthetic:
            check_options(method, options)
            return function(images, labels, **{**DEFAULTS, **options})

        method.__signature__ = signature.replace(parameters=[*own, *extra])  # type: ignore[attr-defined]
        doc = described(inspect.getdoc(function) or "", [p.name for p in [*own, *extra]])
        method.__doc__ = doc and f"{doc.rstrip()}\n{EXAMPLE.format(name=function.__name__)}\n"
        return card("condenser", name, source, cost=cost)(method)  # type: ignore[return-value]

    return attach


def described(doc: str, names: Sequence[str]) -> str:
    """A docstring whose Args and Raises are whole: every option is described once, in `ABOUT`."""
    if not doc:  # python -OO
        return doc
    head, _, rest = doc.partition("\nReturns:\n")
    entries = "\n".join(f"    {name}: {ABOUT[name]}" for name in names)
    returns, _, rest = rest.partition("\nReferences:\n")
    return f"{head}\nArgs:\n{entries}\n\nReturns:\n{returns.rstrip()}\n\nRaises:\n    {RAISES}\n\nReferences:\n{rest}"
