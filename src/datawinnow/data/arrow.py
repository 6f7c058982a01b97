"""Arrow and Parquet files: their columns of labels, class names and encoded images."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from datawinnow.core.artifacts import HEADER_KEY
from datawinnow.core.errors import DataError, DatawinnowError
from datawinnow.core.files import atomic_write
from datawinnow.data import cache
from datawinnow.data.images import Encoded, Index, Raw
from datawinnow.data.splits import split_columns

IMAGE_NAMES = ("img", "image", "images", "image", "pixel_values")
LABEL_NAMES = ("label", "labels", "fine_label", "target", "class", "cls")


@contextmanager
def convert_errors(path: str | Path) -> Iterator[None]:
    """Convert the errors of Arrow about a damaged file to a `DataError` that names the file."""
    try:
        yield
    except DatawinnowError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of names of columns
        if isinstance(error, FileNotFoundError):
            raise DataError(f"no such file: {path}") from None
        first = str(error).strip().split("\n")[0][:200]
        raise DataError(
            f"{path} is not a complete {_kind(path)} file ({first}); it may be truncated: fetch it again"
        ) from error


def _kind(path: str | Path) -> str:
    return "Parquet" if str(path).endswith(".parquet") else "Arrow"


def is_artifact(path: Path) -> bool:
    """Whether a Parquet file holds scores or a selection that datawinnow wrote, and no dataset."""
    try:
        return HEADER_KEY.encode() in (read_schema(str(path)).metadata or {})
    except DataError:  # damaged, which is reported when it is read
        return False


NUMBERS_HINT = "; a table of numbers is read in Python, dw.load(pandas.read_parquet(file), label=...)"
"""What to do with vectors, for errors."""


def choose_columns(schema: Any, where: str, image: str | None, label: str | None) -> tuple[str, str]:
    """Names of the columns of images and labels.

    Args:
        schema: Arrow's.
        where: the file, for errors.
        image: the column of images; None to guess.
        label: the column of labels; None to guess.

    Raises:
        DataError: no such column, or it cannot be guessed; the error lists the columns of the file.
    """
    check_unique(
        schema, (image, label, *(IMAGE_NAMES if image is None else ()), *(LABEL_NAMES if label is None else ())), where
    )
    have = [name for name in schema.names if schema.names.count(name) == 1]
    images = [n for n in have if holds_images(schema.field(n).type)]
    image_column = image or next((n for n in IMAGE_NAMES if n in images), images[0] if len(images) == 1 else None)
    label_column = label or next((n for n in LABEL_NAMES if n in have), None) or _only_class_label(schema, have)
    for content, column, option in (("images", image_column, "image"), ("labels", label_column, "label")):
        if column is None or column not in have:
            missing = f"no column {column!r}" if column else f"no column of {content}"
            # most columns of a table of measurements are numbers
            is_numeric = sum(holds_labels(schema.field(name).type) for name in have) > 2
            raise DataError(
                f"{where} has {missing}; its columns are {', '.join(have) or 'none'}. Name the column of "
                f"{content} with `{option}=`{NUMBERS_HINT if is_numeric and content == 'images' else ''}"
            )
    assert image_column is not None  # checked above, as is the label
    assert label_column is not None
    if not holds_images(schema.field(image_column).type):
        raise DataError(
            f"column {image_column!r} of {where} holds {schema.field(image_column).type}, not encoded images (binary, "
            "or a struct with bytes); name another with `image=`"
        )
    return image_column, label_column


def holds_images(kind: Any) -> bool:
    """Whether a column of this type may hold encoded images."""
    if pa.types.is_struct(kind):
        return any(kind.field(i).name in ("bytes", "path") for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def holds_text(kind: Any) -> bool:
    """Whether a column of this type holds texts."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def holds_labels(kind: Any) -> bool:
    """Whether a column of this type may hold labels as numbers: pandas makes integers floats beside a missing one."""
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind))


def check_unique(schema: Any, names: Sequence[str | None], where: str) -> None:
    """Refuse a table with two columns of one of ``names``, which joins write.

    Raises:
        DataError: naming the column.
    """
    doubled = [name for name in dict.fromkeys(schema.names) if schema.names.count(name) > 1]
    chosen = {name.casefold() for name in names if name is not None}
    for name in doubled:
        if name.casefold() in chosen:
            raise DataError(
                f"{where} has {schema.names.count(name)} columns called {name!r}; rename one, or take "
                "the others out, so that it is clear which is meant"
            )


