"""The runner: every cell once and only the missing ones, also after an interruption, and time limits."""

from __future__ import annotations

import math

import pytest

from datawinnow.bench import cell as cell_module
from datawinnow.bench import cells_of, read_grid, read_rows, run_grid, runner
from datawinnow.core.errors import ArgumentError
from datawinnow.core.result_rows import row_key
from tests.runs.killing import timeless

from .conftest import InProcess
from .test_grid import METHODS

pytestmark = pytest.mark.usefixtures("in_process")
FEW = (METHODS, 'methods = ["full", "shorter_full", "random", "aum"]')
CLEAN = ('scenarios = ["clean", "symmetric 0.2"]', 'scenarios = ["clean"]')
ONE = ("seeds = [0, 1]", "seeds = [0]")


def comparable(rows):
    return [timeless(row) for row in rows]


class TestRunning:
    def test_every_cell_once_in_the_order_of_the_grid(self, grid, tmp_path):
        calls: list[tuple[str, int, int]] = []
        new: list[dict] = []
        rows = run_grid(grid, tmp_path / "out", jobs=2, progress=lambda *a: calls.append(a), on_row=new.append)
        cells = cells_of(grid)
        assert [row_key(row) for row in rows] == [cell.key for cell in cells]
        assert read_rows(tmp_path / "out" / "rows.jsonl") == rows
        assert sorted(map(row_key, new)) == sorted(cell.key for cell in cells)
        assert [done for _, done, _ in calls] == list(range(45))
        assert {(stage, total) for stage, _, total in calls} == {("cells", 44)}
        assert not math.isnan(sum(row["accuracy"] for row in rows))

    def test_a_finished_grid_runs_nothing(self, write, tmp_path, monkeypatch):
        grid = read_grid(write(FEW, ONE))
        first = run_grid(grid, tmp_path / "out", jobs=1)
        monkeypatch.setattr(cell_module, "run_cell", lambda *a: pytest.fail("ran"))
        assert run_grid(grid, tmp_path / "out", jobs=1) == first

    def test_only_missing_cells_are_run(self, write, tmp_path):
        grid = read_grid(write(FEW, ONE))
        uninterrupted = run_grid(grid, tmp_path / "out", jobs=1)
        path = tmp_path / "out" / "rows.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:5] + lines[9:]))
        new: list[dict] = []
        again = run_grid(grid, tmp_path / "out", jobs=1, on_row=new.append)
        assert [row_key(row) for row in new] == [row_key(row) for row in uninterrupted[5:9]]
        assert comparable(again) == comparable(uninterrupted)
        assert again[:5] == uninterrupted[:5]  # the old ones to the byte

    @pytest.mark.parametrize("stop_at", [1, 4])
    def test_interrupted_it_goes_on_to_the_same_rows(self, write, tmp_path, stop_at):
        grid = read_grid(write(FEW, ONE))
        uninterrupted = run_grid(grid, tmp_path / "whole", jobs=1)
        count = 0

        def interrupt(row):
            nonlocal count
            count += 1
            if count == stop_at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_grid(grid, tmp_path / "out", jobs=3, on_row=interrupt)
        assert len(read_rows(tmp_path / "out" / "rows.jsonl")) == stop_at
        assert comparable(run_grid(grid, tmp_path / "out", jobs=2)) == comparable(uninterrupted)

    def test_more_methods_seeds_and_keeps_may_be_added(self, write, tmp_path):
        small = read_grid(write(FEW, ONE, CLEAN, ("[0.5, 0.2]", "[0.5]")))
        old = run_grid(small, tmp_path / "out", jobs=1)
        grid = read_grid(write(CLEAN))
        rows = run_grid(grid, tmp_path / "out", jobs=1)
        assert len(rows) == 22
        assert [row for row in rows if row_key(row) in set(map(row_key, old))] == old

    def test_rows_of_no_cell_are_kept(self, write, tmp_path):
        run_grid(read_grid(write(FEW, ONE)), tmp_path / "out", jobs=1)
        rows = run_grid(read_grid(write((METHODS, 'methods = ["el2n"]'), ONE)), tmp_path / "out", jobs=1)
        assert [row["method"] for row in rows].count("aum") == 4
        assert [row["method"] for row in rows].count("el2n") == 4
        assert len(read_rows(tmp_path / "out" / "rows.jsonl")) == len(rows)

    def test_threads_are_those_of_the_jobs_asked_for_and_not_of_the_cells_left(self, write, tmp_path, monkeypatch):
        sizes: list[tuple[int, int]] = []

        class Watched(InProcess):
            def __init__(self, jobs, threads, grid, out, fingerprint, test_fingerprint):
                sizes.append((jobs, threads))
                super().__init__(jobs, threads, grid, out, fingerprint, test_fingerprint)

        monkeypatch.setattr(runner, "Workers", Watched)
        monkeypatch.setattr("os.cpu_count", lambda: 8)
        grid = read_grid(write((METHODS, 'methods = ["random"]')))
        run_grid(grid, tmp_path / "out", jobs=4)
        path = tmp_path / "out" / "rows.jsonl"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
        run_grid(grid, tmp_path / "out", jobs=4)
        run_grid(grid, tmp_path / "more", jobs=4, threads=3)
        assert sizes == [(4, 2), (1, 2), (4, 3)]


