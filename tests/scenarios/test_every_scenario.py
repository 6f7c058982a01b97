"""What holds of every scenario: inputs untouched, the generator decides, exactly the rate, any kind of array."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.scenarios import METHODS, corrupt_images

IMAGES = [key for key, f in METHODS.items() if "images" in f.card.needs]
every = pytest.mark.parametrize("key", METHODS)
every_image = pytest.mark.parametrize("key", IMAGES)
N = 45


def examples(dtype=torch.uint8):
    x = torch.rand((N, 3, 8, 8), generator=stream(0, "pictures"))
    return ((x * 255).to(dtype) if dtype is torch.uint8 else x.to(dtype)), torch.arange(N) % 3


def run(key, x, labels, rate=0.4, seed=1, **options):
    return METHODS[key](x, labels, rate=rate, generator=stream(seed, "scenario"), **options)


def test_these_are_there():
    kinds = {"gaussian_noise", "occlusion", "low_resolution", "fog", "motion_blur", "corruption"}
    assert set(METHODS) == kinds | {"symmetric", "pair", "instance_dependent", "long_tail", "duplicates"}
    assert set(IMAGES) == kinds
    for method in METHODS.values():
        assert method.card.kind == "scenario"
        assert set(method.card.takes) == {"rate", "generator"}


@every
def test_nothing_given_is_modified_and_the_same_generator_gives_the_same(key):
    x, labels = examples()
    before, state = (x.clone(), labels.clone()), torch.random.get_rng_state()
    first, again, other = run(key, x, labels), run(key, x, labels), run(key, x, labels, seed=2)
    assert torch.equal(x, before[0])
    assert torch.equal(labels, before[1])
    assert torch.equal(torch.random.get_rng_state(), state)
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(first[0], other[0]) or not torch.equal(first[1], other[1])
    assert (first[0].dtype, first[1].dtype, first[2].dtype) == (torch.uint8, torch.int64, torch.bool)
    assert len(first[0]) == len(first[1]) == len(first[2])


@every
def test_a_rate_of_zero_changes_nothing(key):
    x, labels = examples()
    new, y, changed = run(key, x, labels, rate=0.0)
    assert torch.equal(new, x)
    assert torch.equal(y, labels)
    assert not changed.any()


@every
@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), "much"])
def test_a_rate_out_of_range_is_refused(key, rate):
    with pytest.raises(ArgumentError, match=r"rate must be a number in \[0, 1\]"):
        run(key, *examples(), rate=rate)


@every
def test_a_seed_is_no_generator_and_labels_must_be_ids(key):
    x, labels = examples()
    with pytest.raises(ArgumentError, match=r"generator must be a torch\.Generator, got 3"):
        METHODS[key](x, labels, rate=0.1, generator=3)
    with pytest.raises(ArgumentError, match="labels must be integer class ids"):
        run(key, x, labels.float())


@pytest.mark.parametrize("key", [key for key in METHODS if key not in ("symmetric", "pair")])
def test_as_many_rows_as_labels(key):
    x, labels = examples()
    with pytest.raises(ArgumentError, match="must have one row for each of the 45 labels, got 44"):
        run(key, x[:44], labels)


@every_image
@pytest.mark.parametrize("rate", [0.1, 0.4, 1.0])
def test_exactly_the_rate_is_changed_and_marked_and_labels_stay(key, rate):
    x, labels = examples()
    new, y, changed = run(key, x, labels, rate=rate)
    assert int(changed.sum()) == int(rate * N + 0.5 + 1e-9)
    assert torch.equal((new != x).flatten(1).any(1), changed)
    assert torch.equal(y, labels)
    assert new.shape == x.shape


@every_image
def test_the_answer_does_not_depend_on_how_many_are_worked_on_at_a_time(key, monkeypatch):
    x, labels = examples(torch.float32)
    x = x[..., :7, :5].contiguous()  # torch draws by sixteens: with a multiple of 16 values it would not show
    changed_x = run(key, x, labels, rate=0.9)[0]
    for size in (1, 2, 7):
        monkeypatch.setattr(corrupt_images, "BATCH_VALUES", size * 3 * 35)
        assert torch.equal(run(key, x, labels, rate=0.9)[0], changed_x), size


@every_image
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_floating_images_keep_their_dtype_and_agree_with_uint8(key, dtype):
    x, labels = examples()
    new = run(key, x.to(dtype) / 255, labels)[0]
    assert new.dtype is dtype
    assert 0 <= float(new.min()) <= float(new.max()) <= 1
    level = 1 if dtype in (torch.float32, torch.float64) else 4  # half precision has fewer levels than uint8
    assert float((new.double() * 255 - run(key, x, labels)[0].double()).abs().max()) <= level


@every
def test_arrays_of_any_kind(key, tmp_path):
    x, labels = examples()
    expected = run(key, x, labels)
    np.save(tmp_path / "x.npy", x.numpy())
    memory_mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for x_input, ids in ((x.numpy(), labels.numpy()), (memory_mapped, labels.tolist())):
        new, y, changed = run(key, x_input, ids)
        assert torch.equal(torch.as_tensor(new), expected[0])
        assert torch.equal(y, expected[1])
        assert torch.equal(changed, expected[2])


@every
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 5, 1), (4, 1, 3, 12)])
def test_images_of_any_size(key, shape):
    x = torch.rand(shape, generator=stream(0, "small"))
    new, _, _ = METHODS[key](x, torch.arange(shape[0]) % 2, rate=0.4, generator=stream(0, "s"), **classes(key))
    assert new.shape[1:] == x.shape[1:]
    assert torch.isfinite(new).all()


def classes(key):
    return {"classes": 2} if "classes" in METHODS[key].card.options else {}


@every_image
def test_what_is_no_image_is_named(key):
    x, labels = examples()
    for x_input, message in (
        (x[0], r"images must have shape \(n, channels, height, width\), got \(3, 8, 8\)"),
        (x.long(), r"images must be uint8, or floating in \[0, 1\], got dtype torch\.int64"),
        (x.float(), r"images of dtype torch\.float32 must be in \[0, 1\], got values from 0 to 25[45]"),
        (torch.full((N, 1, 2, 2), float("nan")), r"must be in \[0, 1\], got values from nan"),
        (None, "images must be an array of numbers, got NoneType"),
    ):
        with pytest.raises(ArgumentError, match=message):
            run(key, x_input, labels)
