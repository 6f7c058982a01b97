"""The folder of results: rows of one dataset and of the same settings, or a refusal by name."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from datawinnow.bench import cell as cell_module
from datawinnow.bench import cells_of, read_grid, read_rows, run_grid
from datawinnow.bench.results import in_order
from datawinnow.core.artifacts import read_json, write_json
from datawinnow.core.errors import RunError
from datawinnow.core.result_rows import write_rows

from .conftest import write_data
from .test_grid import METHODS
from .test_planning import fake_row
from .test_runner import CLEAN, FEW, ONE

pytestmark = pytest.mark.usefixtures("in_process")
ANOTHER = r"holds results about another dataset \(fingerprint .*\) than 'other' "


class TestRefusals:
    def test_another_dataset_is_refused_before_anything_is_trained(self, write, tmp_path, monkeypatch):
        run_grid(read_grid(write(FEW, ONE)), tmp_path / "out", jobs=1)
        before = (tmp_path / "out" / "rows.jsonl").read_bytes()
        more_methods = (METHODS, 'methods = ["full", "random", "el2n"]')
        other = read_grid(write(more_methods, source=write_data(tmp_path / "other.npz", seed=1)))
        monkeypatch.setattr(cell_module, "run_cell", lambda *a: pytest.fail("ran"))
        with pytest.raises(RunError, match=ANOTHER):
            run_grid(other, tmp_path / "out", jobs=1)
        assert (tmp_path / "out" / "rows.jsonl").read_bytes() == before

    def test_the_fingerprint_is_known_before_the_first_row(self, write, tmp_path, monkeypatch):
        def interrupted(*a):
            (tmp_path / "out" / "recordings").mkdir()
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(cell_module, "run_cell", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run_grid(read_grid(write(FEW, ONE)), tmp_path / "out", jobs=1)
        assert read_rows(tmp_path / "out" / "rows.jsonl") == []
        other = read_grid(write(FEW, ONE, source=write_data(tmp_path / "other.npz", seed=1)))
        with monkeypatch.context() as patch:
            patch.setattr(cell_module, "run_cell", lambda *a: pytest.fail("ran"))
            with pytest.raises(RunError, match=ANOTHER):
                run_grid(other, tmp_path / "out", jobs=1)
        rows = run_grid(read_grid(write(FEW, ONE)), tmp_path / "out", jobs=1)
        assert json.loads((tmp_path / "out" / "grid.json").read_text())["fingerprint"] == rows[0]["fingerprint"]

    def test_another_test_split_is_refused_before_anything_is_trained(self, write, tmp_path, monkeypatch):
        run_grid(read_grid(write((METHODS, 'methods = ["random"]'))), tmp_path / "out", jobs=1)
        with np.load(tmp_path / "data.npz") as arrays:
            np.savez(tmp_path / "other.npz", **{**arrays, "x_test": arrays["x_test"] + 1})
        other = read_grid(write((METHODS, 'methods = ["random", "full"]'), source=tmp_path / "other.npz"))
        monkeypatch.setattr(cell_module, "run_cell", lambda *a: pytest.fail("ran"))
        with pytest.raises(RunError, match="holds results about another test split"):
            run_grid(other, tmp_path / "out", jobs=1)

    def test_rows_of_another_dataset_than_the_grid_beside_them(self, write, tmp_path):
        grid = read_grid(write((METHODS, 'methods = ["random"]')))
        run_grid(grid, tmp_path / "out", jobs=1)
        path = tmp_path / "out" / "grid.json"
        metadata = json.loads(path.read_text())
        path.write_text(json.dumps({**metadata, "fingerprint": "f" * 16}))
        with pytest.raises(RunError, match=r"a row with fingerprint '.*' where 'ffffffffffffffff' is expected"):
            run_grid(grid, tmp_path / "out", jobs=1)

    def test_a_shorter_run_whose_epochs_were_rounded_is_refused(self, write, tmp_path):
        grid = read_grid(write((METHODS, 'methods = ["shorter_full"]'), ONE, CLEAN))
        run_grid(grid, tmp_path / "out", jobs=1)
        path = tmp_path / "out" / "rows.jsonl"
        path.write_text(path.read_text().replace('"trained_epochs": 1.5', '"trained_epochs": 2'))
        message = r"a shorter full run at keep 0.5 of 2 epochs, which .* 1.5 epochs: remove such lines from rows.jsonl"
        with pytest.raises(RunError, match=message):
            run_grid(grid, tmp_path / "out", jobs=1)

    def test_the_same_data_may_have_moved(self, write, tmp_path):
        run_grid(read_grid(write(FEW, ONE)), tmp_path / "out", jobs=1)
        (tmp_path / "there").mkdir()
        (tmp_path / "data.npz").rename(tmp_path / "there" / "data.npz")
        more_methods = (METHODS, 'methods = ["random", "el2n"]')
        grid = read_grid(write(more_methods, ONE, source=tmp_path / "there" / "data.npz"))
        assert len(run_grid(grid, tmp_path / "out", jobs=1)) == 18

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("lr = 0.05", "lr = 0.1", r"was started with \[train\] lr=0.05, now it is 0.1: use another `out=` folder"),
            ("epochs = 3", "epochs = 4", r"\[train\] epochs=3, now it is 4"),
            (
                'model = "mlp"',
                'model = "mlp"\nmodel_options = {{ width = 8 }}',
                r"model_options.width=None, now it is 8",
            ),
            ('source = "{source}"', 'source = "{source}"\nlimit = 50', r"\[data\] limit=None, now it is 50"),
            ("[[method]]", "[score]\nepochs = 2\n[[method]]", r"\[score\] epochs=None, now it is 2"),
            (
                "window = 2",
                "window = 2, missing = 'skip'",
                r"\[methods\] short.score_options.missing=None, now it is 'skip'",
            ),
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
            (
                '{"format": 1, "method"',
                r"rows.jsonl, line 2: not JSON .*remove the line and run the same",
            ),
            ('{"format": 1}', r"line 2: the row has no 'method'"),
            ("[1]", r"line 2: not a JSON object"),
            ('{"format": 9}', r"rows.jsonl, line 2 was written by a newer datawinnow \(format 9"),
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
        with pytest.raises(RunError, match=r"rows.jsonl is damaged: it is not text"):
            read_rows(tmp_path / "rows.jsonl")

    def test_rows_are_json_and_nothing_else(self, tmp_path):
        write_rows(tmp_path / "rows.jsonl", [{"a": 1}, {"b": None}])
        assert (tmp_path / "rows.jsonl").read_text() == '{"a": 1}\n{"b": null}\n'
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_rows(tmp_path / "rows.jsonl", [{"a": math.nan}])
        assert (tmp_path / "rows.jsonl").read_text() == '{"a": 1}\n{"b": null}\n'


def test_the_settings_stand_beside_the_rows(grid, tmp_path):
    run_grid(grid, tmp_path / "out", time_limit=0)
    metadata = json.loads((tmp_path / "out" / "grid.json").read_text())
    assert (metadata["kind"], metadata["name"], metadata["format"]) == ("grid", "tiny", 1)
    assert metadata["settings"]["train"]["lr"] == 0.05
    assert metadata["settings"]["methods"]["short"]["epochs"] == 2


def test_rows_in_order(grid):
    cells = cells_of(grid)
    strange = {**fake_row(cells[0]), "method": "gone"}
    rows = [fake_row(cells[i]) for i in (7, 2, 5)]
    assert in_order([rows[0], strange, rows[1], rows[2]], cells) == [strange, rows[1], rows[2], rows[0]]


def test_a_setting_that_an_older_version_did_not_have_was_at_its_default(write, tmp_path):
    grid, out = read_grid(write(FEW, ONE)), tmp_path / "out"
    rows = run_grid(grid, out, jobs=1)
    metadata = read_json(out / "grid.json")
    del metadata["settings"]["train"]["curvature"], metadata["settings"]["data"]["flip"]
    write_json(out / "grid.json", metadata)
    assert run_grid(grid, out, jobs=1) == rows
    write_json(out / "grid.json", metadata)
    other = grid.model_copy(update={"data": grid.data.model_copy(update={"flip": False})})
    with pytest.raises(RunError, match=r"started with \[data\] flip=None, now it is False"):
        run_grid(other, out, jobs=1)
