"""DM: images whose mean features match those of the real ones, in random networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from datawinnow.condense.augment import SIAMESE, Augmentation
from datawinnow.condense.loop import condense_images
from datawinnow.condense.matching import MatchingStep
from datawinnow.condense.networks import FreshNetworks
from datawinnow.condense.options import CondenseOptions, SharedKeywords, condenser
from datawinnow.condense.published_settings import dm_lr
from datawinnow.core import check
from datawinnow.core.synthetic import Synthetic


def distribution_matching(step: MatchingStep) -> Iterator[Tensor]:
    """``sum over classes c of || mean over B_c of psi(A(x)) - mean over S_c of psi(A(s)) ||^2``; psi: the features."""
    # Without gradient and before the loop: real features are the same for every group of classes.
    real = step.real_class_means()
    for classes in step.class_groups():
        synthetic = step.synthetic_output(classes)
        yield (real[classes] - synthetic.class_means(synthetic.output.features)).square().sum()


@condenser(
    "Distribution matching (DM)",
    "Zhao and Bilen 2023, Dataset Condensation with Distribution Matching, arXiv 2110.04181, section 3",
    cost="time O(iterations * classes * (real_batch + per_class)) passes, memory O(n + classes * per_class)",
)
def dm(
    images: Any,
    labels: Any,
    *,
    per_class: int,
    build: Callable[[], nn.Module],
    generator: torch.Generator,
    iterations: int = 20_000,
    real_batch: int = 256,
    lr: float | None = None,
    init: str = "real",
    augment: Augmentation | str | None = SIAMESE,
    **shared: Unpack[SharedKeywords],
) -> Synthetic:
    """Learn images whose mean features match those of the real ones, in a fresh random network each iteration.

    It trains no network and takes no second derivative, so it is the cheapest of the five methods and the one to try
    first. Large networks need a smaller ``lr`` (0.1 or 0.01), or images learned with a ConvNet.

    Returns:
        `Synthetic` of classes * per_class images, class by class.

    References:
        Zhao and Bilen 2023, arXiv 2110.04181.
    """
    classes = int(check.labels("labels", labels).max()) + 1
    return condense_images(
        images,
        labels,
        build=build,
        generator=generator,
        networks=FreshNetworks(),
        objective=distribution_matching,
        options=CondenseOptions(
            method="dm",
            per_class=per_class,
            iterations=iterations,
            real_batch=real_batch,
            lr=dm_lr(per_class, classes) if lr is None else lr,
            init=init,
            augment=augment,
            **shared,
        ),
    )
