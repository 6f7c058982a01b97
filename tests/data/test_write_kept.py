"""Kept examples go back into the layout they came in."""

from __future__ import annotations

import errno
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from datawinnow.core.errors import ArgumentError, DataError, RunError
from datawinnow.data import Examples, load, write_kept
from tests.data.helpers import pixels, write_folder, write_parquet
from tests.data.test_load_parquet import offline  # noqa: F401  (a fixture)

KEPT = torch.tensor([9, 0, 4, 7, 2, 5])


def make(root, layout: str):
    """A train split of 12 and a test split of 4."""
    if layout == "folder":
        write_folder(root, 6)
        write_folder(root, 2, split="test", seed=1)
    elif layout == "npz":
        root.mkdir(parents=True)
        x, y = pixels(12, seed=4), np.arange(12, dtype="int16") % 2
        np.savez(root / "a.npz", x_train=x, y_train=y, x_test=x[:4], y_test=y[:4])
        return root / "a.npz"
    else:
        x = pixels(12, seed=4)
        for name, a, b in (
            ("train-00000-of-00002", 0, 5),
            ("train-00001-of-00002", 5, 12),
            ("test-00000-of-00001", 0, 4),
        ):
            labels = [i % 2 for i in range(a, b)]
            write_parquet(
                root / f"{name}.parquet",
                x[a:b],
                labels,
                names=("a", "b", "c"),
                extra={"note": [str(i) for i in range(a, b)]},
            )
    return root


def beside_test(source, out, layout: str):
    """A dataset of the written train split and the source's own test split."""
    if layout == "folder":
        shutil.copytree(source / "test", out / "test")
    elif layout == "npz":
        with np.load(source) as arrays:
            np.savez(out / "test.npz", x=arrays["x_test"], y=arrays["y_test"])
    else:
        shutil.copy(source / "test-00000-of-00001.parquet", out)
    return load(out)


@pytest.mark.parametrize("memory", [None, 0], ids=["in-memory", "on-demand"])
@pytest.mark.parametrize("layout", ["folder", "parquet", "npz"])
def test_round_trip(tmp_path, layout, memory):
    source = make(tmp_path / "in", layout)
    train, test = load(source, memory=memory)
    out = write_kept(train, KEPT, tmp_path / "deep" / "out")
    assert out == tmp_path / "deep" / "out"
    assert sorted(p.name for p in out.parent.iterdir()) == ["out"]  # nothing half-written beside it
    again, test_again = beside_test(source, out, layout)
    original, _ = load(source)
    order = KEPT.sort().values
    assert torch.equal(again.x, original.x[order])
    assert [again.classes[y] for y in again.labels] == [original.classes[y] for y in original.labels[order]]
    assert len(test_again) == len(test)


@pytest.mark.parametrize("layout", ["folder", "parquet", "npz"])
def test_a_subset_of_a_held_out_split_keeps_its_rows(tmp_path, layout):
    source = make(tmp_path / "in", layout)
    if layout == "folder":
        shutil.rmtree(source / "test")
    elif layout == "npz":
        with np.load(source) as arrays:
            x, y = arrays["x_train"], arrays["y_train"]
        np.savez(source, x=x, y=y)
    else:
        (source / "test-00000-of-00001.parquet").unlink()
    train, _ = load(source, limit=8)
    few = train.subset(torch.tensor([7, 1, 3, 6]))
    out = write_kept(few, torch.tensor([3, 0, 1]), tmp_path / "out")
    expected = {few.x[i].numpy().tobytes() for i in (3, 0, 1)}
    if layout == "folder":
        files = sorted(out.rglob("*.png"))
        assert sorted(f.relative_to(out).as_posix() for f in files) == sorted(few.id_of(i) for i in (3, 0, 1))
        return
    if layout == "npz":
        with np.load(out / "train.npz") as arrays:
            written = {np.ascontiguousarray(a.transpose(2, 0, 1)).tobytes() for a in arrays["x"]}
    else:
        rows = pq.read_table(out / "train-00000-of-00001.parquet").column("note").to_pylist()
        written = {pixels(12, seed=4)[int(r)].transpose(2, 0, 1).tobytes() for r in rows}
    assert written == expected


def test_folder_files_are_the_same_bytes(tmp_path):
    source = make(tmp_path / "in", "folder")
    train, _ = load(source, size=16)  # resized in memory, never on disk
    out = write_kept(train, KEPT, tmp_path / "out")
    written = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png"))
    assert written == sorted(train.id_of(int(i)) for i in KEPT)
    for name in written:
        assert (out / name).read_bytes() == (source / name).read_bytes()


