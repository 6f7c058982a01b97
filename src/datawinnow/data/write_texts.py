"""Kept texts, written as they stood in their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from datawinnow.core.errors import DataError
from datawinnow.data.records import Record, read_records
from datawinnow.data.text_columns import label_of, text_of
from datawinnow.data.texts import Texts

Rows = np.ndarray[Any, np.dtype[np.int64]]


def write_text_file(dataset: Texts, index: Rows, rows: Rows, part: Path) -> None:
    """``PART/train.tsv`` (or ``.csv``, ``.jsonl``): the lines of the kept examples, byte for byte, under the names.

    Args:
        dataset: what was loaded.
        index: (m,) positions in it, rising.
        rows: (m,) their records in the concatenated files.
        part: folder to write into.

    Raises:
        DataError: the files changed since they were loaded, or the labels are no longer theirs.
    """
    origin = dataset.origin
    assert origin is not None  # the caller looked at its layout
    wanted = dict(zip(rows.tolist(), index.tolist(), strict=True))
    named, row, done = bool(origin.columns.get("header")), -1, 0
    suffix = Path(origin.files[0]).suffix
    target = part / f"train{suffix.lower()}"
    with target.open("w", encoding="utf-8", errors="surrogateescape", newline="") as out:
        for k, path in enumerate(origin.files):
            names: list[str] = []
            for record in read_records(Path(path)):
                if named and not names and isinstance(record.cells, list) and not record.wrong:
                    names = [cell.strip() for cell in record.cells]
                    if k == 0:
                        out.write(_ended(record.raw))
                    continue
                row += 1
                if row in wanted:
                    _check_same(dataset, wanted[row], record, names, path)
                    out.write(_ended(record.raw))
                    done += 1
    if done != len(wanted):
        raise DataError(f"{origin.path} has fewer lines than when it was loaded; load the data again")


def write_text_lines(dataset: Texts, index: Rows, part: Path) -> None:
    """``PART/train.jsonl`` of texts that came from no file: an object with ``text`` and ``label`` a line."""
    with (part / "train.jsonl").open("w", encoding="utf-8", newline="") as out:
        for i in index.tolist():
            label = dataset.classes[int(dataset.labels[i])]
            out.write(json.dumps({"text": dataset.texts[i], "label": label}, ensure_ascii=False) + "\n")


def _ended(raw: str) -> str:
    """A record whose last line may have had no end."""
    return raw if raw.endswith(("\n", "\r")) else raw + "\n"


def _check_same(dataset: Texts, i: int, record: Record, names: list[str], path: str) -> None:
    columns = dataset.origin.columns if dataset.origin is not None else {}
    cells = record.cells
    found: dict[str, Any] = (
        cells if isinstance(cells, dict) else dict(zip(names or map(str, range(len(cells))), cells, strict=False))
    )
    text, label = text_of(found.get(columns["text"]))[0], label_of(found.get(columns["label"]))[0]
    now = dataset.classes[int(dataset.labels[i])]
    if text != dataset.texts[i] or not _same(str(label), now):
        raise DataError(
            f"line {record.line} of {path} says {label!r} where the dataset in memory says {now!r}, or another text: "
            "either its labels were changed (a scenario), so that the file it came in cannot hold it, or the source "
            "changed since it was loaded"
        )


def _same(found: str, now: str) -> bool:
    """Whether two spellings mean one label: numbers may have a sign or zeros in front."""
    return found == now or (found.isascii() and found.isdigit() and now.isdigit() and int(found) == int(now))
