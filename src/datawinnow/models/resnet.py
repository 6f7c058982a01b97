"""ResNet-18, -34 and -50 (He et al., arXiv 1512.03385) with the CIFAR stem: 3x3 stride 1, no max-pool."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from datawinnow.core.errors import ArgumentError
from datawinnow.models.channels import as_channels
from datawinnow.models.initialise import he_fan_out

Stem = Literal["cifar", "imagenet"]


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = projection(before, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(b, before, h, w) -> (b, width, h / stride, w / stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 (which carries the stride) and 1x1 convolutions and a shortcut; the output has 4 times the width."""

    expansion = 4

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.shortcut = projection(before, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(b, before, h, w) -> (b, 4 * width, h / stride, w / stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        return F.relu(self.bn3(self.conv3(out)) + self.shortcut(x), inplace=True)


def projection(before: int, after: int, stride: int) -> nn.Module:
    """Identity where the shape stays, else a strided 1x1 convolution with batch norm."""
    if stride == 1 and before == after:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after))


class ResNet(nn.Module):
    """Four stages at widths w, 2w, 4w, 8w.

    Args:
        block: `Basic` or `Bottleneck`.
        blocks: blocks of each stage.
        classes: number of classes.
        channels: channels of an image.
        width: channels of the first stage (64 in the papers).
        stem: ``"cifar"`` (3x3, stride 1) or ``"imagenet"`` (7x7, stride 2, max-pool).

    Raises:
        ArgumentError: another stem.
    """

    def __init__(
        self,
        block: type[Basic] | type[Bottleneck],
        blocks: tuple[int, int, int, int],
        *,
        classes: int,
        channels: int = 3,
        width: int = 64,
        stem: Stem = "cifar",
    ) -> None:
        super().__init__()
        self.channels = channels
        if stem == "cifar":
            layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
        elif stem == "imagenet":
            layers = [nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)]
        else:
            raise ArgumentError(f"stem must be 'cifar' or 'imagenet', got {stem!r}")
        layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        if stem == "imagenet":
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        before = width
        for stage, count in enumerate(blocks):
            for i in range(count):
                layers.append(block(before, width << stage, 2 if stage and i == 0 else 1))
                before = (width << stage) * block.expansion
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(before, classes)
        he_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of images (b, channels, h, w)."""
        logits: Tensor = self.classifier(self.features(as_channels(x, self.channels)))
        return logits


def _stem(size: int) -> Stem:
    return "cifar" if size <= 96 else "imagenet"


def resnet18(*, classes: int, channels: int = 3, size: int = 32, width: int = 64, stem: Stem | None = None) -> ResNet:
    """ResNet-18 (He et al. 2015, arXiv 1512.03385).

    Args:
        classes: number of classes.
        channels: channels of an image.
        size: height and width of an image; above 96 pixels the ImageNet stem is the default.
        width: channels of the first stage.
        stem: ``"cifar"`` or ``"imagenet"``, to override.
    """
    return ResNet(Basic, (2, 2, 2, 2), classes=classes, channels=channels, width=width, stem=stem or _stem(size))


def resnet34(*, classes: int, channels: int = 3, size: int = 32, width: int = 64, stem: Stem | None = None) -> ResNet:
    """ResNet-34; arguments as in `resnet18`."""
    return ResNet(Basic, (3, 4, 6, 3), classes=classes, channels=channels, width=width, stem=stem or _stem(size))


def resnet50(*, classes: int, channels: int = 3, size: int = 32, width: int = 64, stem: Stem | None = None) -> ResNet:
    """ResNet-50; arguments as in `resnet18`."""
    return ResNet(Bottleneck, (3, 4, 6, 3), classes=classes, channels=channels, width=width, stem=stem or _stem(size))
