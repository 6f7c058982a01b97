"""Image classifiers of transformers with a few thousand weights, built from configurations."""

from __future__ import annotations

from pathlib import Path

import torch


def write_image_model(folder: Path, kind: str, *, labels: int = 3, side: int = 32) -> str:
    """A model with its image processor, as ``save_pretrained`` leaves them; its name for ``--model``.

    ``kind``: ``"vit"``, ``"resnet"`` or ``"convnext"``.
    """
    import transformers as t

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "vit":
            network = t.ViTForImageClassification(
                t.ViTConfig(
                    hidden_size=16,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    intermediate_size=32,
                    image_size=side,
                    patch_size=8,
                    num_labels=labels,
                    initializer_range=0.3,
                )
            )
        elif kind == "resnet":
            sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
            network = t.ResNetForImageClassification(t.ResNetConfig(**sizes, num_labels=labels))
        else:
            sizes = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "patch_size": 4}
            network = t.ConvNextForImageClassification(
                t.ConvNextConfig(**sizes, num_labels=labels, initializer_range=0.3)
            )
    network.save_pretrained(folder)
    processor = getattr(t, "ViTImageProcessorPil", None) or t.ViTImageProcessor
    processor(
        size={"height": side, "width": side}, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.25, 0.3]
    ).save_pretrained(folder)
    return f"hf:{folder}"
