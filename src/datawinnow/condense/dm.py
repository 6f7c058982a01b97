"""DM: images whose mean features are those of the real ones, in networks that nobody trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Unpack

import torch
from torch import Tensor

from datawinnow.condense._augment import SIAMESE
from datawinnow.condense._loop import condensed
from datawinnow.condense._networks import Fresh
from datawinnow.condense._settings import dm_lr
from datawinnow.condense._shared import Shared, condenser
from datawinnow.condense._start import count_classes
from datawinnow.condense._step import Step
from datawinnow.core.synthetic import Synthetic


def distribution_matching(step: Step) -> Iterator[Tensor]:
    """``sum over classes c of || mean over B_c of psi(A(x)) - mean over S_c of psi(A(s)) ||^2``; psi: the features."""
    real = step.real_means()
    for classes in step.groups():
        own = step.own(classes)
        yield (real[classes] - own.means(own.seen.features)).square().sum()


@condenser(
    "Distribution matching (DM)",
    "Zhao and Bilen 2023, Dataset Condensation with Distribution Matching, arXiv 2110.04181, section 3",
    cost="time O(iterations * classes * (real_batch + per_class)) passes, memory O(n + classes * per_class)",
)
def dm(
    images: Any, labels: Any, *, per_class: int, build: Any, generator: torch.Generator, iterations: int = 20_000,
    real_batch: int = 256, lr: float | None = None, init: str = "real", augment: Any = SIAMESE,
    **shared: Unpack[Shared],
) -> Synthetic:  # fmt: skip
    """Learn images whose mean features match those of the real ones, in a fresh random network each iteration.

    No network is trained and no gradient differentiated again, so it is the cheapest of the five; where in doubt, begin
    here. Large networks want a smaller ``lr`` (0.1 or 0.01), or images learned with a ConvNet.

    Returns:
        `Synthetic` of classes * per_class images, class by class.

    References:
        Zhao and Bilen 2023, arXiv 2110.04181; condense.md 1.6.
    """
    lr = dm_lr(per_class, count_classes(labels)) if lr is None else lr
    return condensed(
        images, labels, method="dm", per_class=per_class, build=build, generator=generator, networks=Fresh(),
        objective=distribution_matching, iterations=iterations, real_batch=real_batch, lr=lr, init=init,
        augment=augment, **shared,
    )  # fmt: skip
