"""The mark in a folder of kept examples: which classes their dataset has, of some of which none may be kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datawinnow.core.artifacts import read_json, write_json

OUTPUT_MARK = ".datawinnow.json"
"""File in a folder of kept examples, so that it is not read as a class of the dataset that it lies in."""


def write_output_mark(folder: Path, num_kept: int, classes: Sequence[str]) -> None:
    """Mark a folder as kept examples of a dataset with these classes, in the order of their ids."""
    write_json(folder / OUTPUT_MARK, {"kind": "kept", "n": num_kept, "classes": list(classes)})


def kept_classes(source: Path) -> tuple[str, ...]:
    """Classes of the dataset of which a folder, or a file in it, holds the kept examples; none without a mark.

    Raises:
        RunError: the mark is damaged.
    """
    path = (source if source.is_dir() else source.parent) / OUTPUT_MARK
    return tuple(map(str, read_json(path, kind="kept").get("classes", ()))) if path.is_file() else ()
