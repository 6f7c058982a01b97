"""Files of instruction data: JSON lines, a JSON list, Parquet or a saved dataset, read row by row.

The kept rows are written as they came, to the byte where the format allows it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datawinnow.core.errors import DataError
from datawinnow.core.files import atomic_folder, atomic_write, require_file, write_bytes

ROWS_PER_BATCH = 1024
LIST_KEYS = ("annotations", "data", "examples", "rows")
"""Keys under which a JSON object may hold its list of pairs (MiniGPT-4's is ``annotations``)."""

PairRow = tuple[int, Any, str]
"""Place in the file from 0, the row, and why it cannot be read (empty where it can)."""


class PairFile(Protocol):
    """A file or folder of pairs."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def row_word(self) -> str:
        """``"line"`` or ``"row"``, for messages."""

    @property
    def suffix(self) -> str:
        """Of a file in the same layout; empty for a folder."""

    def rows(self) -> Iterator[PairRow]:
        """Every row, including those that cannot be read."""

    def write(self, places: np.ndarray, out: Path) -> None:
        """Write the rows at ``places`` (rising) unchanged, in this layout."""


def open_pair_file(path: Path) -> PairFile:
    """The file or folder at ``path``, by its suffix or, for a folder, by its content.

    Raises:
        DataError: no such file, or another layout.
    """
    if path.is_dir():
        if (path / "dataset_info.json").is_file() and (path / "state.json").is_file():
            return SavedDataset(path)
        files = sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))
        if not files:
            raise DataError(f"{path} holds neither Parquet files nor a dataset that save_to_disk wrote")
        # Of a dataset with several splits only the training split is read.
        split = [file for file in files if file.name.startswith("train")]
        return Tables(path, tuple(split or files), "")
    require_file(path, DataError)
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    if path.suffix == ".parquet":
        return Tables(path, (path,), ".parquet")
    if path.suffix in (".jsonl", ".ndjson"):
        return JsonLines(path, suffix=path.suffix)
    if path.suffix == ".json":
        return JsonLines(path, suffix=".json") if _is_json_lines(path) else JsonList(path)
    raise DataError(f"{path} must be .jsonl, .json, .parquet, or a folder of Parquet or of save_to_disk")


def _is_json_lines(path: Path) -> bool:
    """Whether a .json file holds JSON lines: its first line is an object by itself and a second one follows."""
    with path.open("rb") as file:
        first, second = file.readline(), file.readline()
    if not second.strip():
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


@dataclass(frozen=True)
class JsonLines:
    """One JSON object a line; empty lines are skipped."""

    path: Path
    row_word: str = "line"
    suffix: str = ".jsonl"

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        with self.path.open("rb") as file:
            for place, line in enumerate(file):
                # A byte order mark, as editors on Windows write it, is no JSON.
                if place == 0 and line.startswith(b"\xef\xbb\xbf"):
                    line = line[3:]
                if line.strip():
                    yield place, line

    def rows(self) -> Iterator[PairRow]:
        """Every line that is not empty."""
        for place, line in self._lines():
            try:
                yield place, json.loads(line.decode("utf-8")), ""
            except (ValueError, RecursionError) as error:  # ValueError also means not UTF-8, or a number of many digits
                yield place, None, f"broken JSON ({_first_line(error)})"

    def write(self, places: np.ndarray, out: Path) -> None:
        """The same bytes, line by line."""
        kept = set(places.tolist())
        with atomic_write(out) as partial, partial.open("wb") as file:
            for place, line in self._lines():
                if place in kept:
                    # The last line of the source may lack its newline, and is not always the last one kept.
                    file.write(line if line.endswith(b"\n") else line + b"\n")


@dataclass(frozen=True)
class JsonList:
    """A JSON list of objects, or an object that holds one under one of `LIST_KEYS`."""

    path: Path
    row_word: str = "row"
    suffix: str = ".json"

    def _load(self) -> tuple[Any, str | None, list[Any]]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.path} is broken JSON ({_first_line(error)})") from None
        if isinstance(content, list):
            return content, None, content
        for key in LIST_KEYS:
            if isinstance(content, dict) and isinstance(content.get(key), list):
                return content, key, content[key]
        raise DataError(f"{self.path} must hold a list of pairs, or an object with one under {', '.join(LIST_KEYS)}")

    def rows(self) -> Iterator[PairRow]:
        """Every element of the list."""
        for place, row in enumerate(self._load()[2]):
            yield place, row, ""

    def write(self, places: np.ndarray, out: Path) -> None:
        """The same object around fewer elements."""
        content, key, rows = self._load()
        kept = [rows[i] for i in places.tolist()]
        text = json.dumps(kept if key is None else {**content, key: kept}, indent=1, ensure_ascii=False)
        write_bytes(out, text.encode() + b"\n")


@dataclass(frozen=True)
class Tables:
    """Parquet: one file, or the shards of a folder one after the other."""

    path: Path
    files: tuple[Path, ...]
    suffix: str
    row_word: str = "row"

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for file in self.files:
            require_file(file, DataError)
            try:
                with pq.ParquetFile(file) as table:
                    yield from table.iter_batches(ROWS_PER_BATCH)
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{file} is truncated or not Parquet ({_first_line(error)})") from None

    def rows(self) -> Iterator[PairRow]:
        """Every row of every shard."""
        first = 0
        for batch in self._batches():
            yield from ((first + i, row, "") for i, row in enumerate(batch.to_pylist()))
            first += batch.num_rows

    def write(self, places: np.ndarray, out: Path) -> None:
        """The same columns and metadata: a file, or for a folder one shard in a folder."""
        tables, first = [], 0
        for batch in self._batches():
            # `places` rises, so the kept rows of a batch are a slice of it.
            low, high = np.searchsorted(places, [first, first + batch.num_rows])
            tables.append(pa.Table.from_batches([batch]).take(pa.array(places[low:high] - first)))
            first += batch.num_rows
        table = pa.concat_tables(tables)
        if self.suffix:
            with atomic_write(out) as partial:
                pq.write_table(table, partial)
            return
        with atomic_folder(out) as folder:
            pq.write_table(table, folder / "train-00000-of-00001.parquet")


@dataclass(frozen=True)
class SavedDataset:
    """A folder that ``Dataset.save_to_disk`` wrote."""

    path: Path
    suffix: str = ""
    row_word: str = "row"

    def _load(self) -> Any:
        import datasets

        try:
            return datasets.load_from_disk(str(self.path))
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise DataError(f"{self.path} is not a dataset that save_to_disk wrote ({_first_line(error)})") from None

    def rows(self) -> Iterator[PairRow]:
        """Every row; images are not decoded."""
        first = 0
        for table in self._load().with_format("arrow").iter(ROWS_PER_BATCH):
            yield from ((first + i, row, "") for i, row in enumerate(table.to_pylist()))
            first += table.num_rows

    def write(self, places: np.ndarray, out: Path) -> None:
        """The chosen rows by save_to_disk, with the features of the file."""
        with atomic_folder(out) as folder:
            self._load().select(places.tolist()).save_to_disk(str(folder))


def check_out(file: PairFile, out: Path) -> None:
    """Check that the kept pairs of a file can be written to ``out``.

    Raises:
        DataError: ``out`` has the suffix of another layout, is the file itself, or a folder that is not empty.
    """
    if out.suffix != file.suffix and file.suffix:
        raise DataError(
            f"`out={str(out)!r}` has another layout than {file.path.name}: the kept pairs are written as they came, so "
            f"give a name that ends in {file.suffix}"
        )
    if not file.suffix and out.suffix in (".jsonl", ".json", ".parquet", ".ndjson"):
        raise DataError(f"`out={str(out)!r}` is a file, but {file.path} is a folder: give the name of a new folder")
    if out.resolve() == file.path.resolve():
        raise DataError(f"`out={str(out)!r}` is the source itself; give another name")
    if out.is_dir() and any(out.iterdir()):
        raise DataError(f"`out={str(out)!r}` exists already and is not an empty folder; give another, or remove it")


def _first_line(error: BaseException) -> str:
    return str(error).split("\n")[0].strip()[:120]
