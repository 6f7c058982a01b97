"""Tables as people have them: dialects of CSV, titles and headers, spellings of labels, numbers past every limit."""

from __future__ import annotations

import io
import json
import time

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.data import load
from datawinnow.data.labels import Classes, read_labels
from datawinnow.data.separated import guess_dialect, read_records
from datawinnow.data.write import write_kept

ROWS = [(f"some words number {i}", str(i % 2)) for i in range(20)]


def lines(rows=ROWS, delimiter=","):
    return "".join(delimiter.join(row) + "\n" for row in rows)


def texts_of(splits):
    return {
        (text, split.classes[y]) for split in splits for text, y in zip(split.texts, split.labels.tolist(), strict=True)
    }


def has_note(splits, *words):
    return any(all(word in note for word in words) for note in splits[0].notes)


class TestDialects:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("t.csv", "sep=;\ntext;label\n" + lines(delimiter=";")),
            ("t.csv", "text;label\n" + lines(delimiter=";")),
            ("t.csv", "\n\ntext;label\n" + lines(delimiter=";")),
            ("t.csv", "text\tlabel\n" + lines(delimiter="\t")),
            ("t.csv", "text|label\n" + lines(delimiter="|")),
            ("t.tsv", "text,label\n" + lines()),
            ("t.csv", "My export 2024-01-01,\ntext,label\n" + lines()),
            ("t.csv", "# made by a tool\ntext,label\n" + lines()),
            ("t.csv", "text,label\n" + lines(ROWS[:9]) + "text,label\n" + lines(ROWS[9:])),
            ("t.csv", "v1,v2,,,\n" + "".join(f"{y},{text},,,\n" for text, y in ROWS)),
            ("t.csv", ("text,label\n" + lines()).replace("\n", "\r")),
            ("t.tsv", ("text\tlabel\n" + lines(delimiter="\t")).replace("\n", "\r")),
            ("t.csv", "\ufefftext,label\n" + lines()),
        ],
        ids=[
            "sep", "semicolons", "blank-lines", "tabs", "bars", "commas-in-tsv", "title", "comment", "header-again",
            "empty-columns", "cr", "cr-tsv", "bom",
        ],
    )  # fmt: skip
    def test_every_one_gives_the_same_examples(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content.encode())
        splits = load(tmp_path / name)
        assert {text for text, _ in texts_of(splits)} == {text for text, _ in ROWS}
        assert splits[0].classes == ("0", "1")

    def test_what_was_guessed_is_said(self, tmp_path):
        (tmp_path / "t.csv").write_text("My export,\ntext;label\n".replace(",", ";") + lines(delimiter=";"))
        splits = load(tmp_path / "t.csv")
        assert has_note(splits, "semicolons")
        assert has_note(splits, "above the table", "My export")
        assert has_note(splits, "column 'text'", "column 'label'")

    def test_line_breaks_in_quotes_belong_to_a_tsv_too(self, tmp_path):
        rows = [(f"first {i}\nsecond {i}", str(i % 2)) for i in range(20)]
        (tmp_path / "t.tsv").write_text("text\tlabel\n" + "".join(f'"{text}"\t{y}\n' for text, y in rows))
        assert texts_of(load(tmp_path / "t.tsv")) == set(rows)

    def test_a_tsv_without_quoting_keeps_its_lines(self, tmp_path):
        rows = [('"never closed', "0"), ('he said "no"', "1"), *ROWS, ('a "last" word"', "0")]
        (tmp_path / "t.tsv").write_text("text\tlabel\n" + lines(rows, "\t"))
        assert texts_of(load(tmp_path / "t.tsv")) == set(rows)

    def test_a_quote_that_closes_after_many_rows_swallows_none_in_silence(self, tmp_path):
        rows = [list(row) for row in ROWS]
        rows[3][0], rows[15][0] = f'"{rows[3][0]}', f'{rows[15][0]}"'
        (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"{text},{y}\n" for text, y in rows))
        with pytest.raises(DataError, match=r"line 5 of .*quote"):
            load(tmp_path / "t.csv")

    def test_the_time_grows_with_the_file(self, tmp_path):
        load("digits")
        seconds = []
        for n in (1000, 4000):
            (tmp_path / "q.csv").write_text("text,label\n" + 'good words","1\n' * n)
            tries = []
            for _ in range(3):  # the least of three: other threads of the process count too
                start = time.process_time()
                with pytest.raises(DataError, match="quote that opens in it is not closed"):
                    load(tmp_path / "q.csv")
                tries.append(time.process_time() - start)
            seconds.append(min(tries))
        assert seconds[1] < 8 * seconds[0] + 0.5

    def test_the_width_is_that_of_most_records(self, tmp_path):
        (tmp_path / "t.csv").write_text("title\ntext,label\n" + lines())
        assert (guess_dialect(tmp_path / "t.csv").delimiter, guess_dialect(tmp_path / "t.csv").width) == (",", 2)


