"""Labelled texts in Parquet and from the hub; kept texts written back in the layout they came in."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from datawinnow.core.errors import DataError
from datawinnow.data import Texts, load, write_kept
from tests.data.helpers import pixels, table
from tests.data.test_load_parquet import offline  # noqa: F401  (a fixture)
from tests.data.texts import sentences, write_texts, written

KEPT = torch.tensor([9, 0, 4, 7, 2, 5])


def text_table(rows, *, ids=False, **extra):
    """An Arrow table of texts, labels by name or by id with the names in the schema."""
    texts, labels = [t for t, _ in rows], [y for _, y in rows]
    names = ["blame", "praise"]
    texts_table = pa.table({"text": texts, "label": [names.index(y) for y in labels] if ids else labels, **extra})
    if ids:
        features = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": names, "_type": "ClassLabel"}}
        texts_table = texts_table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    return texts_table


@pytest.mark.parametrize("ids", [False, True], ids=["names", "ids"])
def test_a_table_without_images_is_read_for_its_texts(tmp_path, ids):
    rows, other = sentences(20), sentences(6, 1)
    pq.write_table(text_table(rows, ids=ids), tmp_path / "train-00000-of-00001.parquet", row_group_size=7)
    pq.write_table(text_table(other, ids=ids), tmp_path / "test-00000-of-00001.parquet")
    train, test = load(tmp_path)
    assert isinstance(train, Texts)
    for texts, expected in ((train, rows), (test, other)):
        assert [(t, texts.classes[y]) for t, y in zip(texts.texts, texts.labels.tolist(), strict=True)] == expected
    assert train.classes == ("blame", "praise")
    assert train.id_of(3) == "3"


def test_images_come_first_and_texts_when_named(tmp_path):
    rows = sentences(8)
    texts_table = table(pixels(8), [i % 2 for i in range(8)], extra={"caption": [t for t, _ in rows]})
    pq.write_table(texts_table, tmp_path / "a.parquet")
    assert not isinstance(load(tmp_path / "a.parquet")[0], Texts)
    train, test = load(tmp_path / "a.parquet", text="caption")
    assert {*train.texts, *test.texts} == {t for t, _ in rows}


def test_broken_rows_are_named_and_left_out_when_asked(tmp_path):
    rows = sentences(10)
    texts = [t for t, _ in rows]
    texts[3], texts[7] = None, "  "
    pq.write_table(pa.table({"text": texts, "label": [y for _, y in rows]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"row 3 of .*a.parquet: its text is missing \(2 are broken in all"):
        load(tmp_path / "a.parquet")
    train, test = load(tmp_path / "a.parquet", on_broken="skip", holdout=0.25)
    assert sorted(int(i) for i in [*train.ids, *test.ids]) == [0, 1, 2, 4, 5, 6, 8, 9]
    out = write_kept(train, torch.arange(len(train)), tmp_path / "out")
    assert pq.read_table(out / "train-00000-of-00001.parquet").column("text").to_pylist() == list(train.texts)


@pytest.mark.parametrize(
    ("columns", "options", "match"),
    [
        ({"text": ["a"] * 4, "label": [[1]] * 4}, {"label": "label"}, "column 'label' of .* holds list"),
        ({"said": ["a"] * 4, "x": ["b"] * 4, "y": ["c"] * 4}, {}, "its columns are said, x, y"),
        ({"text": pa.array([], pa.string()), "label": pa.array([], pa.int64())}, {}, "no texts: .* has no rows"),
    ],
    ids=["lists", "which", "empty"],
)
def test_tables_that_cannot_be_read(tmp_path, columns, options, match):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=match):
        load(tmp_path / "a.parquet", **options)


def test_the_hub_and_a_test_split_whose_labels_are_secret(offline):  # noqa: F811
    """As GLUE has it: -1 for each label of the test split, so that validation stands for it."""
    tmp_path = offline
    rows, other = sentences(20), sentences(6, 1)
    folder = tmp_path / "somebody" / "reviews"
    folder.mkdir(parents=True)
    pq.write_table(text_table(rows, ids=True), folder / "train.parquet")
    pq.write_table(text_table(other, ids=True), folder / "validation.parquet")
    secret = text_table(sentences(5, 2), ids=True)
    secret = secret.set_column(1, "label", pa.array([-1] * 5)).replace_schema_metadata(secret.schema.metadata)
    pq.write_table(secret, folder / "test.parquet")
    train, test = load("hf:somebody/reviews")
    assert list(train.texts) == [t for t, _ in rows]
    assert list(test.texts) == [t for t, _ in other]
    assert any("validation split is used as the test split" in note for note in train.notes)
    out = write_kept(train, KEPT, tmp_path / "out")
    kept = pq.read_table(out / "train-00000-of-00001.parquet")
    assert kept.column("text").to_pylist() == [rows[i][0] for i in sorted(KEPT.tolist())]


class TestWriting:
    @pytest.mark.parametrize("names", [("text", "label"), None], ids=["names", "none"])
    @pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
    def test_lines_are_written_byte_for_byte_under_their_names(self, tmp_path, kind, names):
        if kind == "jsonl" and names is None:
            names = ("said", "label")
        rows = [(t.replace("number", 'n"\u00e9" '), y) for t, y in sentences(12)]
        source = tmp_path / "in"
        source.mkdir()
        text = written(rows, kind, names).removesuffix("\n").replace("\n", "\r\n")
        (source / f"train.{kind}").write_bytes(text.encode())
        (source / f"test.{kind}").write_bytes(text.encode())
        train, _ = load(source)
        out = write_kept(train, KEPT, tmp_path / "out")
        lines = text.split("\r\n")
        head = [] if kind == "jsonl" or names is None else lines[:1]
        kept = [*head, *(lines[len(head) + i] for i in sorted(KEPT.tolist()))]
        ends = [line + ("\n" if line == lines[-1] else "\r\n") for line in kept]
        assert (out / f"train.{kind}").read_bytes().decode() == "".join(ends)
        again, other = load(out, holdout=0.25)
        assert {*again.texts, *other.texts} == {rows[i][0] for i in KEPT.tolist()}

    def test_shards_broken_lines_and_cells_of_several_lines(self, tmp_path):
        first = [*sentences(6), ("over\ntwo lines", "praise")]
        second = sentences(6, 1)
        (tmp_path / "train-1.csv").write_text(written(first, "csv").replace("number 2", 'x",'))
        (tmp_path / "train-2.csv").write_text(written(second, "csv"))
        train, _ = load(tmp_path, on_broken="skip", holdout=0.2)
        out = write_kept(train, torch.arange(len(train)), tmp_path / "out")
        again, other = load(out, holdout=0.2)
        assert sorted([*again.texts, *other.texts]) == sorted(train.texts)
        assert (out / "train.csv").read_text().count("text,label") == 1

    def test_texts_of_no_file_become_lines_of_json(self, tmp_path):
        write_texts(tmp_path / "r.tsv")
        train, _ = load(tmp_path / "r.tsv")
        texts_table = Texts(
            train.x, train.labels, train.classes, texts=train.texts, vocabulary=train.vocabulary,
            vocabulary_size=train.vocabulary_size,
        )  # fmt: skip
        out = write_kept(texts_table, torch.tensor([3, 1]), tmp_path / "out")
        lines = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
        assert lines == [{"text": train.texts[i], "label": train.classes[int(train.labels[i])]} for i in (1, 3)]

    @pytest.mark.parametrize("change", ["labels", "file", "shorter"])
    def test_labels_or_files_that_changed_are_refused(self, tmp_path, change):
        write_texts(tmp_path / "r.tsv")
        train, _ = load(tmp_path / "r.tsv")
        if change == "labels":
            train = train.with_labels(1 - train.labels)
        elif change == "file":
            path = tmp_path / "r.tsv"
            path.write_text(path.read_text().replace("was", "is"))
        else:
            path = tmp_path / "r.tsv"
            path.write_text("\n".join(path.read_text().split("\n")[:5]))
        match = "fewer lines" if change == "shorter" else r"line \d+ of .*r.tsv says"
        with pytest.raises(DataError, match=match):
            write_kept(train, torch.arange(len(train)), tmp_path / "out")
        assert not (tmp_path / "out").exists()
