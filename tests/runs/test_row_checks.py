"""Tables of examples are read by the example that a row names: sorted, filtered, changed, and with a flipped bit."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from datawinnow import api
from datawinnow.core.artifacts import read_tensors, write_tensors
from datawinnow.core.errors import RunError
from datawinnow.core.selection import Selection
from datawinnow.data.dataset_info import dataset_info
from datawinnow.data.examples import Examples
from datawinnow.runs.score import score_run
from datawinnow.runs.selection_file import read_selection, write_selection

from .conftest import FAST, make_blobs

N = 40


@pytest.fixture
def data():
    return Examples(
        torch.randn(N, 4), torch.arange(N) % 4, ("a", "b", "c", "d"), "x", ids=[f"{i}.png" for i in range(N)]
    )


@pytest.fixture
def path(tmp_path, data):
    """A selection of every third example, the last first."""
    index = torch.arange(0, N, 3).flip(0)
    info = dataset_info(data)
    about = {"method": "mine", "n": N, "fingerprint": info.fingerprint, "dataset": info.name}
    selection = Selection(index, torch.rand(len(index)) + 1, Selection.of(index, N).reason)
    write_selection(tmp_path / "s.parquet", selection, info=info, meta=about)
    return tmp_path / "s.parquet"


def rewritten(path, change):
    pq.write_table(change(pq.ParquetFile(path).read()), path)
    return path


def replaced(name, change):
    """A change of one column."""

    def apply(table):
        at = table.column_names.index(name)
        field = table.schema.field(name)
        return table.set_column(at, field, pa.array(change(table.column(name).to_pylist()), field.type))

    return apply


class TestSelection:
    @pytest.mark.parametrize("by", ["id", "label", "kept", "order", "weight"])
    @pytest.mark.parametrize("direction", ["ascending", "descending"])
    def test_sorted_it_is_the_same_selection(self, path, data, by, direction):
        expected = read_selection(path, info=dataset_info(data))[0]
        rewritten(path, lambda table: table.sort_by([(by, direction)]))
        for selection in (read_selection(path)[0], read_selection(path, info=dataset_info(data))[0]):
            assert selection.index.tolist() == expected.index.tolist()
            assert torch.equal(selection.weight, expected.weight)
            assert torch.equal(selection.reason, expected.reason)

    def test_through_pandas_it_is_the_same_selection(self, path):
        pandas = pytest.importorskip("pandas")
        expected = read_selection(path)[0]
        metadata = pq.read_schema(path).metadata
        frame = pq.read_table(path).to_pandas().sort_values("id")
        frame["reason"] = pandas.Categorical(frame["reason"])
        table = pa.Table.from_pandas(frame)
        pq.write_table(table.replace_schema_metadata(metadata), path)
        assert read_selection(path)[0].index.tolist() == expected.index.tolist()

    @pytest.mark.parametrize(
        "change",
        [lambda table: table.filter(table.column("kept")), lambda table: table.sort_by("order").slice(0, N - 5)],
        ids=["kept", "slice"],
    )
    def test_of_a_part_the_kept_examples_that_it_names_are_taken(self, path, data, change):
        rewritten(path, change)
        rows = sorted((row for row in pq.read_table(path).to_pylist() if row["kept"]), key=lambda row: row["order"])
        selection, _ = read_selection(path, info=dataset_info(data))
        assert [f"{i}.png" for i in selection.index.tolist()] == [row["id"] for row in rows]
        assert selection.weight.tolist() == [row["weight"] for row in rows]
        assert selection.reason is None

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            (replaced("id", lambda ids: ids[::-1]), "40 of 40 rows do not say what was written"),
            (replaced("label", lambda labels: [labels[0] + 1, *labels[1:]]), "1 of 40 rows do not say"),
            (replaced("weight", lambda weights: [*weights[:-1], 9.0]), "1 of 40 rows do not say"),
            (replaced("position", lambda rows: [1, *rows[1:]]), "has position 1 2 times"),
            (replaced("position", lambda rows: [N, *rows[1:]]), "names positions from 1 to 40 of 40 examples"),
            (lambda table: pa.concat_tables([table, table.slice(0, 1)]), "has 41 rows about 40 examples"),
            (lambda table: pa.concat_tables([table.slice(0, 9)] * 2), "kept and order do not agree"),
            (lambda table: table.filter(pa.compute.invert(table.column("kept"))), "none of them is kept"),
            (replaced("row", lambda rows: [1, *rows[1:]]), "1 of 40 rows do not say"),
            (lambda table: table.drop_columns(["position"]), "lacks the column position"),
            (lambda table: table.drop_columns(["label"]), "lacks the columns label"),
        ],
        ids=[
            "ids",
            "label",
            "weight",
            "twice",
            "beyond",
            "more",
            "doubled",
            "dropped",
            "row",
            "no position",
            "no label",
        ],
    )
    def test_what_was_not_written_is_refused(self, path, change, match):
        with pytest.raises(RunError, match=rf"(?s){match}.*"):
            read_selection(rewritten(path, change))

    def test_other_names_or_labels_of_the_dataset_are_refused(self, path, data):
        info = dataset_info(data)
        names = [*info.ids[:7], "other.png", *info.ids[8:]]
        labels = data.labels.clone()
        labels[5] = 3
        for other, match in (
            (Examples(data.x, data.labels, data.classes, "x", ids=names), r"calls example 7 '7.png', .* 'other.png'"),
            (Examples(data.x, labels, data.classes, "x", ids=info.ids), r"example '5.png' has label 3"),
        ):
            changed = dataset_info(other)
            object.__setattr__(changed, "fingerprint", info.fingerprint)
            with pytest.raises(RunError, match=match):
                read_selection(path, info=changed)

    def test_a_flipped_bit_is_noticed(self, path):
        expected, meta = read_selection(path)
        content = path.read_bytes()
        accepted = []
        for at in np.random.default_rng(0).integers(4, len(content) - 8, 60).tolist():
            path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
            try:
                selection, metadata = read_selection(path)
            except RunError:
                continue
            same = selection.index.tolist() == expected.index.tolist() and metadata == meta
            accepted += [] if same and torch.equal(selection.weight, expected.weight) else [at]
        assert accepted == []


class TestScores:
    @pytest.fixture
    def run(self, tmp_path):
        run = api.record(make_blobs(), run=tmp_path / "run", epochs=2, recipe=FAST, model="mlp")
        score_run(run, make_blobs(), ["el2n"])
        return run

    def test_sorted_they_are_the_same_and_columns_are_added_to_them(self, run):
        expected = run.scores()
        rewritten(run.path / "scores.parquet", lambda table: table.sort_by([("el2n", "descending")]))
        assert run.scores().equals(expected)
        score_run(run, make_blobs(), ["aum"])
        assert run.scores().select(expected.column_names).equals(expected)

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            (replaced("el2n", lambda values: values[::-1]), "rows do not say what was written"),
            (replaced("id", lambda ids: ids[::-1]), "rows do not say what was written"),
            (lambda table: table.drop_columns(["checksum"]), "lacks the column checksum"),
        ],
        ids=["values", "ids", "no checksum"],
    )
    def test_what_was_not_written_is_refused(self, run, change, match):
        rewritten(run.path / "scores.parquet", change)
        with pytest.raises(RunError, match=match):
            score_run(run, make_blobs(), ["aum"])


def test_a_flipped_bit_in_tensors_is_noticed(tmp_path):
    path = tmp_path / "x.safetensors"
    for tensors in ({"a": torch.randn(30), "b": torch.ones(3, dtype=torch.bfloat16)}, {"a": np.arange(40.0)}, {}):
        write_tensors(path, tensors, {"seed": 3, "name": "checksum"}, kind="thing")
        assert read_tensors(path, kind="thing")[1] == {"format": 1, "kind": "thing", "seed": 3, "name": "checksum"}
        content = path.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        for at in [*range(end, len(content), 7), content.index(b"seed") + 8]:
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            with pytest.raises(RunError, match="is damaged"):
                read_tensors(path, kind="thing")


def test_metadata_of_a_table_are_checked_too(path):
    def change(table):
        header = json.loads(table.schema.metadata[b"datawinnow"]) | {"method": "other"}
        return table.replace_schema_metadata({b"datawinnow": json.dumps(header).encode()})

    with pytest.raises(RunError, match="its metadata do not fit their checksum"):
        read_selection(rewritten(path, change))