class TestTimeLimit:
    def test_none_at_all_runs_nothing(self, grid, tmp_path, monkeypatch):
        monkeypatch.setattr(cell_module, "run_cell", lambda *a: pytest.fail("ran"))
        calls: list[tuple] = []
        assert run_grid(grid, tmp_path / "out", time_limit=0, progress=lambda *a: calls.append(a)) == []
        assert calls == [("cells", 0, 44)]

    def test_what_is_not_begun_in_time_is_left_for_the_next_run(self, write, tmp_path, monkeypatch):
        grid = read_grid(write(FEW, ONE))
        clock = [0.0]
        monkeypatch.setattr("time.monotonic", lambda: clock[0])

        def took_a_second(row):
            clock[0] += 1.0

        first_rows = run_grid(grid, tmp_path / "out", jobs=1, time_limit=3.5, on_row=took_a_second)
        assert len(first_rows) == 4
        rest: list[dict] = []
        every = run_grid(grid, tmp_path / "out", jobs=1, on_row=rest.append)
        assert len(every) == len(cells_of(grid)) == 4 + len(rest)
        assert every[:4] == first_rows

    def test_what_is_running_then_is_ended(self, write, tmp_path, monkeypatch):
        stopped: list[int] = []
        clock = [0.0]

        class Slow(InProcess):
            def finished(self, timeout):
                assert timeout == 5.0 - clock[0]
                clock[0] += timeout
                return []

            def stop(self):
                stopped.append(len(self.running))

        monkeypatch.setattr(runner, "Workers", Slow)
        monkeypatch.setattr("time.monotonic", lambda: clock[0])
        assert run_grid(read_grid(write(FEW)), tmp_path / "out", jobs=2, time_limit=5.0) == []
        assert stopped == [2]


class TestArguments:
    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"jobs": -1}, "jobs must be"),
            ({"threads": 1.5}, "threads must be"),
            ({"time_limit": -1}, "time_limit must"),
        ],
        ids=["jobs", "threads", "time_limit"],
    )
    def test_numbers_out_of_range(self, grid, tmp_path, kwargs, message):
        with pytest.raises(ArgumentError, match=message):
            run_grid(grid, tmp_path / "out", **kwargs)

    def test_a_file_is_no_folder(self, grid, tmp_path):
        (tmp_path / "out").write_text("")
        with pytest.raises(ArgumentError, match="out is a file, not a folder; give another `out=`"):
            run_grid(grid, tmp_path / "out")
