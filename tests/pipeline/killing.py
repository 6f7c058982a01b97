"""A process killed at any of its file operations, acted out: from one on, all that it does to files raises."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq


class Killed(BaseException):
    """Not an Exception, so that nothing catches it on the way."""


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
    """What a folder holds, without times: path -> bytes, or rows or facts where a time is among them."""
    found: dict[str, object] = {}
    for file in sorted(folder.rglob("*")):
        if file.is_dir():
            found[str(file.relative_to(folder))] = "a folder"
        elif file.suffix == ".json":
            found[str(file.relative_to(folder))] = timeless(json.loads(file.read_text()))
        elif file.name == "history.parquet":
            rows = pq.read_table(file).to_pylist()
            found[file.name] = str([{k: v for k, v in row.items() if k != "seconds"} for row in rows])
        else:
            found[str(file.relative_to(folder))] = file.read_bytes()
    return found


def timeless(value):
    """JSON without what differs between two runs of the same thing."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in ("seconds", "created", "finished")}
    return [timeless(v) for v in value] if isinstance(value, list) else value
