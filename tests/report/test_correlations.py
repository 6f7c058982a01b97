"""How scores agree: SciPy's rank correlations, turned by the end that a paper keeps, side by side and in a browser."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from datawinnow import report
from datawinnow.core.artifacts import read_table, write_table
from datawinnow.report import run_plots
from datawinnow.report.correlations import clustered, oriented, rank_correlations, ranks, spearman, word
from datawinnow.report.run_plots import NUMBERED, heat_map
from tests.report import fixtures
from tests.report.conftest import Driver
from tests.report.test_page import DRAWN

RNG = np.random.default_rng(0)
DRAWS = {
    "no ties": RNG.normal(size=(3, 60)),
    "many ties": RNG.integers(0, 4, size=(3, 60)).astype(float),
    "infinite": np.where(RNG.random((3, 60)) < 0.2, np.inf, RNG.normal(size=(3, 60))),
    "two": np.array([[1.0, 2.0], [5.0, 3.0], [0.0, 9.0]]),
}


def table_of(columns: dict[str, np.ndarray], **ends: str) -> pa.Table:
    """``scores.parquet`` of these columns; labels are their names in capitals."""
    n = len(next(iter(columns.values())))
    fields = [pa.field("id", pa.string()), pa.field("label", pa.int64())]
    arrays = [pa.array([str(i) for i in range(n)]), pa.array(np.zeros(n, dtype=np.int64))]
    for name, values in columns.items():
        metadata = {"label": name.upper(), "end": ends.get(name, "high")}
        fields.append(pa.field(name, pa.float32(), metadata=metadata))
        arrays.append(pa.array(values.astype(np.float32)))
    return pa.table(arrays, schema=pa.schema(fields))


@pytest.mark.parametrize("values", DRAWS.values(), ids=DRAWS)
def test_ranks_and_correlations_are_those_of_scipy(values: np.ndarray) -> None:
    for row in values:
        assert ranks(row).tolist() == stats.rankdata(row).tolist()
    correlations = spearman(values)
    for i in range(3):
        for j in range(3):
            assert correlations[i, j] == pytest.approx(stats.spearmanr(values[i], values[j]).statistic, abs=1e-10)


def test_a_pair_is_compared_on_the_examples_that_both_have() -> None:
    values = RNG.integers(0, 9, size=(2, 80)).astype(float)
    values[0, :20] = np.nan
    values[1, 10:35] = np.nan
    both = slice(35, None)
    assert spearman(values)[0, 1] == pytest.approx(stats.spearmanr(values[0, both], values[1, both]).statistic)


@pytest.mark.parametrize(
    "other", [np.full(5, 3.0), np.full(5, np.nan), np.array([1.0, *[np.nan] * 4])], ids=["constant", "none", "one"]
)
def test_a_correlation_that_is_not_defined_is_nan_and_a_dash(other: np.ndarray) -> None:
    correlations = spearman(np.stack([np.arange(5.0), other]))
    assert correlations[0, 0] == 1
    assert np.isnan([correlations[0, 1], correlations[1, 0], correlations[1, 1]]).all()
    assert word(float(correlations[0, 1])) == "-"


def test_scores_are_turned_so_that_what_the_paper_keeps_is_high() -> None:
    values = np.array([3.0, np.nan, 1.0, 2.0, 9.0, 2.5])
    assert oriented(values, "low")[[0, 2]].tolist() == [-3, -1]
    middle = oriented(values, "middle")  # ranks 4, -, 1, 2, 5, 3
    assert np.isnan(middle[1])
    assert middle[[0, 2, 3, 4, 5]].tolist() == [-1, -2, -1, -2, 0]
    hard = RNG.normal(size=50)
    correlations = rank_correlations(table_of({"hard": hard, "easy": -hard, "mid": hard}, easy="low", mid="middle"))
    assert correlations is not None
    at = {name: i for i, name in enumerate(correlations.names)}
    assert correlations.matrix[at["HARD"], at["EASY"]] == 1
    assert abs(correlations.matrix[at["HARD"], at["MID"]]) < 0.1  # it keeps neither end
    assert "Most alike: " in correlations.caption
    assert {"HARD", "EASY"} == set(re.findall("HARD|EASY|MID", correlations.caption.split("least")[0]))


def test_what_agrees_stands_side_by_side_and_what_has_no_rank_last() -> None:
    base = RNG.normal(size=(3, 400))
    names = [0, 1, 2, 0, 1, 2, 0, 1, 2]
    columns = [base[g] + 0.3 * RNG.normal(size=400) for g in names]
    columns.insert(4, np.zeros(400))
    groups = [*names[:4], -1, *names[4:]]
    order = clustered(spearman(np.stack(columns)))
    assert sorted(order) == list(range(10))
    ordered_groups = [groups[i] for i in order]
    assert ordered_groups[-1] == -1
    assert sum(a != b for a, b in itertools.pairwise(ordered_groups)) == 3  # three blocks, then the constant one


def test_words_have_a_minus_and_no_negative_zero() -> None:
    assert [word(v) for v in (1.0, -0.504, -0.001, 0.25)] == ["1.00", "\N{MINUS SIGN}0.50", "0.00", "0.25"]


def test_two_scores_of_one_name_are_told_apart() -> None:
    columns = table_of({"a": RNG.normal(size=9), "b": RNG.normal(size=9)})
    fields = [field.with_metadata({"label": "Twin", "end": "high"}) for field in columns.schema]
    correlations = rank_correlations(columns.cast(pa.schema(fields)))
    assert correlations is not None
    assert set(correlations.names) == {"Twin (a)", "Twin (b)"}


@pytest.mark.parametrize("k", [2, NUMBERED, NUMBERED + 1])
def test_numbers_stand_in_the_cells_while_there_is_room(k: int) -> None:
    correlations = rank_correlations(table_of({f"s{i}": RNG.normal(size=40) for i in range(k)}))
    assert correlations is not None
    drawn = str(heat_map(correlations))
    numbers = re.findall(r">(\N{MINUS SIGN}?[01]\.\d\d)<", drawn)
    assert numbers == ([text for _, row in correlations.rows for text in row] if k <= NUMBERED else [])
    assert drawn.count(">S1<") == 2  # a row and a column
    assert "var(--c1)" in drawn
    assert "var(--c2)" in drawn


def with_scores(run: Path, folder: Path, columns: dict[str, np.ndarray], **ends: str) -> Path:
    """A copy of a run with other scores."""
    shutil.copytree(run, folder)
    _, meta = read_table(run / "scores.parquet", "datawinnow score")
    write_table(folder / "scores.parquet", table_of(columns, **ends), meta)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixtures.run_folder(tmp_path_factory.mktemp("run") / "spots")


def test_the_page_shows_the_agreement_of_two_scores_and_not_of_one(run: Path, tmp_path: Path) -> None:
    hard = RNG.normal(size=90)
    one = with_scores(run, tmp_path / "one", {"hard": hard})
    assert "Agreement of the scores" not in report.write(one).read_text()
    two = with_scores(run, tmp_path / "two", {"hard": hard, "<b>bold": -hard})
    text = report.write(two).read_text()
    assert "Agreement of the scores" in text
    # for screen readers, which skip the drawing
    assert '<tr><th scope="row">HARD</th><td>1.00</td><td>\N{MINUS SIGN}1.00</td></tr>' in text
    assert "<B>BOLD" not in text
    assert "&lt;B&gt;BOLD" in text


@pytest.mark.browser
@pytest.mark.parametrize("width", [1200, 500], ids=["wide", "narrow"])
@pytest.mark.parametrize("k", [3, 35])
def test_a_browser_draws_the_heat_map_within_the_page(
    k: int,
    width: int,
    browser: Driver,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_plots, "histogram", lambda *_: None)  # 35 of them take a while
    columns = {f"a score of some length {i}": RNG.normal(size=90) for i in range(k)}
    page = report.write(with_scores(run, tmp_path / "run", columns))
    browser.ask("POST", "/window/rect", {"width": width, "height": 900})
    browser.ask("POST", "/url", {"url": page.as_uri()})
    seen: dict[str, Any] = browser.ask("POST", "/execute/sync", {"script": DRAWN, "args": []})
    assert seen["wide"] <= seen["window"], "the page scrolls sideways"
    script = """
    const svg = document.querySelector('.whole svg');
    const texts = [...svg.querySelectorAll('text')].map(t => t.getBoundingClientRect());
    const box = svg.getBoundingClientRect();
    return {
      inside: texts.every(t => t.left >= box.left - 1 && t.bottom <= box.bottom + 1 && t.right <= box.right + 1),
      size: Math.min(...texts.filter(t => t.width > t.height).map(t => t.height)),
      overlaps: texts.filter((t, i) => texts.some((o, j) => j > i && Math.min(t.right, o.right) - Math.max(t.left,
        o.left) > 1.5 && Math.min(t.bottom, o.bottom) - Math.max(t.top, o.top) > 4)).length,
    }"""
    drawn = browser.ask("POST", "/execute/sync", {"script": script, "args": []})
    assert drawn["inside"], json.dumps(drawn)
    assert drawn["overlaps"] == 0
    assert drawn["size"] >= 8  # pixels: readable
