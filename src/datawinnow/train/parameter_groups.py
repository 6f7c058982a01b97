"""Which parameters a training changes, and how fast: layers that are frozen, learning rates by layer."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from datawinnow.core.card import did_you_mean
from datawinnow.core.errors import ArgumentError
from datawinnow.core.module_mode import restore_mode
from datawinnow.core.rng import forked
from datawinnow.models.head import find_head
from datawinnow.models.outputs import returns_logits
from datawinnow.train.flops import flops_per_example

BACKBONE = "backbone"
"""All parameters but those of the head, unless a module has this name."""


@dataclass(frozen=True)
class ParameterGroups:
    """The parameters that a recipe freezes, and those that it trains at another learning rate.

    Attributes:
        frozen: those that the recipe freezes, and that the user had not frozen.
        lr_scale: factors on the learning rate, of the parameters that have one.
    """

    frozen: tuple[nn.Parameter, ...] = ()
    lr_scale: Mapping[nn.Parameter, float] = field(default_factory=dict)

    def freeze(self) -> None:
        """Exclude ``frozen`` from gradients."""
        for parameter in self.frozen:
            parameter.requires_grad_(False)

    def unfreeze(self) -> None:
        """Undo `freeze`."""
        for parameter in self.frozen:
            parameter.requires_grad_(True)

    @contextmanager
    def unfrozen_at_the_end(self) -> Iterator[None]:
        """The network is as it was afterwards, also after an error."""
        try:
            yield
        finally:
            self.unfreeze()

    def split(self, parameters: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
        """Groups for an optimizer: parameters of one factor, which is the group's ``lr_scale``."""
        factors: dict[float, list[nn.Parameter]] = {}
        for parameter in parameters:
            factors.setdefault(self.lr_scale.get(parameter, 1.0), []).append(parameter)
        return [{"params": group, "lr_scale": factor} for factor, group in factors.items()]


def parameter_groups(
    model: nn.Module, x: Tensor, *, freeze: Sequence[str], lr_scale: Mapping[str, float], classes: int, seed: int
) -> ParameterGroups:
    """The groups of a network.

    Args:
        model: the network, on the device of ``x``.
        x: (b, ...) a few examples, to find the head by.
        freeze: names of modules or parameters, as ``"layer1"`` or ``"bert.encoder.layer.0"``; ``"backbone"`` is all but
            the head. Of a transformers model the name of the base model may be left out.
        lr_scale: factors by such names; the longest name that covers a parameter counts.
        classes: number of classes; 0 if unknown.
        seed: of the weights of lazy layers.

    Raises:
        ArgumentError: a name that no parameter has, a head that is not found, everything frozen, or a factor for
            frozen parameters only.
    """
    if not freeze and not lr_scale:
        return ParameterGroups()
    parameters = dict(model.named_parameters(remove_duplicate=False))
    names = {name: _covered(model, name, parameters) for name in (*freeze, *lr_scale)}
    if names.get(BACKBONE) == []:
        head = _head_name(model, x, classes, seed)
        # lazy layers have weights of their own only now
        parameters = dict(model.named_parameters(remove_duplicate=False))
        names[BACKBONE] = [name for name in parameters if not name.startswith(f"{head}.")]
    for option, options in (("freeze", freeze), ("lr_scale", lr_scale)):
        for name in options:
            if not names[name]:
                raise ArgumentError(_unknown_name(option, name, model, parameters))
    frozen = {parameters[covered]: None for name in freeze for covered in names[name]}
    trained = [p for p in parameters.values() if p.requires_grad and p not in frozen]
    if not trained:
        raise ArgumentError(
            f"`freeze={list(freeze)!r}` leaves nothing to train in the model {type(model).__name__}: leave its head out"
        )
    scales: dict[nn.Parameter, float] = {}
    # a longer name is more specific; "backbone" is the least
    for name in sorted(lr_scale, key=lambda name: 0 if name == BACKBONE else len(name)):
        covered = {parameters[each] for each in names[name]}
        if covered.isdisjoint(trained):
            raise ArgumentError(f"`lr_scale={{{name!r}: ...}}` is for frozen parameters only: leave it out")
        scales |= dict.fromkeys(covered, float(lr_scale[name]))
    return ParameterGroups(tuple(p for p in frozen if p.requires_grad), scales)


def relative_cost(model: nn.Module, x: Tensor, flops: float) -> float:
    """Operations of training on an example over those of training the whole network.

    Args:
        model: the network, some of whose parameters may be frozen.
        x: (b, ...) a few examples.
        flops: operations of training on an example, as it is; 0 if they cannot be counted.

    Returns:
        1 where nothing is frozen or it cannot be counted.
    """
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    if not frozen or not flops:
        return 1.0
    trial = copy.deepcopy(model)
    for parameter in trial.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    full = math.fsum(flops_per_example(trial, x))
    return flops / full if full else 1.0


def describe_groups(model: nn.Module, relative: float) -> str:
    """How much of a network is frozen in a sentence, and what a step costs."""
    parameters = list(model.parameters())
    count = sum(p.numel() for p in parameters)
    frozen = sum(p.numel() for p in parameters if not p.requires_grad)
    return (
        f"frozen: {frozen:,} of {count:,} parameters; a step costs {100 * relative:.3g}% of one that trains all of them"
    )


def _covered(model: nn.Module, name: str, parameters: Mapping[str, Any]) -> list[str]:
    """The parameters below a name, which may leave out the wrapper and the base model of transformers."""
    base = str(getattr(model, "base_model_prefix", ""))
    prefixes = getattr(model, "name_prefixes", ("", f"{base}.") if base else ("",))
    for prefix in prefixes:
        start = prefix + name
        covered = [each for each in parameters if each == start or each.startswith(f"{start}.")]
        if covered:
            return covered
    return []


def _head_name(model: nn.Module, x: Tensor, classes: int, seed: int) -> str:
    lazy = any(isinstance(p, UninitializedParameter) for p in model.parameters())
    try:
        # as `check_outputs` initialises lazy layers
        with forked(seed, "weights" if lazy else "flops"), torch.no_grad(), restore_mode(model):
            model.eval()
            with returns_logits(model, classes):
                return find_head(model, x).name
    except ArgumentError as error:
        raise ArgumentError(
            f"{BACKBONE!r} is all parameters but those of the head, which is not found: {error}. Name the modules "
            "instead, as `freeze=['layer1', 'layer2']`"
        ) from error


def _unknown_name(option: str, name: str, model: nn.Module, parameters: Mapping[str, Any]) -> str:
    modules = [each for each, module in model.named_modules() if each and any(True for _ in module.parameters())]
    top = list(dict.fromkeys(each.split(".")[0] for each in parameters))
    if len(top) == 1:  # a wrapper: what is inside
        top = list(dict.fromkeys(".".join(each.split(".")[:2]) for each in parameters))
    value = f"[{name!r}]" if option == "freeze" else f"{{{name!r}: ...}}"
    return (
        f"`{option}={value}`: the model {type(model).__name__} has no module or parameter {name!r}; it has "
        f"{', '.join(top[:12])}{', ...' if len(top) > 12 else ''}, and {BACKBONE!r} is all but the head."
        f"{did_you_mean(name, [*modules, BACKBONE])}"
    )
