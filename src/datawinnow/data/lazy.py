"""Examples that do not fit in memory: decoded when asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from datawinnow.core.rng import stream
from datawinnow.data.examples import Augment, Origin, channel_statistics, stratified
from datawinnow.data.images import Encoded, Plan, decode_all, decode_one

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
        ids: a name for each example that means something to the user; None for the row number.
        mean: per channel, of a sample of the train split's pixels in [0, 1].
        std: per channel, likewise.
        augment: what training does to images.
        origin: where it came from.
        notes: what was chosen on the user's behalf while loading.
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

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        """Image ``i`` as (channels, height, width) uint8, and its label.

        Raises:
            BrokenImage: it cannot be decoded; the error names its file or row.
        """
        if not -len(self) <= i < len(self):
            raise IndexError(f"example {i} of {len(self)}")
        i %= len(self)
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
        for i in np.unique(np.linspace(0, self.n - 1, min(self.n, FINGERPRINT_SAMPLE)).astype(np.int64)).tolist():
            digest.update(np.ascontiguousarray(decode_one(self.images, i, self.plan)).tobytes())
        return digest.hexdigest()[:16]

    def id_of(self, i: int) -> str:
        """The example's name: its file, or its row number."""
        return str(self.ids[i]) if self.ids is not None else str(i)

    def subset(self, index: Tensor, *, name: str | None = None) -> LazyExamples:
        """The examples at ``index`` (m,) as a dataset of its own, with this one's normalisation."""
        origin = self.origin
        if origin is not None:
            origin = replace(origin, rows=index if origin.rows is None else origin.rows[index])
        return replace(
            self,
            images=self.images.take(index.numpy()),
            labels=self.labels[index],
            ids=[self.id_of(i) for i in index.tolist()],
            origin=origin,
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
    drawn = torch.randperm(len(images), generator=stream(seed, "data", "mean"))[:MEAN_SAMPLE].sort().values
    decoded = decode_all(images.take(drawn.numpy()), plan, on_broken="skip", recolour=False)
    assert decoded.x is not None  # keep=True
    return channel_statistics(torch.from_numpy(decoded.x))
