"""`ChosenLog`: which examples each epoch of a training by a policy trained on, one bit an example and epoch.

This module does not import torch: the report reads with it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from datawinnow.core.errors import RunError
from datawinnow.core.files import FORMAT_VERSION, check_format, write_bytes

FILE = "chosen.safetensors"
"""Its name in a run folder."""


@dataclass(frozen=True, eq=False)
class ChosenLog:
    """Which examples each epoch trained on.

    Attributes:
        bits: (epochs, ceil(n / 8)) uint8; a row is `numpy.packbits` of which of the n examples the epoch trained on.
        candidates: (n,) bool, who could be chosen.
        labels: (n,) int64 classes; None where the dataset does not tell them.
        fingerprint: of the dataset.
        first: number of the epoch of the first row; above 0 where the file was lost on the way.
    """

    bits: np.ndarray
    candidates: np.ndarray
    labels: np.ndarray | None
    fingerprint: str
    first: int = 0

    def __len__(self) -> int:
        """Number of epochs."""
        return len(self.bits)

    @property
    def n(self) -> int:
        """Number of examples of the dataset."""
        return len(self.candidates)

    def row(self, i: int) -> np.ndarray:
        """(n,) bool: who was trained on in the i-th epoch of the log."""
        return np.unpackbits(self.bits[i], count=self.n).view(bool)

    def write(self, path: Path) -> None:
        """Write the log as one safetensors file, whole.

        Raises:
            RunError: the disk is full.
        """
        arrays = {"bits": self.bits, "candidates": np.packbits(self.candidates)}
        if self.labels is not None:
            arrays["labels"] = self.labels.astype(np.int64)
        about = {"kind": "chosen", "n": self.n, "first": self.first, "fingerprint": self.fingerprint}
        text = json.dumps({"format": FORMAT_VERSION, **about})
        # in memory first: safetensors' own writer reports a full disk as an error of its format
        write_bytes(path, save(arrays, metadata={"datawinnow": text}))


def read_chosen(path: Path, fingerprint: str, n: int) -> ChosenLog:
    """Read what `ChosenLog.write` wrote; nothing is unpickled, and everything is checked.

    Args:
        path: the file.
        fingerprint: of the dataset that it has to be about.
        n: examples of that dataset.

    Raises:
        RunError: truncated, something else, of a newer version, or of another dataset.
    """
    try:
        with safe_open(path, framework="np") as file:
            about: Any = json.loads((file.metadata() or {}).get("datawinnow", "null"))
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(about, dict) or about.get("kind") != "chosen":
        raise _damaged(path, "it does not say that it holds who was chosen")
    check_format(about.get("format"), path)
    if about.get("fingerprint") != fingerprint:
        raise RunError(
            f"{path} is of another dataset (fingerprint {about.get('fingerprint')}) than the run ({fingerprint}): "
            "remove it"
        )
    return _checked(path, about, arrays, n)


def _checked(path: Path, about: dict[str, Any], arrays: dict[str, np.ndarray], n: int) -> ChosenLog:
    """The log in the arrays, if they fit together."""
    first, wide = about.get("first"), -(-n // 8)
    bits, packed, labels = arrays.get("bits"), arrays.get("candidates"), arrays.get("labels")
    if about.get("n") != n:
        raise _damaged(path, f"it is of {about.get('n')} examples, the run of {n}")
    if type(first) is not int or first < 0:
        raise _damaged(path, f"its first epoch is {first!r}")
    if bits is None or bits.dtype != np.uint8 or bits.ndim != 2 or bits.shape[1] != wide or not len(bits):
        raise _damaged(path, f"bits must be uint8 of (epochs, {wide}), got {_shape(bits)}")
    if packed is None or packed.dtype != np.uint8 or packed.shape != (wide,):
        raise _damaged(path, f"candidates must be uint8 of ({wide},), got {_shape(packed)}")
    if labels is not None and (labels.dtype != np.int64 or labels.shape != (n,)):
        raise _damaged(path, f"labels must be int64 of ({n},), got {_shape(labels)}")
    candidates = np.unpackbits(packed, count=n).view(bool)
    if (bits & ~np.packbits(candidates)).any() or not bits.any(axis=1).all():
        raise _damaged(path, "an epoch trained on nobody, or on somebody who could not be chosen")
    return ChosenLog(bits, candidates, labels, str(about["fingerprint"]), first)


def _shape(array: np.ndarray | None) -> str:
    return "nothing" if array is None else f"{array.dtype} of {array.shape}"


def _damaged(path: Path, why: str) -> RunError:
    return RunError(f"{path} is truncated or damaged ({why}); remove it: the rest of the run does without it")
