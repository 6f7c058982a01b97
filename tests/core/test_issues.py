"""The table of issues: order, names, and the file that holds it."""

from __future__ import annotations

import csv

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datawinnow.core.artifacts import write_table
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.issues import ISSUE_COLUMNS, Issue, IssueTable, read_issues, write_issues, write_issues_csv

METADATA = {"dataset": "toy", "fingerprint": "f" * 16, "n": {"train": 3, "test": 1}, "classes": ["cat", "dog"]}


def toy_table() -> IssueTable:
    return IssueTable.of(
        [
            Issue("outlier", 0, 0.4, "far from all"),
            Issue("label", 1, 0.6, "p 0.1", suggested_label="dog", suggested_probability=0.7, action="relabel:dog"),
            Issue("confused", -1, 0.2, "cat as dog 12 times", label="cat", suggested_label="dog"),
            Issue("label", 2, 0.9, "p 0.02", action="drop"),
            Issue("leakage", 0, 1.0, "same as train/b", split="test", group=0, action="drop"),
            Issue("leakage", 1, 1.0, "same as test/t", group=0, action="keep"),
        ],
        ids={"train": ["a", "b", "c, =1"], "test": ["t"]},
        labels={"train": ["cat", "cat", "dog"], "test": ["cat"]},
        rows={"train": [10, 11, 12]},
    )


def test_rows_come_by_kind_the_worst_first_with_names_labels_and_places():
    rows = [(i.issue, i.split, i.id, i.label, i.row, i.severity) for i in toy_table()]
    assert rows == [
        ("leakage", "test", "t", "cat", 0, 1.0),
        ("leakage", "train", "b", "cat", 11, 1.0),
        ("label", "train", "c, =1", "dog", 12, 0.9),
        ("label", "train", "b", "cat", 11, 0.6),
        ("outlier", "train", "a", "cat", 10, 0.4),
        ("confused", "train", "", "cat", -1, 0.2),
    ]
    counts = toy_table().counts()
    assert counts["label"] == 2
    assert counts["broken"] == 0
    assert next(iter(counts)) == "broken"
    assert len(toy_table().of_kind("label", "outlier")) == 3


@pytest.mark.parametrize(
    "values",
    [
        ("noise", 0, 0.5, ""),
        ("label", -1, 0.5, ""),
        ("confused", 0, 0.5, ""),
        ("label", 0, 1.5, ""),
        ("label", 0, float("nan"), ""),
        ("label", 0, 0.5, "", "validation"),
    ],
)
def test_an_issue_that_makes_no_sense_is_refused(values):
    with pytest.raises(ArgumentError):
        Issue(*values)


@pytest.mark.parametrize("action", ["remove", "relabel:", "", "Drop"])
def test_an_unknown_action_is_refused(action):
    with pytest.raises(ArgumentError, match="relabel:NAME"):
        Issue("label", 0, 0.5, "", action=action)


def test_examples_beyond_their_split_and_twice_are_refused():
    with pytest.raises(ArgumentError, match="example 3 of 3"):
        IssueTable.of([Issue("label", 3, 0.5, "")], ids={"train": ["a", "b", "c"]})
    with pytest.raises(ArgumentError, match="twice"):
        IssueTable.of([Issue("label", 0, 0.5, ""), Issue("label", 0, 0.6, "")], ids={"train": ["a"]})


def test_the_file_gives_the_table_back_also_sorted_and_filtered(tmp_path):
    path = tmp_path / "issues.parquet"
    write_issues(path, toy_table(), METADATA)
    table, metadata = read_issues(tmp_path)
    assert table == toy_table()
    assert metadata["n"] == {"train": 3, "test": 1}
    stored = pq.read_table(path)
    pq.write_table(stored.take([3, 2]), path)
    assert read_issues(path)[0].rows == (toy_table().rows[2], toy_table().rows[3])


def test_a_file_that_pandas_saved_again_is_read(tmp_path):
    path = tmp_path / "issues.parquet"
    write_issues(path, toy_table(), METADATA)
    frame = pq.read_table(path).to_pandas()
    frame = frame.sort_values("severity")
    table = pa.Table.from_pandas(frame, preserve_index=False)
    assert pa.types.is_floating(table.schema.field("group").type)
    pq.write_table(table.replace_schema_metadata(pq.read_schema(path).metadata), path)
    assert read_issues(path)[0] == toy_table()


def test_no_issues_are_a_table_too(tmp_path):
    write_issues(tmp_path / "issues.parquet", IssueTable(), METADATA)
    assert len(read_issues(tmp_path)[0]) == 0


def test_an_edited_file_is_refused(tmp_path):
    path = tmp_path / "issues.parquet"
    write_issues(path, toy_table(), METADATA)
    stored = pq.read_table(path)
    at = stored.column_names.index("action")
    edited = stored.set_column(at, "action", [["drop"] * len(stored)])
    pq.write_table(edited, path)
    with pytest.raises(RunError, match="edited"):
        read_issues(path)


def test_a_file_of_another_dataset_or_of_something_else_is_refused(tmp_path):
    path = tmp_path / "issues.parquet"
    write_issues(path, toy_table(), METADATA)
    with pytest.raises(RunError, match="not of 'digits'"):
        read_issues(path, fingerprint="0" * 16, name="digits")
    write_table(path, toy_table().to_table().drop_columns(["evidence"]), METADATA)
    with pytest.raises(RunError, match="lacks the columns evidence"):
        read_issues(path)
    with pytest.raises(RunError, match="no such file"):
        read_issues(tmp_path / "none.parquet")


def test_csv_has_the_columns_and_empty_cells_for_none(tmp_path):
    path = tmp_path / "issues.csv"
    write_issues_csv(path, toy_table())
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == ISSUE_COLUMNS
    assert [line["id"] for line in lines] == ["t", "b", "c, =1", "b", "a", ""]
    assert lines[2]["suggested_probability"] == lines[2]["group"] == ""
    assert float(lines[3]["suggested_probability"]) == 0.7
