"""IDM: DM with several small images in one, partially trained networks, and a regulariser that separates classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datawinnow.condense.augment import SIAMESE, Augmentation
from datawinnow.condense.loop import condense_images
from datawinnow.condense.matching import MatchingStep
from datawinnow.condense.networks import NetworkQueue
from datawinnow.condense.options import CondenseOptions, SharedKeywords, condenser
from datawinnow.condense.published_settings import idm_settings
from datawinnow.core import check
from datawinnow.core.synthetic import Synthetic


def regularised_matching(step: MatchingStep, ce_weight: float) -> Iterator[Tensor]:
    """``sum over c of || mean psi(A(B_c)) - mean psi(A(P(S_c))) ||^2 + w a CE(A(P(S_c)), c)``; P: tiles, a: percent."""
    real = step.real_class_means()
    for classes in step.class_groups():
        synthetic = step.synthetic_output(classes)
        losses = F.cross_entropy(synthetic.output.logits, synthetic.labels, reduction="none")
        distance = (real[classes] - synthetic.class_means(synthetic.output.features)).square().sum()
        # The accuracy enters in percent, 0 to 100, as in the published code: a network that has learned nothing
        # regularises nothing.
        yield distance + ce_weight * step.percent * synthetic.class_means(losses).sum()


@condenser(
    "Improved distribution matching (IDM)",
    "Zhao et al. 2023, Improved Distribution Matching for Dataset Condensation, arXiv 2307.09742, section 4",
    cost="time O(iterations * (classes * (real_batch + factor^2 * per_class) + trained * steps * net_batch)) passes, "
    "memory O(n + classes * per_class * factor^2)",
)
def idm(
    images: Any,
    labels: Any,
    *,
    per_class: int,
    build: Callable[[], nn.Module],
    generator: torch.Generator,
    iterations: int = 20_000,
    real_batch: int | None = None,
    lr: float = 0.2,
    init: str = "real",
    augment: Augmentation | str | None = SIAMESE,
    first: int = 3,
    factor: int | None = None,
    ce_weight: float | None = None,
    most: int | None = None,
    push_every: int | None = None,
    trained: int = 2,
    steps: int | None = None,
    net_lr: float = 0.01,
    net_momentum: float = 0.9,
    reset_every: int | None = None,
    net_batch: int | None = None,
    weight_decay: float = 5e-4,
    **shared: Unpack[SharedKeywords],
) -> Synthetic:
    """Learn images of l x l tiles whose mean features match, in networks trained on real images for a few steps.

    Returns:
        `Synthetic` of classes * per_class images, class by class, whose `decode` gives factor^2 times as many.

    References:
        Zhao et al. 2023, arXiv 2307.09742.
    """
    shape = tuple(getattr(images, "shape", ())) or tuple(check.as_tensor("images", images).shape)
    height = int(shape[2]) if len(shape) == 4 else 0  # another shape is refused by `condense_images`
    published = idm_settings(per_class, int(check.labels("labels", labels).max()) + 1, height)
    networks = NetworkQueue(
        num_initial=first,
        capacity=published.most if most is None else most,
        push_every=published.push_every if push_every is None else push_every,
        num_trained=trained,
        steps=published.steps if steps is None else steps,
        batch=published.net_batch if net_batch is None else net_batch,
        lr=net_lr,
        momentum=net_momentum,
        weight_decay=weight_decay,
        reset_every=published.reset_every if reset_every is None else reset_every,
    )
    return condense_images(
        images,
        labels,
        build=build,
        generator=generator,
        networks=networks,
        objective=partial(regularised_matching, ce_weight=published.ce_weight if ce_weight is None else ce_weight),
        options=CondenseOptions(
            method="idm",
            per_class=per_class,
            iterations=iterations,
            real_batch=published.real_batch if real_batch is None else real_batch,
            lr=lr,
            init=init,
            augment=augment,
            factor=published.factor if factor is None else factor,
            in_turns=True,
            **shared,
        ),
    )
