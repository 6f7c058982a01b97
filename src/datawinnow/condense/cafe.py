"""CAFE: images whose feature maps match the real ones layer by layer, and whose features discriminate real classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datawinnow.condense.augment import Augmentation
from datawinnow.condense.features import matched_modules
from datawinnow.condense.loop import condense_images
from datawinnow.condense.matching import MatchingStep
from datawinnow.condense.networks import DynamicBilevel
from datawinnow.condense.options import CondenseOptions, SharedKeywords, condenser
from datawinnow.core.synthetic import Synthetic


def feature_alignment(
    step: MatchingStep, layers: Sequence[str] | None, shallow: float, discriminate: float
) -> Iterator[Tensor]:
    """``sum over c and layers l of w_l || mean f_l(B_c) - mean f_l(S_c) ||^2 + d sum CE(f(x) . mean f(S)^T, y)``."""
    modules = matched_modules(step.net, layers)
    classes = torch.arange(step.context.classes, device=step.leaf.device)
    # (b, d) without gradient, and one mean map a class for each layer.
    features, real_maps = step.real_output(modules)
    synthetic = step.synthetic_output(classes, modules)
    centres = synthetic.class_means(synthetic.output.features)
    # The maps come in the order in which modules run, so the last one is the deepest.
    weights = [shallow] * (len(real_maps) - 1) + [1.0]
    align = sum(
        weight * (real - synthetic.class_means(maps)).square().sum()
        for weight, real, maps in zip(weights, real_maps, synthetic.output.maps, strict=True)
    )
    real_centres = torch.stack([f.mean(0) for f in torch.split(features, torch.bincount(step.y).tolist())])
    last = 2 * (real_centres - centres).square().sum()  # the last pool counts twice: as a map and as the features
    yield align + last + discriminate * F.cross_entropy(features @ centres.T, step.y, reduction="sum")


@condenser(
    "Aligning features (CAFE)",
    "Wang et al. 2022, CAFE: Learning to Condense Dataset by Aligning Features, arXiv 2203.01531, section 3",
    cost="time O(iterations * outer steps * classes * (real_batch + inner epochs * (query + per_class))) passes, "
    "memory O(n + classes * per_class * all maps)",
)
def cafe(
    images: Any,
    labels: Any,
    *,
    per_class: int,
    build: Callable[[], nn.Module],
    generator: torch.Generator,
    iterations: int = 2000,
    real_batch: int = 256,
    lr: float = 0.1,
    init: str = "noise",
    augment: Augmentation | str | None = None,
    layers: Sequence[str] | None = None,
    shallow: float = 0.1,
    discriminate: float = 0.01,
    still: float = 0.04,
    moves: float = 0.03,
    window: int = 10,
    query: int = 128,
    outer_most: int = 50,
    inner_most: int = 50,
    net_lr: float = 0.01,
    net_batch: int = 256,
    **shared: Unpack[SharedKeywords],
) -> Synthetic:
    """Learn images whose mean feature maps match the real ones in every layer of a network trained on the images.

    Returns:
        `Synthetic` of classes * per_class images, class by class.

    References:
        Wang et al. 2022, arXiv 2203.01531.
    """
    networks = DynamicBilevel(
        still=still,
        moves=moves,
        window=window,
        query=query,
        max_outer=outer_most,
        max_inner=inner_most,
        lr=net_lr,
        batch=net_batch,
    )
    return condense_images(
        images,
        labels,
        build=build,
        generator=generator,
        networks=networks,
        objective=partial(feature_alignment, layers=layers, shallow=shallow, discriminate=discriminate),
        options=CondenseOptions(
            method="cafe",
            per_class=per_class,
            iterations=iterations,
            real_batch=real_batch,
            lr=lr,
            init=init,
            augment=augment,
            halve_at=(0.6, 0.8, 0.9),
            **shared,
        ),
    )
