"""The contents of datasets of every kind, read once: duplicates across splits, and what is broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datawinnow.audit.contents import content_issues, near_duplicates, read_contents
from datawinnow.core.errors import ArgumentError
from datawinnow.core.issues import Issue, IssueTable
from datawinnow.data.examples import Examples
from datawinnow.data.load import load
from tests.audit.test_duplicates import photographs


def places(issues: list[Issue]) -> set[tuple[str, str, int]]:
    return {(issue.issue, issue.split, issue.example) for issue in issues}


def examples(x: torch.Tensor, labels: list[int] | None = None) -> Examples:
    return Examples(x, torch.tensor(labels or [0] * len(x)), ("cat", "dog"))


def test_images_of_both_splits_are_compared() -> None:
    x = photographs(30)
    x[3], x[4], x[7] = x[2], x[2].flip(2), 9
    test = photographs(5, seed=1)
    test[1], test[2] = x[20], x[21].flip(2)
    contents = read_contents(examples(x), examples(test))
    issues, groups = content_issues(contents, labels=[0] * 35)
    assert places(issues) == {
        ("duplicate", "train", 2),
        ("duplicate", "train", 3),
        ("near_duplicate", "train", 4),
        ("leakage", "train", 20),
        ("leakage", "test", 1),
        ("leakage", "train", 21),
        ("leakage", "test", 2),
        ("broken", "train", 7),
    }
    assert np.flatnonzero(groups.drop).tolist() == [3, 4, 20, 21]
    assert len(IssueTable.of(issues, ids={"train": list(map(str, range(30))), "test": list("abcde")})) == len(issues)
    without, _ = content_issues(contents, near=False)
    assert places(without) == {place for place in places(issues) if place[0] != "near_duplicate"} - {
        ("leakage", "train", 21),
        ("leakage", "test", 2),
    }


def test_a_folder_of_images_shows_odd_sizes_and_unreadable_files(tmp_path: Path) -> None:
    x = photographs(24, side=48)
    for i, image in enumerate(x):
        folder = tmp_path / ("cat" if i % 2 else "dog")
        folder.mkdir(exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i:02}.png")
    Image.fromarray(np.tile(x[0].permute(1, 2, 0).numpy(), (1, 6, 1))).save(tmp_path / "cat" / "wide.png")
    train, test = load(str(tmp_path), memory=1)  # decoded on demand
    assert not hasattr(train, "x")
    names = {"train": [train.id_of(i) for i in range(len(train))], "test": [test.id_of(i) for i in range(len(test))]}
    damaged = next(name for name in names["train"] if "wide" not in name)
    (tmp_path / damaged).write_bytes(b"no image")
    issues, _ = content_issues(read_contents(train, test))
    by_name = {names[issue.split][issue.example]: issue for issue in issues if issue.issue == "broken"}
    assert set(by_name) == {damaged, "cat/wide.png"}
    assert "cannot be read" in by_name[damaged].evidence
    assert "odd size: 288x48 pixels, 6.0 times as wide" in by_name["cat/wide.png"].evidence


def test_images_too_small_to_be_told_apart_are_compared_exactly_only() -> None:
    x = torch.randint(0, 256, (10, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    x[4], x[5] = x[3], x[2].flip(2)
    contents = read_contents(examples(x))
    assert near_duplicates(contents) == (None, None)
    assert places(content_issues(contents)[0]) == {("duplicate", "train", 3), ("duplicate", "train", 4)}


def test_texts_and_vectors(tmp_path: Path) -> None:
    lines = [f"sentence number {word} of the list\t{i % 2}" for i, word in enumerate("abcdefghij")]
    lines += ["Sentence number C, of the list!\t0", lines[4]]
    (tmp_path / "train.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "test.tsv").write_text("unseen words here\t0\nSENTENCE number d of the list\t1\n")
    train, test = load(str(tmp_path))
    issues, _ = content_issues(read_contents(train, test), labels=[*train.labels.tolist(), *test.labels.tolist()])
    assert places(issues) == {
        ("near_duplicate", "train", 2),
        ("near_duplicate", "train", 10),
        ("duplicate", "train", 4),
        ("duplicate", "train", 11),
        ("leakage", "train", 3),
        ("leakage", "test", 1),
    }
    vectors = torch.randn(60, 12, generator=torch.Generator().manual_seed(0))
    vectors[1], vectors[3] = vectors[0], vectors[2] + 1e-3
    contents = read_contents(examples(vectors))
    assert places(content_issues(contents)[0]) == {
        ("duplicate", "train", 0),
        ("duplicate", "train", 1),
        ("near_duplicate", "train", 2),
        ("near_duplicate", "train", 3),
    }


def test_vectors_with_nan_are_broken_and_compared_with_none() -> None:
    class Numbers:
        """A dataset with NaN, which `Examples` refuses."""

        shape = (12,)

        def __init__(self, x: torch.Tensor) -> None:
            self.x = x

        def __len__(self) -> int:
            return len(self.x)

    x = torch.randn(60, 12, generator=torch.Generator().manual_seed(0))
    x[5, 2] = torch.nan
    x[9] = x[8] + 1e-3
    issues, _ = content_issues(read_contents(Numbers(x)))
    assert places(issues) == {("broken", "train", 5), ("near_duplicate", "train", 8), ("near_duplicate", "train", 9)}


def test_embeddings_are_compared_where_they_are_given() -> None:
    x = photographs(40)
    contents = read_contents(examples(x))
    embeddings = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    embeddings[7] = 3 * embeddings[6] + 1e-3
    issues, _ = content_issues(contents, embeddings=embeddings)
    assert places(issues) == {("near_duplicate", "train", 6), ("near_duplicate", "train", 7)}
    assert "nearly the embedding of train" in issues[1].evidence
    with pytest.raises(ArgumentError, match="embeddings has 39"):
        near_duplicates(contents, embeddings=embeddings[1:])


def test_files_of_other_sizes_and_formats_are_near_duplicates(tmp_path: Path) -> None:
    images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in photographs(40, side=120)]
    for i, image in enumerate(images):
        folder = tmp_path / ("cat" if i % 2 else "dog")
        folder.mkdir(exist_ok=True)
        image.save(folder / f"{i:02}.png")
    copies = tmp_path / "cat"
    images[0].resize((90, 90)).save(copies / "smaller.png")
    images[2].resize((200, 180)).save(copies / "stretched.jpg", quality=80)
    images[4].transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(copies / "mirrored.webp", quality=80)
    images[6].save(copies / "same.bmp")
    train, test = load(str(tmp_path))
    contents = read_contents(train, test)
    ids = {"train": [train.id_of(i) for i in range(len(train))], "test": [test.id_of(i) for i in range(len(test))]}
    issues, groups = content_issues(contents, ids=ids)
    names = ids["train"] + ids["test"]
    pairs = {
        frozenset({names[i], names[int(groups.original[i])]})
        for i in np.flatnonzero(groups.group >= 0).tolist()
        if groups.original[i] != i
    }
    assert pairs == {
        frozenset({"dog/00.png", "cat/smaller.png"}),
        frozenset({"dog/02.png", "cat/stretched.jpg"}),
        frozenset({"dog/04.png", "cat/mirrored.webp"}),
        frozenset({"dog/06.png", "cat/same.bmp"}),
    }
    assert {groups.is_exact[i] for i in range(len(names)) if "same" in names[i] or "06" in names[i]} >= {True}
    assert {issue.issue for issue in issues} <= {"duplicate", "near_duplicate", "leakage"}
