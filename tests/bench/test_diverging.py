"""Training that diverges: a row that says so, never the end of a grid, and nothing trained twice for it."""

from __future__ import annotations

import pytest

from datawinnow.bench import cell as cell_module
from datawinnow.bench import cells_of, read_grid, read_rows, run_grid
from datawinnow.bench.cell import recording_done, run_cell
from datawinnow.core.errors import RunError
from datawinnow.core.result_rows import row_key, write_rows
from datawinnow.report import results, text_table
from tests.runs.killing import Killed, killed_at, timeless

from .test_cell import cell
from .test_grid import METHODS
from .test_runner import CLEAN, FEW, ONE, comparable

MODEL = "tests.bench.helpers_models:diverging"


def diverging(after: int) -> tuple[str, str]:
    """A change of the grid: training diverges in this step, counted from 0."""
    return 'model = "mlp"', f'model = "{MODEL}"\nmodel_options = {{{{ after = {after} }}}}'


class TestCell:
    """Batches of 20: three steps an epoch with all of the 60, two with half of them, one with a fifth."""

    def test_a_cell_that_diverges_has_a_row_without_an_accuracy(self, write, tmp_path):
        grid = read_grid(write(diverging(4)), models=[MODEL])
        row = run_cell(grid, cell("random", 0.5), tmp_path)
        assert (row["accuracy"], row["test_loss"]) == (None, None)
        assert row["failed"].startswith("the loss is nan in epoch 2: try a lower `lr=` (it was 0.05)")
        assert (row["kept"], row["trained_epochs"], row["passes"]) == (30, 3, 60)  # two whole epochs before it
        assert run_cell(grid, cell("shorter_full", 0.5), tmp_path)["failed"].startswith("the loss is nan in epoch 1")
        good = run_cell(grid, cell("random", 0.2), tmp_path)
        assert good["accuracy"] >= 0
        assert "failed" not in good
        assert results.checked([row, good], "rows") == [row, good]

    def test_a_recording_that_diverges_fails_what_needs_it_without_training_again(self, write, tmp_path, monkeypatch):
        grid = read_grid(write(diverging(4)), models=[MODEL])
        first = run_cell(grid, cell("aum", 0.2), tmp_path)
        monkeypatch.setattr(cell_module, "run_recording", lambda *a, **k: pytest.fail("recorded again"))
        monkeypatch.setattr(cell_module, "fit", lambda *a, **k: pytest.fail("trained"))
        rows = [first, *(run_cell(grid, cell(method, 0.2), tmp_path) for method in ("el2n", "full", "short"))]
        assert {row["failed"] for row in rows} == {first["failed"]}
        assert first["failed"].startswith("the loss is nan in epoch 1")
        assert {(row["accuracy"], row["test_loss"]) for row in rows} == {(None, None)}
        assert [row["kept"] for row in rows] == [12, 12, 60, 12]
        assert [row["passes"] for row in rows] == [0, 0, 60, 0]  # one whole epoch before it, charged as scoring
        assert [row["total_passes"] for row in rows] == [60] * 4
        assert results.checked(rows, "rows") == rows

    def test_killed_at_any_moment_a_recording_diverges_in_the_same_way(self, write, tmp_path, monkeypatch):
        monkeypatch.setattr("os.fsync", lambda handle: None)
        grid = read_grid(write(diverging(4)), models=[MODEL])
        with killed_at(monkeypatch, None) as operations:
            expected = run_cell(grid, cell("full"), tmp_path / "unbroken")
            total = operations()
        assert total > 3  # an epoch, its checkpoint, run.json, and the removal of the checkpoint
        for at in range(total):
            with pytest.raises(Killed), killed_at(monkeypatch, at):
                run_cell(grid, cell("full"), tmp_path / str(at))
            row = run_cell(grid, cell("full"), tmp_path / str(at))
            assert timeless(row) == timeless(expected), f"killed at {at}"

    def test_another_error_is_not_a_row(self, grid, tmp_path, monkeypatch):
        def broken(*a, **k):
            raise RunError("the disk is full")

        monkeypatch.setattr(cell_module, "fit", broken)
        with pytest.raises(RunError, match="the disk is full"):
            run_cell(grid, cell("random"), tmp_path)
        monkeypatch.setattr(cell_module, "run_recording", broken)
        with pytest.raises(RunError, match="the disk is full"):
            run_cell(grid, cell("aum"), tmp_path)
        assert not recording_done(cell("aum"), tmp_path)


@pytest.mark.usefixtures("in_process")
class TestGrid:
    def test_the_grid_goes_on_and_tells_and_repeats_nothing(self, write, tmp_path, monkeypatch):
        grid = read_grid(write(diverging(4), ONE, CLEAN), models=[MODEL])
        new: list[dict] = []
        rows = run_grid(grid, tmp_path / "out", jobs=2, on_row=new.append)
        assert [row_key(row) for row in rows] == [cell.key for cell in cells_of(grid)]
        assert sorted(map(row_key, new)) == sorted(map(row_key, rows))
        good = [row_key(row)[:2] for row in rows if "failed" not in row]
        assert good == [("shorter_full", 0.2), ("random", 0.2)]
        assert all(row["accuracy"] is None for row in rows if "failed" in row)
        kept_rows = results.rows(tmp_path / "out")
        assert text_table(kept_rows).count("0 of 1 seed; 1 diverged") == 9
        monkeypatch.setattr(cell_module, "run_cell", lambda *a: pytest.fail("ran"))
        assert run_grid(grid, tmp_path / "out", jobs=1) == rows

    def test_a_row_that_is_removed_is_run_again(self, write, tmp_path):
        grid = read_grid(write(diverging(4), ONE, CLEAN, (METHODS, 'methods = ["random"]')), models=[MODEL])
        rows = run_grid(grid, tmp_path / "out", jobs=1)
        assert ["failed" in row for row in rows] == [True, False]
        write_rows(tmp_path / "out" / "rows.jsonl", rows[1:])
        new: list[dict] = []
        assert comparable(run_grid(grid, tmp_path / "out", jobs=1, on_row=new.append)) == comparable(rows)
        assert [row["failed"] for row in new] == [rows[0]["failed"]]

    def test_an_error_of_another_kind_ends_the_grid(self, write, tmp_path, monkeypatch):
        def full(*a):
            raise RunError("the disk is full")

        monkeypatch.setattr(cell_module, "run_cell", full)
        with pytest.raises(RunError, match="the disk is full"):
            run_grid(read_grid(write(FEW)), tmp_path / "out", jobs=1)
        assert read_rows(tmp_path / "out" / "rows.jsonl") == []
