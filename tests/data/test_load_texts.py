"""Labelled texts in .csv, .tsv and .jsonl files: columns, splits, labels, and broken lines by their numbers."""

from __future__ import annotations

import json

import pytest
import torch

from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.data import Texts, load
from datawinnow.data.tokens import Vocabulary
from tests.data.helpers import write_folder
from tests.data.texts import sentences, write_texts, written


def all_of(train, test):
    """Text -> label by name, of both splits."""
    pairs = [(t, d.classes[y]) for d in (train, test) for t, y in zip(d.texts, d.labels.tolist(), strict=True)]
    return dict(pairs)


class TestLayouts:
    @pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
    def test_every_kind_gives_the_same_examples(self, tmp_path, kind):
        rows = write_texts(tmp_path / f"r.{kind}")
        train, test = load(tmp_path / f"r.{kind}")
        assert isinstance(train, Texts)
        assert all_of(train, test) == dict(rows)
        assert (len(train), len(test)) == (32, 8)
        assert train.classes == ("blame", "praise")
        assert train.name == "r"
        assert any("no test split" in note for note in train.notes)
        assert train.ids[0].startswith(f"r.{kind}:")

    def test_ids_are_the_lines(self, tmp_path):
        rows = write_texts(tmp_path / "r.tsv")
        lines = (tmp_path / "r.tsv").read_text().split("\n")
        for i, text in zip(load(tmp_path / "r.tsv")[0].ids, load(tmp_path / "r.tsv")[0].texts, strict=True):
            assert lines[int(i.split(":")[1]) - 1].startswith(text)
        assert len(lines) == len(rows) + 2

    def test_a_folder_has_a_file_for_each_split(self, tmp_path):
        """The layout of SST-2: no line of names, ids for labels, dev beside test."""
        generated = {}
        for seed, split in enumerate(("train", "dev", "test")):
            generated[split] = [(t, str(int(y == "praise"))) for t, y in sentences(20 + seed, seed)]
            (tmp_path / f"{split}.tsv").write_text(written(generated[split], "tsv", None))
        train, test = load(tmp_path)
        assert dict(zip(train.texts, map(str, train.labels.tolist()), strict=True)) == dict(generated["train"])
        assert list(test.texts) == [t for t, _ in generated["test"]]
        assert train.classes == ("0", "1")
        assert any("dev is not used: test is the test split" in note for note in train.notes)
        assert any("no line of names: texts are in column 0, labels in column 1" in note for note in train.notes)

    def test_dev_is_the_test_split_where_there_is_no_other(self, tmp_path):
        write_texts(tmp_path / "train.jsonl")
        rows = write_texts(tmp_path / "dev.jsonl", 6, seed=5)
        train, test = load(tmp_path)
        assert list(test.texts) == [t for t, _ in rows]
        assert any("dev split is used as the test split" in note for note in train.notes)

    def test_shards_are_read_in_order(self, tmp_path):
        first = write_texts(tmp_path / "train-00000-of-00002.csv", 10)
        second = write_texts(tmp_path / "train-00001-of-00002.csv", 10, seed=1)
        write_texts(tmp_path / "test.csv", 6, seed=2)
        assert list(load(tmp_path)[0].texts) == [t for t, _ in first + second]

    def test_a_table_beside_a_folder_of_images_does_not_stand_for_it(self, tmp_path):
        write_folder(tmp_path, 3)
        write_folder(tmp_path, 2, split="test", seed=1)
        write_texts(tmp_path / "train.csv")
        assert not isinstance(load(tmp_path)[0], Texts)

    def test_two_kinds_of_one_split_are_refused(self, tmp_path):
        write_texts(tmp_path / "train.csv")
        write_texts(tmp_path / "train.tsv")
        with pytest.raises(DataError, match=r"both train.csv and train.tsv"):
            load(tmp_path)


