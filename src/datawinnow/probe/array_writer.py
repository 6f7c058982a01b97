"""Writes the arrays of a probe while it runs: to memory, or each to a file that appears when it is complete."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from datawinnow.core.artifacts import NpyWriter, open_npy, read_npy
from datawinnow.core.files import remove_partial_files, require_space


class ArrayWriter:
    """Arrays of n rows, written in the order of the examples; all of them appear at the end, or none.

    Args:
        n: rows.
        folder: of the files; None for memory.
        memory_limit: bytes above which an array goes to a temporary file when there is no folder.
    """

    def __init__(self, n: int, folder: Path | None, memory_limit: int) -> None:
        self.n, self.folder, self.memory_limit = n, folder, memory_limit
        self.temporary: tempfile.TemporaryDirectory[str] | None = None
        self._stack = ExitStack()
        self._resident: dict[str, Tensor] = {}
        self._files: dict[str, tuple[Path, NpyWriter]] = {}
        self._filled: dict[str, int] = {}

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)  # on an error the unfinished files are removed

    def write(self, name: str, rows: Tensor) -> None:
        """Add the next rows (b, ...) of an array.

        Raises:
            RunError: the disk is full.
        """
        if name not in self._filled:
            self._open(name, rows)
        first = self._filled[name]
        self._filled[name] = first + len(rows)
        if name in self._resident:
            self._resident[name][first : first + len(rows)] = rows
        else:
            self._files[name][1].write(np.ascontiguousarray(rows.detach().cpu().numpy()).tobytes())

    def finish(self) -> dict[str, Tensor]:
        """The arrays, those in files memory-mapped.

        Raises:
            RunError: the disk is full.
        """
        # closing renames the files: the arrays appear now
        self._stack.close()
        return {
            name: self._resident[name] if name in self._resident else load_npy(self._files[name][0])
            for name in self._filled
        }

    def _open(self, name: str, rows: Tensor) -> None:
        self._filled[name] = 0
        shape = (self.n, *rows.shape[1:])
        # bytes of one row, times n
        size = rows[:1].numel() * rows.element_size() * self.n
        if self.folder is None and size <= self.memory_limit:
            self._resident[name] = torch.empty(shape, dtype=rows.dtype)
            return
        file = self._folder() / f"{name}.npy"
        require_space(file.parent, size)
        remove_partial_files(file)
        # str(torch.float32) is "torch.float32"
        dtype = np.dtype(str(rows.dtype).removeprefix("torch."))
        self._files[name] = (file, self._stack.enter_context(open_npy(file, shape, dtype)))

    def _folder(self) -> Path:
        if self.folder is not None:
            return self.folder
        if self.temporary is None:
            self.temporary = tempfile.TemporaryDirectory(prefix="datawinnow-probe-", ignore_cleanup_errors=True)
        return Path(self.temporary.name)


def load_npy(file: Path) -> Tensor:
    """The array in ``file``, memory-mapped copy-on-write: writing to it does not change the file.

    Raises:
        RunError: truncated or damaged.
    """
    return torch.from_numpy(read_npy(file, mapped=True, remedy="remove its folder and probe again"))
