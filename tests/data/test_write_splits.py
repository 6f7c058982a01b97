"""A folder of kept examples is a whole dataset: its test split is the one that the source was tested on."""

from __future__ import annotations

import json
import shutil

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import datawinnow as dw
from datawinnow.data import load, write_kept
from tests.data.helpers import encoded, pixels, write_folder, write_parquet

TABLE = "file_name,label\n" + "".join(f"{c}{i}.png,{c}\n" for c in "ab" for i in range(6))


def flat(folder, table=TABLE):
    folder.mkdir(parents=True)
    for line, array in zip(table.splitlines()[1:], pixels(12), strict=True):
        (folder / line.split(",")[0]).write_bytes(encoded(array))
    (folder / "metadata.csv").write_text(table)


def make(root, layout: str, splits: str):
    """12 training examples; beside them a test split, a validation split and a secret test split, or none."""
    x, y = pixels(12, seed=4), [i % 2 for i in range(12)]
    rows_of_split = {"train": (0, 12)}
    if splits != "none":
        rows_of_split["validation"] = (0, 4)
    if splits == "all":
        rows_of_split["test"] = (4, 10)
    if layout == "folder":
        for name, (a, b) in rows_of_split.items():
            write_folder(root, (b - a) // 2, split=name if splits != "none" else "", seed=a)
        return root
    if layout == "table":
        for name in rows_of_split:
            flat(root / name)
        return root
    root.mkdir(parents=True)
    for name, (a, b) in rows_of_split.items():
        texts = [f"some words {i} of {name}" for i in range(a, b)]
        if layout == "parquet":
            write_parquet(root / f"{name}.parquet", x[a:b], y[a:b])
        elif layout == "texts":
            pq.write_table(pa.table({"text": texts, "label": y[a:b]}), root / f"{name}-00000-of-00001.parquet")
        elif layout in ("tsv", "jsonl", "csv"):
            if layout == "jsonl":
                lines = [f'{{"text": "{t}", "label": {k}}}\n' for t, k in zip(texts, y[a:b], strict=True)]
            else:
                comma = "\t" if layout == "tsv" else ","
                lines = [f"text{comma}label\n", *(f"{t}{comma}{k}\n" for t, k in zip(texts, y[a:b], strict=True))]
            (root / f"{name}.{layout}").write_text("".join(lines))
        elif layout == "npz":
            np.savez(root / f"{name}.npz", x=x[a:b], y=y[a:b])
    if layout == "arrays":
        np.savez(
            root / "a.npz",
            **{
                f"{k}_{name}": v[a:b]
                for name, (a, b) in rows_of_split.items()
                for k, v in (("x", x), ("y", np.array(y)))
            },
        )
        return root / "a.npz"
    if layout == "saved":
        shutil.rmtree(root)
        cells = [{"bytes": encoded(a), "path": None} for a in x]
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
        dataset = datasets.Dataset.from_dict({"image": cells, "label": y}, features=features)
        datasets.DatasetDict({k: dataset.select(range(*v)) for k, v in rows_of_split.items()}).save_to_disk(str(root))
    return root


def same(one, other) -> bool:
    texts = getattr(one, "texts", None)
    if texts is not None:
        return list(texts) == list(other.texts) and one.labels.tolist() == other.labels.tolist()
    return torch.equal(one.x, other.x) and one.labels.tolist() == other.labels.tolist()


LAYOUTS = ["folder", "table", "parquet", "texts", "tsv", "jsonl", "csv", "npz", "arrays", "saved"]


@pytest.mark.parametrize("splits", ["all", "validation", "none"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_splits_are_written(tmp_path, layout, splits):
    if layout in ("tsv", "jsonl", "csv", "table") and splits == "none":
        source = make(tmp_path / "in", layout, splits)
        source = source / f"train.{layout}" if layout != "table" else source / "train"
    else:
        source = make(tmp_path / "in", layout, splits)
    train, test = load(source, holdout=0.34, seed=3)
    index = torch.tensor([0, 2, 5, 6, 7])
    out = write_kept(train, index, tmp_path / "out", test=test)
    again, test_again = load(out)
    assert again.classes == train.classes
    assert same(again, train.subset(index))
    assert same(test_again, test)
    assert not any("held out" in note for note in again.notes)
    if splits == "all":
        assert any("validation" in note and "not used" in note for note in again.notes)


def test_digits_keep_their_held_out_split(tmp_path):
    train, test = load("digits", seed=2)
    again, test_again = load(write_kept(train, torch.arange(0, 1400, 7), tmp_path / "out", test=test))
    assert torch.equal(test_again.x, test.x)
    assert torch.equal(again.x, train.x[0:1400:7])


def test_a_secret_test_split_is_copied(tmp_path):
    write_parquet(tmp_path / "in" / "train.parquet", pixels(8), [0, 1] * 4)
    write_parquet(tmp_path / "in" / "test.parquet", pixels(4, seed=1), [-1] * 4)
    train, test = load(tmp_path / "in", holdout=0.25)
    out = write_kept(train, torch.arange(4), tmp_path / "out", test=test)
    files = sorted(path.name for path in out.glob("*.parquet"))
    assert len(files) == 3
    assert same(load(out)[1], test)


def test_kept_examples_inside_the_dataset_are_no_class(tmp_path):
    classes = ("cat", "dog", "eel")
    write_folder(tmp_path, 6, classes=classes, split="")
    train, test = load(tmp_path)
    index = torch.nonzero(train.labels < 2).flatten()
    write_kept(train, index, tmp_path / "kept", test=test)
    again, _ = load(tmp_path)
    assert again.classes == classes
    assert list(again.ids) == list(train.ids)
    kept, _ = load(tmp_path / "kept")
    assert kept.classes == classes  # a class of which nothing is kept is tested on still
    assert any("1 of 3 classes have no training example: eel" in note for note in kept.notes)


NAMES = {
    "integers": [0, 1, 2],
    "gaps": [3, 7, 9],
    "sentiments": [-1, 0, 1],
    "names": ["ant", "bee", "cow"],
    "zeros": ["007", "7", "x"],
    "points": ["7.0", "8.0", "x"],
}
"""Labels of three classes, as files have them."""


def make_labelled(root, layout: str, labels):
    """18 examples of three classes without a test split."""
    x, texts = pixels(18, seed=3), [f"some words {i} here" for i in range(18)]
    y = [labels[i % 3] for i in range(18)]
    root.mkdir()
    if layout in ("folder", "table"):
        for i, label in enumerate(y):
            folder = root / str(label) if layout == "folder" else root
            folder.mkdir(exist_ok=True)
            (folder / f"{i:02d}.png").write_bytes(encoded(x[i]))
        if layout == "table":
            lines = [f"{i:02d}.png,{label}\n" for i, label in enumerate(y)]
            (root / "metadata.csv").write_text("file_name,label\n" + "".join(lines))
        return root
    if layout == "saved":
        cells = [{"bytes": encoded(a), "path": None} for a in x]
        kind = datasets.Value("string" if isinstance(y[0], str) else "int64")
        features = datasets.Features({"image": datasets.Image(), "label": kind})
        datasets.Dataset.from_dict({"image": cells, "label": y}, features=features).save_to_disk(str(root))
        return root
    path = root / f"a.{'parquet' if layout in ('images', 'texts') else layout}"
    if layout == "npz":
        np.savez(path, x=x, y=np.array(y))
    elif layout == "images":
        write_parquet(path, x, y)
    elif layout == "texts":
        pq.write_table(pa.table({"text": texts, "label": y}), path)
    elif layout == "jsonl":
        rows = [{"text": text, "label": label} for text, label in zip(texts, y, strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        comma = "\t" if layout == "tsv" else ","
        rows = [("text", "label"), *zip(texts, y, strict=True)]
        path.write_text("".join(f"{text}{comma}{label}\n" for text, label in rows))
    return path


@pytest.mark.parametrize("labels", NAMES)
@pytest.mark.parametrize("layout", ["folder", "table", "saved", "images", "texts", "jsonl", "tsv", "csv", "npz"])
def test_a_class_of_which_nothing_is_kept_stays_a_class(tmp_path, layout, labels):
    train, test = load(make_labelled(tmp_path / "in", layout, NAMES[labels]), seed=1)
    for gone in range(3):
        index = torch.nonzero(train.labels != gone).flatten()
        out = write_kept(train, index, tmp_path / f"out{gone}", test=test)
        for source in (out, *out.glob("train.*"), *out.glob("train-*")):
            again, test_again = load(source)
            assert again.classes == train.classes
            if source == out:
                assert again.labels.tolist() == train.labels[index].tolist()
                assert test_again.labels.tolist() == test.labels.tolist()
                # and once more, of what was kept
                second = write_kept(again, torch.arange(1, len(again)), tmp_path / f"twice{gone}", test=test_again)
                assert load(second)[0].classes == train.classes


def test_other_labels_than_those_kept_are_classes_of_their_own(tmp_path):
    train, test = load(make_labelled(tmp_path / "in", "csv", ["ant", "bee", "cow"]))
    out = write_kept(train, torch.arange(len(train)), tmp_path / "out", test=test)
    for path in out.glob("*.csv"):
        path.write_text(path.read_text().replace(",ant", ",eel"))
    assert load(out)[0].classes == ("bee", "cow", "eel")


@pytest.mark.parametrize("layout", ["images", "texts", "jsonl", "npz", "table", "csv"])
def test_a_test_split_of_numbers_only_is_of_the_classes_of_the_train_split(tmp_path, layout):
    for name, labels in (("train", ["7.0", "8.0", "x"]), ("test", ["8.0", "7.0", "8.0"])):
        source = make_labelled(tmp_path / f"made-{name}", layout, labels)
        if source.is_dir():
            shutil.copytree(source, tmp_path / "in" / name)
        else:
            (tmp_path / "in").mkdir(exist_ok=True)
            shutil.copy(source, tmp_path / "in" / f"{name}{source.suffix}")
    train, test = load(tmp_path / "in")
    assert train.classes == ("7.0", "8.0", "x")
    assert test.labels.tolist() == [1, 0, 1] * 6


@pytest.mark.parametrize("layout", ["images", "texts", "jsonl", "npz", "table", "csv"])
def test_spellings_of_a_class_are_one_class_in_every_table(tmp_path, layout):
    train, test = load(make_labelled(tmp_path / "in", layout, [" cat", "cat", "dog"]))
    assert train.classes == ("cat", "dog")
    assert sum("' cat' 6 times" in note for note in train.notes) == 1
    out = write_kept(train, torch.arange(len(train)), tmp_path / "out", test=test)
    assert load(out)[0].labels.tolist() == train.labels.tolist()


@pytest.mark.parametrize("layout", ["folder", "parquet", "csv", "npz"])
def test_prune_says_what_it_does_not_write(tmp_path, layout):
    source = make(tmp_path / "in", layout, "all")
    (source / "README.md").write_text("about")
    (source / ".hidden").write_text("x")
    lines: list[str] = []
    dw.prune(source, keep=0.5, method="random", run=tmp_path / "run", out=tmp_path / "out", log=lines.append)
    assert [line.split(": ", 1)[1] for line in lines if "not written" in line] == ["of in, README.md is not written"]


def test_nothing_is_said_of_what_is_not_the_source(tmp_path, monkeypatch):
    source = make(tmp_path / "in", "csv", "none")
    (tmp_path / "in" / "README.md").write_text("about")
    monkeypatch.chdir(tmp_path / "in")
    lines: list[str] = []
    for data in (load("digits"), load(source / "train.csv")):
        write_kept(data[0], torch.arange(6), tmp_path / "in" / f"out-{data[0].name}", test=data[1], log=lines.append)
    assert lines == []
