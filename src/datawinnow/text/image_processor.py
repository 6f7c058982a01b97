"""Size and normalisation that an image model of transformers was trained with: its ``preprocessor_config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datawinnow.core.errors import ArgumentError
from datawinnow.core.extras import import_extra
from datawinnow.core.normalisation import Normalisation
from datawinnow.text.pretrained import load_pretrained, resolve_name

VALID_CONFIG = '{"size": 224, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'


@dataclass(frozen=True)
class ImageProcessor:
    """How an image model takes images.

    Attributes:
        size: (height, width) in pixels.
        normalisation: of images.
    """

    size: tuple[int, int]
    normalisation: Normalisation

    def resized(self, size: tuple[int, int]) -> ImageProcessor:
        """The same for images of another size."""
        return replace(self, size=size)


def image_processor(name: str) -> ImageProcessor:
    """The image processor of a model.

    Args:
        name: see `datawinnow.text.pretrained`.

    Raises:
        ArgumentError: there is none, or it says neither a size nor a mean.
    """
    transformers = import_extra("transformers", "transformers", f"the model {name}")
    path = resolve_name(name)
    mixin = transformers.image_processing_base.ImageProcessingMixin
    try:
        values, _ = mixin.get_image_processor_dict(path, local_files_only=Path(path).is_dir())
    except (OSError, ValueError) as error:
        raise ArgumentError(
            f"the model {name} has no readable preprocessor_config.json, which says the size and the normalisation of "
            f"its images: save its image processor there too, or write for example {VALID_CONFIG}"
        ) from error
    if values.get("rescale_offset") or values.get("include_top"):
        raise ArgumentError(
            f"the model {name}: its preprocessor_config.json normalises twice (rescale_offset, include_top), which "
            "datawinnow does not: set both to false and give image_mean and image_std"
        )
    size = values.get("crop_size") if values.get("do_center_crop") and values.get("crop_size") else values.get("size")
    # pixels are in [0, 1] here, as after the usual rescale_factor of 1 / 255
    factor = 255 * float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 255.0
    mean, std = [0.0], [1.0]
    if values.get("do_normalize", True):
        mean, std = values.get("image_mean"), values.get("image_std")
    try:
        return ImageProcessor(
            _height_and_width(size),
            Normalisation(
                tuple(float(each) / factor for each in mean),
                tuple(_positive(float(each)) / factor for each in std),
            ),
        )
    except (TypeError, ValueError, KeyError) as error:
        raise ArgumentError(
            f"the model {name}: its preprocessor_config.json must have size, image_mean and image_std, as "
            f"{VALID_CONFIG}, got {size!r}, {mean!r} and {std!r}"
        ) from error


def takes_images(name: str) -> bool:
    """Whether a model classifies images; False where that cannot be read, which loading it reports."""
    try:
        config = load_pretrained("AutoConfig", name, f"the model {name}")
        transformers = import_extra("transformers", "transformers", f"the model {name}")
    except ArgumentError:
        return False
    return type(config) in transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING


def _height_and_width(size: Any) -> tuple[int, int]:
    """A size as the files of transformers have it: a number, or a dict of the sides or of the shorter one."""
    if isinstance(size, Mapping):
        if "shortest_edge" in size:
            size = size["shortest_edge"]
        else:
            return int(_positive(size["height"])), int(_positive(size["width"]))
    side = int(_positive(size))
    return side, side


def _positive(value: float) -> float:
    if value <= 0:
        raise ValueError(value)
    return value
