"""DSA: DC with the same random transform of the real and the synthetic images of a class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import nn

from datawinnow.condense.augment import SIAMESE, Augmentation
from datawinnow.condense.dc import GradientKeywords, GradientOptions, condense_by_gradients
from datawinnow.condense.options import condenser
from datawinnow.core.synthetic import Synthetic


@dataclass(frozen=True, kw_only=True)
class SiameseOptions(GradientOptions):
    """The options of `dsa`: those of `dc` with its defaults."""

    method: str = "dsa"
    init: str = "real"
    augment: Augmentation | str | None = SIAMESE


@condenser(
    "Differentiable Siamese augmentation (DSA)",
    "Zhao and Bilen 2021, Dataset Condensation with Differentiable Siamese Augmentation, arXiv 2102.08259, section 3",
    cost="time O(iterations * outer * classes * (real_batch + inner * per_class)) passes, memory O(n + weights)",
    keywords=GradientKeywords,
    options=SiameseOptions,
)
def dsa(
    images: Any,
    labels: Any,
    *,
    per_class: int,
    build: Callable[[], nn.Module],
    generator: torch.Generator,
    **options: Unpack[GradientKeywords],
) -> Synthetic:
    """Learn images whose gradient matches that of the real ones when both are transformed alike.

    ``sum over classes c of D(grad CE(A_w(S_c); theta), grad CE(A_w(B_c); theta))`` with w drawn for every class and
    step: DC with ``augment``, also in the training of networks. Train on the images with the same augmentation.

    Returns:
        `Synthetic` of classes * per_class images, class by class.

    References:
        Zhao and Bilen 2021, arXiv 2102.08259.
    """
    return condense_by_gradients(images, labels, build, generator, SiameseOptions(per_class=per_class, **options))
