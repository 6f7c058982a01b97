"""What comes next: never two of one recording at once, and nothing that would not be done in time."""

from __future__ import annotations

import pytest

from datawinnow.bench import cells_of
from datawinnow.bench.cell import run_cell
from datawinnow.bench.planning import estimate_seconds, makes_recording, next_cells


def fake_row(cell, seconds=1.0, passes=180):
    return {
        "method": cell.method,
        "keep": cell.keep,
        "seed": cell.seed,
        "scenario": cell.scenario,
        "n": 60,
        "passes": passes,
        "cost": {"train": {"seconds": seconds}},
    }


class TestReady:
    def test_never_two_that_would_make_the_same_recording(self, grid, tmp_path):
        cells = cells_of(grid)
        first = next_cells(cells, [], grid, tmp_path, 8)
        assert [cell.key for cell in first] == [
            ("full", 1.0, 0, "clean"),
            ("shorter_full", 0.5, 0, "clean"),
            ("random", 0.5, 0, "clean"),
            ("shorter_full", 0.2, 0, "clean"),
            ("random", 0.2, 0, "clean"),
            ("full", 1.0, 0, "symmetric 0.2"),
            ("shorter_full", 0.5, 0, "symmetric 0.2"),
            ("random", 0.5, 0, "symmetric 0.2"),
        ]
        left = [cell for cell in cells if cell not in first]
        running = [cell for cell in first if cell.method == "full"]
        then = next_cells(left, running, grid, tmp_path, 50)
        makers = [cell for cell in [*running, *then] if makes_recording(cell, grid, tmp_path)]
        assert sorted((cell.seed, cell.scenario) for cell in makers) == [
            (seed, scenario) for seed in (0, 1) for scenario in ("clean", "symmetric 0.2")
        ]

    def test_once_it_is_made_all_may_read_it(self, grid, tmp_path):
        cells = [cell for cell in cells_of(grid) if cell.seed == 0 and cell.scenario == "clean"]
        run_cell(grid, cells_of(grid)[0], tmp_path)  # the full run is the recording
        assert next_cells(cells, cells[:1], grid, tmp_path, 50) == cells

    def test_no_more_than_are_free(self, grid, tmp_path):
        assert len(next_cells(cells_of(grid), [], grid, tmp_path, 3)) == 3
        assert next_cells(cells_of(grid), [], grid, tmp_path, 0) == []

    def test_a_cell_that_would_not_be_done_in_time_is_passed_over_for_one_that_would(self, grid, tmp_path):
        cells = [cell for cell in cells_of(grid) if cell.seed == 0 and cell.scenario == "clean"]
        rows = [fake_row(cells[1], seconds=18.0)]  # 0.1 s an example: 18 s, or 23.4 with slack, for a full run
        cells = [cell for cell in cells if cell.method in ("full", "random")]  # at 1, 0.5 and 0.2
        assert [c.keep for c in next_cells(cells, [], grid, tmp_path, 9, rows, time_left=12.0)] == [0.5, 0.2]
        assert [c.keep for c in next_cells(cells, [], grid, tmp_path, 9, rows, time_left=11.0)] == [0.2]
        assert next_cells(cells, [], grid, tmp_path, 9, rows, time_left=4.0) == []

    def test_estimated_seconds_of_a_cell(self, grid, tmp_path):
        cells = {(c.method, c.keep): c for c in cells_of(grid) if c.seed == 0 and c.scenario == "clean"}
        rows = [fake_row(cells["full", 1.0], seconds=s) for s in (180.0, 18.0, 1.8)]  # the median: 0.1 s a pass
        one = 1.3 * 0.1 * 60  # seconds of an epoch, with slack
        assert estimate_seconds(cells["full", 1.0], grid, tmp_path, rows) == pytest.approx(3 * one)
        assert estimate_seconds(cells["shorter_full", 0.2], grid, tmp_path, rows) == pytest.approx(0.6 * one)
        assert estimate_seconds(cells["shorter_full", 0.5], grid, tmp_path, rows) == pytest.approx(1.5 * one)
        assert estimate_seconds(cells["random", 0.2], grid, tmp_path, rows) == pytest.approx(0.6 * one)
        assert estimate_seconds(cells["aum", 0.2], grid, tmp_path, rows) == pytest.approx(
            3.6 * one
        )  # and the recording
        run_cell(grid, cells_of(grid)[0], tmp_path)  # the full run is the recording
        assert estimate_seconds(cells["aum", 0.2], grid, tmp_path, rows) == pytest.approx(0.6 * one)
        assert estimate_seconds(cells["aum", 0.2], grid, tmp_path, []) == 0.0

    def test_the_time_of_a_cell_that_diverged_foretells_nothing(self, grid, tmp_path):
        first = cells_of(grid)[0]
        rows = [{**fake_row(first, seconds=0.0, passes=0), "accuracy": None, "failed": "the loss is nan"}]
        assert estimate_seconds(first, grid, tmp_path, rows) == 0.0
        assert estimate_seconds(first, grid, tmp_path, [*rows, fake_row(first)]) == pytest.approx(1.3)
