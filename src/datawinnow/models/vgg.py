"""VGG-16 with batch norm and VGG-11, each with one linear layer, for small images (arXiv 1409.1556)."""

from __future__ import annotations

from torch import Tensor, nn

from datawinnow.models.channels import as_channels
from datawinnow.models.convnet import Norm, norm_layer
from datawinnow.models.image_size import ImageSize, height_and_width
from datawinnow.models.initialisation import he_fan_out

COLUMN_A = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")
"""Table 1 of the paper: channels of the convolutions of VGG-11."""
COLUMN_D = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512, "pool")
"""The same of VGG-16."""


class VGG16(nn.Module):
    """Thirteen 3x3 convolutions with batch norm, five 2x2 max-pools, average pooling and a linear layer.

    Args:
        classes: number of classes.
        channels: channels of an image.
        width: channels of the first stage (64 in the paper).
    """

    def __init__(self, *, classes: int, channels: int = 3, width: int = 64) -> None:
        super().__init__()
        self.channels = channels
        layers: list[nn.Module] = []
        in_channels = channels
        for entry in COLUMN_D:
            if isinstance(entry, int):
                # The table is for a width of 64.
                out_channels = entry * width // 64
                layers += [
                    nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
                    nn.BatchNorm2d(out_channels),
                    nn.ReLU(inplace=True),
                ]
                in_channels = out_channels
            else:
                # ceil_mode lets images below 32 pixels through: a side of 1 stays 1
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(in_channels, classes)
        he_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of images (b, channels, h, w)."""
        logits: Tensor = self.classifier(self.features(as_channels(x, self.channels)))
        return logits


class VGG11(nn.Module):
    """Eight 3x3 convolutions with norm and ReLU, five 2x2 max-pools and a linear layer, as in the condensation papers.

    Args:
        classes: number of classes.
        channels: channels of an image.
        size: pixels of a side of an image, or (height, width). A pool that would leave a side of one pixel before
            another norm is left out: an instance norm would set a single pixel to 0.
        width: channels of the first convolution (64 in the paper).
        norm: normalisation of every block (instance in the condensation papers).
    """

    def __init__(
        self, *, classes: int, channels: int = 3, size: ImageSize = 32, width: int = 64, norm: Norm = "instance"
    ) -> None:
        super().__init__()
        self.channels = channels
        layers: list[nn.Module] = []
        padding, sides = 1, height_and_width(size)
        if sides == (28, 28):  # the papers' code pads 28x28 to 32x32
            padding, sides = 3, (32, 32)
        in_channels = channels
        for i, entry in enumerate(COLUMN_A):
            if isinstance(entry, int):
                out_channels = entry * width // 64
                layers += [
                    nn.Conv2d(in_channels, out_channels, 3, padding=padding),
                    norm_layer(norm, out_channels, sides),
                    nn.ReLU(inplace=True),
                ]
                in_channels, padding = out_channels, 1
            elif min(sides) >= 4 or (i == len(COLUMN_A) - 1 and min(sides) >= 2):
                layers.append(nn.MaxPool2d(2))
                sides = (sides[0] // 2, sides[1] // 2)
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(in_channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of images (b, channels, size, size)."""
        logits: Tensor = self.classifier(self.features(as_channels(x, self.channels)))
        return logits


def vgg16_bn(*, classes: int, channels: int = 3, size: ImageSize = 32, width: int = 64) -> VGG16:
    """VGG-16 with batch norm.

    Args:
        classes: number of classes.
        channels: channels of an image.
        size: pixels of a side of an image, or (height, width); the network takes any.
        width: channels of the first stage.
    """
    del size
    return VGG16(classes=classes, channels=channels, width=width)


def vgg11(*, classes: int, channels: int = 3, size: ImageSize = 32, width: int = 64, norm: Norm = "instance") -> VGG11:
    """VGG-11 with instance norm; see `VGG11` for the arguments."""
    return VGG11(classes=classes, channels=channels, size=size, width=width, norm=norm)
