"""Which patches a sparse vision transformer kept, layer by layer, drawn over the images."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from datawinnow.core.errors import RunError
from datawinnow.core.tables import read_table

FILE = "patches.parquet"
SIDE, GAP, HEAD = 96, 6, 14
"""Units of an image's longer side, between two images, and above them for words."""
STROKE = "fill: none; stroke: var(--c2); stroke-width: 1.2"
"""Of the line through what is gone: a veil alone is not to be told from a white patch."""


def section(folder: Path, metadata: dict[str, Any]) -> dict[str, Any] | None:
    """What the page shows of ``patches.parquet``; None where there is none.

    Args:
        folder: the run.
        metadata: its ``run.json``.

    Returns:
        ``says``, a paragraph; ``images``, each with ``svg``, ``wide`` (units), ``title`` and ``counts``.

    Raises:
        RunError: the file is damaged, or of another dataset.
    """
    path = folder / FILE
    if not path.exists():
        return None
    verb = "train again with: datawinnow train DATA --model vit --levels tokens"
    table, about = read_table(path, verb)
    own = metadata["dataset"].get("fingerprint")
    if about.get("fingerprint", own) != own:
        raise RunError(
            f"{path} is of another dataset (fingerprint {about['fingerprint']}) than the run ({own}): {verb}"
        )
    at, rows, columns = about.get("at"), about.get("rows"), about.get("columns")
    if not isinstance(at, list) or not isinstance(rows, int) or not isinstance(columns, int) or not len(table):
        raise RunError(f"{path} lacks the grid of the patches: it is damaged; {verb}")
    lines = table.to_pylist()
    patches = rows * columns
    counts = [patches, *(len(ids) for ids in lines[0]["kept"])]
    if counts[-1] == patches:  # keys were left out, and no patch
        return None
    return {
        "says": (
            f"The network leaves patches out after the attention of {'block' if len(at) == 1 else 'blocks'} "
            f"{_listed(at)}: of {patches} patches {', then '.join(str(count) for count in counts[1:])} stay, those "
            "that the class token attends to most. What is gone is struck out."
        ),
        "images": [_image(line, at, rows, columns, f"patches-{i}") for i, line in enumerate(lines)],
    }


def _image(line: dict[str, Any], at: Sequence[int], rows: int, columns: int, name: str) -> dict[str, Any]:
    label, guess = str(line["label_name"]), str(line["guess"])
    return {
        "svg": drawn(line["png"], line["kept"], at, rows, columns, name),
        "wide": round((len(at) + 1) * (SIDE + GAP) - GAP),
        "title": f"{label}, taken for {guess}" if guess != label else label,
        "id": str(line["id"]),
    }


def drawn(png: bytes, kept: Sequence[Sequence[int]], at: Sequence[int], rows: int, columns: int, name: str) -> Markup:
    """An image, and beside it the same after each block with the patches that are gone veiled and struck out.

    Args:
        png: the image's bytes.
        kept: for each block the patches that stay, counted row by row from 0.
        at: the blocks' numbers.
        rows: of patches.
        columns: of patches.
        name: letters, digits and dashes, unique in the page.

    Returns:
        An ``<svg>`` element; the image's bytes are in it once.
    """
    cell = SIDE / max(rows, columns)
    width, height = cell * columns, cell * rows
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    shown = (
        f'<image id="{name}" href="{source}" y="{HEAD}" width="{width:g}" height="{height:g}" '
        'preserveAspectRatio="none" style="image-rendering: pixelated"/>'
    )
    parts = [shown, _word(0, "image")]
    for stage, (block, ids) in enumerate(zip(at, kept, strict=True), start=1):
        left = stage * (width + GAP)
        gone = sorted(set(range(rows * columns)) - set(ids))
        veil = "".join(
            f"M{left + i % columns * cell:g} {HEAD + i // columns * cell:g}h{cell:g}v{cell:g}h{-cell:g}z" for i in gone
        )
        strokes = "".join(
            f"M{left + i % columns * cell:g} {HEAD + (i // columns + 1) * cell:g}l{cell:g} {-cell:g}" for i in gone
        )
        parts += [
            f'<use href="#{name}" x="{left:g}"/>',
            f'<path d="{veil}" style="fill: var(--card); fill-opacity: .8"/>',
            f'<path d="{strokes}" style="{STROKE}"/>',
            _word(left, f"block {int(block)}: {len(ids)}"),
        ]
    wide = (len(at) + 1) * (width + GAP) - GAP
    opened = f'<svg viewBox="0 0 {wide:g} {HEAD + height:g}" role="presentation" aria-hidden="true" focusable="false">'
    return Markup(opened + "".join(parts) + "</svg>")


def _word(left: float, text: str) -> str:
    return f'<text x="{left:g}" y="{HEAD - 4}" style="font-size: 9px; fill: var(--muted)">{escape(text)}</text>'


def _listed(numbers: Sequence[int]) -> str:
    words = [str(int(number)) for number in numbers]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
