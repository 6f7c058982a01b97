"""Images in Parquet and Arrow files."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datawinnow.core.errors import DataError
from datawinnow.core.files import atomic_write
from datawinnow.data import cache
from datawinnow.data.columns import open_arrow, reading, row_in_words
from datawinnow.data.images import Encoded, Index, Raw

CACHED_BYTES = 256 << 20
"""Row groups that a Parquet source keeps for random access, per process."""


class TableImages(Encoded):
    """Rows of an image column over several files; ``rows`` picks some of the concatenated rows."""

    def __init__(self, paths: Sequence[str], column: str, sizes: Sequence[int], rows: Index | None = None) -> None:
        self.paths, self.column, self.sizes, self.rows = tuple(paths), column, tuple(sizes), rows

    def __getstate__(self) -> dict[str, Any]:  # open files and cached rows stay in their process
        return {k: self.__dict__[k] for k in ("paths", "column", "sizes", "rows")}

    def __len__(self) -> int:
        return sum(self.sizes) if self.rows is None else len(self.rows)

    def take(self, index: Index) -> Encoded:
        """The images at ``index`` (m,)."""
        return type(self)(self.paths, self.column, self.sizes, index if self.rows is None else self.rows[index])

    def files(self) -> list[str]:
        """The tables' files."""
        return list(self.paths)

    def chosen(self) -> bytes:
        """The column and the rows."""
        return self.column.encode() + (b" all" if self.rows is None else self.rows.tobytes())

    @cached_property
    def starts(self) -> list[int]:
        """The first row of each file."""
        return [0, *np.cumsum(self.sizes)[:-1].tolist()]

    def row(self, i: int) -> int:
        """The concatenated row of image ``i``."""
        return i if self.rows is None else int(self.rows[i])

    def where(self, i: int) -> str:
        """Row and file of image ``i``."""
        return row_in_words(self.row(i), self.paths, self.starts)

    def picked(self, file: int, cell: Any) -> Raw:
        """The bytes in a cell; or the file that it names, inside the table's own folder."""
        if not isinstance(cell, dict):
            return None if cell is None else bytes(cell)
        if cell.get("bytes"):
            return bytes(cell["bytes"])
        if not cell.get("path"):
            return None
        folder = Path(self.paths[file]).resolve().parent
        path = Path(folder, str(cell["path"])).resolve()
        if not path.is_relative_to(folder) or not path.is_file():  # a table from elsewhere names no file of ours
            raise ValueError(f"there are no image bytes, and no file {cell['path']!r} below {folder}")
        return path


