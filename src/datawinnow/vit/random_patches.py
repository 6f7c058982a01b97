"""`random_patches`: a vision transformer that trains on a random share of an image's patches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.vit.anatomy import anatomy_of
from datawinnow.vit.token_selection import drop_patches, topk_ascending


class RandomPatches:
    """Keeps a random share of the patches, others for each image and step; ``model.random_patches``.

    In evaluation mode all patches stay.

    Attributes:
        prefix: tokens before the patches, which always stay.
    """

    def __init__(self, prefix: int) -> None:
        self.prefix = prefix
        self._share, self._in_both_modes = 1.0, False

    @property
    def share(self) -> float:
        """Share of the patches that training keeps, in (0, 1]: ceil(share * n) of n."""
        return self._share

    @share.setter
    def share(self, share: float) -> None:
        check.number("share", share, 1e-9, 1)
        self._share = float(share)

    @contextmanager
    def fixed(self, share: float) -> Iterator[None]:
        """Keep ``share`` of the patches in both modes; also in copies made meanwhile."""
        before = self._share, self._in_both_modes
        self.share, self._in_both_modes = share, True
        try:
            yield
        finally:
            self._share, self._in_both_modes = before

    def __call__(self, block: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Before the first block: its arguments with fewer tokens; None to leave them."""
        if self._share == 1 or not (block.training or self._in_both_modes):
            return None
        tokens: Tensor = args[0]
        n = tokens.shape[1] - self.prefix
        # from torch's global generator, as dropout: a training seeds that
        draw = torch.rand(len(tokens), n, device=tokens.device)
        kept = topk_ascending(draw, max(1, math.ceil(n * self._share - 1e-9)))
        return (drop_patches(tokens, kept, self.prefix), *args[1:])


def random_patches_of(block: nn.Module) -> RandomPatches | None:
    """What drops patches before a block; None where nothing does."""
    return next((hook for hook in block._forward_pre_hooks.values() if isinstance(hook, RandomPatches)), None)


def random_patches(model: nn.Module) -> RandomPatches:
    """Let a vision transformer train on a random share of the patches, chosen anew for each image and step.

    Patches are dropped after their positions are added, before the first block, so that all blocks cost less. Training
    on few patches first and on all last is to a transformer what small images first are to a convolutional network:
    ``SizeSchedule(view="patches")`` does it in `datawinnow.fit`. In a loop of your own set ``share`` before each step.

    The model is changed in place: a hook is added to its first block. Classes, parameters and their names stay.

    Args:
        model: as of `sparsify`. One that is sparse already is refused.

    Returns:
        What sets the share; the same for the same model.

    Raises:
        ArgumentError: an unsupported model, or a sparse one.

    References:
        PatchDropout (Liu et al. 2022, arXiv 2208.07220); token dropping before the first block at random, as FLIP
        (arXiv 2212.00794) trains.

    >>> from datawinnow.models import vit
    >>> model = vit(classes=10, channels=1, size=8)
    >>> random_patches(model).share = 0.25
    >>> model.train()(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    if "sparsity" in model.__dict__:
        raise ArgumentError(
            "the model is sparse already (vit.sparsify), which counts the patches of whole images: make it dense "
            "(vit.dense) or leave random patches out"
        )
    existing = model.__dict__.get("random_patches")
    if isinstance(existing, RandomPatches):
        return existing
    anatomy = anatomy_of(model)
    patches = random_patches_of(anatomy.blocks[0])
    if patches is None:  # else a module around this one, or inside it, has them
        patches = RandomPatches(anatomy.prefix)
        anatomy.blocks[0].register_forward_pre_hook(patches)
    model.random_patches = patches  # type: ignore[assignment]
    return patches
