"""A folder of images by class: ``ROOT/train/<class>/*`` beside ``ROOT/test/<class>/*``, or ``ROOT/<class>/*``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from datawinnow.core.errors import DataError
from datawinnow.data.assemble import Loaded, ReadOptions, Split, assemble
from datawinnow.data.examples import Origin, short_name
from datawinnow.data.images import SUFFIXES, Encoded, Index, Raw

TEST_FOLDERS = ("test", "val", "validation", "valid")
"""Names of a test split's folder, in the order of preference."""


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
        return str(Path(self.root, self.names[i]))

    def take(self, index: Index) -> Encoded:
        """The images at ``index`` (m,)."""
        return FolderImages(self.root, tuple(self.names[i] for i in index.tolist()))

    def files(self) -> list[str]:
        """Every image's file."""
        return [self.where(i) for i in range(len(self))]

    def chosen(self) -> bytes:
        """Nothing: the files say it all."""
        return b"folder"


def load_folder(root: Path, options: ReadOptions) -> tuple[Loaded, Loaded]:
    """Read a folder of images by class.

    Args:
        root: holds ``train`` and ``test`` (or ``val``, ``validation``, ``valid``), or the classes' folders.
        options: of `load`.

    Raises:
        DataError: no images, no class folders, an empty class folder, one class, a broken image.
    """
    train_folder = root / "train" if _subfolders(root / "train") else root
    # without a folder train, "test" or "val" is the name of a class
    tests = [root / t for t in TEST_FOLDERS if _subfolders(root / t)] if train_folder != root else []
    classes = _class_names(train_folder)
    train, notes = _list_split(root, train_folder, classes, "train")
    test = None
    if tests:
        unknown = sorted(set(_class_names(tests[0])) - set(classes))
        if unknown:
            raise DataError(
                f"{tests[0]} has a class that {train_folder} has not: {unknown[0]!r}; the classes of both must agree"
            )
        test, test_notes = _list_split(root, tests[0], classes, "test")
        notes += test_notes
        notes += tuple(f"{t.name}/ is not used: {tests[0].name}/ is the test split" for t in tests[1:])
    return assemble(train, test, tuple(classes), short_name(root), options, notes)


def _list_split(root: Path, folder: Path, classes: Sequence[str], split: str) -> tuple[Split, tuple[str, ...]]:
    """All images of a split in the order of their paths, class by class."""
    names: list[str] = []
    labels: list[int] = []
    num_other = 0
    for label, name in enumerate(classes):
        images, rest = _images_below(folder / name)
        num_other += len(rest)
        # a test split may lack a class
        if not images and split == "train":
            contents = f"it holds {len(rest)} other files, for example {rest[0].name}" if rest else "it is empty"
            raise DataError(
                f"the class folder {folder / name} holds no images ({contents}); remove it or put images in it "
                f"({', '.join(SUFFIXES)})"
            )
        names += [path.relative_to(root).as_posix() for path in images]
        labels += [label] * len(images)
    if not names:
        raise DataError(f"no images in {folder} (files ending in {', '.join(SUFFIXES)})")
    origin = Origin("folder", str(root), tuple(str(root / name) for name in names), torch.arange(len(names)))
    images_of_split = Split(FolderImages(str(root), tuple(names)), torch.tensor(labels), origin, names)
    notes = (f"{num_other:,} files below {folder} are no images by their names and are left out",) if num_other else ()
    return images_of_split, notes


def _class_names(folder: Path) -> list[str]:
    names = sorted(path.name for path in _subfolders(folder))
    if not names:
        loose = [p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES] if folder.is_dir() else []
        if loose:
            raise DataError(
                f"{folder} holds {len(loose)} images, but no folders of classes; put the images of each class in a "
                f"folder named after it, for example {folder / 'cat' / loose[0].name}"
            )
        raise DataError(
            f"no images in {folder}: expected {folder}/<class>/*.png or {folder}/train/<class>/*.png, or Parquet files"
        )
    if not any(_images_below(folder / name)[0] for name in names):
        raise DataError(
            f"no images in {folder}, nor in its folders {', '.join(names[:5])} (files ending in {', '.join(SUFFIXES)})"
        )
    return names


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    try:
        return [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX"))]
    except PermissionError:
        raise DataError(f"the folder {folder} may not be read; change its permissions") from None


def _images_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Images and other files at any depth, sorted; hidden ones count as neither."""
    images: list[Path] = []
    other_files: list[Path] = []
    for base, folders, files in os.walk(folder):
        # in place: os.walk goes down into what is left of this list
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        for file in files:
            path = Path(base, file)
            # a broken link is no file
            if file.startswith(".") or not path.is_file():
                continue
            (images if path.suffix.lower() in SUFFIXES else other_files).append(path)
    return sorted(images), sorted(other_files)
