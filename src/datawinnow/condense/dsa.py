"""DSA: DC with the same random transform of the real and the synthetic images of a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import torch
from torch import nn

from datawinnow.condense.augment import SIAMESE, Augmentation
from datawinnow.condense.dc import condense_by_gradients
from datawinnow.condense.gradients import GradientMetric
from datawinnow.condense.options import CondenseOptions, SharedKeywords, condenser
from datawinnow.core.synthetic import Synthetic


@condenser(
    "Differentiable Siamese augmentation (DSA)",
    "Zhao and Bilen 2021, Dataset Condensation with Differentiable Siamese Augmentation, arXiv 2102.08259, section 3",
    cost="time O(iterations * outer * classes * (real_batch + inner * per_class)) passes, memory O(n + weights)",
)
def dsa(
    images: Any,
    labels: Any,
    *,
    per_class: int,
    build: Callable[[], nn.Module],
    generator: torch.Generator,
    iterations: int = 1000,
    outer: int | None = None,
    inner: int | None = None,
    real_batch: int = 256,
    lr: float = 0.1,
    init: str = "real",
    augment: Augmentation | str | None = SIAMESE,
    metric: GradientMetric = "rows",
    net_lr: float = 0.01,
    net_batch: int = 256,
    together: bool | None = None,
    **shared: Unpack[SharedKeywords],
) -> Synthetic:
    """Learn images whose gradient matches that of the real ones when both are transformed alike.

    ``sum over classes c of D(grad CE(A_w(S_c); theta), grad CE(A_w(B_c); theta))`` with w drawn for every class and
    step: DC with ``augment``, also in the training of networks. Train on the images with the same augmentation.

    Returns:
        `Synthetic` of classes * per_class images, class by class.

    References:
        Zhao and Bilen 2021, arXiv 2102.08259.
    """
    return condense_by_gradients(
        images,
        labels,
        build=build,
        generator=generator,
        outer=outer,
        inner=inner,
        metric=metric,
        net_lr=net_lr,
        net_batch=net_batch,
        options=CondenseOptions(
            method="dsa",
            per_class=per_class,
            iterations=iterations,
            real_batch=real_batch,
            lr=lr,
            init=init,
            augment=augment,
            together=together,
            **shared,
        ),
    )
