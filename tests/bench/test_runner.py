"""The runner: only missing cells, never two of one recording at once, time limits, and rows that hold."""

from __future__ import annotations

import json
import math

import pytest

from datawinnow.bench import cell as cell_module
from datawinnow.bench import cells_of, read_grid, read_rows, run_grid, runner
from datawinnow.bench.runner import foretold, in_order, makes_recording, ready, row_key, write_rows
from datawinnow.core.errors import ArgumentError, RunError
from tests.pipeline.killing import timeless

from .conftest import InProcess, write_data
from .test_grid import METHODS

pytestmark = pytest.mark.usefixtures("in_process")
FEW = (METHODS, 'methods = ["full", "shorter_full", "random", "aum"]')
CLEAN = ('scenarios = ["clean", "symmetric 0.2"]', 'scenarios = ["clean"]')
ONE = ("seeds = [0, 1]", "seeds = [0]")


def comparable(rows):
    return [timeless(row) for row in rows]


class TestRunning:
    def test_every_cell_once_in_the_order_of_the_grid(self, grid, tmp_path):
        told: list[tuple[str, int, int]] = []
        new: list[dict] = []
        rows = run_grid(grid, tmp_path / "out", jobs=2, progress=lambda *a: told.append(a), on_row=new.append)
        cells = cells_of(grid)
        assert [row_key(row) for row in rows] == [cell.key for cell in cells]
        assert read_rows(tmp_path / "out" / "rows.jsonl") == rows
        assert sorted(map(row_key, new)) == sorted(cell.key for cell in cells)
        assert [done for _, done, _ in told] == list(range(45))
        assert {(what, total) for what, _, total in told} == {("cells", 44)}
        assert not math.isnan(sum(row["accuracy"] for row in rows))

    def test_a_finished_grid_runs_nothing(self, write, tmp_path, monkeypatch):
        grid = read_grid(write(FEW, ONE))
        first = run_grid(grid, tmp_path / "out", jobs=1)
        monkeypatch.setattr(cell_module, "run_cell", lambda *a: pytest.fail("ran"))
        assert run_grid(grid, tmp_path / "out", jobs=1) == first

    def test_only_missing_cells_are_run(self, write, tmp_path):
        grid = read_grid(write(FEW, ONE))
        whole = run_grid(grid, tmp_path / "out", jobs=1)
        path = tmp_path / "out" / "rows.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:5] + lines[9:]))
        new: list[dict] = []
        again = run_grid(grid, tmp_path / "out", jobs=1, on_row=new.append)
        assert [row_key(row) for row in new] == [row_key(row) for row in whole[5:9]]
        assert comparable(again) == comparable(whole)
        assert again[:5] == whole[:5]  # the old ones to the byte

    @pytest.mark.parametrize("stop_at", [1, 4])
    def test_interrupted_it_goes_on_to_the_same_rows(self, write, tmp_path, stop_at):
        grid = read_grid(write(FEW, ONE))
        whole = run_grid(grid, tmp_path / "whole", jobs=1)
        count = 0

        def interrupt(row):
            nonlocal count
            count += 1
            if count == stop_at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_grid(grid, tmp_path / "out", jobs=3, on_row=interrupt)
        assert len(read_rows(tmp_path / "out" / "rows.jsonl")) == stop_at
        assert comparable(run_grid(grid, tmp_path / "out", jobs=2)) == comparable(whole)

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
        given: list[tuple[int, int]] = []

        class Watched(InProcess):
            def __init__(self, jobs, threads, grid, out):
                given.append((jobs, threads))
                super().__init__(jobs, threads, grid, out)

        monkeypatch.setattr(runner, "Workers", Watched)
        monkeypatch.setattr("os.cpu_count", lambda: 8)
        grid = read_grid(write((METHODS, 'methods = ["random"]')))
        run_grid(grid, tmp_path / "out", jobs=4)
        path = tmp_path / "out" / "rows.jsonl"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
        run_grid(grid, tmp_path / "out", jobs=4)
        run_grid(grid, tmp_path / "more", jobs=4, threads=3)
        assert given == [(4, 2), (1, 2), (4, 3)]


