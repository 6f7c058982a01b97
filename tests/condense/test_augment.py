"""Differentiable Siamese augmentation: one record for any batch, each operation against its formula."""

import pytest
import torch

from datawinnow.condense import SIAMESE, Augmentation
from datawinnow.condense.augment import OPERATIONS, to_augmentation
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from tests.reference import condense as reference

names = pytest.mark.parametrize("name", OPERATIONS)


def images(n=4, channels=3, height=8, width=8, seed=0):
    return torch.randn(n, channels, height, width, generator=stream(seed, "images"))


def draw(name, u, **options):
    """A record of one group with these numbers in [0, 1)."""
    record = Augmentation(name, **options).draw(1, stream(0, "u"))
    record.u[0, 0] = torch.tensor([*u, 0.0, 0.0][:3])
    return record


@names
def test_real_and_synthetic_get_the_same_at_any_batch_size(name):
    record = Augmentation(name).draw(2, stream(3, "draw"))
    many, group = images(9), torch.arange(9) % 2
    together = record(many, group)
    for i in range(9):
        torch.testing.assert_close(record(many[i : i + 1], group[i : i + 1])[0], together[i], rtol=1e-5, atol=1e-6)


def test_groups_differ_and_another_seed_differs_and_the_same_seed_does_not():
    x = images(1).expand(40, -1, -1, -1)
    group = torch.arange(40)
    once = SIAMESE.draw(40, stream(0, "a"))(x, group)
    assert torch.equal(once, SIAMESE.draw(40, stream(0, "a"))(x, group))
    assert not torch.equal(once, SIAMESE.draw(40, stream(1, "a"))(x, group))
    assert len({tuple(image.flatten().tolist()) for image in once}) > 20


def test_one_operation_a_group_uniformly_or_all_in_turn():
    record = SIAMESE.draw(6000, stream(0, "many"))
    assert torch.equal(record.chosen.sum(1), torch.ones(6000, dtype=torch.int64))
    share = record.chosen.float().mean(0)
    assert float((share - 1 / 6).abs().max()) < 4 * (1 / 6 * 5 / 6 / 6000) ** 0.5
    assert Augmentation(mode="all").draw(5, stream(0, "all")).chosen.all()
    alike = SIAMESE.draw(50, stream(0, "batch"), one_operation=True)
    assert (alike.chosen == alike.chosen[0]).all()
    assert not (alike.u == alike.u[0]).all()


def test_colour_is_brightness_then_saturation_then_contrast():
    x = images(1)
    augmented = draw("color", (0.75, 0.25, 0.9))(x, torch.zeros(1, dtype=torch.int64))[0]
    expected = reference.saturated(x[0] + 0.25, 0.5)
    expected = (expected - expected.mean()) * 1.4 + expected.mean()
    torch.testing.assert_close(augmented, expected)


@pytest.mark.parametrize(("u", "shift"), [((0.0, 0.0), (-1, -1)), ((0.5, 0.99), (0, 1)), ((0.99, 0.0), (1, -1))])
def test_crop_shifts_by_up_to_an_eighth_and_fills_with_zeros(u, shift):
    x = images(1)  # 8 pixels: shifts of -1, 0 and 1
    augmented = draw("crop", u)(x, torch.zeros(1, dtype=torch.int64))[0]
    assert torch.equal(augmented, reference.shifted(x[0], *shift))


def test_a_shift_is_the_same_at_every_draw_near_one():
    record = draw("crop", (1 - 2**-24, 1 - 2**-24), crop=0.5)
    x = images(1, height=64, width=64)
    assert torch.equal(record(x, torch.zeros(1, dtype=torch.int64))[0], reference.shifted(x[0], 32, 32))


def test_cutout_zeroes_a_square_clamped_to_the_image():
    x = torch.ones(1, 1, 8, 8)
    centre = draw("cutout", (0.5, 0.5))(x, torch.zeros(1, dtype=torch.int64))
    assert int((centre == 0).sum()) == 16  # side 4
    assert centre[0, 0, 2:6, 2:6].sum() == 0
    corner = draw("cutout", (0.0, 0.999))(x, torch.zeros(1, dtype=torch.int64))
    assert int((corner == 0).sum()) == 4  # the centre may lie on the edge
    assert corner[0, 0, :2, 6:].sum() == 0


