"""Names of the networks in `datawinnow.models`, for help texts, which must not wait for torch."""

from __future__ import annotations

IMAGE_MODELS = (
    "mlp",
    "convnet",
    "resnet8",
    "resnet20",
    "resnet18",
    "resnet34",
    "resnet50",
    "vgg16_bn",
    "vgg11",
    "alexnet",
    "lenet",
    "vit",
    "vit_tiny",
    "vit_small",
    "vit_base",
)
"""Networks of images; ``mlp`` takes vectors too."""
TEXT_MODELS = ("text_cnn", "bag_of_embeddings")
"""Networks of token ids."""
