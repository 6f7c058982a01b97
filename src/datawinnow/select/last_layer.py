"""Gradients of cross entropy in the last linear layer, by their factors.

With e = probs - onehot(label) and h = [features, 1], the gradient of one example's loss in the weight and bias of the
last layer is the matrix ``e h^T`` of c rows and d + 1 columns. Everything below works from e and h: an array of
n c (d + 1) numbers would be 1 GB at 50,000 examples, 10 classes and 512 features already.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.check import Missing
from datawinnow.core.errors import ArgumentError
from datawinnow.select._selectable import selectable_ids

LAYER_BLOCK_ENTRIES = 1 << 22
"""Maximum number of intermediate values of a block of rows."""


@dataclass(frozen=True)
class LastLayer:
    """The last-layer gradients of n examples, by their factors.

    Attributes:
        features: (n, d) floating, input of the last layer.
        probs: (n, c) floating, its softmax.
        labels: (n,) int64.
        prefix: ``"val_"`` for held-out data, for errors.
    """

    features: Tensor
    probs: Tensor
    labels: Tensor
    prefix: str = ""

    @property
    def n(self) -> int:
        """Number of examples."""
        return int(self.labels.numel())

    def blocks(self) -> Iterator[slice]:
        """Runs of rows."""
        size = max(1, LAYER_BLOCK_ENTRIES // (self.features.shape[1] + 2 * self.probs.shape[1]))
        for first in range(0, self.n, size):
            yield slice(first, min(self.n, first + size))

    def factors(self, ids: Tensor | slice) -> tuple[Tensor, Tensor]:
        """(k, c) errors and (k, d + 1) features with a one appended, float64."""
        error = self.probs[ids].to(torch.float64, copy=True)
        error[torch.arange(error.shape[0]), self.labels[ids]] -= 1
        row = self.features[ids].double()
        # The appended one is the input of the bias.
        return error, torch.cat([row, row.new_ones(row.shape[0], 1)], 1)

    def mean(self) -> Tensor:
        """(c, d + 1) float64, the mean gradient."""
        total = torch.zeros(self.probs.shape[1], self.features.shape[1] + 1, dtype=torch.float64)
        for rows in self.blocks():
            error, row = self.factors(rows)
            # sum_i e_i h_i^T is one product of matrices: (c, b) @ (b, d + 1).
            total.addmm_(error.T, row)
        return total.div_(self.n)

    def along(self, direction: Tensor) -> Tensor:
        """(n,) inner products of each gradient with ``direction``, (c, d + 1), in the arrays' dtype."""
        # In the arrays' dtype: this pass over all examples dominates the time, and its result only ranks.
        matrix = direction.to(self.features.dtype)
        out = torch.empty(self.n, dtype=self.features.dtype)
        for rows in self.blocks():
            # the outputs of a layer whose weights are ``direction``
            logits = torch.addmm(matrix[:, -1], self.features[rows], matrix[:, :-1].T)
            label_logits = logits.gather(1, self.labels[rows, None]).squeeze(1)
            # <e h^T, M> = e . (M h) = (p - onehot(y)) . logits.
            out[rows] = (self.probs[rows].to(logits.dtype) * logits).sum(1) - label_logits
        return out


def last_layer(
    features: Any, probs: Any, labels: Any, *, budget: int, missing: Missing
) -> tuple[LastLayer, Tensor | None, int]:
    """The examples that can be chosen by their gradients.

    Args:
        features: (n, d) float.
        probs: (n, c) float.
        labels: (n,) int.
        budget: number of examples to select.
        missing: ``"skip"`` leaves out examples with a NaN.

    Returns:
        The gradients of those that can be chosen; their ids, or None for all; n.

    Raises:
        ArgumentError: shapes that do not fit, logits for probabilities, labels of no class, NaN, a budget outside.
        CapacityError: fewer examples without NaN than ``budget``.
    """
    rows = check.matrix("features", features, missing=missing)
    chance = check.matrix("probs", probs, "n,c", missing=missing)
    classes = check.labels("labels", labels)
    n = check.same_n(features=rows[:, 0], probs=chance[:, 0], labels=classes)
    ids = selectable_ids(
        budget, missing, features=rows.sum(1, dtype=torch.float64), probs=chance.sum(1, dtype=torch.float64)
    )
    layer = LastLayer(rows, chance, classes)
    _validate_layer(layer, ids)
    if ids is not None:
        layer = LastLayer(rows[ids], chance[ids], classes[ids])
    return layer, ids, n


def held_out_layer(features: Any, probs: Any, labels: Any, like: LastLayer) -> LastLayer:
    """The gradients of held-out data, ``val_features`` (v, d), ``val_probs`` (v, c), ``val_labels`` (v,).

    Raises:
        ArgumentError: shapes that do not fit each other or ``like``, NaN, logits for probabilities.
    """
    layer = LastLayer(
        check.matrix("val_features", features, "v,d"),
        check.matrix("val_probs", probs, "v,c"),
        check.labels("val_labels", labels),
        "val_",
    )
    check.same_n(val_features=layer.features[:, 0], val_probs=layer.probs[:, 0], val_labels=layer.labels)
    for name in ("features", "probs"):
        columns, expected = int(getattr(layer, name).shape[1]), int(getattr(like, name).shape[1])
        if columns != expected:
            raise ArgumentError(
                f"val_{name} has {columns} columns, but {name} has {expected}; probe both with the same model"
            )
    _validate_layer(layer, None)
    return layer


def _validate_layer(layer: LastLayer, ids: Tensor | None) -> None:
    # Rows with NaN are left out later; any valid probability lets the others be checked.
    chance = layer.probs if ids is None else layer.probs.nan_to_num(0.5)
    check.probabilities(f"{layer.prefix}probs", chance.T)
    if int(layer.labels.max()) >= chance.shape[1]:
        raise ArgumentError(
            f"{layer.prefix}labels has class {int(layer.labels.max())} at example {int(layer.labels.argmax())}, but "
            f"{layer.prefix}probs only {chance.shape[1]} columns"
        )
