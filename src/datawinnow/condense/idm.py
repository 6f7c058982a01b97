"""IDM: DM with several small images in one, networks that have learned a little, and classes that stay apart."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from datawinnow.condense._augment import SIAMESE
from datawinnow.condense._loop import condensed
from datawinnow.condense._networks import Queue
from datawinnow.condense._settings import idm_settings
from datawinnow.condense._shared import Shared, condenser
from datawinnow.condense._start import count_classes, side_of
from datawinnow.condense._step import Step
from datawinnow.core.synthetic import Synthetic


def regularised_matching(step: Step, ce_weight: float) -> Iterator[Tensor]:
    """``sum over c of || mean psi(A(B_c)) - mean psi(A(P(S_c))) ||^2 + w a CE(A(P(S_c)), c)``; P: tiles, a: percent."""
    real = step.real_means()
    for classes in step.groups():
        own = step.own(classes)
        away = own.means(F.cross_entropy(own.seen.logits, own.labels, reduction="none")).sum()
        yield (real[classes] - own.means(own.seen.features)).square().sum() + ce_weight * step.percent * away


@condenser("Improved distribution matching (IDM)", "Zhao et al. 2023, Improved Distribution Matching for Dataset "
    "Condensation, arXiv 2307.09742, section 4", cost="time O(iterations * (classes * (real_batch + factor^2 * "
    "per_class) + trained * steps * net_batch)) passes, memory O(n + classes * per_class * factor^2)")  # fmt: skip
def idm(
    images: Any, labels: Any, *, per_class: int, build: Any, generator: torch.Generator, iterations: int = 20_000,
    real_batch: int | None = None, lr: float = 0.2, init: str = "real", augment: Any = SIAMESE, first: int = 3,
    factor: int | None = None, ce_weight: float | None = None, most: int | None = None, push_every: int | None = None,
    trained: int = 2, steps: int | None = None, net_lr: float = 0.01, net_momentum: float = 0.9, reset_every: int = 100,
    net_batch: int | None = None, weight_decay: float = 5e-4, **shared: Unpack[Shared],
) -> Synthetic:  # fmt: skip
    """Learn images of l x l tiles whose mean features match, in networks trained on real images a little.

    Returns:
        `Synthetic` of classes * per_class images, class by class, whose `decode` gives factor^2 times as many.

    References:
        Zhao et al. 2023, arXiv 2307.09742; condense.md 1.8.
    """
    given = {"real_batch": real_batch, "ce_weight": ce_weight, "factor": factor, "push_every": push_every}
    given |= {"steps": steps, "most": most, "net_batch": net_batch}
    own = idm_settings(per_class, count_classes(labels), side_of(images), given)
    nets = {"lr": net_lr, "momentum": net_momentum, "weight_decay": weight_decay, "batch": own.pop("net_batch")}
    size, weight, tiles = own.pop("real_batch"), own.pop("ce_weight"), own.pop("factor")
    queue = Queue(first=first, trained=trained, reset_every=reset_every, **own, **nets)
    return condensed(
        images, labels, method="idm", per_class=per_class, build=build, generator=generator, networks=queue, lr=lr,
        objective=partial(regularised_matching, ce_weight=weight), iterations=iterations, factor=tiles,
        real_batch=size, init=init, augment=augment, in_turns=True, **shared,
    )  # fmt: skip
