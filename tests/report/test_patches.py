"""The page's part on patches: planted keeps are drawn where they are, and what is damaged is told."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as tree
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from datawinnow.core.artifacts import write_table
from datawinnow.core.errors import RunError
from datawinnow.report import patches

METADATA = {"dataset": {"fingerprint": "f"}}


def drawn_image() -> bytes:
    packed = io.BytesIO()
    Image.new("RGB", (6, 4), (10, 200, 30)).save(packed, format="PNG")
    return packed.getvalue()


def planted(folder: Path, kept: list[list[int]], about: dict[str, Any] | None = None, **line: Any) -> None:
    lines = [{"id": "a.png", "label_name": "cat", "guess": "dog", "png": drawn_image(), "kept": kept, **line}]
    schema = pa.schema(
        [*((name, pa.string()) for name in ("id", "label_name", "guess")), ("png", pa.binary()),
         ("kept", pa.list_(pa.list_(pa.int32())))]
    )  # fmt: skip
    metadata = {"fingerprint": "f", "at": [3, 6], "rows": 2, "columns": 3, "keep": 0.5, **(about or {})}
    write_table(folder / "patches.parquet", pa.Table.from_pylist(lines, schema=schema), metadata)


def cells(path: str) -> set[tuple[float, float]]:
    """Left upper corners of the squares of a path."""
    return {(float(x), float(y)) for x, y in re.findall(r"M([\d.]+) ([\d.]+)h", path)}


def lines(path: str) -> set[tuple[float, float]]:
    """Left lower ends of the strokes of a path, each to the right upper corner of its square."""
    return {(float(x), float(y)) for x, y in re.findall(r"M([\d.]+) ([\d.]+)l32 -32", path)}


def test_the_veil_lies_on_the_patches_that_are_gone(tmp_path):
    planted(tmp_path, [[0, 2, 4], [4]])
    section = patches.patches_section(tmp_path, METADATA)
    assert section["caption"].startswith(
        "The network drops patches after the attention of blocks 3 and 6: of 6 patches it keeps 3, then 1"
    )
    (shown,) = section["images"]
    assert (shown["title"], shown["id"]) == ("cat, classified as dog", "a.png")
    root = tree.fromstring(str(shown["svg"]))
    image, veils, again = root.findall("image"), root.findall("path"), root.findall("use")
    assert len(image) == 1, "the image's bytes are there once"
    assert base64.b64decode(image[0].get("href").split(",", 1)[1]) == drawn_image()
    assert [use.get("href") for use in again] == [f"#{image[0].get('id')}"] * 2
    side, gap, head = 32, patches.GAP, patches.HEAD  # three columns in 96 units
    for stage, gone in enumerate([{1, 3, 5}, {0, 1, 2, 3, 5}], start=1):
        left = stage * (96 + gap)
        veil, strokes = veils[2 * stage - 2 : 2 * stage]
        assert {(x, y - side) for x, y in lines(strokes.get("d"))} == cells(veil.get("d"))
        assert cells(veil.get("d")) == {(left + i % 3 * side, head + i // 3 * side) for i in gone}
        assert float(again[stage - 1].get("x")) == left
    assert [text.text for text in root.findall("text")] == ["image", "block 3: 3", "block 6: 1"]


def test_words_from_outside_are_no_markup(tmp_path):
    planted(tmp_path, [[0], [0]], label_name="<b>&", guess="<b>&", id='"><script>')
    (shown,) = patches.patches_section(tmp_path, METADATA)["images"]
    assert shown["title"] == "<b>&"
    assert not hasattr(shown["title"], "__html__"), "the template escapes it"
    assert "<script" not in shown["svg"]


def test_without_a_file_or_with_every_patch_there_is_no_such_part(tmp_path):
    assert patches.patches_section(tmp_path, METADATA) is None
    planted(tmp_path, [list(range(6))] * 2)
    assert patches.patches_section(tmp_path, METADATA) is None


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"fingerprint": "g"}, r"belongs to a different dataset \(fingerprint g\)"),
        ({"rows": None}, "lacks the grid of the patches"),
    ],
)
def test_a_file_that_does_not_fit_is_told(tmp_path, about, message):
    planted(tmp_path, [[0], [0]], about)
    with pytest.raises(RunError, match=message):
        patches.patches_section(tmp_path, METADATA)
