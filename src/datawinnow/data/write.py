"""Write kept examples in the layout of their source."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.files import atomic_folder
from datawinnow.data.arrow import class_names, convert_errors, label_values, open_arrow, read_schema
from datawinnow.data.assemble import Loaded
from datawinnow.data.decisions import labels_in_source
from datawinnow.data.examples import Examples, Origin
from datawinnow.data.labels import ClassNames
from datawinnow.data.npz import read_npz
from datawinnow.data.other_test import described_test
from datawinnow.data.output_mark import OUTPUT_MARK, write_output_mark
from datawinnow.data.separated import SEPARATOR_LINE, Record, guess_dialect, read_records
from datawinnow.data.splits import is_hidden, readable_name, shortened_list, split_of
from datawinnow.data.texts import Texts, text_of

ROWS_PER_GROUP = 1024
"""RowArray read at a time, and the least in a row group written."""

RowArray = np.ndarray[Any, np.dtype[np.int64]]


def write_kept(
    dataset: Loaded,
    index: Tensor,
    out: Path | str,
    *,
    test: Loaded | None = None,
    log: Callable[[str], None] | None = None,
) -> Path:
    """Write the examples at ``index`` as a dataset that `load` reads, in the layout of their source.

    The files and bytes of the source are copied unchanged (not the resized pixels), in the source's order. The test
    split is written whole beside them, also one that was held out, and so are the splits that were not used: a
    training on the kept examples is tested on what this one would be.

    - a folder of images: copies under ``OUT/train/<class>/``, with the paths they had below their class; with the
      labels in ``OUT/train/metadata.csv`` where they came from a table;
    - Parquet, Arrow and ``hf:``: ``OUT/train-00000-of-00001.parquet`` with the same columns and metadata;
    - ``.npz``: ``OUT/train.npz`` with ``x`` and ``y`` in the source's dtypes and axes;
    - ``.csv``, ``.tsv`` and ``.jsonl``: ``OUT/train.tsv`` (or the source's suffix), the lines byte for byte;
    - digits, and examples made in Python: ``OUT/train.npz``, texts ``OUT/train.jsonl``.

    Args:
        dataset: train split of `load`.
        index: (m,) int64 positions in ``dataset``, each once.
        out: a folder that does not exist yet, or is empty.
        test: test split of `load`; None writes none, and one from another source (``test`` of `load`) stays there.
        log: called with what of the source is not written, such as a README.

    Returns:
        ``out`` as a path. It is written under a temporary name and renamed at the end.

    Raises:
        ArgumentError: ``index`` is empty, not int64, out of range or has an id twice.
        DataError: ``out`` is not empty; a source file is gone or changed; labels differ from the source's.
        RunError: the disk is full.
    """
    _check_kept_index(index, len(dataset))
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists already and is not an empty folder; give another, or remove it")
    test_elsewhere = ""
    if test is not None and test.origin is not None and test.origin.is_other:
        # in another layout, and perhaps with other ids for the classes, it would not be read as this one's
        test_elsewhere = described_test(test, test.origin.path)
        test = None
    # in the order of the source, which tables are streamed in
    index = index.cpu().sort().values
    layout = dataset.origin.layout if dataset.origin is not None else "none"
    writer = WRITERS.get(layout, _write_arrays)
    with atomic_folder(out) as temporary:
        writer(dataset, index, temporary, "train")
        if test is not None:
            _write_test(test, dataset, temporary)
        if dataset.origin is not None:
            _copy_unused(dataset.origin, temporary)
        write_output_mark(temporary, len(index), dataset.classes)
    if test_elsewhere and log is not None:
        log(f"{out}: the test split is {test_elsewhere} and not written; give it again with `test=`")
    rest = _not_written(dataset.origin, test.origin if test is not None else None)
    if log is not None and rest:
        log(f"{out}: of {dataset.name}, {shortened_list(rest)} {'is' if len(rest) == 1 else 'are'} not written")
    return out


def _not_written(origin: Origin | None, test_origin: Origin | None) -> list[str]:
    """Names of files and folders directly in the source that are in none of its splits."""
    # of save_to_disk's folder the rest describes its Arrow files, which become Parquet
    if origin is None or origin.layout not in ("folder", "parquet", "npz", "text"):
        return []
    files = [file for o in (origin, test_origin) if o is not None for file in (*o.files, o.columns.get("table", ""))]
    files += [file for split in origin.unused.values() for file in split]
    root = Path(origin.path)
    if root.is_file():
        # a file by itself, or one of a folder's
        if not any(Path(file).parent == root.parent and Path(file) != root for file in files):
            return []
        root = root.parent
    written = {Path(file).relative_to(root).parts[0] for file in files if file and Path(file).is_relative_to(root)}
    return sorted(
        readable_name(path.name) + "/" * path.is_dir()
        for path in root.iterdir()
        if path.name not in written and not is_hidden(path.name) and not (path / OUTPUT_MARK).is_file()
    )


def _write_test(test: Loaded, train: Loaded, folder: Path) -> None:
    """The test split, under the name that it has in the source."""
    origin, train_origin = test.origin, train.origin
    is_alike = origin is not None and train_origin is not None and origin.layout == train_origin.layout
    # a held-out split has the name of the one that it was drawn from
    name = origin.split if origin is not None and split_of(origin.split) in ("test", "validation") else "test"
    unused = {split_of(split) for split in train_origin.unused} if train_origin is not None else set()
    if name == "test" and "test" in unused:
        # beside the source's own, whose labels are secret
        name = "validation"
    writer = WRITERS.get(origin.layout, _write_arrays) if is_alike and origin is not None else _write_arrays
    writer(test, torch.arange(len(test)), folder, name)


def _copy_unused(origin: Origin, folder: Path) -> None:
    """Copy the files of the splits that were neither trained nor tested on."""
    for name, files in origin.unused.items():
        if origin.layout == "npz":
            path, x, y = files
            arrays = read_npz(Path(path), [x, y])
            if y:
                np.savez(folder / f"{name}.npz", x=arrays[x], y=arrays[y])
            else:  # a split without labels
                np.savez(folder / f"{name}.npz", x=arrays[x])
            continue
        for k, file in enumerate(files):
            source = Path(file)
            if origin.layout == "folder":
                target = folder / source.relative_to(origin.path)
            elif origin.layout == "text" or (split_of(source.stem) == split_of(name) and source.suffix == ".parquet"):
                target = folder / source.name
            else:
                target = folder / f"{name}-{k:05d}-of-{len(files):05d}.parquet"
            target.parent.mkdir(parents=True, exist_ok=True)
            if origin.layout in ("arrow", "hf") and source.suffix != ".parquet":
                pq.write_table(open_arrow(file), target)
            else:
                shutil.copy2(source, target)


def _check_kept_index(index: Tensor, n: int) -> None:
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


def _rows_in_source(dataset: Loaded, index: Tensor) -> RowArray:
    assert dataset.origin is not None  # write_kept looked at its layout
    rows = index if dataset.origin.rows is None else dataset.origin.rows[index]
    return rows.numpy()


def _write_folder(dataset: Loaded, index: Tensor, folder: Path, split: str) -> None:
    assert dataset.origin is not None  # write_kept looked at its layout
    root, has_table = Path(dataset.origin.path), "table" in dataset.origin.columns
    lines: list[tuple[str, str]] = []
    in_source = labels_in_source(dataset)
    for i, row in zip(index.tolist(), _rows_in_source(dataset, index).tolist(), strict=True):
        source = Path(dataset.origin.files[row])
        below = source.relative_to(root).parts
        name = dataset.classes[int(dataset.labels[i])]
        # ROOT/train/<class>/file -> <class>/file; a class may be called train itself
        if below[0] == dataset.origin.split and len(below) > (1 if has_table else 2):
            below = below[1:]
        if has_table:
            lines.append((Path(*below).as_posix(), name))
        else:
            before = dataset.classes[int(in_source[i])]
            _check_label(readable_name(below[0]), before, str(source))
            if name != before:
                # of two classes, which may have files of one name
                below = (name, *below[1:-1], f"{below[0]}-{below[-1]}")
        target = folder / split / Path(*below)
        if target.exists():
            raise DataError(f"{source} would replace {target}, of another class: rename one of the two files")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy2(source, target)
        except FileNotFoundError:
            raise DataError(f"{source} is gone since it was loaded; load the data again") from None
    if has_table:
        with (folder / split / "metadata.csv").open("w", encoding="utf-8", errors="surrogateescape", newline="") as out:
            csv.writer(out).writerows([("file_name", "label"), *lines])


def _write_table(dataset: Loaded, index: Tensor, folder: Path, split: str) -> None:
    assert dataset.origin is not None  # write_kept looked at its layout
    origin, rows = dataset.origin, _rows_in_source(dataset, index)
    order = np.argsort(rows, kind="stable")
    rows, labels = rows[order], labels_in_source(dataset)[index].numpy()[order]
    new_labels = dataset.labels[index].numpy()[order]
    schema = read_schema(origin.files[0], origin.schema_metadata)
    names = class_names(schema, origin.columns["label"])
    cells = _cells_of_classes(dataset, names) if (labels != new_labels).any() else {}
    pending: list[Any] = []
    first = done = 0
    target = folder / f"{split}-00000-of-00001.parquet"
    written_schema = _without_views(schema.empty_table()).schema
    with pq.ParquetWriter(target, written_schema, compression=_codec_of(origin.files[0])) as writer:
        for batch in _table_batches(origin.files, schema):
            # kept rows that lie in this batch
            low, high = np.searchsorted(rows, [first, first + batch.num_rows])
            taken = _without_views(pa.Table.from_batches([batch])).take(pa.array(rows[low:high] - first))
            first += batch.num_rows
            _check_labels(dataset, taken, labels[low:high], names)
            taken = _relabelled(taken, dataset, labels[low:high], new_labels[low:high], cells)
            done += taken.num_rows
            pending.append(taken)
            # one row group for many batches: thousands of small groups are slow to read
            if sum(t.num_rows for t in pending) >= ROWS_PER_GROUP:
                writer.write_table(pa.concat_tables(pending).combine_chunks())
                pending = []
        if pending:
            writer.write_table(pa.concat_tables(pending).combine_chunks())
    if done != len(rows):
        raise DataError(f"{origin.path} has fewer rows than when it was loaded; load the data again")


def _cells_of_classes(dataset: Loaded, names: tuple[str, ...] | None) -> dict[str, Any]:
    """Class -> the cell that stands for it in the source."""
    assert dataset.origin is not None  # write_kept looked at its layout
    if names is not None:
        return {name: names.index(name) for name in dataset.classes if name in names}
    column, cells, cell_classes = dataset.origin.columns["label"], dict[str, Any](), ClassNames(dataset.classes)
    for path in dataset.origin.files:
        with convert_errors(path):
            if path.endswith(".parquet"):
                values = pq.read_table(path, columns=[column]).column(column)
            else:
                values = open_arrow(path).column(column)
        for cell in values.unique().to_pylist():
            cells.setdefault(cell_classes.name_of(cell), cell)
    return cells


def _relabelled(taken: Any, dataset: Loaded, labels: RowArray, new_labels: RowArray, cells: dict[str, Any]) -> Any:
    """``taken`` with the cells of the new labels, where they are others.

    Raises:
        DataError: no example of the source is of the new class, so that it does not say how it is written.
    """
    changed = np.flatnonzero(labels != new_labels)
    if not len(changed):
        return taken
    assert dataset.origin is not None  # write_kept looked at its layout
    at = taken.column_names.index(dataset.origin.columns["label"])
    field, values = taken.schema.field(at), taken.column(at).to_pylist()
    for row in changed.tolist():
        values[row] = _cell_of(dataset.classes[int(new_labels[row])], cells, dataset.origin.path)
    kind = field.type
    column = pa.array(values, kind.value_type).dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else None
    return taken.set_column(at, field, pa.array(values, kind) if column is None else column)


def _cell_of(name: str, cells: dict[str, Any], where: str) -> Any:
    if name not in cells:
        raise DataError(
            f"{where} has no example of the class {name!r}, so that it does not say how its label is written"
        )
    return cells[name]


def _without_views(table: Any) -> Any:
    """``table`` with string_view and binary_view columns as string and binary: Arrow cannot take rows of views."""
    for i, field in enumerate(table.schema):
        if pa.types.is_string_view(field.type) or pa.types.is_binary_view(field.type):
            kind = pa.large_string() if pa.types.is_string_view(field.type) else pa.large_binary()
            table = table.set_column(i, field.with_type(kind), table.column(i).cast(kind))
    return table


def _codec_of(path: str) -> str:
    """How the source's columns are compressed; images are compressed already."""
    if not path.endswith(".parquet"):
        return "snappy"
    with convert_errors(path):
        metadata = pq.ParquetFile(path).metadata
        codec = str(metadata.row_group(0).column(0).compression) if metadata.num_row_groups else "snappy"
    return "none" if codec == "UNCOMPRESSED" else codec


def _table_batches(files: tuple[str, ...], schema: Any) -> Iterator[Any]:
    for path in files:
        with convert_errors(path):
            if path.endswith(".parquet"):
                batches = iter(pq.ParquetFile(path).iter_batches(ROWS_PER_GROUP))
            else:
                batches = iter(open_arrow(path).to_batches(max_chunksize=ROWS_PER_GROUP))
        while True:
            with convert_errors(path):
                batch = next(batches, None)
            if batch is None:
                break
            if not batch.schema.equals(schema):
                raise DataError(f"{path} has other columns than {files[0]}; one file cannot hold both")
            yield batch


def _check_labels(dataset: Loaded, taken: Any, labels: RowArray, names: tuple[str, ...] | None) -> None:
    assert dataset.origin is not None  # write_kept looked at its layout
    column = dataset.origin.columns["label"]
    values = label_values(taken.column(column), column, lambda row: f"row {row} kept") if taken.num_rows else []
    cell_classes = ClassNames(dataset.classes)
    for value, label in zip(values, labels.tolist(), strict=True):
        is_id = names is not None and not isinstance(value, str) and 0 <= value < len(names)
        name = names[value] if is_id and names is not None else cell_classes.name_of(value)
        _check_label(name, dataset.classes[label], dataset.origin.path)


def _check_label(in_source: str, now: str, where: str) -> None:
    if in_source != now:
        raise DataError(
            f"{where} says {in_source!r} where the dataset in memory says {now!r}: either its labels were changed (a "
            "scenario), so that the layout it came in cannot hold it, or the source changed since it was loaded"
        )


def _write_npz(dataset: Loaded, index: Tensor, folder: Path, split: str) -> None:
    assert dataset.origin is not None  # write_kept looked at its layout
    origin, rows = dataset.origin, _rows_in_source(dataset, index)
    arrays = read_npz(Path(origin.path), [origin.columns["image"], origin.columns["label"], "classes"])
    x, y = (arrays.get(origin.columns[k]) for k in ("image", "label"))
    if x is None or y is None or len(x) != len(y) or len(x) <= int(rows.max()):
        raise DataError(f"{origin.path} changed since it was loaded; load the data again")
    all_labels = y.reshape(len(y))
    x, y = x[rows], y[rows]
    listed = y.reshape(len(y)).tolist()
    source_labels, new_labels = labels_in_source(dataset)[index].tolist(), dataset.labels[index].tolist()
    ids = [dataset.classes[i] for i in source_labels]
    classes, cell_classes, kind = arrays.get("classes"), ClassNames(dataset.classes), y.dtype.kind

    def class_of(value: Any) -> str:
        if classes is not None and kind in "biu":
            # int: an array that is indexed by a boolean is a mask
            return str(classes[int(value)]) if 0 <= value < len(classes) else str(value)
        # boolean labels were read as 0 and 1
        cell = int(value) if kind == "b" else value
        return cell_classes.name_of(cell.decode() if isinstance(cell, bytes) else cell)

    for value, name in zip(listed, ids, strict=True):
        _check_label(class_of(value), name, origin.path)
    if source_labels != new_labels:
        cells = {class_of(value): value for value in np.unique(all_labels).tolist()}
        y = y.copy()
        for k, (before, now) in enumerate(zip(source_labels, new_labels, strict=True)):
            if before != now:
                y.reshape(len(y))[k] = _cell_of(dataset.classes[now], cells, origin.path)
    if classes is None:
        np.savez(folder / f"{split}.npz", x=x, y=y)
    else:
        np.savez(folder / f"{split}.npz", x=x, y=y, classes=classes)


def _write_texts(dataset: Loaded, index: Tensor, folder: Path, split: str) -> None:
    assert isinstance(dataset, Texts)  # of this layout all are
    write_text_file(dataset, index.numpy(), _rows_in_source(dataset, index), folder, split)


def _write_arrays(dataset: Loaded, index: Tensor, folder: Path, split: str) -> None:
    if isinstance(dataset, Texts):
        write_text_lines(dataset, index.numpy(), folder, split)
        return
    if not isinstance(dataset, Examples):
        raise DataError(f"{dataset.name}: examples on demand that came from nowhere known cannot be written")
    x = dataset.x[index].cpu().numpy()
    # (n, 1, h, w) could be taken for channels last; (n, h, w) cannot
    if dataset.x.dtype is torch.uint8 and x.shape[1] == 1:
        x = x[:, 0]
    np.savez(folder / f"{split}.npz", x=x, y=dataset.labels[index].cpu().numpy(), classes=np.asarray(dataset.classes))


def write_text_file(dataset: Texts, index: RowArray, rows: RowArray, folder: Path, split: str = "train") -> None:
    """``FOLDER/train.tsv`` (or ``.csv``, ``.jsonl``): the lines of the kept examples, byte for byte, under the names.

    Args:
        dataset: what was loaded.
        index: (m,) positions in it, rising.
        rows: (m,) their records in the concatenated files.
        folder: folder to write into.
        split: name of the split, and of the file.

    Raises:
        DataError: the files changed since they were loaded, or the labels are no longer theirs.
    """
    origin = dataset.origin
    assert origin is not None  # write_kept looked at its layout
    position = dict(zip(rows.tolist(), index.tolist(), strict=True))
    has_names, row, num_written = bool(origin.columns.get("header")), -1, 0
    leading = [int(count) for count in origin.columns["leading"].split(",")]
    suffix = Path(origin.files[0]).suffix
    target = folder / f"{split}{suffix.lower()}"
    first_names: list[str] | None = None
    cell_classes = ClassNames(dataset.classes)
    last_names: list[str] = []
    source_labels = labels_in_source(dataset)
    is_relabelled = bool((source_labels[torch.from_numpy(index)] != dataset.labels[torch.from_numpy(index)]).any())
    cells = _text_cells(dataset, has_names) if is_relabelled else {}
    # newline="": line ends stay as they were
    with target.open("w", encoding="utf-8", errors="surrogateescape", newline="") as out:
        for num_leading, path in zip(leading, origin.files, strict=True):
            dialect = None if suffix.lower() == ".jsonl" else guess_dialect(Path(path))
            # a file without a header has the columns of the one before it
            names = last_names
            for k, record in enumerate(read_records(Path(path), dialect)):
                if k < num_leading:
                    # titles and one header, although each file has its own
                    if first_names is None:
                        out.write(_with_line_end(record.raw))
                    is_last = k == num_leading - 1 and not SEPARATOR_LINE.fullmatch(record.raw)
                    if is_last and has_names and isinstance(record.cells, list):
                        names = last_names = [cell.strip() for cell in record.cells]
                        first_names = first_names or names
                    continue
                row += 1
                if row in position:
                    _check_record(dataset, position[row], record, names, path, cell_classes)
                    raw = record.raw
                    now = int(dataset.labels[position[row]])
                    if now != int(source_labels[position[row]]):
                        cell = _cell_of(dataset.classes[now], cells, path)
                        delimiter = "" if dialect is None else dialect.delimiter
                        record = _with_label(record, names, origin.columns["label"], cell, delimiter)
                        raw = record.raw
                    if dialect is not None and first_names is not None and names != first_names:
                        raw = _reordered(record, names, first_names, dialect.delimiter, path)
                    out.write(_with_line_end(raw))
                    num_written += 1
    if num_written != len(position):
        raise DataError(f"{origin.path} has fewer lines than when it was loaded; load the data again")


def _text_cells(dataset: Texts, has_names: bool) -> dict[str, Any]:
    """Class -> the cell that stands for it in the source."""
    origin = dataset.origin
    assert origin is not None  # write_kept looked at its layout
    cells, cell_classes = dict[str, Any](), ClassNames(dataset.classes)
    names: list[str] = []
    for num_leading, path in zip(map(int, origin.columns["leading"].split(",")), origin.files, strict=True):
        dialect = None if path.lower().endswith(".jsonl") else guess_dialect(Path(path))
        for k, record in enumerate(read_records(Path(path), dialect)):
            if k < num_leading:
                if k == num_leading - 1 and has_names and isinstance(record.cells, list):
                    names = [cell.strip() for cell in record.cells]
                continue
            cell = _by_name(record, names).get(origin.columns["label"])
            if not record.wrong and cell is not None:
                cells.setdefault(cell_classes.name_of(cell), cell)
    return cells


def _with_label(record: Record, names: list[str], column: str, cell: Any, delimiter: str) -> Record:
    """``record`` with another cell in the column of labels; its line is written anew."""
    if isinstance(record.cells, dict):
        values = {**record.cells, column: cell}
        return replace(record, cells=values, raw=json.dumps(values, ensure_ascii=False) + "\n")
    at = names.index(column) if names else int(column)
    cells = [*record.cells[:at], str(cell), *record.cells[at + 1 :]]
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter, lineterminator="\n").writerow(cells)
    return replace(record, cells=cells, raw=line.getvalue())


