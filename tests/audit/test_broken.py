"""Broken examples: each kind planted is named, and ordinary data have none."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datawinnow.audit.broken import (
    Fault,
    blank_images,
    broken_issues,
    broken_texts,
    missing_numbers,
    odd_sizes,
    other_scripts,
    script_of,
    unreadable,
)

SENTENCES = [
    "The plot is thin but the cast is in good form .",
    "A long and winding story about a family of bakers , well told .",
    "It rarely finds its feet , and never its heart .",
    "Café owners \u2013 “naïve” ones \u2013 will love it … or won\u2019t .",
] * 8


def named(faults: list[Fault]) -> dict[int, str]:
    return {i: "; ".join(fault.words for fault in faults if fault.example == i) for i in {f.example for f in faults}}


def test_ordinary_texts_have_no_fault() -> None:
    assert broken_texts(SENTENCES) == []
    assert broken_texts([]) == []


@pytest.mark.parametrize("text", ["ha ha ha ha ha ha ha ha ha ha", SENTENCES[0] + " " + SENTENCES[1][:60]])
def test_refrains_and_somewhat_longer_texts_have_no_fault(text: str) -> None:
    assert broken_texts([SENTENCES[0]] * 60 + [text]) == []


@pytest.mark.parametrize(
    ("text", "words", "action"),
    [
        ("", "the text is empty", "drop"),
        (" \n\t", "the text is empty", "drop"),
        ("The caf\ufffd was full", "wrong encoding: 1 letters", "look"),
        ("bytes \udc80\udc81 that were no UTF-8", "wrong encoding: 2 letters", "look"),
        ("The cafÃ© was full", "UTF-8 read as Windows-1252 (Ã© for é)", "look"),
        ("It doesnâ€™t work", "Windows-1252", "look"),
        ("\u043f\u0440\u0438\u0432\u0435\u0442 again".encode().decode("cp1252"), "Windows-1252", "look"),
        ("this film is bad " * 12, "repeats itself", "look"),
        ("a" * 90, "repeats itself", "look"),
        ("αυτη η ταινια ειναι καλη", "another script: 100% of its letters are Greek, not Latin", "look"),
        ("one two three four five. " + " ".join(f"word{i} and{i * 7}" for i in range(90)), "long:", "look"),
    ],
)
def test_a_broken_text_is_named(text: str, words: str, action: str) -> None:
    faults = broken_texts([*SENTENCES, text])
    assert {fault.example for fault in faults} == {len(SENTENCES)}
    fault = max(faults, key=lambda fault: words in fault.words)
    assert words in fault.words
    assert fault.action == action
    assert 0.5 <= fault.severity <= 1


@given(st.text(max_size=200))
def test_no_text_is_an_error(text: str) -> None:
    for fault in broken_texts([*SENTENCES[:4], text, text * 30]):
        assert 0 <= fault.severity <= 1
        assert fault.words


def test_bytes_that_are_what_they_seem_are_not_garbled() -> None:
    assert broken_texts([*SENTENCES, "„CAFÉ“ \u2013 «NÃO», ÜBER\u2019s “É”"]) == []


def test_a_dataset_of_two_scripts_has_no_foreign_one() -> None:
    assert other_scripts(["abcd efgh", "αβγδ εζηθ"] * 5) == []
    assert other_scripts(["12", "?!"]) == []
    assert [fault.example for fault in other_scripts(["abcd efgh"] * 30 + ["αβγδ abc", "αβγδ abcde", "αβγ"])] == [30]


def test_scripts_that_are_written_together_are_one() -> None:
    assert {script_of(letter) for letter in "漢ひカ"} == {"CJK"}
    assert script_of("é") == "LATIN"
    assert script_of("3") == ""


def test_blank_images_are_named_with_their_colour() -> None:
    x = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    x[2] = torch.tensor([255, 0, 10], dtype=torch.uint8)[:, None, None]
    x[4] = 128
    x[4, :, 0, 0] = 129
    x[5, 1:] = 7  # one channel has content
    faults = blank_images(x, first=100)
    assert named(faults) == {
        102: "blank: all pixels are of one colour (255, 0, 10)",
        104: "blank: nearly all pixels are of one colour (128, 128, 128)",
    }
    assert faults[0].severity == 1.0
    assert 0.9 < faults[1].severity < 1.0
    assert all(fault.action == "drop" for fault in faults)


def test_odd_sizes_and_aspects_are_named() -> None:
    sizes = [(100 + i % 30, 120 + i % 20) for i in range(200)]
    assert odd_sizes(sizes) == []
    faults = named(odd_sizes([*sizes, (100, 900), (900, 100), (1200, 1500), (8, 10), (1, 1)]))
    assert set(faults) == {200, 201, 202, 203, 204}
    assert "900x100 pixels, 7" in faults[200]
    assert "as wide" in faults[200]
    assert "as tall" in faults[201]
    assert "as large" in faults[202]
    assert "as small" in faults[203]
    assert odd_sizes([(32, 32)] * 50 + [(32, 33)]) == []
    assert set(named(odd_sizes([(32, 32)] * 50 + [(32, 320)]))) == {50}
    assert odd_sizes([(1, 1), (9, 900)]) == []


def test_vectors_with_nan_are_named() -> None:
    x = torch.zeros(4, 5)
    x[1, 3] = torch.nan
    x[2] = torch.inf
    assert named(missing_numbers(x)) == {
        1: "1 of 5 numbers are NaN or infinite, the first in column 3",
        2: "5 of 5 numbers are NaN or infinite, the first in column 0",
    }
    assert missing_numbers(torch.zeros(3, 2, dtype=torch.uint8)) == []


def test_an_example_has_one_row_with_all_its_faults_and_the_test_split_is_kept() -> None:
    faults = [Fault(3, 0.6, "long"), *unreadable({7: "no image"}), Fault(3, 0.9, "empty", "drop")]
    rows = broken_issues(faults)
    assert [(row.example, row.severity, row.evidence, row.action) for row in rows] == [
        (3, 0.9, "empty; long", "drop"),
        (7, 1.0, "cannot be read: no image", "drop"),
    ]
    assert {row.action for row in broken_issues(faults, split="test")} == {"look"}
