"""The patches that a sparse vision transformer keeps, drawn over images block by block."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from datawinnow.core.artifacts import read_table
from datawinnow.core.errors import RunError

SIDE, GAP, HEAD = 96, 6, 14
"""Units of an image's longer side, of the gap between two images, and of the headings above them."""
STROKE = "fill: none; stroke: var(--c2); stroke-width: 1.2"
"""Style of the line through a dropped patch; a veil alone looks like a white patch."""


def patches_section(folder: Path, metadata: dict[str, Any]) -> dict[str, Any] | None:
    """The section of a run's page on ``patches.parquet``; None without that file, or if no patch is dropped.

    Args:
        folder: the run.
        metadata: its ``run.json``.

    Returns:
        ``caption``, a paragraph; ``images``, each with ``svg``, ``wide`` (units), ``title`` and ``id``.

    Raises:
        RunError: the file is damaged, or of another dataset.
    """
    path = folder / "patches.parquet"
    if not path.exists():
        return None
    verb = "train again with: datawinnow train DATA --model vit --levels tokens"
    table, header = read_table(path, verb)
    fingerprint = metadata["dataset"].get("fingerprint")
    if header.get("fingerprint", fingerprint) != fingerprint:
        raise RunError(
            f"{path} belongs to a different dataset (fingerprint {header['fingerprint']}) than the run "
            f"({fingerprint}): {verb}"
        )
    at, rows, columns = header.get("at"), header.get("rows"), header.get("columns")
    if not isinstance(at, list) or not isinstance(rows, int) or not isinstance(columns, int) or not len(table):
        raise RunError(f"{path} lacks the grid of the patches: it is damaged; {verb}")
    lines = table.to_pylist()
    patches = rows * columns
    # Every image keeps equally many patches at each block.
    counts = [patches, *(len(ids) for ids in lines[0]["kept"])]
    if counts[-1] == patches:
        return None
    return {
        "caption": (
            f"The network drops patches after the attention of {'block' if len(at) == 1 else 'blocks'} {_join(at)}: of "
            f"{patches} patches it keeps {', then '.join(str(count) for count in counts[1:])}, those that the class "
            "token attends to most. Dropped patches are struck out."
        ),
        "images": [_image(line, at, rows, columns, f"patches-{i}") for i, line in enumerate(lines)],
    }


def _image(line: dict[str, Any], at: Sequence[int], rows: int, columns: int, name: str) -> dict[str, Any]:
    label, guess = str(line["label_name"]), str(line["guess"])
    return {
        "svg": draw_patches(line["png"], line["kept"], at, rows, columns, name),
        "wide": round((len(at) + 1) * (SIDE + GAP) - GAP),
        "title": f"{label}, classified as {guess}" if guess != label else label,
        "id": str(line["id"]),
    }


def draw_patches(
    png: bytes, kept: Sequence[Sequence[int]], at: Sequence[int], rows: int, columns: int, name: str
) -> Markup:
    """An image, and beside it a copy for each block with the dropped patches veiled and struck out.

    Args:
        png: the image's bytes.
        kept: for each block the kept patches, counted row by row from 0.
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
    elements = [shown, _heading(0, "image")]
    for stage, (block, ids) in enumerate(zip(at, kept, strict=True), start=1):
        left = stage * (width + GAP)
        # Sorted, so that the page is the same bytes each time.
        dropped = sorted(set(range(rows * columns)) - set(ids))
        veil = "".join(
            f"M{left + i % columns * cell:g} {HEAD + i // columns * cell:g}h{cell:g}v{cell:g}h{-cell:g}z"
            for i in dropped
        )
        strokes = "".join(
            f"M{left + i % columns * cell:g} {HEAD + (i // columns + 1) * cell:g}l{cell:g} {-cell:g}" for i in dropped
        )
        elements += [
            # A reference to the first copy: the bytes of the image are in the page once.
            f'<use href="#{name}" x="{left:g}"/>',
            f'<path d="{veil}" style="fill: var(--card); fill-opacity: .8"/>',
            f'<path d="{strokes}" style="{STROKE}"/>',
            _heading(left, f"block {int(block)}: {len(ids)}"),
        ]
    wide = (len(at) + 1) * (width + GAP) - GAP
    opened = f'<svg viewBox="0 0 {wide:g} {HEAD + height:g}" role="presentation" aria-hidden="true" focusable="false">'
    return Markup(opened + "".join(elements) + "</svg>")


def _heading(left: float, text: str) -> str:
    return f'<text x="{left:g}" y="{HEAD - 4}" style="font-size: 9px; fill: var(--muted)">{escape(text)}</text>'


def _join(numbers: Sequence[int]) -> str:
    words = [str(int(number)) for number in numbers]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
