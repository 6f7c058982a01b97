"""What people give by mistake or as it came: read as it is meant, or an error with advice that works."""

from __future__ import annotations

import gzip

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from scipy import sparse

import datawinnow as dw
from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.data import load
from tests.data.helpers import encoded, pixels, write_folder

X, Y = pixels(20), [i % 2 for i in range(20)]
CHANNELS_FIRST = torch.from_numpy(np.ascontiguousarray(X.transpose(0, 3, 1, 2)))


def hugging_face(cells, kind) -> datasets.Dataset:
    return datasets.Dataset.from_dict(
        {"image": cells, "label": Y}, features=datasets.Features({"image": kind, "label": datasets.Value("int64")})
    )


ITEMS = {
    "Pillow": [(Image.fromarray(x), y) for x, y in zip(X, Y, strict=True)],
    "height, width, channels": [(x, y) for x, y in zip(X, Y, strict=True)],
    "a tensor of that": [(torch.from_numpy(x), y) for x, y in zip(X, Y, strict=True)],
    "dicts of that": [{"image": x, "label": y} for x, y in zip(X, Y, strict=True)],
    "images of Hugging Face": hugging_face([{"bytes": encoded(x), "path": None} for x in X], datasets.Image()),
    "not decoded": hugging_face([{"bytes": encoded(x), "path": None} for x in X], datasets.Image(decode=False)),
    "bytes": hugging_face([encoded(x) for x in X], datasets.Value("binary")),
}


class TestObjects:
    @pytest.mark.parametrize("kind", ITEMS)
    def test_images_of_every_kind_become_channels_first(self, kind):
        train, test = load(ITEMS[kind])
        rows = [int(i) for i in train.ids]
        for i, row in enumerate(rows):
            x, y = train[i]
            assert torch.equal(torch.as_tensor(x), CHANNELS_FIRST[row])
            assert y == Y[row]
        assert len(train) + len(test) == 20

    @pytest.mark.parametrize("kind", ["Pillow", "height, width, channels", "not decoded"])
    def test_verbs_take_them_as_load_does(self, kind):
        pruned = dw.prune(ITEMS[kind], keep=0.5, method="random", per_class=True)
        assert len(pruned) == 10
        assert tuple(pruned[0][0].shape) == (3, 8, 8)

    @pytest.mark.parametrize("labels", [Y, ["ant", "bee"] * 10])
    @pytest.mark.parametrize("x", [list(X), X, list(CHANNELS_FIRST)])
    def test_a_pair_of_lists_is_all_examples(self, x, labels):
        train, test = load((x, labels))
        assert (len(train), len(test)) == (16, 4)
        assert train.shape == (3, 8, 8)

    def test_two_items_in_a_tuple_are_a_dataset(self):
        with pytest.raises(DataError, match="too few to hold out"):
            load(((CHANNELS_FIRST[0], 0), (CHANNELS_FIRST[1], 1)))

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ([], "holds no examples"),
            ([(x, y, 0) for x, y in zip(X, Y, strict=True)], r"must be \(x, y\), got tuple of length 3"),
            ([(torch.zeros(3), None if i == 3 else y) for i, y in enumerate(Y)], "integer y"),
            (
                [{"x": torch.zeros(3), "y": None if i == 3 else y} for i, y in enumerate(Y)],
                "label of example 3 is miss",
            ),
            ((X.astype(np.uint16) * 257, np.array(Y)), r"got uint16; scale them: \(x / 65535 \* 255\)"),
            (pd.DataFrame({"a": [1.0, np.nan] * 10, "label": Y}), "column 'a' of the DataFrame is not finite in row 1"),
            (pd.concat([pd.DataFrame({"a": Y, "y": Y}), pd.DataFrame({"y": Y})], axis=1), "2 columns called 'y'"),
            (hugging_face([b"no image"] * 20, datasets.Value("binary")), "broken image: it is not an image"),
        ],
        ids=["empty", "triples", "no label", "no label in a dict", "wide", "NaN", "two labels", "no image"],
    )
    def test_what_cannot_be_read_is_named(self, data, message):
        with pytest.raises(DataError, match=message):
            load(data)

    def test_sparse_matrices_are_refused_with_advice(self):
        x = sparse.random(20, 5, 0.5, "csr", random_state=0)
        with pytest.raises(ArgumentError, match=r"x\.toarray"):
            load((x, np.array(Y)))
        assert sum(map(len, load((x.toarray(), np.array(Y))))) == 20

    def test_images_of_several_sizes_are_said(self):
        items = [(Image.fromarray(pixels(1, 8 + i % 2)[0]), i % 2) for i in range(20)]
        with pytest.raises(DataError, match=r"differ in shape.*Resize"):
            dw.prune(items, keep=0.5, score="el2n", epochs=1)


