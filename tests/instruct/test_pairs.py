"""Reading instruction data: layouts, faults that are named and counted, and writing in the layout it came in."""

from __future__ import annotations

import json

import datasets
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


PAIR_ROWS = [{"id": i, "instruction": f"say {i}", "output": f"answer {i}"} for i in range(4)]
PAIR_LINES = "".join(json.dumps(row) + "\n" for row in PAIR_ROWS)


class TestAsPeopleWriteThem:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("a.JSONL", PAIR_LINES),
            ("a.jsonl", PAIR_LINES.replace('{"id": 2', '\ufeff{"id": 2')),
            ("a.json", "\ufeff" + json.dumps(PAIR_ROWS)),
            ("a.json", json.dumps({"annotations": [], "data": PAIR_ROWS})),
        ],
        ids=["capitals", "marks", "mark", "an empty list first"],
    )
    def test_what_is_read(self, tmp_path, name, text):
        (tmp_path / name).write_text(text, encoding="utf-8")
        pairs = read_pairs(tmp_path / name)
        assert pairs.answer == [row["output"] for row in PAIR_ROWS]
        assert pairs.problems == []

    @pytest.mark.parametrize(
        ("name", "content", "match"),
        [
            ("a.jsonl", PAIR_LINES.encode("utf-16"), r"is UTF-16.*iconv -f UTF-16"),
            ("a.json", json.dumps(PAIR_ROWS).encode("utf-16-le"), r"is UTF-16LE.*iconv"),
            ("a.json", b'[{"instruction": "a", "output": "caf\xe9"}]', r"not UTF-8.*iconv -f WINDOWS-1252"),
            ("a.json", b'[{"instruction": "a", "output": "b", "output": "c"}]', r"a field twice.*output"),
        ],
        ids=["UTF-16", "UTF-16 without a mark", "Latin-1", "a key twice"],
    )
    def test_what_is_refused(self, tmp_path, name, content, match):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=match):
            read_pairs(tmp_path / name)

    def test_a_line_with_a_key_twice_is_left_out_and_named(self, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"output": "b", "output": "c"}\n' + PAIR_LINES)
        pairs = read_pairs(tmp_path / "a.jsonl")
        assert pairs.answer == [row["output"] for row in PAIR_ROWS]
        assert pairs.problem_lines() == ["1 with a field twice: line 1 (first: output)"]

    def test_two_columns_of_a_name_are_refused(self, tmp_path):
        columns = [pa.array(["a"]), pa.array(["b"]), pa.array(["c"])]
        pq.write_table(pa.table(columns, names=["instruction", "output", "output"]), tmp_path / "a.parquet")
        with pytest.raises(DataError, match="2 columns called 'output'"):
            read_pairs(tmp_path / "a.parquet")

    @pytest.mark.parametrize(("train", "other"), [("Train.parquet", "test.parquet"), ("data.parquet", "dev.parquet")])
    def test_other_splits_are_not_among_the_pairs(self, tmp_path, train, other):
        for name, rows in ((train, PAIR_ROWS), (other, [{"instruction": "x", "output": "secret"}])):
            pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
        assert len(read_pairs(tmp_path)) == 4

    def test_a_saved_dict_is_its_training_split(self, tmp_path):
        splits = {"train": datasets.Dataset.from_list(PAIR_ROWS), "test": datasets.Dataset.from_list(PAIR_ROWS[:1])}
        datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "d"))
        assert len(read_pairs(tmp_path / "d")) == 4

    def test_shards_with_other_columns_are_written_into_one(self, tmp_path):
        (tmp_path / "d").mkdir()
        for k, rows in enumerate((PAIR_ROWS, [{"output": "b", "extra": 1}])):
            pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d" / f"train-{k}.parquet")
        pairs = read_pairs(tmp_path / "d")
        pairs.file.write(np.array([0, 4]), tmp_path / "out")
        assert read_pairs(tmp_path / "out").answer == ["answer 0", "b"]
        pq.write_table(pa.table({"output": [1.5]}), tmp_path / "d" / "train-2.parquet")
        with pytest.raises(DataError, match=r"train-2.parquet has other types of columns than train-0.parquet"):
            read_pairs(tmp_path / "d")


def test_parquet_whose_texts_or_names_are_no_utf8(tmp_path):
    cells = pa.array([b"fine", b"\xff\xfe a"], pa.binary())
    column = pa.Array.from_buffers(pa.string(), 2, cells.buffers())
    pq.write_table(pa.table({"instruction": ["a", "b"], "output": column}), tmp_path / "p.parquet")
    with pytest.raises(DataError, match="holds text that is no UTF-8"):
        read_pairs(tmp_path / "p.parquet")
    pq.write_table(pa.table({"instruction": ["a", "b"], "output": ["c", "d"]}), tmp_path / "p.parquet")
    damaged = (tmp_path / "p.parquet").read_bytes().replace(b"output", b"\x95utput")
    (tmp_path / "p.parquet").write_bytes(damaged)
    with pytest.raises(DataError, match="truncated or not Parquet"):
        read_pairs(tmp_path / "p.parquet")
