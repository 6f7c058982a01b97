"""`TextCosts`: what a step on texts costs, by the longest text of its batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datawinnow.core.rng import forked, stream
from datawinnow.data.batches import batch_sizes, pads_to_longest, split_evenly
from datawinnow.data.padding import dataset_text_lengths, group_by_length, longest_of
from datawinnow.models.outputs import returns_logits
from datawinnow.train.flops import flops_per_example
from datawinnow.train.network import first_batch, num_classes

NUM_EPOCHS = 3
"""Epochs over which the average cost of a text is taken."""


@dataclass(frozen=True)
class TextCosts:
    """Operations of training on texts whose batches are padded to their longest text.

    The unit is the average text of an epoch over all that may be trained on, at full length.

    Attributes:
        lengths: (n,) tokens of each text, by id.
        by_length: (length + 1,) operations of training on a text padded to a length, in the unit.
        longest: tokens of the longest text of each batch in `NUM_EPOCHS` epochs.
        sizes: texts in each of those batches.
        flops: the unit in floating-point operations; 0 if they cannot be counted.
        similar: whether the texts of a batch are of similar length.
    """

    lengths: Tensor
    by_length: Tensor
    longest: Tensor
    sizes: Tensor
    flops: float
    similar: bool

    def deal(self, order: Tensor, batch: int, generator: torch.Generator) -> Tensor:
        """The ids ``order`` (m,) as they are cut into batches: of similar length, or as they are."""
        return _deal(order, self.lengths, batch, generator) if self.similar else order

    def steps(self, order: Tensor, batch: int) -> list[int]:
        """Tokens of each step of an epoch over ``order``, as `deal` gave it."""
        return [longest_of(self.lengths[ids]) for ids in split_evenly(order, batch)]

    def cost(self, length: int) -> float:
        """Operations of training on a text padded to ``length``, in the unit."""
        return float(self.by_length[length])

    def mean_cost(self, limit: int) -> float:
        """The average cost of a text where those longer than ``limit`` tokens are cut to it."""
        return _mean_over_texts(self.by_length, self.longest.clamp_max(limit), self.sizes)

    def flops_of(self, model: nn.Module, dataset: Any, device: torch.device) -> float:
        """Floating-point operations of another network on the average text; 0 if they cannot be counted."""
        by_length, counted = _operations(model, dataset, device, longest_of(self.lengths.min()))
        return _mean_over_texts(by_length, self.longest, self.sizes) if counted else 0.0


def text_costs(
    model: nn.Module, dataset: Any, index: Tensor, device: torch.device, *, batch: int, similar: bool
) -> TextCosts | None:
    """The costs of a training; None for other data than texts, and for a network that gets all at one length.

    Args:
        model: the network, on ``device``.
        dataset: `Examples` or any map-style dataset of ``(x, y)``; one without ``text_lengths`` is read.
        index: (m,) ids that may be trained on.
        device: where the network is.
        batch: texts a step.
        similar: whether the texts of a batch are of similar length.
    """
    if not pads_to_longest(model, dataset, device):
        return None
    lengths = dataset_text_lengths(dataset)
    assert lengths is not None  # these are texts
    by_length, counted = _operations(model, dataset, device, longest_of(lengths.min()))
    longest, sizes = [], []
    for epoch in range(NUM_EPOCHS):
        # streams of no run: the unit is the same for all seeds
        order = index[torch.randperm(len(index), generator=stream(0, "text_costs", epoch))]
        order = _deal(order, lengths, batch, stream(0, "text_costs", epoch, "deal")) if similar else order
        longest += [longest_of(lengths[ids]) for ids in split_evenly(order, batch)]
        sizes += batch_sizes(len(order), batch)
    num_tokens, weight = torch.tensor(longest), torch.tensor(sizes, dtype=torch.float64)
    unit = _mean_over_texts(by_length, num_tokens, weight)
    return TextCosts(lengths, by_length / unit, num_tokens, weight, unit if counted else 0.0, similar)


def _deal(order: Tensor, lengths: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    return group_by_length(order, lengths, batch_sizes(len(order), batch), generator)


def _mean_over_texts(by_length: Tensor, longest: Tensor, sizes: Tensor) -> float:
    return float((by_length[longest] * sizes).sum() / sizes.sum())


def _operations(model: nn.Module, dataset: Any, device: torch.device, shortest: int) -> tuple[Tensor, bool]:
    """(length + 1,) float64 operations of training on a text of each length, and whether they were counted.

    Counted at three lengths and interpolated by a parabola: exact for convolutions, and for attention.
    """
    with forked(0, "flops"), returns_logits(model, num_classes(dataset)):
        _, x, _ = first_batch(dataset, device, 2)
        full = x.shape[1]
        nodes = sorted({shortest, (shortest + full) // 2, full})
        counts = [sum(flops_per_example(model, x[:, :length])) for length in nodes]
    tokens = np.arange(full + 1, dtype=np.float64)
    if not all(counts):
        return torch.from_numpy(tokens), False
    curve = np.polynomial.Polynomial.fit(nodes, counts, deg=len(nodes) - 1)
    # no text is shorter than the first node
    return torch.from_numpy(curve(tokens.clip(nodes[0]))), True
