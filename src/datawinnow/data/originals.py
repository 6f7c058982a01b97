"""The images of a dataset as their source has them, before they were resized for a network."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from datawinnow.data.arrow import ArrowImages, ParquetImages, count_rows
from datawinnow.data.examples import Examples, LazyExamples, Origin
from datawinnow.data.images import Plan, Raw, decode, size_of, thumbnail_of


class Originals:
    """Thumbnails of a dataset's images, each made from its file or its bytes in a table.

    One image is decoded at a time, a large JPEG at a fraction of its size.

    Args:
        dataset: of `load`; of another there are no originals.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def thumbnail(self, i: int, side: int) -> Image.Image | None:
        """Image ``i``, upright and on white, at most ``side`` pixels high and wide.

        Returns:
            None where the dataset was not read from images, or where the source is gone or shows something else than
            the dataset does: it was changed since, or the dataset was (a scenario).
        """
        try:
            raw = self._raw(i)
            if raw is None or not self._is_shown_by(raw, i):
                return None
            return thumbnail_of(raw, side)
        except Exception:  # a file that is gone or damaged by now: decoders raise anything
            return None

    def size(self, i: int) -> tuple[int, int] | None:
        """(height, width) in pixels of image ``i`` in its source; None where there is none or it is damaged."""
        try:
            raw = self._raw(i)
            return None if raw is None else size_of(raw)
        except Exception:  # as in `thumbnail`
            return None

    def _raw(self, i: int) -> Raw:
        data = self._dataset
        if isinstance(data, LazyExamples):
            return data.images.raw(i)
        origin = data.origin if isinstance(data, Examples) and data.x.dtype is torch.uint8 else None
        if origin is None or not origin.files:
            return None
        row = i if origin.rows is None else int(origin.rows[i])
        if origin.layout == "folder":
            return Path(origin.files[row])
        return self._table.raw(row) if origin.layout in ("parquet", "arrow", "hf") else None

    @cached_property
    def _table(self) -> ParquetImages | ArrowImages:
        origin: Origin = self._dataset.origin
        reader = ParquetImages if origin.files[0].endswith(".parquet") else ArrowImages
        return reader(origin.files, origin.columns["image"], [count_rows(file) for file in origin.files])

    def _is_shown_by(self, raw: Raw, i: int) -> bool:
        if not isinstance(self._dataset, Examples):
            return True
        x = self._dataset.x[i]
        channels, height, width = x.shape
        return np.array_equal(decode(raw, Plan(height, width, channels))[0], x.numpy())