class TestColumns:
    @pytest.mark.parametrize(
        ("names", "rows", "options"),
        [
            (("review", "sentiment"), ("t", "y"), {}),
            (("id", "sentence", "label"), ("i", "t", "y"), {}),
            (("y", "words"), ("y", "t"), {"text": "words"}),
            (("words", "x", "y"), ("t", "i", "y"), {"text": "words", "label": "y"}),
            (("praised", "said"), ("y", "t"), {}),
            (None, ("t", "y"), {}),
            (None, ("y", "t"), {}),
            (None, ("i", "t", "y"), {"text": "1", "label": "2"}),
        ],
        ids=["usual", "three", "one told", "both told", "names of two", "none", "none, turned", "numbers"],
    )
    @pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl"])
    def test_columns_are_found(self, tmp_path, names, rows, options, kind):
        if kind == "jsonl" and names is None:
            names = tuple(str(i) for i in range(len(rows)))
        generated = sentences(30)
        cells = [tuple({"t": t, "y": y, "i": str(i)}[c] for c in rows) for i, (t, y) in enumerate(generated)]
        (tmp_path / f"r.{kind}").write_text(written(cells, kind, names))
        assert all_of(*load(tmp_path / f"r.{kind}", **options)) == dict(generated)

    def test_what_cannot_be_told_is_asked_for_with_the_columns_there_are(self, tmp_path):
        write_texts(tmp_path / "r.csv")
        (tmp_path / "r.jsonl").write_text('{"a": "x", "b": "y", "c": "z"}\n' * 4)
        with pytest.raises(DataError, match=r"columns are a, b, c. Name the column of texts with `text=`"):
            load(tmp_path / "r.jsonl")
        with pytest.raises(DataError, match=r"no column 'words'; its columns are text, label"):
            load(tmp_path / "r.csv", text="words", label="label")
        with pytest.raises(DataError, match="name the same column"):
            load(tmp_path / "r.csv", text="label", label="label")

    def test_one_column_is_no_labelled_text(self, tmp_path):
        (tmp_path / "r.tsv").write_text("only words\nand more\n")
        with pytest.raises(DataError, match="has one column; a text and its label are needed"):
            load(tmp_path / "r.tsv")

    def test_a_semicolon_may_stand_for_the_comma(self, tmp_path):
        rows = sentences(12)
        text = "text;label\n" + "".join(f"{t.replace(',', '')};{y}\n" for t, y in rows)
        (tmp_path / "r.csv").write_text(text)
        assert all_of(*load(tmp_path / "r.csv")) == {t.replace(",", ""): y for t, y in rows}


class TestCells:
    def test_quotes_line_ends_and_marks_at_the_start_of_the_file(self, tmp_path):
        rows = [('she said "go", then\nwent', "a"), ('"quoted"', "b"), ("plain \u2028 one", "a"), ("end", "b")]
        (tmp_path / "r.csv").write_bytes(b"\xef\xbb\xbf" + written(rows, "csv").replace("\n", "\r\n").encode())
        train, test = load(tmp_path / "r.csv", holdout=0.5)
        assert all_of(train, test) == {t.replace("\n", "\r\n"): y for t, y in rows}

    def test_a_tsv_keeps_quotes_that_belong_to_the_text(self, tmp_path):
        lines = ['"a ""b"" c"\tx', '"d" said "e"\ty', 'the 5" disc\tx', '"\ty']
        (tmp_path / "r.tsv").write_text("text\tlabel\n" + "\n".join(lines))
        train, test = load(tmp_path / "r.tsv", holdout=0.5)
        assert all_of(train, test) == {'a "b" c': "x", '"d" said "e"': "y", 'the 5" disc': "x", '"': "y"}

    @pytest.mark.parametrize(
        ("labels", "classes", "ids"),
        [
            (["1", "0", "1", "0"], ("0", "1"), [1, 0, 1, 0]),
            (["5", "1", "5", "1"], ("1", "5"), [1, 0, 1, 0]),
            (["b", "a", "b", "a"], ("a", "b"), [1, 0, 1, 0]),
            ([True, False, True, False], ("0", "1"), [1, 0, 1, 0]),
            ([1.0, 0.0, 1.0, 0.0], ("0", "1"), [1, 0, 1, 0]),
            ([1, "x", 1, "x"], ("1", "x"), [0, 1, 0, 1]),
        ],
        ids=["ids", "numbers", "names", "bool", "whole floats", "mixed"],
    )
    def test_labels_by_name_or_id(self, tmp_path, labels, classes, ids):
        lines = [json.dumps({"text": f"t {i}", "label": y}) for i, y in enumerate(labels)]
        (tmp_path / "train.jsonl").write_text("\n".join(lines))
        (tmp_path / "test.jsonl").write_text("\n".join(lines))
        train, test = load(tmp_path)
        assert train.classes == classes
        assert train.labels.tolist() == ids == test.labels.tolist()

    def test_a_label_of_the_test_split_alone_is_refused_by_its_line(self, tmp_path):
        write_texts(tmp_path / "train.tsv")
        (tmp_path / "test.tsv").write_text("text\tlabel\na\tpraise\nb\tneither\n")
        with pytest.raises(DataError, match=r"'neither' of line 3 of .*test.tsv is none of the train split's classes"):
            load(tmp_path)


