"""Thumbnails come from the images of the source, not from what the network gets."""

from __future__ import annotations

from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from datawinnow.data import Examples, load
from datawinnow.data.originals import Originals
from tests.data.helpers import write_parquet


def photo(i: int) -> Image.Image:
    """A photo of 120x80 whose colour says which it is; its upper half is white."""
    pixels = np.full((80, 120, 3), (20 * i, 10, 255 - 20 * i), dtype=np.uint8)
    pixels[:40] = 255
    return Image.fromarray(pixels)


def make(root, layout: str):
    """10 photos of two classes as JPEG, in the folder turned by their EXIF orientation."""
    (root / "files").mkdir(parents=True)
    paths = []
    for i in range(10):
        path = root / "files" / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        image, exif = photo(i), Image.Exif()
        if layout == "folder":
            image, exif[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6
        image.save(path, quality=95, exif=exif)
        paths.append(path)
    if layout == "folder":
        return root / "files"
    cells, labels = [path.read_bytes() for path in paths], [i % 2 for i in range(10)]
    if layout == "parquet":
        (root / "shards").mkdir()
        write_parquet(root / "shards" / "train-00000-of-00002.parquet", cells[:7], labels[:7])
        write_parquet(root / "shards" / "train-00001-of-00002.parquet", cells[7:], labels[7:])
        return root / "shards"
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {"image": [{"bytes": cell, "path": None} for cell in cells], "label": labels}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(root / "saved"))
    return root / "saved"


@pytest.mark.parametrize("memory", [None, 0])
@pytest.mark.parametrize("layout", ["folder", "parquet", "saved"])
def test_thumbnails_are_of_the_source(tmp_path, layout, memory):
    train, test = load(make(tmp_path, layout), size=8, memory=memory)
    subset = train.subset(torch.tensor([5, 1]))
    for split in (train, test, subset):
        for i in range(len(split)):
            image = Originals(split).thumbnail(i, 60)
            assert image.size == (60, 40)
            top, bottom = image.getpixel((30, 5)), image.getpixel((30, 35))
            assert min(top) > 240
            colour = split[i][0][:, 6, 4].tolist()
            assert np.allclose(bottom, colour, atol=12)
    assert not np.allclose(
        Originals(subset).thumbnail(0, 60).getpixel((30, 35)),
        Originals(subset).thumbnail(1, 60).getpixel((30, 35)),
        atol=12,
    )


@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_what_is_not_the_source_any_more_is_not_shown_for_it(tmp_path, layout):
    source = make(tmp_path, layout)
    train, _ = load(source, size=8)
    noisy = train.x.clone()
    noisy[0] = 255 - noisy[0]
    changed = Originals(replace(train, x=noisy))
    assert changed.thumbnail(0, 60) is None
    assert changed.thumbnail(1, 60) is not None
    for path in [*source.rglob("*.jpg"), *source.rglob("*.parquet")]:
        path.unlink()
    assert Originals(train).thumbnail(1, 60) is None


def test_arrays_have_no_originals(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((8, 6, 6, 3), dtype=np.uint8), y=[0, 1] * 4)
    for data in (
        load(tmp_path / "a.npz")[0],
        load("digits")[0],
        Examples(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b")),
        [(torch.zeros(3, 4, 4), 0)],
    ):
        assert Originals(data).thumbnail(0, 60) is None