class TestHeaders:
    def test_columns_by_number(self, tmp_path):
        (tmp_path / "t.csv").write_text("a,b\n" + lines())
        assert texts_of(load(tmp_path / "t.csv", text=0, label=1)) == set(ROWS)
        assert texts_of(load(tmp_path / "t.csv", text="0", label="1")) == set(ROWS)
        with pytest.raises(ArgumentError, match="text must be the name of a column, or its number"):
            load(tmp_path / "t.csv", text=True)

    def test_it_may_be_said(self, tmp_path):
        (tmp_path / "t.csv").write_text(lines([("a first line", "2"), ("another", "2"), *ROWS]))
        assert len(load(tmp_path / "t.csv", header=False)[0].classes) == 3
        assert ("a first line", "2") not in texts_of(load(tmp_path / "t.csv", header=True, text="a first line"))
        with pytest.raises(ArgumentError, match="header must be"):
            load(tmp_path / "t.csv", header="yes")

    def test_shards_with_columns_in_another_order_and_without_a_header(self, tmp_path):
        second = [(f"other words {i}", str(i % 2)) for i in range(6)]
        last = [(f"last words {i}", str(i % 2)) for i in range(6)]
        (tmp_path / "train-0.csv").write_text("text,label\n" + lines())
        (tmp_path / "train-1.csv").write_text("label,text\n" + "".join(f"{y},{text}\n" for text, y in second))
        (tmp_path / "train-2.csv").write_text("")
        (tmp_path / "train-3.csv").write_text("".join(f"{y},{text}\n" for text, y in last))
        splits = load(tmp_path)
        assert texts_of(splits) == {*ROWS, *second, *last}
        assert has_note(splits, "train-3.csv has no header")
        train = splits[0]
        again = load(write_kept(train, torch.arange(len(train)), tmp_path / "out"))
        assert texts_of(again) == texts_of(splits[:1])

    def test_a_header_in_one_shard_is_no_example_of_the_others(self, tmp_path):
        (tmp_path / "train-0.csv").write_text(lines())
        (tmp_path / "train-1.csv").write_text("text,label\n" + lines())
        with pytest.raises(DataError, match="give every file the same"):
            load(tmp_path)

    def test_titles_and_sep_are_written_again(self, tmp_path):
        (tmp_path / "t.csv").write_text("sep=;\nMy export;\ntext;label\n" + lines(delimiter=";"))
        train = load(tmp_path / "t.csv")[0]
        again = load(write_kept(train, torch.arange(len(train)), tmp_path / "out"))
        assert texts_of(again) == texts_of([train])


