"""ConvNet of the condensation papers (Gidaris and Komodakis 2018; Zhao et al., arXiv 2006.05929)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.models.channels import as_channels
from datawinnow.models.image_size import ImageSize, height_and_width, shown_size

Norm = Literal["instance", "batch", "group", "layer", "none"]
Act = Literal["relu", "leaky_relu", "sigmoid", "silu"]
Pool2d = Literal["avg", "max", "none"]
ACTS: dict[Act, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
}
POOLS: dict[Pool2d, Callable[[], nn.Module]] = {
    "avg": lambda: nn.AvgPool2d(2),
    "max": lambda: nn.MaxPool2d(2),
    "none": nn.Identity,
}


def norm_layer(norm: Norm, width: int, size: ImageSize) -> nn.Module:
    """The normalisation of one block of ``width`` channels on images of ``size`` pixels.

    Raises:
        ArgumentError: an unknown norm.
    """
    if norm == "instance":
        return nn.GroupNorm(width, width, affine=True)  # as the papers write it: one group a channel
    if norm == "batch":
        return nn.BatchNorm2d(width)
    if norm == "group":
        return nn.GroupNorm(4, width)
    if norm == "layer":
        # Over channels and pixels, hence the size of the image at this block.
        return nn.LayerNorm([width, *height_and_width(size)])
    if norm == "none":
        return nn.Identity()
    raise ArgumentError(f"norm must be 'instance', 'batch', 'group', 'layer' or 'none', got {norm!r}")


class ConvNet(nn.Module):
    """``depth`` blocks of 3x3 convolution, norm, ReLU and 2x2 average pooling, then a linear layer.

    Args:
        classes: number of classes.
        channels: channels of an image.
        size: pixels of a side of an image, or (height, width).
        depth: number of blocks (3 in the papers at 32x32).
        width: channels of every block (128 in the papers).
        norm: normalisation of every block (instance in the papers).
        act: activation of every block (ReLU in the papers).
        pool: 2x2 pooling of every block (average in the papers); ``"none"`` keeps the size.

    Raises:
        ArgumentError: an image too small to be halved ``depth`` times, or an unknown norm, activation or pooling.
    """

    def __init__(
        self,
        *,
        classes: int,
        channels: int = 3,
        size: ImageSize = 32,
        depth: int = 3,
        width: int = 128,
        norm: Norm = "instance",
        act: Act = "relu",
        pool: Pool2d = "avg",
    ) -> None:
        super().__init__()
        self.channels = channels
        check.one_of("act", act, tuple(ACTS))
        check.one_of("pool", pool, tuple(POOLS))
        halved = int(pool != "none")
        sides = height_and_width(size)
        if halved and min(sides) >> depth < 1:
            raise ArgumentError(
                f"a ConvNet of depth {depth} halves the image {depth} times; {shown_size(size)} pixels are too "
                f"few: give a smaller depth or a larger size"
            )
        padded = sides == (28, 28)
        blocks: list[nn.Module] = []
        in_channels = channels
        for level in range(depth):
            # the first layer pads 28x28 to 32x32, as in the papers' code
            padding = 3 if level == 0 and padded else 1
            # Halved once a block, or never without pooling; the shift rounds down as the pool does.
            height, width_left = ((32 if padded else side) >> level * halved for side in sides)
            blocks += [
                nn.Conv2d(in_channels, width, 3, padding=padding),
                norm_layer(norm, width, (height, width_left)),
                ACTS[act](),
                POOLS[pool](),
            ]
            in_channels = width
        # No global pooling: the features are all pixels of the last map (2,048 in the papers).
        self.features = nn.Sequential(*blocks, nn.Flatten())
        height, width_left = ((32 if padded else side) >> depth * halved for side in sides)
        self.classifier = nn.Linear(width * height * width_left, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of images (b, channels, size, size)."""
        logits: Tensor = self.classifier(self.features(as_channels(x, self.channels)))
        return logits


def convnet(
    *,
    classes: int,
    channels: int = 3,
    size: ImageSize = 32,
    depth: int = 3,
    width: int = 128,
    norm: Norm = "instance",
    act: Act = "relu",
    pool: Pool2d = "avg",
) -> ConvNet:
    """The ConvNet of the condensation papers; see `ConvNet` for the arguments."""
    return ConvNet(
        classes=classes, channels=channels, size=size, depth=depth, width=width, norm=norm, act=act, pool=pool
    )
