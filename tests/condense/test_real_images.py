"""`RealImages`: how pixels are normalised, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datawinnow.condense.real_images import RealImages, pixel_mean_and_std
from datawinnow.core.errors import ArgumentError

from .helpers import make_images


def test_mean_and_std_are_measured_by_channel():
    x, y = make_images(channels=3)
    x[:, 1] //= 3
    real = RealImages(x, y)
    pixels = x.numpy().astype(np.float64) / 255
    assert real.mean == pytest.approx(pixels.mean(axis=(0, 2, 3)))
    assert real.std == pytest.approx(pixels.std(axis=(0, 2, 3)))
    taken, labels = real.take(torch.tensor([5, 0]))
    mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in (real.mean, real.std))
    np.testing.assert_allclose(taken.numpy(), ((pixels - mean) / std)[[5, 0]], rtol=1e-4, atol=1e-4)
    assert labels.tolist() == y[[5, 0]].tolist()


def test_a_constant_channel_does_not_divide_by_zero():
    x = torch.full((4, 2, 3, 3), 51, dtype=torch.uint8)
    x[0, 1] = 0
    mean, std = pixel_mean_and_std(x)
    assert mean[0] == pytest.approx(0.2)
    assert std[0] == 1e-3
    assert std[1] > 1e-3


def test_a_std_of_zero_in_any_channel_is_refused():
    x, y = make_images(channels=2)
    with pytest.raises(ArgumentError, match="std must be above 0"):
        RealImages(x, y, mean=(0.5, 0.5), std=(1.0, 0.0))
    with pytest.raises(ArgumentError, match="give both of mean and std"):
        RealImages(x, y, mean=(0.5, 0.5))
