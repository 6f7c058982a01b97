"""A bench holds its folder."""

from __future__ import annotations

import pytest

from datawinnow.bench import read_grid, read_rows, run_grid, runner
from datawinnow.core.errors import RunError

from .conftest import InProcess
from .test_grid import METHODS


def test_a_bench_holds_its_folder_from_before_it_reads_to_its_last_row(write, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "Workers", InProcess)
    grid = read_grid(write((METHODS, 'methods = ["random"]')))
    refused = []

    def another(row):
        before = (tmp_path / "out" / "grid.json").stat().st_mtime_ns
        with pytest.raises(RunError, match="out is busy"):
            run_grid(grid, tmp_path / "out", jobs=1)
        refused.append((tmp_path / "out" / "grid.json").stat().st_mtime_ns == before)

    rows = run_grid(grid, tmp_path / "out", jobs=1, on_row=another)
    assert refused == [True] * len(rows) == [True] * 8
    assert read_rows(tmp_path / "out" / "rows.jsonl") == rows
    assert run_grid(grid, tmp_path / "out", jobs=1) == rows