BROKEN = {
    "tsv": ("no tab here", "it has 1 column where there should be 2"),
    "csv": ("a,b,c", "it has 3 columns where there should be 2"),
    "jsonl": ('{"text": "a", ', "it is not JSON"),
}


class TestBroken:
    """The fourth line is broken, and so is the sixth."""

    def make(self, tmp_path, kind, line):
        rows = sentences(30)
        lines = written(rows, kind).split("\n")
        at = 3
        lines[at:at] = [line]
        lines[at + 2 : at + 2] = [line]
        path = tmp_path / f"r.{kind}"
        path.write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines))
        return path, rows

    @pytest.mark.parametrize("kind", list(BROKEN))
    def test_the_first_is_named_by_its_line_and_all_are_counted(self, tmp_path, kind):
        path, _ = self.make(tmp_path, kind, BROKEN[kind][0])
        with pytest.raises(DataError, match=rf"line 4 of .*r.{kind}: {BROKEN[kind][1]}.*2 are broken in all"):
            load(path)

    @pytest.mark.parametrize("kind", list(BROKEN))
    def test_they_are_left_out_when_asked_and_told(self, tmp_path, kind):
        path, rows = self.make(tmp_path, kind, BROKEN[kind][0])
        train, test = load(path, on_broken="skip")
        assert all_of(train, test) == dict(rows)
        assert any("2 broken train lines are left out, the first line 4 of" in note for note in train.notes)

    @pytest.mark.parametrize(
        ("kind", "line", "fault"),
        [
            ("tsv", "\tpraise", "its text is empty"),
            ("tsv", "a text\t ", "its label is empty"),
            ("tsv", b"caf\xe9 good\tpraise", "it is not UTF-8"),
            ("csv", 'a "b,c', "it has 2"),
            ("csv", '"a"b,c', "it is no CSV"),
            ("jsonl", "[1, 2]", "it holds list, not an object"),
            ("jsonl", '{"text": "a"}', "its label is missing"),
            ("jsonl", '{"label": "praise"}', "its text is missing"),
            ("jsonl", '{"text": 5, "label": "praise"}', "its text is 5, which is no text"),
            ("jsonl", '{"text": "a", "label": [1]}', "a name or a whole number is needed"),
            ("jsonl", '{"text": "a", "label": 0.5}', "a name or a whole number is needed"),
            ("jsonl", '{"text": "a", "label": null}', "its label is missing"),
            ("jsonl", b'{"text": "\xff", "label": "a"}', "it is not UTF-8"),
        ],
    )
    def test_every_fault_is_said(self, tmp_path, kind, line, fault):
        path, rows = self.make(tmp_path, kind, line)
        if fault == "it has 2":  # a quote within a cell without quotes is a text's own
            assert 'a "b' in all_of(*load(path, on_broken="skip", label="label"))
            return
        with pytest.raises(DataError, match=rf"line 4 of .*: .*{fault}"):
            load(path)
        assert all_of(*load(path, on_broken="skip")) == dict(rows)

    def test_a_quote_that_is_never_closed_breaks_its_line_alone(self, tmp_path):
        rows = sentences(20)
        lines = [f"{t.replace(',', '')},{y}" for t, y in rows]
        lines[5] = '"never closed,praise'
        (tmp_path / "r.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
        train, test = load(tmp_path / "r.csv", on_broken="skip")
        assert len(train) + len(test) == 19
        assert any("the first line 7 of" in note for note in train.notes)

    def test_nothing_but_broken_lines(self, tmp_path):
        (tmp_path / "r.jsonl").write_text("{\n{\n")
        with pytest.raises(DataError, match=r"line 1 of .*2 are broken in all, every one"):
            load(tmp_path / "r.jsonl", on_broken="skip")

    def test_an_empty_file(self, tmp_path):
        for kind in ("csv", "tsv", "jsonl"):
            (tmp_path / f"r.{kind}").write_text("\n")
            with pytest.raises(DataError, match="has no lines"):
                load(tmp_path / f"r.{kind}")


class TestOptions:
    def test_the_vocabulary_is_of_the_training_texts_alone(self, tmp_path):
        rows = [(f"common words {'only' if i < 30 else 'secret'}", str(i % 2)) for i in range(30)]
        (tmp_path / "train.tsv").write_text(written(rows, "tsv"))
        (tmp_path / "test.tsv").write_text(written([("common secret secret", "0"), ("secret", "1")], "tsv"))
        train, test = load(tmp_path)
        assert set(train.vocabulary.tokens) == {"common", "words", "only"}
        assert test.vocabulary is train.vocabulary
        assert test.x.tolist()[0][1:] == [1, 1]  # unknown
        assert torch.equal(test.x, train.vocabulary.encode(test.texts))

    def test_a_limit_comes_before_the_vocabulary(self, tmp_path):
        write_texts(tmp_path / "r.tsv", 200)
        all_texts, (few, _) = load(tmp_path / "r.tsv")[0], load(tmp_path / "r.tsv", limit=10)
        assert len(few) == 10
        assert few.labels.bincount().tolist() == [5, 5]
        assert few.vocabulary == Vocabulary.fit(few.texts)[0]
        assert len(few.vocabulary) < len(all_texts.vocabulary)
        assert any("limited to 10 of 160" in note for note in few.notes)

    def test_the_length_is_told_and_who_is_cut(self, tmp_path):
        write_texts(tmp_path / "r.tsv")
        train, test = load(tmp_path / "r.tsv", length=4)
        assert train.shape == test.shape == (4,)
        assert any("32 training texts are longer than 4 tokens and are cut" in note for note in train.notes)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"size": 8}, "`size=8` is for images.*`length=`"),
            ({"image": "x"}, "`image='x'` is for images"),
            ({"tokenizer": "words"}, "tokenizer must be hf:PATH.*'words'"),
            ({"length": 0}, "length must be"),
            ({"flip": True}, "holds no images that could be mirrored"),
        ],
    )
    def test_what_does_not_fit_texts_is_refused(self, tmp_path, options, match):
        write_texts(tmp_path / "r.tsv")
        with pytest.raises(ArgumentError, match=match):
            load(tmp_path / "r.tsv", **options)

    @pytest.mark.parametrize("option", [{"length": 5}, {"tokenizer": "hf:x"}, {"text": "t"}])
    def test_options_of_texts_are_for_texts(self, option):
        with pytest.raises(ArgumentError, match=rf"{next(iter(option))}=.*"):
            load("digits", **option)