class TestRefusals:
    def test_another_dataset_is_refused_before_anything_is_trained(self, write, tmp_path):
        run_grid(read_grid(write(FEW, ONE)), tmp_path / "out", jobs=1)
        before = (tmp_path / "out" / "rows.jsonl").read_bytes()
        more = (METHODS, 'methods = ["full", "random", "el2n"]')
        other = read_grid(write(more, source=write_data(tmp_path / "other.npz", seed=1)))
        with pytest.raises(RunError, match=r"holds rows about another dataset \(fingerprint .*\) than 'other', which"):
            run_grid(other, tmp_path / "out", jobs=1)
        assert (tmp_path / "out" / "rows.jsonl").read_bytes() == before

    def test_the_same_data_may_have_moved(self, write, tmp_path):
        run_grid(read_grid(write(FEW, ONE)), tmp_path / "out", jobs=1)
        (tmp_path / "there").mkdir()
        (tmp_path / "data.npz").rename(tmp_path / "there" / "data.npz")
        more = (METHODS, 'methods = ["random", "el2n"]')
        grid = read_grid(write(more, ONE, source=tmp_path / "there" / "data.npz"))
        assert len(run_grid(grid, tmp_path / "out", jobs=1)) == 18

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("lr = 0.05", "lr = 0.1", r"rows made with \[train\] lr = 0.05, now it is 0.1: give another --out folder"),
            ("epochs = 3", "epochs = 4", r"\[train\] epochs = 3, now it is 4"),
            ('model = "mlp"', 'model = "mlp"\nmodel_options = {{ width = 8 }}', r"\[train\] model_options = \{\}, now"),
            ('source = "{source}"', 'source = "{source}"\nlimit = 50', r"\[data\] limit = None, now it is 50"),
            ("[[method]]", "[score]\nepochs = 2\n[[method]]", r"\[score\] epochs = None, now it is 2"),
            ("window = 2", "window = 2, missing = 'skip'", r"\[methods\] short = .*'window': 2\}.*now it is .*'skip'"),
        ],
        ids=["lr", "epochs", "model", "data", "score", "method"],
    )
    def test_other_settings_are_refused_by_name(self, write, tmp_path, old, new, message):
        few = (METHODS, 'methods = ["random", "short"]')
        run_grid(read_grid(write(few, ONE)), tmp_path / "out", jobs=1)
        with pytest.raises(RunError, match=message):
            run_grid(read_grid(write(few, (old, new))), tmp_path / "out", jobs=1)

    def test_a_method_without_rows_may_change(self, write, tmp_path):
        run_grid(read_grid(write((METHODS, 'methods = ["random"]'), ONE)), tmp_path / "out", jobs=1)
        few = (METHODS, 'methods = ["random", "short"]')
        grid = read_grid(write(few, ONE, ("window = 2", "window = 2, missing = 'skip'")))
        assert len(run_grid(grid, tmp_path / "out", jobs=1)) == 8

    def test_rows_without_a_grid_beside_them_are_compared_with_it(self, write, tmp_path):
        run_grid(read_grid(write(FEW, ONE)), tmp_path / "out", jobs=1)
        (tmp_path / "out" / "grid.json").unlink()
        with pytest.raises(RunError, match="holds a row with epochs 3 where 4 is expected: rows of different experim"):
            run_grid(read_grid(write(FEW, ("epochs = 3", "epochs = 4"))), tmp_path / "out", jobs=1)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ('{"format": 1, "method"', r"rows.jsonl, line 2: not a row of results .*remove the line to run it again"),
            ('{"format": 1}', r"line 2: not a row of results \('method'\)"),
            ("[1]", r"line 2: not a row of results"),
            ('{"format": 9}', r"rows.jsonl was written by a newer datawinnow \(format 9"),
        ],
        ids=["truncated", "no row", "a list", "newer"],
    )
    def test_a_line_that_is_no_row(self, write, tmp_path, line, message):
        grid = read_grid(write((METHODS, 'methods = ["random"]')))
        run_grid(grid, tmp_path / "out", jobs=1)
        path = tmp_path / "out" / "rows.jsonl"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], line, *lines[1:]]))
        with pytest.raises(RunError, match=message):
            run_grid(grid, tmp_path / "out", jobs=1)

    def test_an_empty_file_holds_no_rows(self, tmp_path):
        (tmp_path / "rows.jsonl").write_text("")
        assert read_rows(tmp_path / "rows.jsonl") == []
        (tmp_path / "rows.jsonl").write_bytes(b"\xff\xfe")
        with pytest.raises(RunError, match=r"rows.jsonl is damaged: it is no text"):
            read_rows(tmp_path / "rows.jsonl")

    def test_rows_are_json_and_nothing_else(self, tmp_path):
        write_rows(tmp_path / "rows.jsonl", [{"a": 1}, {"b": None}])
        assert (tmp_path / "rows.jsonl").read_text() == '{"a": 1}\n{"b": null}\n'
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_rows(tmp_path / "rows.jsonl", [{"a": math.nan}])
        assert (tmp_path / "rows.jsonl").read_text() == '{"a": 1}\n{"b": null}\n'

    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ({"jobs": -1}, "jobs must be"),
            ({"threads": 1.5}, "threads must be"),
            ({"time_limit": -1}, "time_limit must"),
        ],
        ids=["jobs", "threads", "time_limit"],
    )
    def test_numbers_out_of_range(self, grid, tmp_path, how, message):
        with pytest.raises(ArgumentError, match=message):
            run_grid(grid, tmp_path / "out", **how)

    def test_a_file_is_no_folder(self, grid, tmp_path):
        (tmp_path / "out").write_text("")
        with pytest.raises(ArgumentError, match="out is a file, not a folder; give another --out"):
            run_grid(grid, tmp_path / "out")


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
        first = ready(cells, [], grid, tmp_path, 8)
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
        then = ready(left, running, grid, tmp_path, 50)
        makers = [cell for cell in [*running, *then] if makes_recording(cell, grid, tmp_path)]
        assert sorted((cell.seed, cell.scenario) for cell in makers) == [
            (seed, scenario) for seed in (0, 1) for scenario in ("clean", "symmetric 0.2")
        ]

    def test_once_it_is_made_all_may_read_it(self, grid, tmp_path):
        cells = [cell for cell in cells_of(grid) if cell.seed == 0 and cell.scenario == "clean"]
        folder = tmp_path / "recordings" / "clean-seed0"
        folder.mkdir(parents=True)
        (folder / "recording.json").write_text("{}")
        assert ready(cells, cells[:1], grid, tmp_path, 50) == cells

    def test_no_more_than_are_free(self, grid, tmp_path):
        assert len(ready(cells_of(grid), [], grid, tmp_path, 3)) == 3
        assert ready(cells_of(grid), [], grid, tmp_path, 0) == []

    def test_a_cell_that_would_not_be_done_in_time_is_passed_over_for_one_that_would(self, grid, tmp_path):
        cells = [cell for cell in cells_of(grid) if cell.seed == 0 and cell.scenario == "clean"]
        rows = [fake_row(cells[1], seconds=18.0)]  # 0.1 s an example: 18 s, or 23.4 with slack, for a full run
        assert [c.key[:2] for c in ready(cells[:3], [], grid, tmp_path, 9, rows, left=16.0)] == [
            ("shorter_full", 0.5),
            ("random", 0.5),
        ]
        assert [c.key[:2] for c in ready(cells[:3], [], grid, tmp_path, 9, rows, left=12.0)] == [("random", 0.5)]
        assert ready(cells[:3], [], grid, tmp_path, 9, rows, left=11.0) == []

    def test_what_is_foretold(self, grid, tmp_path):
        cells = {(c.method, c.keep): c for c in cells_of(grid) if c.seed == 0 and c.scenario == "clean"}
        rows = [fake_row(cells["full", 1.0], seconds=s) for s in (180.0, 18.0, 1.8)]  # the median: 0.1 s a pass
        one = 1.3 * 0.1 * 60  # seconds of an epoch, with slack
        assert foretold(cells["full", 1.0], grid, tmp_path, rows) == pytest.approx(3 * one)
        assert foretold(cells["shorter_full", 0.2], grid, tmp_path, rows) == pytest.approx(1 * one)
        assert foretold(cells["random", 0.2], grid, tmp_path, rows) == pytest.approx(0.6 * one)
        assert foretold(cells["aum", 0.2], grid, tmp_path, rows) == pytest.approx(3.6 * one)  # and the recording
        folder = tmp_path / "recordings" / "clean-seed0"
        folder.mkdir(parents=True)
        (folder / "recording.json").write_text("{}")
        assert foretold(cells["aum", 0.2], grid, tmp_path, rows) == pytest.approx(0.6 * one)
        assert foretold(cells["aum", 0.2], grid, tmp_path, []) == 0.0

    def test_rows_in_order(self, grid):
        cells = cells_of(grid)
        strange = {**fake_row(cells[0]), "method": "gone"}
        rows = [fake_row(cells[i]) for i in (7, 2, 5)]
        assert in_order([rows[0], strange, rows[1], rows[2]], cells) == [strange, rows[1], rows[2], rows[0]]


