"""`Synthetic`: decoding, files, and what it refuses."""

import dataclasses
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from datawinnow import Synthetic, fit, load, models
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.rng import stream
from datawinnow.core.synthetic import combine_tiles, expand
from tests.reference import condense as reference


def make_set(n=4, channels=1, side=8, factor=1, **metadata):
    images = torch.randn(n, channels, side, side, generator=stream(0, "set")) * 0.3
    kwargs = {"mean": (0.5,) * channels, "std": (0.25,) * channels, "classes": ("no", "yes"), **metadata}
    return Synthetic(images, torch.arange(n) * 2 // n, factor, **kwargs)


def test_tiles_come_top_left_bottom_left_top_right_bottom_right():
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, :2, :2], image[0, 0, 2:, :2], image[0, 0, :2, 2:], image[0, 0, 2:, 2:] = 1, 2, 3, 4
    tiles = expand(torch.cat([image, 10 * image]), 2)
    assert tiles.shape == (8, 1, 4, 4)
    assert tiles.flatten(1).mean(1).tolist() == [1, 10, 2, 20, 3, 30, 4, 40]
    labels = Synthetic(torch.cat([image, image]), torch.tensor([0, 1]), 2).decode()[1]
    assert labels.tolist() == [0, 1] * 4


@pytest.mark.parametrize(("side", "factor"), [(8, 2), (9, 3), (7, 2)])
def test_tiles_are_enlarged_bilinearly(side, factor):
    image = torch.randn(1, 1, side, side, generator=stream(0, "tile"))
    last = [i * side // factor for i in range(factor + 1)][-2]
    expected = torch.tensor(reference.upsampled(image[0, 0, last:, last:].tolist(), side, side))
    torch.testing.assert_close(expand(image, factor)[-1, 0], expected, rtol=1e-5, atol=1e-6)


def test_shrinking_puts_tiles_where_expanding_takes_them_from():
    tiles = torch.stack([torch.full((1, 8, 8), float(i)) for i in range(8)])  # four tiles of two images
    assert torch.equal(expand(combine_tiles(tiles, 2), 2), tiles)


def test_it_is_a_dataset_of_what_is_decoded():
    synthetic = make_set(factor=2)
    x, y = synthetic.decode()
    assert len(synthetic) == len(x) == 16
    for i in (0, 3, 4, 15, -1):
        torch.testing.assert_close(synthetic[i][0], x[i])
        assert synthetic[i][1] == int(y[i])
    with pytest.raises(IndexError):
        synthetic[16]


def test_a_network_can_be_trained_on_it():
    synthetic = make_set(n=8)
    model, history = fit(models.mlp(classes=2), synthetic, epochs=30, precision="fp32", workers=0, batch=4)
    assert history.rows[-1]["accuracy"] == 1.0
    assert int(model(synthetic.images).argmax(1).eq(synthetic.labels).sum()) == 8


@pytest.mark.parametrize("factor", [1, 2])
def test_a_file_gives_back_everything(tmp_path, factor):
    synthetic = make_set(channels=3, factor=factor, about={"method": "dm", "seed": 3, "passed": {"forward": 2}})
    again = Synthetic.load(synthetic.save(tmp_path / "made.safetensors"))
    for field in dataclasses.fields(Synthetic):
        a, b = getattr(synthetic, field.name), getattr(again, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name


def test_pixels_are_within_their_range_and_what_lies_outside_is_told():
    synthetic = make_set()
    images = synthetic.images.clone()
    images[0, 0, 0, 0], images[0, 0, 0, 1] = 5.0, -5.0
    synthetic = dataclasses.replace(synthetic, images=images)
    shown = synthetic.pixels()
    assert (float(shown.min()), float(shown.max())) == (0.0, 1.0)
    torch.testing.assert_close(shown[1], (synthetic.images[1] * 0.25 + 0.5).clamp(0, 1))
    outside = ((synthetic.images * 0.25 + 0.5 < 0) | (synthetic.images * 0.25 + 0.5 > 1)).float().mean()
    assert synthetic.outside == pytest.approx(float(outside))
    assert synthetic.outside >= 2 / synthetic.images.numel()
    bare = dataclasses.replace(synthetic, mean=(), std=())
    assert (float(bare.pixels().min()), float(bare.pixels().max()), bare.outside) == (0.0, 1.0, 0.0)


def test_a_grid_shows_a_class_a_row():
    synthetic = make_set()
    sheet = np.asarray(Image.open(io.BytesIO(synthetic.grid())))
    assert sheet.shape == (17, 17, 3)
    third = np.round(synthetic.pixels()[2, 0].numpy() * 255)
    assert (sheet[9:, :8, 0] == third).all()  # the first of class 1, below the first of class 0
    assert Image.open(io.BytesIO(synthetic.grid(scale=3, columns=4))).size == (3 * 35, 3 * 8)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_of_images_is_read_back_as_data(tmp_path, channels):
    synthetic = make_set(channels=channels, factor=2)
    folder = synthetic.save_folder(tmp_path / "made")
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png"))[:2] == ["no/0000.png", "no/0001.png"]
    train, test = load(folder, holdout=0.25, flip=False)
    assert train.classes == ("no", "yes")
    assert len(train) + len(test) == 16
    expected = Synthetic(*synthetic.decode(), 1, synthetic.mean, synthetic.std).pixels().mean()
    mean = torch.cat([train.x, test.x]).float().mean() / 255
    assert float(mean) == pytest.approx(float(expected), abs=0.005)
    stored = synthetic.save_folder(tmp_path / "stored", decoded=False)
    assert len(list(stored.rglob("*.png"))) == 4


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"images": torch.zeros(4, 8, 8)}, r"images must be float32 of shape \(m, channels, height, width\)"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, r"labels must be int64 of shape \(4,\)"),
        ({"labels": torch.tensor([0, 1, 2, 3])}, "labels has class 3 of 2 classes"),
        ({"labels": torch.tensor([0, 1, -1, 1])}, "negative class id -1"),
        ({"factor": 0}, "factor must be a whole number of at least 1, got 0"),
        ({"factor": 9}, "an image of 8x8 pixels cannot hold 9x9 smaller ones"),
        ({"mean": (0.1, 0.2)}, r"mean must have one number a channel \(1\), got 2"),
    ],
    ids=["axes", "labels", "class", "negative", "factor", "tiles", "mean"],
)
def test_what_does_not_fit_together_is_refused(change, match):
    with pytest.raises(ArgumentError, match=match):
        dataclasses.replace(make_set(), **change)


def test_a_number_that_is_none_names_the_image():
    images = make_set().images.clone()
    images[2, 0, 1, 1] = torch.nan
    with pytest.raises(ArgumentError, match="not finite in image 2"):
        dataclasses.replace(make_set(), images=images)


def test_files_that_are_not_it_are_refused(tmp_path):
    from safetensors.torch import save

    with pytest.raises(RunError, match="no such file"):
        Synthetic.load(tmp_path / "none.safetensors")
    file = tmp_path / "made.safetensors"
    file.write_bytes(make_set().save(file).read_bytes()[:50])
    with pytest.raises(RunError, match="truncated or damaged"):
        Synthetic.load(file)
    file.write_bytes(save({"a": torch.zeros(1)}, metadata={"datawinnow": json.dumps({"format": 1})}))
    with pytest.raises(RunError, match="does not hold a synthetic set"):
        Synthetic.load(file)
    file.write_bytes(save({"a": torch.zeros(1)}, metadata={"datawinnow": json.dumps({"format": 99})}))
    with pytest.raises(RunError, match="newer datawinnow"):
        Synthetic.load(file)