class TestExamples:
    def test_the_fingerprint_is_of_texts_labels_and_vocabulary(self, tmp_path):
        write_texts(tmp_path / "r.tsv")
        train, test = load(tmp_path / "r.tsv")
        again, _ = load(tmp_path / "r.tsv")
        assert train.fingerprint == again.fingerprint != test.fingerprint
        shorter, _ = load(tmp_path / "r.tsv", length=3)
        prints = {train.fingerprint, shorter.fingerprint, train.with_labels(1 - train.labels).fingerprint}
        prints.add(train.subset(torch.arange(31)).fingerprint)
        other = Texts(
            train.x, train.labels, train.classes, texts=["x", *train.texts[1:]], vocabulary=train.vocabulary,
            vocabulary_size=train.vocabulary_size,
        )  # fmt: skip
        assert len({*prints, other.fingerprint}) == 5

    def test_a_subset_keeps_texts_ids_and_vocabulary_together(self, tmp_path):
        write_texts(tmp_path / "r.tsv")
        train, _ = load(tmp_path / "r.tsv")
        few_texts = train.subset(torch.tensor([5, 2]))
        assert few_texts.texts == [train.texts[5], train.texts[2]]
        assert few_texts.ids == [train.ids[5], train.ids[2]]
        assert torch.equal(few_texts.x, train.vocabulary.encode(few_texts.texts))
        assert few_texts.origin.rows.tolist() == train.origin.rows[[5, 2]].tolist()

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"x": torch.zeros(2, 3)}, "x must be int32 token ids"),
            ({"x": torch.full((2, 3), 9, dtype=torch.int32)}, "token ids from 9 to 9, but vocabulary_size=9"),
            ({"x": torch.full((2, 3), -1, dtype=torch.int32)}, "token ids from -1 to -1"),
            ({"texts": ["one"]}, "1 texts for 2 rows"),
        ],
    )
    def test_what_does_not_fit_together_is_refused(self, changes, match):
        arguments = {"x": torch.ones(2, 3, dtype=torch.int32), "texts": ["a", "b"], "vocabulary_size": 9, **changes}
        with pytest.raises(DataError, match=match):
            Texts(labels=torch.tensor([0, 1]), classes=("a", "b"), **arguments)
