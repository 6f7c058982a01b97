"""The page: honest about what loses, whole, safe, without torch, and drawn by a real browser without an error."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from datawinnow import report
from datawinnow.core.errors import RunError
from datawinnow.report import words
from tests.report import fixtures
from tests.report.conftest import Driver


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixtures.run_folder(tmp_path_factory.mktemp("run") / "spots")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    noisy = fixtures.grid(scenario="symmetric 0.2", changed_kept=0.2)
    fixtures.write_rows(folder / "rows.jsonl", fixtures.grid() + noisy)
    return folder


def test_the_table_compares_by_seed_and_counts_scoring(results: Path) -> None:
    cells = {(c.scenario, c.method, c.keep): c for c in report.table(report.rows(results)).cells}
    dual = cells["clean", "dual", 0.5]
    assert dual.seeds == (0, 1, 2)
    assert dual.to_random is not None
    assert dual.to_random.interval.mean == pytest.approx(-0.1 + 0.002 / 3)
    assert dual.loses == ("random", "the shorter full run")
    assert dual.relative_passes == pytest.approx(1.5)  # 3000 to score and 1500 to train, against 3000
    assert dual.break_even == pytest.approx(3000 / (3000 - 1500))
    assert cells["clean", "random", 0.5].relative_passes == pytest.approx(0.5)
    assert cells["symmetric 0.2", "dual", 0.5].changed_kept is not None


def test_the_headline_says_when_one_pruned_run_costs_more_than_a_full_one() -> None:
    dear = words.headline(report.table(fixtures.grid()), "clean")
    assert "costs at least as much as full training, which is more accurate (90.0 ± 2.5%)" in dear
    cheap = [{**r, "total_passes": r["passes"] + 300} if r["method"] == "dual" else r for r in fixtures.grid()]
    assert "full training" not in words.headline(report.table(cheap), "clean")


def test_the_headline_says_that_the_best_of_many_was_picked() -> None:
    rows = fixtures.grid()
    better = [{**r, "accuracy": r["accuracy"] + 0.3} if r["method"] == "dual" else r for r in rows]
    assert "points)" in (few := words.headline(report.table(better), "clean"))
    assert "partly by chance" not in few
    other_rows = [{**r, "method": f"m{i}", "label": f"m{i}"} for i in range(5) for r in rows if r["method"] == "dual"]
    many = words.headline(report.table([*better, *other_rows]), "clean")
    assert ", the best of 6)" in many
    assert "the best of many is picked partly by chance" in many


def test_losing_is_said_in_words_everywhere(results: Path) -> None:
    rows = report.rows(results)
    for text in (report.text_table(rows), report.markdown_table(rows), report.write(results).read_text()):
        assert "LOSES" in text
        assert "within noise" in text
        assert "after 2.0 runs" in text


def test_a_page_is_one_file_that_loads_nothing(results: Path, run: Path) -> None:
    for page in (report.write(results), report.write(run)):
        text = page.read_text()
        sources = re.findall(r'(?:src|href)="([^"]*)"', text)
        assert sources
        assert [s for s in sources if not s.startswith(("data:", "#"))] == []
        assert "@import" not in text
        assert "<script" not in text
        assert "default-src 'none'" in text


def test_names_from_outside_are_escaped(run: Path) -> None:
    text = report.write(run).read_text()
    assert fixtures.HOSTILE not in text
    assert "&lt;script&gt;" in text


def test_the_run_page_shows_the_selection_and_its_cost(run: Path) -> None:
    text = report.write(run).read_text()
    assert "27 of 90" in text
    for title in ("The data map", "Score: EL2N", "Kept", "Dropped", "Hardest", "Most doubtful", "Cost"):
        assert title in text, title
    assert text.count("data:image/png;base64,") >= 40


def test_a_run_that_has_only_begun_says_what_is_missing(tmp_path: Path, run: Path) -> None:
    (tmp_path / "run.json").write_bytes((run / "run.json").read_bytes())
    text = report.write(tmp_path).read_text()
    assert "datawinnow select" in text
    assert "Nothing has been selected yet" in text


def test_a_table_of_another_dataset_is_refused(tmp_path: Path, run: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    metadata = json.loads((folder / "run.json").read_text())
    metadata["dataset"]["fingerprint"] = "f" * 16
    (folder / "run.json").write_text(json.dumps(metadata))
    with pytest.raises(RunError, match="a different dataset"):
        report.write(folder)


def test_a_check_of_another_dataset_is_refused_and_an_unfinished_one_is_shown(tmp_path: Path, run: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    check = {"format": 1, "rows": [], "sentence": "The check is not finished: 0 of 3 trainings are done."}
    (copy / "check.json").write_text(json.dumps({**check, "fingerprint": "ab"}))
    with pytest.raises(
        RunError, match=r"check\.json belongs to a different dataset \(fingerprint ab\) than the run .*--check"
    ):
        report.write(copy)
    (copy / "check.json").write_text(json.dumps(check))
    assert "The check is not finished: 0 of 3" in report.write(copy).read_text()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t[:-30], "line 7: truncated"),
        (lambda t: t.replace('"format": 1', '"format": 99', 1), "newer datawinnow"),
        (lambda t: t.replace('"accuracy": 0.89', '"accuracy": 1.89', 1), "accuracy must be a fraction"),
        (lambda t: t + t.splitlines()[0] + "\n", "already on line 1"),
        (lambda t: "", "holds no results yet"),
    ],
    ids=["truncated", "newer", "range", "twice", "empty"],
)
def test_rows_are_read_strictly(spoil: Any, message: str, tmp_path: Path) -> None:
    text = fixtures.write_rows(tmp_path / "rows.jsonl", fixtures.grid()[:7]).read_text()
    (tmp_path / "rows.jsonl").write_text(spoil(text))
    with pytest.raises(RunError, match=message):
        report.rows(tmp_path)


def test_a_folder_of_neither_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run and there are no results"):
        report.write(tmp_path)


def test_the_report_does_not_import_torch(results: Path, run: Path) -> None:
    code = (
        "import sys; from datawinnow import report; from pathlib import Path\n"
        f"report.write(Path({str(results)!r})); report.write(Path({str(run)!r}))\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


# --- in a real browser ------------------------------------------------------------------------------------------------

DRAWN = """
return {
  wide: document.documentElement.scrollWidth,
  window: window.innerWidth,
  svgs: [...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect()).map(b => [b.width, b.height]),
  shapes: [...document.querySelectorAll('svg')].map(s => s.querySelectorAll('path, use').length),
  images: [...document.images].map(i => i.src.length),
};
"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 360], ids=["wide", "narrow"])
@pytest.mark.parametrize("page_name", ["results", "run"])
def test_a_browser_draws_the_page_without_an_error(
    page_name: str, width: int, browser: Driver, request: pytest.FixtureRequest
) -> None:
    page = report.write(request.getfixturevalue(page_name))
    browser.ask("POST", "/window/rect", {"width": width, "height": 900})
    browser.ask("POST", "/url", {"url": page.as_uri()})
    seen = browser.ask("POST", "/execute/sync", {"script": DRAWN, "args": []})
    assert abs(seen["window"] - width) <= 20  # the window is as narrow as asked for
    assert seen["wide"] <= seen["window"], "the page scrolls sideways"
    assert len(seen["svgs"]) >= (5 if page_name == "results" else 3)
    assert all(w > 200 and h > 100 for w, h in seen["svgs"]), seen["svgs"]
    assert all(shapes > 10 for shapes in seen["shapes"]), seen["shapes"]
    if page_name == "run":
        assert len(seen["images"]) >= 40
    console = browser.ask("POST", "/se/log", {"type": "browser"})
    assert [line for line in console if line["level"] == "SEVERE"] == []
