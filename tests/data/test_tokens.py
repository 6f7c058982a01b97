"""Words and their numbers: what a token is, which get a number, and how rows are padded."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datawinnow.core.errors import RunError
from datawinnow.data.tokens import PADDING, UNKNOWN, Vocabulary, fitting_length, tokenize

TEXTS = ["a b b", "b c", "a, b!", "zebra"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("It's GOOD, isn't it?", ["it's", "good", ",", "isn't", "it", "?"]),
        ("do n't 's", ["do", "n't", "'", "s"]),
        ("well-made  10/10\n", ["well", "-", "made", "10", "/", "10"]),
        ("\ufb01lm na\u00efve \u00c9T\u00c9", ["film", "na\u00efve", "\u00e9t\u00e9"]),
        ("\u597d\u770b film", ["\u597d", "\u770b", "film"]),
        ("\U0001f600!", ["\U0001f600", "!"]),
        (" \t ", []),
    ],
    ids=["apostrophes", "cut before", "punctuation", "one form", "chinese", "emoji", "blank"],
)
def test_tokens_by_hand(text, tokens):
    assert tokenize(text) == tokens


@given(st.text(max_size=60))
def test_nothing_but_space_is_lost_between_the_tokens(text):
    assert all(token and not token.isspace() for token in tokenize(text))
    assert tokenize(" ".join(tokenize(text))) == tokenize(text)


def test_frequent_tokens_come_first_and_those_seen_once_have_no_number():
    vocabulary, x, cut = Vocabulary.fit(TEXTS)
    assert vocabulary.tokens == ("b", "a")  # b four times, a twice; the rest once
    assert len(vocabulary) == 4
    assert vocabulary.length == 4  # 99 of 100 texts: here all
    assert cut == 0
    assert x.dtype == torch.int32
    assert x.tolist() == [[3, 2, 2, 0], [2, 1, 0, 0], [3, 1, 2, 1], [1, 0, 0, 0]]


def test_encoding_the_same_texts_gives_what_fitting_gave():
    vocabulary, x, _ = Vocabulary.fit(TEXTS, min_count=1)
    assert torch.equal(vocabulary.encode(TEXTS), x)
    assert vocabulary.encode(["b nowhere a", "  "]).tolist() == [[2, UNKNOWN, 3, PADDING], [UNKNOWN, 0, 0, 0]]


def test_equally_frequent_tokens_are_in_the_order_of_the_alphabet_and_most_cuts_the_rest():
    vocabulary, _, _ = Vocabulary.fit(["d c d c b b a a a"], max_tokens=3)
    assert vocabulary.tokens == ("a", "b", "c")


def test_longer_texts_are_cut_and_counted():
    vocabulary, x, cut = Vocabulary.fit(["a b c d", "a b", "a"], length=2, min_count=1)
    assert x.tolist() == [[2, 3], [2, 3], [2, 0]]
    assert cut == 1
    assert vocabulary.encode(["c b a"]).tolist() == [[4, 3]]


@pytest.mark.parametrize(
    ("sizes", "max_length", "length"),
    [
        (range(1, 101), None, 99),
        ([3] * 99 + [200], None, 3),
        ([3] * 98 + [200] * 2, None, 200),
        ([400] * 5, None, 256),
        ([400] * 5, 300, 300),
        ([4, 2], 300, 4),
        ([0, 0], None, 1),
    ],
    ids=["99 of 100", "one long", "two long", "at most 256", "told", "told too much", "empty"],
)
def test_the_length_by_hand(sizes, max_length, length):
    assert fitting_length(np.array(sizes), max_length) == length


@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=6), min_size=1, max_size=8), st.integers(1, 5))
def test_rows_are_the_literal_ones(words, length):
    texts = [" ".join(w) for w in words]
    counts = Counter(token for w in words for token in w)
    order = sorted(counts, key=lambda token: (-counts[token], token))
    _, x, cut = Vocabulary.fit(texts, length=length, min_count=1)
    expected = []
    width = max(1, min(length, max(map(len, words))))
    for w in words:
        ids = [order.index(token) + 2 for token in w][:width] or [UNKNOWN]
        expected.append(ids + [PADDING] * (width - len(ids)))
    assert x.tolist() == expected
    assert cut == sum(len(w) > width for w in words)


def test_a_vocabulary_is_written_and_read(tmp_path):
    vocabulary, _, _ = Vocabulary.fit(["a a b b \u00e9 \u00e9"])
    vocabulary.write(tmp_path / "vocabulary.json", "f" * 16)
    assert Vocabulary.read(tmp_path / "vocabulary.json") == vocabulary


@pytest.mark.parametrize("text", ['{"format": 1, "kind": "vocabulary"}', '{"format": 1, "tokens": [], "length": 3}'])
def test_a_damaged_vocabulary_is_refused(tmp_path, text):
    (tmp_path / "vocabulary.json").write_text(text)
    with pytest.raises(RunError, match=r"does not hold a vocabulary|is damaged"):
        Vocabulary.read(tmp_path / "vocabulary.json")
