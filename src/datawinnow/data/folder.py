"""Folders of images: by class (``ROOT/train/<class>/*`` or ``ROOT/<class>/*``), or with a table of their labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datawinnow.core.counts import many
from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.data.assemble import Loaded, ReadOptions, Split, assemble
from datawinnow.data.examples import Origin, short_name
from datawinnow.data.image_tables import (
    TABLE_SUFFIXES,
    ImageNames,
    ImageTable,
    find_image_table,
    find_split_tables,
    has_image_labels,
    listed_images,
    read_image_table,
    unlabelled_note,
)
from datawinnow.data.images import SUFFIXES, Encoded, Index, Raw
from datawinnow.data.labels import Classes, LabelColumn, label_splits
from datawinnow.data.output_mark import OUTPUT_MARK
from datawinnow.data.splits import choose_splits, is_hidden, is_split_word, readable_name, shortened_list, split_of

OUTPUT_MARKS = ("run.json", OUTPUT_MARK)


@dataclass(frozen=True)
class FolderImages(Encoded):
    """Images in files of their own; ``names`` are paths relative to ``root``."""

    root: str
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def raw(self, i: int) -> Raw:
        """The file of image ``i``."""
        return Path(self.root, self.names[i])

    def where(self, i: int) -> str:
        """The path of image ``i``."""
        return readable_name(str(Path(self.root, self.names[i])))

    def take(self, index: Index) -> Encoded:
        """The images at ``index`` (m,)."""
        return FolderImages(self.root, tuple(self.names[i] for i in index.tolist()))

    def files(self) -> list[str]:
        """Every image's file."""
        return [f"{self.root}/{name}" for name in self.names]

    def chosen(self) -> bytes:
        """Nothing: the files say it all."""
        return b"folder"


@dataclass(eq=False)
class ImageFolder:
    """What a folder holds; hidden files and folders count as nothing.

    Attributes:
        path: of the folder.
        below: its path relative to the root of the scan, with a slash at the end; ``""`` for the root.
        images: names of the images directly in it.
        other_files: names of other files directly in it.
        broken_links: names of links in it whose targets do not exist.
        folders: the folders in it, by name.
        outputs: names of folders in it that datawinnow wrote.
    """

    path: Path
    below: str = ""
    images: list[str] = field(default_factory=list)
    other_files: list[str] = field(default_factory=list)
    broken_links: list[str] = field(default_factory=list)
    folders: dict[str, ImageFolder] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)

    def walk(self) -> Iterator[ImageFolder]:
        """This folder and all below it."""
        yield self
        for folder in self.folders.values():
            yield from folder.walk()

    def image_paths(self) -> Iterator[str]:
        """Images at any depth, by their paths relative to the root of the scan, sorted name by name."""
        images = set(self.images)
        for name in sorted([*self.images, *self.folders]):
            if name in images:
                yield self.below + name
            else:
                yield from self.folders[name].image_paths()

    @property
    def has_images(self) -> bool:
        """Whether it holds an image at any depth."""
        return any(folder.images for folder in self.walk())

    @property
    def class_folders(self) -> list[str]:
        """Sorted names of its folders that hold images."""
        return sorted(name for name, folder in self.folders.items() if folder.has_images)


def scan_folder(path: Path) -> ImageFolder:
    """List a folder at any depth, through links.

    Raises:
        DataError: a folder may not be read.
    """
    return _scan(ImageFolder(path), ())


