"""VGG-16 with batch norm and one linear layer, as used on CIFAR (Simonyan and Zisserman, arXiv 1409.1556)."""

from __future__ import annotations

from torch import Tensor, nn

from datawinnow.models.channels import as_channels
from datawinnow.models.initialise import he_fan_out

COLUMN_D = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512, "pool")


class VGG(nn.Module):
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
        before = channels
        for entry in COLUMN_D:
            if isinstance(entry, int):
                after = entry * width // 64
                layers += [
                    nn.Conv2d(before, after, 3, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(inplace=True),
                ]
                before = after
            else:
                # ceil_mode lets images below 32 pixels through: a side of 1 stays 1
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(before, classes)
        he_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of images (b, channels, h, w)."""
        logits: Tensor = self.classifier(self.features(as_channels(x, self.channels)))
        return logits


def vgg16_bn(*, classes: int, channels: int = 3, size: int = 32, width: int = 64) -> VGG:
    """VGG-16 with batch norm.

    Args:
        classes: number of classes.
        channels: channels of an image.
        size: height and width of an image; the network takes any.
        width: channels of the first stage.
    """
    del size
    return VGG(classes=classes, channels=channels, width=width)