def test_flip_mirrors_left_to_right_below_its_probability():
    x = images(1)
    none = torch.zeros(1, dtype=torch.int64)
    assert torch.equal(draw("flip", (0.49,))(x, none), x.flip(3))
    assert torch.equal(draw("flip", (0.51,))(x, none), x)


def test_scale_and_rotate_leave_the_middle_and_move_the_rest():
    x = images(2)
    group = torch.zeros(2, dtype=torch.int64)
    same = (1 - 1 / 1.2) / (1.2 - 1 / 1.2)  # a factor of 1
    torch.testing.assert_close(draw("scale", (same, same))(x, group), x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(draw("rotate", (0.5,))(x, group), x, rtol=1e-4, atol=1e-5)
    quarter = draw("rotate", (1.0,), rotate=90)(x, group)
    torch.testing.assert_close(quarter, torch.rot90(x, 1, (2, 3)), rtol=1e-3, atol=1e-4)
    wide = draw("scale", (0.0, same))(torch.ones(1, 1, 12, 12), torch.zeros(1, dtype=torch.int64))
    assert wide[0, 0, 6].min() == 1  # a window of 1 / 1.2 of the width is spread over all of it


def test_a_half_turn_of_an_image_that_is_not_square_keeps_its_shape():
    x = images(1, height=6, width=12)
    augmented = draw("rotate", (1.0,), rotate=180)(x, torch.zeros(1, dtype=torch.int64))
    torch.testing.assert_close(augmented, x.flip((2, 3)), rtol=1e-3, atol=1e-4)
    dot = torch.zeros(1, 1, 9, 21)
    dot[0, 0, 4, 13] = 1  # three pixels right of the middle
    up = draw("rotate", (1.0,), rotate=90)(dot, torch.zeros(1, dtype=torch.int64))[0, 0]
    assert (int(up.argmax()) // 21, int(up.argmax()) % 21) in ((7, 10), (1, 10))


@names
def test_it_can_be_differentiated(name):
    x = images(2, height=6, width=6).double().requires_grad_()
    record = Augmentation(name).draw(1, stream(1, "grad"))
    assert torch.autograd.gradcheck(lambda x: record(x, torch.zeros(2, dtype=torch.int64)), (x,))


def test_inputs_and_global_randomness_are_untouched():
    x = images(6)
    before, state = x.clone(), torch.random.get_rng_state()
    Augmentation(mode="all").draw(6, stream(0, "g"))(x, torch.arange(6))
    assert torch.equal(x, before)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"strategy": "color_blur"}, "must name operations once each.*got 'blur' in 'color_blur'"),
        ({"strategy": "flip_flip"}, "got 'flip'"),
        ({"mode": "some"}, "mode must be one of 'single', 'all', got 'some'"),
        ({"crop": 1.5}, r"crop must be a number in \[0, 1\], got 1.5"),
        ({"scale": 0.5}, r"scale must be a number in \[1, 100\], got 0.5"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_is_refused(options, match):
    with pytest.raises(ArgumentError, match=match):
        Augmentation(**options)


def test_names_none_and_records_are_taken_and_others_refused():
    assert to_augmentation(None) is None
    assert to_augmentation("color_crop").names == ("color", "crop")
    assert SIAMESE.without("flip").strategy == "color_crop_cutout_scale_rotate"
    with pytest.raises(ArgumentError, match=r"augment must be an Augmentation, a strategy .* got 3"):
        to_augmentation(3)


def test_the_largest_shift_and_the_hole_are_rounded_half_up():
    x, group = images(1, height=12, width=12), torch.zeros(1, dtype=torch.int64)
    # an eighth of 12 pixels is 1.5
    assert torch.equal(draw("crop", (0.0, 0.99))(x, group)[0], reference.shifted(x[0], -2, 2))
    hole = draw("cutout", (0.5, 0.5), cutout=0.125)(torch.ones(1, 1, 12, 12), group)
    assert int((hole == 0).sum()) == 4
