"""Datasets as users have them in Python: arrays, DataFrames, dicts, torch and Hugging Face datasets; any labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import datawinnow as dw
from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.data.dataset_info import dataset_info
from datawinnow.data.objects import as_dataset
from tests.data.helpers import encoded, pixels
from tests.train.helpers import PLAIN, weights

Y = np.arange(30) % 3
X = (np.random.default_rng(0).normal(size=(30, 4)) + Y[:, None]).astype(np.float32)
NAMES = np.array(["ant", "bee", "cat"])[Y]


class Items:
    """A map-style dataset of the user."""

    def __init__(self, items) -> None:
        self.items = list(items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


FORMS = {
    "arrays": (X, Y),
    "column of labels": (X, Y[:, None]),
    "one-hot": (X, np.eye(3)[Y]),
    "floats": (X, Y.astype(np.float32)),
    "texts": (X, NAMES),
    "bytes": (X, NAMES.astype("S")),
    "tensors": (torch.tensor(X), torch.tensor(Y)),
    "TensorDataset": TensorDataset(torch.tensor(X), torch.tensor(Y)),
    "TensorDataset of columns": TensorDataset(torch.tensor(X), torch.tensor(Y)[:, None]),
    "TensorDataset of floats": TensorDataset(torch.tensor(X), torch.tensor(Y).float()),
    "TensorDataset of one-hot": TensorDataset(torch.tensor(X), torch.tensor(np.eye(3)[Y])),
    "list of pairs": [(torch.tensor(x), int(y)) for x, y in zip(X, Y, strict=True)],
    "lists and texts": Items((x.tolist(), str(name)) for x, name in zip(X, NAMES, strict=True)),
    "dicts": Items({"image": torch.tensor(x), "label": str(name)} for x, name in zip(X, NAMES, strict=True)),
    "dict of arrays": {"x": X, "y": Y},
}


@pytest.mark.parametrize("data", FORMS.values(), ids=FORMS)
def test_every_form_trains_alike(data):
    expected, _ = dw.fit("mlp", dw.Examples(torch.tensor(X), torch.tensor(Y), ("a", "b", "c")), epochs=1, **PLAIN)
    net, history = dw.fit("mlp", data, test=data, epochs=1, **PLAIN)
    assert torch.equal(weights(net), weights(expected))
    assert history.test_accuracy == dw.evaluate(net, data)[0]


def test_frames_and_hugging_face_datasets():
    pandas, datasets = pytest.importorskip("pandas"), pytest.importorskip("datasets")
    frame = pandas.DataFrame(X, columns=list("abcd")).assign(species=NAMES)
    train, test = dw.load(frame, label="species")
    assert (train.classes, train.shape, len(train), len(test)) == (("ant", "bee", "cat"), (4,), 24, 6)
    with pytest.raises(DataError, match=r"known for the label; its columns are a, b, c, d, species.*label="):
        dw.load(frame)
    features = datasets.Features(
        {"x": datasets.Sequence(datasets.Value("float32")), "label": datasets.ClassLabel(names=["u", "v", "w"])}
    )
    table = datasets.Dataset.from_dict({"x": X.tolist(), "label": Y.tolist()}, features=features)
    info = dataset_info(table)
    assert (info.classes, info.shape) == (("u", "v", "w"), (4,))
    assert info.labels.tolist() == Y.tolist()
    both = datasets.DatasetDict({"train": table, "validation": table.select(range(6))})
    train, test = dw.load(both)
    assert (len(train), len(test), test.classes) == (30, 6, ("u", "v", "w"))
    with pytest.raises(ArgumentError, match=r"holds the splits train, validation.*dw\.load"):
        dataset_info(both)


def photo_table(**other_columns):
    """A Hugging Face dataset of 12 images whose columns have names that say nothing."""
    datasets = pytest.importorskip("datasets")
    features = {"species": datasets.ClassLabel(names=["ant", "bee"]), "photo": datasets.Image()}
    features |= {name: feature for name, (feature, _) in other_columns.items()}
    images = [{"bytes": encoded(image), "path": None} for image in pixels(12)]
    columns = {"species": [0, 1] * 6, "photo": images, **{name: values for name, (_, values) in other_columns.items()}}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def test_the_only_class_label_and_image_of_a_hugging_face_dataset_are_taken(tmp_path):
    datasets = pytest.importorskip("datasets")
    halves = (datasets.ClassLabel(names=["one", "two"]), [0] * 12)
    table = photo_table(place=(datasets.Value("int64"), list(range(12))), split=halves)
    train, _ = dw.load(table)
    assert train.classes == ("ant", "bee")
    assert train.labels.bincount().tolist() == [5, 5]
    assert train[0][0].shape == (3, 8, 8)
    assert any("'photo' (the only Image)" in note and "'species' (the only ClassLabel)" in note for note in train.notes)
    assert as_dataset(table, label="place").classes != train.classes, "a name is stronger"
    # a split without labels is no test split, whatever the column is called
    secret = table.map(lambda _: {"species": -1})
    splits = datasets.DatasetDict({"train": table, "test": secret, "validation": table.select(range(4))})
    assert len(dw.load(splits)[1]) == 4
    # as files it is read alike
    table.remove_columns(["split"]).to_parquet(tmp_path / "train-0.parquet")
    assert dw.load(tmp_path)[0].classes == ("ant", "bee")
    # of several none is more likely than another
    with pytest.raises(DataError, match="no key that is known for the label"):
        dw.load(photo_table(genus=(datasets.ClassLabel(names=["x", "y"]), [0] * 12)))
    # a column called label is one
    named = photo_table(label=(datasets.Value("string"), ["p", "q"] * 6))
    assert dw.load(named)[0].classes == ("p", "q")


def test_keys_can_be_named_and_what_was_guessed_is_said():
    items = Items({"pixels": torch.tensor(x), "kind": str(name), "id": 3} for x, name in zip(X, NAMES, strict=True))
    with pytest.raises(DataError, match=r"its keys are pixels, kind, id\. Name it with image="):
        as_dataset(items)
    kept = dw.prune(items, keep=0.5, method="random", load=dw.LoadOptions(image="pixels", label="kind"))
    assert len(kept) == 15
    assert torch.equal(kept[0][0], torch.tensor(X[kept.selection.index[0]]))
    assert "x is 'x' and the label is 'y'" in as_dataset({"x": X, "y": Y}).notes[0]


def test_the_classes_of_a_test_split_are_those_of_the_training_split():
    train = as_dataset((X, NAMES))
    test = as_dataset((X[1:3], NAMES[1:3]), classes=train.classes)
    assert test.labels.tolist() == [1, 2]
    with pytest.raises(DataError, match="label 'dog' of example 0 is none of the train split's classes"):
        as_dataset((X[:1], np.array(["dog"])), classes=train.classes)


def test_vectors_of_an_object_are_standardised_on_request_and_keep_their_places():
    pandas = pytest.importorskip("pandas")
    x = X * np.float32([1, 10, 100, 1000])
    frame = pandas.DataFrame(x, columns=list("abcd")).assign(species=NAMES)
    as_it_is, _ = dw.load(frame, label="species")
    train, test = dw.load(frame, label="species", standardise=True)
    np.testing.assert_array_equal(as_it_is.x, x[as_it_is.origin.rows])
    mean, std = as_it_is.x.mean(0), as_it_is.x.std(0, correction=0)
    torch.testing.assert_close(train.x, (as_it_is.x - mean) / std)
    np.testing.assert_allclose(test.x, (x[test.origin.rows] - mean.numpy()) / std.numpy(), rtol=1e-4, atol=1e-5)
    kept = dw.prune(train, keep=0.5, score="el2n", select_by="top", epochs=1, model="mlp")
    index = kept.indices_in(frame)
    torch.testing.assert_close((torch.tensor(x[index]) - mean) / std, train.x[kept.selection.index])


@pytest.mark.parametrize(
    "option", [{"size": 8}, {"flip": True}, {"length": 5}, {"header": False}, {"on_broken": "skip"}, {"text": "a"}]
)
def test_options_of_files_are_refused_for_an_object(option):
    (name,) = option
    with pytest.raises(ArgumentError, match=f"`{name}=.*dataset object"):
        dw.load((X, Y), **option)


def test_standardise_of_an_object_is_a_switch_for_vectors():
    with pytest.raises(ArgumentError, match="standardise must be True, False or None"):
        dw.load((X, Y), standardise="yes")
    with pytest.raises(ArgumentError, match="holds no vectors"):
        dw.load(TensorDataset(torch.zeros(9, 1, 4, 4), torch.arange(9) % 3), standardise=True)


def test_the_verbs_take_arrays(tmp_path):
    recipe = dw.Recipe(**PLAIN)
    kept = dw.prune((X, NAMES), keep=0.5, method="el2n", epochs=1, recipe=recipe)
    assert len(kept) == 15
    run = dw.api.record((X, NAMES), test=(X, NAMES), epochs=1, recipe=recipe, run=tmp_path / "record")
    assert run.dataset.classes == ("ant", "bee", "cat")
    trained = dw.api.train((X, NAMES), test=(X[:9], NAMES[:9]), epochs=1, recipe=recipe, run=tmp_path / "train")
    assert trained.accuracy is not None
    result = dw.race((X, NAMES), test=(X, NAMES), budget=1, policy="ucb", keep=0.5, recipe=recipe, report=False)
    assert len(result.rows) == 2


class Stream(IterableDataset):
    """A stream of pairs."""

    def __iter__(self):
        yield from zip(X, Y, strict=True)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (DataLoader(TensorDataset(torch.tensor(X))), ArgumentError, r"a DataLoader.*loader\.dataset"),
        (Stream(), ArgumentError, r"got Stream; a stream cannot be indexed.*list\(dataset\)"),
        (X, ArgumentError, r"shape \(30, 4\) brings no labels: give the pair \(x, y\)"),
        ((X, Y + 0.5), DataError, "integer class ids, got 0.5 at example 0.*loss of your own"),
        ((X, np.ones((30, 3))), DataError, r"shape \(30, 3\) are not one class an example.*loss of your own"),
        ((X, Y[:7]), DataError, "x has 30 examples, but y has 7 labels"),
        ((X * np.nan, Y), DataError, "not finite in row 0"),
        (Items([("a text", "a label")] * 3), DataError, "got str; write texts to a .csv"),
    ],
    ids=["loader", "stream", "array", "fractions", "several", "lengths", "nan", "texts"],
)
def test_what_cannot_be_trained_on_is_refused_with_what_to_do(data, error, message):
    with pytest.raises(error, match=message):
        dw.fit("mlp", data, epochs=1, **PLAIN)
