"""Results with more methods than lines can tell apart: rows instead, in the order of what they reach, each readable."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from datawinnow import report
from datawinnow.report import plots_many_methods as crowd
from datawinnow.report.table import Table, table
from tests.report import fixtures
from tests.report.conftest import Driver
from tests.report.test_page import DRAWN

KEEPS = (0.3, 0.1)


def rows(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Full, both references and ``count`` methods of which each is better than the one before."""
    drawn = [fixtures.row("full", 1.0, seed, 0.9 + 0.01 * seed) for seed in range(3)]
    for keep in KEEPS:
        for seed in range(3):
            drawn += [fixtures.row(name, keep, seed, 0.5 + keep + 0.01 * seed) for name in ("shorter_full", "random")]
            for i in range(count):
                one = fixtures.row("dual", keep, seed, 0.4 + keep + 0.005 * i + 0.01 * seed, **fields)
                drawn.append(one | {"method": f"m{i}", "label": f"a method named {i}", "total_passes": 3000 + i % 3})
    return drawn


def table_of(count: int, **fields: Any) -> Table:
    return table(rows(count, **fields))


def test_lines_are_drawn_up_to_a_number_of_methods() -> None:
    assert not crowd.crowded(table_of(crowd.MOST - 3), "clean")  # full, shorter full and random count too
    assert crowd.crowded(table_of(crowd.MOST - 2), "clean")


def test_leaders_are_beaten_by_nobody_who_costs_no_more() -> None:
    cells = {cell.method: cell for cell in table_of(20).of("clean", keep=0.1)}
    leaders = crowd.leaders(list(cells.values()))
    # references cost least and reach 0.6, as much as m19 does not: 0.4 + 0.1 + 0.095
    assert [cell.method for cell in leaders] == ["shorter_full"]
    ours = [cell for cell in cells.values() if not cell.is_reference]
    assert [cell.method for cell in crowd.leaders(ours)] == ["m18", "m19"]  # 3,000 passes, then 3,001


def names_in(drawn: str) -> list[str]:
    """The methods named in a drawing, by their numbers, from top to bottom."""
    return re.findall(r">a method named (\d+)<", drawn)


def test_rows_are_in_the_order_of_what_they_reach() -> None:
    drawn = crowd.accuracy_keep(table_of(33), "clean", "keep0")
    assert names_in(drawn) == [str(i) for i in reversed(range(33))]
    less = [row for row in rows(33) if (row["method"], row["keep"]) != ("m32", 0.3)]
    # without its better keep it is still the best at the one that it has
    assert names_in(crowd.accuracy_keep(table(less), "clean", "keep0"))[0] == "32"


def test_fewest_changed_examples_stand_on_top_and_only_where_some_are_changed() -> None:
    assert crowd.changed_keep(table_of(20), "clean", "changed0") is None
    many_rows = rows(20)
    for row in many_rows:
        if row["method"].startswith("m"):
            row["changed_kept"] = 0.01 * int(row["method"][1:])
    assert names_in(str(crowd.changed_keep(table(many_rows), "clean", "changed0"))) == [str(i) for i in range(20)]


def test_without_full_training_there_is_no_scale_of_cost() -> None:
    many_rows = [row for row in rows(20) if row["method"] != "full"]
    assert crowd.accuracy_cost(table(many_rows), "clean", "cost0") is None


@pytest.mark.browser
@pytest.mark.parametrize("width", [1200, 500], ids=["wide", "narrow"])
def test_a_browser_draws_35_methods_so_that_no_name_covers_another(
    width: int,
    browser: Driver,
    tmp_path: Path,
) -> None:
    fixtures.write_rows(tmp_path / "rows.jsonl", rows(33, changed_kept=0.1))
    page = report.write(tmp_path)
    browser.ask("POST", "/window/rect", {"width": width, "height": 900})
    browser.ask("POST", "/url", {"url": page.as_uri()})
    seen = browser.ask("POST", "/execute/sync", {"script": DRAWN, "args": []})
    assert seen["wide"] <= seen["window"], "the page scrolls sideways"
    assert len(seen["svgs"]) == 3
    script = """
    return [...document.querySelectorAll('svg')].map(svg => {
      const texts = [...svg.querySelectorAll('text')].map(t => t.getBoundingClientRect());
      const card = svg.closest('figure').getBoundingClientRect();
      return [
        texts.filter((t, i) => texts.some((o, j) => j > i && Math.min(t.right, o.right) - Math.max(t.left, o.left) > 1
          && Math.min(t.bottom, o.bottom) - Math.max(t.top, o.top) > t.height / 3)).length,
        texts.filter(t => t.left < card.left || t.right > card.right).length, Math.min(...texts.map(t => t.height)),
      ]})"""
    for overlapping, outside, height in browser.ask("POST", "/execute/sync", {"script": script, "args": []}):
        assert overlapping == 0
        assert outside == 0
        assert height >= 8