CSV = "text,label\n" + "".join(f"some words {i},{'ab'[i % 2]}\n" for i in range(20))


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "advice"),
        [
            ("a.csv.gz", "unpack it"),
            ("a.zip", "unpack it"),
            ("a.tar.gz", "unpack it"),
            ("a.json", "JSON lines"),
            ("a.xlsx", "save the sheet as .csv"),
            ("a.npy", "numpy.savez"),
            ("a.pt", "numpy.savez"),
            ("a.txt", "rename it to .csv or .tsv"),
            ("a.png", "give the folder of all"),
            ("a.h5", "DATA can be"),
        ],
    )
    def test_a_file_of_another_kind(self, tmp_path, name, advice):
        (tmp_path / name).write_bytes(gzip.compress(CSV.encode()))
        with pytest.raises(DataError, match=advice):
            load(tmp_path / name)

    @pytest.mark.parametrize("name", ["train.zip", "train.csv.gz"])
    def test_a_folder_of_what_is_packed(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(DataError, match=f"it holds {name}: unpack what is packed"):
            load(tmp_path)

    @pytest.mark.parametrize("source", ["", " "])
    def test_an_empty_path_is_not_the_current_folder(self, tmp_path, monkeypatch, source):
        write_folder(tmp_path, 3, split="")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ArgumentError, match="the source is empty"):
            load(source)
        assert sum(map(len, load("."))) == 6

    @pytest.mark.parametrize("header", ["height,species", "text,label", "sepal,petal,species", "a,b,label"])
    def test_a_table_of_numbers_is_no_texts(self, tmp_path, header):
        width = header.count(",")
        rows = "".join(",".join([f"{i * 0.37:.2f}"] * width + ["uv"[i % 2]]) + "\n" for i in range(30))
        (tmp_path / "a.csv").write_text(f"{header}\n{rows}")
        with pytest.raises(DataError, match=r"numbers is read in Python, dw.load\(pandas.read_csv\(file\)"):
            load(tmp_path / "a.csv")
        train, _ = load(pd.read_csv(tmp_path / "a.csv"), label=header.split(",")[-1])
        assert train.shape == (width,)
        text = header.split(",")[0]
        assert load(tmp_path / "a.csv", text=text, label=header.split(",")[-1])[0].texts[0][1] == "."

    def test_a_parquet_table_of_numbers(self, tmp_path):
        pq.write_table(pa.table({"a": np.arange(20.0), "b": np.arange(20.0), "label": Y}), tmp_path / "a.parquet")
        with pytest.raises(DataError, match=r"dw.load\(pandas.read_parquet\(file\)"):
            load(tmp_path / "a.parquet")
        assert load(pd.read_parquet(tmp_path / "a.parquet"))[0].shape == (2,)

    def test_a_folder_around_the_classes(self, tmp_path):
        write_folder(tmp_path / "animals", 3, split="")
        with pytest.raises(DataError, match=f"if those are the classes, give {tmp_path / 'animals'}"):
            load(tmp_path)
        assert load(tmp_path / "animals")[0].classes == ("cat", "dog")
        write_folder(tmp_path / "vehicles", 3, classes=("bus", "car"), split="")
        train, _ = load(tmp_path)
        assert train.classes == ("animals", "vehicles")
        assert any("2 classes are folders of folders" in note and "animals/ (cat, dog)" in note for note in train.notes)

    def test_jpegs_with_the_suffix_of_windows(self, tmp_path):
        write_folder(tmp_path, 3, split="")
        for path in list(tmp_path.rglob("*.png")):
            Image.open(path).save(path.with_suffix(".jfif"), "JPEG")
            path.unlink()
        assert sum(map(len, load(tmp_path))) == 6
