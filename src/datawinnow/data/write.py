"""Kept examples, written in the layout they came in."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.files import disk_error
from datawinnow.data.assemble import Loaded
from datawinnow.data.columns import class_names, label_values, open_arrow, reading
from datawinnow.data.examples import Examples
from datawinnow.data.npz import read_arrays
from datawinnow.data.texts import Texts
from datawinnow.data.write_texts import write_text_file, write_text_lines

ROWS = 1024
"""Rows read at a time, and the least in a row group written."""

Rows = np.ndarray[Any, np.dtype[np.int64]]


def write_kept(dataset: Loaded, index: Tensor, out: Path | str) -> Path:
    """Write the examples at ``index`` as a dataset that `load` reads, in the layout they came in.

    Only kept training examples are written, unchanged (the files and bytes as they came, not the resized pixels), in
    the order of the source; the source's test split stays where it is.

    - a folder of images: copies under ``OUT/train/<class>/``, with the paths they had below their class;
    - Parquet and ``hf:``: ``OUT/train-00000-of-00001.parquet`` with the same columns and metadata;
    - ``.npz``: ``OUT/train.npz`` with ``x`` and ``y`` in the source's dtypes and axes;
    - ``.csv``, ``.tsv`` and ``.jsonl``: ``OUT/train.tsv`` (or as it came), the lines byte for byte;
    - digits, and examples made in Python: ``OUT/train.npz``, texts ``OUT/train.jsonl``.

    Args:
        dataset: what `load` gave.
        index: (m,) int64 positions in ``dataset``, each once.
        out: a folder that does not exist yet, or is empty.

    Returns:
        ``out`` as a path. It is written beside and renamed when whole.

    Raises:
        ArgumentError: ``index`` is empty, not int64, out of range or has an id twice.
        DataError: ``out`` is not empty; a source file is gone or changed; labels that are no longer the source's.
        RunError: the disk is full.
    """
    _check_index(index, len(dataset))
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists already and is not an empty folder; give another, or remove it")
    index = index.cpu().sort().values
    layout = dataset.origin.layout if dataset.origin is not None else "none"
    writers = {"folder": _write_folder, "parquet": _write_table, "hf": _write_table, "npz": _write_npz}
    writer = {**writers, "text": _write_texts}.get(layout)
    part = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
        (writer or _write_arrays)(dataset, index, part)
        part.chmod(0o755)  # mkdtemp makes folders private
        part.replace(out)  # over an empty folder too
    except OSError as error:
        raise disk_error(error, out) from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
    return out


def _check_index(index: Tensor, n: int) -> None:
    if not isinstance(index, Tensor) or index.dtype != torch.int64 or index.ndim != 1:
        got = f"{index.dtype} of shape {tuple(index.shape)}" if isinstance(index, Tensor) else repr(index)[:60]
        raise ArgumentError(f"index must be an int64 tensor of shape (m,), got {got}")
    if not len(index):
        raise ArgumentError("index is empty: there is nothing to write")
    if int(index.min()) < 0 or int(index.max()) >= n:
        raise ArgumentError(
            f"index must be within 0 to {n - 1}, got {int(index.min())} to {int(index.max())}: it is of another dataset"
        )
    if len(torch.unique(index)) != len(index):
        raise ArgumentError("index has an id twice")


def _source_rows(dataset: Loaded, index: Tensor) -> Rows:
    assert dataset.origin is not None  # the caller looked at its layout
    rows = index if dataset.origin.rows is None else dataset.origin.rows[index]
    return rows.numpy()


def _write_folder(dataset: Loaded, index: Tensor, part: Path) -> None:
    assert dataset.origin is not None  # the caller looked at its layout
    root = Path(dataset.origin.path)
    for i, row in zip(index.tolist(), _source_rows(dataset, index).tolist(), strict=True):
        source = Path(dataset.origin.files[row])
        below = source.relative_to(root).parts
        name = dataset.classes[int(dataset.labels[i])]
        if below[0] == "train" and len(below) > 2:
            below = below[1:]
        _same_label(below[0], name, str(source))
        target = part / "train" / Path(*below)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy2(source, target)
        except FileNotFoundError:
            raise DataError(f"{source} is gone since it was loaded; load the data again") from None


def _write_table(dataset: Loaded, index: Tensor, part: Path) -> None:
    assert dataset.origin is not None  # the caller looked at its layout
    origin, rows = dataset.origin, _source_rows(dataset, index)
    order = np.argsort(rows, kind="stable")
    rows, labels = rows[order], dataset.labels[index].numpy()[order]
    schema = _schema(origin.files[0])
    names = class_names(schema, origin.columns["label"])
    held: list[Any] = []
    first = done = 0
    target = part / "train-00000-of-00001.parquet"
    with pq.ParquetWriter(target, schema, compression=_compression(origin.files[0])) as writer:
        for batch in _batches(origin.files, schema):
            low, high = np.searchsorted(rows, [first, first + batch.num_rows])
            taken = pa.Table.from_batches([batch]).take(pa.array(rows[low:high] - first))
            first += batch.num_rows
            _same_labels(dataset, taken, labels[low:high], names)
            done += taken.num_rows
            held.append(taken)
            if sum(t.num_rows for t in held) >= ROWS:
                writer.write_table(pa.concat_tables(held).combine_chunks())
                held = []
        if held:
            writer.write_table(pa.concat_tables(held).combine_chunks())
    if done != len(rows):
        raise DataError(f"{origin.path} has fewer rows than when it was loaded; load the data again")


def _schema(path: str) -> Any:
    with reading(path):
        return pq.read_schema(path) if path.endswith(".parquet") else open_arrow(path).schema


def _compression(path: str) -> str:
    """How the source's columns are compressed; images are compressed already."""
    if not path.endswith(".parquet"):
        return "snappy"
    with reading(path):
        metadata = pq.ParquetFile(path).metadata
        return str(metadata.row_group(0).column(0).compression) if metadata.num_row_groups else "snappy"


