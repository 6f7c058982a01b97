"""Folders of images by class."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.data import Examples, load
from datawinnow.data import images as images_module
from datawinnow.data.images import BrokenImage
from datawinnow.data.load import MIRRORED_NOTE
from tests.data.helpers import encoded, pixels, png_header, write_folder


def test_pixels_labels_and_ids_are_those_on_disk(tmp_path):
    written = write_folder(tmp_path, 5) | (tests := write_folder(tmp_path, 3, split="test", seed=1))
    train, test = load(tmp_path)
    assert len(train) == 10
    assert len(test) == 6
    assert train.classes == ("cat", "dog")
    assert train.notes[1:] == (MIRRORED_NOTE,)
    for examples in (train, test):
        assert examples.x.dtype is torch.uint8
        for i in range(len(examples)):
            assert np.array_equal(examples.x[i].permute(1, 2, 0).numpy(), written[examples.id_of(i)])
            assert examples.classes[examples.labels[i]] == examples.id_of(i).split("/")[1]
    assert {test.id_of(i) for i in range(6)} == set(tests)
    assert test.mean == train.mean  # a test split is normalised as the model was trained


def test_mean_and_std_are_of_the_train_pixels(tmp_path):
    written = write_folder(tmp_path, 5)
    write_folder(tmp_path, 3, split="val", seed=1)
    train, test = load(tmp_path)
    values = np.stack(list(written.values())) / 255
    assert train.mean == pytest.approx(values.mean((0, 1, 2)))
    assert train.std == pytest.approx(values.std((0, 1, 2)))
    assert test.split == "test"


def test_grey_images_have_one_channel_and_are_not_mirrored(tmp_path):
    written = write_folder(tmp_path, 3, grey=True)
    write_folder(tmp_path, 2, split="test", grey=True, seed=1)
    train, _ = load(tmp_path)
    assert train.shape == (1, 8, 8)
    assert np.array_equal(train.x[4, 0].numpy(), written[train.id_of(4)])
    assert train.augment.flip is False


def test_colour_only_in_the_test_split_makes_both_colour(tmp_path):
    written = write_folder(tmp_path, 3, grey=True)
    write_folder(tmp_path, 2, split="test", seed=1)
    train, test = load(tmp_path)
    assert train.shape == test.shape == (3, 8, 8)
    assert np.array_equal(train.x[0, 2].numpy(), written[train.id_of(0)])


def test_colour_past_the_sample_of_headers_is_not_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(images_module, "SAMPLE", 2)
    write_folder(tmp_path, 4, grey=True)
    write_folder(tmp_path, 4, split="test", grey=True, seed=1)
    array = pixels(1, seed=9)[0]
    (tmp_path / "train" / "cat" / "02.png").write_bytes(encoded(array))  # neither first nor last
    train, test = load(tmp_path)
    assert train.shape == test.shape == (3, 8, 8)
    assert np.array_equal(train.x[2].permute(1, 2, 0).numpy(), array)


def test_held_out_split_is_stratified_seeded_and_told(tmp_path):
    write_folder(tmp_path, 10, split="")
    train, test = load(tmp_path, holdout=0.3)
    assert torch.bincount(test.labels).tolist() == [3, 3]
    ids = {train.id_of(i) for i in range(14)} | {test.id_of(i) for i in range(6)}
    assert len(ids) == 20
    assert "no test split, so 6 of 20 examples (30%" in train.notes[1]
    again, other = load(tmp_path, holdout=0.3)[1], load(tmp_path, holdout=0.3, seed=1)[1]
    assert list(again.ids) == list(test.ids)
    assert list(other.ids) != list(test.ids)


def test_a_class_of_one_image_stays_in_the_train_split(tmp_path):
    write_folder(tmp_path, 9, split="")
    write_folder(tmp_path, 1, classes=("rare",), split="", seed=3)
    for seed in range(5):
        train, test = load(tmp_path, seed=seed, holdout=0.5)
        assert "rare" in {train.classes[y] for y in train.labels}
        assert "rare" not in {test.classes[y] for y in test.labels}


def test_one_image_a_class_cannot_be_split(tmp_path):
    write_folder(tmp_path, 1, split="")
    with pytest.raises(DataError, match=r"one example a class \(2 in all\) is too few to hold out"):
        load(tmp_path)


def test_a_class_called_train_is_a_class(tmp_path):
    write_folder(tmp_path, 4, classes=("car", "train"), split="")
    train, _ = load(tmp_path)
    assert train.classes == ("car", "train")


@pytest.mark.parametrize(
    ("sizes", "size_option", "side", "message"),
    [
        ([(8, 8), (8, 8)], None, (8, 8), None),
        ([(8, 12), (8, 12)], None, (8, 12), None),
        ([(30, 40), (35, 28)], None, (32, 32), "their sizes differ"),
        ([(100, 80), (100, 80)], None, (64, 64), "they are large"),
        ([(400, 300), (500, 900)], None, (224, 224), "from 300x400 to 900x500 pixels"),
        ([(8, 8), (8, 8)], 16, (16, 16), "resized to 16x16, as asked"),
        ([(8, 8), (8, 8)], 8, (8, 8), None),
    ],
    ids=["same", "same-oblong", "mixed", "large", "huge", "asked", "asked-as-is"],
)
def test_size_is_chosen_and_told(tmp_path, sizes, size_option, side, message):
    for name, (height, width) in zip("ab", sizes, strict=True):
        for i in range(2):
            path = tmp_path / "train" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(np.full((height, width, 3), 90, np.uint8)))
    train, _ = load(tmp_path, size=size_option)
    assert train.shape == (3, *side)
    assert bool((train.x == 90).all())
    assert ("resized" in " ".join(train.notes)) is (message is not None)
    assert message is None or message in " ".join(train.notes)


def test_resizing_is_antialiased(tmp_path):
    stripes = np.zeros((128, 128), np.uint8)
    stripes[:, ::2] = 255
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(2):
            (tmp_path / name / f"{i}.png").write_bytes(encoded(stripes))
    train, _ = load(tmp_path, size=32)
    inner = train.x[..., 4:-4].float()
    assert float((inner - 127.5).abs().max()) < 20  # nearest neighbour would give 0 or 255


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_keep_the_order(tmp_path, monkeypatch, threads):
    monkeypatch.setattr(images_module, "THREADS_FROM", 1 if threads > 1 else 10**9)
    monkeypatch.setattr(images_module.os, "cpu_count", lambda: threads)
    written = write_folder(tmp_path, 150)
    train, _ = load(tmp_path)
    for i in range(len(train)):
        assert np.array_equal(train.x[i].permute(1, 2, 0).numpy(), written[train.id_of(i)])


def _rgba() -> bytes:
    array = np.full((8, 8, 4), 200, np.uint8)
    array[:, 4:, 3] = 0
    array[:, :4, 3] = 255
    return encoded(array)


def _palette() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), (10, 200, 30), np.uint8)).quantize(4).save(file, "PNG")
    return file.getvalue()


def _gif() -> bytes:
    file = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), c) for c in ((255, 0, 0), (0, 0, 255))]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


@pytest.mark.parametrize(
    ("suffix", "data", "expected"),
    [
        ("png", _rgba(), [[200] * 3, [255] * 3]),
        ("png", _palette(), [[10, 200, 30]] * 2),
        ("gif", _gif(), [[255, 0, 0]] * 2),
        ("png", encoded(np.full((8, 8), 500, np.uint16)), [[2] * 3] * 2),  # 500 / 257 = 1.9
        ("bmp", encoded(np.full((8, 8, 3), 7, np.uint8), "BMP"), [[7] * 3] * 2),
        ("tif", encoded(np.full((8, 8, 3), 7, np.uint8), "TIFF"), [[7] * 3] * 2),
        ("ppm", encoded(np.full((8, 8, 3), 7, np.uint8), "PPM"), [[7] * 3] * 2),
        ("webp", encoded(np.full((8, 8, 3), 7, np.uint8), "WEBP", lossless=True), [[7] * 3] * 2),
        ("JPG", encoded(np.full((8, 8, 3), 128, np.uint8), "JPEG"), [[128] * 3] * 2),
    ],
    ids=["alpha-on-white", "palette", "gif-first-frame", "16-bit", "bmp", "tif", "ppm", "webp", "jpg-upper"],
)
def test_every_kind_of_image(tmp_path, suffix, data, expected):
    write_folder(tmp_path, 2)
    write_folder(tmp_path, 2, split="test", seed=1)
    (tmp_path / "train" / "cat" / f"zz.{suffix}").write_bytes(data)
    train, _ = load(tmp_path)
    x = train.x[list(train.ids).index(f"train/cat/zz.{suffix}")]
    assert x[:, 3, 0].tolist() == expected[0]
    assert x[:, 3, 7].tolist() == expected[1]


HALF = encoded(pixels(1, 64)[0])
BROKEN = {
    "truncated": (HALF[: len(HALF) // 2], "image file is truncated|broken PNG|unrecognized data|broken data"),
    "empty": (b"", "not an image"),
    "html": (b"<html><body>404</body></html>", "not an image in a format that is read"),
    "bomb": (png_header(60_000, 60_000), "pixels are too many|exceeds limit"),
    "large bomb": (png_header(12_000, 12_000), "12000x12000 pixels are too many"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n", "not an image in a format"),
    "float": (encoded(np.ones((8, 8), np.float32), "TIFF"), "floating-point pixels"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", list(BROKEN))
def test_a_broken_image_is_named_and_left_out_only_when_told_so(tmp_path, kind):
    data, match = BROKEN[kind]
    written = write_folder(tmp_path, 4)
    write_folder(tmp_path, 2, split="test", seed=1)
    (tmp_path / "train" / "dog" / "01.png").write_bytes(data)
    with pytest.raises(BrokenImage, match=rf"(?s)train/dog/01\.png: .*({match}).*`on_broken='skip'`"):
        load(tmp_path)
    train, _ = load(tmp_path, on_broken="skip")
    assert len(train) == 7
    assert "train/dog/01.png" not in train.ids
    assert any("1 broken train images are left out, the first" in n and "dog/01.png" in n for n in train.notes)
    for i in range(7):
        assert np.array_equal(train.x[i].permute(1, 2, 0).numpy(), written[train.id_of(i)])
        assert train.classes[train.labels[i]] in train.id_of(i)


def test_all_images_broken(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(3):
            (tmp_path / name / f"{i}.png").write_bytes(b"no")
    with pytest.raises(DataError, match="not one image can be read; the first: broken image"):
        load(tmp_path, on_broken="skip")


def test_no_such_folder(tmp_path):
    with pytest.raises(DataError, match=r"no such file or folder: .*nowhere.*DATA can be: digits"):
        load(tmp_path / "nowhere")


def test_one_class(tmp_path):
    write_folder(tmp_path, 5, classes=("cat",))
    with pytest.raises(DataError, match="only one class \\('cat'\\); at least two are needed"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("file", "match"), [(None, "it is empty"), ("a.heic", "it holds 1 other files, for example a.heic")]
)
def test_empty_class_folder(tmp_path, file, match):
    write_folder(tmp_path, 5)
    (tmp_path / "train" / "eel").mkdir()
    if file:
        (tmp_path / "train" / "eel" / file).write_bytes(b"x")
    with pytest.raises(DataError, match=rf"class folder .*train/eel holds no images \({match}"):
        load(tmp_path)


def test_no_images_at_all(tmp_path):
    with pytest.raises(DataError, match=r"no images in .*expected"):
        load(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"no images in .*nor in its folders a"):
        load(tmp_path)


def test_images_without_class_folders(tmp_path):
    (tmp_path / "a.png").write_bytes(HALF)
    with pytest.raises(DataError, match="holds 1 images, but no folders of classes"):
        load(tmp_path)


def test_test_split_with_an_unknown_class(tmp_path):
    write_folder(tmp_path, 3)
    write_folder(tmp_path, 3, classes=("cat", "eel"), split="test", seed=1)
    with pytest.raises(DataError, match=r"test has a class that .*train has not: 'eel'"):
        load(tmp_path)


def test_hidden_and_other_files_are_left_out_and_told(tmp_path):
    write_folder(tmp_path, 3)
    (tmp_path / "train" / "cat" / ".hidden.png").write_bytes(b"x")
    (tmp_path / "train" / "cat" / "readme.txt").write_text("x")
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    write_folder(tmp_path, 2, split="test", seed=1)
    write_folder(tmp_path, 2, split="val", seed=2)
    train, test = load(tmp_path)
    assert len(train) == 6
    assert len(test) == 4
    assert any(n.startswith("1 file below") for n in train.notes)
    assert any("val is not used: test is the test split" in n for n in train.notes)


def test_limit_draws_every_class_by_its_share(tmp_path):
    write_folder(tmp_path, 10)
    write_folder(tmp_path, 2, split="test", seed=1)
    everything, _ = load(tmp_path)
    train, test = load(tmp_path, limit=6)
    assert torch.bincount(train.labels).tolist() == [3, 3]
    assert len(test) == 4
    assert train.mean == test.mean != everything.mean, "of what is trained on"
    assert any("limited to 6 of 20" in n for n in train.notes)
    assert len(load(tmp_path, limit=1000)[0]) == 20


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"size": 0}, r"size must be a whole number in \[2, 4096\], got 0"),
        ({"size": 2.5}, "size must be a whole number"),
        ({"holdout": 0}, "holdout must be a number"),
        ({"holdout": 1.0}, "holdout must be a number"),
        ({"limit": 0}, "limit must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"memory": -1}, "memory must be a whole number"),
        ({"on_broken": "ignore"}, "on_broken must be one of 'raise', 'skip', got 'ignore'"),
        ({"image": "img"}, "`image='img'` names a column, but .* has none"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_options_outside_their_range(tmp_path, options, match):
    write_folder(tmp_path, 3)
    with pytest.raises(ArgumentError, match=match):
        load(tmp_path, **options)


def test_progress_reaches_the_end(tmp_path):
    write_folder(tmp_path, 100)
    write_folder(tmp_path, 2, split="test", seed=1)
    seen = []
    load(tmp_path, progress=lambda stage, done, total: seen.append((stage, done, total)))
    assert [s for s in seen if "train" in s[0]][-1][1:] == (200, 200)
    assert seen[0][0].startswith("decoding train images of")
    assert seen[-1][1:] == (4, 4)


def test_fingerprint_is_of_the_content(tmp_path):
    for name in ("one", "two"):
        write_folder(tmp_path / name, 3)
        write_folder(tmp_path / name, 2, split="test", seed=1)
    one, two = load(tmp_path / "one")[0], load(tmp_path / "two")[0]
    assert isinstance(one, Examples)
    assert one.fingerprint == two.fingerprint
    (tmp_path / "two" / "train" / "cat" / "00.png").write_bytes(encoded(pixels(1, seed=77)[0]))
    assert load(tmp_path / "two")[0].fingerprint != one.fingerprint


def test_with_a_limit_only_what_is_used_is_decoded(tmp_path, monkeypatch):
    write_folder(tmp_path, 20)
    write_folder(tmp_path, 2, split="test", seed=1)
    decoded = []
    decode = images_module.decode
    monkeypatch.setattr(images_module, "decode", lambda raw, plan: (decoded.append(raw), decode(raw, plan))[1])
    train, test = load(tmp_path, limit=6)
    assert len(decoded) == 6 + 4
    assert (len(train), len(test)) == (6, 4)
    assert {path.relative_to(tmp_path).as_posix() for path in decoded} == {*train.ids, *test.ids}
    # normalised by what is trained on
    assert train.mean == pytest.approx((train.x.double() / 255).mean(dim=(0, 2, 3)).tolist())


@pytest.mark.parametrize("seed", range(4))
def test_the_default_size_is_the_same_with_a_test_split_and_without(tmp_path, seed):
    # the sides are such that the median of fewer of them may be another
    sides = [20, 20, 24, 24, 90, 90, 100, 100, 100, 100]
    for name in ("cat", "dog"):
        for i, side in enumerate(sides):
            image = Image.new("RGB", (side, side), (i, i, i))
            for place in (tmp_path / "all" / name, tmp_path / "split" / ("train" if i > 3 else "test") / name):
                place.mkdir(parents=True, exist_ok=True)
                image.save(place / f"{i}.png")
    shapes = {load(tmp_path / "all", seed=seed, holdout=0.4)[0].shape, load(tmp_path / "split")[0].shape}
    assert shapes == {(3, 64, 64)}, "the median of all is 90, of the train split 100"
