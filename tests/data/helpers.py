"""Little real images on disk, in every layout that `load` reads."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def pixels(n: int, size: int = 8, *, seed: int = 0, grey: bool = False) -> np.ndarray:
    """(n, size, size, 3) or (n, size, size) random bytes: any mix-up of rows, axes or channels shows."""
    shape = (n, size, size) if grey else (n, size, size, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(array: np.ndarray, kind: str = "PNG", **options) -> bytes:
    """An image file's bytes."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def write_folder(
    root: Path,
    per_class: int = 5,
    classes=("cat", "dog"),
    split: str = "train",
    *,
    size: int = 8,
    seed: int = 0,
    grey=False,
) -> dict[str, np.ndarray]:
    """``root/split/class/NN.png`` (no split folder when ""), and their pixels by relative path."""
    written = {}
    for c, name in enumerate(classes):
        folder = root / split / name
        folder.mkdir(parents=True)
        for i, array in enumerate(pixels(per_class, size, seed=100 * seed + c, grey=grey)):
            (folder / f"{i:02d}.png").write_bytes(encoded(array))
            written[(folder / f"{i:02d}.png").relative_to(root).as_posix()] = array
    return written


def table(arrays, labels, *, names=None, image: str = "img", label: str = "label", flat: bool = False, extra=None):
    """An Arrow table in the hub's layout."""
    cells = [a if a is None or isinstance(a, bytes) else encoded(a) for a in arrays]
    kind = pa.binary() if flat else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    column = pa.array(cells if flat else [{"bytes": c, "path": None} for c in cells], kind)
    labels = labels if isinstance(labels, pa.Array) else pa.array(labels)
    columns_table = pa.table({image: column, label: labels, **(extra or {})})
    if names is not None:
        features = {image: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
        columns_table = columns_table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
    return columns_table


def write_parquet(path: Path, arrays, labels, *, rows: int = 3, **options) -> Path:
    """A Parquet file with small row groups."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(arrays, labels, **options), path, row_group_size=rows)
    return path


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is huge."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
