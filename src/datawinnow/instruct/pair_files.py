"""Files of instruction data: JSON lines, a JSON list, Parquet or a saved dataset, read row by row.

The kept rows are written as they came, to the byte where the format allows it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datawinnow.core.errors import DataError
from datawinnow.core.files import (
    atomic_folder,
    atomic_write,
    conversion_command,
    require_file,
    wide_encoding,
    write_bytes,
)

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
        # Of a dataset with several splits only the training split is read.
        if (path / "dataset_dict.json").is_file() and (path / "train").is_dir():
            return SavedDataset(path / "train")
        files = sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))
        if not files:
            raise DataError(f"{path} holds neither Parquet files nor a dataset that save_to_disk wrote")
        split = [file for file in files if file.name.lower().startswith("train")]
        split = split or [file for file in files if not file.name.lower().startswith(OTHER_SPLITS)]
        _check_columns(split or files)
        return Tables(path, tuple(split or files), "")
    require_file(path, DataError)
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        _check_columns([path])
        return Tables(path, (path,), ".parquet")
    if suffix in (".jsonl", ".ndjson", ".json"):
        with path.open("rb") as file:
            encoding = wide_encoding(file.read(4))
        if encoding:
            raise DataError(f"{path} is {encoding}, and texts must be UTF-8; {conversion_command(path, encoding)}")
    if suffix in (".jsonl", ".ndjson"):
        return JsonLines(path, suffix=suffix)
    if suffix == ".json":
        return JsonLines(path, suffix=".json") if _is_json_lines(path) else JsonList(path)
    raise DataError(f"{path} must be .jsonl, .json, .parquet, or a folder of Parquet or of save_to_disk")


OTHER_SPLITS = ("test", "validation", "valid", "val", "dev", "eval")
"""Beginnings of the names of files that are not to train on."""


def _check_columns(files: Sequence[Path]) -> None:
    """Refuse tables of which a row cannot be read by the names of its columns, or that cannot be written into one.

    Raises:
        DataError: a damaged file, two columns of one name, or a column of another type than in the files before.
    """
    schemas = []
    for file in files:
        require_file(file, DataError)
        try:
            schema = pq.read_schema(file)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file} is truncated or not Parquet ({_first_line(error)})") from None
        for name in schema.names:
            if schema.names.count(name) > 1:
                raise DataError(
                    f"{file} has {schema.names.count(name)} columns called {name!r}; rename one, or take "
                    "the others out, so that it is clear which is meant"
                )
        schemas.append(schema)
        try:
            pa.unify_schemas(schemas)
        except pa.ArrowException as error:
            raise DataError(f"{file} has other types of columns than {files[0].name}: {_first_line(error)}") from None


class _Repeated(dict[str, Any]):
    """A JSON object that has a key twice, of which `json` keeps the last."""

    key: str = ""


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) == len(pairs):
        return content
    repeated = _Repeated(content)
    names = [name for name, _ in pairs]
    repeated.key = next(name for name in names if names.count(name) > 1)
    return repeated


def _key_fault(row: Any) -> str:
    return f"a field twice ({row.key})" if isinstance(row, _Repeated) else ""


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
                # A byte order mark, as editors on Windows write it, is no JSON; of files put together each has one.
                if line.startswith(b"\xef\xbb\xbf"):
                    line = line[3:]
                if line.strip():
                    yield place, line

    def rows(self) -> Iterator[PairRow]:
        """Every line that is not empty."""
        for place, line in self._lines():
            try:
                row = json.loads(line.decode("utf-8"), object_pairs_hook=_object_of)
                yield place, row, _key_fault(row)
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
            content = json.loads(self.path.read_text(encoding="utf-8-sig"), object_pairs_hook=_object_of)
        except UnicodeDecodeError:
            raise DataError(
                f"{self.path} is not UTF-8: it is probably Latin-1 or Windows-1252; "
                f"{conversion_command(self.path, 'WINDOWS-1252')}"
            ) from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.path} is broken JSON ({_first_line(error)})") from None
        if isinstance(content, list):
            return content, None, content
        lists = [key for key in LIST_KEYS if isinstance(content, dict) and isinstance(content.get(key), list)]
        if lists:
            # one that holds some, where there are several
            key = next((key for key in lists if content[key]), lists[0])
            return content, key, content[key]
        raise DataError(f"{self.path} must hold a list of pairs, or an object with one under {', '.join(LIST_KEYS)}")

    def rows(self) -> Iterator[PairRow]:
        """Every element of the list."""
        for place, row in enumerate(self._load()[2]):
            yield place, row, _key_fault(row)

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
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                raise DataError(f"{file} is truncated or not Parquet ({_first_line(error)})") from None

    def rows(self) -> Iterator[PairRow]:
        """Every row of every shard."""
        first = 0
        for batch in self._batches():
            try:
                cells = batch.to_pylist()
            except UnicodeDecodeError as error:
                where = " and ".join(map(str, self.files))
                raise DataError(
                    f"{where} holds text that is no UTF-8 ({_first_line(error)}); write it as such"
                ) from None
            yield from ((first + i, row, "") for i, row in enumerate(cells))
            first += batch.num_rows

    def write(self, places: np.ndarray, out: Path) -> None:
        """The same columns and metadata: a file, or for a folder one shard in a folder."""
        tables, first = [], 0
        for batch in self._batches():
            # `places` rises, so the kept rows of a batch are a slice of it.
            low, high = np.searchsorted(places, [first, first + batch.num_rows])
            tables.append(pa.Table.from_batches([batch]).take(pa.array(places[low:high] - first)))
            first += batch.num_rows
        # a column that a shard lacks is null there
        table = pa.concat_tables(tables, promote_options="default")
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
    if out.suffix.lower() != file.suffix and file.suffix:
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
