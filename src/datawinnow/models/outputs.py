"""What a network returns -> logits: a tensor as it is, or the logits among the entries of a dict, tuple or object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from datawinnow.core.errors import ArgumentError


def select_logits(output: Any, classes: int = 0, *, name: str = "the model") -> Tensor:
    """The logits (b, classes) in what a network returned.

    A tensor is returned as it is. Otherwise the logits are the entry or attribute ``logits`` (transformers'
    ``ModelOutput``, torchvision's Inception), or the only two-dimensional tensor with as many columns as classes.

    Args:
        output: a tensor, or a mapping, tuple, list or object that holds one.
        classes: number of classes; 0 if unknown, and then any two-dimensional tensor may be the logits.
        name: of the network, for the error.

    Raises:
        ArgumentError: no entry, or several, can be the logits.

    >>> import torch
    >>> select_logits({"features": torch.zeros(2, 7), "out": torch.zeros(2, 3)}, classes=3).shape
    torch.Size([2, 3])
    """
    if isinstance(output, Tensor):
        return output
    entries: dict[str, Any] = {}
    if isinstance(output, Mapping):
        entries = {str(key): value for key, value in output.items()}
    elif isinstance(getattr(output, "logits", None), Tensor):
        entries = {"logits": output.logits}
    elif isinstance(output, (tuple, list)):
        entries = {str(position): value for position, value in enumerate(output)}
    if isinstance(entries.get("logits"), Tensor):
        return entries["logits"]  # type: ignore[no-any-return]
    candidates = [
        value
        for value in entries.values()
        if isinstance(value, Tensor) and value.ndim == 2 and (not classes or value.shape[1] == classes)
    ]
    if len(candidates) == 1:
        return candidates[0]
    shapes = ", ".join(
        f"{key} {tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__}"
        for key, value in entries.items()
    )
    count = "none" if not candidates else "several"
    raise ArgumentError(
        f"{name} must give logits of shape (batch, classes), got {type(output).__name__}"
        + (f" of {shapes}, of which {count} can be the logits" if entries else "")
        + ": return them under the name 'logits', or wrap the model in a module that returns only them"
    )


@contextmanager
def returns_logits(model: nn.Module, classes: int = 0) -> Iterator[None]:
    """Inside it, calling ``model`` returns its logits only; the model is unchanged afterwards."""
    handle = model.register_forward_hook(_hook(model, classes))
    try:
        yield
    finally:
        handle.remove()


def always_return_logits(model: nn.Module, classes: int = 0) -> nn.Module:
    """``model``, whose calls return its logits only from now on."""
    model.register_forward_hook(_hook(model, classes))
    return model


def _hook(model: nn.Module, classes: int) -> Any:
    # of a function with a name, so that the network can still be pickled
    return partial(_replace_output, classes=classes, name=f"the model {type(model).__name__}")


def _replace_output(_module: nn.Module, _args: Any, output: Any, *, classes: int, name: str) -> Tensor:
    return select_logits(output, classes, name=name)
