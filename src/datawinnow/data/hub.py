"""Datasets of the Hugging Face hub (``hf:owner/name``), and folders that `datasets` saved to disk.

`datasets` says which files a dataset has and fetches them; they are read and decoded here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datawinnow.core.errors import DataError
from datawinnow.data.assemble import Loaded, ReadOptions
from datawinnow.data.examples import short_name
from datawinnow.data.parquet import TableSource, load_tables

SAVED_FILES = ("dataset_dict.json", "state.json")
"""Files that ``save_to_disk`` writes into the folder of a `DatasetDict` and of a `Dataset`."""

HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
"""An owner, a dataset or a configuration of the hub."""
SplitFiles = dict[str, list[Path]]


def load_hub(source: Path, options: ReadOptions) -> tuple[Loaded, Loaded]:
    """Fetch a dataset of the hub and read it.

    Parquet files are read as they were fetched. Datasets in other formats are converted by `datasets` into Arrow files
    in its cache, which a note names with their size.

    Args:
        source: ``hf:owner/name``, or ``hf:owner/name/configuration``.
        options: of `load`.

    Raises:
        DataError: not found, not reachable, without a train split, or without images or texts and labels.
    """
    path = str(source)
    names = [name for name in path.removeprefix("hf:").split("/") if name]
    if not 1 <= len(names) <= 3:
        raise DataError(f"{path!r} is not a dataset of the hub: write hf:owner/name, or hf:owner/name/configuration")
    # any other would be looked for among the local files, up to the root
    if path.startswith("hf:/") or not all(HUB_NAME.fullmatch(name) and ".." not in name for name in names):
        raise DataError(
            f"{path!r} is not a dataset of the hub: names hold letters, digits, '-', '_' and '.'; a local folder is "
            "given without hf:"
        )
    name, configuration = "/".join(names[:2]), names[2] if len(names) == 3 else None
    splits, features, notes = _fetch(name, configuration)
    metadata = None if features is None else features.arrow_schema.metadata
    return load_tables(splits, TableSource("hf", path, short_name(name), metadata), options, notes)


def is_saved_dataset(folder: Path) -> bool:
    """Whether a folder was written by ``save_to_disk`` of `datasets`."""
    return any((folder / name).is_file() for name in SAVED_FILES)


def load_saved_dataset(folder: Path, options: ReadOptions) -> tuple[Loaded, Loaded]:
    """Read a folder that ``save_to_disk`` of `datasets` wrote; its Arrow files are read where they are.

    Args:
        folder: of a `DatasetDict`, or of a `Dataset`, of which a test split is held out.
        options: of `load`.

    Raises:
        DataError: damaged, without a train split, or without images or texts and labels.
    """
    import datasets

    try:
        saved = datasets.load_from_disk(str(folder))
    except Exception as error:  # missing or damaged files: from JSON, Arrow and the file system
        raise DataError(
            f"{folder} is not a complete folder of save_to_disk ({type(error).__name__}: {str(error).strip()[:200]}); "
            "save it again"
        ) from error
    by_split = saved if isinstance(saved, Mapping) else {"train": saved}
    splits = {str(split): _arrow_files(dataset, str(folder)) for split, dataset in by_split.items()}
    return load_tables(splits, TableSource("arrow", str(folder), short_name(folder)), options)


def _fetch(name: str, configuration: str | None) -> tuple[SplitFiles, Any, tuple[str, ...]]:
    """Files of each split, the features in the dataset's description (None if it has none), and notes."""
    try:
        import datasets

        builder = datasets.load_dataset_builder(name, configuration)
        urls = {str(split): list(files) for split, files in (builder.config.data_files or {}).items()}
        # read as fetched: `datasets` would write a second copy as Arrow
        if urls and builder.info.builder_name == "parquet":
            paths = datasets.DownloadManager(dataset_name=name).download(urls)
            return {split: [Path(file) for file in files] for split, files in paths.items()}, builder.info.features, ()
        builder.download_and_prepare()
        converted = builder.as_dataset()
    except Exception as error:  # the hub's client has dozens of errors, from HTTP to YAML
        reason = f"{type(error).__name__}: {str(error).strip() or 'no reason given'}"
        raise DataError(
            f"could not load {name!r} from the Hugging Face hub ({reason[:400]}). Check the name and the network (and "
            "that HF_HUB_OFFLINE is not set); a private or gated dataset needs `hf auth login`; where a configuration "
            "is needed, write hf:owner/name/configuration; or fetch its Parquet files and give their folder"
        ) from error
    if not isinstance(converted, Mapping):
        raise DataError(f"{name!r} is not a dataset with splits, but {type(converted).__name__}")
    splits = {str(split): _arrow_files(dataset, name) for split, dataset in converted.items()}
    files = [file for paths in splits.values() for file in paths]
    size = sum(file.stat().st_size for file in files)
    note = (
        f"{name} is not in Parquet: `datasets` keeps a copy of it as Arrow, {size / 1e6:,.1f} MB in {files[0].parent}, "
        "which is read; it can be removed afterwards"
    )
    return splits, None, (note,)


def _arrow_files(dataset: Any, source: str) -> list[Path]:
    files = [Path(file["filename"]) for file in dataset.cache_files]
    if not files:
        raise DataError(f"{source} has no Arrow files; fetch its Parquet files and give their folder")
    return files
