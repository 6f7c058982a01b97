"""A cache of indicators by content: nothing is computed or paid for twice.

It is one SQLite file. Each result is committed at once, so that a killed process loses none. The key is a hash of the
indicator, of the model and options that made it, and of the content: a changed text or model is another entry.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datawinnow.core.errors import RunError
from datawinnow.core.progress import Progress

CACHE_FILE = "indicators.sqlite"
KEY_VERSION = 1
LOCK_SECONDS = 30.0
"""How long another process may hold the file."""
CacheRow = tuple[bytes, str, bytes | None, str | None, float]


def default_cache_path() -> Path | None:
    """``indicators.sqlite`` in ``$DATAWINNOW_CACHE`` or ``~/.cache/datawinnow``; None if the variable is empty."""
    folder = os.environ.get("DATAWINNOW_CACHE")
    if folder is not None:
        return Path(folder).expanduser() / CACHE_FILE if folder.strip() else None
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "datawinnow" / CACHE_FILE


def cache_key(indicator: str, made_by: Mapping[str, Any], *content: str | bytes | None) -> bytes:
    """The key of an entry.

    Args:
        indicator: its name.
        made_by: model and options, of types that JSON has.
        content: texts, or bytes such as the hash of an image; None differs from an empty text.

    Returns:
        32 bytes, a hash over all of them.
    """
    digest = hashlib.sha256(json.dumps([KEY_VERSION, indicator, made_by], sort_keys=True).encode())
    for value in content:
        raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        kind = b"n" if raw is None else b"s" if isinstance(value, str) else b"b"
        # Type and length before each value: ("ab", "c") and ("a", "bc") must not share a key.
        digest.update(kind + len(raw or b"").to_bytes(8, "little") + (raw or b""))
    return digest.digest()


class IndicatorCache:
    """Vectors and texts by key; a cache is used by the thread that opened it.

    Args:
        path: the file, or None to keep entries in memory, for this process alone.

    Raises:
        RunError: the file is no such cache, is damaged, or the disk is full.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(
                # isolation_level=None: no implicit transactions, so that `_write` decides where one begins and ends.
                ":memory:" if path is None else path,
                timeout=LOCK_SECONDS,
                isolation_level=None,
            )
            if path is not None:
                # With a write-ahead log readers do not block a writer in another process.
                self.connection.execute("PRAGMA journal_mode=WAL")
            self.connection.execute(
                "CREATE TABLE IF NOT EXISTS entries "
                "(key BLOB PRIMARY KEY, indicator TEXT, value BLOB, text TEXT, time REAL) WITHOUT ROWID"
            )
        except (sqlite3.Error, OSError) as error:
            raise self._run_error(error) from None

    def __enter__(self) -> IndicatorCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def arrays(self, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """float32 vectors of those keys that have one."""
        # Little-endian whatever the machine, since the file may be copied.
        return {key: np.frombuffer(value, dtype="<f4") for key, value in self._rows(keys, "value")}

    def texts(self, keys: Iterable[bytes]) -> dict[bytes, str]:
        """Texts of those keys that have one."""
        return dict(self._rows(keys, "text"))

    def _rows(self, keys: Iterable[bytes], column: str) -> list[tuple[bytes, Any]]:
        unique, rows = list(dict.fromkeys(keys)), []
        try:
            for first in range(0, len(unique), 500):  # SQLite takes 999 parameters
                batch = unique[first : first + 500]
                marks = ",".join("?" * len(batch))
                query = f"SELECT key, {column} FROM entries WHERE key IN ({marks}) AND {column} IS NOT NULL"
                rows += self.connection.execute(query, batch).fetchall()
        except sqlite3.Error as error:
            raise self._run_error(error) from None
        return rows

    def put(self, indicator: str, values: Mapping[bytes, np.ndarray]) -> None:
        """Store vectors (or single numbers) as float32, all or none of them."""
        self._write(
            [
                (key, indicator, np.ascontiguousarray(value, dtype="<f4").tobytes(), None, time.time())
                for key, value in values.items()
            ]
        )

    def put_text(self, indicator: str, key: bytes, text: str) -> None:
        """Store a text."""
        self._write([(key, indicator, None, text, time.time())])

    def _write(self, rows: list[CacheRow]) -> None:
        try:
            # Waits for the write lock now; a deferred transaction may fail at its first write.
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)", rows)
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise self._run_error(error) from None

    def _run_error(self, error: Exception) -> RunError:
        reason = str(error)
        if "full" in reason:
            return RunError(f"the disk is full: could not write {self.path}; what was written before is kept")
        if "locked" in reason:
            return RunError(f"{self.path} has been in use by another process for {LOCK_SECONDS:.0f} s; try again later")
        return RunError(
            f"{self.path} cannot be used as a cache of indicators ({reason}); remove it, or give another `cache=`"
        )

    def compute(
        self,
        indicator: str,
        keys: Sequence[bytes | None],
        compute_batch: Callable[[list[int]], np.ndarray],
        *,
        batch: int,
        sizes: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Vectors of examples, from the cache where it has them; those that are computed are stored batch by batch.

        Args:
            indicator: its name.
            keys: (n,) one an example; None for an example that has no vector.
            compute_batch: returns vectors (b, d) of the examples at b positions.
            batch: positions a call.
            sizes: (n,) lengths; batches go from the longest examples to the shortest, so that little is padded. None
                keeps their order.
            progress: called as ``progress(indicator, done, total)`` after each batch.

        Returns:
            (n, d) float32; a row of NaN where the key is None.
        """
        vectors = self.arrays(key for key in keys if key is not None)
        missing: dict[bytes, int] = {}
        for i, key in enumerate(keys):
            if key is not None and key not in vectors:
                missing.setdefault(key, i)  # equal contents are computed once
        # The longest first: a batch that does not fit in memory fails at once and not after hours.
        order = sorted(missing.values(), key=None if sizes is None else lambda i: -sizes[i])
        for first in range(0, len(order), batch):
            positions = order[first : first + batch]
            computed = np.asarray(compute_batch(positions), dtype=np.float32)
            entries = {key: row for i, row in zip(positions, computed, strict=True) if (key := keys[i]) is not None}
            # After every batch, so that a killed run loses at most one.
            self.put(indicator, entries)
            vectors.update(entries)
            if progress is not None:
                progress(indicator, first + len(positions), len(order))
        # Without any vector the width is unknown; one column of NaN stands for it.
        width = next((len(vector) for vector in vectors.values()), 1)
        rows = np.full((len(keys), width), np.nan, dtype=np.float32)
        for i, key in enumerate(keys):
            if key is not None:
                rows[i] = vectors[key]
        return torch.from_numpy(rows)
