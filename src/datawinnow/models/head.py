"""Finds the head of a network, the linear layer whose output are the logits, by running the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.core.errors import ArgumentError

WITHOUT_HEAD = "a backbone without a head can be probed as torch.nn.Sequential(backbone, torch.nn.Identity()), head='1'"


@dataclass(frozen=True)
class Head:
    """The layer that takes the features and returns the logits.

    Attributes:
        name: dotted name in the model.
        module: the layer.
        logits: whether the logits are its output instead of the model's.
        linear: whether the last layer's gradient follows from features and probabilities.
        notes: remarks for the user.
    """

    name: str
    module: nn.Module
    logits: bool = False
    linear: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Call:
    name: str
    module: nn.Module
    output: Any


class Tapped(nn.Module):
    """A model that returns logits, and remembers the input of its head.

    Attributes:
        model: the model.
        head: of it.
        features: (b, ...) last input of the head, if ``remember`` is set.
        remember: whether to keep it.
    """

    def __init__(self, model: nn.Module, head: Head) -> None:
        super().__init__()
        self.model = model
        self.head_name, self.from_head = head.name, head.logits
        self.remember = False
        self.features: Tensor | None = None
        self._out: Any = None

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, c) of x (b, ...)."""
        returned = self.model(x.clone())  # a model that works in place must not change the caller's batch
        logits = self._out if self.from_head else returned
        self._out = None
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
            shown = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ArgumentError(
                f"the model {type(self.model).__name__} must give logits of shape ({len(x)}, classes) for {len(x)} "
                f"examples, got {shown}: wrap it in a module that returns them alone"
            )
        return logits

    def take_features(self, count: int) -> Tensor:
        """(count, d) features of the last call, which are then released.

        Raises:
            ArgumentError: the head did not run, or not once per example.
        """
        features, self.features = self.features, None
        if features is None:
            raise ArgumentError(f"the head {self.head_name!r} did not run: pass another head=")
        if features.ndim < 2 or len(features) != count:
            raise ArgumentError(
                f"the head {self.head_name!r} got an input of shape {tuple(features.shape)} for {count} examples, so "
                "its rows are not the examples: pass another head="
            )
        return features.flatten(1)

    def note_call(self, inputs: Any, output: Any) -> None:
        """Keep the input and output of the head."""
        if self.remember:
            # a clone: the layers after may work in place; the last call wins
            self.features = inputs.clone() if isinstance(inputs, Tensor) else None
        if self.from_head:
            # copied: the model may go on in place
            self._out = output.clone() if isinstance(output, Tensor) else output


@contextmanager
def tapped(model: nn.Module, head: Head) -> Iterator[Tapped]:
    """``model`` with a hook on ``head``, which is removed at the end."""
    tap = Tapped(model, head)

    def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        # a head may be called by keyword
        tap.note_call(args[0] if args else next(iter(kwargs.values()), None), output)

    handle = head.module.register_forward_hook(hook, with_kwargs=True)
    try:
        yield tap
    finally:
        handle.remove()


@torch.no_grad()
def find_head(model: nn.Module, x: Tensor, head: nn.Module | str | None = None) -> Head:
    """The head of ``model``: the last linear layer to run whose output is what the model returns.

    The last to run is not the last registered: a network may run its layers in another order. A ``head`` that is
    passed may be any module. If it is a linear layer, the logits are its output even where the model changes them
    afterwards, so that features, probabilities and the last layer's gradient fit together.

    Args:
        model: the network, in the mode in which it is probed.
        x: (b, ...) a few examples.
        head: the layer or its dotted name, for networks whose head cannot be found.

    Raises:
        ArgumentError: no head is found, or ``head`` is not a module of the model; the error says what to pass.
    """
    chosen = None if head is None else _module_of(model, head)
    candidates = {
        name: module
        for name, module in model.named_modules()
        if (isinstance(module, nn.Linear) if chosen is None else module is chosen[1])
    }
    returned, calls = _run_with_hooks(model, x, candidates)
    if chosen is None:
        return _head_of_calls(model, returned, calls)
    name, module = chosen
    if not calls:
        raise ArgumentError(
            f"head={name!r} does not run in the model {type(model).__name__}; it runs {_linears(model)}"
        )
    if not isinstance(module, nn.Linear):
        return Head(name, module, linear=False, notes=(f"the head {name!r} is not a linear layer",))
    if _equal_values(calls[-1].output, returned):
        return Head(name, module, notes=_repeated_call_notes(name, calls))
    note = f"the logits are the output of the head {name!r}, which is not what the model returns"
    return Head(name, module, logits=True, notes=(note, *_repeated_call_notes(name, calls)))


