"""What names mean as splits, in every reader: nothing is trained on that is not meant, nothing is dropped unsaid."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.data import load, write_kept
from datawinnow.data.splits import choose_splits, split_of
from tests.data.helpers import encoded, pixels, write_folder, write_parquet


@pytest.mark.parametrize(
    ("names", "meaning"),
    [
        ("train Train TRAINING training-00000-of-00001 x_train mydata_train train2017 trainset seg_train", "train"),
        ("validation valid val dev x_val val.npz Val dev-0 my.valid", "validation"),
        ("test testing eval evaluation x_test Test testset held/test_1", "test"),
        ("latest attest contest trainer devil value retrain testament evaluator data train_test_split", ""),
    ],
)
def test_what_a_name_means(names, meaning):
    assert {name: split_of(name) for name in names.split()} == dict.fromkeys(names.split(), meaning)


def test_a_shard_is_of_the_split_before_its_number():
    assert split_of("test-suite-train-00000-of-00001") == "train"


@pytest.mark.parametrize(
    ("names", "unlabelled", "expected"),
    [
        ("train test validation", "", ("train", "test", ("validation",))),
        ("train validation", "", ("train", "validation", ())),
        ("train dev test", "test", ("train", "dev", ("test",))),
        ("train test", "test", ("train", "", ("test",))),
        ("train unsupervised", "", ("train", "", ("unsupervised",))),
        ("all x_test", "", ("all", "x_test", ())),
        ("train train_extra", "", ("train", "", ("train_extra",))),
    ],
)
def test_the_choice_of_splits_is_said(names, unlabelled, expected):
    choice = choose_splits(names.split(), "d", lambda _, name: name not in unlabelled.split())
    assert (choice.train, choice.test, choice.unused) == expected
    for name in choice.unused:
        assert any(name in note and "not used" in note for note in choice.notes)
    if choice.test in ("validation", "dev"):
        assert any(choice.test in note for note in choice.notes)


@pytest.mark.parametrize("names", [["test"], ["train_a", "train_b"], []])
def test_no_split_to_train_on(names):
    with pytest.raises(DataError, match="d has the splits"):
        choose_splits(names, "d")


def flat(folder, names, seed=0):
    folder.mkdir(parents=True)
    for name, array in zip(names, pixels(len(names), seed=seed), strict=True):
        (folder / name).write_bytes(encoded(array))


CATS_AND_DOGS = [f"{name}{i}.png" for name in ("cat", "dog") for i in range(5)]
ROWS = "".join(f"{name},{name[:3]}\n" for name in CATS_AND_DOGS)


class TestFolders:
    @pytest.mark.parametrize(
        ("train", "test"),
        [("Train", "Test"), ("training", "testing"), ("Train", "Val"), ("train", "dev"), ("x_train", "x_test")],
    )
    def test_splits_of_any_spelling(self, tmp_path, train, test):
        write_folder(tmp_path, 4, split=train)
        write_folder(tmp_path, 2, split=test, seed=1)
        loaded, tests = load(tmp_path)
        assert loaded.classes == ("cat", "dog")
        assert (len(loaded), len(tests)) == (8, 4)
        assert loaded.origin.split == train
        assert tests.origin.split == test

    @pytest.mark.parametrize("kind", ["metadata.csv", "metadata.jsonl", "train.csv", "without suffix"])
    def test_a_table_has_the_labels_of_flat_folders(self, tmp_path, kind):
        flat(tmp_path / "train", CATS_AND_DOGS)
        flat(tmp_path / "test", CATS_AND_DOGS[3:7], seed=1)
        if kind == "metadata.csv":
            (tmp_path / "train" / kind).write_text("file_name,label\n" + ROWS)
            (tmp_path / "test" / kind).write_text("file_name,label\n" + "".join(ROWS.splitlines(keepends=True)[3:7]))
        elif kind == "metadata.jsonl":
            lines = [f'{{"file_name": "{name}", "label": "{name[:3]}"}}\n' for name in CATS_AND_DOGS]
            (tmp_path / "train" / kind).write_text("".join(lines))
        elif kind == "train.csv":
            (tmp_path / "train.csv").write_text("image,label\n" + ROWS)
        else:
            (tmp_path / "train.csv").write_text("id,breed\n" + ROWS.replace(".png", ""))
        train, test = load(tmp_path)
        assert train.classes == ("cat", "dog")
        for split in (train, test):
            assert all(split.classes[y] in split.id_of(i) for i, y in enumerate(split.labels.tolist()))
        if kind == "metadata.csv":
            assert (len(train), len(test)) == (10, 4)
        else:
            assert len(train) + len(test) == 10
            assert any("test is not used: its labels are missing" in note for note in train.notes)

    def test_a_table_in_the_only_folder(self, tmp_path):
        flat(tmp_path / "d", CATS_AND_DOGS)
        (tmp_path / "d" / "metadata.csv").write_text("file_name,kind,note\n" + ROWS.replace("\n", ",x\n"))
        with pytest.raises(DataError, match=r"no column that is known to hold labels; its columns are file_name, kind"):
            load(tmp_path / "d")
        assert load(tmp_path / "d", label="kind")[0].classes == ("cat", "dog")
        (tmp_path / "d" / "cat0.png").unlink()
        with pytest.raises(
            DataError, match=r"line 2 of .*metadata.csv: it names the image 'cat0.png', which is not in"
        ):
            load(tmp_path / "d", label="kind")

    def test_flat_splits_without_labels_are_no_classes(self, tmp_path):
        flat(tmp_path / "train", CATS_AND_DOGS)
        flat(tmp_path / "test", CATS_AND_DOGS, seed=1)
        with pytest.raises(DataError, match=r"holds 10 images, but no folders of classes; .*metadata.csv"):
            load(tmp_path)

    @pytest.mark.parametrize("name", ["train", "test", "dev"])
    def test_a_class_named_as_a_split_beside_others_is_said(self, tmp_path, name):
        write_folder(tmp_path, 4, classes=("cat", name), split="")
        train, _ = load(tmp_path)
        assert train.classes == tuple(sorted(("cat", name)))
        assert any(f"{name}/ is read as a class" in note for note in train.notes)

    def test_a_folder_that_may_be_split_or_class_is_refused(self, tmp_path):
        write_folder(tmp_path, 4, classes=("bus", "car"), split="")
        write_folder(tmp_path, 4, classes=("diesel", "steam"), split="train")
        with pytest.raises(DataError, match=r"train holds folders and stands beside bus/, car/, .* split or a class"):
            load(tmp_path)
        assert load(tmp_path / "train")[0].classes == ("diesel", "steam")

    def test_a_test_split_beside_the_classes(self, tmp_path):
        write_folder(tmp_path, 4, split="")
        write_folder(tmp_path, 2, split="test", seed=1)
        train, test = load(tmp_path)
        assert train.classes == ("cat", "dog")
        assert (len(train), len(test)) == (8, 4)
        assert any("beside the split test" in note for note in train.notes)

    def test_links_to_folders_are_followed_and_broken_ones_said(self, tmp_path):
        write_folder(tmp_path / "in", 4, split="")
        flat(tmp_path / "more", ["a.png", "b.png"], seed=5)
        (tmp_path / "in" / "cat" / "batch2").symlink_to(tmp_path / "more")
        (tmp_path / "in" / "cat" / "loop").symlink_to(tmp_path / "in" / "cat")
        for i in range(3):
            (tmp_path / "in" / "dog" / f"annex{i}.png").symlink_to("/not/fetched")
        train, test = load(tmp_path / "in")
        labels = [*train.labels.tolist(), *test.labels.tolist()]
        assert (labels.count(0), labels.count(1)) == (6, 4)
        assert any("3 broken links" in note and "annex0.png" in note for note in train.notes)

    def test_what_systems_leave_is_nothing(self, tmp_path):
        write_folder(tmp_path, 4, split="")
        for folder in ("__MACOSX", ".ipynb_checkpoints", "@eaDir"):
            flat(tmp_path / folder, ["a.png"])
        for file in ("Thumbs.db", "desktop.ini", "._0.png"):
            (tmp_path / "cat" / file).write_bytes(b"x")
        train, test = load(tmp_path)
        assert train.classes == ("cat", "dog")
        assert len(train) + len(test) == 8
        assert not any("left out" in note for note in train.notes)

    def test_runs_in_the_folder_are_no_classes(self, tmp_path):
        write_folder(tmp_path, 4, split="")
        (tmp_path / "runs" / "one").mkdir(parents=True)
        (tmp_path / "runs" / "one" / "run.json").write_text("{}")
        table = pa.table({"id": ["a"], "label": [0]}).replace_schema_metadata({"datawinnow": "{}"})
        pq.write_table(table, tmp_path / "selection.parquet")
        train, _ = load(tmp_path)
        assert train.classes == ("cat", "dog")
        assert any("runs/ is not used" in note for note in train.notes)

    def test_pipes_and_devices_are_not_waited_for(self, tmp_path):
        write_folder(tmp_path, 4, split="")
        os.mkfifo(tmp_path / "cat" / "pipe.png")
        (tmp_path / "cat" / "zero.png").symlink_to("/dev/zero")
        assert sum(map(len, load(tmp_path))) == 8
        for name in ("x.csv", "x.npz", "x.parquet", "x.jsonl"):
            os.mkfifo(tmp_path / name)
            with pytest.raises(DataError, match="cannot read"):
                load(tmp_path / name)
        with pytest.raises(DataError, match="cannot read"):
            load("/dev/zero")

    def test_names_that_are_not_utf8(self, tmp_path):
        write_folder(tmp_path, 4, split="")
        bad = (tmp_path / "dog").rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
        (bad / "00.png").rename(bad / os.fsdecode(b"\xff.png"))
        train, test = load(tmp_path)
        assert train.classes == ("caf\\xe9", "cat")
        ids = [split.id_of(i) for split in (train, test) for i in range(len(split))]
        assert "caf\\xe9/\\xff.png" in ids
        assert all(i.isascii() for i in ids)

    def test_columns_are_for_tables(self, tmp_path):
        write_folder(tmp_path, 3)
        with pytest.raises(ArgumentError, match="`label='kind'` names a column"):
            load(tmp_path, label="kind")


class TestTables:
    @pytest.mark.parametrize(
        "names", [("d_train", "d_test"), ("training-00000-of-00001", "testing-00000-of-00001"), ("d", "x_test")]
    )
    def test_parquet(self, tmp_path, names):
        write_parquet(tmp_path / f"{names[0]}.parquet", pixels(8), [0, 1] * 4)
        write_parquet(tmp_path / f"{names[1]}.parquet", pixels(4, seed=1), [0, 1] * 2)
        train, test = load(tmp_path)
        assert (len(train), len(test)) == (8, 4)

    def test_hidden_files_are_no_splits(self, tmp_path):
        write_parquet(tmp_path / "train.parquet", pixels(8), [0, 1] * 4)
        (tmp_path / "._test.parquet").write_bytes(b"x")
        (tmp_path / "__MACOSX").mkdir()
        (tmp_path / "__MACOSX" / "train.parquet").write_bytes(b"x")
        assert sum(map(len, load(tmp_path))) == 8

    @pytest.mark.parametrize("secret", [-1, None])
    @pytest.mark.parametrize("kind", ["images", "texts"])
    def test_a_test_split_whose_labels_are_secret(self, tmp_path, kind, secret):
        def write(name, n, labels):
            column = pa.array(labels, pa.int64())
            if kind == "images":
                write_parquet(tmp_path / f"{name}.parquet", pixels(n), column)
            else:
                texts = [f"some words {i}" for i in range(n)]
                pq.write_table(pa.table({"text": texts, "label": column}), tmp_path / f"{name}.parquet")

        write("train", 8, [0, 1] * 4)
        write("test", 6, [secret] * 6)
        train, test = load(tmp_path, holdout=0.25)
        assert (len(train), len(test)) == (6, 2)
        assert any("test is not used: its labels are missing" in note for note in train.notes)
        write("dev", 4, [0, 1] * 2)
        train, test = load(tmp_path)
        assert (len(train), len(test)) == (8, 4)

    @pytest.mark.parametrize("header", [True, False])
    def test_lines_whose_labels_are_secret(self, tmp_path, header):
        for name, n in (("train", 20), ("dev", 8)):
            rows = "".join(f"words number {i}\t{i % 2}\n" for i in range(n))
            (tmp_path / f"{name}.tsv").write_text(("sentence\tlabel\n" if header else "") + rows)
        rows = "".join(f"{i}\twords number {i}\n" if header else f"words number {i}\t-1\n" for i in range(6))
        (tmp_path / "test.tsv").write_text(("index\tsentence\n" if header else "") + rows)
        train, test = load(tmp_path)
        assert (len(train), len(test)) == (20, 8)
        assert any("test is not used: its labels are missing" in note for note in train.notes)

    @pytest.mark.parametrize("header", ["text\tlabel", "Sentence\tLabel", "sentence\tid", "foo\tbar", "foo bar\tb c"])
    def test_a_header_with_other_names_is_no_example(self, tmp_path, header):
        rows = "".join(f"words number {i}\t{i % 2}\n" for i in range(20))
        for first, second in (("train-0", "train-1"), ("train", "test")):
            folder = tmp_path / first
            folder.mkdir()
            (folder / f"{first}.tsv").write_text("sentence\tlabel\n" + rows)
            (folder / f"{second}.tsv").write_text(f"{header}\n{rows}")
            if second == "test" and header == "sentence\tid":
                assert any("test is not used: its labels are missing" in note for note in load(folder)[0].notes)
                continue
            with pytest.raises(
                DataError, match=rf"{second}.tsv begins with the names .*{header.split()[1]}.*same header"
            ):
                load(folder)

    @pytest.mark.parametrize("place", ["images", "."])
    @pytest.mark.parametrize("name", ["train.csv", "labels.csv", "Training.tsv"])
    def test_a_table_of_the_images_beside_it_is_not_read_as_texts(self, tmp_path, place, name):
        flat(tmp_path / "d" / place, CATS_AND_DOGS)
        table = "image,label\n" + ROWS
        (tmp_path / "d" / name).write_text(table if name != "Training.tsv" else table.replace(",", "\t"))
        train, test = load(tmp_path / "d")
        assert train.classes == ("cat", "dog")
        assert train.shape == (3, 8, 8)
        assert len(train) + len(test) == 10
        with pytest.raises(DataError, match=r"names of images, .* folder"):
            load(tmp_path / "d" / name)
        assert load(tmp_path / "d" / name, text="image")[0].texts[0].endswith(".png")


class TestArrays:
    def test_validation_arrays_and_files(self, tmp_path):
        x, y = pixels(12), np.arange(12) % 2
        np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_val=x[:4], y_val=y[:4])
        np.savez(tmp_path / "b.npz", train_images=x, train_labels=y, val_images=x[:4], val_labels=y[:4],
                 test_images=x[:2], test_labels=y[:2])  # fmt: skip
        (tmp_path / "c").mkdir()
        np.savez(tmp_path / "c" / "train.npz", x=x, y=y)
        np.savez(tmp_path / "c" / "val.npz", x=x[:4], y=y[:4])
        for name, n, used in (
            ("a.npz", 4, "val split is used"),
            ("b.npz", 2, "val is not used"),
            ("c", 4, "val split is used"),
        ):
            train, test = load(tmp_path / name)
            assert (len(train), len(test)) == (12, n)
            assert any(used in note for note in train.notes)

    @pytest.mark.parametrize("layout", ["file", "folder"])
    def test_a_test_split_without_labels_is_said_and_kept(self, tmp_path, layout):
        x, y = pixels(12), np.arange(12) % 2
        source = tmp_path / "in"
        source.mkdir()
        if layout == "file":
            np.savez(source / "a.npz", x_train=x, y_train=y, x_test=x[:3])
        else:
            np.savez(source / "train.npz", images=x, labels=y)
            np.savez(source / "test.npz", images=x[:3])
        train, test = load(source / "a.npz" if layout == "file" else source)
        assert any("test is not used: its labels are missing" in note for note in train.notes)
        out = write_kept(train, torch.arange(6), tmp_path / "out", test=test)
        with np.load(out / "test.npz") as arrays:
            assert arrays.files == ["x"]
            assert np.array_equal(arrays["x"], x[:3])
        again, test_again = load(out)
        assert torch.equal(again.x, train.x[:6])
        assert torch.equal(test_again.x, test.x)

    def test_other_arrays_are_not_read(self, tmp_path):
        np.savez(tmp_path / "a.npz", x=pixels(8), y=[0, 1] * 4, extra=np.array([{}], dtype=object))
        assert sum(map(len, load(tmp_path / "a.npz"))) == 8

    def test_an_array_larger_than_memory_is_not_unpacked(self, tmp_path, monkeypatch):
        np.savez(tmp_path / "a.npz", x=pixels(8), y=[0, 1] * 4)
        monkeypatch.setattr("datawinnow.data.npz.available_memory", lambda: 1000)
        monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("unpacked"))
        with pytest.raises(DataError, match=r"array 'x' of .* takes 1.54e-06 GB, and 1e-06 GB of memory are free"):
            load(tmp_path / "a.npz", label="y", image="x")


class TestSummary:
    def test_every_reader_says_what_it_took_for_what(self, tmp_path, caplog):
        write_folder(tmp_path / "a", 3, split="Train")
        write_folder(tmp_path / "a", 2, classes=("cat",), split="dev", seed=1)
        write_parquet(tmp_path / "b" / "my_train.parquet", pixels(6), [0, 1] * 3, image="photo", label="kind")
        write_parquet(tmp_path / "b" / "my_test.parquet", pixels(4), [0, 1] * 2, image="photo", label="kind")
        np.savez(tmp_path / "c.npz", x=np.zeros((10, 3)), y=[0, 1] * 5)
        (tmp_path / "d.csv").write_text("review,mood\n" + "".join(f"words {i},{'ab'[i % 2]}\n" for i in range(10)))
        expected = {
            "a": "6 training examples of 'Train' (cat: 3, dog: 3) and 2 test examples of 'dev' (cat: 2, dog: 0)",
            "b": "6 training examples of 'my_train' (0: 3, 1: 3) and 4 test examples of 'my_test' (0: 2, 1: 2); images "
            "of 8x8 pixels in 3 channels from column 'photo', labels from column 'kind'",
            "c.npz": "vectors of 3 numbers from column 'x', labels from column 'y'",
            "d.csv": "from column 'review', labels from column 'mood'",
            "digits": "(0: 142, 1: 146",
        }
        with caplog.at_level("INFO", logger="datawinnow.data"):
            for name, text in expected.items():
                options = {"label": "kind"} if name == "b" else {}
                train, _ = load(tmp_path / name if name != "digits" else name, **options)
                assert text in train.notes[0]
                assert train.notes[0] in caplog.text
        assert any("1 of 2 classes have no test example: dog" in note for note in load(tmp_path / "a")[0].notes)

    def test_many_classes_are_shortened(self, tmp_path):
        np.savez(tmp_path / "a.npz", x=np.zeros((90, 2)), y=np.arange(90) % 30)
        note = load(tmp_path / "a.npz", holdout=1 / 3)[0].notes[0]
        assert "0: 2, 1: 2, 2: 2, 3: 2, 4: 2 and 25 more, each 2 to 2" in note
