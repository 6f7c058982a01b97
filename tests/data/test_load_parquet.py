"""Parquet in the layout of the Hugging Face hub, the hub itself, and the cache of decoded images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from datawinnow.core.errors import DataError
from datawinnow.data import cache, load
from datawinnow.data import images as images_module
from datawinnow.data.load import MIRRORED_NOTE
from tests.data.helpers import encoded, pixels, write_folder, write_parquet

LABELS = [0, 1, 2, 0, 1, 2, 1]
NAMES = ("ant", "bee", "cow")


def same_pixels(x, arrays) -> bool:
    return np.array_equal(x.permute(0, 2, 3, 1).numpy(), np.stack(list(arrays)))


def two_splits(root: Path, **options) -> tuple[np.ndarray, np.ndarray]:
    train, test = pixels(7, seed=1), pixels(4, seed=2)
    write_parquet(root / "train-00000-of-00002.parquet", train[:4], LABELS[:4], names=NAMES, **options)
    write_parquet(root / "train-00001-of-00002.parquet", train[4:], LABELS[4:], names=NAMES, **options)
    write_parquet(root / "test-00000-of-00001.parquet", test, [2, 1, 0, 0], names=NAMES, **options)
    return train, test


@pytest.mark.parametrize("below", ["", "data", "plain_text"])
def test_shards_are_joined_in_order(tmp_path, below):
    train_pixels, test_pixels = two_splits(tmp_path / below)
    train, test = load(tmp_path)
    assert same_pixels(train.x, train_pixels)
    assert same_pixels(test.x, test_pixels)
    assert train.labels.tolist() == LABELS
    assert test.labels.tolist() == [2, 1, 0, 0]
    assert train.classes == NAMES
    assert train.notes[1:] == (MIRRORED_NOTE,)
    assert test.mean == train.mean


@pytest.mark.parametrize("flat", [True, False], ids=["binary", "struct"])
@pytest.mark.parametrize("columns", [("image", "fine_label"), ("img", "labels"), ("photo", "target")])
def test_columns_are_guessed(tmp_path, columns, flat):
    arrays = pixels(10, seed=3)
    write_parquet(tmp_path / "a.parquet", arrays, [0, 1] * 5, image=columns[0], label=columns[1], flat=flat)
    train, test = load(tmp_path / "a.parquet")
    rows = [int(train.id_of(i)) for i in range(8)]
    assert same_pixels(train.x, arrays[rows])
    assert same_pixels(test.x, arrays[[int(test.id_of(i)) for i in range(2)]])
    assert train.labels.tolist() == [r % 2 for r in rows]
    assert "no test split" in train.notes[1]


def test_columns_can_be_told(tmp_path):
    other = pa.array([1, 0, 0, 1, 1, 0, 0, 1])
    write_parquet(tmp_path / "train-0.parquet", pixels(8), [0] * 4 + [1] * 4, extra={"coarse": other})
    write_parquet(tmp_path / "test-0.parquet", pixels(8), [0] * 4 + [1] * 4, extra={"coarse": other})
    assert load(tmp_path)[0].labels.tolist() == [0] * 4 + [1] * 4
    assert load(tmp_path, label="coarse")[0].labels.tolist() == other.to_pylist()


def test_labels_without_names_are_numbered_by_place(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", pixels(4), [7, 3, 7, 3])
    write_parquet(tmp_path / "test-0.parquet", pixels(2), [3, 7])
    train, test = load(tmp_path)
    assert train.labels.tolist() == [1, 0, 1, 0]
    assert test.labels.tolist() == [0, 1]
    assert train.classes == ("3", "7")
    assert any("labels are not 0 to 1" in n for n in train.notes)


@pytest.mark.parametrize("dictionary", [False, True])
def test_text_labels_become_classes(tmp_path, dictionary):
    labels = pa.array(["b", "a", "b", "a"])
    write_parquet(tmp_path / "train-0.parquet", pixels(4), labels.dictionary_encode() if dictionary else labels)
    write_parquet(tmp_path / "test-0.parquet", pixels(2), ["a", "b"])
    train, test = load(tmp_path)
    assert train.labels.tolist() == [1, 0, 1, 0]
    assert test.labels.tolist() == [0, 1]
    assert train.classes == ("a", "b")
    assert any("labels are texts" in n for n in train.notes)


def test_validation_stands_in_for_test_and_other_files_are_told(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", pixels(4), [0, 1, 0, 1])
    write_parquet(tmp_path / "validation-0.parquet", pixels(2, seed=5), [1, 0])
    write_parquet(tmp_path / "unsupervised.parquet", pixels(2, seed=6), [1, 0])
    train, test = load(tmp_path)
    assert same_pixels(test.x, pixels(2, seed=5))
    assert any("unsupervised is not used" in n for n in train.notes)


def test_a_missing_shard_is_told(tmp_path):
    two_splits(tmp_path)
    (tmp_path / "train-00001-of-00002.parquet").unlink()
    assert any("only 1 of the 2 shards" in n for n in load(tmp_path)[0].notes)


def test_a_class_without_examples_is_told(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", pixels(4), [0, 1, 0, 1], names=NAMES)
    write_parquet(tmp_path / "test-0.parquet", pixels(2), [0, 1], names=NAMES)
    train, _ = load(tmp_path)
    assert train.classes == NAMES
    assert any("1 of 3 classes have no training example: cow" in n for n in train.notes)


@pytest.mark.parametrize(
    ("labels", "options", "match"),
    [
        ([0, 1, None, 1], {}, r"label of row 2 of .*a\.parquet is missing \(1 such in column 'label'\)"),
        ([0.0, 1.0, 0.5, 1.0], {}, r"label of row 2 of .* is 0\.5 \(1 such in column 'label'\)"),
        ([0, 2, -1, 1], {}, r"label -1 of row 2 of .*a\.parquet is below 0"),
        ([0, 1, 3, 1], {"names": NAMES}, r"label 3 of row 2 of .*a\.parquet has no name: there are 3 class names"),
        (["x", "y", "z", "w"], {}, "4 different texts in 4 rows, so they are no classes"),
        ([1, 1, 1, 1], {}, "only one class \\('1'\\)"),
        ([1, 1, 1, 1], {"names": NAMES}, "only one class \\('bee'\\)"),
        ([[0], [1], [0], [1]], {}, "column 'label' holds list"),
    ],
    ids=["missing", "float", "negative", "unnamed", "texts", "one-class", "one-named-class", "lists"],
)
def test_labels_that_are_none(tmp_path, labels, options, match):
    write_parquet(tmp_path / "a.parquet", pixels(4), labels, **options)
    with pytest.raises(DataError, match=match):
        load(tmp_path / "a.parquet")


def test_test_label_that_training_has_not(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", pixels(4), ["a", "b", "a", "b"])
    write_parquet(tmp_path / "test-0.parquet", pixels(2), ["a", "c"])
    with pytest.raises(
        DataError, match=r"label 'c' of row 1 of .*test-0\.parquet is none of the train split's classes"
    ):
        load(tmp_path)


@pytest.mark.parametrize(
    ("column_names", "options", "match"),
    [
        (("image_id", "label"), {}, "no column of images; its columns are image_id, label"),
        (("img", "klass"), {}, "no column of labels; its columns are img, klass"),
        (("img", "label"), {"label": "fine"}, "no column 'fine'; its columns are img, label"),
        (("img", "label"), {"image": "label"}, "column 'label' of .* holds int64, not encoded images"),
    ],
    ids=["no-image", "no-label", "told-wrong", "told-not-images"],
)
def test_columns_that_are_not_there(tmp_path, column_names, options, match):
    path = tmp_path / "a.parquet"
    if column_names[0] == "img":
        write_parquet(path, pixels(4), [0, 1, 0, 1], image="img", label=column_names[1])
    else:
        pq.write_table(pa.table({"image_id": [7, 8], "label": [0, 1]}), path)
    with pytest.raises(DataError, match=match):
        load(path, **options)


@pytest.mark.parametrize("kind", ["html", "empty", "cut"])
def test_a_file_that_is_no_whole_parquet(tmp_path, kind):
    path = write_parquet(tmp_path / "train-0.parquet", pixels(9), [0, 1, 2] * 3)
    data = {"html": b"<html>Not found</html>", "empty": b"", "cut": path.read_bytes()[:-100]}[kind]
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"train-0\.parquet is not a complete Parquet file .*fetch it again"):
        load(tmp_path)


def test_damage_inside_a_parquet_file(tmp_path):
    path = write_parquet(tmp_path / "train-0.parquet", pixels(9), [0, 1, 2] * 3)
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data[column.data_page_offset : column.data_page_offset + 16] = b"\xff" * 16
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"train-0\.parquet is not a complete Parquet file"):
        load(tmp_path)


@pytest.mark.parametrize("flat", [True, False], ids=["binary", "struct"])
@pytest.mark.parametrize("cell", [None, b"", b"<html>"], ids=["null", "empty", "html"])
def test_a_row_without_a_image_is_named(tmp_path, cell, flat):
    arrays = list(pixels(8))
    arrays[5] = cell
    write_parquet(tmp_path / "train-0.parquet", arrays, [0, 1] * 4, flat=flat)
    write_parquet(tmp_path / "test-0.parquet", pixels(2), [0, 1], flat=flat)
    with pytest.raises(DataError, match=r"broken image row 5 of .*train-0\.parquet: (there are no image bytes|it is)"):
        load(tmp_path)
    train, _ = load(tmp_path, on_broken="skip")
    assert train.ids == [str(i) for i in range(8) if i != 5]
    assert same_pixels(train.x, [a for i, a in enumerate(arrays) if i != 5])
    assert train.labels.tolist() == [0, 1, 0, 1, 0, 0, 1]


def test_images_named_by_path_must_lie_below_the_table(tmp_path):
    (tmp_path / "data" / "img").mkdir(parents=True)
    arrays = pixels(4)
    for i, a in enumerate(arrays):
        (tmp_path / "data" / "img" / f"{i}.png").write_bytes(encoded(a))
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(arrays[0]))
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for name, paths in (("train", [f"img/{i}.png" for i in range(4)]), ("test", ["img/0.png", str(secret)])):
        cells = pa.array([{"bytes": None, "path": p} for p in paths], kind)
        image_table = pa.table({"img": cells, "label": [0, 1] * (len(paths) // 2)})
        pq.write_table(image_table, tmp_path / "data" / f"{name}-0.parquet")
    with pytest.raises(DataError, match=r"row 1 of .*test-0\.parquet: there are no image bytes"):
        load(tmp_path)
    train, test = load(tmp_path, on_broken="skip")
    assert same_pixels(train.x, arrays)
    assert len(test) == 1


def test_no_rows_and_several_configurations(tmp_path):
    write_parquet(tmp_path / "a" / "train-0.parquet", pixels(4)[:0], pa.array([], pa.int64()))
    with pytest.raises(DataError, match=r"no images: .*train-0\.parquet has no rows"):
        load(tmp_path)
    write_parquet(tmp_path / "b" / "train-0.parquet", pixels(4), [0, 1, 0, 1])
    with pytest.raises(DataError, match=r"Parquet files in several folders \(a, b\); give one"):
        load(tmp_path)


def test_only_a_test_split(tmp_path):
    write_parquet(tmp_path / "test-0.parquet", pixels(4), [0, 1, 0, 1])
    with pytest.raises(DataError, match="has the splits test-0, but none named train"):
        load(tmp_path)


def test_a_file_that_is_no_dataset(tmp_path):
    (tmp_path / "a.xyz").write_text("x")
    with pytest.raises(
        DataError, match=r"cannot read .*a\.xyz: not a kind of data that is known\. DATA can be: digits"
    ):
        load(tmp_path / "a.xyz")
    with pytest.raises(DataError, match="write hf:uoft-cs/cifar10"):
        load("uoft-cs/cifar10")


# The cache of decoded images.


@pytest.fixture
def always_cached(monkeypatch):
    monkeypatch.setattr(cache, "WORTH_SECONDS", -1.0)


@pytest.fixture
def decodes(monkeypatch):
    """How many images have been decoded."""
    from datawinnow.data import images as images

    seen = []
    real = images.decode
    monkeypatch.setattr(images, "decode", lambda raw, plan: (seen.append(1), real(raw, plan))[1])
    return seen


def cached() -> list[Path]:
    return sorted(Path(os.environ["DATAWINNOW_CACHE"]).glob("*"))


@pytest.mark.usefixtures("always_cached")
def test_the_cache_is_used_until_a_file_changes(tmp_path, decodes):
    arrays, _ = two_splits(tmp_path)
    first, _ = load(tmp_path)
    assert len(decodes) == 11
    again, _ = load(tmp_path)
    assert len(decodes) == 11
    assert same_pixels(again.x, arrays)
    assert again.fingerprint == first.fingerprint
    assert again.notes == first.notes
    load(tmp_path, size=16)
    load(tmp_path)
    assert len(decodes) == 22  # each size has its own
    changed = pixels(4, seed=40)
    write_parquet(tmp_path / "train-00000-of-00002.parquet", changed, LABELS[:4], names=NAMES)
    files = len(cached())
    assert same_pixels(load(tmp_path)[0].x, [*changed, *arrays[4:]])
    assert len(cached()) == files  # the older state's file is gone


@pytest.mark.usefixtures("always_cached")
def test_two_folders_alike_but_for_their_names_share_no_cache(tmp_path):
    kept = {}
    for seed, name in enumerate(("one", "two")):
        arrays = np.zeros((4, 8, 8, 3), np.uint8) + np.uint8(100 + seed)
        write_parquet(tmp_path / name / "train-0.parquet", arrays, [0, 1, 0, 1])
        write_parquet(tmp_path / name / "test-0.parquet", arrays, [0, 1, 0, 1])
        for path in (tmp_path / name).iterdir():
            os.utime(path, (1000, 1000))
        kept[name] = load(tmp_path / name)[0]
    assert int(kept["one"].x.max()) == 100
    assert int(kept["two"].x.max()) == 101


@pytest.mark.usefixtures("always_cached")
@pytest.mark.parametrize("damage", ["cut", "bits", "html", "pickle"])
def test_a_damaged_cache_is_made_anew(tmp_path, decodes, damage):
    arrays, _ = two_splits(tmp_path)
    load(tmp_path)
    for path in cached():
        data = path.read_bytes()
        if damage == "cut":
            path.write_bytes(data[: len(data) // 2])
        elif damage == "bits":
            path.write_bytes(data[:300] + bytes([data[300] ^ 1]) + data[301:])
        elif damage == "html":
            path.write_bytes(b"<html>")
        else:
            np.savez(path, x=np.array([{}], dtype=object), broken=np.zeros(0, np.int64), resized=0)
    assert same_pixels(load(tmp_path)[0].x, arrays)
    assert len(decodes) == 22
    load(tmp_path)
    assert len(decodes) == 22


@pytest.mark.usefixtures("always_cached")
def test_broken_images_left_out_are_not_left_out_when_not_told_so(tmp_path):
    arrays = list(pixels(8))
    arrays[5] = b"no"
    write_parquet(tmp_path / "train-0.parquet", arrays, [0, 1] * 4)
    write_parquet(tmp_path / "test-0.parquet", pixels(2), [0, 1])
    first, _ = load(tmp_path, on_broken="skip")
    second, _ = load(tmp_path, on_broken="skip")
    assert second.notes == first.notes
    assert second.ids == first.ids
    with pytest.raises(DataError, match="row 5"):
        load(tmp_path)


@pytest.mark.usefixtures("always_cached")
@pytest.mark.parametrize("where", ["off", "a file", "full"])
def test_without_a_cache_folder_all_works(tmp_path, monkeypatch, where):
    arrays, _ = two_splits(tmp_path / "d")
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv(
        "DATAWINNOW_CACHE", {"off": "", "a file": str(tmp_path / "file"), "full": str(tmp_path / "c")}[where]
    )
    if where == "full":
        monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100}))
    assert same_pixels(load(tmp_path / "d")[0].x, arrays)
    assert not list((tmp_path / "c").glob("*"))


@pytest.mark.usefixtures("always_cached")
def test_a_folder_and_its_held_out_split_are_cached_too(tmp_path, decodes):
    written = write_folder(tmp_path, 5, split="")
    load(tmp_path)
    train, _ = load(tmp_path)
    assert len(decodes) == 10
    other, _ = load(tmp_path, seed=1)
    for examples in (train, other):
        for i in range(len(examples)):
            assert np.array_equal(examples.x[i].permute(1, 2, 0).numpy(), written[examples.id_of(i)])


def test_what_decodes_fast_is_not_cached(tmp_path):
    two_splits(tmp_path)
    load(tmp_path)
    assert cached() == []


# The hub, offline: `datasets` reads a folder owner/name of the current one.


@pytest.fixture
def offline(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub-cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "hub-cache" / "downloads")
    return tmp_path


def test_a_dataset_of_the_hub(offline):
    arrays, tests = two_splits(offline / "owner" / "name")
    train, test = load("hf:owner/name")
    assert same_pixels(train.x, arrays)
    assert same_pixels(test.x, tests)
    assert train.labels.tolist() == LABELS
    assert train.classes == NAMES
    assert train.name == "name"
    assert train.origin.layout == "hf"


def test_a_dataset_that_the_hub_has_not(offline):
    with pytest.raises(DataError, match=r"could not load 'nobody/nothing' from the Hugging Face hub .*Check the name"):
        load("hf:nobody/nothing")
    with pytest.raises(DataError, match="write hf:owner/name"):
        load("hf:")


def test_a_dataset_of_the_hub_with_a_broken_image(offline):
    arrays = list(pixels(4))
    arrays[2] = b"<html>"
    write_parquet(offline / "owner" / "broken" / "train-0.parquet", arrays, [0, 1, 0, 1])
    with pytest.raises(DataError, match=r"broken image row 2 of .*: it is not an image"):
        load("hf:owner/broken", holdout=0.5)


# Real data.


def shared_data(name: str) -> Path:
    root = Path(os.environ.get("DATAWINNOW_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (root / name).is_dir():
        pytest.skip(f"no {name} in {root}; set DATAWINNOW_DATA to a folder that has it")
    return root / name


CIFAR10 = ("cifar10", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), 10)
CIFAR100 = ("cifar100", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), 100)


@pytest.mark.slow  # decodes 60,000 images
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "mean", "std", "classes"),
    [pytest.param(*CIFAR10, id="cifar10"), pytest.param(*CIFAR100, id="cifar100", marks=pytest.mark.slow)],
)
def test_cifar_has_the_published_statistics(name, mean, std, classes):
    train, test = load(shared_data(name))
    assert train.mean == pytest.approx(mean, abs=1e-4)
    assert train.std == pytest.approx(std, abs=1e-4)
    assert torch.bincount(train.labels).tolist() == [50_000 // classes] * classes
    assert torch.bincount(test.labels).tolist() == [10_000 // classes] * classes
    assert train.classes[0] in ("airplane", "apple")
    assert images_module.Plan(32, 32, 3).shape == train.shape


def not_utf8() -> pa.Array:
    """Eight cells of a column of texts, the second of which is no UTF-8."""
    cells = pa.array([b"fine", b"\xff\xfe a", *[b"good", b"bad"] * 3], pa.binary())
    return pa.Array.from_buffers(pa.string(), 8, cells.buffers())


@pytest.mark.parametrize("column", ["text", "label"])
def test_texts_that_are_no_utf8_are_named(tmp_path, column):
    table = pa.table({"text": ["a b"] * 8, "label": ["x", "y"] * 4})
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, not_utf8()), tmp_path / "t.parquet")
    for options in ({}, {"on_broken": "skip"}, {"text": "text", "label": "label"}):
        with pytest.raises(DataError, match=rf"t\.parquet: the column '{column}' holds text that is no UTF-8"):
            load(tmp_path / "t.parquet", holdout=0.25, **options)


@pytest.mark.parametrize("change", ["a name that is no UTF-8", "names of classes a thousand levels deep"])
def test_schemas_that_are_damaged(tmp_path, change):
    file, table = tmp_path / "t.parquet", pa.table({"text": ["a b"] * 8, "label": ["x", "y"] * 4})
    if change.startswith("a name"):
        pq.write_table(table, file)
        file.write_bytes(file.read_bytes().replace(b"label", b"\x95abel"))
        with pytest.raises(DataError, match=r"t\.parquet is not a complete Parquet file"):
            load(file, holdout=0.25)
    else:
        pq.write_table(table.replace_schema_metadata({b"huggingface": b"[" * 100_000}), file)
        train, _ = load(file, holdout=0.25)
        assert train.classes == ("x", "y")
