"""The options of condensers: one dataclass, one description each, and the decorator that adds the shared ones."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from datawinnow.condense.augment import Augmentation
from datawinnow.core import check
from datawinnow.core.card import card, check_options
from datawinnow.core.progress import Progress
from datawinnow.core.synthetic import Synthetic

OnIteration = Callable[[int, float | None, Callable[[], Synthetic]], None]
"""Called as ``on_iteration(done, loss, synthetic)``; ``synthetic()`` builds the current set."""
Condenser = TypeVar("Condenser", bound=Callable[..., Synthetic])


class SharedKeywords(TypedDict, total=False):
    """The keyword arguments that every condenser takes: the fields of `SharedOptions`, for type checkers."""

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
    on_iteration: OnIteration | None
    progress: Progress | None


@dataclass(frozen=True, kw_only=True)
class SharedOptions:
    """Options that every condenser takes, with their defaults; `DESCRIPTIONS` describes them."""

    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    classes: Sequence[str] = ()
    momentum: float = 0.5
    device: str = "auto"
    precision: str = "fp32"
    chunk: int | None = None
    at_once: int | None = None
    recompute: bool = False
    checkpoint: Path | str | None = None
    every: int | None = None
    on_iteration: OnIteration | None = None
    progress: Progress | None = None


@dataclass(frozen=True, kw_only=True)
class CondenseOptions(SharedOptions):
    """All options of one condensation, apart from its networks and its objective.

    Attributes:
        method: key of the method, for the record.
        per_class: synthetic images of every class.
        iterations: outer iterations.
        real_batch: real images of every class in a step.
        lr: learning rate of the pixels.
        init: ``"real"`` or ``"noise"``.
        augment: of real and synthetic images alike.
        factor: l; each stored image holds l x l tiles.
        in_turns: step the pixels class after class instead of all at once (IDM).
        halve_at: shares of the iterations after which the learning rate is halved.
        together: whether the gradients of all classes are taken in one pass; None chooses.

    Raises:
        ArgumentError: an option out of range.
    """

    method: str
    per_class: int
    iterations: int
    real_batch: int
    lr: float
    init: str
    augment: Augmentation | str | None
    factor: int = 1
    in_turns: bool = False
    halve_at: Sequence[float] = ()
    together: bool | None = None

    def __post_init__(self) -> None:
        check.number("iterations", self.iterations, 1, 1 << 40, integer=True)
        check.number("real_batch", self.real_batch, 1, 1 << 40, integer=True)
        check.number("lr", self.lr, 0, 1e9)
        check.number("momentum", self.momentum, 0, 0.9999)
        check.one_of("precision", self.precision, ("fp32", "bf16"))
        for name in ("chunk", "at_once", "every"):
            if getattr(self, name) is not None:
                check.number(name, getattr(self, name), 1, 1 << 40, integer=True)


DESCRIPTIONS = {
    "images": "(n, channels, height, width) uint8 images, normalised by ``mean`` and ``std``, or floating-point images "
    "that are already normalised. Any size that the network accepts.",
    "labels": "(n,) int class ids from 0; every class needs an image.",
    "per_class": "synthetic images of every class.",
    "build": "a function without arguments that returns a fresh network, (b, channels, height, width) -> (b, classes) "
    "logits; the input of its last `torch.nn.Linear` is its features. Called under a random seed of its own.",
    "generator": "CPU `torch.Generator`; one number is drawn from it as the seed of the condensation.",
    "iterations": "outer iterations.",
    "real_batch": "real images of every class in a step; all images of a class with fewer.",
    "lr": "learning rate of the pixels. It scales with sums over features (2,048 in the papers), so networks with many "
    "more or fewer features need another (an MLP in DC and DSA: 0.01). DM: None for 1, or 10 from 100 images a class "
    "on with fewer than 100 classes.",
    "init": '``"real"`` starts from random real images, ``"noise"`` from N(0, 1).',
    "augment": "augmentation of real and synthetic images alike and in training: an `Augmentation`, a strategy such as "
    '``"color_crop_cutout_scale_rotate"`` (without flip, for digits), or None for none.',
    "mean": "mean per channel of pixels in [0, 1]; None measures it on uint8 images.",
    "std": "standard deviation per channel; as ``mean``.",
    "classes": "names of the classes, for files.",
    "momentum": "momentum of the pixels, in [0, 1).",
    "device": '``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``.',
    "precision": '``"bf16"`` runs forward passes of features in bfloat16; means and pixels stay float32. Not for '
    "methods that match gradients.",
    "chunk": "real images in a forward pass; None for as many as fit the cache. Changes speed and rounding only.",
    "at_once": "classes whose graph is held at the same time; None for all, on CPUs as many as fit the cache. Fewer "
    "need less memory and give the same result but for rounding. CAFE holds all: it discriminates between classes.",
    "recompute": "recompute activations of the synthetic images in the backward pass instead of storing them "
    "(gradient checkpointing). Not for methods that match gradients; use ``at_once=1`` there.",
    "checkpoint": "file to write checkpoints to and, if it exists, to resume from. A resumed condensation gives the "
    "same bytes (same kind of machine and number of threads).",
    "every": "iterations between two checkpoints; None for one a minute.",
    "on_iteration": "called as ``on_iteration(done, loss, synthetic)`` at the start (loss None) and after each "
    "iteration; ``synthetic()`` returns the current set.",
    "progress": "called as ``progress(stage, done, total)`` after each iteration.",
    "net_lr": "learning rate of the networks.",
    "net_batch": "images in a training step of the networks; IDM: real ones, None for the paper's.",
    "outer": "matching steps of a network, T; None for the paper's: 1 at 1 image a class, 10 at 10, ... 50 at 50.",
    "inner": "epochs on the images between two steps; None for the paper's: 1, 50 at 10, 25 at 20, ... 10 at 50.",
    "metric": '``"rows"``: 1 - cosine summed over rows of weights, without biases and norms (the paper); '
    '``"mse"`` or ``"cos"`` over all parameters.',
    "together": "take the gradients of all classes in one pass, or one after the other; None for the faster.",
    "layers": "names of the layers whose outputs are matched, shallow to deep; None for every activation module.",
    "shallow": "weight of every layer but the last, whose weight is 1.",
    "discriminate": "weight of the loss of real features classified by the synthetic mean features.",
    "still": "lambda_1: a network is left when the range of its last ``window`` accuracies is below this, in [0, 1].",
    "moves": "lambda_2: it is trained on the images until that range is above this, in [0, 1].",
    "window": "number of accuracies compared.",
    "query": "fresh real images of every class on which an accuracy is measured.",
    "outer_most": "maximal number of matching steps of a network.",
    "inner_most": "maximal number of epochs on the images between two steps; the published loop does not end while "
    "accuracy stays flat.",
    "factor": "l: each image holds l x l tiles, enlarged before use; 1 for none. None for the paper's: 2, or 1 at 50 "
    "images a class of 128 pixels and more.",
    "ce_weight": "weight of the regulariser, multiplied by the network's accuracy in percent (0 to 100); None for the "
    "paper's: 0.5, 0.1, 0.8 or 3 by dataset and images a class.",
    "first": "number of networks in the queue at the start.",
    "most": "maximal number of networks in the queue; None for 100, or 50 from 128 pixels on.",
    "push_every": "iterations between two new networks; None for the paper's: 5, 30 or 50.",
    "trained": "number of networks trained on real images in an iteration.",
    "steps": "training steps of each; None for the paper's: 10 or 50.",
    "net_momentum": "momentum of the networks.",
    "weight_decay": "weight decay of the networks.",
    "reset_every": "iterations after which the networks' accuracy counts are reset; None for the paper's: 100 to 1000 "
    "by dataset and images a class.",
}
"""The description of every parameter of a condenser, by name."""
EXAMPLE = """
>>> import torch
>>> from datawinnow import condense, models
>>> x, y, build = torch.rand(8, 1, 8, 8), torch.arange(8) % 2, lambda: models.mlp(classes=2)
>>> synthetic = condense.{name}(x, y, per_class=1, build=build, generator=torch.Generator(), iterations=1)
>>> synthetic.images.shape, synthetic.labels.tolist()
(torch.Size([2, 1, 8, 8]), [0, 1])"""
RAISES = """ArgumentError: a class with too few images to start from, images that the network cannot take, an unknown
        option or one out of range.
    DivergedError: the loss is not finite; it holds the last finite images, saved beside ``checkpoint`` too.
    RunError: a checkpoint of another run or dataset; the disk is full."""


def condenser(
    name: str, source: str, *, cost: str, keywords: type = SharedKeywords, options: type[SharedOptions] = SharedOptions
) -> Callable[[Condenser], Condenser]:
    """Make a function a condenser: complete its signature and docstring with the shared options, and attach a card.

    Args:
        name: the method's name in the literature.
        source: paper and section.
        cost: time and memory in big-O.
        keywords: the type of the function's ``**`` parameter; its names complete the signature, the shared ones last.
        options: a dataclass with the defaults of these names.
    """
    shared = list(SharedKeywords.__annotations__)
    names = [*(name for name in keywords.__annotations__ if name not in shared), *shared]
    by_name = {field.name: field for field in fields(options)}

    def attach(function: Condenser) -> Condenser:
        signature = inspect.signature(function)
        parameters = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        parameters += [
            inspect.Parameter(
                option,
                inspect.Parameter.KEYWORD_ONLY,
                default=by_name[option].default,
                annotation=by_name[option].type,
            )
            for option in names
        ]

        @functools.wraps(function)
        def method(images: Any, labels: Any, **kwargs: Any) -> Synthetic:
            check_options(method, kwargs)
            return function(images, labels, **kwargs)

        # help(), documentation and the command line read the options from the signature.
        method.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        doc = _complete_docstring(inspect.getdoc(function) or "", [p.name for p in parameters])
        method.__doc__ = doc and f"{doc.rstrip()}\n{EXAMPLE.format(name=function.__name__)}\n"
        return card("condenser", name, source, cost=cost)(method)  # type: ignore[return-value]

    return attach


def _complete_docstring(doc: str, names: Sequence[str]) -> str:
    """A docstring of summary, Returns and References with Args (from `DESCRIPTIONS`) and Raises added."""
    if not doc:  # python -OO strips docstrings
        return doc
    summary, _, rest = doc.partition("\nReturns:\n")
    returns, _, references = rest.partition("\nReferences:\n")
    args = "\n".join(f"    {name}: {DESCRIPTIONS[name]}" for name in names)
    return (
        f"{summary}\nArgs:\n{args}\n\nReturns:\n{returns.rstrip()}\n\nRaises:\n    {RAISES}\n\n"
        f"References:\n{references}"
    )
