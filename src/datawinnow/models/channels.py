"""Grey images as input of a network for colour images."""

from __future__ import annotations

from torch import Tensor

from datawinnow.core.errors import ArgumentError


def as_channels(x: Tensor, channels: int) -> Tensor:
    """Images (b, c, h, w) with as many channels as a network takes.

    A single channel is repeated in each, without a copy, so that the papers' networks, made for colour, also train on
    grey images.

    Raises:
        ArgumentError: another number of channels, or ``x`` is no batch of images.
    """
    if x.ndim != 4:
        raise ArgumentError(
            f"the network takes images (batch, channels, height, width), but got a batch of shape {tuple(x.shape)}: "
            "use models.mlp for vectors"
        )
    if x.shape[1] == channels:
        return x
    if x.shape[1] == 1:
        return x.expand(-1, channels, -1, -1)
    raise ArgumentError(
        f"the network takes images of {channels} channels, but these have {x.shape[1]}: build it with "
        f"channels={x.shape[1]}"
    )
