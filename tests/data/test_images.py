"""Decoding: images upright, and every depth of grey at its right value."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from datawinnow.core.errors import DataError
from datawinnow.data import load
from datawinnow.data.images import Plan, decode, read_image
from tests.data.helpers import encoded, pixels

ORIENTATION = 0x0112


def with_orientation(array: np.ndarray, value: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return encoded(array, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_images_are_upright(kind):
    array = pixels(1, 24)[0][:16]
    for value in range(1, 9):
        data = with_orientation(array, value, kind)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        plan = Plan(upright.height, upright.width, 3)
        decoded, resized, _ = decode(data, plan)
        assert np.array_equal(decoded.transpose(1, 2, 0), np.asarray(upright.convert("RGB"))), value
        assert not resized
        small, resized, _ = decode(data, Plan(9, 6, 3))
        expected = np.asarray(upright.convert("RGB").resize((6, 9), Image.Resampling.BICUBIC)).astype(int)
        assert resized
        assert np.abs(small.transpose(1, 2, 0).astype(int) - expected).max() <= (40 if kind == "JPEG" else 1)


def test_the_plan_counts_width_and_height_upright(tmp_path):
    array = pixels(1, 24)[0][:16]
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(4):
            (tmp_path / name / f"{i}.jpg").write_bytes(with_orientation(array, 6, "JPEG"))
            (tmp_path / name / f"{i}.png").write_bytes(encoded(array.transpose(1, 0, 2)))  # of the same upright size
    assert load(tmp_path)[0].shape == (3, 24, 16)


def test_orientation_behind_the_pixels_of_a_png_and_damaged_metadata():
    array = pixels(1, 8)[0]
    data = with_orientation(array, 6, "PNG")
    start = data.index(b"eXIf") - 4
    length = 12 + int.from_bytes(data[start : start + 4], "big")
    chunk, end = data[start : start + length], data.index(b"IEND") - 4
    late = data[:start] + data[start + length : end] + chunk + data[end:]
    assert np.array_equal(decode(late, Plan(8, 8, 3))[0], decode(data, Plan(8, 8, 3))[0])
    damaged = encoded(array, "PNG", exif=b"Exif\0\0nonsense")
    assert np.array_equal(decode(damaged, Plan(8, 8, 3))[0].transpose(1, 2, 0), array)


def tiff_of_white_as_0(value: int) -> bytes:
    return encoded(np.full((8, 8), value, np.uint16), "TIFF", tiffinfo={0x0106: 0})


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey_palette() -> Image.Image:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 90, 90, 90])
    return image


SIXTEEN = np.full((8, 8), 0x5A5A, np.uint16)  # 90 * 257


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (encoded(SIXTEEN), 90),
        (encoded(SIXTEEN, "TIFF"), 90),
        (encoded(SIXTEEN.astype(">u2"), "TIFF"), 90),
        (encoded(SIXTEEN, "PPM"), 90),
        (encoded(SIXTEEN.astype(np.int32), "TIFF"), 90),
        (tiff_of_white_as_0(65535 - 0x5A5A), 90),
        (saved(Image.fromarray(SIXTEEN), transparency=0x5A5A), 255),
        (saved(Image.new("LA", (8, 8), (90, 255))), 90),
        (saved(Image.new("LA", (8, 8), (90, 0))), 255),
        (saved(Image.new("1", (8, 8), 1)), 255),
        (saved(Image.new("1", (8, 8), 0), "TIFF"), 0),
        (saved(grey_palette()), 90),
        (saved(grey_palette(), transparency=1), 255),
        (saved(Image.new("CMYK", (8, 8), (0, 0, 0, 165)), "TIFF"), 90),
        (saved(Image.new("CMYK", (8, 8), (0, 0, 0, 165)), "JPEG", quality=100), 90),
    ],
    ids=["16-png", "16-tiff", "16-big-endian", "16-ppm", "32-of-16", "white-is-0", "16-transparent", "LA", "LA-clear",
         "1-white", "1-black", "palette", "palette-clear", "cmyk-tiff", "cmyk-jpeg"],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
def test_every_depth_has_its_right_value(data, value, channels):
    decoded, _, _ = decode(data, Plan(8, 8, channels))
    assert decoded.shape == (channels, 8, 8)
    assert np.abs(decoded.astype(int) - value).max() <= 1


@pytest.mark.parametrize("array", [np.full((8, 8), 70_000, np.int32), np.full((8, 8), -5, np.int32)])
def test_depths_whose_white_is_not_known_are_refused(tmp_path, array):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.tif").write_bytes(encoded(array, "TIFF"))
        (tmp_path / name / "1.tif").write_bytes(encoded(array, "TIFF"))
    with pytest.raises(DataError, match="outside 0 to 65535; save it with 8 or 16 bits"):
        load(tmp_path)


def test_images_without_metadata_are_not_searched_for_it(monkeypatch):
    plain, tagged = encoded(pixels(1)[0], "JPEG"), with_orientation(pixels(1)[0], 1, "JPEG")
    calls = []
    monkeypatch.setattr(Image.Image, "getexif", lambda _: calls.append(1) or {})
    decode(plain, Plan(8, 8, 3))
    assert not calls
    decode(tagged, Plan(8, 8, 3))
    assert calls


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("1", 1), ("LA", 1), ("RGB", 3), ("P", 3), ("CMYK", 3)])
def test_one_encoded_image_has_its_own_channels_and_size(mode, channels):
    values = np.arange(15, dtype=np.uint8).reshape(3, 5) * 16
    image = Image.fromarray(values).convert("RGB").convert(mode) if mode != "L" else Image.fromarray(values)
    if mode == "P":
        image = Image.merge("RGB", [Image.fromarray(values), *[Image.fromarray(255 - values)] * 2]).convert("P")
    stored = io.BytesIO()
    image.save(stored, "TIFF" if mode == "CMYK" else "PNG")
    pixels = read_image(stored.getvalue())
    assert (pixels.dtype, pixels.shape) == (np.uint8, (channels, 3, 5))
    if mode in ("L", "LA", "RGB"):
        assert (pixels == values).all()
    dataset = [{"image": {"bytes": stored.getvalue(), "path": None}, "label": i % 2} for i in range(4)]
    train, _ = load(dataset)
    assert tuple(train[0][0].shape) == (channels, 3, 5)
