"""LeNet as in the condensation papers (LeCun et al. 1998, doi:10.1109/5.726791)."""

from __future__ import annotations

from torch import Tensor, nn

from datawinnow.core.errors import ArgumentError
from datawinnow.models.channels import as_channels
from datawinnow.models.image_size import ImageSize, height_and_width, shown_size


class LeNet(nn.Module):
    """Two 5x5 convolutions with ReLU and 2x2 max-pooling, then three linear layers.

    Args:
        classes: number of classes.
        channels: channels of an image.
        size: pixels of a side of an image, or (height, width); below 32 it is padded, so that a map is left at the end.
        width: channels of the first convolution (6 in the paper); the second has 8 / 3 times as many.
    """

    def __init__(self, *, classes: int, channels: int = 3, size: ImageSize = 32, width: int = 6) -> None:
        super().__init__()
        self.channels = channels
        # 6 and 16 channels in the paper.
        second_width = 16 * width // 6
        height, image_width = height_and_width(size)
        first_pad = 2 if min(height, image_width) < 32 else 0
        height, image_width = ((side + 2 * first_pad - 4) // 2 for side in (height, image_width))
        second_pad = 2 if min(height, image_width) < 10 else 0  # 28 pixels give 14 here, as 32 do
        height, image_width = ((side + 2 * second_pad - 4) // 2 for side in (height, image_width))
        if min(height, image_width) < 1:
            raise ArgumentError(
                f"LeNet halves an image twice; {shown_size(size)} pixels are too few: give images of 4 or more"
            )
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 5, padding=first_pad),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(width, second_width, 5, padding=second_pad),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(second_width * height * image_width, 120),
            nn.ReLU(inplace=True),
            nn.Linear(120, 84),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of images (b, channels, size, size)."""
        logits: Tensor = self.classifier(self.features(as_channels(x, self.channels)))
        return logits


def lenet(*, classes: int, channels: int = 3, size: ImageSize = 32, width: int = 6) -> LeNet:
    """LeNet; see `LeNet` for the arguments."""
    return LeNet(classes=classes, channels=channels, size=size, width=width)
