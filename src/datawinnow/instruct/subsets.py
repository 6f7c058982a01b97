"""Labelled subsets of the pairs: each with its members and the score of a model that was tuned on it."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datawinnow.core.errors import DataError
from datawinnow.core.files import require_file
from datawinnow.instruct.features import INDICATORS, PUBLISHED_SCALE, FeatureLayout, feature_matrix
from datawinnow.instruct.pairs import Pairs

POOL_KEY = "fingerprint"
"""Array of a file of subsets that names the pool they were drawn from."""
MIN_SUBSETS = 3
"""With fewer, a selector cannot be trained and tested on subsets that are left out."""


@dataclass(frozen=True, eq=False)
class LabelledSubsets:
    """Labelled subsets of the pool.

    Attributes:
        labels: (s,) float32, the score of a model tuned on each subset.
        member: (s, m) int64 positions in the pool, -1 for padding and for members that are not in the pool; None where
            the file names no members and they cannot be identified by their indicators.
        features: (s, m, d) float32 as the file has them, at the published scale; None where it has none.
        digest: 16 hex digits of a hash over what was read of the file.
        notes: sentences on how the members were identified.
    """

    labels: Tensor
    member: Tensor | None
    features: Tensor | None
    digest: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of subsets."""
        return len(self.labels)


def read_subsets(path: Path | str, pairs: Pairs, layout: FeatureLayout) -> LabelledSubsets:
    """Read an ``.npz`` of labelled subsets.

    The file holds ``labels`` (s,) and the members of the subsets: either ``index`` (s, m), positions in the data (-1
    pads subsets of unequal size), or their indicators, (s, m) each and (s, m, d) for vectors, as the published file
    does. Members given by indicators are looked up in the pool, because the vectors of the published file are of a PCA
    fitted again on every subset: axes and signs of two subsets cannot be compared. With an array ``fingerprint``, the
    text of that name in ``instruct.json``, the file is refused for another pool: positions alone fit any that is large
    enough.

    Args:
        path: the file; it is never unpickled.
        pairs: the pool.
        layout: the features of the pool.

    Returns:
        `LabelledSubsets`.

    Raises:
        DataError: another file, shapes that do not fit together, an index outside the pool, fewer than three subsets,
            or subsets of another pool.
    """
    path = Path(path)
    arrays, present = _read_arrays(path, ["labels", "index", POOL_KEY, *dict(layout.vectors), *layout.indicators])
    _check_pool(path, arrays.pop(POOL_KEY, None), pairs)
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    labels = arrays.get("labels")
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "biuf":
        raise DataError(f"{path} must hold labels of shape (s,), one number a subset; it holds {present}")
    if len(labels) < MIN_SUBSETS:
        raise DataError(
            f"{path} has {len(labels)} labelled subsets: at least {MIN_SUBSETS} are needed to learn and test"
        )
    if not np.isfinite(labels.astype(np.float64)).all():
        raise DataError(f"{path}: the label of subset {int(np.argmin(np.isfinite(labels)))} is not a number")
    for name, array in arrays.items():
        if name != "labels" and (array.ndim < 2 or len(array) != len(labels)):
            raise DataError(f"{path}: {name} is {array.shape}, but there are {len(labels)} labels")
    targets = torch.from_numpy(labels.astype(np.float32))
    features = _member_features(path, arrays, layout)
    if "index" in arrays:
        positions = _check_member_index(path, arrays["index"], len(pairs))
        return LabelledSubsets(targets, positions, features, digest.hexdigest()[:16])
    if features is None:
        names = ", ".join([name for name, _ in layout.vectors] + list(layout.indicators))
        raise DataError(f"{path} names its members neither by index nor by {names}; it holds {present}")
    member, note = _look_up_members(arrays, pairs, layout)
    return LabelledSubsets(targets, member, features, digest.hexdigest()[:16], (note,))


def _check_pool(path: Path, pool: np.ndarray | None, pairs: Pairs) -> None:
    """Refuse subsets that say themselves that they are of another pool.

    Raises:
        DataError: naming both.
    """
    if pool is not None and str(pool) != pairs.fingerprint:
        raise DataError(
            f"{path} has subsets of another pool (fingerprint {pool}) than {pairs.file.path} (fingerprint "
            f"{pairs.fingerprint}): give the file that the subsets were drawn from"
        )


MAX_ARRAY_BYTES = 4 << 30
"""Bytes of an array at most: a small file can unpack to more than the memory."""


