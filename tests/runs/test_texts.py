"""Texts go through every verb: each score and policy runs, the network knows them, and the page shows them."""

from __future__ import annotations

import json
import re

import pyarrow.parquet as pq
import pytest
import torch

import datawinnow as dw
from datawinnow import api, report
from datawinnow.api import prune
from datawinnow.core.errors import ArgumentError, MissingArrayError
from datawinnow.data.tokens import Vocabulary
from datawinnow.dynamic.build import build_policy, policies_by_name, takes_keep
from datawinnow.methods import METHODS
from datawinnow.probe import INPUT_ARRAYS
from datawinnow.runs.gallery import LETTERS, shortened
from datawinnow.runs.score import score_run
from datawinnow.runs.select import select_run
from datawinnow.scores import METHODS as SCORES
from datawinnow.train import Recipe
from tests.data.texts import sentences, write_model, write_texts, written

FAST = Recipe(batch=16, lr=0.2, precision="fp32", workers=0)
QUICK = {"epochs": 3, "recipe": FAST, "model": "bag_of_embeddings"}
HOSTILE = '<script>alert("x")</script>'


@pytest.fixture
def loaded(tmp_path):
    write_texts(tmp_path / "r.tsv", 60)
    return dw.load(tmp_path / "r.tsv")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run of 48 texts over 12 epochs, with everything that scores read."""
    root = tmp_path_factory.mktemp("texts")
    write_texts(root / "r.tsv", 60)
    train, test = dw.load(root / "r.tsv")
    record_kwargs = {"model": "text_cnn", "model_options": {"width": 8, "filters": 4}, "recipe": FAST, "test": test}
    folder = api.record(train, run=root / "run", epochs=12, signals=("kl_step",), **record_kwargs)
    return folder, train


def test_a_network_learns_the_words_and_is_told_which_was_chosen(loaded, tmp_path):
    train, test = loaded
    messages = []
    folder = api.record(train, run=tmp_path / "run", epochs=8, recipe=FAST, test=test, log=messages.append)
    assert any("a text CNN" in line for line in messages)
    assert folder.metadata["model"]["name"] == "text_cnn"
    dataset = folder.metadata["dataset"]
    assert (dataset["vocabulary"], dataset["tokenizer"]) == (len(train.vocabulary), "")
    history = pq.read_table(folder.path / "history.parquet").to_pylist()
    assert history[-1]["test_accuracy"] == 1.0  # praise and blame have words of their own


def test_the_vocabulary_is_left_beside_the_network(loaded, tmp_path):
    train, _ = loaded
    folder = api.record(train, run=tmp_path / "run", **QUICK)
    assert Vocabulary.read(folder.path / "vocabulary.json") == train.vocabulary
    assert json.loads((folder.path / "vocabulary.json").read_text())["fingerprint"] == train.fingerprint


READABLE = [key for key, score in SCORES.items() if not {"subset_mask", *INPUT_ARRAYS} & set(score.card.needs)]
"""Scores that need neither subset runs nor a probe that moves the input."""


@pytest.mark.parametrize("name", READABLE)
def test_every_score_works_on_texts(recorded, name):
    folder, train = recorded
    try:
        scores = score_run(folder, train, [name])[name]
    except MissingArrayError:
        assert not set(SCORES[name].card.needs) <= {"features", "probs", "labels", "grad_norm", *folder.arrays()}
        return
    assert scores.shape == (48,)
    assert bool(torch.isfinite(scores).all())
    assert len(scores.unique()) > 1 or name == "forgetting"


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not {*INPUT_ARRAYS} & {*method.needs}])
def test_every_method_keeps_its_share_of_texts(recorded, name):
    folder, train = recorded
    selection = select_run(folder, train, keep=0.5, method=name, out=folder.path / f"{name}.parquet", gallery=False)
    assert len(set(selection.index.tolist())) == 24


@pytest.mark.parametrize("name", ["slo_curves", "deepfool"])
def test_what_moves_the_input_is_refused_before_anything_is_recorded(loaded, tmp_path, name):
    with pytest.raises(ArgumentError, match="the tokens of a text cannot be moved: choose a method of the recording"):
        prune(loaded[0], keep=0.5, method=name, run=tmp_path / "run", **QUICK)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", policies_by_name())
def test_every_policy_trains_on_texts(loaded, tmp_path, key):
    train, test = loaded
    keep = 0.5 if takes_keep(key) else None
    policy = build_policy(key, epochs=4, keep=keep, options={}, wrap=[])
    folder = api.train(train, run=tmp_path / "run", test=test, policy=policy, **{**QUICK, "epochs": 4}).run
    assert 0 <= folder.metadata["result"]["test_accuracy"] <= 1
    passed = folder.metadata["cost"]["train"]["backward"]
    assert 0 < passed <= 4 * 48 if keep is None else 0 < passed < 4 * 48


def test_a_recording_of_texts_is_the_same_twice(loaded, tmp_path):
    runs = [api.record(dw.load(tmp_path / "r.tsv")[0], run=tmp_path / name, **QUICK) for name in ("one", "two")]
    assert torch.equal(*(run.arrays()["p_label"] for run in runs))
    assert torch.equal(*(run.arrays()["margin"] for run in runs))


class TestPage:
    def test_it_shows_texts_escaped_and_shortened_with_their_reasons(self, tmp_path):
        rows = sentences(60)
        rows[1:] = [(f"{t} {HOSTILE} " + "so it went on and on " * 30, y) for t, y in rows[1:]]
        (tmp_path / "r.tsv").write_text(written(rows, "tsv"))
        train, test = dw.load(tmp_path / "r.tsv")
        prune(train, keep=0.5, score="el2n", run=tmp_path / "run", test=test, **QUICK)
        page = report.write(tmp_path / "run").read_text()
        shown = re.findall(r"<blockquote[^>]*>(.*?)</blockquote>", page, re.DOTALL)
        assert len(shown) > 24
        assert "<script" not in page
        assert any("&lt;script&gt;" in text for text in shown)
        assert all(len(text) < 2 * LETTERS for text in shown)
        assert any(text.endswith("\N{HORIZONTAL ELLIPSIS}") for text in shown)
        assert "<img" not in page
        assert "tokens), 2 classes" in page
        caption = re.search(r"<figcaption><b>(praise|blame)</b>.*?</figcaption>", page, re.DOTALL).group(0)
        assert re.search(r"p\(label\) 0\.\d\d", caption)
        assert "r.tsv:" in caption

    @pytest.mark.parametrize(
        ("text", "max_letters", "shown"),
        [
            ("one two", 7, "one two"),
            ("one two three", 9, "one two\N{HORIZONTAL ELLIPSIS}"),
            ("one\n\ttwo", 9, "one two"),
            ("x" * 20, 5, "xxxx\N{HORIZONTAL ELLIPSIS}"),
            ("\ud800 a", 9, "? a"),
        ],
    )
    def test_shortened_by_hand(self, text, max_letters, shown):
        assert shortened(text, max_letters) == shown

    def test_ids_whose_texts_nobody_tells_are_not_shown(self, loaded, tmp_path):
        class Ids:
            vocabulary_size, classes, shape = len(loaded[0].vocabulary), ("a", "b"), loaded[0].shape

            def __len__(self):
                return 48

            def __getitem__(self, i):
                return loaded[0].x[i], int(loaded[0].labels[i])

        prune(Ids(), keep=0.5, score="el2n", run=tmp_path / "run", **QUICK)
        assert not (tmp_path / "run" / "gallery.parquet").exists()


class TestPretrained:
    def test_a_transformers_classifier_is_recorded_and_scored(self, tmp_path):
        name = write_model(tmp_path / "tiny")
        write_texts(tmp_path / "r.tsv", 60)
        train, test = dw.load(tmp_path / "r.tsv", tokenizer=name)
        recipe = Recipe(batch=16, optimizer="adamw", lr=1e-2, precision="fp32", workers=0)
        folder = api.record(train, run=tmp_path / "run", epochs=20, recipe=recipe, model=name, test=test)
        assert folder.metadata["dataset"]["tokenizer"] == name
        last = pq.read_table(folder.path / "history.parquet").to_pylist()[-1]
        assert last["accuracy"] > 0.9  # the words tell
        for scores in score_run(folder, train, ["el2n", "grand_full", "grand_last"]).values():
            assert bool(torch.isfinite(scores).all())

    def test_a_selection_by_a_small_network_serves_a_large_one(self, tmp_path):
        """The fingerprint is of the texts, whoever cuts them into tokens."""
        name = write_model(tmp_path / "tiny")
        write_texts(tmp_path / "r.tsv", 60)
        small, _ = dw.load(tmp_path / "r.tsv")
        large, test = dw.load(tmp_path / "r.tsv", tokenizer=name)
        assert small.fingerprint == large.fingerprint
        assert small.vocabulary_size != large.vocabulary_size
        kept = prune(small, keep=0.5, score="el2n", **QUICK)
        folder = api.train(
            large, run=tmp_path / "run", test=test, select=kept.selection, epochs=1, model=name, recipe=FAST
        ).run
        assert folder.metadata["cost"]["train"]["backward"] == 24

    def test_ids_have_a_place_below_the_size_and_marks_at_both_ends(self, tmp_path):
        name = write_model(tmp_path / "tiny")
        write_texts(tmp_path / "r.tsv", 60)
        train, _ = dw.load(tmp_path / "r.tsv", tokenizer=name, length=6)
        assert train.shape == (6,)
        assert bool((train.x[:, 0] == 3).all())  # [CLS], 2 in the vocabulary
        assert bool((train.x[:, -1] == 4).all())  # [SEP] stays where a text is cut
        assert any("longer than 6 tokens" in note for note in train.notes)

    def test_more_tokens_than_the_model_takes(self, tmp_path):
        name = write_model(tmp_path / "tiny")
        write_texts(tmp_path / "r.tsv", 60)
        with pytest.raises(ArgumentError, match=r"length=50` is more than the 40 tokens that hf:"):
            dw.load(tmp_path / "r.tsv", tokenizer=name, length=50)
