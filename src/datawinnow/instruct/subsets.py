"""Subsets whose worth is known: each with its pairs and the score of a model that was tuned on it."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datawinnow.core.errors import DataError
from datawinnow.instruct.features import INDICATORS, PUBLISHED_SCALE, Layout, matrix
from datawinnow.instruct.pairs import Pairs

FEWEST = 3
"""Labelled subsets below which nothing can be learned and left out at the same time."""


@dataclass(frozen=True, eq=False)
class Subsets:
    """Labelled subsets of the pool.

    Attributes:
        labels: (s,) float32, what a model tuned on each subset reached.
        member: (s, m) int64 positions in the pool, -1 for padding and for members that are not in the pool; None where
            the file names no members and they cannot be told from their indicators.
        own: (s, m, d) float32 features as the file has them (published scale); None where it has none.
        notes: what was found out on the way.
    """

    labels: Tensor
    member: Tensor | None
    own: Tensor | None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of subsets."""
        return len(self.labels)


def read_subsets(path: Path | str, pairs: Pairs, layout: Layout) -> Subsets:
    """Read an ``.npz`` of labelled subsets.

    Needs ``labels`` (s,) and, of the subsets' members, either ``index`` (s, m) positions in the data (-1 pads subsets
    of unequal size), or the indicators themselves, (s, m) each and (s, m, d) for vectors, as the published data have
    them. From the latter the members are found again by their indicators, since the vectors of the published file are
    of a PCA fitted anew on every subset: axes and signs are another subset's nothing.

    Args:
        path: the file; it is never unpickled.
        pairs: the pool.
        layout: the features of the pool.

    Returns:
        `Subsets`.

    Raises:
        DataError: not such a file, shapes that do not fit together, an index outside the pool, or fewer than three
            subsets.
    """
    path = Path(path)
    arrays = _arrays(path)
    labels = arrays.get("labels")
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "biuf":
        raise DataError(f"{path} must hold labels of shape (s,), one number a subset; it holds {_shown(arrays)}")
    if len(labels) < FEWEST:
        raise DataError(
            f"{path} has {len(labels)} labelled subsets: at least {FEWEST} are needed to learn and to check"
        )
    if not np.isfinite(labels.astype(np.float64)).all():
        raise DataError(f"{path}: the label of subset {int(np.argmin(np.isfinite(labels)))} is not a number")
    for name, array in arrays.items():
        if name not in ("labels",) and (array.ndim < 2 or len(array) != len(labels)):
            raise DataError(f"{path}: {name} is {array.shape}, but there are {len(labels)} labels")
    made = torch.from_numpy(labels.astype(np.float32))
    own = _own(path, arrays, layout)
    if "index" in arrays:
        return Subsets(made, _index(path, arrays["index"], len(pairs)), own)
    if own is None:
        wanted = ", ".join([name for name, _ in layout.vectors] + list(layout.indicators))
        raise DataError(f"{path} names its members neither by index nor by {wanted}; it holds {_shown(arrays)}")
    member, notes = _found(arrays, pairs, layout)
    return Subsets(made, member, own, notes)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise DataError(f"{path} is not an .npz of plain arrays ({str(error).splitlines()[0][:120]})") from None


def _shown(arrays: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"


def _own(path: Path, arrays: dict[str, np.ndarray], layout: Layout) -> Tensor | None:
    needed = {**{name: 3 for name, _ in layout.vectors}, **dict.fromkeys(layout.indicators, 2)}
    if not set(needed) <= set(arrays):
        return None
    for name, axes in needed.items():
        array = arrays[name]
        width = dict(layout.vectors).get(name)
        if array.ndim != axes or array.dtype.kind not in "biuf" or (width is not None and array.shape[2] != width):
            shape = f"(s, m, {width})" if axes == 3 else "(s, m)"
            raise DataError(f"{path}: {name} must be numbers of shape {shape}, got {array.dtype} of {array.shape}")
    if len({arrays[name].shape[:2] for name in needed}) != 1:
        raise DataError(f"{path}: its indicators are about different numbers of pairs: {_shown(arrays)}")
    numbers: dict[str, Any] = {name: arrays[name] for name in layout.indicators}
    made = matrix(layout, numbers, {name: arrays[name] for name, _ in layout.vectors}, scale=PUBLISHED_SCALE)
    if not bool(torch.isfinite(made).all()):
        at = torch.nonzero(~torch.isfinite(made))[0].tolist()
        raise DataError(f"{path}: {layout.names[at[2]]} of pair {at[1]} in subset {at[0]} is not a number")
    return made


def _index(path: Path, index: np.ndarray, n: int) -> Tensor:
    if index.ndim != 2 or index.dtype.kind not in "iu":
        raise DataError(f"{path}: index must be whole numbers of shape (s, m), got {index.dtype} of {index.shape}")
    member = torch.from_numpy(index.astype(np.int64))
    if int(member.max()) >= n or int(member.min()) < -1:
        raise DataError(f"{path}: index has {int(member.max())}, but there are {n} pairs (-1 pads)")
    if bool((member < 0).all(dim=1).any()):
        raise DataError(f"{path}: subset {int((member < 0).all(dim=1).int().argmax())} has no member")
    for i, row in enumerate(member):
        real = row[row >= 0]
        if len(torch.unique(real)) != len(real):
            raise DataError(f"{path}: subset {i} has a pair twice")
    return member


def _found(arrays: dict[str, np.ndarray], pairs: Pairs, layout: Layout) -> tuple[Tensor | None, tuple[str, ...]]:
    """Members by their indicators, exactly as float32; None where some cannot be told or two pairs look alike."""
    names = [name for name in INDICATORS if name in layout.indicators]
    pool = np.stack([pairs.numbers[name].astype(np.float32) for name in names], axis=1)
    places: dict[bytes, list[int]] = {}
    for i, row in enumerate(pool):
        places.setdefault(row.tobytes(), []).append(i)
    asked = np.stack([arrays[name].astype(np.float32) for name in names], axis=2)
    member = np.full(asked.shape[:2], -1, dtype=np.int64)
    lost = twins = 0
    for i, rows in enumerate(asked):
        used: set[int] = set()
        for j, row in enumerate(rows):
            found = [place for place in places.get(row.tobytes(), []) if place not in used]
            twins += len(found) > 1
            lost += not found
            if found:
                member[i, j] = found[0]
                used.add(found[0])
    if lost:
        return None, (
            f"{lost:,} of {member.size:,} members of the subsets are not among the pairs by {', '.join(names)}: the "
            "features in the file are used, whose PCA may be another one",
        )
    alike = f" ({twins} have a twin; the first is taken)" if twins else ""
    return torch.from_numpy(member), (f"all {member.size:,} members found by {', '.join(names)}{alike}",)
