"""Residual networks (He et al., arXiv 1512.03385): ResNet-8 and -20 for CIFAR, ResNet-18, -34 and -50."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from datawinnow.core.errors import ArgumentError
from datawinnow.models.channels import as_channels
from datawinnow.models.image_size import ImageSize, height_and_width
from datawinnow.models.initialisation import he_fan_out

Stem = Literal["cifar", "imagenet"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        # No bias: the norm behind it subtracts the mean.
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(b, in_channels, h, w) -> (b, width, h / stride, w / stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions and a shortcut; the output has 4 times the width."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        # The stride is in the 3x3 convolution as in torchvision (v1.5), not in the first 1x1 as in the paper.
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.shortcut = _shortcut(in_channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(b, in_channels, h, w) -> (b, 4 * width, h / stride, w / stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        return F.relu(self.bn3(self.conv3(out)) + self.shortcut(x), inplace=True)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Identity if the shape stays, else a strided 1x1 convolution with batch norm (option B of the paper)."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
    )


class ResNet(nn.Module):
    """Stages of residual blocks at widths w, 2w, 4w, ..., each but the first halving the image.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        blocks: blocks of each stage.
        classes: number of classes.
        channels: channels of an image.
        width: channels of the first stage.
        stem: ``"cifar"`` (3x3, stride 1) or ``"imagenet"`` (7x7, stride 2, max-pool).

    Raises:
        ArgumentError: another stem.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, ...],
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
        in_channels = width
        for stage, count in enumerate(blocks):
            for i in range(count):
                # The width doubles and the image halves in the first block of every stage but the first.
                layers.append(block(in_channels, width << stage, 2 if stage and i == 0 else 1))
                in_channels = (width << stage) * block.expansion
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(in_channels, classes)
        he_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of images (b, channels, h, w); any h and w of at least 4."""
        logits: Tensor = self.classifier(self.features(as_channels(x, self.channels)))
        return logits


def resnet8(*, classes: int, channels: int = 3, size: ImageSize = 32, width: int = 16) -> ResNet:
    """ResNet-8 for CIFAR: three stages of one block.

    Args:
        classes: number of classes.
        channels: channels of an image.
        size: pixels of a side of an image, or (height, width); the network takes any.
        width: channels of the first stage.
    """
    del size
    return ResNet(BasicBlock, (1, 1, 1), classes=classes, channels=channels, width=width)


def resnet20(*, classes: int, channels: int = 3, size: ImageSize = 32, width: int = 16) -> ResNet:
    """ResNet-20 for CIFAR (section 4.2 of the paper): three stages of three blocks; arguments as in `resnet8`."""
    del size
    return ResNet(BasicBlock, (3, 3, 3), classes=classes, channels=channels, width=width)


def _default_stem(size: ImageSize) -> Stem:
    return "cifar" if max(height_and_width(size)) <= 96 else "imagenet"


def resnet18(
    *, classes: int, channels: int = 3, size: ImageSize = 32, width: int = 64, stem: Stem | None = None
) -> ResNet:
    """ResNet-18.

    Args:
        classes: number of classes.
        channels: channels of an image.
        size: pixels of a side of an image, or (height, width).
        width: channels of the first stage.
        stem: ``"cifar"`` or ``"imagenet"``; by default the second above 96 pixels.
    """
    stem = stem or _default_stem(size)
    return ResNet(BasicBlock, (2, 2, 2, 2), classes=classes, channels=channels, width=width, stem=stem)


def resnet34(
    *, classes: int, channels: int = 3, size: ImageSize = 32, width: int = 64, stem: Stem | None = None
) -> ResNet:
    """ResNet-34; arguments as in `resnet18`."""
    stem = stem or _default_stem(size)
    return ResNet(BasicBlock, (3, 4, 6, 3), classes=classes, channels=channels, width=width, stem=stem)


def resnet50(
    *, classes: int, channels: int = 3, size: ImageSize = 32, width: int = 64, stem: Stem | None = None
) -> ResNet:
    """ResNet-50; arguments as in `resnet18`."""
    stem = stem or _default_stem(size)
    return ResNet(Bottleneck, (3, 4, 6, 3), classes=classes, channels=channels, width=width, stem=stem)
