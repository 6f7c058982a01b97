"""The small residual networks made for CIFAR: ResNet-8 and ResNet-20 (He et al., arXiv 1512.03385, 4.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from datawinnow.models.channels import as_channels
from datawinnow.models.initialise import he_fan_out


class SmallBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; the shortcut projects (1x1) where the shape changes (option B)."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """(b, before, h, w) -> (b, width, h / stride, w / stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x), inplace=True)


class CifarResNet(nn.Module):
    """Three stages of ``blocks`` blocks at widths w, 2w, 4w: 6 * blocks + 2 layers.

    Args:
        blocks: blocks a stage (1 for ResNet-8, 3 for ResNet-20).
        classes: number of classes.
        channels: channels of an image.
        width: channels of the first stage (16 in the paper).
    """

    def __init__(self, blocks: int, *, classes: int, channels: int = 3, width: int = 16) -> None:
        super().__init__()
        self.channels = channels
        layers: list[nn.Module] = [
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        before = width
        for stage, stride in enumerate((1, 2, 2)):
            for block in range(blocks):
                layers.append(SmallBlock(before, width << stage, stride if block == 0 else 1))
                before = width << stage
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(before, classes)
        he_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of images (b, channels, h, w), any h and w of at least 4."""
        logits: Tensor = self.classifier(self.features(as_channels(x, self.channels)))
        return logits


def resnet8(*, classes: int, channels: int = 3, size: int = 32, width: int = 16) -> CifarResNet:
    """ResNet-8: one block a stage.

    Args:
        classes: number of classes.
        channels: channels of an image.
        size: height and width of an image; the network takes any.
        width: channels of the first stage.
    """
    del size
    return CifarResNet(1, classes=classes, channels=channels, width=width)


def resnet20(*, classes: int, channels: int = 3, size: int = 32, width: int = 16) -> CifarResNet:
    """ResNet-20: three blocks a stage; arguments as in `resnet8`."""
    del size
    return CifarResNet(3, classes=classes, channels=channels, width=width)
