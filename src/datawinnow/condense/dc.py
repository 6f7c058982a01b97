"""DC: images on which the loss has the gradient that it has on real ones, along the training of a network."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor

from datawinnow.condense._gradients import Metric, gradient_distance, matched, own_gradients, real_gradients
from datawinnow.condense._loop import condensed
from datawinnow.condense._networks import TrainedOnSynthetic
from datawinnow.condense._settings import loops
from datawinnow.condense._shared import Shared, condenser
from datawinnow.condense._step import Step
from datawinnow.core.synthetic import Synthetic


def gradient_matching(step: Step, metric: Metric) -> Iterator[Tensor]:
    """``sum over classes c of D(grad CE(A(S_c); theta), grad CE(A(B_c); theta))``."""
    real = real_gradients(step)
    for classes, own in own_gradients(step):
        yield sum(gradient_distance(g, real[c], metric) for g, c in zip(own, classes, strict=True))  # type: ignore[misc]


@condenser(
    "Dataset condensation (DC)",
    "Zhao et al. 2021, Dataset Condensation with Gradient Matching, arXiv 2006.05929, algorithm 1",
    cost="time O(iterations * outer * classes * (real_batch + inner * per_class)) passes, memory O(n + weights)",
)
def dc(
    images: Any, labels: Any, *, per_class: int, build: Any, generator: torch.Generator, iterations: int = 1000,
    outer: int | None = None, inner: int | None = None, real_batch: int = 256, lr: float = 0.1, init: str = "noise",
    augment: Any = None, metric: Metric = "rows", net_lr: float = 0.01, net_batch: int = 256,
    together: bool | None = None, **shared: Unpack[Shared],
) -> Synthetic:  # fmt: skip
    """Learn images whose gradient matches that of the real ones, step by step along a training on the images.

    Returns:
        `Synthetic` of classes * per_class images, class by class.

    References:
        Zhao et al. 2021, arXiv 2006.05929; condense.md 1.4.
    """
    steps, epochs = loops(per_class)
    networks = TrainedOnSynthetic(outer or steps, epochs if inner is None else inner, net_lr, net_batch)
    return condensed(
        images, labels, method="dc", per_class=per_class, build=build, generator=generator, networks=networks,
        objective=partial(gradient_matching, metric=matched(metric)), iterations=iterations, real_batch=real_batch,
        lr=lr, init=init, augment=augment, together=together, **shared,
    )  # fmt: skip
