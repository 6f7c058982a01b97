"""Reading instruction data: layouts, faults that are named and counted, and writing in the layout it came in."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datawinnow.core.errors import DataError
from datawinnow.instruct.options import PairFields
from datawinnow.instruct.pair_files import check_out, open_pair_file
from datawinnow.instruct.pairs import read_pairs
from tests.instruct.helpers import record, write_lines

ROWS = [{"instruction": f"q{i}", "output": f"a{i}", "reward": i / 2} for i in range(5)]


def test_faults_are_named_by_line_and_counted_and_the_rest_is_read(tmp_path):
    rows = [
        ROWS[0],
        b'{"instruction": "q", "output": ',  # line 2
        b"",
        {"instruction": "q"},  # line 4
        {"instruction": "q", "output": "  \n"},  # line 5
        {"instruction": "q", "output": 7},  # line 6
        b"[1, 2]",  # line 7
        b'{"output": "\xff"}',  # line 8
        b"[" * 100_000,  # line 9
        ROWS[1],
    ]
    pairs = read_pairs(write_lines(tmp_path / "p.jsonl", rows))
    assert pairs.answer == ["a0", "a1"]
    assert pairs.place.tolist() == [0, 9]
    assert [(p.place + 1, p.kind) for p in pairs.problems] == [
        (2, "broken JSON"),
        (4, "no answer"),
        (5, "empty answer"),
        (6, "not text"),
        (7, "not an object"),
        (8, "broken JSON"),
        (9, "broken JSON"),
    ]
    assert any(line.startswith("3 with broken JSON: lines 2, 8, 9") for line in pairs.problem_lines())
    assert pairs.place_name(9) == "line 10"


def test_a_file_without_a_usable_pair_says_what_is_wrong(tmp_path):
    with pytest.raises(DataError, match=r"no usable pair: 1 with no answer: line 1 .*there are text"):
        read_pairs(write_lines(tmp_path / "p.jsonl", [{"text": "x"}]))
    with pytest.raises(DataError, match="no such file"):
        read_pairs(tmp_path / "none.jsonl")
    (tmp_path / "e.jsonl").write_text("")
    with pytest.raises(DataError, match="no usable pair: it is empty"):
        read_pairs(tmp_path / "e.jsonl")


@pytest.mark.parametrize(
    ("row", "instruction", "answer"),
    [
        ({"instruction": "q", "input": "more", "output": "a"}, "q\nmore", "a"),
        ({"instruction": "q", "input": "", "output": "a"}, "q", "a"),
        ({"prompt": "q", "completion": "a"}, "q", "a"),
        ({"caption": "a", "image_id": "7"}, "asked", "a"),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, "q", "a"),
        (
            {
                "messages": [
                    {"role": "system", "content": "s"},
                    {"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "image_url"}]},
                    {"role": "assistant", "content": "b"},
                    {"role": "user", "content": "r"},
                    {"role": "assistant", "content": "a"},
                ]
            },
            "s\nq\nb\nr",
            "a",
        ),
    ],
    ids=["alpaca", "no input", "prompt", "caption", "sharegpt", "messages"],
)
def test_the_layouts_in_use_are_read(tmp_path, row, instruction, answer):
    pairs = read_pairs(write_lines(tmp_path / "p.jsonl", [row]), fields=PairFields(default_instruction="asked"))
    assert (pairs.instruction, pairs.answer) == ([instruction], [answer])


def test_named_fields_are_taken_and_one_that_is_missing_is_told(tmp_path):
    path = write_lines(tmp_path / "p.jsonl", [{"x": "a", "y": "q", "output": "no"}, {"x": "b"}])
    pairs = read_pairs(path, fields=PairFields(answer="x", instruction="y"))
    assert (pairs.instruction, pairs.answer) == (["q"], ["a"])
    assert [p.kind for p in pairs.problems] == ["no instruction"]


def test_numbers_and_vectors_are_columns_with_nan_where_they_lack(tmp_path):
    rows = [
        {**ROWS[0], "v": [1, 2.5]},
        {**ROWS[1], "v": [3, 4, 5], "flag": True},
        {**ROWS[2], "v": [5, 6]},
        {"output": "a"},
        b'{"output": "a", "reward": NaN}',
        b'{"output": "a", "reward": -Infinity}',
        b'{"output": "a", "reward": 1' + b"0" * 400 + b"}",
    ]
    pairs = read_pairs(write_lines(tmp_path / "p.jsonl", rows))
    np.testing.assert_array_equal(pairs.numbers["reward"], [0, 0.5, 1, *[np.nan] * 4])
    np.testing.assert_array_equal(pairs.vectors["v"][:3], [[1, 2.5], [np.nan, np.nan], [5, 6]])
    assert [p.kind for p in pairs.problems] == ["a list of another length"]
    assert "flag" not in pairs.numbers


def test_the_fingerprint_is_of_the_content(tmp_path):
    one = read_pairs(write_lines(tmp_path / "a.jsonl", ROWS)).fingerprint
    assert read_pairs(write_lines(tmp_path / "b.jsonl", ROWS)).fingerprint == one
    other = [*ROWS[:-1], {**ROWS[-1], "reward": 9}]
    assert read_pairs(write_lines(tmp_path / "c.jsonl", other)).fingerprint != one


def of_layout(folder, layout):
    """The same five rows in a layout: source path, a name to write to."""
    if layout == "jsonl":
        return write_lines(folder / "p.jsonl", ROWS), folder / "o.jsonl"
    if layout == "json":
        (folder / "p.json").write_text(json.dumps({"annotations": ROWS, "made": "today"}))
        return folder / "p.json", folder / "o.json"
    if layout == "saved":
        import datasets

        datasets.Dataset.from_list(ROWS).save_to_disk(str(folder / "saved"))
        return folder / "saved", folder / "out"
    table = pa.Table.from_pylist(ROWS).replace_schema_metadata({"kept": "yes"})
    if layout == "parquet":
        pq.write_table(table, folder / "p.parquet")
        return folder / "p.parquet", folder / "o.parquet"
    (folder / "shards").mkdir()
    for i, rows in enumerate((table.slice(0, 2), table.slice(2))):
        pq.write_table(rows, folder / "shards" / f"train-0000{i}-of-00002.parquet")
    return folder / "shards", folder / "out"


@pytest.mark.parametrize("layout", ["jsonl", "json", "parquet", "shards", "saved"])
def test_kept_rows_are_written_in_the_layout_they_came_in(tmp_path, layout):
    path, out = of_layout(tmp_path, layout)
    pairs = read_pairs(path)
    assert pairs.answer == [row["output"] for row in ROWS]
    check_out(pairs.file, out)
    pairs.file.write(np.array([1, 3]), out)
    again = read_pairs(out)
    assert type(again.file) is type(pairs.file)
    assert again.answer == ["a1", "a3"]
    assert again.numbers["reward"].tolist() == [0.5, 1.5]
    if layout == "jsonl":
        assert out.read_bytes() == b"".join(json.dumps(ROWS[i]).encode() + b"\n" for i in (1, 3))
    if layout == "json":
        assert json.loads(out.read_text())["made"] == "today"
    if layout == "parquet":
        assert pq.read_schema(out).metadata[b"kept"] == b"yes"


def test_an_output_of_another_layout_or_in_the_way_is_refused(tmp_path):
    path = write_lines(tmp_path / "p.jsonl", ROWS)
    source = open_pair_file(path)
    with pytest.raises(DataError, match=r"ends in \.jsonl"):
        check_out(source, tmp_path / "o.parquet")
    with pytest.raises(DataError, match="the source itself"):
        check_out(source, path)
    folder, _ = of_layout(tmp_path, "shards")
    with pytest.raises(DataError, match="is a folder: give"):
        check_out(open_pair_file(folder), tmp_path / "o.jsonl")
    with pytest.raises(DataError, match="not an empty folder"):
        check_out(open_pair_file(folder), folder.parent)
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(DataError, match=r"must be \.jsonl"):
        open_pair_file(tmp_path / "x.txt")


def test_broken_tables_are_named(tmp_path):
    (tmp_path / "p.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="truncated or not Parquet"):
        read_pairs(tmp_path / "p.parquet")
    (tmp_path / "p.json").write_text('{"a": ')
    with pytest.raises(DataError, match="broken JSON"):
        read_pairs(tmp_path / "p.json")


def test_ids_come_from_the_data_or_count_the_lines(tmp_path):
    pairs = read_pairs(write_lines(tmp_path / "p.jsonl", [record(0), {"output": "a"}]))
    assert pairs.ids == ["100", "2"]
