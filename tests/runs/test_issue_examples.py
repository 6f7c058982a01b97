"""What the page of an audit shows: images and texts of the examples with issues, the worst first."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datawinnow.core.artifacts import read_table
from datawinnow.core.issues import Issue, IssueTable
from datawinnow.data.examples import Examples
from datawinnow.data.load import load
from datawinnow.runs import issue_examples
from datawinnow.runs.issue_examples import write_issue_examples, write_learning


def dataset(n: int = 12) -> Examples:
    x = torch.zeros(n, 3, 16, 16, dtype=torch.uint8)
    x[:, 0] = (20 * torch.arange(n)).to(torch.uint8)[:, None, None]
    return Examples(x, torch.zeros(n, dtype=torch.int64), ("a",))


def table(rows: list[Issue], n: int = 12) -> IssueTable:
    return IssueTable.of(rows, ids={"train": [str(i) for i in range(n)], "test": [str(i) for i in range(n)]})


def read(path: Path) -> list[dict[str, object]]:
    columns, metadata = read_table(path, "datawinnow audit")
    assert metadata["fingerprint"] == "ab" * 8
    return columns.to_pylist()


ROWS = [
    Issue("label", 3, 0.2, "e"),
    Issue("label", 4, 0.9, "e"),
    Issue("outlier", 3, 0.5, "e"),
    Issue("leakage", 7, 1.0, "e", split="test", group=0),
    Issue("confused", -1, 0.5, "e"),
]


def test_each_example_has_its_image_once(tmp_path: Path) -> None:
    data = dataset()
    rows = read(write_issue_examples(tmp_path, table(ROWS), {"train": data, "test": data}, "ab" * 8))
    assert {(row["split"], row["example"]) for row in rows} == {("train", 3), ("train", 4), ("test", 7)}
    assert len(rows) == 3
    for row in rows:
        image = Image.open(io.BytesIO(row["image"]))  # type: ignore[arg-type]
        assert image.format == "WEBP"
        assert image.size == (16, 16)
        assert row["side"] == 16
        assert row["text"] is None
    assert len({row["image"] for row in rows}) == 3


def test_the_worst_of_each_kind_come_first_where_not_all_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issue_examples, "MAX_IMAGES", 3)
    rows = [Issue("label", i, 1 - i / 20, "e") for i in range(10)] + [Issue("outlier", 11, 0.1, "e")]
    shown = read(write_issue_examples(tmp_path, table(rows), {"train": dataset()}, "ab" * 8))
    assert [row["example"] for row in shown] == [0, 11, 1]
    monkeypatch.setattr(issue_examples, "IMAGE_BYTES", 1)
    assert len(read(write_issue_examples(tmp_path, table(rows), {"train": dataset()}, "ab" * 8))) == 1


def test_texts_are_shortened_and_vectors_have_none(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    lines = [f"{'word ' * 200}{i}\t{'ab'[i % 2]}" for i in range(10)]
    (tmp_path / "data" / "train.tsv").write_text("\n".join(lines) + "\n")
    train, _ = load(str(tmp_path / "data"))
    (row,) = read(write_issue_examples(tmp_path, table(ROWS[:1]), {"train": train}, "ab" * 8))
    assert isinstance(row["text"], str)
    assert 200 < len(row["text"]) <= 300
    vectors = Examples(torch.zeros(5, 3), torch.zeros(5, dtype=torch.int64), ("a",))
    assert read(write_issue_examples(tmp_path, table(ROWS[:1]), {"train": vectors}, "ab" * 8)) == []


def test_an_image_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    for i in range(8):
        folder = tmp_path / "data" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (90, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    train, _ = load(str(tmp_path / "data"), memory=1)
    (tmp_path / "data" / train.id_of(3)).write_bytes(b"")
    rows = [Issue("broken", i, 1.0, "e") for i in (3, 4)]
    (row,) = read(write_issue_examples(tmp_path, table(rows), {"train": train}, "ab" * 8))
    assert row["example"] == 4
    assert row["side"] == 64


def test_the_data_map_has_mean_and_spread(tmp_path: Path) -> None:
    p_label = torch.tensor([[0.2, 0.5], [0.6, 0.5]])
    columns, metadata = read_table(write_learning(tmp_path, p_label, "ab" * 8), "datawinnow audit")
    assert metadata["fingerprint"] == "ab" * 8
    assert columns["p_mean"].to_pylist() == pytest.approx([0.4, 0.5])
    assert columns["p_std"].to_pylist()[1] == 0.0
