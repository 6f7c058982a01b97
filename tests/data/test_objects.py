"""Datasets as users have them in Python: arrays, DataFrames, dicts, torch and Hugging Face datasets; any labels."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import datawinnow as dw
from datawinnow.core.errors import ArgumentError, DataError, RunError
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


def unscaled_frame():
    pandas = pytest.importorskip("pandas")
    x = X * np.float32([1, 10, 100, 1000])
    return x, pandas.DataFrame(x, columns=list("abcd")).assign(species=NAMES)


def test_vectors_of_an_object_are_standardised_by_the_train_split_and_keep_their_places():
    x, frame = unscaled_frame()
    as_it_is, _ = dw.load(frame, label="species", standardise=False)
    train, test = dw.load(frame, label="species")
    np.testing.assert_array_equal(as_it_is.x, x[as_it_is.origin.rows])
    mean, std = as_it_is.x.mean(0), as_it_is.x.std(0, correction=0)
    torch.testing.assert_close(train.x, (as_it_is.x - mean) / std)
    np.testing.assert_allclose(test.x, (x[test.origin.rows] - mean.numpy()) / std.numpy(), rtol=1e-4, atol=1e-5)
    assert dw.load(train)[0].x.std(0).max() != 1, "loaded splits stay as they are"
    kept = dw.prune(train, keep=0.5, score="el2n", select_by="top", epochs=1, model="mlp")
    index = kept.indices_in(frame)
    torch.testing.assert_close((torch.tensor(x[index]) - mean) / std, train.x[kept.selection.index])


def seen_by_a_network(verb, data, test=None, **options):
    """Largest x in size that the network of a verb got: [in training and on train, on the test split]."""
    seen = []

    class Watching(torch.nn.Linear):
        def forward(self, x):
            seen.append(x.detach().clone())
            return super().forward(x)

    log = []
    verb(data, test=test, model=lambda: Watching(4, 3), epochs=2, log=log.append, **options)
    return torch.cat(seen).unique(dim=0), "\n".join(log)


@pytest.mark.parametrize("verb", [dw.prune, dw.api.record, dw.api.train])
def test_the_verbs_standardise_arrays_and_say_so(verb, tmp_path):
    x, frame = unscaled_frame()
    extra = {"keep": 0.5, "method": "el2n"} if verb is dw.prune else {"run": tmp_path / "run"}
    recipe = dw.Recipe(**PLAIN)
    standard = torch.from_numpy((x - x.mean(0)) / x.std(0))
    for data in ((x, NAMES), {"x": x, "label": NAMES}, frame.rename(columns={"species": "label"})):
        seen, log = seen_by_a_network(verb, data, **extra, recipe=recipe)
        torch.testing.assert_close(seen.unique(dim=0), standard.unique(dim=0), rtol=1e-4, atol=1e-4)
        assert log.count("standardised by its mean and standard deviation in the train split") == 1
        if "run" in extra:
            extra["run"] = extra["run"].with_name(extra["run"].name + "_")
    seen, log = seen_by_a_network(verb, (x, NAMES), **extra, recipe=recipe, load=dw.LoadOptions(standardise=False))
    torch.testing.assert_close(seen, torch.from_numpy(x).unique(dim=0))
    assert "standardised" not in log


def test_the_test_split_gets_the_statistics_of_the_train_split(tmp_path):
    x, _ = unscaled_frame()
    seen, _ = seen_by_a_network(
        dw.api.train, (x[:20], NAMES[:20]), (x[20:], NAMES[20:]), run=tmp_path / "run", recipe=dw.Recipe(**PLAIN)
    )
    expected = torch.from_numpy((x - x[:20].mean(0)) / x[:20].std(0)).unique(dim=0)
    torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-4)
    # a test split that is no arrays cannot be: then neither is
    items = TensorDataset(torch.from_numpy(x[20:]), torch.from_numpy(Y[20:]))
    train = (x[:20], Y[:20])
    seen, log = seen_by_a_network(dw.api.train, train, items, run=tmp_path / "own", recipe=dw.Recipe(**PLAIN))
    torch.testing.assert_close(seen, torch.from_numpy(x).unique(dim=0))
    assert "used as they are, since the test split is a TensorDataset" in log


def test_what_prune_returns_has_the_values_that_were_given(tmp_path):
    x, _ = unscaled_frame()
    recipe = dw.Recipe(**PLAIN)
    options = {"keep": 0.5, "method": "el2n", "epochs": 1, "recipe": recipe}
    kept = dw.prune((x, NAMES), test=(x[:6], NAMES[:6]), **options, run=tmp_path / "run", out=tmp_path / "out")
    assert torch.equal(kept[0][0], torch.from_numpy(x[kept.selection.index[0]]))
    assert torch.equal(kept.test.x, torch.from_numpy(x[:6]))
    written = np.load(tmp_path / "out" / "train.npz")["x"]
    np.testing.assert_array_equal(np.unique(written, axis=0), np.unique(x[kept.selection.index], axis=0))
    again = dw.api.select(tmp_path / "run", data=(x, NAMES), keep=0.5, method="el2n")
    assert torch.equal(again.dataset.x, torch.from_numpy(x))
    assert again.selection.index.tolist() == kept.selection.index.tolist()


def test_a_run_keeps_that_its_vectors_are_as_they_were_given(tmp_path):
    x, _ = unscaled_frame()
    as_given, recipe = dw.LoadOptions(standardise=False), dw.Recipe(**PLAIN)
    run = dw.api.record((x, NAMES), epochs=1, recipe=recipe, run=tmp_path / "run", load=as_given)
    dw.api.score(run, ["el2n"], data=(x, NAMES))
    dw.api.select(run, data=(x, NAMES), keep=0.5, method="el2n")
    trained = dw.api.train((x, NAMES), select=run.path, epochs=1, recipe=recipe, run=tmp_path / "train")
    assert trained.run.dataset.fingerprint == run.dataset.fingerprint
    with pytest.raises(RunError, match="how they are read, changed"):
        dw.api.record((x, NAMES), epochs=1, recipe=recipe, run=tmp_path / "run")


def test_held_out_data_are_standardised_as_the_training_data_are(tmp_path):
    x, _ = unscaled_frame()
    options = {"keep": 0.5, "method": "glister", "epochs": 1, "recipe": dw.Recipe(**PLAIN)}
    kept = dw.prune((x, NAMES), val=(x[:9], NAMES[:9]), **options)
    mean, std = x.mean(0), x.std(0)
    by_hand = dw.prune(
        ((x - mean) / std, NAMES),
        val=((x[:9] - mean) / std, NAMES[:9]),
        **options,
        load=dw.LoadOptions(standardise=False),
    )
    assert kept.selection.index.tolist() == by_hand.selection.index.tolist()
    with pytest.raises(ArgumentError, match="arrays or a DataFrame of the same columns"):
        dw.prune((x, Y), val=TensorDataset(torch.from_numpy(x[:9]), torch.from_numpy(Y[:9])), **options)


def test_a_regression_is_standardised_too(tmp_path):
    x, _ = unscaled_frame()
    y = x[:, :1] / 10
    recipe = dw.Recipe(**PLAIN, loss=lambda outputs, y: (outputs - y).square().mean(1))
    seen = seen_by_a_network(
        dw.api.record, (x, np.repeat(y, 3, 1)), (x[:5], np.repeat(y[:5], 3, 1)), recipe=recipe, run=tmp_path / "run"
    )[0]
    torch.testing.assert_close(seen, torch.from_numpy((x - x.mean(0)) / x.std(0)).unique(dim=0), rtol=1e-4, atol=1e-4)


def test_fit_takes_vectors_as_they_are_and_warns_of_their_scale():
    x, _ = unscaled_frame()
    with pytest.warns(dw.LearningWarning, match=r"standard deviation up to \d+.* these vectors are used as they are"):
        dw.fit("mlp", (x, Y), epochs=1, **PLAIN)
    with warnings.catch_warnings():
        warnings.simplefilter("error", dw.LearningWarning)
        dw.fit("mlp", ((x - x.mean(0)) / x.std(0), Y), epochs=1, **PLAIN)


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
