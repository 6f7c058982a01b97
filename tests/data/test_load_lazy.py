"""Images that do not fit in memory are decoded on demand."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datawinnow.core.errors import DataError
from datawinnow.core.rng import stream
from datawinnow.data import Examples, LazyExamples, arrow, load
from tests.data.helpers import pixels, write_folder, write_parquet


def make(tmp_path, layout: str, n: int = 12):
    if layout == "folder":
        write_folder(tmp_path / "d", n // 2)
        write_folder(tmp_path / "d", 2, split="test", seed=1)
    else:
        x = pixels(n, seed=4)
        write_parquet(tmp_path / "d" / "train-0.parquet", x[: n // 2], [0, 1] * (n // 4), names=("a", "b"))
        write_parquet(tmp_path / "d" / "train-1.parquet", x[n // 2 :], [0, 1] * (n // 4), names=("a", "b"))
        write_parquet(tmp_path / "d" / "test-0.parquet", pixels(4, seed=5), [0, 1] * 2, names=("a", "b"))
    return tmp_path / "d"


@pytest.fixture(params=["folder", "parquet", "parquet without cache"])
def both(request, tmp_path, monkeypatch):
    """The same data in memory and on demand."""
    if "without" in request.param:
        monkeypatch.setenv("DATAWINNOW_CACHE", "")
        monkeypatch.setattr(arrow, "CACHED_BYTES", 1)
    root = make(tmp_path, request.param.split()[0])
    (memory, test), (lazy, lazy_test) = load(root), load(root, memory=100)
    assert isinstance(memory, Examples)
    assert isinstance(lazy, LazyExamples)
    assert isinstance(lazy_test, LazyExamples)
    assert len(lazy_test) == len(test)
    return memory, lazy


def test_same_pixels_labels_and_attributes(both):
    memory, lazy = both
    for i in [5, 0, 11, 3, 3, 7, *range(12)]:  # in no order: a row of another row group each time
        assert torch.equal(lazy[i][0], memory.x[i])
        assert lazy[i][1] == int(memory.labels[i])
        assert lazy.id_of(i) == memory.id_of(i)
    assert torch.equal(lazy[-1][0], memory.x[11])
    for name in ("n", "shape", "classes", "name", "split", "augment", "mean"):
        assert getattr(lazy, name) == getattr(memory, name)
    assert torch.equal(lazy.labels, memory.labels)
    assert any("decoded on demand" in n for n in lazy.notes)
    with pytest.raises(IndexError, match="example 12 of 12"):
        lazy[12]


def test_subset_and_labels(both):
    memory, lazy = both
    index = torch.tensor([9, 2, 10])
    few = lazy.subset(index, name="few").subset(torch.tensor([2, 0]))
    assert torch.equal(torch.stack([few[i][0] for i in range(2)]), memory.x[[10, 9]])
    assert list(few.ids) == [memory.id_of(10), memory.id_of(9)]
    assert few.name == "few"
    assert few.mean == lazy.mean
    expected = memory.subset(index).subset(torch.tensor([2, 0])).origin.rows
    assert torch.equal(few.origin.rows, expected)
    flipped = lazy.with_labels(1 - lazy.labels)
    assert flipped[0][1] == 1 - lazy[0][1]
    assert flipped.fingerprint != lazy.fingerprint
    drawn = lazy.stratified(4, stream(0, "test"))
    assert torch.bincount(drawn.labels).tolist() == [2, 2]


def test_pickles_for_spawned_workers(both):
    memory, lazy = both
    before = pickle.dumps(lazy.images)
    _ = lazy[0], lazy.fingerprint  # files are open now
    assert pickle.dumps(lazy.images) == before
    copy = pickle.loads(pickle.dumps(lazy))
    assert torch.equal(copy[7][0], memory.x[7])
    assert copy.fingerprint == lazy.fingerprint


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_dataloader_with_workers(tmp_path, start):
    root = make(tmp_path, "parquet")
    memory, lazy = load(root)[0], load(root, memory=0)[0]
    loader = DataLoader(lazy, batch_size=5, num_workers=1, multiprocessing_context=start)
    x, y = (torch.cat(tensors) for tensors in zip(*loader, strict=True))
    assert torch.equal(x, memory.x)
    assert torch.equal(y, memory.labels)


def test_fingerprint_is_of_the_content(tmp_path):
    one, two = (make(tmp_path / name, "folder") for name in ("one", "two"))
    assert load(one, memory=0)[0].fingerprint == load(two, memory=0)[0].fingerprint
    (two / "train" / "cat" / "00.png").write_bytes((two / "train" / "cat" / "01.png").read_bytes())
    assert load(one, memory=0)[0].fingerprint != load(two, memory=0)[0].fingerprint


@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_a_limit_that_fits_is_decoded(tmp_path, layout):
    root = make(tmp_path, layout)
    need = (4 + 4) * 3 * 8 * 8
    train, test = load(root, memory=need, limit=4)
    assert isinstance(train, Examples)
    assert isinstance(test, Examples)
    assert torch.bincount(train.labels).tolist() == [2, 2]
    full, _ = load(root)
    for i, row in enumerate(train.origin.rows.tolist()):
        assert torch.equal(train.x[i], full.x[row])
    assert any("limited to 4 of 12" in n for n in train.notes)
    assert isinstance(load(root, memory=need - 1, limit=4)[0], LazyExamples)
    assert len(load(root, memory=need - 1, limit=4)[0]) == 4


def test_a_broken_image_is_named_when_met_or_found_beforehand(tmp_path):
    root = make(tmp_path, "folder")
    bad = root / "train" / "dog" / "02.png"
    bad.write_bytes(bad.read_bytes()[:60])
    lazy, _ = load(root, memory=0)
    i = list(lazy.ids).index("train/dog/02.png")
    with pytest.raises(DataError, match=r"broken image .*train/dog/02\.png"):
        lazy[i]
    seen = []
    fewer, _ = load(root, memory=0, on_broken="skip", progress=lambda *call: seen.append(call))
    assert len(fewer) == 11
    assert "train/dog/02.png" not in fewer.ids
    assert any("1 broken train images are left out" in n for n in fewer.notes)
    assert seen[0][0].startswith("checking train images")
    assert fewer[i][1] == 1


def test_a_broken_row_is_named_by_its_parquet_file(tmp_path):
    arrays = list(pixels(8))
    arrays[5] = b"<html>"
    write_parquet(tmp_path / "train-0.parquet", arrays, [0, 1] * 4)
    write_parquet(tmp_path / "test-0.parquet", pixels(2), [0, 1])
    lazy, _ = load(tmp_path, memory=0)
    with pytest.raises(DataError, match=r"broken image row 5 of .*train-0\.parquet"):
        lazy.subset(torch.tensor([2, 5]))[1]


def test_colour_only_in_the_test_split(tmp_path):
    write_folder(tmp_path, 3, grey=True)
    write_folder(tmp_path, 2, split="test", seed=1)
    memory, lazy = load(tmp_path)[1], load(tmp_path, memory=0)[1]
    assert torch.equal(lazy[0][0], memory.x[0])
    assert lazy.shape == (3, 8, 8)


def test_a_damaged_copy_of_parquet_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("DATAWINNOW_CACHE", str(tmp_path / "c"))
    root = make(tmp_path, "parquet")
    memory, _ = load(root)
    load(root, memory=0)
    copies = list((tmp_path / "c").glob("*.arrow"))
    assert len(copies) == 2
    for copy in copies:
        copy.write_bytes(copy.read_bytes()[:300])
    lazy, _ = load(root, memory=0)
    assert np.array_equal(lazy[8][0].numpy(), memory.x[8].numpy())


def test_held_out_split_on_demand(tmp_path):
    write_folder(tmp_path, 10, split="")
    memory, lazy = load(tmp_path), load(tmp_path, memory=0)
    for a, b in zip(memory, lazy, strict=True):
        assert list(a.ids) == list(b.ids)
        assert all(torch.equal(a.x[i], b[i][0]) for i in range(len(a)))
