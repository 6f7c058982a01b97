"""Losses per token or pixel become one an example; reductions take only that."""

from __future__ import annotations

import pytest
import torch

from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic import reduce


def test_tokens_and_pixels_reduce_to_the_mean_of_what_counts() -> None:
    loss = torch.tensor([[1.0, 3.0, torch.nan], [4.0, torch.inf, 8.0], [5.0, 5.0, 5.0]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 0, 0]])
    assert reduce.per_example(loss, mask).tolist() == [2.0, 6.0, 0.0]
    assert reduce.per_example(loss, mask.bool()).tolist() == [2.0, 6.0, 0.0]
    pixels = torch.arange(24.0).view(2, 3, 4)
    assert reduce.per_example(pixels).tolist() == [5.5, 17.5]
    assert reduce.per_example(pixels, torch.ones_like(pixels)).tolist() == [5.5, 17.5]
    assert reduce.per_example(torch.tensor([1.0, torch.nan]), torch.tensor([1, 0])).tolist() == [1.0, 0.0]


def test_half_precision_is_summed_in_float32() -> None:
    many = torch.full((1, 4096), 40.0, dtype=torch.float16)  # the sum overflows half precision
    assert reduce.per_example(many).tolist() == [40.0]
    assert reduce.per_example(many, torch.ones(1, 4096)).dtype == torch.float32
    assert reduce.per_example(torch.ones(2, 3, dtype=torch.float64)).dtype == torch.float64


def test_what_does_not_count_has_no_gradient() -> None:
    loss = torch.tensor([[1.0, 3.0], [4.0, 8.0]], requires_grad=True)
    reduce.per_example(loss, torch.tensor([[1, 0], [1, 1]])).sum().backward()
    assert loss.grad is not None
    assert loss.grad.tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_weights_multiply_a_new_tensor() -> None:
    loss = torch.tensor([1.0, 2.0], requires_grad=True)  # a leaf: in place would fail
    assert reduce.none(loss, torch.tensor([2.0, 0.5])).tolist() == [2.0, 1.0]
    assert loss.tolist() == [1.0, 2.0]
    assert float(reduce.self_normalised(loss, torch.zeros(2))) == 0.0
    assert reduce.mean(loss.half(), torch.tensor([1.0, 1.0])).dtype == torch.float32


def test_other_shapes_are_refused_with_what_to_do() -> None:
    with pytest.raises(ArgumentError, match=r'scalar.*reduction="none"'):
        reduce.per_example(torch.tensor(1.0))
    with pytest.raises(ArgumentError, match=r'scalar.*reduction="none"'):
        reduce.mean(torch.tensor(1.0), torch.tensor(1.0))
    with pytest.raises(ArgumentError, match=r"shape \(2, 3\).*per_example"):
        reduce.self_normalised(torch.ones(2, 3), torch.ones(2, 3))
    with pytest.raises(ArgumentError, match=r"weight must have the loss's shape \(2,\), got \(3,\)"):
        reduce.none(torch.ones(2), torch.ones(3))
    with pytest.raises(ArgumentError, match=r"mask must have the loss's shape \(2, 3\), got \(2,\)"):
        reduce.per_example(torch.ones(2, 3), torch.ones(2))
