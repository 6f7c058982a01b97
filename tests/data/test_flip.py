"""Whether images are mirrored in training: chosen and told, or as the user says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datawinnow.core.errors import ArgumentError
from datawinnow.data.batches import batches_of
from datawinnow.data.load import load
from tests.data.helpers import pixels, write_folder, write_parquet

TOLD = "images are mirrored left to right half of the time"


def folder(path, grey):
    write_folder(path, 8, grey=grey)
    write_folder(path, 2, split="test", grey=grey, seed=1)
    return path


def parquet(path, grey):
    for split in ("train", "test"):
        write_parquet(path / f"{split}-0.parquet", pixels(16, grey=grey), [0, 1] * 8)
    return path


def npz(path, grey):
    np.savez(path / "x.npz", x=pixels(20, grey=grey), y=np.arange(20) % 2)
    return path / "x.npz"


@pytest.mark.parametrize("memory", [None, 0], ids=["in memory", "on demand"])
@pytest.mark.parametrize("make", [folder, parquet, npz])
@pytest.mark.parametrize(
    ("grey", "flip", "mirrored"),
    [(False, None, True), (True, None, False), (False, False, False), (True, True, True), (False, True, True)],
    ids=["colour", "grey", "colour, not", "grey, told to", "colour, told to"],
)
def test_it_is_chosen_by_colour_or_told_and_noted(tmp_path, make, memory, grey, flip, mirrored):
    source = make(tmp_path, grey)
    train, test = load(source, flip=flip, memory=memory if make is not npz else None)
    assert train.augment.flip is mirrored
    assert train.augment.crop == 1  # crops go on
    notes = [note for note in train.notes if TOLD in note]
    assert len(notes) == mirrored
    assert all("`flip=False`" in note for note in notes)
    assert test.augment.flip is mirrored


def test_images_that_are_not_mirrored_never_are(tmp_path):
    """An arrow to the right in training is an arrow to the right."""
    y = np.arange(40) % 2
    x = np.zeros((40, 8, 8, 3), np.uint8)
    x[:, :, 5:] = 250
    np.savez(tmp_path / "arrows.npz", x=x, y=y)

    def bright(flip):
        train, _ = load(tmp_path / "arrows.npz", flip=flip)
        batches = batches_of(train, torch.device("cpu"), workers=0)
        batches_seen = batches.train(torch.arange(len(train)), 8, torch.Generator().manual_seed(0))
        return {bool(each[0, :, 6:].mean() > each[0, :, :2].mean()) for _, x, _ in batches_seen for each in x}

    assert bright(False) == {True}
    assert bright(None) == {True, False}


def test_digits_are_mirrored_only_when_told_to():
    assert load("digits")[0].augment.flip is False
    assert load("digits", flip=True)[0].augment.flip is True


def test_it_is_no_other_dataset(tmp_path):
    source = folder(tmp_path, False)
    assert load(source, flip=False)[0].fingerprint == load(source)[0].fingerprint


def test_vectors_cannot_be_mirrored(tmp_path):
    np.savez(tmp_path / "v.npz", x=np.eye(20, 5, dtype=np.float32), y=np.arange(20) % 2)
    assert load(tmp_path / "v.npz", flip=False)[0].augment is None
    with pytest.raises(ArgumentError, match="`flip=True`, but v holds no images that could be mirrored: leave it out"):
        load(tmp_path / "v.npz", flip=True)
    with pytest.raises(ArgumentError, match="flip must be True, False or None, got 'no'"):
        load(tmp_path / "v.npz", flip="no")
