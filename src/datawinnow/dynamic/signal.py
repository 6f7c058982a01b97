"""The signal that a policy ranks by: the loss, or another number that a training step has anyhow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic.policy import State
from datawinnow.dynamic.state import get_int, validate_signal

HIGH_IS_EASY = {"p_label": 1.0, "correct": 1.0, "margin_softmax": 1.0, "margin_top2": 1.0, "margin": 0.0}
"""Signals that are high for easy examples, and what they are subtracted from: policies rank the hard ones high."""
INPUT_SIZE = "input_size"
"""Size of the inputs, of `datawinnow.train.size_schedule`, that the signals of an example were computed at."""


class SignalNeeds:
    """``needs`` of a policy with the option ``signal``: of the class with ``"loss"``, of a policy with its signal.

    A policy whose ``on_resize`` is not ``"keep"`` needs the size of the inputs as well.

    Args:
        further: further signals that the policy needs.
    """

    def __init__(self, *further: str) -> None:
        self.further = further

    def __get__(self, policy: Any, owner: Any = None) -> tuple[str, ...]:
        if policy is None:
            return ("loss", *self.further)
        sizes = (INPUT_SIZE,) if getattr(policy, "on_resize", "keep") != "keep" else ()
        return tuple(dict.fromkeys((policy.signal, *self.further, *sizes)))


def check_signal(name: str) -> None:
    """Raise unless ``name`` can be the name of a signal.

    Raises:
        ArgumentError: it is none.
    """
    if not isinstance(name, str) or not name.isidentifier() or name in ("index", INPUT_SIZE):
        raise ArgumentError(
            "signal must be the name of a number observed of each example, such as 'loss' or 'error_norm', got "
            f"{name!r}"
        )


def observed_hardness(state: State, index: Any, name: str, signals: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """(m,) ids and (m,) float32 values of the signal ``name``, high for hard examples, validated.

    Raises:
        ArgumentError: as `validate_signal`.
        MissingArrayError: the signal was not observed.
    """
    ids, values = validate_signal(get_int(state, "n"), index, name, signals)
    return ids, HIGH_IS_EASY[name] - values if name in HIGH_IS_EASY else values