class TestTimeLimit:
    def test_none_at_all_runs_nothing(self, grid, tmp_path, monkeypatch):
        monkeypatch.setattr(cell_module, "run_cell", lambda *a: pytest.fail("ran"))
        told: list[tuple] = []
        assert run_grid(grid, tmp_path / "out", time_limit=0, progress=lambda *a: told.append(a)) == []
        assert told == [("cells", 0, 44)]

    def test_what_is_not_begun_in_time_is_left_for_the_next_run(self, write, tmp_path, monkeypatch):
        grid = read_grid(write(FEW, ONE))
        clock = [0.0]
        monkeypatch.setattr("time.monotonic", lambda: clock[0])

        def took_a_second(row):
            clock[0] += 1.0

        some = run_grid(grid, tmp_path / "out", jobs=1, time_limit=3.5, on_row=took_a_second)
        assert len(some) == 4
        rest: list[dict] = []
        every = run_grid(grid, tmp_path / "out", jobs=1, on_row=rest.append)
        assert len(every) == len(cells_of(grid)) == 4 + len(rest)
        assert every[:4] == some

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


def test_the_settings_stand_beside_the_rows(grid, tmp_path):
    run_grid(grid, tmp_path / "out", time_limit=0)
    facts = json.loads((tmp_path / "out" / "grid.json").read_text())
    assert (facts["kind"], facts["name"], facts["format"]) == ("grid", "tiny", 1)
    assert facts["settings"]["train"]["lr"] == 0.05
    assert facts["settings"]["methods"]["short"]["epochs"] == 2
