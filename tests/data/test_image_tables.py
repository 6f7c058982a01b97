"""Tables of labels of images: written as people write them, they say the same labels as a plain one."""

from __future__ import annotations

import json

import pytest
import torch

from datawinnow.core.errors import DataError
from datawinnow.data import load, write_kept
from tests.data.helpers import encoded, pixels, write_folder

NAMES = [f"{i:02d}.png" for i in range(12)]
LABELS = ["cat", "dog"] * 6
PLAIN = "file_name,label\n" + "".join(f"{name},{label}\n" for name, label in zip(NAMES, LABELS, strict=True))


def images(folder, names=NAMES):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(names, pixels(len(names)), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(array))


def labels_by_id(*splits) -> dict[str, str]:
    return {
        split.id_of(i).split("/")[-1]: split.classes[int(y)] for split in splits for i, y in enumerate(split.labels)
    }


EXPECTED = dict(zip(NAMES, LABELS, strict=True))

TABLES = {
    "semicolons": ("csv", PLAIN.replace(",", ";")),
    "sep=;": ("csv", "sep=;\n" + PLAIN.replace(",", ";")),
    "bars": ("csv", PLAIN.replace(",", "|")),
    "mark": ("csv", "\ufeff" + PLAIN),
    "title": ("csv", "Export of 1 May\n\n" + PLAIN),
    "comment": ("csv", "# exported,by hand\n" + PLAIN),
    "no header": ("csv", PLAIN.split("\n", 1)[1]),
    "no header, more columns": ("csv", "".join(f"{i},{n},{EXPECTED[n]}\n" for i, n in enumerate(NAMES))),
    "header again": ("csv", PLAIN + PLAIN.split("\n")[0] + "\n"),
    "header again with a mark": ("csv", PLAIN[:80] + PLAIN[80:].replace("06.png", "\ufefffile_name,label\n06.png")),
    "quotes": ("csv", "file_name,label\n" + "".join(f'"{n}","{EXPECTED[n]}"\n' for n in NAMES)),
    "newlines in quotes": ("csv", "file_name,note,label\n" + "".join(f'{n},"a\nb,c",{EXPECTED[n]}\n' for n in NAMES)),
    "newlines in quotes of a tsv": (
        "tsv",
        "file_name\tnote\tlabel\n" + "".join(f'{n}\t"a\nb"\t{EXPECTED[n]}\n' for n in NAMES),
    ),
    "commas in a tsv": ("tsv", PLAIN),
    "two columns of no matter": ("csv", "x,file_name,x,label\n" + "".join(f"1,{n},2,{EXPECTED[n]}\n" for n in NAMES)),
    "columns without a name": ("csv", ",file_name,label,\n" + "".join(f"1,{n},{EXPECTED[n]},\n" for n in NAMES)),
    "carriage returns": ("csv", PLAIN.replace("\n", "\r\n")),
    "spaces": ("csv", PLAIN.replace(",", " , ")),
    "an image again": ("csv", PLAIN + f"{NAMES[0]},cat\n"),
    "folders of another machine": ("csv", PLAIN.replace("\n0", "\nC:\\data\\img\\0").replace("\n1", "\n/home/a/1")),
    "json": ("jsonl", "".join(json.dumps({"file_name": n, "label": EXPECTED[n], "box": [1]}) + "\n" for n in NAMES)),
}


@pytest.mark.parametrize("place", ["metadata", "train", "images/train"])
@pytest.mark.parametrize("kind", TABLES)
def test_tables_as_people_write_them(tmp_path, kind, place):
    suffix, text = TABLES[kind]
    folder = "images" if "/" in place else "train"
    images(tmp_path / folder)
    name = place.split("/")[-1]
    table = tmp_path / (f"train/{name}" if name == "metadata" else name)
    table = table.with_name(f"{table.name}.{suffix}")
    table.write_bytes(text.encode())
    label = "2" if kind == "no header, more columns" else None
    train, test = load(tmp_path, label=label)
    assert labels_by_id(train, test) == EXPECTED


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["0", "0.0", "1", "1.0"] * 3, ("0", "1")),
        (["007", "7", "x"] * 4, ("007", "7", "x")),
        (["Cat", "cat ", "cat"] * 4, ("Cat", "cat")),
        (["2", "10", "1"] * 4, ("1", "2", "10")),
        (["True", "False"] * 6, ("False", "True")),
    ],
)
def test_spellings_are_those_of_texts(tmp_path, labels, classes):
    images(tmp_path)
    rows = [{"file_name": name, "label": label} for name, label in zip(NAMES, labels, strict=True)]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "texts.jsonl").write_text(
        "".join(json.dumps({"text": f"{row['file_name']} words", "label": row["label"]}) + "\n" for row in rows)
    )
    train, _ = load(tmp_path)
    texts, _ = load(tmp_path / "texts.jsonl")
    assert train.classes == texts.classes == classes
    spelled = [
        {note for note in split.notes if note.startswith(("labels in several", "classes whose"))}
        for split in (train, texts)
    ]
    assert spelled[0] == spelled[1]


