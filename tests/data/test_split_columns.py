"""A table whose own column says which split a row belongs to is refused: its test rows would be trained on."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from datawinnow.core.errors import DataError
from datawinnow.data import load
from tests.data.helpers import pixels, table

TEXTS = [f"{'good' if i % 2 else 'bad'} words number {i}" for i in range(20)]
LABELS = ["praise" if i % 2 else "blame" for i in range(20)]
SPLITS = ["train"] * 14 + ["test"] * 6


def write_table(path, columns):
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(columns), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("name", "values"),
    [("split", SPLITS), ("Split", ["Training"] * 14 + ["PublicTest"] * 6), ("is_train", [1] * 14 + [0] * 6)],
    ids=["words", "other words", "yes or no"],
)
def test_texts_are_not_mixed_in_silence(tmp_path, suffix, name, values):
    write_table(tmp_path / f"all{suffix}", {"text": TEXTS, "label": LABELS, name: values})
    with pytest.raises(DataError, match=rf"column '{name}' of .*all{suffix}.* train{suffix} and test{suffix}"):
        load(tmp_path / f"all{suffix}")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_advice_gives_the_two_splits(tmp_path, suffix):
    for split, rows in (("train", slice(14)), ("test", slice(14, 20))):
        columns = {"text": TEXTS[rows], "label": LABELS[rows], "split": SPLITS[rows]}
        write_table(tmp_path / f"{split}{suffix}", columns)
    train, test = load(tmp_path)
    assert (train.texts, test.texts) == (TEXTS[:14], TEXTS[14:])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_files_of_one_split_are_looked_at_together(tmp_path, suffix):
    for i, (split, rows) in enumerate((("train", slice(14)), ("test", slice(14, 20)))):
        columns = {"text": TEXTS[rows], "label": LABELS[rows], "split": [split] * len(TEXTS[rows])}
        write_table(tmp_path / f"train-{i}{suffix}", columns)
    with pytest.raises(DataError, match=rf"column 'split' of .*train-0{suffix}, .*train-1{suffix}"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "values"),
    [("split", ["train"] * 20), ("split", ["a", "b"] * 10), ("set", list(range(20))), ("kind", SPLITS)],
    ids=["one split", "no splits", "numbers", "another name"],
)
def test_other_columns_are_no_splits(tmp_path, name, values):
    write_table(tmp_path / "all.csv", {"text": TEXTS, "label": LABELS, name: values})
    assert sum(map(len, load(tmp_path / "all.csv"))) == 20


def test_the_label_may_be_called_like_one(tmp_path):
    write_table(tmp_path / "all.csv", {"text": TEXTS, "split": ["train", "test"] * 10})
    train, test = load(tmp_path / "all.csv", text="text", label="split")
    assert (len(train) + len(test), sorted(train.classes)) == (20, ["test", "train"])


def write_images(folder):
    folder.mkdir(parents=True)
    for i, image in enumerate(pixels(20)):
        Image.fromarray(image).save(folder / f"{i}.png")


def test_a_table_of_images(tmp_path):
    write_images(tmp_path / "images")
    names = [f"{i}.png" for i in range(20)]
    write_table(tmp_path / "images/metadata.csv", {"file_name": names, "label": LABELS, "split": SPLITS})
    with pytest.raises(DataError, match=r"column 'split' of .*metadata.csv.* train.csv and test.csv"):
        load(tmp_path / "images")
    (tmp_path / "images/metadata.csv").unlink()
    for split, rows in (("train", slice(14)), ("test", slice(14, 20))):
        write_table(tmp_path / f"images/{split}.csv", {"file_name": names[rows], "label": LABELS[rows]})
    train, test = load(tmp_path / "images")
    assert (len(train), len(test)) == (14, 6)


def test_images_in_parquet(tmp_path):
    pq.write_table(table(pixels(20), [i % 2 for i in range(20)], extra={"split": SPLITS}), tmp_path / "all.parquet")
    with pytest.raises(DataError, match=r"column 'split' of .*all.parquet"):
        load(tmp_path / "all.parquet")


def test_arrays(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32), np.arange(20) % 2
    np.savez(tmp_path / "all.npz", x=x, y=y, split=np.array(SPLITS))
    with pytest.raises(DataError, match=r"column 'split' of .*all.npz"):
        load(tmp_path / "all.npz")
    np.savez(tmp_path / "all.npz", x=x, y=y, is_test=np.array([0] * 14 + [1] * 6))
    with pytest.raises(DataError, match=r"column 'is_test' of .*all.npz"):
        load(tmp_path / "all.npz")
    with pytest.raises(DataError, match="column 'split' of the dict"):
        load({"x": x, "y": y, "split": np.array(SPLITS)})


def test_python_objects():
    frame = pd.DataFrame({"a": range(20), "b": range(20), "label": [0, 1] * 10, "split": SPLITS})
    with pytest.raises(DataError, match="column 'split' of the DataFrame"):
        load(frame)
    frame = frame.assign(split=[1] * 14 + [0] * 6).rename(columns={"split": "is_train"})
    with pytest.raises(DataError, match="column 'is_train' of the DataFrame"):
        load(frame)
    items = [{"x": [float(i), 1.0], "label": i % 2, "split": split} for i, split in enumerate(SPLITS)]
    with pytest.raises(DataError, match=r"column 'split' of list .* as test="):
        load(items)


def test_a_hugging_face_dataset():
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"x": [[float(i)] for i in range(20)], "label": [0, 1] * 10, "split": SPLITS})
    with pytest.raises(DataError, match="column 'split' of Dataset"):
        load(dataset)
