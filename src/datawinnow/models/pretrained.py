"""Classifiers of transformers: of texts as a network of token ids, of images as one of normalised pixels."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datawinnow.core.errors import ArgumentError
from datawinnow.core.normalisation import Normalisation
from datawinnow.models.channels import as_channels
from datawinnow.models.image_size import ImageSize, height_and_width
from datawinnow.text.image_processor import ImageProcessor, image_processor
from datawinnow.text.pretrained import load_pretrained

ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
"""Implementations that come with transformers; any other name is a kernel of the hub, which is code."""
BY_DATA = {
    "num_labels",
    "id2label",
    "label2id",
    "dtype",
    "torch_dtype",
    "ignore_mismatched_sizes",
    "quantization_config",
}
"""What is decided by the data and by how it is trained."""


class Pretrained(nn.Module):
    """A transformers model that takes ids as `datawinnow.load` makes them: 0 is padding, other ids are 1 too high.

    Padding is masked out of the attention and replaced by the model's own id for it.

    Args:
        network: returns ``logits`` (b, classes).
        padding: its id of padding.
    """

    def __init__(self, network: nn.Module, padding: int) -> None:
        super().__init__()
        self.network, self.padding, self.name_prefixes = network, padding, _name_prefixes(network)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (b, classes) of token ids (b, length)."""
        if tokens.is_floating_point() or tokens.ndim != 2:
            raise ArgumentError(
                f"the network takes token ids (batch, length), whole numbers, but got {tokens.dtype} of shape "
                f"{tuple(tokens.shape)}: it is for texts"
            )
        is_token = tokens > 0
        # datawinnow shifts ids by one to keep 0 for padding; the model's own ids begin at 0.
        ids = torch.where(is_token, tokens - 1, self.padding).long()
        logits: Tensor = self.network(input_ids=ids, attention_mask=is_token.long()).logits
        return logits


class PretrainedImages(nn.Module):
    """An image classifier of transformers that takes images as `datawinnow.load` normalises them.

    Images are normalised as the model was trained, and resized (bilinear, antialiased) to its own size, or, if they are
    smaller than the dataset's, as in a size schedule, to that share of it.

    Args:
        network: takes ``pixel_values`` and returns ``logits`` (b, classes).
        processor: size and normalisation that the network was trained with.
        size: of the dataset's images.
        normalisation: of the dataset's images; None for images that are used as they are.

    Raises:
        ArgumentError: the network takes another number of channels.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, network: nn.Module, processor: ImageProcessor, size: ImageSize, normalisation: Normalisation | None
    ) -> None:
        super().__init__()
        config: Any = network.config
        self.network, self.size, self.input_size = network, height_and_width(size), processor.size
        self.name_prefixes = _name_prefixes(network)
        self.channels = int(getattr(config, "num_channels", 3))
        patch = getattr(config, "patch_size", 1)
        # a size that is no multiple of the patch would lose pixels at the edge
        self.multiple = height_and_width(patch if isinstance(patch, int) else tuple(patch))
        parameters = inspect.signature(network.forward).parameters
        self.interpolates = "interpolate_pos_encoding" in parameters
        configured = getattr(config, "image_size", None)
        self.configured_size = None if configured is None else height_and_width(_size(configured))
        trained_with = processor.normalisation
        if len(trained_with.mean) not in (1, self.channels):
            raise ArgumentError(
                f"preprocessor_config.json has a mean of {len(trained_with.mean)} channels, the model {self.channels}"
            )
        if normalisation is not None and len(normalisation.mean) not in (1, self.channels):
            raise ArgumentError(
                f"the model takes images of {self.channels} channels, but these have {len(normalisation.mean)}: load "
                "them as colour images"
            )
        trained_mean, trained_std = (torch.tensor(each) for each in trained_with)
        mean, std = (
            (trained_mean, trained_std) if normalisation is None else (torch.tensor(each) for each in normalisation)
        )
        # buffers: a run folder restores them with the weights, without the dataset
        shape = (self.channels, 1, 1)
        self.register_buffer("scale", (std / trained_std).expand(self.channels).reshape(shape).clone())
        self.register_buffer(
            "shift", ((mean - trained_mean) / trained_std).expand(self.channels).reshape(shape).clone()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of images (b, c, h, w)."""
        logits: Tensor = self.network(**self.inputs(x)).logits
        return logits

    def inputs(self, x: Tensor) -> dict[str, Any]:
        """Keyword arguments of the network for images (b, c, h, w).

        Raises:
            ArgumentError: x is no batch of images, or has another number of channels.
        """
        x = as_channels(x, self.channels) * self.scale + self.shift
        size = tuple(
            max(1, round(side * smaller / full / multiple)) * multiple
            for side, smaller, full, multiple in zip(
                self.input_size, x.shape[-2:], self.size, self.multiple, strict=True
            )
        )
        if x.shape[-2:] != size:
            x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
        inputs: dict[str, Any] = {"pixel_values": x}
        if self.interpolates and size != self.configured_size:
            inputs["interpolate_pos_encoding"] = True
        return inputs


