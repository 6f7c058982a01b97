"""``hf:owner/name``: a dataset of the Hugging Face hub, fetched by `datasets` and decoded here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from datawinnow.core.errors import DataError
from datawinnow.data.assemble import Loaded, Options
from datawinnow.data.columns import LABEL_NAMES, TESTS, open_arrow
from datawinnow.data.examples import short_name
from datawinnow.data.parquet import load_tables
from datawinnow.data.tables import ArrowImages


def load_hub(source: str, options: Options) -> tuple[Loaded, Loaded]:
    """Fetch a dataset and read it.

    Images are decoded with Pillow from the Arrow files that `datasets` leaves in its cache, so nothing of it is
    needed afterwards: not its decoders, not the network.

    Args:
        source: ``hf:owner/name``, or ``hf:owner/name/configuration``.
        options: the user's.

    Raises:
        DataError: not found, not reachable, without a train split, or without images and labels.
    """
    parts = [p for p in source.removeprefix("hf:").split("/") if p]
    if not 1 <= len(parts) <= 3:
        raise DataError(f"{source!r} is no dataset of the hub: write hf:owner/name, or hf:owner/name/configuration")
    name, configuration = "/".join(parts[:2]), parts[2] if len(parts) == 3 else None
    splits = _fetched(name, configuration)
    if "train" not in splits:
        raise DataError(f"{source} has no train split; it has {', '.join(splits) or 'none'}")
    train_files = _files(splits["train"], source)
    files = {t: _files(splits[t], source) for t in TESTS if t in splits}
    test = next((t for t in files if _labelled(files[t])), next(iter(files), None))
    test_files = files[test] if test else None
    notes = (f"the {test} split is used as the test split",) if test not in (None, "test") else ()
    return load_tables(train_files, test_files, "hf", source, short_name(name), options, notes, ArrowImages)


def _fetched(name: str, configuration: str | None) -> Mapping[str, Any]:
    try:
        import datasets

        found = datasets.load_dataset(name, configuration)
    except Exception as error:  # the hub's client has dozens of errors, from HTTP to YAML
        reason = f"{type(error).__name__}: {str(error).strip() or 'no reason given'}"
        raise DataError(
            f"could not load {name!r} from the Hugging Face hub ({reason[:400]}). Check the name and the network (and "
            "that HF_HUB_OFFLINE is not set); a private or gated dataset needs `hf auth login`; where a configuration "
            "is needed, write hf:owner/name/configuration; or fetch its Parquet files and give their folder"
        ) from error
    if not isinstance(found, Mapping):
        raise DataError(f"{name!r} is no dataset with splits, but {type(found).__name__}")
    return {str(k): v for k, v in found.items()}


def _files(split: Any, source: str) -> list[Path]:
    files = [Path(f["filename"]) for f in split.cache_files]
    if not files:
        raise DataError(
            f"{source} left no files in the cache of `datasets`; fetch its Parquet files and give their folder"
        )
    return files


def _labelled(files: list[Path]) -> bool:
    """Whether a split has labels; benchmarks whose answers are secret give -1 for each."""
    table = open_arrow(str(files[0]))
    labels = [table.column(name) for name in LABEL_NAMES if name in table.column_names]
    return not any(pa.types.is_integer(c.type) and len(c) and (pc.max(c).as_py() or 0) < 0 for c in labels)
