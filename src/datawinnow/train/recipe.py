"""`Recipe`: how to train."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import did_you_mean
from datawinnow.core.errors import ArgumentError
from datawinnow.train.objective import Objective, PerExample
from datawinnow.train.precision import check_precision
from datawinnow.train.schedule import schedule_of
from datawinnow.train.size_schedule import SizeSchedule

OPTIONAL_FIELDS: Mapping[str, Any] = {
    "size_schedule": None,
    "loss": None,
    "metric": None,
    "similar_lengths": True,
    "augment_strength": 0.0,
    "freeze": (),
    "lr_scale": {},
    "cache_features": False,
}
"""Fields that are left out of ``run.json`` at these values, their defaults."""


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are those of the CIFAR runs in the DUAL paper (arXiv 2502.06905).

    Attributes:
        batch: examples a step; the batches of an epoch differ in size by one at most.
        lr: learning rate at its peak; None for 0.1 with SGD and 0.001 with AdamW.
        optimizer: ``"sgd"`` (Nesterov) or ``"adamw"``.
        momentum: of SGD.
        weight_decay: on all parameters with SGD, decoupled with AdamW.
        schedule: ``"cosine"``, ``"one_cycle"``, ``"constant"``, or a function of progress in [0, 1].
        reduction: of weighted losses over a batch: ``"mean"`` is sum(w l) / b, whose step grows with the weights that a
            batch happens to hold; ``"self_normalised"`` is sum(w l) / sum(w), whose step does not (as DeepCore trains
            on weighted coresets). The same where all weights are one.
        label_smoothing: share of the target spread over all classes.
        focal: gamma of the focal loss, (1 - p)^gamma times the cross-entropy -log p (arXiv 1708.02002, equation 4; no
            class weights): examples that are learned weigh less, none is left out. 0 for the cross-entropy. Recorders
            and policies get the cross-entropy either way.
        curvature: weight of the mean input curvature added to the loss (SLo-Curves): the norm of CURE's direction
            (arXiv 1811.09716), not squared, differentiated through both gradients; 0 for none. A step then costs
            several times as much.
        curvature_h: distance from the input at which its second gradient is taken, in normalised pixels.
        loss: ``loss(outputs, y)``, one loss an example (b,), in place of the cross-entropy: of what the network
            returns, and of y as the dataset has it, such as numbers, several labels an example or masks. Weights of a
            selection multiply it, and policies observe it. Without classes ``loss`` alone is recorded.
        metric: ``metric(outputs, y)``, one number an example (b,), whose mean is reported in place of the accuracy;
            without it the accuracy is NaN where y are no class ids.
        precision: ``"fp32"``, ``"bf16"``, or ``"auto"`` to take whichever is faster, measured.
        channels_last: memory format of images; None, with ``precision="auto"``, to take whichever is faster.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
        workers: processes of the DataLoader, for data that needs one.
        compile: run the network through `torch.compile`.
        size_schedule: train on smaller inputs first; None for full size throughout. A dict of its attributes is taken
            too.
        similar_lengths: deal texts of similar length into a batch, so that little is padded: the shuffled texts of 50
            batches at a time are sorted by length. An example is trained on once an epoch either way.
        augment_strength: of RandAugment's operations on training images (colour, shear, translation, rotation,
            cut-out), beside crop and flip, in [0, 1]; 0 for none. With a size schedule it rises with the size, from
            0 at the smallest (EfficientNetV2, arXiv 2104.00298).
        freeze: names of modules (or parameters) that are not trained, as ``["layer1"]`` or, of a transformers model,
            ``["embeddings", "encoder.layer.0"]``; ``"backbone"`` is everything but the head. Their batch norms keep
            their statistics.
        lr_scale: factors on the learning rate by such names, as ``{"backbone": 0.1}``; where several cover a parameter
            the longest counts.
        cache_features: where all but the head is frozen, pass the examples through the network once, without
            augmentation, and train the head on the features.

    Raises:
        ArgumentError: an attribute out of range.
    """

    batch: int = 128
    lr: float | None = None
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str | Callable[[float], float] = "cosine"
    reduction: str = "mean"
    label_smoothing: float = 0.0
    focal: float = 0.0
    curvature: float = 0.0
    curvature_h: float = 3.0
    loss: PerExample | None = None
    metric: PerExample | None = None
    precision: str = "auto"
    channels_last: bool | None = None
    device: str = "auto"
    workers: int = 2
    compile: bool = False
    size_schedule: SizeSchedule | None = None
    similar_lengths: bool = True
    augment_strength: float = 0.0
    freeze: Sequence[str] = ()
    lr_scale: Mapping[str, float] = field(default_factory=dict)
    cache_features: bool = False

    def __post_init__(self) -> None:
        check.number("batch", self.batch, 1, 1 << 20, integer=True)
        check.one_of("optimizer", self.optimizer, ("sgd", "adamw"))
        check.one_of("reduction", self.reduction, ("mean", "self_normalised"))
        if self.lr is not None:
            check.number("lr", self.lr, 1e-12, 1e6)
        check.number("momentum", self.momentum, 0, 1)
        check.number("weight_decay", self.weight_decay, 0, 1e6)
        check.number("label_smoothing", self.label_smoothing, 0, 1)
        check.number("focal", self.focal, 0, 100)
        if self.focal and self.label_smoothing:
            raise ArgumentError("focal and label_smoothing change the same loss: set one of them to 0")
        for name in ("loss", "metric"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise ArgumentError(f"{name} must be a function of outputs and targets, got {getattr(self, name)!r}")
        for name in ("label_smoothing", "focal", "curvature") if self.loss is not None else ():
            if getattr(self, name):
                raise ArgumentError(f"{name} changes the cross-entropy: with a loss of your own, make it part of that")
        check.number("curvature", self.curvature, 0, 1e6)
        check.number("augment_strength", self.augment_strength, 0, 1)
        check.number("curvature_h", self.curvature_h, 1e-12, 1e6)
        check.number("workers", self.workers, 0, 1024, integer=True)
        check_precision(self.precision)
        check.one_of("channels_last", self.channels_last, (None, True, False))
        if not isinstance(self.device, str):
            raise ArgumentError(f"device must be a text such as 'auto', 'cpu' or 'cuda:1', got {self.device!r}")
        check.one_of("similar_lengths", self.similar_lengths, (True, False))
        schedule_of(self.schedule)
        # a table in TOML and JSON
        size_schedule: Any = self.size_schedule
        if size_schedule is not None:
            object.__setattr__(self, "size_schedule", _size_schedule(size_schedule))
        freeze: Any = self.freeze
        object.__setattr__(self, "freeze", (freeze,) if isinstance(freeze, str) else tuple(freeze))
        object.__setattr__(self, "lr_scale", dict(self.lr_scale))
        for name in (*self.freeze, *self.lr_scale):
            if not isinstance(name, str) or not name:
                raise ArgumentError(f"freeze and lr_scale take names of modules, got {name!r}")
        for name, factor in self.lr_scale.items():
            check.number(f"lr_scale of {name!r}", factor, 1e-12, 1e6)
        if self.cache_features and not self.freeze:
            raise ArgumentError("`cache_features=True` is of frozen layers: add `freeze='backbone'`")
        if self.cache_features and (self.size_schedule is not None or self.curvature):
            raise ArgumentError("cache_features keeps no inputs: leave it, or size_schedule and curvature, out")
        if self.size_schedule is not None and self.curvature:
            raise ArgumentError("curvature is of inputs of full size: train without size_schedule, or curvature=0")

    @property
    def peak_lr(self) -> float:
        """The learning rate at its peak: ``lr``, or the default of the optimizer."""
        return self.lr if self.lr is not None else {"sgd": 0.1, "adamw": 1e-3}[self.optimizer]

    @property
    def objective(self) -> Objective:
        """What is minimised and what is reported."""
        return Objective(self.loss, self.metric, self.label_smoothing)

    def losses(self, cross_entropy: Tensor) -> Tensor:
        """(b,) losses to train on, from the (b,) cross-entropies, before any weight."""
        if not self.focal:
            return cross_entropy
        # not below 1e-12: a power below 1 has an infinite slope at 0
        return (-torch.expm1(-cross_entropy)).clamp_min(1e-12).pow(self.focal) * cross_entropy

    def metadata(self) -> dict[str, Any]:
        """The fields as JSON can hold them: functions by their names; `OPTIONAL_FIELDS` only at other values."""
        fields = {
            k: v if not callable(v) else getattr(v, "__name__", type(v).__name__) for k, v in asdict(self).items()
        }
        # run folders without these are the same as before there were any
        return {k: v for k, v in fields.items() if k not in OPTIONAL_FIELDS or v != OPTIONAL_FIELDS[k]}


def _size_schedule(value: Any) -> SizeSchedule:
    """A schedule as it is, or of its attributes in a table, as TOML has it."""
    if isinstance(value, SizeSchedule):
        return value
    if not isinstance(value, Mapping):
        raise ArgumentError(f"size_schedule must be a SizeSchedule, got {value!r}: give SizeSchedule(start=16)")
    for name in value:
        check.one_of("size_schedule", name, tuple(SizeSchedule.__dataclass_fields__))
    return SizeSchedule(**value)


def check_recipe(options: dict[str, Any]) -> dict[str, Any]:
    """Return ``options`` if each is a field of `Recipe`.

    Raises:
        ArgumentError: an unknown name.
    """
    for name in options:
        if name not in Recipe.__dataclass_fields__:
            fields = ", ".join(Recipe.__dataclass_fields__)
            guess = did_you_mean(name, Recipe.__dataclass_fields__)
            raise ArgumentError(f"fit has no option {name!r}; how to train is set by: {fields}.{guess}")
    return options
