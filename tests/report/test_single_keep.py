"""Results at one keep: the verdict stands first, nothing is drawn on an axis of one value, no cost is blank."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from datawinnow import report
from datawinnow.core.interval import Interval
from datawinnow.core.verdict import verdict
from datawinnow.report import plots
from datawinnow.report.table import table
from tests.report import fixtures


def race(seeds: int) -> list[dict[str, Any]]:
    gains = {"shorter_full": 0.0, "dual": 0.02}
    return [
        fixtures.row(method=method, keep=1.0, seed=seed, accuracy=0.6 + seed / 10 + gain)
        for seed in range(seeds)
        for method, gain in gains.items()
    ]


def test_the_page_of_a_race_opens_with_its_verdict(tmp_path: Path) -> None:
    rows = race(2)
    fixtures.write_rows(tmp_path / "rows.jsonl", rows)
    page = html.unescape(report.write(tmp_path).read_text())
    assert verdict(rows, "dual").line in page
    assert "Accuracy against keep" not in page
    assert "it was not run" not in page


def test_a_race_has_a_cost_beside_every_accuracy() -> None:
    assert [cell.relative_passes for cell in table(race(1)).cells] == [1.0, 2.0]  # the second with its scoring


def test_an_interval_of_two_seeds_is_not_drawn() -> None:
    assert plots.bar(Interval(0.7, 0.64, 2)) == 0
    assert plots.bar(Interval(0.7, 0.05, 3)) == 5


def test_a_caption_mentions_the_dashed_line_only_where_it_is_drawn(tmp_path: Path) -> None:
    for methods, mentioned in ((("shorter_full", "dual"), True), (("random", "dual"), False)):
        rows = [
            fixtures.row(method=method, keep=keep, seed=0, accuracy=0.6) for method in methods for keep in (0.5, 0.3)
        ]
        folder = tmp_path / methods[0]
        folder.mkdir()
        fixtures.write_rows(folder / "rows.jsonl", rows)
        assert ("dashed line" in report.write(folder).read_text()) == mentioned
