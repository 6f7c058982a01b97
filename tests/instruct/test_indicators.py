"""Indicators on tiny models saved as real ones are: against literal forms, whatever the batch, and computed once."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA as SklearnPCA

from datawinnow import instruct
from datawinnow.core.errors import ArgumentError, DataError, RunError
from datawinnow.instruct import indicators
from datawinnow.instruct.answer_length import length
from datawinnow.instruct.clip import ClipModel, clip_score, split_sentences
from datawinnow.instruct.embed import embed_texts
from datawinnow.instruct.indicator_cache import IndicatorCache, cache_key, default_cache_path
from datawinnow.instruct.indicators import compute_indicators
from datawinnow.instruct.language import LanguageModel, direct_loss
from datawinnow.instruct.options import IndicatorOptions
from datawinnow.instruct.pairs import read_pairs
from datawinnow.instruct.pca import PCA, fit_pca
from datawinnow.instruct.reward_model import reward
from tests.instruct.helpers import ANSWERS, INSTRUCTIONS, write_lines


@pytest.fixture
def counted(monkeypatch):
    """Positions that were worked on, call by call."""
    calls = []
    real = IndicatorCache.compute

    def compute(cache, indicator, keys, compute_batch, **options):
        return real(cache, indicator, keys, lambda index: calls.append(list(index)) or compute_batch(index), **options)

    monkeypatch.setattr(IndicatorCache, "compute", compute)
    return calls


# --- computed once --------------------------------------------------------------------------------------------------


def test_nothing_is_computed_twice_and_a_changed_text_or_model_is(models, tmp_path, counted):
    with IndicatorCache(tmp_path / "s.sqlite") as cache:
        lm = LanguageModel(str(models["lm"]))
        first = direct_loss([*ANSWERS, ANSWERS[0]], lm=lm, cache=cache)
        assert sum(map(len, counted)) == 4, "equal texts once, the empty one never"
        counted.clear()
        torch.testing.assert_close(
            direct_loss([*ANSWERS, ANSWERS[0]], lm=lm, cache=cache), first, rtol=0, atol=0, equal_nan=True
        )
        assert counted == []
        direct_loss(["the dog sat .", *ANSWERS], lm=lm, cache=cache)
        assert counted == [[0]]
        counted.clear()
        other = LanguageModel(str(models["no bos"]))
        direct_loss(ANSWERS, lm=other, cache=cache)
        assert sum(map(len, counted)) >= 3


def test_a_kill_half_way_loses_no_batch(models, tmp_path, monkeypatch):
    texts = [f"cat {'dog ' * i}" for i in range(1, 7)]
    lm = LanguageModel(str(models["lm"]), batch=2)
    expected = direct_loss(texts, lm=lm)
    real, calls = lm.batch_losses, []

    def fails(rows):
        calls.append(len(rows))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(rows)

    monkeypatch.setattr(lm, "batch_losses", fails)
    cache = IndicatorCache(tmp_path / "s.sqlite")
    with pytest.raises(KeyboardInterrupt):
        direct_loss(texts, lm=lm, cache=cache)
    cache.close()
    calls.append(0)  # from here on nothing fails
    with IndicatorCache(tmp_path / "s.sqlite") as again:
        losses = direct_loss(texts, lm=lm, cache=again)
    assert calls == [2, 2, 2, 0, 2], "only the lost batch was computed again"
    torch.testing.assert_close(losses, expected)


def test_keys_tell_contents_apart():
    keys = [cache_key("x", {}, "ab", "c"), cache_key("x", {}, "a", "bc"), cache_key("y", {}, "ab", "c"),
            cache_key("x", {"m": 1}, "ab", "c"), cache_key("x", {}, "ab", None), cache_key("x", {}, "ab", ""),
            cache_key("x", {}, b"ab", "c")]  # fmt: skip
    assert len(set(keys)) == len(keys)


def test_a_store_that_is_none_is_named(tmp_path, monkeypatch):
    (tmp_path / "s.sqlite").write_bytes(b"not a database, but long enough to look like one " * 30)
    with pytest.raises(RunError, match="cannot be used as a cache of indicators"):
        IndicatorCache(tmp_path / "s.sqlite")
    monkeypatch.setenv("DATAWINNOW_CACHE", "")
    assert default_cache_path() is None
    monkeypatch.setenv("DATAWINNOW_CACHE", str(tmp_path))
    assert default_cache_path() == tmp_path / "indicators.sqlite"


# --- reward, CLIP, embeddings ---------------------------------------------------------------------------------------


def test_reward_is_the_logit_of_each_pair_alone(models):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    net = AutoModelForSequenceClassification.from_pretrained(models["reward"]).eval()
    words = AutoTokenizer.from_pretrained(models["reward"])
    rewards = reward(INSTRUCTIONS, ANSWERS, model=str(models["reward"]), batch=3)
    for i in (0, 1, 2, 4):
        with torch.no_grad():
            alone = net(**words(INSTRUCTIONS[i], ANSWERS[i], return_tensors="pt")).logits[0, 0]
        assert float(rewards[i]) == pytest.approx(float(alone), rel=1e-4)
    assert bool(rewards[3].isnan())
    assert len({round(float(v), 4) for v in rewards if v == v}) == 4
    with pytest.raises(DataError, match="has 2 labels; a reward model has one"):
        reward(INSTRUCTIONS, ANSWERS, model=str(models["two"]))
    with pytest.raises(ArgumentError, match="1 instructions, but 2 answers"):
        reward(["a"], ["a", "b"], model="x")


def test_clip_scores_are_those_of_one_pair_at_a_time_and_bad_images_are_named(models, tmp_path):
    draws = np.random.default_rng(0)
    paths = []
    for i in range(3):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(draws.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(paths[-1])
    (tmp_path / "bad.png").write_bytes(b"no image")
    images = [*paths, tmp_path / "gone.png", tmp_path / "bad.png", None, paths[0]]
    answers = ["a cat . a dog .", "the big red tree .", "it is blue", "a", "a", "a", "..."]
    clip = ClipModel(str(models["clip"]), batch=2)
    scores = clip_score(answers, images, clip=clip)
    cache = IndicatorCache(None)
    for i in range(3):
        image = torch.nn.functional.normalize(clip.embed_images([paths[i]], cache)[0], dim=0)
        rows = torch.stack([clip.embed_texts([sentence], cache)[0] for sentence in split_sentences(answers[i])])
        mean = (rows / rows.norm(dim=1, keepdim=True)).mean(0)
        assert float(scores[i]) == pytest.approx(float(100 * image @ mean), rel=1e-4)
    assert scores[:3].std() > 0.1
    assert scores[3:].isnan().tolist() == [True] * 4
    scores = clip_score(answers, images, clip=clip)
    problems = {i: kind for i, kind, _ in clip.problems}
    assert problems == {3: "no image", 4: "broken image", 5: "no image", 6: "no sentence"}


def test_images_are_known_by_content_not_by_name(models, tmp_path, counted):
    clip = ClipModel(str(models["clip"]))
    for name, colour in (("a.png", (9, 9, 9)), ("b.png", (9, 9, 9)), ("c.png", (200, 0, 0))):
        Image.new("RGB", (16, 16), colour).save(tmp_path / name)
    with IndicatorCache(None) as cache:
        embeddings = clip.embed_images([tmp_path / name for name in ("a.png", "b.png", "c.png")], cache)
    assert sum(map(len, counted)) == 2
    assert torch.equal(embeddings[0], embeddings[1])
    assert not torch.equal(embeddings[0], embeddings[2])


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_embeddings_leave_padding_out(models, pooling):
    texts = ["a cat", "the big red tree under it", "", "dog"]
    together = embed_texts(texts, model=str(models["lm"]), pooling=pooling, batch=4)
    for i in (0, 1, 3):
        alone = embed_texts([texts[i]], model=str(models["lm"]), pooling=pooling)
        torch.testing.assert_close(together[i], alone[0], rtol=1e-4, atol=1e-5)
    assert bool(together[2].isnan().all())
    assert not torch.equal(together[0], together[3])


# --- length, PCA, cards ---------------------------------------------------------------------------------------------


def test_length_counts_characters_of_the_longest():
    assert length(["x" * 1009, "x" * 161], max_length=1009).tolist() == pytest.approx([10, 10 * 161 / 1009])
    assert length(["", "ab"]).tolist() == [0, 10]
    with pytest.raises(ArgumentError, match="list of texts"):
        length("abc")
    with pytest.raises(ArgumentError, match="must hold texts, got int for example 1"):
        length(["a", 3])


def test_pca_is_scikit_learns_up_to_sign_and_fitted_once(tmp_path):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(50, 7, generator=g) @ torch.randn(7, 7, generator=g)
    fitted = fit_pca(x, 3)
    theirs = SklearnPCA(3, svd_solver="full").fit(x.double().numpy())
    np.testing.assert_allclose(
        fitted(x).abs().numpy(), np.abs(theirs.transform(x.double().numpy())), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(fitted.variance.numpy(), theirs.explained_variance_, rtol=1e-8)
    projected = fitted(x[10:20])
    torch.testing.assert_close(projected, fitted(x)[10:20])
    assert bool((fitted.axes.gather(1, fitted.axes.abs().argmax(1, keepdim=True)) > 0).all())
    fitted.write(tmp_path / "p.safetensors")
    torch.testing.assert_close(PCA.read(tmp_path / "p.safetensors")(x), fitted(x))
    (tmp_path / "q").write_bytes(b"x")
    with pytest.raises(RunError, match=r"is truncated or damaged|does not hold a PCA"):
        PCA.read(tmp_path / "q")
    with pytest.raises(ArgumentError, match=r"k must be a whole number in \[1, 7\]"):
        fit_pca(x, 8)


def test_rows_with_nan_have_no_part_in_the_axes():
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    holed = torch.cat([x, torch.full((1, 4), torch.nan)])
    torch.testing.assert_close(fit_pca(holed, 2).axes, fit_pca(x, 2).axes)
    assert bool(fit_pca(holed, 2)(holed)[-1].isnan().all())


@pytest.mark.parametrize("key", sorted(instruct.METHODS))
def test_every_indicator_has_a_whole_card_and_docstring(key):
    method = instruct.METHODS[key]
    card, doc = method.card, inspect.getdoc(method)
    assert card.key == method.__name__
    assert (card.end in ("high", "low", "middle")) == (card.kind == "score")
    assert "arXiv 2" in card.source
    assert card.cost.startswith("time O(")
    for section in ("Args:", "Returns:", "Raises:", "References:"):
        assert f"\n{section}\n" in doc, section
    for name in inspect.signature(method).parameters:
        assert f"\n    {name}: " in doc, name


def test_the_indicators_are_all_there():
    scores = {key for key, method in instruct.METHODS.items() if method.card.kind == "score"}
    assert scores == {
        "length", "clip_score", "reward", "judge", "perplexity", "ifd", "answer_loss", "direct_loss"
    }  # fmt: skip


def test_a_model_that_is_not_there_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArgumentError, match="lm: cannot load AutoTokenizer from"):
        LanguageModel(str(tmp_path / "empty"))


def test_the_published_score_counts_the_empty_text_behind_the_last_full_stop(models, tmp_path, monkeypatch):
    Image.new("RGB", (16, 16), (200, 30, 90)).save(tmp_path / "0.png")
    path = write_lines(tmp_path / "p.jsonl", [{"id": "0", "instruction": "what is it ?", "output": "a cat . it ran ."}])
    split = []

    def without_model(answer, image, *, keep_empty, **_):  # the tiny tokenizer has no token for an empty text
        split.append(split_sentences(answer[0], keep_empty=keep_empty))
        return torch.zeros(1)

    monkeypatch.setattr(indicators, "clip_score", without_model)
    for keep_empty in (False, True):
        options = IndicatorOptions(clip=str(models["clip"]), clip_keep_empty=keep_empty, cache=tmp_path / "s.sqlite")
        compute_indicators(read_pairs(path), options)
    assert split == [["a cat ", " it ran "], ["a cat ", " it ran ", ""]]