class TestRefused:
    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    @pytest.mark.parametrize("on_broken", ["raise", "skip"])
    def test_utf16(self, tmp_path, encoding, on_broken):
        (tmp_path / "t.csv").write_bytes(("text,label\n" + lines()).encode(encoding))
        with pytest.raises(DataError, match=r"is UTF-(16|32).*convert it"):
            load(tmp_path / "t.csv", on_broken=on_broken)

    def test_latin1_says_how_to_convert(self, tmp_path):
        (tmp_path / "t.csv").write_bytes(("text,label\n" + lines().replace("words", "caf\xe9")).encode("latin-1"))
        with pytest.raises(DataError, match=r"it is not UTF-8 \(20 are broken.*Windows-1252"):
            load(tmp_path / "t.csv", on_broken="skip")

    def test_nul(self, tmp_path):
        (tmp_path / "t.csv").write_text("text,label\n" + lines() + "a\0b,1\n")
        with pytest.raises(DataError, match=r"line 22 of .*NUL"):
            load(tmp_path / "t.csv")

    def test_many_broken_lines_are_not_left_out(self, tmp_path):
        (tmp_path / "t.csv").write_text("text,label\n" + "".join(lines() + "one,too,many\n" for _ in range(5)))
        splits = load(tmp_path / "t.csv", on_broken="skip")
        assert has_note(splits, "5 broken train lines are left out")
        (tmp_path / "t.csv").write_text("text,label\n" + lines() + "one,too,many\n" * 4)
        with pytest.raises(DataError, match=r"line 22 of .*3 columns.*4 are broken in all, of 24.*too many"):
            load(tmp_path / "t.csv", on_broken="skip")
        with pytest.raises(DataError) as error:
            load(tmp_path / "t.csv")
        assert "skip" not in str(error.value)

    def test_doubled_columns(self, tmp_path):
        buffer = io.BytesIO()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, "PNG")
        labels = pa.array([i % 2 for i in range(20)])
        for name, cells in (("p", pa.array([buffer.getvalue()] * 20)), ("t", pa.array([text for text, _ in ROWS]))):
            column = "image" if name == "p" else "text"
            table = pa.table({column: cells, "label": labels}).append_column("label", labels)
            pq.write_table(table, tmp_path / f"{name}.parquet")
        (tmp_path / "c.csv").write_text("text,label,label\n" + "".join(f"{text},{y},1\n" for text, y in ROWS))
        (tmp_path / "j.jsonl").write_text("".join(f'{{"text": "{t}", "label": {y}, "label": 1}}\n' for t, y in ROWS))
        for name in ("p.parquet", "t.parquet", "c.csv", "j.jsonl"):
            with pytest.raises(DataError, match=r"2 columns called 'label'|'label' twice"):
                load(tmp_path / name)

    @pytest.mark.parametrize(
        ("label", "fault"),
        [
            ("9" * 5000, "not JSON"),
            ("[" * 100_000 + "]" * 100_000, "nested too deep|not JSON|whole number"),
            ("NaN", "its label is missing"),
            ("Infinity", "its label is inf"),
            ("1.5", r"its label is 1\.5"),
            ("1e400", "its label is inf"),
        ],
    )
    def test_numbers_past_every_limit(self, tmp_path, label, fault):
        rows = [json.dumps({"text": text, "label": int(y)}) for text, y in ROWS]
        rows[4] = f'{{"text": "a", "label": {label}}}'
        (tmp_path / "t.jsonl").write_text("\n".join(rows))
        with pytest.raises(DataError, match=rf"line 5 of .*: .*({fault})"):
            load(tmp_path / "t.jsonl")

    def test_long_digits_are_a_name(self, tmp_path):
        (tmp_path / "t.csv").write_text("text,label\n" + lines([(t, "9" * 5000 if y == "1" else y) for t, y in ROWS]))
        assert load(tmp_path / "t.csv")[0].classes == ("0", "9" * 5000)

    def test_a_column_of_numbers_that_all_differ_is_no_label(self, tmp_path):
        (tmp_path / "t.csv").write_text("text,label\n" + lines([(f"words {i}", str(i)) for i in range(60)]))
        with pytest.raises(DataError, match=r"60 different numbers in 60 rows.*`label=`"):
            load(tmp_path / "t.csv")


