"""Where the channels-last memory format of images can be used."""

from __future__ import annotations

import torch
from torch import nn

MIN_CHANNELS = 16
"""Input channels a group, from which on oneDNN's strided 1x1 convolution keeps within its buffer (8 with AVX2)."""


def channels_last_works(model: nn.Module, device: torch.device) -> bool:
    """Whether ``model`` may be trained in channels-last on ``device``.

    On a CPU it may not with a strided 1x1 convolution of few input channels: there the backward pass of oneDNN (seen
    with 3.12) writes past its buffer, which ends in a crash or in wrong gradients
    (https://github.com/uxlfoundation/oneDNN/issues/6035). A lazy layer counts as one of few channels.

    >>> narrow = nn.Conv2d(4, 8, kernel_size=1, stride=2)
    >>> channels_last_works(narrow, torch.device("cpu")), channels_last_works(nn.Conv2d(4, 8, 3), torch.device("cpu"))
    (False, True)
    """
    if device.type != "cpu":
        return True
    return not any(
        module.kernel_size == (1, 1) and max(module.stride) > 1 and module.in_channels // module.groups < MIN_CHANNELS
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    )