def _scan(folder: ImageFolder, above: tuple[tuple[int, int], ...]) -> ImageFolder:
    try:
        status = folder.path.stat()
        identity = (status.st_dev, status.st_ino)
        # a link to a folder above would be walked for ever
        if identity in above:
            return folder
        above = (*above, identity)
        with os.scandir(folder.path) as entries:
            listed = sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
    except PermissionError:
        raise DataError(f"the folder {folder.path} may not be read; change its permissions") from None
    for entry in listed:
        name = entry.name
        kind = _kind_of(entry)
        if kind == "folder":
            child = ImageFolder(folder.path / name, f"{folder.below}{name}/")
            if any((child.path / mark).is_file() for mark in OUTPUT_MARKS):
                folder.outputs.append(name)
            else:
                folder.folders[name] = _scan(child, above)
        elif kind == "file":
            # not Path(name).suffix: this is done for every file, and takes a tenth of the time
            is_image = name.lower().endswith(SUFFIXES)
            (folder.images if is_image else folder.other_files).append(name)
        elif kind == "broken link":
            folder.broken_links.append(name)
        else:
            # a device or a pipe, which would never end
            folder.other_files.append(name)
    # a folder such as runs/ that holds nothing but what datawinnow wrote
    for name, child in list(folder.folders.items()):
        if child.outputs and not (child.folders or child.images or child.other_files or child.broken_links):
            del folder.folders[name]
            folder.outputs.append(name)
    return folder


def _kind_of(entry: os.DirEntry[str]) -> str:
    """``"folder"``, ``"file"``, ``"broken link"`` or ``"other"``, for what a link leads to."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError:  # a link to itself, or into a folder that may not be read
        pass
    return "broken link" if entry.is_symlink() else "other"


@dataclass(frozen=True)
class _ImageSplit:
    """Images of a split by their paths, and the label of each."""

    name: str
    images: list[str]
    labels: list[Any]
    table: ImageTable | None = None

    def describe(self, i: int) -> str:
        """Image ``i`` in words, for errors."""
        return self.images[i] if self.table is None else self.table.describe(i)


def load_folder(root: Path, options: ReadOptions) -> tuple[Loaded, Loaded]:
    """Read a folder of images.

    Args:
        root: holds folders named after splits (train, test, validation, ...), or the classes' folders; in place of
            folders of classes, a split may have a table of its images' labels (`find_image_table`).
        options: of `load`.

    Raises:
        ArgumentError: a column is named, but the labels are in no table.
        DataError: no images, no class folders, an empty class folder, one class, a broken image; folders that may be
            splits or classes.
    """
    tree = scan_folder(root)
    sources, notes = _split_sources(root, tree, options)

    def is_labelled(_: str, name: str) -> bool:
        source = sources[name]
        if source.table is None:
            return bool(source.folder.class_folders)
        return has_image_labels(source.table, source.images, options)

    choice = choose_splits(sources, readable_name(str(root)), is_labelled, only=options.only)
    train_name, test_name = choice.train, choice.test
    notes += choice.notes
    _check_image_columns(options, sources[train_name].table, root)
    train = _read_image_split(sources[train_name], train_name, options, notes)
    test = _read_image_split(sources[test_name], test_name, options, notes) if test_name else None
    other_files = {name: sources[name].files(root) for name in choice.unused}
    used = {split.name: split for split in (train, test) if split is not None}
    notes += _unlabelled_notes(used, sources, other_files, root)
    if test is not None and test.table is None and train.table is None:
        unknown = sorted(set(test.labels) - set(train.labels) - set(options.kept_classes))
        if unknown:
            raise DataError(
                f"{sources[test_name].folder.path} has a class that {sources[train_name].folder.path} has not: "
                f"{unknown[0]!r}; the classes of both must agree"
            )
    # one folder may hold both
    for source in {sources[name].folder.path: sources[name] for name in used}.values():
        notes += _left_out(source.folder, is_table=source.table is not None)
    classes, train_ids, test_ids, label_notes = _folder_class_ids(train, test, options.kept_classes)
    notes += label_notes
    splits = [
        _encoded(root, split, ids, other_files)
        for split, ids in ((train, train_ids), (test, test_ids))
        if split is not None and ids is not None
    ]
    return assemble(
        splits[0],
        splits[1] if test is not None else None,
        tuple(map(readable_name, classes.names)),
        readable_name(short_name(root)),
        options,
        tuple(notes) + (classes.notes if train.table is not None else ()),
    )


@dataclass(frozen=True)
class _SplitSource:
    """Where the images of a split and their labels are.

    Attributes:
        folder: of its images, and of those of other splits where tables list the images of each.
        images: of the folder.
        table: of labels; None where the folders of classes are the labels.
        is_list: whether the table says which images of the folder are of the split.
    """

    folder: ImageFolder
    images: ImageNames
    table: Path | None
    is_list: bool = False

    def files(self, root: Path) -> tuple[str, ...]:
        """The split's images, and the table."""
        is_listed = self.table is not None and self.is_list
        paths = listed_images(self.table, self.images) if self.table and is_listed else self.folder.image_paths()
        return (*(str(root / path) for path in paths), *([] if self.table is None else [str(self.table)]))