@pytest.mark.parametrize("truth", [True, "True"])
def test_truth_values_of_json(tmp_path, truth):
    images(tmp_path)
    rows = [{"file_name": name, "label": [truth, False, "x"][i % 3]} for i, name in enumerate(NAMES)]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load(tmp_path)[0].classes == ("False", "True", "x")


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("csv", PLAIN.encode("utf-16"), "is UTF-16.*iconv"),
        ("csv", PLAIN.replace("label\n", "label,label\n").replace("t\n", "t,b\n"), "2 columns called 'label'"),
        ("csv", PLAIN.replace("01.png,dog", "01.png,"), "line 3 of .*: its label is empty"),
        ("csv", PLAIN.replace("01.png,dog", ",dog"), "line 3 of .*: it names no image"),
        ("csv", PLAIN.replace("01.png,dog", "01.png"), "line 3 of .*: it has 1 column where there should be 2"),
        ("csv", PLAIN + "02.png,dog\n", "line 14 of .*'02.png' again, which has another label in line 4"),
        ("csv", PLAIN.encode().replace(b"01.png,dog", b"01.png,d\xe9g"), "line 3 of .*: it is not UTF-8"),
        ("csv", PLAIN.replace("01.png,dog", '01.png,"dog'), "line 3 of .*: a quote that opens in it is not closed"),
        ("jsonl", '{"file_name": "00.png", "label": "a", "label": "b"}\n', "line 1 of .*: it has 'label' twice"),
        ("jsonl", '{"file_name": "00.png", "label": {"a": 1}}\n', "line 1 of .*: its label is {'a': 1}"),
        ("jsonl", '{"file_name": "00.png", "label": NaN}\n', "line 1 of .*: its label is missing"),
        ("jsonl", '{"file_name": "00.png"\n', "line 1 of .*: it is not JSON"),
    ],
)
def test_what_is_wrong_is_named_and_can_be_left_out(tmp_path, kind, text, message):
    images(tmp_path)
    if kind == "jsonl":
        text += "".join(json.dumps({"file_name": n, "label": EXPECTED[n]}) + "\n" for n in NAMES[1:])
    path = tmp_path / f"metadata.{kind}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        load(tmp_path)
    if "iconv" not in message and "columns" not in message:
        splits = load(tmp_path, on_broken="skip")
        assert sum(map(len, splits)) >= 11
        assert any("1 broken" in note for note in splits[0].notes)
        assert labels_by_id(*splits).items() <= EXPECTED.items()


def test_two_tables_that_may_be_the_labels_are_refused(tmp_path):
    images(tmp_path / "images")
    for name in ("labels.csv", "labels2.csv"):
        (tmp_path / name).write_text(PLAIN)
    with pytest.raises(DataError, match=r"labels.csv, labels2.csv of .* may each hold the labels"):
        load(tmp_path)
    (tmp_path / "labels2.csv").unlink()
    assert labels_by_id(*load(tmp_path)) == EXPECTED


def test_tables_that_are_not_used_are_said(tmp_path):
    images(tmp_path / "a")
    (tmp_path / "a" / "metadata.csv").write_text(PLAIN)
    (tmp_path / "a" / "metadata.jsonl").write_text("{}\n")
    assert any("metadata.jsonl is not used" in note for note in load(tmp_path / "a")[0].notes)
    write_folder(tmp_path / "b", 3, split="")
    for name in ("cat", "dog"):
        (tmp_path / "b" / name / "metadata.csv").write_text("file_name,label\n00.png,eel\n")
    train, _ = load(tmp_path / "b")
    assert train.classes == ("cat", "dog")
    assert any("2 tables in the folders of classes are not used" in note for note in train.notes)


@pytest.mark.parametrize("names", [("train.csv", "test.csv"), ("Train.tsv", "val.tsv")])
@pytest.mark.parametrize("place", ["images/", "", "cat/"])
def test_tables_that_list_the_images_of_each_split(tmp_path, names, place):
    images(tmp_path, [place + name for name in NAMES])
    lines = PLAIN.replace(",", "\t" if names[0].endswith("tsv") else ",").splitlines(keepends=True)
    for name, rows in zip(names, (lines[1:9], lines[9:]), strict=True):
        (tmp_path / name).write_text("".join([lines[0], *rows]))
    train, test = load(tmp_path)
    assert labels_by_id(train) == dict(list(EXPECTED.items())[:8])
    assert labels_by_id(test) == dict(list(EXPECTED.items())[8:])
    index = torch.arange(2, len(train))
    out = write_kept(train, index, tmp_path / "out", test=test)
    again, test_again = load(out)
    assert labels_by_id(again) == labels_by_id(train.subset(index))
    assert labels_by_id(test_again) == labels_by_id(test)


@pytest.mark.parametrize("place", ["images", "train test", "."])
def test_an_unlabelled_test_table_is_kept_as_it_is(tmp_path, place):
    first, second = place.split()[0], place.split()[-1]
    images(tmp_path / "in" / first, NAMES[:8])
    images(tmp_path / "in" / second, NAMES[8:])
    lines = PLAIN.splitlines(keepends=True)
    (tmp_path / "in" / "train.csv").write_text("".join(lines[:9]))
    (tmp_path / "in" / "test.csv").write_text("file_name\n" + "".join(f"{name}\n" for name in NAMES[8:]))
    (tmp_path / "in" / "sample_submission.csv").write_text("".join([lines[0], *(f"{n},cat\n" for n in NAMES[8:])]))
    train, test = load(tmp_path / "in", holdout=0.25)
    assert (len(train), len(test)) == (6, 2)
    assert any("test is not used: its labels are missing" in note for note in train.notes)
    lines_logged = []
    out = write_kept(train, torch.arange(5), tmp_path / "out", test=test, log=lines_logged.append)
    assert (out / "test.csv").read_bytes() == (tmp_path / "in" / "test.csv").read_bytes()
    for name in NAMES[8:]:
        path = f"{second}/{name}"
        assert (out / path).read_bytes() == (tmp_path / "in" / path).read_bytes()
    assert any("sample_submission.csv" in line for line in lines_logged)
    again, test_again = load(out)
    assert labels_by_id(again) == labels_by_id(train.subset(torch.arange(5)))
    assert labels_by_id(test_again) == labels_by_id(test)
