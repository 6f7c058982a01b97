"""A process killed at any of its file operations, acted out: from one on, all that it does to files raises."""

from __future__ import annotations

import json
import struct
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest


class Killed(BaseException):
    """Not an Exception, so that nothing catches it on the way."""


every_moment = pytest.mark.parametrize(
    "stride", [7, pytest.param(1, marks=pytest.mark.slow)], ids=["some moments", "every moment"]
)
"""Kill at every seventh operation, and among the slow tests at each."""


@contextmanager
def killed_at(monkeypatch, at: int | None):
    """Let ``at`` renames and removals happen, then none; gives a function that says how many there were."""
    count, dead, renamed = 0, False, Path.replace

    def counted(operation):
        def do(path, *args, **kwargs):
            nonlocal count, dead
            if dead or (at is not None and count >= at):
                dead = True
                raise Killed
            # the removal of a .part that was renamed already changes nothing, so it is no moment of its own
            count += operation is renamed or path.suffix != ".part"
            return operation(path, *args, **kwargs)

        return do

    with monkeypatch.context() as patch:
        replace, unlink = counted(Path.replace), counted(Path.unlink)
        patch.setattr(Path, "replace", replace)
        patch.setattr(Path, "unlink", unlink)
        yield lambda: count


def contents(folder: Path) -> dict[str, object]:
    """What a folder holds, without times: path -> content."""
    return {str(f.relative_to(folder)): "a folder" if f.is_dir() else content(f) for f in sorted(folder.rglob("*"))}


def content(file: Path) -> object:
    """The bytes of a file, or what is in it where a time is among that."""
    if file.suffix == ".json":
        return timeless(json.loads(file.read_text()))
    return {".parquet": parquet, ".safetensors": network}.get(file.suffix, Path.read_bytes)(file)


def parquet(file: Path) -> tuple[object, ...]:
    """Rows (as text, in which NaN is NaN), columns and making of a table, without times."""
    table = pq.read_table(file)
    rows = [{k: v for k, v in row.items() if k not in ("seconds", "planning_seconds")} for row in table.to_pylist()]
    fields = [(field.name, str(field.type), field.metadata) for field in table.schema]
    return str(rows), fields, timeless(json.loads(table.schema.metadata[b"datawinnow"]))


def network(file: Path) -> tuple[object, bytes]:
    """Facts, without times, and bytes of the weights of a network."""
    data = file.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"]["datawinnow"] = timeless(json.loads(header["__metadata__"]["datawinnow"]))
    return header, data[8 + size :]


def timeless(value):
    """JSON without what differs between two runs of the same thing."""
    if isinstance(value, dict):
        differing = ("seconds", "created", "finished", "checksum")
        # a network's file says how long it took, so its checksum differs too
        return {k: timeless(v) for k, v in value.items() if k not in differing and not k.endswith(".safetensors")}
    return [timeless(v) for v in value] if isinstance(value, list) else value