def _split_sources(root: Path, tree: ImageFolder, options: ReadOptions) -> tuple[dict[str, _SplitSource], list[str]]:
    """The splits of a folder by their names, and notes."""
    folders, notes = _split_folders(tree)
    if list(folders) == [""]:
        images = ImageNames(list(tree.image_paths()))
        tables = find_split_tables(root, images)
        if any(has_image_labels(table, images, options) for table in tables.values()):
            return {name: _SplitSource(tree, images, table, is_list=True) for name, table in tables.items()}, notes
        if tables:
            listed = shortened_list([table.name for table in tables.values()])
            notes.append(f"{listed} name images, but no labels: not used")
    sources = {}
    for name, folder in folders.items():
        images = ImageNames(list(folder.image_paths()), folder.below)
        table, new_notes = find_image_table(root, folder.path, name, images, options)
        notes += new_notes
        if table is not None and folder.class_folders and not has_image_labels(table, images, options):
            notes.append(f"{table.name} is not used: it has no column of labels, and the folders are the classes")
            table = None
        if table is None:
            notes += _tables_of_classes(folder)
        sources[name] = _SplitSource(folder, images, table)
    return sources, notes


def _split_folders(tree: ImageFolder) -> tuple[dict[str, ImageFolder], list[str]]:
    """The folders of the splits by their names, ``""`` for the root where it is the only one, and notes.

    A folder that is named as a split is one if it holds folders of classes, or if no folder of another name holds
    images. Beside folders of other classes it is a class.

    Raises:
        DataError: it cannot be told which.
    """
    notes = [f"{readable_name(name)}/ is not used: datawinnow wrote it" for name in sorted(tree.outputs)]
    named = {name: folder for name, folder in sorted(tree.folders.items()) if split_of(name) and folder.has_images}
    siblings = [name for name in tree.class_folders if name not in named]
    if not named:
        return {"": tree}, notes
    nested = {name: folder for name, folder in named.items() if folder.class_folders}
    if not siblings:
        if tree.images:
            notes.append(f"{len(tree.images):,} images directly in {tree.path} are not used: they belong to no split")
        return named, notes
    trains = [name for name in nested if split_of(name) == "train"]
    listed = shortened_list([f"{readable_name(name)}/" for name in siblings], 3)
    if trains and (len(nested) > len(trains) or set(siblings) <= set(nested[trains[0]].class_folders)):
        return named, [*notes, f"{listed} beside {trains[0]}/ are not used"]
    if trains and any(map(is_split_word, trains)):
        raise DataError(
            f"{tree.path / trains[0]} holds folders and stands beside {listed}, which hold images: it may be a split "
            f"or a class. If it is the train split, give its path; if it is a class, put its images directly into it"
        )
    tests = [name for name in nested if split_of(name) != "train" and set(nested[name].class_folders) <= set(siblings)]
    if tests:
        # cat/, dog/ and test/cat/, test/dog/: the root is the train split
        classes = {name: folder for name, folder in tree.folders.items() if name not in tests}
        train = ImageFolder(tree.path, "", tree.images, tree.other_files, tree.broken_links, classes)
        notes.append(f"{listed} are read as classes to train on, beside the split {shortened_list(tests)}")
        return {"train": train, **{name: nested[name] for name in tests}}, notes
    notes += [
        f"{readable_name(name)}/ is read as a class, as is {listed}; were it a split, it would hold folders of "
        "classes, and nothing but splits would be beside it"
        for name in named
    ]
    return {"": tree}, notes