def _name_prefixes(network: nn.Module) -> tuple[str, ...]:
    """What a name of a module of ``network``, as in ``freeze``, may leave out."""
    base = getattr(network, "base_model_prefix", "")
    return ("", "network.", *([f"network.{base}."] if base else []))


def pretrained_images(
    name: str, *, classes: int, size: ImageSize, normalisation: Normalisation | None, **options: Any
) -> PretrainedImages:
    """An image classifier in float32; its head is new where it had another number of classes.

    Args:
        name: see `datawinnow.text.pretrained`.
        classes: number of classes.
        size: of the dataset's images.
        normalisation: of the dataset's images.
        options: of the model's configuration, for example ``hidden_dropout_prob=0.2``; ``image_size``, the side to
            which images are resized in place of the model's own.

    Raises:
        ArgumentError: transformers is not installed, there is no such model, it has no image processor, or its
            configuration has no such option.
    """
    side = options.pop("image_size", None)
    _check_options(name, options)
    network = load_pretrained(
        "AutoModelForImageClassification",
        name,
        f"the model {name}",
        num_labels=classes,
        ignore_mismatched_sizes=True,
        dtype=torch.float32,
        **options,
    )
    processor = image_processor(name)
    if side is not None:
        processor = processor.resized(height_and_width(_size(side)))
    return PretrainedImages(network, processor, size, normalisation)


def _size(size: Any) -> ImageSize:
    """A size as configurations have it: a number or a list of two."""
    return size if isinstance(size, int) else tuple(size)


def pretrained(name: str, *, classes: int, **options: Any) -> Pretrained:
    """A sequence classifier in float32; its head is new where it had another number of classes.

    Args:
        name: see `datawinnow.text.pretrained`.
        classes: number of classes.
        options: of the model's configuration, for example ``hidden_dropout_prob=0.2``.

    Raises:
        ArgumentError: transformers is not installed, there is no such model, or its configuration has no such option.
    """
    _check_options(name, options)
    network = load_pretrained(
        "AutoModelForSequenceClassification",
        name,
        f"the model {name}",
        num_labels=classes,
        ignore_mismatched_sizes=True,
        dtype=torch.float32,
        **options,
    )
    config = network.config
    padding = getattr(config, "pad_token_id", None)
    if padding is None:  # a decoder classifies by the last token before the padding, so it needs an id for padding
        end = getattr(config, "eos_token_id", None)
        padding = end[0] if isinstance(end, list) else end or 0
        config.pad_token_id = padding
    return Pretrained(network, int(padding))


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that are not of the model's configuration: others of ``from_pretrained`` can run code.

    Raises:
        ArgumentError: naming the option.
    """
    if not options:
        return
    valid = set(load_pretrained("AutoConfig", name, f"the model {name}").to_dict()) - BY_DATA
    for key, value in options.items():
        if key == "attn_implementation":
            if value not in ATTENTION:
                raise ArgumentError(
                    f"model {name!r}: attn_implementation must be one of {', '.join(ATTENTION)}, got {value!r}"
                )
        elif key not in valid:
            raise ArgumentError(f"model {name!r} has no option {key!r} in its configuration (config.json)")
