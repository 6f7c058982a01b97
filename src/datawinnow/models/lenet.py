"""LeNet as in the condensation papers (LeCun et al. 1998, doi:10.1109/5.726791)."""

from __future__ import annotations

from torch import Tensor, nn

from datawinnow.models.channels import as_channels


class LeNet(nn.Module):
    """Two 5x5 convolutions with ReLU and 2x2 max-pooling, then three linear layers.

    Args:
        classes: number of classes.
        channels: channels of an image.
        size: height and width of an image; below 32 it is padded, so that a map is left at the end.
        width: channels of the first convolution (6 in the paper); the second has 8 / 3 times as many.
    """

    def __init__(self, *, classes: int, channels: int = 3, size: int = 32, width: int = 6) -> None:
        super().__init__()
        self.channels = channels
        # 6 and 16 channels in the paper.
        second_width = 16 * width // 6
        first_pad = 2 if size < 32 else 0
        side = (size + 2 * first_pad - 4) // 2
        second_pad = 2 if side < 10 else 0  # 28 pixels give 14 here, as 32 do
        side = (side + 2 * second_pad - 4) // 2
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 5, padding=first_pad),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(width, second_width, 5, padding=second_pad),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(second_width * side * side, 120),
            nn.ReLU(inplace=True),
            nn.Linear(120, 84),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of images (b, channels, size, size)."""
        logits: Tensor = self.classifier(self.features(as_channels(x, self.channels)))
        return logits


def lenet(*, classes: int, channels: int = 3, size: int = 32, width: int = 6) -> LeNet:
    """LeNet; see `LeNet` for the arguments."""
    return LeNet(classes=classes, channels=channels, size=size, width=width)
