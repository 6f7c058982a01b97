"""AlexNet for small images, as in the condensation papers (Krizhevsky et al. 2012, doi:10.1145/3065386)."""

from __future__ import annotations

from torch import Tensor, nn

from datawinnow.core.errors import ArgumentError
from datawinnow.models.channels import as_channels
from datawinnow.models.image_size import ImageSize, height_and_width, shown_size


class AlexNet(nn.Module):
    """Five convolutions with ReLU, three 2x2 max-pools and one linear layer.

    Args:
        classes: number of classes.
        channels: channels of an image.
        size: pixels of a side of an image, at least 8, or (height, width).
        width: channels of the first convolution (128); the others have 1.5, 2, 1.5 and 1.5 times as many.
    """

    def __init__(self, *, classes: int, channels: int = 3, size: ImageSize = 32, width: int = 128) -> None:
        super().__init__()
        self.channels = channels
        middle, wide = 3 * width // 2, 2 * width
        # 28x28 is padded to 32x32 by the first layer, as in the papers' code
        height, image_width = height_and_width(size)
        if min(height, image_width) < 8:
            raise ArgumentError(
                f"AlexNet halves an image three times; {shown_size(size)} pixels are too few: give images of 8 or more"
            )
        padding = 2
        if (height, image_width) == (28, 28):
            padding, height, image_width = 4, 32, 32
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 5, padding=padding),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(width, middle, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(middle, wide, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, middle, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, middle, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(middle * (height // 8) * (image_width // 8), classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of images (b, channels, size, size)."""
        logits: Tensor = self.classifier(self.features(as_channels(x, self.channels)))
        return logits


def alexnet(*, classes: int, channels: int = 3, size: ImageSize = 32, width: int = 128) -> AlexNet:
    """AlexNet for small images; see `AlexNet` for the arguments."""
    return AlexNet(classes=classes, channels=channels, size=size, width=width)
