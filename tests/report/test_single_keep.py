"""Results at one keep: the verdict stands first, nothing is drawn on an axis of one value, no cost is blank."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from datawinnow import report
from datawinnow.core.interval import Interval
from datawinnow.core.verdict import verdict
from datawinnow.report import plots, plots_many_methods
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


def test_the_rows_of_a_few_methods_have_their_whole_names_and_no_keep_of_all() -> None:
    names = ["chance by loss, keep 0.3..1.0:oscillating:3, guarded", "chance by loss, keep 0.3..1.0:oscillating:3"]
    rows = [fixtures.row(method="shorter_full", keep=1.0, seed=0, accuracy=0.6)]
    rows += [
        fixtures.row(method="dual", keep=1.0, seed=0, accuracy=0.6) | {"method": f"m{i}", "label": name}
        for i, name in enumerate(names)
    ]
    drawn = plots_many_methods.accuracy_keep(table(rows), "clean", "keep0")
    assert all(word in drawn for word in (">0.3..1.0:oscillating:3,<", ">guarded<", ">0.3..1.0:oscillating:3<"))
    assert "\N{HORIZONTAL ELLIPSIS}" not in drawn
    assert "keep 100%" not in drawn  # a policy's keep is in its name
    few = [row | {"keep": 0.5} for row in rows]
    assert "keep 50%" in plots_many_methods.accuracy_keep(table(few), "clean", "keep0")


def test_names_of_rows_are_cut_only_where_they_stay_apart() -> None:
    long = [f"{i} of many methods with a long name" for i in range(plots_many_methods.MOST + 1)]
    assert plots_many_methods.row_names(long)[0] == "0 of many methods with a \N{HORIZONTAL ELLIPSIS}"
    alike = [f"a method with a long name, and its option {i}" for i in range(plots_many_methods.MOST + 1)]
    assert plots_many_methods.row_names(alike)[3] == "a method with a long name,\nand its option 3"
    assert plots_many_methods.row_names(long[:3])[0] == "0 of many methods with a\nlong name"