def _unlabelled_notes(
    used: Mapping[str, _ImageSplit],
    sources: Mapping[str, _SplitSource],
    other_files: Mapping[str, tuple[str, ...]],
    root: Path,
) -> tuple[str, ...]:
    """Notes on images that are in the folder of a split and in no table."""
    listed = {str(root / image) for split in used.values() for image in split.images}
    listed.update(file for files in other_files.values() for file in files)
    notes: dict[Path, tuple[str, ...]] = {}
    for name, split in used.items():
        folder = sources[name].folder
        if split.table is not None and folder.path not in notes:
            images = (image for image in folder.image_paths() if str(root / image) not in listed)
            notes[folder.path] = unlabelled_note(split.table, images, folder.path)
    return tuple(note for notes_of_folder in notes.values() for note in notes_of_folder)


def _tables_of_classes(folder: ImageFolder) -> list[str]:
    """A note on tables of labels in the folders of classes, whose names are the labels."""
    names = [f"metadata{suffix}" for suffix in TABLE_SUFFIXES]
    tables = [child.path / name for child in folder.folders.values() for name in names if name in child.other_files]
    if not tables:
        return []
    return [
        f"{len(tables):,} tables in the folders of classes are not used, the first {tables[0]}: the folders' names are "
        f"the labels; for those of tables, put one metadata.csv of all images into {folder.path}"
    ]


def _read_image_split(source: _SplitSource, name: str, options: ReadOptions, notes: list[str]) -> _ImageSplit:
    """The images of a split in the order of their paths, class by class or as its table has them."""
    folder = source.folder
    if source.table is not None:
        labelled = read_image_table(source.table, folder.path, source.images, options)
        notes += labelled.notes
        return _ImageSplit(name, labelled.images, labelled.labels, labelled)
    classes = _class_names(folder)
    images: list[str] = []
    labels: list[str] = []
    for class_name in classes:
        paths = list(folder.folders[class_name].image_paths())
        # a test split may lack a class
        if not paths and options.only != "test" and (not name or split_of(name) == "train"):
            raise DataError(_empty_class(folder.folders[class_name]))
        images += paths
        labels += [class_name] * len(paths)
    return _ImageSplit(name, images, labels)


def _class_names(folder: ImageFolder) -> list[str]:
    if not folder.folders or (folder.images and not folder.class_folders):
        if folder.images:
            example = folder.path / "cat" / folder.images[0]
            raise DataError(
                f"{folder.path} holds {len(folder.images):,} images, but no folders of classes; put the images of each "
                f"class in a folder named after it, for example {example}, or add a table {folder.path}/metadata.csv "
                "with the columns file_name and label"
            )
        raise DataError(
            f"no images in {folder.path}: expected {folder.path}/<class>/*.png or {folder.path}/train/<class>/*.png, "
            f"or Parquet files{_other_files_hint(folder)}{_broken_hint(folder)}"
        )
    if not folder.class_folders:
        raise DataError(
            f"no images in {folder.path}, nor in its folders {shortened_list(sorted(folder.folders))} (files ending in "
            f"{', '.join(SUFFIXES)}){_other_files_hint(folder)}{_broken_hint(folder)}"
        )
    if len(folder.class_folders) == 1 and len(folder.folders[folder.class_folders[0]].class_folders) > 1:
        inner = folder.folders[folder.class_folders[0]]
        raise DataError(
            f"{folder.path} has one folder with images, {inner.path.name}/, which holds folders itself "
            f"({shortened_list(inner.class_folders)}): if those are the classes, give {inner.path}"
        )
    return sorted(folder.folders)


