"""Positions of kept examples in the user's own dataset, whatever was held out, limited or left out on loading."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

import datawinnow as dw
from datawinnow.core.errors import ArgumentError

Y = np.arange(40) * 7 % 3
X = (np.arange(40)[:, None] + np.zeros((1, 4))).astype(np.float32)  # x says which example it is


def kept_of(train, *, reverse: bool = True) -> dw.Kept:
    """Every third example of a split, in falling order."""
    index = torch.arange(0, len(train), 3)
    return dw.Kept(train, dw.Selection.of(index.flip(0) if reverse else index, len(train)))


class Frame:
    """As much of a DataFrame as is used."""

    columns = ("a", "label")

    def __getitem__(self, key):
        return pa.array({"a": X[:, 0], "label": Y}[key])

    def __len__(self):
        return len(Y)

    def to_numpy(self):
        return np.stack([X[:, 0], Y], axis=1)


class Items:
    def __init__(self, items):
        self.all_items = items

    def __len__(self):
        return len(self.all_items)

    def __getitem__(self, i):
        return self.all_items[i]


SOURCES = {
    "arrays": ((X, Y), (X, Y)),
    "dict of arrays": ({"x": X, "y": Y}, {"x": X, "y": Y}),
    "arrays, then a TensorDataset": ((X, Y), TensorDataset(torch.tensor(X), torch.tensor(Y))),
    "items": ((items := Items([(torch.tensor(x), int(y)) for x, y in zip(X, Y, strict=True)])), items),
    "names": ((named := Items([{"x": torch.tensor(x), "label": f"c{y}"} for x, y in zip(X, Y, strict=True)])), named),
    "frame": (Frame(), Frame()),
}


@pytest.mark.parametrize(("source", "dataset"), SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("limit", [None, 20])
def test_rows_are_those_of_the_dataset_that_was_given(source, dataset, limit):
    train, _ = dw.load(source, limit=limit, standardise=False)
    kept = kept_of(train)
    expected = [int(train[i][0].flatten()[0]) for i in kept.selection.index.tolist()]
    assert kept.rows.tolist() == expected
    assert kept.ids == list(map(str, expected))
    assert kept.indices_in(dataset).tolist() == expected
    assert kept.selection.index.tolist() != expected  # indexing by it would take other examples
    assert kept.indices_in(train).tolist() == kept.selection.index.tolist()


def test_a_dataset_given_whole_is_indexed_as_it_is():
    dataset = TensorDataset(torch.tensor(X), torch.tensor(Y))
    kept = dw.prune(dataset, keep=0.25, method="random")
    assert torch.equal(kept.indices_in(dataset), kept.selection.index)
    assert torch.equal(kept.rows, kept.selection.index)
    assert kept.indices_in((X, Y)).tolist() == kept.selection.index.tolist()


def test_rows_survive_subsets_of_subsets():
    examples = dw.Examples(torch.tensor(X), torch.tensor(Y), ("a", "b", "c"))
    subset = examples.subset(torch.arange(30, 40)).subset(torch.tensor([9, 1, 4]))
    kept = dw.Kept(subset, dw.Selection.of(torch.tensor([2, 0]), 3))
    assert kept.rows.tolist() == [34, 39]
    assert kept.indices_in((X, Y)).tolist() == [34, 39]
    assert kept.indices_in(examples.subset(torch.arange(30, 40))).tolist() == [4, 9]


@pytest.mark.parametrize("suffix", ["npz", "csv", "jsonl", "parquet"])
def test_rows_of_files(tmp_path, suffix):
    path = tmp_path / f"data.{suffix}"
    words = [f"text number {i} of {40 - i}" for i in range(40)]
    if suffix == "npz":
        np.savez(path, x=X, y=Y)
    elif suffix == "csv":
        lines = ["text,label", *(f'"{word}",c{y}' for word, y in zip(words, Y, strict=True))]
        path.write_text("\n".join([*lines[:5], "only one cell", *lines[5:]]))
    elif suffix == "jsonl":
        path.write_text(
            "".join(json.dumps({"text": w, "label": f"c{y}"}) + "\n" for w, y in zip(words, Y, strict=True))
        )
    else:
        pq.write_table(pa.table({"text": words, "label": Y}), path)
    options = {"csv": {"on_broken": "skip"}, "npz": {"standardise": False}}
    train, _ = dw.load(path, **options.get(suffix, {}))
    kept = kept_of(train)
    if suffix == "npz":
        mine, expected = (X, Y), [int(train.x[i, 0]) for i in kept.selection.index]
    else:
        broken = [4] if suffix == "csv" else []
        labels, texts = [f"c{y}" for y in Y] if suffix != "parquet" else Y.tolist(), list(words)
        for row in broken:
            texts.insert(row, "only one cell")
            labels.insert(row, labels[row])
        mine = {"text": texts, "label": labels}
        expected = [texts.index(train.texts[i]) for i in kept.selection.index]
    assert kept.rows.tolist() == expected
    assert kept.indices_in(mine).tolist() == expected


class Folder:
    """As torchvision's ImageFolder: files by class, with their labels."""

    def __init__(self, paths):
        self.samples = [(str(path), sorted({p.parent.name for p in paths}).index(path.parent.name)) for path in paths]
        self.targets = [label for _, label in self.samples]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples[i]


