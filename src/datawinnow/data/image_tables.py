"""Tables of labels of images in files: ``metadata.csv`` of an ImageFolder of `datasets`, ``train.csv`` of Kaggle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from datawinnow.core.errors import DataError
from datawinnow.data.arrow import LABEL_NAMES
from datawinnow.data.assemble import ReadOptions
from datawinnow.data.images import SUFFIXES
from datawinnow.data.separated import SEPARATOR_LINE, read_records
from datawinnow.data.splits import is_hidden, readable_name, split_of

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
FILE_COLUMNS = ("file_name", "filename", "file", "image", "image_id", "img", "path", "image_path", "id", "name")
IMAGE_LABEL_COLUMNS = (*LABEL_NAMES, "category", "species", "breed", "label_name", "class_name")


@dataclass(frozen=True)
class ImageTable:
    """Images of a split with the labels that a table has for them.

    Attributes:
        path: the table.
        images: their paths relative to the root, in the table's order.
        labels: of the images, as they stand in the table.
        image: the column of files.
        label: the column of labels.
        lines: of the images in the table.
        notes: for the user.
    """

    path: Path
    images: list[str]
    labels: list[str]
    image: str
    label: str
    lines: list[int]
    notes: tuple[str, ...]

    def describe(self, i: int) -> str:
        """Image ``i`` as "line 3 of FILE", for errors."""
        return f"line {self.lines[i]} of {self.path}"


def find_image_table(root: Path, folder: Path, split: str) -> Path | None:
    """The table of labels of a split: ``metadata.csv`` in its folder, or a file of the root named after the split.

    Args:
        root: of the dataset.
        folder: of the split.
        split: its name; ``""`` where the root is the only one.
    """
    for suffix in TABLE_SUFFIXES:
        table = folder / f"metadata{suffix}"
        if table.is_file():
            return table
    if not split:
        return None
    tables = [
        path
        for path in sorted(root.iterdir())
        if path.suffix.lower() in TABLE_SUFFIXES and split_of(path.stem) == split_of(split) and path.is_file()
    ]
    # with folders of classes, a table beside them says nothing that they do not
    return tables[0] if len(tables) == 1 and not any(_is_class_folder(child) for child in folder.iterdir()) else None


def _is_class_folder(path: Path) -> bool:
    return path.is_dir() and not is_hidden(path.name)


def has_image_labels(path: Path, options: ReadOptions) -> bool:
    """Whether a table has a column of labels, and in it another label than -1, which stands for a secret one."""
    names, rows = _read_rows(path)
    try:
        _, label = _image_columns(path, names, options)
    except DataError:
        return False
    return any(str(cells.get(label) or "").strip() not in ("", "-1") for _, cells in rows)


def read_image_table(path: Path, folder: Path, images: Sequence[str], below: str, options: ReadOptions) -> ImageTable:
    """Read the labels of a split's images.

    Args:
        path: the table.
        folder: of the split, in which the files are named.
        images: paths of the split's images relative to the root of the dataset.
        below: path of ``folder`` relative to the root, with a slash at the end.
        options: of `load`; ``image`` and ``label`` name the columns.

    Raises:
        DataError: no column of files or of labels; a line without a file or a label, or whose file does not exist.
    """
    names, rows = _read_rows(path)
    image, label = _image_columns(path, names, options)
    by_name = {name.removeprefix(below): name for name in images}
    # Kaggle names files without their suffix
    by_stem = {str(PurePosixPath(name).with_suffix("")): full for name, full in by_name.items()}
    paths, labels, lines = [], [], []
    for line, cells in rows:
        file, value = str(cells.get(image, "")).strip(), cells.get(label)
        name = by_name.get(file.removeprefix("./")) or by_name.get(PurePosixPath(file).name) or by_stem.get(file)
        if name is None:
            raise DataError(
                f"line {line} of {path} names the image {file!r}, which is not in {folder} (files ending in "
                f"{', '.join(SUFFIXES)})"
            )
        if value is None or not str(value).strip():
            raise DataError(f"the label of line {line} of {path} is missing; remove the line, or fill it in")
        paths.append(name)
        labels.append(str(int(value)) if isinstance(value, bool) else str(value))
        lines.append(line)
    if not paths:
        raise DataError(f"{path} has no lines")
    notes = [f"labels are in column {label!r} of {path.name}, files in column {image!r}"]
    without = sorted(set(images) - set(paths))
    if without:
        notes.append(
            f"{len(without):,} images of {readable_name(str(folder))} are not in {path.name} and are left out, the "
            f"first {readable_name(without[0])}"
        )
    return ImageTable(path, paths, labels, image, label, lines, tuple(notes))


def _read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, object]]]]:
    """Names of the columns, and the line and the cells of each record.

    Raises:
        DataError: a broken line.
    """
    names: list[str] = []
    rows: list[tuple[int, dict[str, object]]] = []
    for record in read_records(path):
        if record.wrong:
            raise DataError(f"line {record.line} of {path}: {record.wrong}")
        if isinstance(record.cells, dict):
            names = names or list(record.cells)
            rows.append((record.line, dict(record.cells)))
        elif not names:
            if SEPARATOR_LINE.fullmatch(record.raw):
                continue
            names = [cell.strip() for cell in record.cells]
            doubled = [name for name in names if name and names.count(name) > 1]
            if doubled:
                raise DataError(f"{path} has several columns called {doubled[0]!r}: rename one, or take the others out")
        elif len(record.cells) != len(names):
            raise DataError(f"line {record.line} of {path} has {len(record.cells)} columns, not {len(names)}")
        else:
            rows.append((record.line, dict(zip(names, record.cells, strict=True))))
    return names, rows


def _image_columns(path: Path, names: Sequence[str], options: ReadOptions) -> tuple[str, str]:
    folded = {name.casefold(): name for name in reversed(names)}
    image = options.image or next((folded[name] for name in FILE_COLUMNS if name in folded), None)
    rest = [name for name in names if name != image]
    label = options.label or next((folded[name] for name in IMAGE_LABEL_COLUMNS if name in folded), None)
    if label is None and len(rest) == 1:
        label = rest[0]
    for content, column, option in (("files", image, "image"), ("labels", label, "label")):
        if column is None or column not in names:
            missing = f"no column {column!r}" if column else f"no column that is known to hold {content}"
            raise DataError(
                f"{path} has {missing}; its columns are {', '.join(names) or 'none'}. Name the column of {content} "
                f"with `{option}=`"
            )
    assert image is not None  # both were checked
    assert label is not None
    return image, label