def test_folder_without_splits_goes_below_train(tmp_path):
    write_folder(tmp_path / "in", 5, split="")
    train, _ = load(tmp_path / "in")
    out = write_kept(train, torch.tensor([0, 7]), tmp_path / "out")
    written = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png"))
    assert written == [f"train/{train.id_of(0)}", f"train/{train.id_of(7)}"]


def test_parquet_keeps_schema_metadata_and_other_columns(tmp_path):
    source = make(tmp_path / "in", "parquet")
    train, _ = load(source)
    out = write_kept(train, KEPT, tmp_path / "out")
    output = pq.read_table(out / "train-00000-of-00001.parquet")
    before = pq.read_schema(source / "train-00000-of-00002.parquet")
    assert output.schema.equals(before, check_metadata=True)
    assert output.column("note").to_pylist() == [str(i) for i in sorted(KEPT.tolist())]


def test_parquet_of_many_rows_is_written_in_groups(tmp_path, monkeypatch):
    from datawinnow.data import write

    monkeypatch.setattr(write, "ROWS_PER_GROUP", 4)
    source = make(tmp_path / "in", "parquet")
    out = write_kept(load(source)[0], torch.arange(11, -1, -1), tmp_path / "out")
    file = pq.ParquetFile(out / "train-00000-of-00001.parquet")
    assert file.metadata.num_row_groups > 1
    assert file.read().column("note").to_pylist() == [str(i) for i in range(12)]


def test_npz_keeps_dtype_and_axes(tmp_path):
    source = make(tmp_path / "in", "npz")
    out = write_kept(load(source)[0], KEPT, tmp_path / "out")
    with np.load(out / "train.npz") as output, np.load(source) as before:
        rows = KEPT.sort().values.numpy()
        assert output["y"].dtype == np.int16
        assert np.array_equal(output["x"], before["x_train"][rows])
        assert np.array_equal(output["y"], before["y_train"][rows])


def test_hub_becomes_parquet(offline):  # noqa: F811
    make(offline / "owner" / "name", "parquet")
    train, _ = load("hf:owner/name")
    out = write_kept(train, KEPT, offline / "out")
    output = pq.read_table(out / "train-00000-of-00001.parquet")
    assert output.column("note").to_pylist() == [str(i) for i in sorted(KEPT.tolist())]
    shutil.copy(offline / "owner" / "name" / "test-00000-of-00001.parquet", out)
    again, _ = load(out)
    assert torch.equal(again.x, train.x[KEPT.sort().values])
    assert again.classes == ("a", "b", "c")


def test_digits_and_examples_made_in_python_become_npz(tmp_path):
    train, _ = load("digits")
    index = torch.arange(0, 1400, 7)
    again, rest = load(write_kept(train, index, tmp_path / "out"))
    assert len(again) + len(rest) == len(index)
    rows = torch.tensor([int(i) for i in again.ids])
    assert torch.equal(again.x, train.x[index][rows])
    assert again.labels.tolist() == train.labels[index][rows].tolist()
    examples = Examples(torch.arange(24.0).reshape(8, 3), torch.tensor([0, 1] * 4), ("no", "yes"))
    again, _ = load(write_kept(examples, torch.arange(8), tmp_path / "own"), standardise=False)
    assert again.classes == ("no", "yes")
    assert torch.equal(again.x, examples.x[[int(i) for i in again.ids]])


@pytest.mark.parametrize(
    ("index", "match"),
    [
        (torch.tensor([0, 12]), "index must be within 0 to 11, got 0 to 12: it is of another dataset"),
        (torch.tensor([-1, 1]), "index must be within 0 to 11"),
        (torch.tensor([1, 1]), "index has an id twice"),
        (torch.tensor([], dtype=torch.int64), "index is empty"),
        (torch.tensor([1.0]), "index must be an int64 tensor"),
        ([1, 2], r"index must be an int64 tensor of shape \(m,\), got \[1, 2\]"),
    ],
    ids=["above", "negative", "twice", "empty", "float", "list"],
)
def test_index_that_is_none(tmp_path, index, match):
    train, _ = load(make(tmp_path / "in", "folder"))
    with pytest.raises(ArgumentError, match=match):
        write_kept(train, index, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_out_that_is_not_empty(tmp_path):
    train, _ = load(make(tmp_path / "in", "folder"))
    (tmp_path / "out").mkdir()
    write_kept(train, KEPT, tmp_path / "out")  # empty: taken
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="out exists already and is not an empty folder"):
        write_kept(train, KEPT, tmp_path / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="file exists already"):
        write_kept(train, KEPT, tmp_path / "file")
    assert sorted(p for p in tmp_path.rglob("*") if p.name != "file") == before