def _other_files_hint(folder: ImageFolder) -> str:
    names = [name for child in folder.walk() for name in child.other_files]
    if not names:
        return ""
    packed = any(name.lower().endswith((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")) for name in names)
    return f"; it holds {shortened_list(names, 3)}{': unpack what is packed' if packed else ''}"


def _empty_class(folder: ImageFolder) -> str:
    rest = [child.path / name for child in folder.walk() for name in child.other_files]
    contents = f"it holds {len(rest)} other files, for example {rest[0].name}" if rest else "it is empty"
    return (
        f"the class folder {folder.path} holds no images ({contents}{_broken_hint(folder)}); remove it or put images "
        f"in it ({', '.join(SUFFIXES)})"
    )


def _broken_hint(folder: ImageFolder) -> str:
    count = sum(len(child.broken_links) for child in folder.walk())
    return f"; it holds {count:,} links to files that do not exist" if count else ""


def _left_out(folder: ImageFolder, *, is_table: bool) -> list[str]:
    """Notes about what a split's folder holds that is not read, or not as a folder of its own."""
    notes = []
    children = list(folder.walk())
    num_other = sum(len(child.other_files) for child in children)
    if num_other:
        notes.append(f"{many(num_other, 'file')} below {folder.path}: no images by their names, so left out")
    broken = [child.path / name for child in children for name in child.broken_links]
    if broken:
        notes.append(
            f"{len(broken):,} broken links below {folder.path} are left out, the first {broken[0]}: their targets do "
            "not exist (with git-annex or DVC, fetch the files first)"
        )
    nested = [
        f"{name}/ ({shortened_list(folder.folders[name].class_folders, 3)})"
        for name in folder.class_folders
        if len(folder.folders[name].class_folders) > 1 and not folder.folders[name].images
    ]
    if nested and not is_table:
        notes.append(
            f"{len(nested):,} classes are folders of folders, whose images are all of the outer one's class: "
            f"{shortened_list(nested, 3)}"
        )
    if folder.class_folders and folder.images and not is_table:
        notes.append(
            f"{len(folder.images):,} images directly in {folder.path} are left out: they are in no class folder"
        )
    return [readable_name(note) for note in notes]


def _folder_class_ids(
    train: _ImageSplit, test: _ImageSplit | None, kept_classes: Sequence[str]
) -> tuple[Classes, Tensor, Tensor | None, tuple[str, ...]]:
    if train.table is None and (test is None or test.table is None):
        # the folders' names are the classes as they stand, numbers too
        labels = set(train.labels)
        names = sorted(labels | (set(kept_classes) - set(map(readable_name, labels))))
        position = {name: i for i, name in enumerate(names)}
        ids = [
            torch.tensor([position[label] for label in split.labels]) for split in (train, test) if split is not None
        ]
        return Classes(tuple(names), None), ids[0], ids[1] if test is not None else None, ()
    columns = [LabelColumn(split.labels, split.describe) for split in (train, test) if split is not None]
    return label_splits(columns[0], columns[1] if test is not None else None, None, kept_classes)


def _encoded(root: Path, split: _ImageSplit, labels: Tensor, unused: dict[str, tuple[str, ...]]) -> Split:
    table = split.table
    columns = {} if table is None else {"table": str(table.path), "image": table.image, "label": table.label}
    files = tuple(f"{root}/{name}" for name in split.images)
    rows, n = torch.arange(len(files)), len(files)
    origin = Origin("folder", str(root), files, rows, columns, split=split.name, unused=unused, num_rows=n)
    return Split(FolderImages(str(root), tuple(split.images)), labels, origin, list(map(readable_name, split.images)))


def _check_image_columns(options: ReadOptions, table: Path | None, root: Path) -> None:
    for name, value in (("image", options.image), ("label", options.label), ("text", options.text)):
        if value is not None and (table is None or name == "text"):
            raise ArgumentError(
                f"`{name}={value!r}` names a column, but {root} has none; it is for Parquet, .npz, hf: and files of "
                "texts"
            )
