"""Datasets of images or vectors: in memory (`Examples`), or decoded on demand (`LazyExamples`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.counts import many
from datawinnow.core.draw import tie_order, tie_seed_of
from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.rng import stream
from datawinnow.data.images import Encoded, Plan, decode_all, decode_one


@dataclass(frozen=True)
class Augment:
    """Augmentation of training images, a batch at a time on the device.

    Attributes:
        crop: zero padding in pixels on each side, from which an image of the old size is cropped at random.
        flip: whether an image is mirrored left to right half of the time.
    """

    crop: int = 4
    flip: bool = True


@dataclass(frozen=True)
class Origin:
    """Where examples came from, so that a selection can be written back in the same layout.

    Attributes:
        layout: ``"digits"``, ``"folder"``, ``"parquet"``, ``"arrow"``, ``"npz"``, ``"text"``, ``"hf"``, or
            ``"arrays"`` for examples of Python's.
        path: the file or folder, or the hub's name.
        files: for a folder or Parquet, the files that the examples of this split were read from.
        rows: (n,) row of each example in the concatenated files of the split (or in the ``.npz``); None when they are
            all rows in order. A held-out split taken from one file makes this needed.
        columns: names of the columns or keys: ``{"image": ..., "label": ...}``.
        schema_metadata: metadata that the files' Arrow schemas lack, such as class names in the hub's description.
        split: name of the split in the source; ``""`` where the source has none, or this one was held out.
        unused: files of the source's other splits, by their names, which are neither trained nor tested on.
        num_rows: number of examples of the split in the source, before any was held out or left out; None if unknown.
        labels: (n,) int64 class ids as the source has them, where decisions relabelled examples; None for those of now.
        is_other: whether it is a test split from another source than the train split.
    """

    layout: str
    path: str
    files: tuple[str, ...] = ()
    rows: Tensor | None = None
    columns: dict[str, str] = field(default_factory=dict)
    schema_metadata: Mapping[bytes, bytes] | None = None
    split: str = ""
    unused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    num_rows: int | None = None
    labels: Tensor | None = None
    is_other: bool = False

    def take(self, index: Tensor) -> Origin:
        """The origin of the examples at ``index`` (m,), which still know their rows in the source."""
        rows = index if self.rows is None else self.rows[index]
        return replace(self, rows=rows, labels=None if self.labels is None else self.labels[index])


@dataclass(frozen=True, eq=False)
class Examples:
    """A dataset in memory; also a map-style dataset of ``(x, y)``.

    Attributes:
        x: (n, channels, height, width) uint8 images, or (n, ...) float32 that is used as it is.
        labels: (n,) int64 class ids below ``len(classes)``.
        classes: the classes' names.
        name: short name of the dataset.
        split: ``"train"`` or ``"test"``.
        ids: a name for each example, such as its file; None for the row number.
        mean: per channel, of the train split's pixels in [0, 1]; used to normalise.
        std: per channel, likewise.
        augment: augmentation in training; None for none.
        origin: where it came from; None if made in Python.
        notes: choices made while loading (size, held-out split), for the user.

    Raises:
        DataError: shapes, dtypes or labels that do not fit together.
    """

    x: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str = "data"
    split: str = "train"
    ids: Sequence[str] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augment: Augment | None = None
    origin: Origin | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.check_x()
        if len(self.x) == 0:
            raise DataError(f"{self.name}: the {self.split} split holds no examples")
        try:
            labels = check.labels("labels", self.labels, len(self.x))
        except ArgumentError as error:
            raise DataError(f"{self.name}: {error}") from None
        if int(labels.max()) >= len(self.classes):
            raise DataError(
                f"{self.name}: label {int(labels.max())} at example {int(labels.argmax())}, but there are "
                f"only {len(self.classes)} classes"
            )
        if self.ids is not None and len(self.ids) != len(self.x):
            raise DataError(f"{self.name}: {len(self.ids)} ids for {len(self.x)} examples")
        if self.x.dtype is torch.uint8 and not self.mean:
            mean, std = channel_statistics(self.x)
            # the class is frozen; this is the one place where it fills itself in
            object.__setattr__(self, "mean", mean)
            object.__setattr__(self, "std", std)

    def check_x(self) -> None:
        """Refuse an x that is neither uint8 images nor float32, or not finite.

        Raises:
            DataError: naming its dtype or shape, or the examples.
        """
        if self.x.dtype not in (torch.uint8, torch.float32):
            raise DataError(f"{self.name}: x must be uint8 images or float32 numbers, got {self.x.dtype}")
        if self.x.dtype is torch.uint8 and self.x.ndim != 4:
            raise DataError(
                f"{self.name}: images must have shape (n, channels, height, width), got {tuple(self.x.shape)}"
            )
        if self.x.is_floating_point() and not bool(torch.isfinite(self.x.sum())):
            # a sum that overflows is not infinite in each term
            rows = torch.nonzero(~self.x.flatten(1).isfinite().all(dim=1)).flatten().tolist()
            if rows:
                bad = self.x[rows[0]].flatten()
                value = float(bad[~bad.isfinite()][0])
                remaining = f" and {len(rows) - 1:,} more, the next {rows[1]}" if len(rows) > 1 else ""
                raise DataError(
                    f"{self.name}: x is {value} for example {rows[0]}{remaining}: fill or remove such values, since a "
                    "network trained on them gives NaN"
                )

    def __repr__(self) -> str:
        return summary_of(self)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.x[i], int(self.labels[i])

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.x.shape[1:])

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of a hash over shapes, labels and every value; written into every artefact."""
        digest = hashlib.sha256(f"{tuple(self.x.shape)} {self.x.dtype}".encode())
        digest.update(self.labels.numpy().tobytes())
        for first in range(0, self.n, 4096):  # in chunks: tobytes() copies
            digest.update(self.x[first : first + 4096].contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def id_of(self, i: int) -> str:
        """The example's name: its file, or its row number."""
        return str(self.ids[i]) if self.ids is not None else str(i)

    def subset(self, index: Tensor, *, name: str | None = None) -> Examples:
        """The examples at ``index`` (m,) as a dataset of its own, with this one's normalisation."""
        return replace(
            self,
            x=self.x[index],
            labels=self.labels[index],
            ids=[self.id_of(int(i)) for i in index],
            # rows in the source: a subset of a subset still knows its own
            origin=(self.origin or Origin("arrays", "", num_rows=self.n)).take(index),
            name=name or self.name,
        )

    def with_labels(self, labels: Tensor) -> Examples:
        """The same images under other labels (a label-noise scenario)."""
        return replace(self, labels=labels)

    def stratified(self, count: int, generator: torch.Generator) -> Examples:
        """``count`` examples drawn at random with every class's share kept (largest remainders)."""
        return self.subset(stratified(self.labels, count, generator))


def summary_of(dataset: Examples | LazyExamples) -> str:
    """A dataset in a line, as Python prints it."""
    examples, classes = many(dataset.n, "example"), many(len(dataset.classes), "class", "classes")
    return f"{type(dataset).__name__}({dataset.name}, {dataset.split}: {examples} of shape {dataset.shape}, {classes})"


def stratified(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(count,) int64 ids in rising order, drawn class by class in proportion to the classes' sizes.

    Which of equal classes get the rest is drawn too: with less than one example a class it decides on classes.
    """
    from datawinnow.core.budget import check_budget, shares

    check_budget(count, len(labels))
    sizes = torch.bincount(labels).tolist()
    order = tie_order(len(sizes), tie_seed_of(generator)).tolist()
    size_per_class = shares(count, sizes, limits=sizes, order=order)
    chosen = []
    for label, size in enumerate(size_per_class):
        members = torch.nonzero(labels == label).flatten()
        chosen.append(members[torch.randperm(len(members), generator=generator)[:size]])
    return torch.cat(chosen).sort().values


def channel_statistics(x: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of (n, c, h, w) uint8, on the scale [0, 1]; std at least 0.001."""
    # Counting the 256 values is exact, and three times as fast as summing pixels in float64.
    counts = torch.zeros(x.shape[1], 256, dtype=torch.int64)
    # in blocks: the pixels of one channel are not contiguous, so reshape copies them
    for first in range(0, len(x), 4096):
        for channel in range(x.shape[1]):
            counts[channel] += torch.bincount(x[first : first + 4096, channel].reshape(-1), minlength=256)
    share = counts.double() / counts.sum(dim=1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    # (c, 256) @ (256,) -> (c,)
    mean = share @ values
    std = (share * (values - mean[:, None]) ** 2).sum(dim=1).sqrt()
    return tuple(mean.tolist()), tuple(std.clamp_min(1e-3).tolist())


def short_name(path: Path | str) -> str:
    """A dataset's name from its path."""
    return Path(str(path).removeprefix("hf:")).stem or "data"


MEAN_SAMPLE = 1000
"""Images from which mean and standard deviation are taken."""

FINGERPRINT_SAMPLE = 256
"""Images whose pixels go into the fingerprint, beside every label."""


@dataclass(frozen=True, eq=False)
class LazyExamples:
    """A dataset of images that stay on disk; a map-style dataset of ``(x, y)`` with the attributes of `Examples`.

    It pickles as paths and labels, so DataLoader workers of any start method can have it.

    Attributes:
        images: the encoded images.
        plan: their size and channels once decoded.
        labels: (n,) int64 class ids below ``len(classes)``.
        classes: the classes' names.
        name: short name of the dataset.
        split: ``"train"`` or ``"test"``.
        ids: a name for each example; None for the row number.
        mean: per channel, of a sample of the train split's pixels in [0, 1].
        std: per channel, likewise.
        augment: augmentation in training.
        origin: where it came from.
        notes: choices made while loading, for the user.
    """

    images: Encoded
    plan: Plan
    labels: Tensor
    classes: tuple[str, ...]
    name: str = "data"
    split: str = "train"
    ids: Sequence[str] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augment: Augment | None = None
    origin: Origin | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return summary_of(self)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        """Image ``i`` as (channels, height, width) uint8, and its label.

        Raises:
            BrokenImage: it cannot be decoded; the error names its file or row.
        """
        # IndexError ends a `for` loop over a dataset without __iter__
        if not -len(self) <= i < len(self):
            raise IndexError(f"example {i} of {len(self)}")
        i %= len(self)
        # a copy: the array may be a read-only view of Pillow's memory
        return torch.from_numpy(decode_one(self.images, i, self.plan).copy()), int(self.labels[i])

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.plan.shape

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of a hash over shapes, every label and the pixels of evenly spaced images."""
        digest = hashlib.sha256(f"lazy {(self.n, *self.shape)}".encode())
        digest.update(self.labels.numpy().tobytes())
        # evenly spaced, first and last included
        for i in np.unique(np.linspace(0, self.n - 1, min(self.n, FINGERPRINT_SAMPLE)).astype(np.int64)).tolist():
            digest.update(np.ascontiguousarray(decode_one(self.images, i, self.plan)).tobytes())
        return digest.hexdigest()[:16]

    def id_of(self, i: int) -> str:
        """The example's name: its file, or its row number."""
        return str(self.ids[i]) if self.ids is not None else str(i)

    def subset(self, index: Tensor, *, name: str | None = None) -> LazyExamples:
        """The examples at ``index`` (m,) as a dataset of its own, with this one's normalisation."""
        return replace(
            self,
            images=self.images.take(index.numpy()),
            labels=self.labels[index],
            ids=[self.id_of(i) for i in index.tolist()],
            origin=(self.origin or Origin("arrays", "", num_rows=self.n)).take(index),
            name=name or self.name,
        )

    def with_labels(self, labels: Tensor) -> LazyExamples:
        """The same images under other labels (a label-noise scenario)."""
        return replace(self, labels=labels)

    def stratified(self, count: int, generator: torch.Generator) -> LazyExamples:
        """``count`` examples drawn at random with every class's share kept (largest remainders)."""
        return self.subset(stratified(self.labels, count, generator))


def sampled_statistics(images: Encoded, plan: Plan, seed: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of up to `MEAN_SAMPLE` random images, on the scale [0, 1].

    A broken image among them is passed over here; it is reported when its turn to be trained on comes.
    """
    # in rising order, in which Parquet files are streamed
    drawn = torch.randperm(len(images), generator=stream(seed, "data", "mean"))[:MEAN_SAMPLE].sort().values
    # colour that turns up here does not change the plan, so the number of channels is the plan's
    decoded = decode_all(images.take(drawn.numpy()), plan, on_broken="skip", recolour=False)
    assert decoded.x is not None  # keep=True
    return channel_statistics(torch.from_numpy(decoded.x))
