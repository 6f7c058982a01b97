"""A ResNet-8 trained on CIFAR-100, to be fine-tuned: the network of `cifar10_finetuned` in fine_tuning.toml.

    python -m datawinnow train $DATAWINNOW_DATA/cifar100 --model resnet8 --epochs 15 --run results/resnet8_of_cifar100
    python -m datawinnow bench benchmarks/fine_tuning.toml --model benchmarks.pretrained_resnet8:resnet8_of_cifar100

The weights come from the folder of the first command, or from the one that DATAWINNOW_PRETRAINED names.
"""

from __future__ import annotations

import os
from pathlib import Path

from safetensors.torch import load_file

from datawinnow.models import resnet8
from datawinnow.models.image_size import ImageSize
from datawinnow.models.resnet import ResNet

FOLDER = Path(__file__).parents[1] / "results" / "resnet8_of_cifar100"


def resnet8_of_cifar100(*, classes: int, channels: int = 3, size: ImageSize = 32) -> ResNet:
    """The trained network with a new head.

    Args:
        classes: number of classes of the new head.
        channels: channels of an image; 3, as in training.
        size: pixels of a side of an image.

    Raises:
        FileNotFoundError: the first command of this file has not been run.
    """
    network = resnet8(classes=classes, channels=channels, size=size)
    file = load_file(Path(os.environ.get("DATAWINNOW_PRETRAINED", FOLDER)) / "model.safetensors")
    weights = {name.removeprefix("model."): value for name, value in file.items() if name.startswith("model.")}
    head = {name for name, value in network.state_dict().items() if value.shape != weights[name].shape}
    network.load_state_dict({name: value for name, value in weights.items() if name not in head}, strict=False)
    return network