def _reordered(record: Record, names: list[str], order: list[str], delimiter: str, path: str) -> str:
    """A record of a file whose columns stand in another order, as a line in the order of ``order``.

    Raises:
        DataError: the file has other columns.
    """
    if sorted(names) != sorted(order):
        raise DataError(
            f"{path} has the columns {', '.join(names)}, and the first file {', '.join(order)}: "
            "they cannot be written into one"
        )
    line = io.StringIO()
    assert isinstance(record.cells, list)  # JSON lines have no columns
    csv.writer(line, delimiter=delimiter, lineterminator="\n").writerow(
        record.cells[names.index(name)] for name in order
    )
    return line.getvalue()


def write_text_lines(dataset: Texts, index: RowArray, folder: Path, split: str = "train") -> None:
    """``FOLDER/train.jsonl`` of texts that came from no file: an object with ``text`` and ``label`` a line."""
    with (folder / f"{split}.jsonl").open("w", encoding="utf-8", newline="") as out:
        for i in index.tolist():
            label = dataset.classes[int(dataset.labels[i])]
            out.write(json.dumps({"text": dataset.texts[i], "label": label}, ensure_ascii=False) + "\n")


def _with_line_end(raw: str) -> str:
    """A record whose last line may have had no end."""
    return raw if raw.endswith(("\n", "\r")) else raw + "\n"


def _by_name(record: Record, names: list[str]) -> dict[str, Any]:
    """Cells of a record by the names of their columns, or by their places."""
    cells = record.cells
    return cells if isinstance(cells, dict) else dict(zip(names or map(str, range(len(cells))), cells, strict=False))


def _check_record(
    dataset: Texts, i: int, record: Record, names: list[str], path: str, cell_classes: ClassNames
) -> None:
    columns = dataset.origin.columns if dataset.origin is not None else {}
    by_name = _by_name(record, names)
    text, label = text_of(by_name.get(columns["text"]))[0], by_name.get(columns["label"])
    now = dataset.classes[int(labels_in_source(dataset)[i])]
    if text != dataset.texts[i] or cell_classes.name_of(label) != now:
        raise DataError(
            f"line {record.line} of {path} says {label!r} where the dataset in memory says {now!r}, or another text: "
            "either its labels were changed (a scenario), so that the file it came in cannot hold it, or the source "
            "changed since it was loaded"
        )


WRITERS = {
    "folder": _write_folder,
    "parquet": _write_table,
    "arrow": _write_table,
    "hf": _write_table,
    "npz": _write_npz,
    "text": _write_texts,
}
"""Writers by layout of the `Origin`; examples of other layouts are written as arrays."""
