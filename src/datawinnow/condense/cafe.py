"""CAFE: images whose feature maps match the real ones layer by layer, and whose features tell real classes apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from datawinnow.condense._loop import condensed
from datawinnow.condense._networks import DynamicBilevel
from datawinnow.condense._shared import Shared, condenser
from datawinnow.condense._step import Step
from datawinnow.condense._tap import activations_of
from datawinnow.core.synthetic import Synthetic


def features_aligned(step: Step, layers: Sequence[str] | None, shallow: float, discriminate: float) -> Iterator[Tensor]:
    """``sum over c and layers l of w_l || mean f_l(B_c) - mean f_l(S_c) ||^2 + d sum CE(f(x) . mean f(S)^T, y)``."""
    modules, every = activations_of(step.net, layers), torch.arange(step.world.classes, device=step.leaf.device)
    features, maps = step.real_seen(modules)
    own = step.own(every, modules)
    centres = own.means(own.seen.features)
    weights = [shallow] * (len(maps) - 1) + [1.0]
    align = sum(w * (m - own.means(s)).square().sum() for w, m, s in zip(weights, maps, own.seen.maps, strict=True))
    real = torch.stack([part.mean(0) for part in torch.split(features, torch.bincount(step.y).tolist())])
    last = 2 * (real - centres).square().sum()  # the last pool: once as a map, once as the features
    yield align + last + discriminate * F.cross_entropy(features @ centres.T, step.y, reduction="sum")


@condenser("Aligning features (CAFE)", "Wang et al. 2022, CAFE: Learning to Condense Dataset by Aligning Features, "
    "arXiv 2203.01531, section 3", cost="time O(iterations * outer steps * classes * (real_batch + inner epochs * "
    "(query + per_class))) passes, memory O(n + classes * per_class * all maps)")  # fmt: skip
def cafe(
    images: Any, labels: Any, *, per_class: int, build: Any, generator: torch.Generator, iterations: int = 2000,
    real_batch: int = 256, lr: float = 0.1, init: str = "noise", augment: Any = None,
    layers: Sequence[str] | None = None, shallow: float = 0.1, discriminate: float = 0.01, still: float = 0.04,
    moves: float = 0.03, window: int = 10, query: int = 128, outer_most: int = 50, inner_most: int = 50,
    net_lr: float = 0.01, net_batch: int = 256, **shared: Unpack[Shared],
) -> Synthetic:  # fmt: skip
    """Learn images whose mean feature maps match the real ones in every layer of a network that they train.

    Returns:
        `Synthetic` of classes * per_class images, class by class.

    References:
        Wang et al. 2022, arXiv 2203.01531; condense.md 1.7.
    """
    own: dict[str, Any] = {"outer_most": outer_most, "inner_most": inner_most, "lr": net_lr, "batch": net_batch}
    return condensed(
        images, labels, method="cafe", per_class=per_class, build=build, generator=generator, real_batch=real_batch,
        networks=DynamicBilevel(still=still, moves=moves, window=window, query=query, **own), iterations=iterations,
        objective=partial(features_aligned, layers=layers, shallow=shallow, discriminate=discriminate), lr=lr,
        init=init, augment=augment, halve_at=(0.6, 0.8, 0.9), **shared,
    )  # fmt: skip