def _batches(files: tuple[str, ...], schema: Any) -> Iterator[Any]:
    for path in files:
        with reading(path):
            if path.endswith(".parquet"):
                batches = iter(pq.ParquetFile(path).iter_batches(ROWS))
            else:
                batches = iter(open_arrow(path).to_batches(max_chunksize=ROWS))
        while True:
            with reading(path):
                batch = next(batches, None)
            if batch is None:
                break
            if not batch.schema.equals(schema):
                raise DataError(f"{path} has other columns than {files[0]}; one file cannot hold both")
            yield batch


def _same_labels(dataset: Loaded, taken: Any, labels: Rows, names: tuple[str, ...] | None) -> None:
    assert dataset.origin is not None  # the caller looked at its layout
    column = dataset.origin.columns["label"]
    values = label_values(taken.column(column), column, lambda row: f"row {row} kept") if taken.num_rows else []
    for value, label in zip(values, labels.tolist(), strict=True):
        named = names is not None and not isinstance(value, str)
        found = names[value] if named and names is not None and 0 <= value < len(names) else str(value)
        _same_label(found, dataset.classes[label], dataset.origin.path)


def _same_label(found: str, now: str, where: str) -> None:
    if found != now:
        raise DataError(
            f"{where} says {found!r} where the dataset in memory says {now!r}: either its labels were changed (a "
            "scenario), so that the layout it came in cannot hold it, or the source changed since it was loaded"
        )


def _write_npz(dataset: Loaded, index: Tensor, part: Path) -> None:
    assert dataset.origin is not None  # the caller looked at its layout
    origin, rows = dataset.origin, _source_rows(dataset, index)
    arrays = read_arrays(Path(origin.path))
    x, y = (arrays.get(origin.columns[k]) for k in ("image", "label"))
    if x is None or y is None or len(x) != len(y) or len(x) <= int(rows.max()):
        raise DataError(f"{origin.path} changed since it was loaded; load the data again")
    x, y = x[rows], y[rows]
    listed = y.reshape(len(y)).tolist()
    ids = [dataset.classes[i] for i in dataset.labels[index].tolist()]
    given = arrays.get("classes")
    by_name = given is not None and y.dtype.kind in "biu"
    for value, name in zip(listed, ids, strict=True):
        found = (
            str(given[value]) if by_name and given is not None else str(int(value) if y.dtype.kind == "b" else value)
        )
        _same_label(found, name, origin.path)
    if given is None:
        np.savez(part / "train.npz", x=x, y=y)
    else:
        np.savez(part / "train.npz", x=x, y=y, classes=given)


def _write_texts(dataset: Loaded, index: Tensor, part: Path) -> None:
    assert isinstance(dataset, Texts)  # of this layout all are
    write_text_file(dataset, index.numpy(), _source_rows(dataset, index), part)


def _write_arrays(dataset: Loaded, index: Tensor, part: Path) -> None:
    if isinstance(dataset, Texts):
        write_text_lines(dataset, index.numpy(), part)
        return
    if not isinstance(dataset, Examples):
        raise DataError(f"{dataset.name}: examples on demand that came from nowhere known cannot be written")
    x = dataset.x[index].cpu().numpy()
    if dataset.x.dtype is torch.uint8 and x.shape[1] == 1:
        x = x[:, 0]
    np.savez(part / "train.npz", x=x, y=dataset.labels[index].cpu().numpy(), classes=np.asarray(dataset.classes))
