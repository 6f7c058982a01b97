"""DC: images on which the loss has the same gradient as on real ones, along the training of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from datawinnow.condense.augment import Augmentation
from datawinnow.condense.gradients import (
    GRADIENT_METRICS,
    GradientMetric,
    gradient_distance,
    real_gradients,
    synthetic_gradients,
)
from datawinnow.condense.loop import condense_images
from datawinnow.condense.matching import MatchingStep
from datawinnow.condense.networks import TrainedOnSynthetic
from datawinnow.condense.options import CondenseOptions, SharedKeywords, condenser
from datawinnow.condense.published_settings import GRADIENT_LOOPS, nearest_setting
from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.core.synthetic import Synthetic


def gradient_matching(step: MatchingStep, metric: GradientMetric) -> Iterator[Tensor]:
    """``sum over classes c of D(grad CE(A(S_c); theta), grad CE(A(B_c); theta))``."""
    real = real_gradients(step)
    for classes, gradients in synthetic_gradients(step):
        distances = [gradient_distance(g, real[c], metric) for g, c in zip(gradients, classes, strict=True)]
        yield sum(distances)  # type: ignore[misc]  # sum() of tensors is typed as possibly 0


class GradientKeywords(SharedKeywords, total=False):
    """The keyword arguments of `dc` and `dsa` with a default, in their order, for type checkers."""

    iterations: int
    outer: int | None
    inner: int | None
    real_batch: int
    lr: float
    init: str
    augment: Augmentation | str | None
    metric: GradientMetric
    net_lr: float
    net_batch: int
    together: bool | None


@dataclass(frozen=True, kw_only=True)
class GradientOptions(CondenseOptions):
    """The options of `dc`, and with other defaults of `dsa`.

    Raises:
        ArgumentError: an unknown metric, or ``precision`` and ``recompute`` that do not work for gradients.
    """

    method: str = "dc"
    iterations: int = 1000
    outer: int | None = None
    inner: int | None = None
    real_batch: int = 256
    lr: float = 0.1
    init: str = "noise"
    augment: Augmentation | str | None = None
    metric: GradientMetric = "rows"
    net_lr: float = 0.01
    net_batch: int = 256

    def __post_init__(self) -> None:
        check.one_of("metric", self.metric, GRADIENT_METRICS)
        if self.precision == "bf16":
            raise ArgumentError(f"{self.method} matches gradients, which bf16 changes: leave precision at 'fp32'")
        if self.recompute:
            raise ArgumentError(
                f"{self.method} differentiates a gradient, whose graph holds the activations even if they are "
                "recomputed, so recompute=True saves nothing: use at_once=1, which holds the graph of one class at a "
                "time"
            )
        super().__post_init__()


def condense_by_gradients(
    images: Any, labels: Any, build: Callable[[], nn.Module], generator: torch.Generator, options: GradientOptions
) -> Synthetic:
    """Learn images by gradient matching: `dc` and `dsa`, which differ in their defaults only."""
    outer, inner = nearest_setting(options.per_class, GRADIENT_LOOPS)
    # inner=0 is a valid setting (no training between steps), outer=0 is not.
    networks = TrainedOnSynthetic(
        options.outer or outer, inner if options.inner is None else options.inner, options.net_lr, options.net_batch
    )
    return condense_images(
        images,
        labels,
        build=build,
        generator=generator,
        networks=networks,
        objective=partial(gradient_matching, metric=options.metric),
        options=options,
    )


@condenser(
    "Dataset condensation (DC)",
    "Zhao et al. 2021, Dataset Condensation with Gradient Matching, arXiv 2006.05929, algorithm 1",
    cost="time O(iterations * outer * classes * (real_batch + inner * per_class)) passes, memory O(n + weights)",
    keywords=GradientKeywords,
    options=GradientOptions,
)
def dc(
    images: Any,
    labels: Any,
    *,
    per_class: int,
    build: Callable[[], nn.Module],
    generator: torch.Generator,
    **options: Unpack[GradientKeywords],
) -> Synthetic:
    """Learn images whose gradient matches that of the real ones, step by step along a training on the images.

    Returns:
        `Synthetic` of classes * per_class images, class by class.

    References:
        Zhao et al. 2021, arXiv 2006.05929.
    """
    return condense_by_gradients(images, labels, build, generator, GradientOptions(per_class=per_class, **options))