def _only_class_label(schema: Any, columns: Sequence[str]) -> str | None:
    """The only ``ClassLabel`` among columns, by the ``huggingface`` metadata; None for none or several."""
    names = [name for name in columns if class_names(schema, name) and name not in split_columns(columns)]
    return names[0] if len(names) == 1 else None


def class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """Names of a ``ClassLabel`` column from the ``huggingface`` metadata, where there are any."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) and names else None


def has_labels(paths: Sequence[Path], label: str) -> bool:
    """Whether the column of labels of a split holds some: benchmarks with secret answers have -1 or null for each.

    Args:
        paths: files of the split.
        label: the column of labels, by its name in the train split.

    Raises:
        DataError: a file is damaged.
    """
    for path in map(str, paths):
        if label not in read_schema(path).names:
            continue
        with convert_errors(path):
            column = read_columns(path, [label]).column(label)
        if column.null_count == len(column):
            continue
        # the maximum of a column of nulls is None
        if not pa.types.is_integer(column.type) or pc.max(column).as_py() >= 0:
            return True
    return False


def label_values(column: Any, name: str, describe: Callable[[int], str]) -> NDArray[np.int64] | list[str]:
    """A column of labels as integers, or as texts.

    Args:
        column: Arrow's chunked array.
        name: of the column.
        describe: a row in words, for errors.

    Raises:
        DataError: a missing label, or neither integers nor texts; the row is named.
    """
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise DataError(
            f"the label of {describe(row)} is missing ({column.null_count:,} such in column {name!r}); remove those "
            "rows"
        )
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return np.asarray(column.to_numpy()).astype(np.int64)
    if holds_text(kind):
        return [str(v) for v in column.to_pylist()]
    if pa.types.is_floating(kind):
        numbers = column.to_numpy()
        broken = np.flatnonzero(~np.isfinite(numbers) | (numbers != np.floor(numbers)))
        if not len(broken):
            return numbers.astype(np.int64)  # type: ignore[no-any-return]
        row = int(broken[0])
        raise DataError(
            f"the label of {describe(row)} is {numbers[row]!s} ({len(broken):,} such in column {name!r}): a name or a "
            "whole number is needed; convert it, or name another column with `label=`"
        )
    raise DataError(
        f"labels must be integers or names of classes, but column {name!r} holds {kind} ({column[0].as_py()!r} in "
        f"{describe(0)}); convert it, or name another with `label=`"
    )


def describe_row(row: int, paths: Sequence[str], starts: Sequence[int]) -> str:
    """``row`` of the concatenated files as "row 3 of FILE"."""
    # the last file that starts at or before the row; an empty file starts where the next one does
    file = bisect_right(starts, row) - 1
    return f"row {row - starts[file]} of {paths[file]}"


def open_arrow(path: str) -> Any:
    """A memory-mapped table from an Arrow stream file.

    Raises:
        DataError: no such file, or damaged.
    """
    with convert_errors(path):
        # mapped: a column is read when it is used
        return pa.ipc.open_stream(pa.memory_map(path)).read_all()


def read_schema(path: str, metadata: Mapping[bytes, bytes] | None = None) -> Any:
    """Schema of a Parquet or Arrow file, with ``metadata`` added to its own.

    Raises:
        DataError: no such file, or damaged.
    """
    with convert_errors(path):
        schema = pq.read_schema(path) if path.endswith(".parquet") else open_arrow(path).schema
    return schema.with_metadata({**metadata, **(schema.metadata or {})}) if metadata else schema


def count_rows(path: str) -> int:
    """Number of rows of a Parquet or Arrow file.

    Raises:
        DataError: no such file, or damaged.
    """
    with convert_errors(path):
        return int(pq.read_metadata(path).num_rows if path.endswith(".parquet") else open_arrow(path).num_rows)


def read_columns(path: str, columns: Sequence[str]) -> Any:
    """Table of some columns of a Parquet or Arrow file; a name that is given twice is read once.

    Raises:
        DataError: texts that are no UTF-8.
    """
    names = list(dict.fromkeys(columns))
    is_parquet = path.endswith(".parquet")
    table = pq.ParquetFile(path).read(columns=names) if is_parquet else open_arrow(path).select(names)
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            try:
                column.validate(full=True)  # Arrow does not look at texts before they are used
            except pa.ArrowInvalid as error:
                raise DataError(
                    f"{path}: the column {name!r} holds text that is no UTF-8 ({error}): convert it"
                ) from None
    return table


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
        return describe_row(self.row(i), self.paths, self.starts)

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
    """Images in Parquet files: streamed in order; reading a single one decodes its row group."""

    @cached_property
    def _groups(self) -> OrderedDict[tuple[int, int], Any]:
        return OrderedDict()

    @cached_property
    def _readers(self) -> list[tuple[Any, list[int]]]:
        readers = []
        for path in self.paths:
            with convert_errors(path):
                file = pq.ParquetFile(path)
                sizes = [file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups)]
                # row group g holds rows bounds[g] to bounds[g + 1] - 1 of its file
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
            with convert_errors(self.paths[file]):
                column = reader.read_row_group(group, columns=[self.column]).column(0).combine_chunks()
            self._groups[file, group] = column
            # the group just read stays, however large it is
            while len(self._groups) > 1 and sum(c.nbytes for c in self._groups.values()) > CACHED_BYTES:
                self._groups.popitem(last=False)
        # the most recently used group is dropped last
        self._groups.move_to_end((file, group))
        return self.picked(file, column[row - self.starts[file] - bounds[group]].as_py())

    def blocks(self, size: int = 128) -> Iterator[list[Raw]]:
        """All images in order, streamed when the rows rise."""
        # one pass over the files cannot meet rows that go back
        if self.rows is not None and np.any(np.diff(self.rows) <= 0):
            yield from super().blocks(size)
            return
        for file, path in enumerate(self.paths):
            first = self.starts[file]
            with convert_errors(path):
                batches = iter(pq.ParquetFile(path).iter_batches(size, columns=[self.column]))
            while True:
                # inside the loop: a damaged file fails at the batch that is damaged
                with convert_errors(path):
                    batch = next(batches, None)
                if batch is None:
                    break
                rows = self._rows_between(first, first + len(batch))
                first += len(batch)
                column = batch.column(0)
                if rows is not None:
                    column = column.take(pa.array(rows))
                if len(column):
                    yield [_cell_or_none(self, file, cell) for cell in column.to_pylist()]

    def _rows_between(self, first: int, end: int) -> Index | None:
        if self.rows is None:
            return None
        # the rows rise, so those of one batch are a slice
        low, high = np.searchsorted(self.rows, [first, end])
        return self.rows[low:high] - first

    def for_random_access(self) -> Encoded:
        """A copy as Arrow in the cache folder, where one row is one read; itself when there is no room for that.

        A shuffled epoch over Parquet would decompress a whole row group for every image.
        """
        if cache.cache_folder() is None:
            return self
        # the key is of all rows, so subsets and both splits share one copy
        path = cache.cached_file(ParquetImages(self.paths, self.column, self.sizes).key(), ".arrow")
        if path is None:
            return self
        size = sum(Path(p).stat().st_size for p in self.paths)
        if not self._copied(path):
            # decoded columns may be larger than the compressed file
            if not cache.room_for(path, 2 * size):
                return self
            self._copy(path)
            cache.drop_older(path)
        # itself too: errors name the row of the Parquet file, not that of the copy
        return ArrowImages([str(path)], self.column, [sum(self.sizes)], self.rows, self)

    def _copied(self, path: Path) -> bool:
        try:
            return path.is_file() and open_arrow(str(path)).num_rows == sum(self.sizes)
        except DataError:  # damaged: copied again
            return False

    def _copy(self, path: Path) -> None:
        # 64-bit offsets: a column of images may exceed the 2 GB of 32-bit ones
        kind = pa.large_binary()
        schema = pa.schema([(self.column, kind)])
        all_rows = ParquetImages(self.paths, self.column, self.sizes)
        with (
            atomic_write(path) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_stream(sink, schema) as writer,
        ):
            for block in all_rows.blocks():
                cells = [raw.read_bytes() if isinstance(raw, Path) else raw for raw in block]
                writer.write_batch(pa.record_batch([pa.array(cells, kind)], schema=schema))


def _cell_or_none(images: TableImages, file: int, cell: Any) -> Raw:
    try:
        return images.picked(file, cell)
    except ValueError:
        return None  # reported with its row when it is decoded


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
            # chunk k holds rows bounds[k] to bounds[k + 1] - 1 of its file
            columns.append((chunks, [0, *np.cumsum([len(c) for c in chunks]).tolist()]))
        return columns

    def raw(self, i: int) -> Raw:
        """The bytes of image ``i``."""
        row = self.row(i)
        file = bisect_right(self.starts, row) - 1
        chunks, bounds = self._columns[file]
        chunk = bisect_right(bounds, row - self.starts[file]) - 1
        return self.picked(file, chunks[chunk][row - self.starts[file] - bounds[chunk]].as_py())
