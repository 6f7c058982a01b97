"""Losses by a language model: against the literal loop, whatever the batch, padding and prompt left out."""

from __future__ import annotations

import pytest
import torch

from datawinnow.core.errors import ArgumentError
from datawinnow.instruct.language import LanguageModel, answer_loss, direct_loss, ifd, perplexity
from tests.instruct.helpers import ANSWERS, INSTRUCTIONS
from tests.reference import instruct as literal


def expected(folder, lm, instruction, answer):
    """Mean nats by the literal loop."""
    words, bos = lm.tokenizer, lm.tokenizer.bos_token_id
    answer_ids = words(answer, add_special_tokens=False)["input_ids"]
    before = [] if bos is None else [bos]
    if instruction is not None:
        before += words(f"{instruction}\n\n", add_special_tokens=False)["input_ids"]
    if bos is None:
        before, answer_ids = [*before, answer_ids[0]], answer_ids[1:]
    return literal.answer_nats(lm.network, before, answer_ids)


@pytest.mark.parametrize("kind", ["lm", "no bos"])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_losses_are_those_of_one_sequence_at_a_time_whatever_the_batch(models, kind, batch):
    lm = LanguageModel(str(models[kind]), batch=batch)
    conditioned, alone = answer_loss(INSTRUCTIONS, ANSWERS, lm=lm), direct_loss(ANSWERS, lm=lm)
    for i in (0, 1, 4):
        assert float(conditioned[i]) == pytest.approx(expected(models[kind], lm, INSTRUCTIONS[i], ANSWERS[i]), rel=1e-4)
        assert float(alone[i]) == pytest.approx(expected(models[kind], lm, None, ANSWERS[i]), rel=1e-4)
    assert bool(conditioned[3].isnan()), "an empty answer has no loss"
    assert bool(conditioned[2].isnan()) == (kind == "no bos"), "one token, and nothing before it to predict it from"
    torch.testing.assert_close(perplexity(ANSWERS, lm=lm), alone.exp(), equal_nan=True)


def test_ifd_is_the_ratio_and_drops_what_misleads(models):
    lm = LanguageModel(str(models["lm"]))
    ratio = answer_loss(INSTRUCTIONS, ANSWERS, lm=lm) / direct_loss(ANSWERS, lm=lm)
    kept = ifd(INSTRUCTIONS, ANSWERS, lm=lm, above_one="keep")
    dropped = ifd(INSTRUCTIONS, ANSWERS, lm=lm)
    torch.testing.assert_close(kept, ratio, equal_nan=True)
    above = ratio > 1
    assert 0 < int(above.sum()) < 4, "both kinds are there"
    assert torch.equal(dropped.isnan(), above | ratio.isnan())


def test_ifd_compares_the_same_tokens_where_the_instruction_leaves_room_for_some_alone(models):
    lm = LanguageModel(str(models["lm"]), max_tokens=16)
    instruction, answer = "what is it ? " * 10, "a cat sat on the mat . " * 2
    before, answer_ids = lm.tokenize_pair(instruction, answer)
    assert len(answer_ids) == 8 < len(lm.tokenize_pair(None, answer)[1]), "it is cut behind its instruction only"
    start = lm.tokenizer.bos_token_id
    expected = literal.answer_nats(lm.network, before, answer_ids) / literal.answer_nats(
        lm.network, [start], answer_ids
    )
    assert float(ifd([instruction], [answer], lm=lm, above_one="keep")[0]) == pytest.approx(expected, rel=1e-4)


def test_the_instruction_matters_and_its_tokens_do_not_count(models):
    lm = LanguageModel(str(models["lm"]))
    answers = ["a cat sat on the mat ."] * 2
    losses = answer_loss(["what", "where is the dog"], answers, lm=lm)
    assert float(losses[0]) != float(losses[1])
    counted = lm.batch_losses([([2, 5, 6], [7, 8]), ([2], [7, 8])])
    assert float(counted[1]) == pytest.approx(literal.answer_nats(lm.network, [2], [7, 8]), rel=1e-5)


def test_what_is_too_long_is_cut_to_what_the_model_takes(models):
    lm = LanguageModel(str(models["lm"]))
    losses = answer_loss(["cat " * 100, "what"], ["dog " * 100, "dog " * 100], lm=lm)
    assert bool(torch.isfinite(losses).all())
    before, answer_ids = lm.tokenize_pair("cat " * 100, "dog " * 100)
    assert (len(before), len(answer_ids)) == (16, 16)
    assert before[0] == lm.tokenizer.bos_token_id
    before, answer_ids = lm.tokenize_pair("what", "dog " * 100)
    assert len(before) + len(answer_ids) == 32


def test_a_template_without_a_place_for_the_instruction_is_refused(models):
    with pytest.raises(ArgumentError, match=r"template must contain \{instruction\}"):
        LanguageModel(str(models["lm"]), template="Question:")
