"""DSA: DC with one and the same random transform of the real and the synthetic images of a class."""

from __future__ import annotations

from functools import partial
from typing import Any, Unpack

import torch

from datawinnow.condense._augment import SIAMESE
from datawinnow.condense._gradients import Metric, matched
from datawinnow.condense._loop import condensed
from datawinnow.condense._networks import TrainedOnSynthetic
from datawinnow.condense._settings import loops
from datawinnow.condense._shared import Shared, condenser
from datawinnow.condense.dc import gradient_matching
from datawinnow.core.synthetic import Synthetic


@condenser(
    "Differentiable Siamese augmentation (DSA)",
    "Zhao and Bilen 2021, Dataset Condensation with Differentiable Siamese Augmentation, arXiv 2102.08259, section 3",
    cost="time O(iterations * outer * classes * (real_batch + inner * per_class)) passes, memory O(n + weights)",
)
def dsa(
    images: Any, labels: Any, *, per_class: int, build: Any, generator: torch.Generator, iterations: int = 1000,
    outer: int | None = None, inner: int | None = None, real_batch: int = 256, lr: float = 0.1, init: str = "real",
    augment: Any = SIAMESE, metric: Metric = "rows", net_lr: float = 0.01, net_batch: int = 256,
    together: bool | None = None, **shared: Unpack[Shared],
) -> Synthetic:  # fmt: skip
    """Learn images whose gradient matches that of the real ones when both are transformed alike.

    ``sum over classes c of D(grad CE(A_w(S_c); theta), grad CE(A_w(B_c); theta))`` with w drawn for every class and
    step: DC with ``augment``, also in the training of networks. Train on the images with the same augmentation.

    Returns:
        `Synthetic` of classes * per_class images, class by class.

    References:
        Zhao and Bilen 2021, arXiv 2102.08259; condense.md 1.5.
    """
    steps, epochs = loops(per_class)
    networks = TrainedOnSynthetic(outer or steps, epochs if inner is None else inner, net_lr, net_batch)
    return condensed(
        images, labels, method="dsa", per_class=per_class, build=build, generator=generator, networks=networks,
        objective=partial(gradient_matching, metric=matched(metric)), iterations=iterations, real_batch=real_batch,
        lr=lr, init=init, augment=augment, together=together, **shared,
    )  # fmt: skip
