"""Parquet files of datawinnow: written whole, with their making in the schema; read strictly. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datawinnow.core.errors import RunError
from datawinnow.core.files import FORMAT_VERSION, check_format, written_whole

META = b"datawinnow"


def write_table(path: Path, table: pa.Table, meta: Mapping[str, Any]) -> None:
    """Write a Parquet file whole, with ``meta`` and the format's version in its schema."""
    text = json.dumps({"format": FORMAT_VERSION, **meta})
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), META: text.encode()})
    with written_whole(path) as part:
        pq.write_table(table, part, compression="zstd")


def read_table(path: Path, verb: str) -> tuple[pa.Table, dict[str, Any]]:
    """A Parquet file of datawinnow and its ``meta``.

    Raises:
        RunError: not there, truncated, not of datawinnow, or newer.
    """
    if not path.exists():
        raise RunError(f"no such file: {path}; make it with: {verb}")
    try:
        with pq.ParquetFile(path) as file:  # not read_table: it would read columns into a path such as "keep=0.3/"
            table = file.read()
        meta = json.loads((table.schema.metadata or {}).get(META, b"{}"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RunError(
            f"{path} is truncated or damaged ({str(error).strip()}); remove it and make it again with: {verb}"
        ) from None
    if not isinstance(meta, dict):
        raise RunError(f"{path} was not written by datawinnow, or is damaged; make it again with: {verb}")
    check_format(meta.get("format"), path)
    return table, meta