def _read_arrays(path: Path, names: Sequence[str]) -> tuple[dict[str, np.ndarray], str]:
    """The arrays called ``names`` that a file has, and the names of all it has; others are not unpacked."""
    require_file(path, DataError)
    try:
        # A pickle in a downloaded file would run its code.
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError(f"{path} holds one array: an .npz with labels and the subsets' members is needed")
            sizes = {info.filename: info.file_size for info in file.zip.infolist()} if file.zip is not None else {}
            for name in names:
                if sizes.get(f"{name}.npy", 0) > MAX_ARRAY_BYTES:
                    raise DataError(
                        f"{path}: {name} unpacks to {sizes[f'{name}.npy'] / 1e9:.3g} GB, which is no subsets"
                    )
            arrays = {name: file[name] for name in dict.fromkeys(names) if name in file.files}
            return arrays, ", ".join(file.files) or "nothing"
    except DataError:  # a ValueError too
        raise
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise DataError(f"{path} is not an .npz of plain arrays ({str(error).splitlines()[0][:120]})") from None


def _shapes(arrays: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"


def _member_features(path: Path, arrays: Mapping[str, np.ndarray], layout: FeatureLayout) -> Tensor | None:
    """(s, m, d) features in the file; None where it lacks one of the layout."""
    widths = dict(layout.vectors)
    names = [*widths, *layout.indicators]
    if not set(names) <= set(arrays):
        return None
    for name in names:
        array, ndim = arrays[name], 3 if name in widths else 2
        if array.ndim != ndim or array.dtype.kind not in "biuf" or (ndim == 3 and array.shape[2] != widths[name]):
            shape = f"(s, m, {widths[name]})" if ndim == 3 else "(s, m)"
            raise DataError(f"{path}: {name} must be numbers of shape {shape}, got {array.dtype} of {array.shape}")
    if len({arrays[name].shape[:2] for name in names}) != 1:
        raise DataError(f"{path}: its indicators are about different numbers of pairs: {_shapes(arrays)}")
    features = feature_matrix(layout, arrays, arrays, scale=PUBLISHED_SCALE)
    invalid = torch.nonzero(~torch.isfinite(features))
    if len(invalid):
        subset, pair, column = invalid[0].tolist()
        raise DataError(f"{path}: {layout.names[column]} of pair {pair} in subset {subset} is not a number")
    return features


def _check_member_index(path: Path, index: np.ndarray, n: int) -> Tensor:
    if index.ndim != 2 or index.dtype.kind not in "iu":
        raise DataError(f"{path}: index must be whole numbers of shape (s, m), got {index.dtype} of {index.shape}")
    if not index.size:
        raise DataError(f"{path}: index is empty, of shape {index.shape}: the subsets have no members")
    wrong = index[(index >= n) | (index < -1)]
    if wrong.size:
        raise DataError(f"{path}: index has {int(wrong[0])}, but there are {n} pairs, from 0 to {n - 1} (-1 pads)")
    member = torch.from_numpy(index.astype(np.int64))
    for i, row in enumerate(member):
        positions = row[row >= 0]
        if not len(positions):
            raise DataError(f"{path}: subset {i} has no member")
        if len(torch.unique(positions)) != len(positions):
            raise DataError(f"{path}: subset {i} has a pair twice")
    return member


def _look_up_members(
    arrays: Mapping[str, np.ndarray], pairs: Pairs, layout: FeatureLayout
) -> tuple[Tensor | None, str]:
    """Members by equal indicators, as float32, and a note; None where some are not in the pool."""
    names = [name for name in INDICATORS if name in layout.indicators]
    pool = np.stack([pairs.numbers[name].astype(np.float32) for name in names], axis=1)
    positions: dict[bytes, list[int]] = {}
    for i, row in enumerate(pool):
        # Equality of bits in float32: rounding in a comparison by distance could match another pair.
        positions.setdefault(row.tobytes(), []).append(i)
    indicators = np.stack([arrays[name].astype(np.float32) for name in names], axis=2)
    member = np.full(indicators.shape[:2], -1, dtype=np.int64)
    num_missing = num_ambiguous = 0
    for i, rows in enumerate(indicators):
        used: set[int] = set()
        for j, row in enumerate(rows):
            # Pairs with equal indicators are distinct members: each is used once a subset.
            matches = [position for position in positions.get(row.tobytes(), []) if position not in used]
            num_ambiguous += len(matches) > 1
            num_missing += not matches
            if matches:
                member[i, j] = matches[0]
                used.add(matches[0])
    if num_missing:
        return None, (
            f"{num_missing:,} of {member.size:,} members of the subsets are not among the pairs by {', '.join(names)}: "
            "the features in the file are used, which may be of another PCA"
        )
    ambiguous = f" ({num_ambiguous} match several pairs; the first is taken)" if num_ambiguous else ""
    return torch.from_numpy(member), f"all {member.size:,} members found by {', '.join(names)}{ambiguous}"
