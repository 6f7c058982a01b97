"""What each corruption does to an image, against a literal loop or Pillow."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.scenarios import corruption, fog, gaussian_noise, low_resolution, motion_blur, occlusion


def all_of(method, x, **options):
    return method(x, torch.zeros(len(x), dtype=torch.int64), rate=1.0, generator=stream(0, "all"), **options)[0]


def images(n=20, size=16):
    """Smooth colour images: waves of random direction."""
    g = stream(0, "waves")
    at = torch.arange(size) / size
    a, b, c = (torch.rand((n, 3, 1, 1), generator=g) for _ in range(3))
    wave = torch.sin(6 * (a * at[:, None] + b * at[None]) + 6 * c)
    return ((wave + 1) * 127).to(torch.uint8)


def test_noise_has_its_mean_and_spread_and_is_its_own_in_every_image_and_channel():
    x = torch.full((200, 3, 16, 16), 0.5)
    noise = (all_of(gaussian_noise, x, std=0.05, mean=0.1) - 0.6) / 0.05
    n = noise.numel()
    assert abs(float(noise.mean())) <= 4 / n**0.5
    assert abs(float(noise.var()) - 1) <= 4 * (2 / n) ** 0.5
    flat = noise.flatten(2)
    for one, two in ((flat[0, 0], flat[1, 0]), (flat[0, 0], flat[0, 1])):
        assert abs(float((one * two).mean())) <= 4 / flat.shape[2] ** 0.5


def test_noise_is_cut_and_does_not_wrap_around():
    dark = all_of(gaussian_noise, torch.zeros((50, 1, 8, 8), dtype=torch.uint8), std=0.1, mean=-0.5)
    assert float((dark == 0).float().mean()) > 0.99


def test_occlusion_is_one_black_square_inside_the_image_at_every_place_alike():
    x = torch.full((2000, 2, 6, 8), 200, dtype=torch.uint8)
    covered = all_of(occlusion, x, side=0.5) == 0
    assert torch.equal(covered[:, 0], covered[:, 1])
    places = torch.zeros(4, 5)
    for mask in covered[:, 0]:
        rows, columns = torch.nonzero(mask.any(1)).flatten(), torch.nonzero(mask.any(0)).flatten()
        assert (len(rows), len(columns)) == (3, 4)
        assert bool(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all())
        assert int(mask.sum()) == 12
        places[rows[0], columns[0]] += 1
    share, error = 1 / 20, (19 / 400 / 2000) ** 0.5
    assert ((places / 2000 - share).abs() <= 4 * error).all(), places
    assert int(all_of(occlusion, x[:1], side=1.0, fill=1.0).min()) == 255


@pytest.mark.parametrize(("size", "factor"), [(16, 4.0), (32, 4.0), (15, 2.0)])
def test_low_resolution_is_pillows_bicubic_there_and_back(size, factor):
    x = images(size=size)
    new = all_of(low_resolution, x, factor=factor)
    small = max(1, round(size / factor))
    for before, after in zip(x, new, strict=True):
        image = Image.fromarray(before.permute(1, 2, 0).numpy())
        image = image.resize((small, small), Image.Resampling.BICUBIC).resize((size, size), Image.Resampling.BICUBIC)
        expected = torch.from_numpy(np.array(image)).permute(2, 0, 1).int()
        assert int((expected - after.int()).abs().max()) <= 3  # Pillow rounds after each of four passes


def test_a_factor_of_one_leaves_images_as_they_are():
    x = images()
    assert torch.equal(all_of(low_resolution, x, factor=1.0), x)


def test_fog_pixel_by_pixel():
    x = torch.rand((1, 2, 32, 32), generator=stream(0, "fog"))
    new = all_of(fog, x)
    for j in (0, 5, 16, 31):
        for k in (0, 9, 16, 31):
            depth = math.sqrt(32) - 0.04 * math.sqrt((j - 16) ** 2 + (k - 16) ** 2)
            t = math.exp(-0.4 * depth)
            for c in (0, 1):
                assert float(new[0, c, j, k]) == pytest.approx(float(x[0, c, j, k]) * t + 0.5 * (1 - t), abs=1e-6)


def test_fog_is_the_same_at_another_size_and_thins_out_to_the_edge():
    bright = all_of(fog, torch.ones(1, 1, 32, 32))
    larger = all_of(fog, torch.ones(1, 1, 64, 64))
    assert float((larger[..., ::2, ::2] - bright).abs().max()) < 1e-5
    assert float(bright[0, 0, 0, 0]) > float(bright[0, 0, 16, 16])
    assert torch.equal(all_of(fog, torch.ones(1, 1, 8, 8), density=0.0), torch.ones(1, 1, 8, 8))


@pytest.mark.parametrize("angle", [0.0, 90.0, 30.0, -45.0])
def test_motion_blur_against_a_literal_loop(angle):
    x = torch.rand((2, 1, 9, 9), generator=stream(0, "blur"), dtype=torch.float64)
    new = all_of(motion_blur, x, length=5 / 9, angle=angle)

    def at(one_image, j, k):
        """Bilinear, mirrored at the middles of the outer pixels."""
        j, k = (abs(v) if v <= 8 else 16 - v for v in (j, k))
        j0, k0 = min(int(j), 7), min(int(k), 7)
        a, b = j - j0, k - k0
        p = one_image[j0 : j0 + 2, k0 : k0 + 2]
        return (1 - a) * ((1 - b) * p[0, 0] + b * p[0, 1]) + a * ((1 - b) * p[1, 0] + b * p[1, 1])

    right, down = math.cos(math.radians(angle)), -math.sin(math.radians(angle))
    for n in (0, 1):
        for j in range(9):
            for k in range(9):
                expected = sum(at(x[n, 0], j + s * down, k + s * right) for s in (-2, -1, 0, 1, 2)) / 5
                assert float(new[n, 0, j, k]) == pytest.approx(float(expected), abs=1e-5)


def test_every_image_is_blurred_in_a_direction_of_its_own_between_45_degrees():
    x = torch.zeros(300, 1, 15, 15)
    x[..., 7, 7] = 1
    new = all_of(motion_blur, x, length=7 / 15)
    at = torch.arange(15.0) - 7
    right = (new * at).sum((1, 2, 3)), (new * at**2).sum((1, 2, 3))
    down = (new * at[:, None] ** 2).sum((1, 2, 3))
    both = (new * at[:, None] * at).sum((1, 2, 3))
    assert float(right[0].abs().max()) < 1e-3  # stays centred
    assert bool((down <= right[1] + 1e-3).all())  # nearer to the horizontal
    assert 0.4 < float((both > 0).float().mean()) < 0.6
    assert len(torch.unique(both.round(decimals=3))) > 200


def test_the_mixture_has_as_many_of_each_kind():
    x = torch.full((103, 1, 8, 8), 0.9)
    new, _, changed = corruption(x, torch.zeros(103, dtype=torch.int64), rate=1.0, generator=stream(0, "mix"))
    assert bool(changed.all())
    black = (new == 0).flatten(1).sum(1)
    # low resolution and blur leave an even image as it is, fog makes it even and darker; 16 pixels are occluded
    same = (new - 0.9).abs().flatten(1).amax(1) < 1e-4
    foggy = (~same) & (new.flatten(1).std(1) < 0.05) & (new.flatten(1).mean(1) < 0.7)
    occluded = (black == 16) & ((new == 0.9).flatten(1).sum(1) == 48)
    assert sorted([int(foggy.sum()), int(occluded.sum())]) in ([20, 21], [21, 21], [20, 20])
    assert int(same.sum()) in (40, 41, 42)
    assert not bool((foggy & occluded).any())


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (gaussian_noise, {"std": -1}, "std must be a number in"),
        (gaussian_noise, {"mean": float("nan")}, "mean must be a number in"),
        (occlusion, {"side": 0}, "side must be a number in"),
        (occlusion, {"fill": 2}, r"fill must be a number in \[0, 1\]"),
        (low_resolution, {"factor": 0.5}, r"factor must be a number in \[1, "),
        (fog, {"density": -0.1}, "density must be a number in"),
        (fog, {"airlight": 1.5}, r"airlight must be a number in \[0, 1\]"),
        (motion_blur, {"length": 0}, "length must be a number in"),
        (motion_blur, {"angle": 400}, r"angle must be a number in \[-360, 360\]"),
    ],
)
def test_options_out_of_range_are_named(method, options, message):
    with pytest.raises(ArgumentError, match=message):
        all_of(method, images(2), **options)
