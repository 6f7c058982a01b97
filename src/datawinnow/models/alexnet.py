"""AlexNet for small images, as in the condensation papers (Krizhevsky et al. 2012, doi:10.1145/3065386)."""

from __future__ import annotations

from torch import Tensor, nn

from datawinnow.models.channels import as_channels


class AlexNet(nn.Module):
    """Five convolutions with ReLU, three 2x2 max-pools and one linear layer.

    Args:
        classes: number of classes.
        channels: channels of an image.
        size: height and width of an image, at least 8.
        width: channels of the first convolution (128); the others have 1.5, 2, 1.5 and 1.5 times as many.
    """

    def __init__(self, *, classes: int, channels: int = 3, size: int = 32, width: int = 128) -> None:
        super().__init__()
        self.channels = channels
        middle, wide = 3 * width // 2, 2 * width
        # 28x28 is padded to 32x32 by the first layer, as in the papers' code
        padding, side = (4, 32) if size == 28 else (2, size)
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
        self.classifier = nn.Linear(middle * (side // 8) ** 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of images (b, channels, size, size)."""
        logits: Tensor = self.classifier(self.features(as_channels(x, self.channels)))
        return logits


def alexnet(*, classes: int, channels: int = 3, size: int = 32, width: int = 128) -> AlexNet:
    """AlexNet for small images; see `AlexNet` for the arguments."""
    return AlexNet(classes=classes, channels=channels, size=size, width=width)