class ParquetImages(TableImages):
    """Images in Parquet files: streamed in order; any single one at the price of its row group."""

    @cached_property
    def _groups(self) -> OrderedDict[tuple[int, int], Any]:
        return OrderedDict()

    @cached_property
    def _readers(self) -> list[tuple[Any, list[int]]]:
        readers = []
        for path in self.paths:
            with reading(path):
                file = pq.ParquetFile(path)
                sizes = [file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups)]
                readers.append((file, [0, *np.cumsum(sizes).tolist()]))
        return readers

    def raw(self, i: int) -> Raw:
        """The bytes of image ``i``, from its row group; recent groups are kept."""
        row = self.row(i)
        file = bisect_right(self.starts, row) - 1
        reader, bounds = self._readers[file]
        group = bisect_right(bounds, row - self.starts[file]) - 1
        column = self._groups.get((file, group))
        if column is None:
            with reading(self.paths[file]):
                column = reader.read_row_group(group, columns=[self.column]).column(0).combine_chunks()
            self._groups[file, group] = column
            while len(self._groups) > 1 and sum(c.nbytes for c in self._groups.values()) > CACHED_BYTES:
                self._groups.popitem(last=False)
        self._groups.move_to_end((file, group))
        return self.picked(file, column[row - self.starts[file] - bounds[group]].as_py())

    def blocks(self, size: int = 128) -> Iterator[list[Raw]]:
        """All images in order, streamed when the rows rise."""
        if self.rows is not None and np.any(np.diff(self.rows) <= 0):
            yield from super().blocks(size)
            return
        for file, path in enumerate(self.paths):
            first = self.starts[file]
            with reading(path):
                batches = iter(pq.ParquetFile(path).iter_batches(size, columns=[self.column]))
            while True:
                with reading(path):
                    batch = next(batches, None)
                if batch is None:
                    break
                wanted = self._wanted(first, first + len(batch))
                first += len(batch)
                column = batch.column(0)
                if wanted is not None:
                    column = column.take(pa.array(wanted))
                if len(column):
                    yield [_or_error(self, file, cell) for cell in column.to_pylist()]

    def _wanted(self, first: int, end: int) -> Index | None:
        if self.rows is None:
            return None
        low, high = np.searchsorted(self.rows, [first, end])
        return self.rows[low:high] - first

    def for_random_access(self) -> Encoded:
        """A copy as Arrow in the cache folder, where one row is one read; itself when there is no room for that.

        A shuffled epoch over Parquet would decompress a whole row group for every image.
        """
        which, state = ParquetImages(self.paths, self.column, self.sizes).key()
        path = cache.cached_file((which, state), ".arrow")
        if path is None:
            return self
        size = sum(Path(p).stat().st_size for p in self.paths)
        if not self._copied(path):
            if not cache.room_for(path, 2 * size):
                return self
            self._copy(path)
            cache.drop_older(path)
        return ArrowImages([str(path)], self.column, [sum(self.sizes)], self.rows, self)

    def _copied(self, path: Path) -> bool:
        try:
            return path.is_file() and open_arrow(str(path)).num_rows == sum(self.sizes)
        except DataError:  # damaged: copied again
            return False

    def _copy(self, path: Path) -> None:
        kind = pa.large_binary()
        schema = pa.schema([(self.column, kind)])
        whole = ParquetImages(self.paths, self.column, self.sizes)
        with atomic_write(path) as part, pa.OSFile(str(part), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for block in whole.blocks():
                cells = [raw.read_bytes() if isinstance(raw, Path) else raw for raw in block]
                writer.write_batch(pa.record_batch([pa.array(cells, kind)], schema=schema))


def _or_error(images: TableImages, file: int, cell: Any) -> Raw:
    try:
        return images.picked(file, cell)
    except ValueError:
        return None  # said again, with the row, when it is decoded


class ArrowImages(TableImages):
    """Images in memory-mapped Arrow stream files: any one is one read."""

    def __init__(
        self,
        paths: Sequence[str],
        column: str,
        sizes: Sequence[int],
        rows: Index | None = None,
        copied: TableImages | None = None,
    ) -> None:
        super().__init__(paths, column, sizes, rows)
        self.copied = copied

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "copied": self.copied}

    def take(self, index: Index) -> Encoded:
        """The images at ``index`` (m,)."""
        rows = index if self.rows is None else self.rows[index]
        copied = None if self.copied is None else self.copied.take(index)
        return ArrowImages(self.paths, self.column, self.sizes, rows, copied)  # type: ignore[arg-type]

    def where(self, i: int) -> str:
        """Row and file of image ``i``; of the Parquet file, when this is its copy."""
        return super().where(i) if self.copied is None else self.copied.where(i)

    def picked(self, file: int, cell: Any) -> Raw:
        """The bytes in a cell, or the file that it names: `datasets` fetched it and wrote where it put it."""
        if isinstance(cell, dict) and not cell.get("bytes") and cell.get("path"):
            path = Path(cell["path"])
            if not path.is_file():
                raise ValueError(f"there are no image bytes, and no file {cell['path']!r}")
            return path
        return super().picked(file, cell)

    @cached_property
    def _columns(self) -> list[tuple[list[Any], list[int]]]:
        columns = []
        for path in self.paths:
            chunks = open_arrow(path).column(self.column).chunks
            columns.append((chunks, [0, *np.cumsum([len(c) for c in chunks]).tolist()]))
        return columns

    def raw(self, i: int) -> Raw:
        """The bytes of image ``i``."""
        row = self.row(i)
        file = bisect_right(self.starts, row) - 1
        chunks, bounds = self._columns[file]
        chunk = bisect_right(bounds, row - self.starts[file]) - 1
        return self.picked(file, chunks[chunk][row - self.starts[file] - bounds[chunk]].as_py())
