"""What was computed for a text or image is kept by content, so that nothing is computed or paid for twice.

One SQLite file: each answer is committed when it comes, so that a kill loses none. The key is a hash of the indicator,
of the model and options that made it, and of the content, so that a changed text or model is another entry.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from datawinnow.core.errors import RunError

FILE = "indicators.sqlite"
VERSION = 1
Row = tuple[bytes, str, bytes | None, str | None, float]
WAIT = 30.0
"""Seconds that another process may hold the file."""


def default_path() -> Path | None:
    """``indicators.sqlite`` in ``$DATAWINNOW_CACHE`` or ``~/.cache/datawinnow``; None where that is switched off."""
    told = os.environ.get("DATAWINNOW_CACHE")
    if told is not None:
        return Path(told).expanduser() / FILE if told.strip() else None
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "datawinnow" / FILE


def key_of(what: str, made_by: Mapping[str, Any], *content: str | bytes | None) -> bytes:
    """32 bytes over the indicator, how it is made, and the content.

    Args:
        what: the indicator.
        made_by: model and options, as JSON has them.
        content: texts, or bytes such as an image's hash; None differs from an empty text.
    """
    found = hashlib.sha256(json.dumps([VERSION, what, made_by], sort_keys=True).encode())
    for part in content:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        kind = b"n" if raw is None else b"s" if isinstance(part, str) else b"b"
        found.update(kind + len(raw or b"").to_bytes(8, "little") + (raw or b""))
    return found.digest()


class Store:
    """Arrays and texts by key; made by one thread and used by it.

    Args:
        path: the file, or None to keep nothing beyond this process.

    Raises:
        RunError: the file is something else, damaged, or cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self.base = sqlite3.connect(":memory:" if path is None else path, timeout=WAIT, isolation_level=None)
            if path is not None:
                self.base.execute("PRAGMA journal_mode=WAL")
            self.base.execute(
                "CREATE TABLE IF NOT EXISTS made (key BLOB PRIMARY KEY, what TEXT, value BLOB, text TEXT, at REAL) "
                "WITHOUT ROWID"
            )
        except (sqlite3.Error, OSError) as error:
            raise self._damaged(error) from None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.base.close()

    def arrays(self, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """float32 vectors of the keys that there are."""
        return {key: np.frombuffer(value, dtype="<f4") for key, value in self._rows(keys, "value")}

    def texts(self, keys: Iterable[bytes]) -> dict[bytes, str]:
        """Texts of the keys that there are."""
        return dict(self._rows(keys, "text"))

    def _rows(self, keys: Iterable[bytes], column: str) -> list[tuple[bytes, Any]]:
        wanted, found = list(dict.fromkeys(keys)), []
        try:
            for first in range(0, len(wanted), 500):
                part = wanted[first : first + 500]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, {column} FROM made WHERE key IN ({marks}) AND {column} IS NOT NULL"
                found += self.base.execute(query, part).fetchall()
        except sqlite3.Error as error:
            raise self._damaged(error) from None
        return found

    def put(self, what: str, made: Mapping[bytes, np.ndarray]) -> None:
        """Keep vectors (or single numbers) as float32, all or none."""
        rows: list[Row] = [
            (key, what, np.ascontiguousarray(value, dtype="<f4").tobytes(), None, time.time())
            for key, value in made.items()
        ]
        self._write(rows)

    def put_text(self, what: str, key: bytes, text: str) -> None:
        """Keep a text."""
        self._write([(key, what, None, text, time.time())])

    def _write(self, rows: list[Row]) -> None:
        try:
            self.base.execute("BEGIN IMMEDIATE")
            self.base.executemany("INSERT OR REPLACE INTO made VALUES (?, ?, ?, ?, ?)", rows)
            self.base.execute("COMMIT")
        except sqlite3.Error as error:
            if self.base.in_transaction:
                self.base.execute("ROLLBACK")
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> RunError:
        text = str(error)
        if "full" in text:
            return RunError(f"the disk is full: could not write {self.path}. What was kept before is there still")
        if "locked" in text:
            return RunError(
                f"{self.path} is in use by another process for over {WAIT:.0f} s; try again when it is done"
            )
        return RunError(
            f"{self.path} cannot be used as a store of indicators ({text}); remove it, or give another --cache"
        )
