"""``.npz`` files, digits, and what memory holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.data import Augment, load
from datawinnow.data.memory import available_memory
from tests.data.helpers import pixels


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


Y8 = np.array([0, 1] * 4)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(4, 9), h=st.integers(5, 12), w=st.integers(5, 12), c=st.sampled_from([1, 3, 4]),
    axes=st.sampled_from(["hw", "hwc", "chw"]), dtype=st.sampled_from(["uint8", "int16", "int64"]),
)  # fmt: skip
def test_images_of_any_axes_become_channels_first(tmp_path_factory, n, h, w, c, axes, dtype):
    x = np.random.default_rng(n).integers(0, 256, (n, c, h, w), dtype=np.uint8)
    if axes == "hw":
        x = x[:, :1]
    stored = {"hw": x[:, 0], "hwc": x.transpose(0, 2, 3, 1), "chw": x}[axes].astype(dtype)
    y = np.arange(n) % 2
    path = save(
        tmp_path_factory.mktemp("npz") / "a.npz", x_train=stored, y_train=y, x_test=stored[::-1], y_test=y[::-1]
    )
    train, test = load(path)
    assert np.array_equal(train.x.numpy(), x)
    assert np.array_equal(test.x.numpy(), x[::-1])
    assert train.x.dtype is torch.uint8
    assert train.labels.tolist() == y.tolist()
    assert test.labels.tolist() == y[::-1].tolist()
    assert ("(n, height, width, channels)" in " ".join(train.notes)) is (axes == "hwc")


@pytest.mark.parametrize(
    "keys", [("images", "labels"), ("x", "y"), ("train_images", "train_labels"), ("x_train", "y_train")]
)
def test_without_a_test_split_one_is_held_out(tmp_path, keys):
    x = pixels(20)
    train, test = load(save(tmp_path / "a.npz", **{keys[0]: x, keys[1]: np.arange(20) % 2}), holdout=0.25)
    assert len(test) == 5
    rows = [int(train.id_of(i)) for i in range(15)]
    assert np.array_equal(train.x.permute(0, 2, 3, 1).numpy(), x[rows])
    assert sorted(rows + [int(test.id_of(i)) for i in range(5)]) == list(range(20))
    assert train.mean == pytest.approx((x[rows] / 255).mean((0, 1, 2)))
    assert test.mean == train.mean
    assert any("no test split" in n for n in train.notes)


def test_keys_can_be_told(tmp_path):
    path = save(tmp_path / "a.npz", x=pixels(8), y=Y8, faces=pixels(8, seed=5), who=Y8[::-1])
    train, _ = load(path, image="faces", label="who")
    rows = [int(i) for i in train.ids]
    assert np.array_equal(train.x.permute(0, 2, 3, 1).numpy(), pixels(8, seed=5)[rows])
    assert train.labels.tolist() == Y8[::-1][rows].tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_are_vectors_as_they_are_unless_standardised(tmp_path, dtype):
    x = np.linspace(-1, 1, 24).reshape(8, 3).astype(dtype)
    train, _ = load(save(tmp_path / "a.npz", x_train=x, y_train=Y8, x_test=x, y_test=Y8), standardise=False)
    assert train.x.dtype is torch.float32
    assert torch.equal(train.x, torch.from_numpy(x.astype("float32")))
    assert train.augment is None
    assert train.mean == ()


def test_vectors_are_standardised_by_the_train_split(tmp_path):
    draws = np.random.default_rng(0)
    x = draws.normal(3e6, 1e5, (60, 4))
    x[:, 3] = 7
    path = save(tmp_path / "a.npz", x_train=x[:40], y_train=np.arange(40) % 2, x_test=x[40:], y_test=np.arange(20) % 2)
    train, test = load(path)
    expected = (x - x[:40].mean(0)) / np.where(x[:40].std(0) > 0, x[:40].std(0), 1)
    assert np.allclose(train.x, expected[:40], atol=1e-3)
    assert np.allclose(test.x, expected[40:], atol=1e-3)
    assert any("standardised" in note and "`standardise=False`" in note for note in train.notes)
    assert load(path)[0].fingerprint == train.fingerprint != load(path, standardise=False)[0].fingerprint
    for source, value in ((path, "yes"), ("digits", True)):
        with pytest.raises(ArgumentError, match="standardise"):
            load(source, standardise=value)


def test_medmnist_layout_labels_in_a_column(tmp_path):
    x = pixels(8, grey=True)
    y = Y8[:, None].astype("uint8")
    train, test = load(save(tmp_path / "a.npz", train_images=x, train_labels=y, test_images=x[:2], test_labels=y[:2]))
    assert train.labels.tolist() == Y8.tolist()
    assert train.shape == (1, 8, 8)
    assert len(test) == 2


def test_names_of_classes(tmp_path):
    names = np.array(["ant", "bee", "cow"])
    train, _ = load(save(tmp_path / "a.npz", x=pixels(8), y=Y8, classes=names))
    assert train.classes == ("ant", "bee", "cow")
    text, _ = load(save(tmp_path / "b.npz", x=pixels(8), y=names[Y8]))
    assert text.classes == ("ant", "bee")
    assert any("labels are texts" in n for n in text.notes)


X8 = pixels(8)
NAN = np.ones((8, 3))
NAN[5, 1] = np.nan


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"x": X8, "y": Y8 / 2}, r"label 0\.5 in row 1 of 'y' in .*a\.npz is not a whole number \(4 such\)"),
        ({"x": X8, "y": np.eye(2)[Y8]}, r"labels 'y' of .* must have shape \(n,\), got \(8, 2\); one-hot .*argmax"),
        ({"x": X8, "y": Y8 - 1}, "label -1 of row 0 of 'y' in .* is below 0"),
        ({"x": X8, "y": Y8[:5]}, "'x' has 8 rows, but 'y' has 5; they must agree"),
        ({"x": X8, "y": Y8 * 0}, "only one class \\('0'\\)"),
        ({"x": X8, "y": Y8[:0]}, "labels 'y' of .* are empty"),
        ({"x": X8, "y": Y8, "classes": np.array(["a"])}, "label 1 of row 1 of 'y' in .* has no name: there are 1"),
        ({"x": X8, "y": np.array(list("abcdefgh"))}, "8 different texts in 8 rows, so they are no classes"),
        ({"x": X8.astype(int) - 5, "y": Y8}, "must be uint8 images"),
        ({"x": X8.astype(int) + 200, "y": Y8}, "must be uint8 images"),
        ({"x": X8.astype(complex), "y": Y8}, "must be uint8 images .* got complex128"),
        ({"x": X8.reshape(8, -1), "y": Y8}, r"must have shape \(n, h, w\).*got \(8, 192\); vectors must be floating"),
        ({"x": X8[..., :2], "y": Y8}, "cannot tell the channels .*: neither the second nor the last axis"),
        ({"x": X8[:, :3], "y": Y8}, "cannot tell the channels .*: both the second and the last axis"),
        ({"x": np.ones(8), "y": Y8}, r"must have shape \(n, d\), got \(8,\)"),
        ({"x": NAN, "y": Y8}, r"'x' of .* is not finite in row 5 \(1 such\): fill"),
        ({"a": X8, "b": Y8}, "has the arrays a, b; needed are x_train and y_train"),
        ({"x": np.array([{}] * 8, dtype=object), "y": Y8}, r"array 'x' of .*a\.npz is pickled"),
        ({"x": X8, "y": np.array([0, 1] * 4, dtype=object)}, r"array 'y' of .*a\.npz is pickled"),
        ({"x_train": X8, "y_train": Y8, "x_test": X8[:, :5], "y_test": Y8}, r"shape \(3, 5, 8\), but those"),
        ({"x_train": X8, "y_train": Y8, "x_test": X8, "y_test": Y8 + 1}, "label 2 of row 1 of 'y_test' .* is none of"),
    ],
    ids=["float-labels", "one-hot", "negative", "lengths", "one-class", "empty", "unnamed", "texts", "negative-pixels",
         "large-pixels", "complex", "flat", "no-channels", "two-channels", "one-axis", "nan", "keys", "pickled-x",
         "pickled-y", "test-shape", "test-label"],
)  # fmt: skip
def test_arrays_that_are_none(tmp_path, arrays, match):
    with pytest.raises(DataError, match=match):
        load(save(tmp_path / "a.npz", **arrays))


@pytest.mark.parametrize("kind", ["cut", "html", "empty", "pickle", "npy", "bits"])
def test_a_file_that_is_no_whole_npz(tmp_path, kind):
    path = save(tmp_path / "a.npz", x=X8, y=Y8)
    data = path.read_bytes()
    if kind == "npy":
        with path.open("wb") as file:
            np.save(file, X8)
    else:
        import pickle

        flipped = data[:500] + bytes([data[500] ^ 255]) + data[501:]
        files = {"cut": data[:-400], "html": b"<html>", "empty": b"", "pickle": pickle.dumps([1]), "bits": flipped}
        path.write_bytes(files[kind])
    with pytest.raises(DataError, match=r"a\.npz (is not a complete \.npz|is pickled|holds one array)"):
        load(path)


def test_digits(tmp_path):
    from sklearn.datasets import load_digits

    train, test = load("digits")
    assert (len(train), len(test), train.shape) == (1438, 359, (1, 8, 8))
    assert train.augment == Augment(crop=1, flip=False)
    assert train.classes == tuple("0123456789")
    assert any("359 of 1,797" in n for n in train.notes)
    digits = load_digits()
    for split in (train, test):
        rows = split.origin.rows.numpy()
        assert np.array_equal(split.x[:, 0].numpy(), np.rint(digits.images[rows] * 255 / 16))
        assert np.array_equal(split.labels.numpy(), digits.target[rows])
        assert split.id_of(3) == str(rows[3])
        shares = np.bincount(split.labels) / len(split) - np.bincount(digits.target) / 1797
        assert np.abs(shares).max() < 1 / len(split)
    assert sorted([*train.origin.rows.tolist(), *test.origin.rows.tolist()]) == list(range(1797))
    assert test.mean == train.mean


def test_digits_seed_limit_and_global_state():
    before = torch.get_rng_state()
    one, two, three = load("digits")[1], load("digits")[1], load("digits", seed=5)[1]
    assert one.fingerprint == two.fingerprint != three.fingerprint
    few, _ = load("digits", limit=100)
    assert torch.bincount(few.labels).tolist() == [10] * 10
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ArgumentError, match="`label='x'` names a column, but digits has none"):
        load("digits", label="x")


def test_memory_that_is_free(tmp_path):
    info = tmp_path / "meminfo"
    info.write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    assert available_memory(info, tmp_path / "none") == 5000 * 1024
    group = tmp_path / "group"
    group.mkdir()
    for name, text in (("max", "3000000"), ("current", "2500000"), ("stat", "anon 9\ninactive_file 100000")):
        (group / f"memory.{name}").write_text(text + "\n")
    assert available_memory(info, group) == 600_000
    (group / "memory.max").write_text("max\n")
    assert available_memory(info, group) == 5000 * 1024
    assert available_memory(tmp_path / "none", group) > 1 << 20