def test_files_are_found_by_name_whatever_their_order(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for k in range(6):
            Image.new("RGB", (8, 8), (40 * k, 0, 0)).save(tmp_path / name / f"{k}.png")
    train, _ = dw.load(tmp_path)
    kept = kept_of(train, reverse=False)
    files = sorted(tmp_path.glob("*/*.png"), reverse=True)
    for mine in (files, [file.relative_to(tmp_path) for file in files], Folder(files), np.array(list(map(str, files)))):
        assert [files[i].relative_to(tmp_path).as_posix() for i in kept.indices_in(mine)] == kept.ids
    with pytest.raises(ArgumentError, match=r"'cat/.*not among"):
        kept.indices_in([file for file in files if file.parent.name == "dog"])
    with pytest.raises(ArgumentError, match="times among"):
        kept.indices_in([*files, *files])
    with pytest.raises(ArgumentError, match="list of its paths"):
        kept.indices_in(TensorDataset(torch.zeros(12, 2), torch.zeros(12)))


def test_a_dataset_that_does_not_fit_is_refused():
    train, test = dw.load((X, Y))
    kept = kept_of(train)
    with pytest.raises(ArgumentError, match="39 examples, but these were chosen from a source of 40"):
        kept.indices_in((X[:39], Y[:39]))
    with pytest.raises(ArgumentError, match="another one, or in another order"):
        kept.indices_in((X[::-1], Y[::-1]))
    with pytest.raises(ArgumentError, match="another one, or in another order"):
        kept.indices_in(TensorDataset(torch.tensor(X), torch.tensor(np.roll(Y, 1))))
    with pytest.raises(ArgumentError, match="lacks"):
        kept.indices_in(test)
    assert kept.indices_in((X, Y * 10 + 5)).tolist() == kept.rows.tolist()  # other numbers for the same classes


@pytest.mark.parametrize(
    "labels", [Y[:, None], np.eye(3)[Y], Y[:, None].astype(float)], ids=["column", "one-hot", "float"]
)
def test_labels_in_columns_are_compared_too(labels):
    kept = kept_of(dw.load((X, Y))[0])
    expected = kept.indices_in((X, Y))
    assert torch.equal(kept.indices_in((X, labels)), expected)
    with pytest.raises(ArgumentError, match="in another order"):
        kept.indices_in((X, np.roll(labels, 1, axis=0)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_labels_that_are_no_numbers_are_named(value):
    kept = kept_of(dw.load((X, Y))[0])
    labels = Y.astype(float)
    labels[kept.indices_in((X, Y))[0]] = value
    with pytest.raises(ArgumentError, match=f"has the label {value}, but example"):
        kept.indices_in((X, labels))


@pytest.mark.parametrize("columns", [["a", "species"], ["a", "label"], ["ids", "species"], ["ids", "label"]])
def test_rows_of_a_frame_are_found_whatever_its_columns_are_called(columns):
    pandas = pytest.importorskip("pandas")
    name, label = columns
    # the index counts from elsewhere, in another order
    frame = pandas.DataFrame({name: X[:, 0] // 7, label: Y, "which": X[:, 0]}, index=np.arange(140, 100, -1))
    train, _ = dw.load(frame, label=label, standardise=False)
    kept = kept_of(train)
    index = kept.indices_in(frame)
    assert frame["which"].to_numpy()[index].tolist() == train.x[kept.selection.index][:, -1].tolist()


@pytest.mark.parametrize("form", ["frame", "dict"])
@pytest.mark.parametrize("feature", ["targets", "label", "y"])
def test_a_feature_that_is_called_as_labels_are_is_no_label(form, feature):
    pandas = pytest.importorskip("pandas")
    names = np.array(["ant", "bee"])[Y % 2]
    frame = pandas.DataFrame({feature: X[:, 0] * 0.5, "which": X[:, 0], "species": names})
    train, _ = dw.load(frame, label="species", standardise=False)
    kept = kept_of(train)
    dataset = frame if form == "frame" else {name: frame[name].to_numpy() for name in frame}
    index = kept.indices_in(dataset)
    assert frame["which"].to_numpy()[index].tolist() == train.x[kept.selection.index][:, -1].tolist()
    shuffled = frame.assign(species=names[np.roll(np.arange(len(names)), 1)])
    with pytest.raises(ArgumentError, match="another one, or in another order"):
        kept.indices_in(shuffled if form == "frame" else {name: shuffled[name].to_numpy() for name in shuffled})
