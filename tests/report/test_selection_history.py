"""Who was chosen when: counted by hand on planted plans, chance by trying every outcome, a small safe image."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datawinnow.core.errors import RunError
from datawinnow.core.selection_history import FILE_NAME, SelectionHistory
from datawinnow.report import selection_history as chosen
from datawinnow.report import selection_history_plots as chosen_plots
from datawinnow.report import words
from datawinnow.report.svg import PALETTE


def log_of(
    rows: list[list[int]], n: int, candidates: list[int] | None = None, **history_kwargs: Any
) -> SelectionHistory:
    """A log of planted plans."""
    masks = np.zeros((len(rows), n), dtype=bool)
    for mask, ids in zip(masks, rows, strict=True):
        mask[ids] = True
    could = np.zeros(n, dtype=bool)
    could[list(range(n)) if candidates is None else candidates] = True
    labels = history_kwargs.pop("labels", None)
    return SelectionHistory(
        n=n, masks=np.packbits(masks, axis=1), candidates=could, labels=labels, fingerprint="f", **history_kwargs
    )


ALL = list(range(10))


def percentages(sentence: str) -> list[str]:
    return re.findall(r"[\d.]+%", sentence)


def test_always_sometimes_and_never_are_counted_over_the_choices() -> None:
    # everything first; 0 and 1 always, 2 to 5 sometimes, 6 to 9 never
    choices = chosen.choices(log_of([ALL, [0, 1, 2], [0, 1, 3, 4], ALL, [0, 1, 5, 2]], 10), budgeted=False)
    assert choices is not None
    assert choices.times.tolist() == [3, 3, 2, 1, 1, 1, 0, 0, 0, 0]
    assert choices.fractions.tolist() == [0.3, 0.4, 0.4]
    assert choices.shares == pytest.approx((0.2, 0.4, 0.4))
    assert (len(choices), choices.epochs) == (3, 3)
    # always, sometimes and never; by chance always .3 .4 .4 and never .7 .6 .6
    assert percentages(chosen.choices_sentence(choices)) == ["20%", "40%", "40%", "4.8%", "25%"]


def test_only_who_could_be_chosen_counts() -> None:
    choices = chosen.choices(log_of([[4, 6, 8], [4, 6], [4, 8]], 10, candidates=[4, 6, 8]), budgeted=False)
    assert choices is not None
    assert choices.ids.tolist() == [4, 6, 8]
    assert choices.times.tolist() == [2, 1, 1]  # the first epoch is on all of them: no choice
    assert choices.fractions == pytest.approx([2 / 3, 2 / 3])


def test_a_choice_that_is_held_is_one_choice() -> None:
    rows = [ALL, [0, 1], [1, 0], ALL, [0, 1], [2, 3], [0, 1]]
    choices = chosen.choices(log_of(rows, 10), budgeted=False)
    assert choices is not None
    assert (len(choices), choices.epochs) == (3, 5)
    assert choices.times.tolist() == [2, 2, 1, 1, 0, 0, 0, 0, 0, 0]
    sentence = chosen.choices_sentence(choices)
    assert "5 epochs" in sentence
    assert "3 different choices" in sentence


@pytest.mark.parametrize(
    ("budgeted", "rows", "times"),
    [
        (True, [[0, 1], [0, 2], [0]], [2, 1, 1]),  # the budget cut the last one
        (False, [[0, 1], [0, 2], [0]], [3, 1, 1]),
        (True, [[0, 1], [0, 2], [0, 3]], [3, 1, 1]),  # it ended with a whole epoch
        (True, [[0]], [1, 0, 0]),  # nothing to compare with
    ],
    ids=["cut", "chosen so", "whole", "single"],
)
def test_a_last_epoch_that_a_budget_cut_is_no_choice(budgeted: bool, rows: list[list[int]], times: list[int]) -> None:
    choices = chosen.choices(log_of(rows, 10), budgeted)
    assert choices is not None
    assert choices.times[:3].tolist() == times
    assert choices.cut == (times == [2, 1, 1])


@pytest.mark.parametrize(
    "fractions", [[0.5], [0.3, 0.4, 0.4], [0.1, 0.9, 0.5, 0.25, 0.7], [1.0, 0.5]], ids=["1", "3", "5", "all"]
)
def test_chance_is_what_trying_every_outcome_gives(fractions: list[float]) -> None:
    expected = np.zeros(len(fractions) + 1)
    for outcome in itertools.product((0, 1), repeat=len(fractions)):
        expected[sum(outcome)] += np.prod([f if hit else 1 - f for f, hit in zip(fractions, outcome, strict=True)])
    assert chosen.by_chance(np.array(fractions)) == pytest.approx(expected, abs=1e-15)


def test_chance_is_what_uniform_choices_come_to() -> None:
    draw = np.random.default_rng(0)
    rows = [draw.choice(4000, size, replace=False).tolist() for size in (2000, 1000, 3000, 2000)]
    choices = chosen.choices(log_of(rows, 4000), budgeted=False)
    assert choices is not None
    seen = np.bincount(choices.times, minlength=5) / 4000
    error = np.sqrt(choices.chance * (1 - choices.chance) / 4000)
    assert (np.abs(seen - choices.chance) < 4 * error).all()


def test_the_image_has_who_was_chosen_most_on_top_and_the_epochs_across() -> None:
    log = log_of([ALL, [0, 1, 2, 3], [0, 1, 4, 5], [0, 1, 2, 3]], 10)
    choices = chosen.choices(log, budgeted=False)
    assert choices is not None
    shares, edges = chosen.shades(log, choices)
    assert edges.tolist() == [0, 1, 2, 3, 4]
    assert shares.sum(axis=1).tolist() == [4, 4, 3, 3, 2, 2, 1, 1, 1, 1]
    assert shares[:, 0].tolist() == [1] * 10
    assert shares[:, 2].tolist() == [1, 1, 0, 0, 1, 1, 0, 0, 0, 0]
    binned, edges = chosen.shades(log, choices, rows=5, columns=3)
    assert edges.tolist() == [0, 2, 4]
    assert binned.tolist() == [[1, 1], [1, 0.5], [0.5, 0.5], [0.5, 0], [0.5, 0]]


def test_the_cells_are_lines_over_neighbours_of_one_shade() -> None:
    cells = chosen_plots.cell_paths(np.array([[1, 1, 0, 0.2], [0.6, 0.6, 0.6, 1]]), np.array([0, 2, 4, 6, 7]))
    drawn = dict(re.findall(r'd="([^"]*)" style="[^"]*stroke-opacity: ([^"]*)"', cells))
    assert drawn == {"M6 0h1": "0.19", "M0 1h6": "0.57", "M0 0h4M6 1h1": "0.95"}


def test_images_are_vectors_small_and_in_the_colours_of_the_page() -> None:
    draw = np.random.default_rng(0)
    worst = draw.random((chosen.MAX_ROWS, chosen.MAX_COLUMNS))
    svg = chosen_plots.raster(worst, np.arange(chosen.MAX_COLUMNS + 1), (0.2, 0.5, 0.3), "chosen")
    other = chosen_plots.counted(draw.integers(0, 300, 5000), chosen.by_chance(np.full(299, 0.5)), "times")
    for drawn in (svg, other):
        assert len(drawn) < 150_000
        assert "<image" not in drawn
        colours = {colour.strip() for colour in re.findall(r"(?:fill|stroke): ([^;\"]*)", drawn)}
        assert colours <= {"none", *(f"var(--{name})" for name in PALETTE)}
    for word in ("always", "20%", "sometimes", "50%", "never", "30%"):
        assert word in svg
    assert svg.count("<svg") == svg.count("</svg>") == 1


def metadata(passes: float | None = None, n: int = 10, classes: int = 2) -> dict[str, Any]:
    dataset = {"fingerprint": "f", "n": n, "classes": [f"<c{i}>" for i in range(classes)]}
    return {"dataset": dataset, "options": {"train": {"passes": passes}}}


def test_the_section_says_which_class_goes_short(tmp_path: Path) -> None:
    log_of([ALL, [0, 1, 2, 9], [0, 1, 2, 3], [0, 1, 3, 9]], 10, labels=np.array([0] * 5 + [1] * 5)).save(
        tmp_path / FILE_NAME
    )
    section = chosen.section(tmp_path, metadata())
    assert section is not None
    assert section["classes"] == [
        {"name": "<c0>", "of": 5, "share": pytest.approx(100 * 10 / 15), "always": "40%", "never": "20%"},
        {"name": "<c1>", "of": 5, "share": pytest.approx(100 * 2 / 15), "always": "0%", "never": "80%"},
    ]
    highest, lowest = section["by_class"].split(",")
    assert ("<c0>" in highest, percentages(highest), "<c1>" in lowest, percentages(lowest)) == (
        True,
        ["67%"],
        True,
        ["13%"],
    )
    assert len(section["figures"]) == 2


def test_of_many_classes_only_the_ends_are_named(tmp_path: Path) -> None:
    labels = np.arange(63) // 3
    log_of([list(range(60)), list(range(0, 60, 3))], 63, labels=labels).save(tmp_path / FILE_NAME)
    section = chosen.section(tmp_path, metadata(n=63, classes=2))
    assert section is not None
    assert section["classes"] == []
    highest, lowest = section["by_class"].split(",")
    assert ("<c0>" in highest, percentages(highest), "class 20" in lowest, percentages(lowest)) == (
        True,
        ["67%"],
        True,
        ["0%"],
    )


def test_the_image_tells_of_a_cut_epoch(tmp_path: Path) -> None:
    log_of([[0, 1], [0, 2], [0]], 10).save(tmp_path / FILE_NAME)
    for passes, is_cut in ((0.5, True), (None, False)):
        section = chosen.section(tmp_path, metadata(passes))
        assert section is not None
        assert section["figures"][0]["caption"].endswith(chosen.CUT) == is_cut


@pytest.mark.parametrize(
    ("rows", "history_kwargs", "sentence", "figures"),
    [
        ([ALL, ALL], {}, "has not left any out", 0),
        ([ALL, [0, 1], [0, 1]], {}, "one choice: 20% of the examples", 0),
        ([[0, 1], [0, 2]], {"first_epoch": 3}, "The first 3 epochs were not recorded.", 2),
    ],
    ids=["everything", "one choice", "lost"],
)
def test_what_cannot_be_told_is_said(
    rows: list[list[int]], history_kwargs: dict[str, Any], sentence: str, figures: int, tmp_path: Path
) -> None:
    log_of(rows, 10, **history_kwargs).save(tmp_path / FILE_NAME)
    section = chosen.section(tmp_path, metadata())
    assert section is not None
    assert sentence in section["caption"]
    assert len(section["figures"]) == figures
    assert section["by_class"] == ""  # no labels


def test_no_file_is_no_section_and_a_foreign_one_is_refused(tmp_path: Path) -> None:
    assert chosen.section(tmp_path, metadata()) is None
    log_of([[0]], 10).save(tmp_path / FILE_NAME)
    with pytest.raises(RunError, match="a different dataset"):
        chosen.section(tmp_path, json.loads(json.dumps(metadata()).replace('"f"', '"g"')))
    with pytest.raises(RunError, match="of 10 examples, the run of 11"):
        chosen.section(tmp_path, metadata(n=11))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0%"), (1e-5, "under 0.1%"), (0.034, "3.4%"), (0.0994, "9.9%"), (0.0999, "10%"), (0.5, "50%"),
     (0.986, "99%"), (0.994, "99.4%"), (0.9995, "over 99.9%"), (1, "100%")],
)  # fmt: skip
def test_a_share_is_nothing_or_all_only_where_it_is(value: float, text: str) -> None:
    assert words.share(value) == text
