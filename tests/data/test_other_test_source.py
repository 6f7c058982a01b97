"""``test=``: a test split from another source than the train split."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import datawinnow as dw
from datawinnow.core.errors import ArgumentError, DataError, RunError
from datawinnow.data import load, write_kept
from datawinnow.data.examples import Examples, LazyExamples
from datawinnow.data.sampled import SampledImages
from tests.data.helpers import encoded, pixels, write_folder, write_parquet
from tests.data.texts import sentences, write_model, write_texts, written


def names_of(split) -> list[str]:
    return [split.classes[int(y)] for y in split.labels]


def test_folders_of_images_are_read_whole_and_classes_are_matched_by_name(tmp_path):
    write_folder(tmp_path / "a", 5, ("ant", "cat", "dog"), split="")
    pictures = write_folder(tmp_path / "b", 3, ("dog", "cat"), split="", seed=7)
    train, test = load(tmp_path / "a", test=tmp_path / "b")
    assert (len(train), len(test)) == (15, 6)
    assert test.classes == train.classes == ("ant", "cat", "dog")
    assert [(name, label) for name, label in zip(test.ids, names_of(test), strict=True)] == [
        (name, name.split("/")[0]) for name in test.ids
    ]
    for i, name in enumerate(test.ids):
        assert torch.equal(test.x[i], torch.from_numpy(pictures[name].transpose(2, 0, 1)))
    assert (test.mean, test.std, test.split, test.name) == (train.mean, train.std, "test", train.name)
    assert any(f"all of {tmp_path / 'b'}" in note for note in train.notes)
    # without it a part of the first is held out
    assert len(load(tmp_path / "a")[0]) == 12


def test_images_get_the_size_and_channels_of_the_training_images(tmp_path):
    write_folder(tmp_path / "a", split="", size=8)
    write_folder(tmp_path / "b", split="", size=12, grey=True, seed=3)
    train, test = load(tmp_path / "a", test=tmp_path / "b")
    assert train.shape == test.shape == (3, 8, 8)
    resized = load(tmp_path / "a", test=tmp_path / "b", size=16)
    assert [split.shape for split in resized] == [(3, 16, 16)] * 2
    with pytest.raises(DataError, match=r"images of a are in colour, those of b grey"):
        load(tmp_path / "b", test=tmp_path / "a")


def test_images_that_do_not_fit_in_memory_are_tested_on_likewise(tmp_path):
    write_folder(tmp_path / "a", split="")
    write_folder(tmp_path / "b", split="", size=12, seed=3)
    (_, test), (lazy_train, lazy_test) = (
        load(tmp_path / "a", test=tmp_path / "b", memory=memory) for memory in (None, 0)
    )
    assert isinstance(lazy_test, LazyExamples)
    assert all(torch.equal(lazy_test[i][0], test[i][0]) for i in range(len(test)))
    assert (lazy_test.mean, lazy_test.labels.tolist()) == (lazy_train.mean, test.labels.tolist())
    # what the training images take is not there for the others
    mixed = load(tmp_path / "a", test=tmp_path / "b", memory=10 * 3 * 8 * 8)
    assert isinstance(mixed[0], Examples)
    assert isinstance(mixed[1], LazyExamples)


def test_of_sources_with_splits_the_train_and_the_test_split_are_used(tmp_path):
    for name, seed in (("a", 0), ("b", 20)):
        for k, split in enumerate(("train", "validation", "test")):
            write_folder(tmp_path / name, 5 - k, split=split, seed=seed + k)
    train, test = load(tmp_path / "a", test=tmp_path / "b")
    assert (len(train), len(test)) == (10, 6)
    assert {name.split("/")[0] for name in test.ids} == {"test"}
    assert test.origin.path == str(tmp_path / "b")
    assert any("the split 'test' of" in note for note in train.notes)
    assert any("test is not used: the test split is of another source" in note for note in train.notes)
    # the unused splits of the source are still known, so that they are written with it
    assert set(train.origin.unused) == {"validation", "test"}
    # a split of the same source
    assert len(load(tmp_path / "a", test=tmp_path / "a")[1]) == 6
    (tmp_path / "b" / "test").rename(tmp_path / "c")
    with pytest.raises(DataError, match="none of them to test on"):
        load(tmp_path / "a", test=tmp_path / "b")


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_texts_are_in_the_words_of_the_training_texts(tmp_path, kind):
    write_texts(tmp_path / f"train.{kind}", 40)
    rows = [*sentences(10, 5), ("zebra zebra and a film", "blame")]
    # other classes first, and other columns
    (tmp_path / f"new.{kind}").write_text(written([(y, x) for x, y in reversed(rows)], kind, ("label", "text")))
    train, test = load(tmp_path / f"train.{kind}", test=tmp_path / f"new.{kind}")
    assert (len(train), len(test)) == (40, 11)
    assert list(zip(test.texts, names_of(test), strict=True)) == list(reversed(rows))
    assert test.vocabulary is train.vocabulary
    assert "zebra" not in train.vocabulary.tokens
    assert torch.equal(test.x, train.vocabulary.encode(test.texts))
    # the vocabulary is that of all training texts, none of which is held out
    assert train.fingerprint != load(tmp_path / f"train.{kind}")[0].fingerprint


def test_texts_of_a_pretrained_model_are_tokenised_as_the_training_texts(tmp_path):
    tokenizer = write_model(tmp_path / "model")
    write_texts(tmp_path / "train.csv", 20)
    write_texts(tmp_path / "test.csv", 10, 4)
    write_texts(tmp_path / "both" / "train.csv", 20)
    write_texts(tmp_path / "both" / "test.csv", 10, 4)
    apart = load(tmp_path / "train.csv", test=tmp_path / "test.csv", tokenizer=tokenizer)
    together = load(tmp_path / "both", tokenizer=tokenizer)
    for one, other in zip(apart, together, strict=True):
        assert torch.equal(one.x, other.x)
        assert (one.tokenizer, one.vocabulary_size, one.fingerprint) == (
            other.tokenizer,
            other.vocabulary_size,
            other.fingerprint,
        )


def test_parquet_with_its_classes_in_another_order(tmp_path):
    a = write_parquet(tmp_path / "a.parquet", pixels(12), [0, 1] * 6, names=("cat", "dog"))
    b = write_parquet(
        tmp_path / "b.parquet", pixels(6, seed=2), [0, 0, 1, 1, 0, 1], names=("dog", "cat"), image="image"
    )
    train, test = load(a, test=b)
    assert (len(train), len(test)) == (12, 6)
    assert names_of(test) == ["dog", "dog", "cat", "cat", "dog", "cat"]
    assert test.labels.tolist() == [1, 1, 0, 0, 1, 0]
    numbered = write_parquet(tmp_path / "c.parquet", pixels(6, seed=2), [0, 0, 1, 1, 0, 1])
    with pytest.raises(DataError, match=r"c.parquet, which is tested on, has the classes '0', '1', but .*a.parquet"):
        load(a, test=numbered)


def test_arrays_of_numbers_are_standardised_by_the_train_split(tmp_path):
    draw = np.random.default_rng(0)
    x, z = draw.normal(5, 3, (30, 4)).astype("float32"), draw.normal(-1, 1, (12, 4)).astype("float32")
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(30) % 3 + 4)
    # only some of the classes
    np.savez(tmp_path / "b.npz", x_test=z, y_test=np.full(12, 6))
    train, test = load(tmp_path / "a.npz", test=tmp_path / "b.npz")
    assert (len(train), len(test)) == (30, 12)
    assert names_of(test) == ["6"] * 12
    assert torch.allclose(test.x, torch.from_numpy((z - x.mean(0)) / x.std(0)), atol=1e-4)
    assert torch.allclose(train.x.mean(0), torch.zeros(4), atol=1e-5)


def test_sources_of_several_kinds_can_be_mixed(tmp_path):
    images = pixels(12)
    write_folder(tmp_path / "a", split="")
    parquet = write_parquet(tmp_path / "b.parquet", images, ["dog", "cat"] * 6)
    np.savez(tmp_path / "c.npz", x=images, y=np.array(["dog", "cat"] * 6))
    for source in (parquet, tmp_path / "c.npz"):
        _, test = load(tmp_path / "a", test=source)
        assert names_of(test) == ["dog", "cat"] * 6
        assert torch.equal(test.x, torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    train, test = load(tmp_path / "c.npz", test=tmp_path / "a")
    assert (len(train), names_of(test)) == (12, ["cat"] * 5 + ["dog"] * 5)


def test_digits_are_read_whole(tmp_path):
    _, test = load("digits")
    np.savez(tmp_path / "t.npz", x=test.x.numpy(), y=test.labels.numpy())
    limited, same = load("digits", test=tmp_path / "t.npz", limit=500)
    assert len(load("digits", test=tmp_path / "t.npz")[0]) == 1797
    assert len(limited) == 500
    assert torch.equal(same.labels, test.labels)
    assert len(same) == len(test)


def test_what_does_not_fit_together_is_an_error_that_names_both(tmp_path):
    write_folder(tmp_path / "a", split="")
    write_folder(tmp_path / "b", 5, ("cat", "emu"), split="")
    write_texts(tmp_path / "t.csv")
    np.savez(tmp_path / "v.npz", x=np.ones((8, 4), "float32"), y=np.arange(8) % 2)
    np.savez(tmp_path / "w.npz", x=np.ones((8, 5), "float32"), y=np.arange(8) % 2)
    np.savez(tmp_path / "s.npz", x=pixels(8, 6), y=np.array(["cat", "dog"] * 4))
    for source, other, words in (
        ("a", "b", ("'emu'", "'dog'", "/a", "/b")),
        ("a", "t.csv", ("t holds texts", "a, which", "images")),
        ("t.csv", "a", ("a holds images", "t, which", "texts")),
        ("a", "v.npz", ("v.npz", "vectors", "/a", "images")),
        ("v.npz", "a", ("a holds images", "v, which", "vectors")),
        ("v.npz", "t.csv", ("t holds texts", "v, which", "vectors")),
        ("v.npz", "w.npz", ("shape 4 ", "shape 5 ", "v.npz", "w.npz")),
        ("a", "s.npz", ("3x6x6", "3x8x8", "s.npz", "/a")),
        ("a", "a", ("is what is trained on already",)),
        ("a", "no", ("no such file", "no")),
    ):
        with pytest.raises(DataError) as error:
            load(tmp_path / source, test=tmp_path / other)
        assert all(word in str(error.value) for word in words), (source, other, str(error.value))


def test_options_that_do_not_go_with_it(tmp_path):
    write_folder(tmp_path / "a", split="")
    write_folder(tmp_path / "b", split="", seed=3)
    for options in ({"holdout": 0.2}, {"holdout": "20%"}):
        with pytest.raises(ArgumentError, match="nothing is held out"):
            load(tmp_path / "a", test=tmp_path / "b", **options)
    train, test = load(tmp_path / "a", test=tmp_path / "b", limit=4)
    assert (len(train), len(test)) == (4, 10)
    with pytest.raises(ArgumentError, match="`test="):
        load((np.ones((8, 3)), np.arange(8) % 2), test=tmp_path / "b")
    with pytest.raises(ArgumentError, match="must be a path"):
        load(tmp_path / "a", test=test)
    with pytest.raises(ArgumentError, match="is read from files"):
        dw.audit(train, test=tmp_path / "b")


def test_an_empty_class_and_few_labels_of_many_classes_are_no_error_to_test_on(tmp_path):
    classes = tuple(f"c{i:02d}" for i in range(12))
    write_folder(tmp_path / "a", 3, classes, split="", size=4)
    write_folder(tmp_path / "b", 1, classes[::-1], split="", size=4, seed=2)
    (tmp_path / "b" / "c03" / "00.png").unlink()
    _, test = load(tmp_path / "a", test=tmp_path / "b")
    assert sorted(names_of(test)) == [name for name in classes if name != "c03"]
    rows = [(f"a text number {i}", f"c{i % 12:02d}") for i in range(36)]
    (tmp_path / "a.csv").write_text(written(rows, "csv"))
    (tmp_path / "b.csv").write_text(written(rows[:12], "csv"))
    assert names_of(load(tmp_path / "a.csv", test=tmp_path / "b.csv")[1]) == list(classes)


def test_an_estimate_counts_the_images_of_both(tmp_path):
    from datawinnow.core.load_options import LoadOptions
    from datawinnow.data.load import load_with

    write_folder(tmp_path / "a", split="")
    write_folder(tmp_path / "b", 3, split="", size=12, seed=3)
    options = LoadOptions(test=str(tmp_path / "b"))
    train, test = load_with(tmp_path / "a", options, only_sample=True)
    assert isinstance(train, SampledImages)
    assert train.decoding == test.decoding
    assert (train.decoding.num_images, train.decoding.num_loaded) == (16, 16)
    assert (len(test), test.shape, test.mean) == (6, train.shape, train.mean)


def test_decisions_about_both(tmp_path):
    write_folder(tmp_path / "a", split="")
    write_folder(tmp_path / "b", split="", seed=3)
    (tmp_path / "d.csv").write_text("id,split,action\ncat/00.png,train,drop\ncat/01.png,test,relabel:dog\n")
    train, test = load(tmp_path / "a", test=tmp_path / "b", decisions=tmp_path / "d.csv")
    assert "cat/00.png" not in train.ids
    assert names_of(test)[list(test.ids).index("cat/01.png")] == "dog"


def test_the_other_source_is_not_written_with_the_kept_examples(tmp_path):
    for split in ("train", "test"):
        write_folder(tmp_path / "a", split=split, seed=len(split))
    write_folder(tmp_path / "b", 3, split="", seed=3)
    train, test = load(tmp_path / "a", test=tmp_path / "b")
    logged = []
    write_kept(train, torch.arange(6), tmp_path / "kept", test=test, log=logged.append)
    assert any(str(tmp_path / "b") in line and "not written" in line for line in logged)
    again, own_test = load(tmp_path / "kept")
    assert (len(again), len(own_test)) == (6, 10)
    again, other = load(tmp_path / "kept", test=tmp_path / "b")
    assert (len(again), len(other)) == (6, 6)


def test_broken_images_of_the_other_source_are_left_out(tmp_path):
    write_folder(tmp_path / "a", split="")
    write_folder(tmp_path / "b", split="", seed=3)
    (tmp_path / "b" / "cat" / "00.png").write_bytes(encoded(pixels(1)[0])[:60])
    with pytest.raises(DataError, match=r"00\.png"):
        load(tmp_path / "a", test=tmp_path / "b")
    assert len(load(tmp_path / "a", test=tmp_path / "b", on_broken="skip")[1]) == 9


def test_a_run_keeps_where_its_test_split_is_from(tmp_path, monkeypatch):
    write_folder(tmp_path / "a", 10, split="")
    write_folder(tmp_path / "b", 6, split="", seed=3)
    write_folder(tmp_path / "c", 6, split="", seed=4)
    monkeypatch.chdir(tmp_path)
    dw.api.record("a", test="b", epochs=1, run="run", model="mlp")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["options"]["load"] == {"test": str(tmp_path / "b")}
    monkeypatch.chdir(tmp_path / "a")
    audit = dw.audit(tmp_path / "run")
    assert audit.metadata["n"] == {"train": 20, "test": 12}
    with pytest.raises(RunError, match=r"run is of the data with"):
        dw.api.record(tmp_path / "a", test=tmp_path / "c", epochs=1, run=tmp_path / "run", model="mlp")
    (tmp_path / "d.csv").write_text("id,split,action\ncat/01.png,test,drop\n")
    with pytest.raises(DataError, match="is of another source"):
        audit.apply(tmp_path / "cleaned", decisions=tmp_path / "d.csv")
    assert len(audit.apply(decisions=tmp_path / "d.csv")[1]) == 11
    with pytest.raises(ArgumentError, match="as they were recorded"):
        dw.audit(tmp_path / "run", test=tmp_path / "c")
