"""Scores that somebody has computed already, one number an example: checked and given back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError


def norms(name: str, value: Any, missing: check.Missing) -> Tensor:
    """A copy of an (n,) array of norms or distances.

    Args:
        name: the argument's name, for the error.
        value: (n,) float, 0 or above.
        missing: ``"skip"`` lets NaN pass.

    Raises:
        ArgumentError: another shape, NaN (unless ``"skip"``), infinity, or a negative number, naming the example.
    """
    values = check.array(name, value, "n")
    check.finite(name, values, missing)
    negative = values < 0
    if bool(negative.any()):
        i = int(torch.nonzero(negative)[0])
        raise ArgumentError(
            f"{name} must be 0 or above, as a norm is, got {float(values[i]):g} for example {i}: give it without a "
            "sign or a logarithm"
        )
    return values.clone()