def _module_of(model: nn.Module, head: nn.Module | str) -> tuple[str, nn.Module]:
    modules = dict(model.named_modules())
    if isinstance(head, str):
        if head not in modules or head == "":
            raise ArgumentError(
                f"head={head!r} is not a module of the model {type(model).__name__}; it has {_linears(model)}"
            )
        return head, modules[head]
    for name, module in modules.items():
        if module is head and name:
            return name, module
    shown = type(head).__name__
    raise ArgumentError(
        f"head= must be a module inside the model {type(model).__name__} or its dotted name, got a {shown} that is not "
        f"in it; it has {_linears(model)}"
    )


def _run_with_hooks(model: nn.Module, x: Tensor, modules: dict[str, nn.Module]) -> tuple[Any, list[_Call]]:
    calls: list[_Call] = []

    def listener(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            # copied: the model may change it in place afterwards
            calls.append(_Call(name, module, output.clone() if isinstance(output, Tensor) else output))

        return hook

    handles = [module.register_forward_hook(listener(name)) for name, module in modules.items()]
    try:
        return model(x.clone()), calls
    finally:
        for handle in handles:
            handle.remove()


def _head_of_calls(model: nn.Module, returned: Any, calls: list[_Call]) -> Head:
    kind = type(model).__name__
    if not isinstance(returned, Tensor) or returned.ndim != 2:
        shown = tuple(returned.shape) if isinstance(returned, Tensor) else type(returned).__name__
        raise ArgumentError(
            f"the model {kind} must give logits of shape (batch, classes), got {shown}: wrap it in a module that "
            "returns them alone, or pass head= the linear layer whose output they are"
        )
    if not calls:
        raise ArgumentError(
            f"the model {kind} runs no torch.nn.Linear, so its head cannot be found: pass head= the module (or its "
            f"dotted name) whose input are the features. {WITHOUT_HEAD[0].upper()}{WITHOUT_HEAD[1:]}"
        )
    # from the last: an earlier layer may happen to give the same numbers
    for call in reversed(calls):
        if _equal_values(call.output, returned):
            return Head(
                call.name, call.module, notes=_repeated_call_notes(call.name, [c for c in calls if c.name == call.name])
            )
    last = calls[-1].name
    raise ArgumentError(
        f"what the model {kind} returns is the output of none of its linear layers (the last to run is {last!r}): "
        f"something comes after. Pass head={last!r} to take its output for the logits, or head= another module (or its "
        "dotted name) whose input are the features"
    )


def _equal_values(output: Any, returned: Any) -> bool:
    """Whether two tensors hold the same numbers, whatever their shape and type."""
    if not isinstance(output, Tensor) or not isinstance(returned, Tensor) or output.numel() != returned.numel():
        return False
    # a model may squeeze its output or cast it back from bf16
    flat = output.to(returned.dtype).reshape(returned.shape)
    # no tolerance: a layer close to the logits is not the head
    return torch.allclose(flat, returned, rtol=0, atol=0, equal_nan=True)


def _repeated_call_notes(name: str, calls: list[_Call]) -> tuple[str, ...]:
    if len(calls) < 2:
        return ()
    return (
        f"the head {name!r} runs {len(calls)} times: the last call counts, and its gradient has more terms than one",
    )


def _linears(model: nn.Module) -> str:
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        return "no linear layer"
    return "the linear layers " + ", ".join(names[-5:]) if len(names) > 1 else f"the linear layer {names[0]}"
