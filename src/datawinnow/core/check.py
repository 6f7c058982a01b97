"""Checks of arguments; an error names the argument, its value and what is allowed."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datawinnow.core.errors import ArgumentError

Missing = Literal["raise", "skip"]


def array(name: str, value: Any, axes: str) -> Tensor:
    """Return ``value`` as a floating tensor with the named axes, without a copy if possible.

    Args:
        name: the argument's name, for the error.
        value: tensor, numpy array (also memory-mapped) or nested list; half precision becomes float32.
        axes: comma-separated names of the axes, for example ``"epochs,n"``.

    Raises:
        ArgumentError: not numeric, another number of axes, or an axis of length 0.
    """
    tensor = as_tensor(name, value)
    # float32 at least: sums over epochs and squares of half precision lose digits or overflow
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    elif not tensor.is_floating_point():
        tensor = tensor.to(torch.float32)
    return _shaped(name, tensor, axes)


def matrix(name: str, value: Any, axes: str = "n,d", missing: Missing | None = None) -> Tensor:
    """Return ``value`` as a floating (n, d) tensor, a row an example, without NaN or infinity.

    Args:
        name: the argument's name, for the error.
        value: tensor, numpy array or nested list.
        axes: names of the two axes.
        missing: ``"skip"`` accepts rows with NaN; None where the caller has no such option.

    Raises:
        ArgumentError: another shape, or NaN or infinity, naming the example.
    """
    tensor = array(name, value, axes)
    # `finite` expects the example on the last axis
    finite(name, tensor.T, missing, inner="column")
    return tensor


def distributions(name: str, value: Any, missing: Missing | None = None) -> Tensor:
    """``value`` as a floating (n, c) tensor of probabilities whose rows sum to 1.

    Args:
        name: the argument's name, for the error.
        value: tensor, numpy array or nested list.
        missing: ``"skip"`` lets rows with NaN pass; None where the caller has no such option.

    Raises:
        ArgumentError: another shape, NaN (unless ``"skip"``), values outside [0, 1], or a row that sums to something
            else (0.02 of slack is for half precision), naming the example.
    """
    probs = matrix(name, value, "n,c", missing)
    # float64 copies of 2 MB at a time, about the cache of a core
    size = max(1, (1 << 18) // probs.shape[1])
    for first in range(0, probs.shape[0], size):
        block = probs[first : first + size].to(torch.float64)
        # 0.5 passes the check: `matrix` has accepted or refused NaN already
        probabilities(name, block.nan_to_num(nan=0.5).T, first)
        total = block.sum(dim=1)
        off = (total - 1).abs() > 0.02  # false for NaN
        if bool(off.any()):
            i = int(torch.nonzero(off)[0])
            raise ArgumentError(
                f"{name} must sum to 1 over the classes, got {float(total[i]):g} for example {first + i}: pass the "
                "softmax over all classes"
            )
    return probs


def bits(name: str, value: Any, axes: str) -> Tensor:
    """Return ``value`` as a bool tensor with the named axes; numbers must be 0 or 1.

    Raises:
        ArgumentError: other values, or another number of axes.
    """
    tensor = as_tensor(name, value)
    if tensor.dtype is not torch.bool:
        if not bool(((tensor == 0) | (tensor == 1)).all()):
            raise ArgumentError(f"{name} must hold only 0 and 1 (or be bool), got others of {tensor.dtype}")
        tensor = tensor.bool()
    return _shaped(name, tensor, axes)


MAX_CLASSES = 1 << 20
"""Class ids are below it: memory goes by the largest id, which may be a hash or the number of a product."""


def labels(name: str, value: Any, n: int | None = None, *, limit: int | None = MAX_CLASSES) -> Tensor:
    """Return ``value`` as int64 class ids of shape (n,).

    Args:
        name: of the argument, for errors.
        value: anything that converts to a tensor.
        n: number of examples; not checked by default.
        limit: ids must be below it; None for ids that are only compared.

    Raises:
        ArgumentError: not integers, negative, at or above ``limit``, or of another length.
    """
    tensor = as_tensor(name, value)
    if tensor.is_floating_point() or tensor.dtype is torch.bool or tensor.is_complex():
        raise ArgumentError(f"{name} must be integer class ids, got dtype {tensor.dtype}")
    tensor = _shaped(name, tensor.long(), "n")
    if bool((tensor < 0).any()):
        raise ArgumentError(
            f"{name} must be class ids of 0 and above, got {int(tensor.min())} at example {int(tensor.argmin())}"
        )
    if limit is not None and tensor.numel() and int(tensor.max()) >= limit:
        raise ArgumentError(
            f"{name} has the id {int(tensor.max())} at example {int(tensor.argmax())}, which must be below {limit:,}: "
            "number the classes from 0, as torch.unique(ids, return_inverse=True)[1] does"
        )
    if n is not None:
        # an empty tensor has the length to compare with
        same_n(**{name: tensor, "the others": torch.empty(n)})
    return tensor


def finite(name: str, tensor: Tensor, missing: Missing | None = None, *, inner: str = "epoch") -> None:
    """Raise for NaN or infinity in an array whose last axis is the example.

    Args:
        name: the argument's name, for the error.
        tensor: (n,) or (inner, n).
        missing: ``"skip"`` accepts NaN; None where the caller has no such option, which the error then does not name.
        inner: name of the other axis, for the error.

    Raises:
        ArgumentError: naming the first such example (and epoch).
    """
    if missing not in (None, "raise", "skip"):
        raise ArgumentError(f'missing must be "raise" or "skip", got {missing!r}')
    # a finite sum has finite terms: one pass and no mask of the array's size, which matters at 1.28M x 30
    # a sum that overflows is not finite either, and only costs the second pass below
    if bool(torch.isfinite(tensor.sum())):
        return
    bad = torch.isinf(tensor) if missing == "skip" else ~torch.isfinite(tensor)
    count = int(bad.sum())
    if not count:
        return
    first = [int(i) for i in torch.nonzero(bad)[0]]
    where = f"example {first[-1]}" + (f" in {inner} {first[0]}" if len(first) == 2 else "")
    kind = str(float(tensor[tuple(first)]))
    is_option = missing is not None and kind == "nan"
    hint = (
        'examples not seen are NaN: pass missing="skip" to leave such entries out' if is_option else "fill such values"
    )
    raise ArgumentError(f"{name} is {kind} for {where} ({count} such entries); {hint}")


def probabilities(name: str, tensor: Tensor, first: int = 0) -> None:
    """Raise for values outside [0, 1]: logits passed as probabilities give a plausible but wrong result.

    Args:
        name: the argument's name, for the error.
        tensor: (..., n) without NaN.
        first: id of the first example, if the tensor is a block of a larger one.

    Raises:
        ArgumentError: naming the first such example; 1e-3 beyond the interval is accepted, for half precision.
    """
    low, high = torch.aminmax(tensor)
    if float(low) >= -1e-3 and float(high) <= 1.001:
        return
    bad = (tensor < -1e-3) | (tensor > 1.001)
    at = [int(i) for i in torch.nonzero(bad)[0]]
    raise ArgumentError(
        f"{name} must hold probabilities in [0, 1], got {float(tensor[tuple(at)]):g} for example {first + at[-1]}: "
        "give softmax outputs, not logits"
    )


def same_n(**arrays: Tensor) -> int:
    """Number of examples (last axis) of all arrays.

    Raises:
        ArgumentError: the numbers differ.
    """
    sizes = {name: int(a.shape[-1]) for name, a in arrays.items()}
    if len(set(sizes.values())) != 1:
        raise ArgumentError(
            "these arrays must have the same number of examples: "
            + ", ".join(f"{name} has {size}" for name, size in sizes.items())
        )
    return next(iter(sizes.values()))


def number(name: str, value: Any, low: float, high: float, *, integer: bool = False) -> Any:
    """Return ``value`` if it is a number in [low, high], and an integer if ``integer``.

    Raises:
        ArgumentError: it is not.
    """
    kinds = int if integer else (int, float)
    # bool is a subclass of int
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        word = "a whole number" if integer else "a number"
        raise ArgumentError(f"{name} must be {word} in [{low:g}, {high:g}], got {value!r}")
    return value


def one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """Return ``value`` if it is one of ``allowed``.

    Raises:
        ArgumentError: it is not.
    """
    if value not in allowed:
        raise ArgumentError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def seed(name: str, value: Any) -> int:
    """Return ``value`` if it is an integer of 0 and above, below 2^63.

    Raises:
        ArgumentError: it is not.
    """
    return int(number(name, value, 0, 2**63 - 1, integer=True))


def generator(value: Any) -> torch.Generator:
    """Return ``value`` if it is a `torch.Generator`.

    Raises:
        ArgumentError: it is something else, such as a seed or a numpy generator.
    """
    if not isinstance(value, torch.Generator):
        raise ArgumentError(
            f"generator must be a torch.Generator, got {value!r}; make one by purpose with "
            'datawinnow.stream(seed, "select")'
        )
    return value


def as_tensor(name: str, value: Any) -> Tensor:
    """Return ``value`` as a detached tensor of its own dtype, without a copy if possible.

    Raises:
        ArgumentError: not numeric.
    """
    if isinstance(value, Tensor):
        return value.detach()
    try:
        array_ = np.asarray(value)
        # bool, signed, unsigned and floating numbers; dates, objects and complex numbers are refused here by
        # name
        if array_.dtype.kind not in "biuf":
            raise TypeError(f"dtype {array_.dtype}")
        with warnings.catch_warnings():  # torch warns of read-only memory, such as a memory map
            warnings.simplefilter("ignore", UserWarning)
            # from_numpy refuses negative strides, as of a reversed view
            # reshape: ascontiguousarray makes a single number an array of one
            return torch.from_numpy(np.ascontiguousarray(array_)).reshape(array_.shape)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name} must be an array of numbers, got {type(value).__name__} ({error})") from None


def _shaped(name: str, tensor: Tensor, axes: str) -> Tensor:
    names = axes.split(",")
    shown = "(" + ", ".join(names) + ("," if len(names) == 1 else "") + ")"
    if tensor.ndim != len(names):
        raise ArgumentError(f"{name} must have shape {shown}, got {tuple(tensor.shape)}")
    for axis, size in zip(names, tensor.shape, strict=True):
        if size == 0:
            contents = "examples" if axis == "n" else axis
            raise ArgumentError(f"{name} holds no {contents}: its shape is {tuple(tensor.shape)}")
    return tensor
