"""The run folder: what it refuses, and its tables there and back."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from datawinnow import api
from datawinnow.core.artifacts import read_json, write_json, write_table
from datawinnow.core.errors import RunError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.core.selection_arguments import selection_arguments
from datawinnow.data.dataset_info import dataset_info
from datawinnow.data.examples import Examples
from datawinnow.methods import METHODS, create_method
from datawinnow.report import write as write_page
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.score import score_run
from datawinnow.runs.select import select_run
from datawinnow.runs.selection_file import read_selection, write_selection

from .conftest import FAST, make_blobs


@pytest.fixture
def run(blobs, tmp_path):
    return api.record(blobs, run=tmp_path / "run", epochs=2, recipe=FAST)


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


class TestRefusals:
    def test_another_dataset_is_refused_by_name(self, run):
        other = make_blobs(seed=1, name="others")
        message = r"belongs to the dataset 'blobs' \(60 examples, fingerprint [0-9a-f]{16}\), not 'others'"
        for verb in (
            lambda: api.record(other, run=run.path, epochs=2, recipe=FAST),
            lambda: score_run(run, other, ["el2n"]),
            lambda: select_run(run, other, keep=0.5, method="el2n"),
        ):
            with pytest.raises(RunError, match=message):
                verb()

    @pytest.mark.parametrize("file", ["run.json", "scores.parquet", "selection.parquet"])
    def test_a_newer_format_is_refused(self, blobs, run, file):
        select_run(run, blobs, keep=0.5, method="el2n")
        path = run.path / file
        if file == "run.json":
            path.write_text(json.dumps({**read_json(path), "format": 99}))
        else:
            table = pq.read_table(path)
            meta = {**json.loads(table.schema.metadata[b"datawinnow"]), "format": 99}
            write_table(path, table, meta)
        reads = {
            "run.json": lambda: RunFolder.open(run.path),
            "scores.parquet": run.scores,
            "selection.parquet": lambda: read_selection(run.path),
        }
        with pytest.raises(RunError, match=rf"{file} was written by a newer datawinnow \(format 99, this one reads up"):
            reads[file]()

    def test_truncated_files_are_named_with_what_to_do(self, blobs, run):
        select_run(run, blobs, keep=0.5, method="el2n")
        for file in ("run.json", "scores.parquet", "selection.parquet", "signals/p_label.npy"):
            cut(run.path / file)
        with pytest.raises(RunError, match=r"run.json is truncated or not JSON"):
            RunFolder.open(run.path)
        with pytest.raises(RunError, match=r"scores.parquet is truncated or damaged.*remove it and make it again with"):
            run.scores()
        with pytest.raises(RunError, match=r"selection.parquet is truncated or damaged.*with: `dw.api.select\(run, "):
            read_selection(run.path)
        with pytest.raises(RunError, match=r"p_label.npy is truncated or damaged"):
            run.arrays()["p_label"]

    def test_a_column_of_another_shape_is_named(self, run):
        np.save(run.signals / "p_label.npy", np.zeros((2, 61), dtype=np.float32))
        with pytest.raises(RunError, match=r"p_label.npy has shape \(2, 61\), but the run recorded .* = \(2, 60\)"):
            run.arrays()["p_label"]
        np.save(run.signals / "loss.npy", np.zeros((3, 60), dtype=np.float32))
        with pytest.raises(RunError, match=r"loss.npy has shape \(3, 60\)"):
            run.arrays()["loss"]

    @pytest.mark.parametrize(
        ("metadata", "message"),
        [
            ({"kind": "run"}, "lacks dataset, status, cost, options, model: it was not written by datawinnow record"),
            (
                {"dataset": {"name": "a"}, "status": {}, "cost": {}, "options": {}, "model": {}},
                r"lacks dataset.fingerprint, dataset.n",
            ),
        ],
        ids=["all", "dataset"],
    )
    def test_a_run_json_of_something_else(self, tmp_path, metadata, message):
        write_json(tmp_path / "run.json", metadata)
        with pytest.raises(RunError, match=message):
            RunFolder.open(tmp_path)

    def test_a_folder_that_is_not_ours_is_left_alone(self, blobs, tmp_path):
        (tmp_path / "thesis.tex").write_text("x")
        with pytest.raises(RunError, match="is not empty and holds no run; give another `run=` folder"):
            api.record(blobs, run=tmp_path, epochs=1, recipe=FAST)
        with pytest.raises(RunError, match=r"thesis.tex is a file, not a folder"):
            api.record(blobs, run=tmp_path / "thesis.tex", epochs=1, recipe=FAST)
        assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]

    def test_no_run_at_all(self, tmp_path):
        with pytest.raises(
            RunError,
            match=rf"is not a run folder \(it has no run.json\); make one with `dw.api.record\(data, run='{tmp_path}'",
        ):
            RunFolder.open(tmp_path)

    def test_a_recording_that_is_not_done(self, run, blobs):
        run.update(status={"record": "epoch 1 of 2"})
        for verb in (lambda: score_run(run, blobs, ["el2n"]), lambda: select_run(run, blobs, keep=0.5)):
            with pytest.raises(RunError, match=r"not recorded to the end \(record: epoch 1 of 2\); run the same"):
                verb()

    def test_a_table_that_is_not_ours(self, run, blobs):
        select_run(run, blobs, keep=0.5, method="el2n")
        pq.write_table(pq.read_table(run.path / "history.parquet").replace_schema_metadata({}), run.path / "x.parquet")
        with pytest.raises(RunError, match=r"x.parquet has no format version"):
            read_selection(run.path / "x.parquet")
        with pytest.raises(RunError, match=r"no such file: .*y.parquet; make it with: `dw.api.select\(run, "):
            read_selection(run.path / "y.parquet")


class TestScores:
    def test_columns_are_added_and_say_how_they_were_made(self, blobs, run):
        one = score_run(run, blobs, ["el2n"], options={"last": 1})["el2n"]
        score_run(run, blobs, ["aum", "entropy"])
        table = run.scores()
        assert table.column_names == ["id", "label", "el2n", "aum", "entropy"]
        assert table.column("id").to_pylist() == [str(i) for i in range(60)]
        assert table.column("label").to_pylist() == blobs.labels.tolist()
        assert table.column("el2n").to_pylist() == one.tolist()
        about = {k.decode(): v.decode() for k, v in table.schema.field("el2n").metadata.items()}
        assert about["method"] == "el2n"
        assert about["end"] == "high"
        assert json.loads(about["options"]) == {"first": 0, "last": 1}
        assert about["charge"] == "60"  # one epoch of 60 examples
        assert table.schema.field("aum").metadata[b"charge"] == b"120"

    def test_a_score_made_again_takes_the_place_of_the_old(self, blobs, run):
        score_run(run, blobs, ["el2n"], options={"last": 1})
        both = score_run(run, blobs, ["el2n"])["el2n"]
        assert run.scores().column_names == ["id", "label", "el2n"]
        assert run.scores().column("el2n").to_pylist() == both.tolist()

    def test_a_score_of_another_length_is_not_joined(self, blobs, run):
        score_run(run, blobs, ["el2n"])
        path = run.path / "scores.parquet"
        table = pq.read_table(path)
        write_table(path, table.slice(0, 50), json.loads(table.schema.metadata[b"datawinnow"]))
        with pytest.raises(RunError, match=r"has 50 rows .* should be 60 rows of id and label; remove it"):
            score_run(run, blobs, ["aum"])

    def test_scores_of_another_dataset(self, blobs, run):
        score_run(run, blobs, ["el2n"])
        write_table(run.path / "scores.parquet", pq.read_table(run.path / "scores.parquet"), {"fingerprint": "ab"})
        with pytest.raises(
            RunError, match=r"belongs to a different dataset \(fingerprint ab\) than this run \(blobs, "
        ):
            run.scores()


class TestSelection:
    def write(self, path, **meta):
        selection = Selection(
            torch.tensor([4, 0, 3]),
            torch.tensor([1.0, 2.5, 0.0]),
            torch.tensor([1, 10, 12, 2, 3, 16], dtype=torch.int8),
        )
        ids = ["f/a.png", "b", "ü", "d", "e", "f"]
        about = {"method": "mine", "keep": 0.5, "fingerprint": "aa", "dataset": "blobs", **meta}
        p_mean = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, float("nan")])
        everything = Examples(torch.zeros(9, 2), torch.arange(9) % 2, ("x", "y"), ids=["", "", *ids, ""])
        info = dataset_info(everything.subset(torch.arange(2, 8)))
        write_selection(path, selection, info=info, meta=about, p_mean=p_mean)
        return selection

    def test_there_and_back(self, tmp_path):
        path = tmp_path / "keep=0.3" / "selection.parquet"  # a name in which Parquet readers see a column
        selection = self.write(path)
        stored, meta = read_selection(path, fingerprint="aa", name="blobs")
        assert stored.index.tolist() == [4, 0, 3]
        assert stored.weight.tolist() == [1.0, 2.5, 0.0]
        assert torch.equal(stored.reason, selection.reason)
        source = {"classes": ["x", "y"], "num_rows": 9, "is_folder": False}
        assert meta == {
            "format": 1,
            "method": "mine",
            "keep": 0.5,
            "fingerprint": "aa",
            "dataset": "blobs",
            "source": source,
        }
        assert torch.equal(read_selection(path.parent)[0].index, stored.index)

    def test_every_row_literally(self, tmp_path):
        self.write(tmp_path / "s.parquet")
        rows = pq.read_table(tmp_path / "s.parquet").to_pylist()
        assert [list(row.values())[:8] for row in rows] == [
            ["f/a.png", 2, 0, "x", True, 1, 2.5, "ranked"],
            ["b", 3, 1, "y", False, -1, 0.0, "below_cut"],
            ["ü", 4, 0, "x", False, -1, 0.0, "suspect"],
            ["d", 5, 1, "y", True, 2, 0.0, "drawn"],
            ["e", 6, 0, "x", True, 0, 1.0, "covers"],
            ["f", 7, 1, "y", False, -1, 0.0, "zero_weight"],
        ]
        assert [row["position"] for row in rows] == list(range(6))
        assert [round(row["p_mean"], 6) for row in rows[:5]] == [0.1, 0.2, 0.3, 0.4, 0.5]
        assert np.isnan(rows[5]["p_mean"])
        assert all(np.isnan(row["p_std"]) and row["note"] == "" for row in rows)

    @pytest.mark.parametrize("reason", list(Reason), ids=[r.word for r in Reason])
    def test_every_reason_comes_back(self, tmp_path, reason):
        codes = torch.full((3,), int(reason), dtype=torch.int8)
        selection = Selection(torch.tensor([1]), torch.ones(1), codes)
        write_selection(
            tmp_path / "s.parquet",
            selection,
            info=dataset_info(Examples(torch.zeros(3, 2), torch.zeros(3).long(), ("x",))),
            meta={},
        )
        assert read_selection(tmp_path / "s.parquet")[0].reason.tolist() == [int(reason)] * 3

    def test_another_dataset_is_refused_by_name(self, tmp_path):
        self.write(tmp_path / "s.parquet")
        with pytest.raises(
            RunError, match=r"selected from the dataset 'blobs' \(fingerprint aa\), not from 'cats' \(f"
        ):
            read_selection(tmp_path / "s.parquet", fingerprint="bb", name="cats")

    @pytest.mark.parametrize("column", ["id", "kept", "order", "weight", "reason"])
    def test_a_column_that_is_not_there(self, tmp_path, column):
        self.write(tmp_path / "s.parquet")
        write_table(tmp_path / "s.parquet", pq.read_table(tmp_path / "s.parquet").drop_columns([column]), {})
        with pytest.raises(RunError, match=f"is not a selection: it lacks the columns {column}"):
            read_selection(tmp_path / "s.parquet")

    @pytest.mark.parametrize(
        ("column", "values", "message"),
        [
            ("order", [1, -1, -1, 1, 0, -1], "its columns kept and order do not agree"),
            ("kept", [True] * 6, "its columns kept and order do not agree"),
            ("weight", [float("nan")] * 6, "Selection.weight must be finite"),
            ("reason", ["because"] * 6, "has the unknown reason 'because'"),
        ],
        ids=["order", "kept", "weight", "reason"],
    )
    def test_values_that_make_no_selection(self, tmp_path, column, values, message):
        self.write(tmp_path / "s.parquet")
        table = pq.read_table(tmp_path / "s.parquet")
        at = table.column_names.index(column)
        write_table(tmp_path / "s.parquet", table.set_column(at, column, [values]), {})
        with pytest.raises(RunError, match=rf"{message}.*make it again with: `dw.api.select\(run, "):
            read_selection(tmp_path / "s.parquet")


class TestAdviceOnADamagedSelection:
    """It names what the selection was made with, which gives the same examples again."""

    @pytest.mark.parametrize("method", [*METHODS, "loss_top", "aum_coverage"])
    def test_the_arguments_make_the_same_method(self, method):
        score, _, selector = method.rpartition("_")
        original = METHODS[method] if method in METHODS else create_method(score=score, select_by=selector)
        stored = {"keep": 0.25, "method": original.key, "score": original.score_card and original.score_card.key}
        arguments = selection_arguments(stored)
        assert arguments.pop("keep") == 0.25
        again = create_method(**arguments)
        assert (again.score, again.selector) == (original.score, original.selector)

    def test_of_a_file_that_cannot_be_read_the_run_knows(self, tmp_path):
        api.prune(make_blobs(), keep=0.25, method="random", run=tmp_path / "run")
        file = tmp_path / "run" / "selection.parquet"
        file.write_bytes(file.read_bytes()[:200])
        with pytest.raises(RunError, match=r"`dw.api.select\(run, keep=0.25, method='random'\)`"):
            read_selection(file)
        with pytest.raises(RunError, match=r"--keep 0.25 --method random"):
            write_page(tmp_path / "run")
        (tmp_path / "run" / "run.json").unlink()
        with pytest.raises(RunError, match=r"`dw.api.select\(run, keep=KEEP\)`"):
            read_selection(file)
