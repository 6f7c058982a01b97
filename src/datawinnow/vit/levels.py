"""`SparseLevels`: the levels of "Peeling the Onion" that a training runs under, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from datawinnow.core.budget import parse_fraction
from datawinnow.core.card import unknown_option
from datawinnow.core.errors import ArgumentError
from datawinnow.vit.schedule import KeepSchedule
from datawinnow.vit.sparsify import PAPER_BLOCKS, sparsify

LEVEL_NAMES = ("examples", "tokens", "attention")
"""The three levels: examples swapped by a policy, patches dropped, keys dropped."""
EXAMPLE_POLICY = "example_swap"
"""The policy of the example level (`datawinnow.dynamic.ExampleSwap`)."""
EXAMPLE_KEEP = 0.8
"""Fraction of the examples that the paper's example level keeps."""
TOKEN_KEEP, ATTENTION_KEEP = 0.7, 0.3
"""Keep rates of the token and attention levels in the paper's setting; defaults of `sparsify` and the command line."""


@dataclass(frozen=True)
class SparseLevels:
    """The levels of a vision transformer's training and how much each keeps.

    The schedule of the keep rates is the paper's, scaled to the length of the training.

    Args:
        examples: train under the policy ``example_swap``.
        keep_tokens: fraction of the patches kept at each block of ``at``, in (0, 1]; None switches the level off.
        keep_attention: fraction of the keys kept for each patch, in (0, 1]; None switches the level off.
        at: blocks, counted from 0, after whose attention patches and keys are dropped.
        hold: epochs at a rate of 1; by default the paper's 10 of 300, scaled.
        over: epochs of the fall to the final rates; by default the paper's 100 of 300, scaled.
        form: how masked attention is computed, as in `sparsify`.
    """

    examples: bool = False
    keep_tokens: float | None = None
    keep_attention: float | None = None
    at: tuple[int, ...] = PAPER_BLOCKS
    hold: float | None = None
    over: float | None = None
    form: str = "auto"

    def __post_init__(self) -> None:
        for name in ("keep_tokens", "keep_attention"):  # "70%" is 0.7
            object.__setattr__(self, name, parse_fraction(getattr(self, name)))

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> SparseLevels:
        """Token and attention levels from the table of a grid, such as ``levels = { keep_tokens = 0.5, at = [2, 4] }``.

        The example level has no option: in a grid it is the method's policy.

        Raises:
            ArgumentError: an unknown option.
        """
        names = [field.name for field in fields(cls) if field.name != "examples"]
        for name in options:
            if name not in names:
                raise unknown_option("a sparse network", name, names)
        values = dict(options)
        if "at" in values:
            values["at"] = tuple(values["at"])
        return cls(**values)

    @property
    def sparse(self) -> bool:
        """Whether the token or the attention level is on."""
        return self.keep_tokens is not None or self.keep_attention is not None

    def to_options(self) -> dict[str, Any]:
        """The options that differ from their defaults, as JSON holds them; `from_options` reads them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["at"] = list(self.at)
        defaults = {field.name: field.default for field in fields(self)} | {"at": list(PAPER_BLOCKS)}
        return {name: value for name, value in values.items() if value != defaults[name]}

    def sparsify(self, model: nn.Module, epochs: float) -> nn.Module:
        """`sparsify` a fresh network for a training of ``epochs`` epochs.

        Raises:
            ArgumentError: an option out of range, or a network that is no vision transformer.
        """
        scaled = KeepSchedule.of(epochs)
        schedule = KeepSchedule(
            scaled.hold if self.hold is None else self.hold, scaled.over if self.over is None else self.over
        )
        return sparsify(
            model,
            keep_tokens=self.keep_tokens,
            keep_attention=self.keep_attention,
            at=self.at,
            schedule=schedule,
            form=self.form,
        )

    def example_policy(
        self, policy: str | None, keep: float | str | None, options: Mapping[str, Any], epochs: float
    ) -> tuple[str | None, float | str | None, dict[str, Any]]:
        """The policy of a training and its settings, with the example level as `EXAMPLE_POLICY`.

        That policy keeps 0.8 of the examples and swaps every tenth of the training (the paper: every 30 of 300 epochs),
        unless ``keep`` and ``options`` say otherwise.

        Args:
            policy: name of a policy that the caller chose, or None.
            keep: fraction of the examples that it keeps, or None.
            options: its options.
            epochs: length of the training.

        Returns:
            ``(policy, keep, options)``, unchanged if the example level is off.

        Raises:
            ArgumentError: the example level is on and ``policy`` is another one.
        """
        if not self.examples:
            return policy, keep, dict(options)
        if policy not in (None, EXAMPLE_POLICY):
            raise ArgumentError(
                f"the level examples trains with the policy {EXAMPLE_POLICY}; it cannot stand beside "
                f"`policy={policy!r}`"
            )
        period = max(1, round(epochs / 10))
        return EXAMPLE_POLICY, EXAMPLE_KEEP if keep is None else keep, {"period": period, **options}
