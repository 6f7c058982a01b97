"""What was taken for what, in a sentence: splits, classes, columns and sizes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core.counts import many
from datawinnow.data.other_test import described_test
from datawinnow.data.splits import count_by_class, shortened_list


def summary_notes(train: Any, test: Any) -> tuple[str, ...]:
    """Notes on how a dataset was read: what each split holds and where it is from, and classes without a test example.

    Args:
        train: training split, with ``labels`` and ``classes``; its ``origin`` and ``shape`` where it has them.
        test: test split.
    """
    train_counts, test_counts = _class_counts(train.labels, train), _class_counts(test.labels, train)
    splits = " and ".join(
        f"{many(len(split), f'{name} example')}{_source_of(split)} ({count_by_class(train.classes, counts)})"
        for name, split, counts in (("training", train, train_counts), ("test", test, test_counts))
    )
    contents = _contents(train)
    notes = [f"read {splits}{f'; {contents}' if contents else ''}"]
    untested = [name for name, k, m in zip(train.classes, train_counts, test_counts, strict=True) if k and not m]
    if untested:
        notes.append(
            f"{len(untested):,} of {len(train.classes):,} classes have no test example: {shortened_list(untested, 10)}"
        )
    return tuple(notes)


def _class_counts(labels: Tensor, train: Any) -> list[int]:
    return [int(count) for count in torch.bincount(labels, minlength=len(train.classes)).tolist()]


def _source_of(split: Any) -> str:
    origin = getattr(split, "origin", None)
    if origin is not None and getattr(origin, "is_other", False):
        return f" of {described_test(split, origin.path)}"
    name = getattr(origin, "split", "")
    return f" of {name!r}" if name else ""


def _contents(train: Any) -> str:
    """Kind and size of the examples, and the columns that they and their labels are from."""
    columns = dict(getattr(getattr(train, "origin", None), "columns", None) or {})
    shape = getattr(train, "shape", None)
    is_text = hasattr(train, "texts")
    if shape is None:
        kind = ""
    elif is_text:
        kind = f"texts of at most {shape[0]} tokens"
    elif len(shape) == 3:
        kind = f"images of {shape[2]}x{shape[1]} pixels in {shape[0]} channel{'s' if shape[0] > 1 else ''}"
    else:
        kind = f"vectors of {' x '.join(map(str, shape))} numbers"
    key = columns.get("text" if is_text else "image")
    phrases = [f"{kind} from column {key!r}" if key and kind else kind]
    if columns.get("label"):
        phrases.append(f"labels from column {columns['label']!r}")
    elif getattr(getattr(train, "origin", None), "layout", "") == "folder":
        phrases.append("labels from the folders' names")
    return ", ".join(phrase for phrase in phrases if phrase)
