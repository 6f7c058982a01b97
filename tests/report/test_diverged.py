"""Seeds that diverged or are missing: counted and named, in no mean, and in no pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from datawinnow import report
from datawinnow.core.errors import RunError
from datawinnow.report import words
from datawinnow.report.table import Table, TableCell, table
from tests.report import fixtures

WORDS = "the loss is nan in epoch 1: try a lower lr"
REACHED = {
    "full": {0: 0.90, 1: 0.91, 2: 0.89, 3: 0.92},
    "shorter_full": {0: 0.80, 1: 0.83, 2: 0.79, 3: None},
    "random": {0: 0.70, 1: None, 2: 0.74, 3: 0.71},
    "dual": {0: 0.75, 2: 0.72, 3: 0.78},  # seed 1 was not run yet
}


def rows_of(reached: dict[str, dict[int, float | None]], keep: float = 0.5) -> list[dict[str, Any]]:
    """A row a seed; None diverged, with a cost that no mean may hold."""
    rows = []
    for method, seeds in reached.items():
        for seed, accuracy in seeds.items():
            row = fixtures.row(method, 1.0 if method == "full" else keep, seed, accuracy or 0.0)
            if accuracy is None:
                row |= {"accuracy": None, "test_loss": None, "failed": WORDS, "passes": 7, "total_passes": 7}
            rows.append(row)
    return rows


def cells_of(table: Table) -> dict[str, TableCell]:
    return {cell.method: cell for cell in table.cells}


@pytest.mark.parametrize(
    ("method", "reference", "seeds"),
    [
        ("dual", "random", (0, 2, 3)),
        ("dual", "shorter_full", (0, 2)),
        ("random", "shorter_full", (0, 2)),
        ("shorter_full", "random", (0, 2)),
    ],
)
def test_a_difference_is_of_the_seeds_that_both_have(method: str, reference: str, seeds: tuple[int, ...]) -> None:
    cell = cells_of(table(rows_of(REACHED)))[method]
    difference = cell.to_random if reference == "random" else cell.to_shorter
    assert difference is not None
    ours = [REACHED[method][seed] for seed in seeds]
    theirs = [REACHED[reference][seed] for seed in seeds]
    oracle = stats.ttest_rel(ours, theirs)  # the paired test whose 95% interval this is
    low, high = oracle.confidence_interval(0.95)
    assert difference.interval.n == len(seeds)
    assert (difference.interval.low, difference.interval.high) == (pytest.approx(low), pytest.approx(high))
    outcome = "ties" if oracle.pvalue > 0.05 else "wins" if difference.difference > 0 else "loses"
    assert difference.outcome == outcome


def test_no_mean_holds_a_seed_that_diverged() -> None:
    cells = cells_of(table(rows_of(REACHED)))
    random = cells["random"]
    assert (random.seeds, random.diverged) == ((0, 2, 3), (1,))
    assert random.accuracy.mean == pytest.approx((0.70 + 0.74 + 0.71) / 3)
    assert random.accuracy.n == 3
    assert (random.passes, random.total_passes) == (1500, 1500)
    assert random.relative_passes == pytest.approx(0.5)
    assert (cells["dual"].seeds, cells["dual"].diverged) == ((0, 2, 3), ())
    alone = cells_of(table([row for row in rows_of(REACHED) if row["seed"] in (1, 3)]))
    assert alone["dual"].to_shorter is None  # no seed in common


def test_seeds_are_told_in_every_form(tmp_path: Path) -> None:
    fixtures.write_rows(tmp_path / "rows.jsonl", rows_of(REACHED))
    rows = report.rows(tmp_path)
    for text in (report.text_table(rows), report.markdown_table(rows), report.write(tmp_path).read_text()):
        assert text.count("3 of 4 seeds; 1 diverged") == 2
        assert "Training diverged and is left out of the means: all the data, fewer epochs (shorter full run" in text
        assert "at keep 0.5 (1 of 4 seeds) and random at keep 0.5 (1 of 4 seeds)." in text
    clean = report.text_table(fixtures.grid())
    assert "diverged" not in clean


def test_a_method_that_diverged_with_every_seed_has_a_line_and_no_number(tmp_path: Path) -> None:
    lost = rows_of({"random": {0: 0.3, 1: 0.31}, "dual": {0: None, 1: None}}, keep=0.1)
    rows = [*rows_of(REACHED), *lost]
    line = next(line for line in report.text_table(rows).splitlines() if "0 of 2 seeds; 2 diverged" in line)
    assert line.split() == ["0.1", "DUAL", "0", "of", "2", "seeds;", "2", "diverged", *"-----"]
    assert "| 0.1 | DUAL | 0 of 2 seeds; 2 diverged | - |" in report.markdown_table(rows)
    assert "DUAL at keep 0.1 (2 of 2 seeds)" in words.headline(table(rows), "clean")
    fixtures.write_rows(tmp_path / "rows.jsonl", rows)
    assert "DUAL at keep 0.1 (2 of 2 seeds)" in report.write(tmp_path).read_text()


def test_results_in_which_everything_diverged(tmp_path: Path) -> None:
    rows = rows_of({"full": {0: None}, "random": {0: None}, "dual": {0: None}})
    fixtures.write_rows(tmp_path / "rows.jsonl", rows)
    assert table(rows).scenarios == ("clean",)
    text = report.text_table(rows)
    assert "No pruning method has a result. Training diverged" in text
    assert text.count("0 of 1 seed; 1 diverged") == 3
    assert "all the data (1 of 1 seed)" in report.write(tmp_path).read_text()
    assert "only references" in words.headline(table(rows[:2]), "clean")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": None}, r"line 1: accuracy must be a fraction in \[0, 1\], got None"),
        ({"failed": WORDS}, "line 1: failed must be the words of an error, beside accuracy null, got 'the loss .* 0.7"),
        ({"accuracy": None, "failed": ""}, "failed must be the words of an error, .* got '' beside None"),
        ({"accuracy": None, "failed": 3}, "failed must be the words of an error, .* got 3 beside None"),
        ({"accuracy": True}, r"accuracy must be a fraction in \[0, 1\], got True"),
    ],
    ids=["null alone", "words beside a number", "no words", "a number", "a truth value"],
)
def test_rows_are_read_strictly(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    fixtures.write_rows(tmp_path / "rows.jsonl", [{**fixtures.row("random", 0.5, 0, 0.7), **change}])
    with pytest.raises(RunError, match=message):
        report.rows(tmp_path)


def test_a_row_without_an_accuracy_at_all(tmp_path: Path) -> None:
    row = fixtures.row("random", 0.5, 0, 0.7)
    del row["accuracy"]
    fixtures.write_rows(tmp_path / "rows.jsonl", [row])
    with pytest.raises(RunError, match="line 1: the row has no 'accuracy'"):
        report.rows(tmp_path)