class TestLabels:
    @pytest.mark.parametrize(
        ("cells", "labels"),
        [
            (["0", "0.0", 1, "1.0"], [0, 0, 1, 1]),
            ([True, "True", False, "False"], ["True", "True", "False", "False"]),
            ([True, "true", False, "x"], ["true", "true", "False", "x"]),
            (["007", "07", "7", 8], ["007", "07", "7", "8"]),
            (["1.0", "1", "x"], ["1", "1", "x"]),
            (["--5", "5"], ["--5", "5"]),
            ([" cat", "cat"], ["cat", "cat"]),
            (["-1", "0", "1"], [-1, 0, 1]),
            ([True, False], [1, 0]),
            (["\u00b2", "2"], ["\u00b2", "2"]),
        ],
    )
    def test_spellings(self, cells, labels):
        read = read_labels(cells)[0]
        assert list(read) == labels

    def test_merged_spellings_are_noted_with_counts(self):
        assert "'0.0' 1 times" in read_labels(["0", "0", "0.0", "1"])[1][0]
        assert "' cat' 2 times" in read_labels([" cat", " cat", "cat", "dog"])[1][0]
        assert read_labels(["0", "1", "1"])[1] == ()

    def test_capitals_are_kept_apart_and_noted(self, tmp_path):
        rows = [(text, ["cat", "Cat", "dog", "dog"][i % 4]) for i, (text, _) in enumerate(ROWS)]
        (tmp_path / "t.csv").write_text("text,label\n" + lines(rows))
        splits = load(tmp_path / "t.csv")
        assert splits[0].classes == ("Cat", "cat", "dog")
        assert has_note(splits, "'Cat' (5)", "'cat' (5)")

    def test_sentiments_below_zero_are_classes_and_a_mark_for_the_unknown_is_none(self):
        assert Classes.of(np.array([-1, 0, 1, 1]), None, str).values == [-1, 0, 1]
        assert "unknown" in Classes.of(np.array([-1, 1]), None, str).notes[0]
        for values in ([-1, 0], [-1, 0, 1, 2], [-1, -1]):
            with pytest.raises(DataError, match="is below 0"):
                Classes.of(np.array(values), None, str)

    def test_whole_floats_and_bytes(self, tmp_path):
        x = np.zeros((20, 8, 8), np.uint8)
        np.savez(tmp_path / "f.npz", x=x, y=np.arange(20) % 2 * 1.0)
        np.savez(tmp_path / "s.npz", x=x, y=np.array([b"cat", b"dog"] * 10))
        table = {"text": [text for text, _ in ROWS], "label": [float(y) for _, y in ROWS]}
        pq.write_table(pa.table(table), tmp_path / "t.parquet")
        assert load(tmp_path / "f.npz")[0].classes == load(tmp_path / "t.parquet")[0].classes == ("0", "1")
        assert load(tmp_path / "s.npz")[0].classes == ("cat", "dog")


def test_records_say_where_they_begin(tmp_path):
    (tmp_path / "t.csv").write_text('a,"b\nc"\n\nd,e\n')
    assert [(r.line, r.cells) for r in read_records(tmp_path / "t.csv")] == [(1, ["a", "b\nc"]), (4, ["d", "e"])]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("label", ["label", "species"])
def test_a_table_of_numbers_with_gaps_and_names_of_classes_says_how_it_is_read(tmp_path, suffix, label):
    rows = 40
    numbers = {f"f{k}": [None if (i + k) % 9 == 0 else i / (k + 1) for i in range(rows)] for k in range(5)}
    table = pa.table({**numbers, label: ["oak" if i % 2 else "ash" for i in range(rows)]})
    path = tmp_path / f"trees.{suffix}"
    (pq.write_table if suffix == "parquet" else pacsv.write_csv)(table, path)
    with pytest.raises(DataError, match=r"a table of numbers is read in Python, dw.load\(pandas"):
        load(path)