@pytest.mark.parametrize("layout", ["folder", "parquet", "npz"])
def test_changed_labels_cannot_go_back(tmp_path, layout):
    train, _ = load(make(tmp_path / "in", layout))
    noisy = train.with_labels(1 - train.labels)
    with pytest.raises(DataError, match=r"where the dataset in memory says .* labels were changed"):
        write_kept(noisy, KEPT, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize("layout", ["folder", "parquet", "npz"])
def test_a_source_that_is_gone(tmp_path, layout):
    train, _ = load(make(tmp_path / "in", layout))
    shutil.rmtree(tmp_path / "in")
    with pytest.raises(DataError, match=r"is gone|no such file"):
        write_kept(train, KEPT, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_shrank(tmp_path):
    source = make(tmp_path / "in", "parquet")
    train, _ = load(source)
    write_parquet(source / "train-00001-of-00002.parquet", pixels(1), [1], names=("a", "b", "c"), extra={"note": ["5"]})
    with pytest.raises(DataError, match="fewer rows than when it was loaded"):
        write_kept(train, KEPT, tmp_path / "out")


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    train, _ = load(make(tmp_path / "in", "folder"))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(RunError, match=r"the disk is full: could not write .*out"):
        write_kept(train, KEPT, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


def test_uncompressed_parquet_stays_uncompressed(tmp_path):
    x = pixels(12, seed=4)
    write_parquet(tmp_path / "in.parquet", list(x), [i % 2 for i in range(12)], names=("a", "b"))
    pq.write_table(pq.read_table(tmp_path / "in.parquet"), tmp_path / "plain.parquet", compression="none")
    out = write_kept(load(tmp_path / "plain.parquet", holdout=0.25)[0], torch.tensor([0, 3, 5]), tmp_path / "out")
    file = pq.ParquetFile(out / "train-00000-of-00001.parquet")
    assert file.metadata.row_group(0).column(0).compression == "UNCOMPRESSED"
    assert file.metadata.num_rows == 3


def test_parquet_with_views_of_strings(tmp_path):
    texts = [f"text number {i}" for i in range(12)]
    views = pa.array(texts, pa.string_view())
    pq.write_table(pa.table({"text": views, "label": [i % 2 for i in range(12)]}), tmp_path / "in.parquet")
    train, _ = load(tmp_path / "in.parquet", holdout=0.25)
    out = write_kept(train, torch.tensor([0, 3, 5]), tmp_path / "out")
    kept = pq.read_table(out / "train-00000-of-00001.parquet")
    assert kept.column("text").to_pylist() == [train.texts[i] for i in (0, 3, 5)]


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64])
def test_npz_with_class_names_whatever_the_labels_are(tmp_path, kind):
    x, y = np.arange(40, dtype=np.float32).reshape(10, 4), (np.arange(10) % 2).astype(kind)
    np.savez(tmp_path / "a.npz", x=x, y=y, classes=np.array(["no", "yes"]))
    train, test = load(tmp_path / "a.npz", holdout=0.2)
    write_kept(train, torch.arange(3), tmp_path / "out", test=test)
    again, _ = load(tmp_path / "out")
    assert again.classes == ("no", "yes")
    assert [again.classes[i] for i in again.labels] == [train.classes[i] for i in train.labels[:3]]
    # a label without a name: the file was replaced since
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(10) % 3, classes=np.array(["no", "yes"]))
    with pytest.raises(DataError, match="the source changed since it was loaded"):
        write_kept(train, torch.arange(5), tmp_path / "other", test=test)


def test_a_class_may_be_called_as_a_split(tmp_path):
    write_folder(tmp_path / "all", 6, ("car", "train"), "")
    train, test = load(tmp_path / "all", holdout=0.3)
    assert train.classes == ("car", "train")
    write_kept(train, torch.arange(len(train)), tmp_path / "out", test=test)
    again, again_test = load(tmp_path / "out")
    assert again.classes == train.classes
    assert torch.equal(again.labels, train.labels)
    assert torch.equal(again_test.labels, test.labels)
