"""VGG-11 with instance norm, as the condensation papers judge by (Simonyan and Zisserman, arXiv 1409.1556)."""

from __future__ import annotations

from torch import Tensor, nn

from datawinnow.models.channels import as_channels
from datawinnow.models.convnet import Norm, norm_layer

COLUMN_A = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")


class VGG11(nn.Module):
    """Eight 3x3 convolutions with norm and ReLU, five 2x2 max-pools and a linear layer.

    Args:
        classes: number of classes.
        channels: channels of an image.
        size: height and width of an image. A pool that would leave a single pixel before another norm is left out:
            an instance norm makes that pixel 0 whatever it was.
        width: channels of the first convolution (64 in the paper).
        norm: normalisation of every block (instance in the condensation papers).
    """

    def __init__(
        self, *, classes: int, channels: int = 3, size: int = 32, width: int = 64, norm: Norm = "instance"
    ) -> None:
        super().__init__()
        self.channels = channels
        layers: list[nn.Module] = []
        padding, side = (3, 32) if size == 28 else (1, size)
        before = channels
        for i, entry in enumerate(COLUMN_A):
            if isinstance(entry, int):
                after = entry * width // 64
                layers += [nn.Conv2d(before, after, 3, padding=padding), norm_layer(norm, after, side), nn.ReLU(True)]
                before, padding = after, 1
            elif side >= 4 or (i == len(COLUMN_A) - 1 and side >= 2):
                layers.append(nn.MaxPool2d(2))
                side //= 2
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of images (b, channels, size, size)."""
        logits: Tensor = self.classifier(self.features(as_channels(x, self.channels)))
        return logits


def vgg11(*, classes: int, channels: int = 3, size: int = 32, width: int = 64, norm: Norm = "instance") -> VGG11:
    """VGG-11 with instance norm; see `VGG11` for the arguments."""
    return VGG11(classes=classes, channels=channels, size=size, width=width, norm=norm)
