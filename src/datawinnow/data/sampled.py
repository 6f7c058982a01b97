"""Images for an estimate: a few are decoded and timed, the others are only counted."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from datawinnow.core.errors import DataError
from datawinnow.core.progress import Progress
from datawinnow.data.examples import Examples, LazyExamples
from datawinnow.data.images import Encoded, Pixels, Plan, decode_all

SAMPLE_SECONDS = 2.0
"""Seconds after which no more images of the sample are decoded."""
PLACES, IMAGES_EACH = 4, 16
"""Evenly spaced places of a split from which the sample is taken, and images of each: of Parquet, whose rows are
decompressed in groups, few places are read."""


@dataclass(frozen=True)
class DecodingTime:
    """What decoding takes.

    Attributes:
        per_image: seconds, with all threads.
        num_images: images of both splits that are still to be decoded.
        num_loaded: images of both splits.
    """

    per_image: float = 0.0
    num_images: int = 0
    num_loaded: int = 0

    def plus(self, other: DecodingTime) -> DecodingTime:
        """Of the images of two sources together."""
        num_images = self.num_images + other.num_images
        seconds = self.per_image * self.num_images + other.per_image * other.num_images
        per_image = seconds / num_images if num_images else self.per_image
        return DecodingTime(per_image, num_images, self.num_loaded + other.num_loaded)


@dataclass(frozen=True, eq=False, repr=False)
class SampledImages(LazyExamples):
    """A split of which only a few images are decoded; item ``i`` has the label of image ``i`` and pixels of those few.

    Attributes:
        sample: (s, channels, height, width) uint8, the decoded images.
        in_memory: whether a run keeps all decoded images in memory, or decodes them on demand.
        decoding: what decoding all of them takes.
    """

    sample: Tensor = field(default_factory=lambda: torch.zeros(0))
    in_memory: bool = True
    decoding: DecodingTime = DecodingTime()

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.sample[i % len(self.sample)], int(self.labels[i])

    @property
    def fingerprint(self) -> str:
        """Nothing: most pixels are not read."""
        return ""

    def first(self, count: int) -> Examples:
        """The first ``count`` examples as far as there are so many, in memory."""
        index = torch.arange(min(count, len(self)))
        return Examples(
            self.sample[index % len(self.sample)],
            self.labels[index],
            self.classes,
            self.name,
            self.split,
            mean=self.mean,
            std=self.std,
            augment=self.augment,
        )


def decode_sample(
    images: Encoded, plan: Plan, description: str, progress: Progress | None = None
) -> tuple[Pixels, float]:
    """A few images as (s, channels, height, width) uint8, and the seconds that decoding one takes with all threads.

    Broken images are left out.

    Raises:
        DataError: all of them are broken.
    """
    n, decoded, seconds, count = len(images), [], 0.0, 0
    starts = np.unique(np.linspace(0, max(0, n - IMAGES_EACH), PLACES).astype(np.int64)).tolist()
    for done, start in enumerate(starts):
        if progress is not None:
            progress(description, done, len(starts))
        few = images.take(np.arange(start, min(start + IMAGES_EACH, n)))
        began = time.perf_counter()
        block = decode_all(few, plan, on_broken="skip", recolour=False)
        seconds, count = seconds + time.perf_counter() - began, count + len(few)
        assert block.x is not None  # keep=True
        decoded.append(block.x)
        if seconds > SAMPLE_SECONDS and any(map(len, decoded)):
            break
    if progress is not None:
        progress(description, len(starts), len(starts))
    if not any(map(len, decoded)):
        raise DataError(f"all {count:,} images that were tried are broken; the first: {images.where(0)}")
    return np.concatenate(decoded), seconds / count
