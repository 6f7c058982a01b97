"""`Synthetic`: the result of a condenser, images that replace the real ones in training."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.artifacts import read_tensors, write_tensors
from datawinnow.core.errors import ArgumentError
from datawinnow.core.files import write_bytes

SYNTHETIC_KIND = "synthetic set"


# eq=False: `==` of tensors is a tensor, which has no truth value
@dataclass(frozen=True, eq=False)
class Synthetic:
    """Images on which a network is trained instead of the real ones, and the record of their condensation.

    It is a map-style dataset of the **decoded** ``(x, y)``, x (channels, height, width) float32 normalised, for a
    DataLoader or `datawinnow.fit`.

    Attributes:
        images: (m, channels, height, width) float32 as stored and normalised, ``(pixel - mean) / std``. As in the
            papers, pixels may leave [0, 1], which matters to training: `pixels` and PNGs clip them, the file does not.
        labels: (m,) int64 class ids; condensers give them class by class: 0 ... 0 1 ... 1.
        factor: l of IDM's partition: each image stores l x l smaller ones; 1 for none.
        mean: mean per channel of real pixels in [0, 1], by which they were normalised; empty if unknown.
        std: standard deviation per channel; as ``mean``.
        classes: names of the classes; empty for none.
        about: method, settings, seed, cost and versions of the condensation, as JSON.

    Raises:
        ArgumentError: shapes, dtypes or the factor do not fit together, or values are not finite.
    """

    images: Tensor
    labels: Tensor
    factor: int = 1
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images.dtype != torch.float32 or self.images.ndim != 4 or not self.images.numel():
            raise ArgumentError(
                "Synthetic.images must be float32 of shape (m, channels, height, width), got "
                f"{self.images.dtype} of shape {tuple(self.images.shape)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ArgumentError(
                f"Synthetic.labels must be int64 of shape ({len(self.images)},), got {self.labels.dtype} of shape "
                f"{tuple(self.labels.shape)}"
            )
        if int(self.labels.min()) < 0:
            raise ArgumentError(f"Synthetic.labels has the negative class id {int(self.labels.min())}")
        check.labels("Synthetic.labels", self.labels)
        check_factor(self.factor, self.images.shape[2:])
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (0, self.images.shape[1]):
                raise ArgumentError(
                    f"Synthetic.{name} must have one number a channel ({self.images.shape[1]}), got {len(values)}"
                )
        if self.classes and int(self.labels.max()) >= len(self.classes):
            raise ArgumentError(f"Synthetic.labels has class {int(self.labels.max())} of {len(self.classes)} classes")
        if not bool(torch.isfinite(self.images).all()):
            bad = int((~torch.isfinite(self.images.flatten(1)).all(1)).nonzero()[0])
            raise ArgumentError(f"Synthetic.images has a number that is not finite in image {bad}")

    def __len__(self) -> int:
        return len(self.images) * self.factor**2

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        # tile-major, as `decode`; indexing a range takes negative numbers and raises IndexError, which ends a
        # loop
        tile, row = divmod(range(len(self))[i], len(self.images))
        return expand(self.images[row : row + 1], self.factor)[tile], int(self.labels[row])

    def decode(self) -> tuple[Tensor, Tensor]:
        """The images to train on.

        Returns:
            ``(x, y)``: (m * factor^2, channels, height, width) float32 normalised, and (m * factor^2,) int64; all
            top-left tiles first, then those below them, column by column.
        """
        return expand(self.images, self.factor), self.labels.repeat(self.factor**2)

    def pixels(self) -> Tensor:
        """The stored images as images: (m, channels, height, width) float32 in [0, 1].

        Normalisation is undone and the result clipped. If it is unknown (no ``mean``), the set is scaled between its
        smallest and its largest value instead.
        """
        if self.mean and self.std:
            return self._denormalised().clamp(0, 1)
        low, high = torch.aminmax(self.images)
        # for a set of one constant value
        return ((self.images - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)

    def _denormalised(self) -> Tensor:
        shape = (1, -1, 1, 1)
        return self.images * torch.tensor(self.std).view(shape) + torch.tensor(self.mean).view(shape)

    @property
    def outside(self) -> float:
        """Share of the stored values outside [0, 1] as pixels; 0 if the normalisation is unknown."""
        if not (self.mean and self.std):
            return 0.0
        pixels = self._denormalised()
        # 1e-6: rounding of the normalisation is not a pixel out of range
        return float(((pixels < -1e-6) | (pixels > 1 + 1e-6)).float().mean())

    def grid(self, columns: int | None = None, *, gap: int = 1, scale: int = 1) -> bytes:
        """All stored images in one PNG, by default with a class in each row.

        Args:
            columns: images in a row; None for as many as the first class has, up to 50.
            gap: white pixels between images.
            scale: side of a pixel, in pixels of the PNG.

        Returns:
            The PNG's bytes.
        """
        from PIL import Image

        shown = _as_rgb(self.pixels())
        n, height, width, _ = shown.shape
        columns = columns or min(50, int((self.labels == self.labels[0]).sum()))
        rows = -(-n // columns)
        sheet = torch.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=torch.uint8)
        for i in range(n):
            top, left = i // columns * (height + gap), i % columns * (width + gap)
            sheet[top : top + height, left : left + width] = shown[i]
        image = Image.fromarray(sheet.numpy())
        if scale > 1:
            image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
        out = io.BytesIO()
        image.save(out, format="PNG")
        return out.getvalue()

    def save_grid(self, path: Path | str, columns: int | None = None, *, gap: int = 1, scale: int = 1) -> Path:
        """Write `grid` to ``path``."""
        write_bytes(Path(path), self.grid(columns, gap=gap, scale=scale))
        return Path(path)

    def save_folder(self, path: Path | str, *, decoded: bool = True) -> Path:
        """Write a folder of PNGs by class, ``path/<class>/0000.png``, which `datawinnow.load` reads.

        PNGs hold 8 bits, so pixels outside [0, 1] are clipped (`outside` is their share). Training on the folder can
        differ from training on `decode`.

        Args:
            path: the folder; created if it does not exist.
            decoded: write the images of `decode`, or False for the stored ones (they differ if ``factor`` is above 1).
        """
        from PIL import Image

        images, labels = self.decode() if decoded else (self.images, self.labels)
        # a set of the decoded images, so that `pixels` undoes their normalisation; the factor is used up
        shown = _as_rgb(Synthetic(images, labels, 1, self.mean, self.std).pixels())
        counts: dict[int, int] = {}
        digits = len(str(int(self.labels.max())))
        for image, label in zip(shown, labels.tolist(), strict=True):
            name = self.classes[label] if self.classes else f"{label:0{digits}}"
            number = counts.get(label, 0)
            counts[label] = number + 1
            out = io.BytesIO()
            png = Image.fromarray(image.numpy())
            (png if images.shape[1] == 3 else png.convert("L")).save(out, format="PNG")
            write_bytes(Path(path) / name / f"{number:04}.png", out.getvalue())
        return Path(path)

    def save(self, path: Path | str) -> Path:
        """Write a safetensors file of ``images`` and ``labels``, with everything else as metadata.

        Raises:
            RunError: the disk is full.
        """
        metadata = {
            "factor": self.factor,
            "mean": list(self.mean),
            "std": list(self.std),
            "classes": list(self.classes),
            "about": dict(self.about),
        }
        write_tensors(Path(path), {"images": self.images, "labels": self.labels}, metadata, kind=SYNTHETIC_KIND)
        return Path(path)

    @classmethod
    def load(cls, path: Path | str) -> Synthetic:
        """Read a set that `save` wrote; nothing is unpickled.

        Raises:
            RunError: no such file, truncated, of a newer version, or not a synthetic set.
        """
        tensors, metadata = read_tensors(
            Path(path),
            kind=SYNTHETIC_KIND,
            required=("images", "labels"),
            missing="make it with `dw.api.condense(data, method='dm')`",
            remedy="make it again, or give a file that Synthetic.save wrote",
        )
        return cls(
            tensors["images"],
            tensors["labels"],
            int(metadata["factor"]),
            tuple(metadata["mean"]),
            tuple(metadata["std"]),
            tuple(metadata["classes"]),
            metadata["about"],
        )


def check_factor(factor: int, size: tuple[int, ...] | torch.Size) -> int:
    """``factor``, checked for images of ``size`` (height, width).

    Raises:
        ArgumentError: factor is not an integer of at least 1, or tiles are smaller than a pixel.
    """
    if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
        raise ArgumentError(f"factor must be a whole number of at least 1, got {factor!r}")
    if min(size) < factor:
        raise ArgumentError(f"an image of {size[0]}x{size[1]} pixels cannot hold {factor}x{factor} smaller ones")
    return factor


def tile_bounds(side: int, factor: int) -> list[tuple[int, int]]:
    """(start, end) of each of ``factor`` tiles of a side.

    >>> tile_bounds(8, 2), tile_bounds(7, 2)
    ([(0, 4), (4, 8)], [(0, 3), (3, 7)])
    """
    # sides that the factor does not divide: tiles differ by a pixel, and cover everything
    return [(i * side // factor, (i + 1) * side // factor) for i in range(factor)]


def tiles(size: tuple[int, ...] | torch.Size, factor: int) -> list[tuple[slice, slice]]:
    """(rows, columns) of every tile, column by column: top-left, bottom-left, top-right, bottom-right for factor 2."""
    height, width = size
    return [
        (slice(*rows), slice(*columns))
        for columns in tile_bounds(width, factor)
        for rows in tile_bounds(height, factor)
    ]


def expand(images: Tensor, factor: int) -> Tensor:
    """IDM's partition and expansion: every tile of every image, enlarged to the size of an image; differentiable.

    Args:
        images: (m, channels, height, width).
        factor: l; 1 returns ``images``.

    Returns:
        (m * l^2, channels, height, width), tile-major: tile 0 of all images, then tile 1, ... in the order of `tiles`.
    """
    if factor == 1:
        return images
    size = images.shape[2:]
    small = [images[:, :, rows, columns] for rows, columns in tiles(size, factor)]
    return torch.cat([F.interpolate(tile, size=list(size), mode="bilinear", align_corners=False) for tile in small])


def combine_tiles(images: Tensor, factor: int) -> Tensor:
    """The inverse of `expand` but for resolution: l^2 images, downscaled, become the tiles of one.

    Args:
        images: (m * l^2, channels, height, width), tile-major.
        factor: l.

    Returns:
        (m, channels, height, width).
    """
    if factor == 1:
        return images.clone()
    size = images.shape[2:]
    # l^2 equal blocks of m: block t is tile t of every image
    by_tile = images.chunk(factor**2)
    out = torch.empty_like(by_tile[0])
    for large, (rows, columns) in zip(by_tile, tiles(size, factor), strict=True):
        small = [rows.stop - rows.start, columns.stop - columns.start]
        out[:, :, rows, columns] = F.interpolate(large, size=small, mode="bilinear", align_corners=False)
    return out


def _as_rgb(pixels: Tensor) -> Tensor:
    """(m, height, width, 3) uint8 of (m, channels, height, width) in [0, 1]; of more than 3 channels the first 3."""
    shown = pixels[:, :3] if pixels.shape[1] >= 3 else pixels[:, :1].expand(-1, 3, -1, -1)
    # rounded: truncation would darken every pixel that is saved and read again
    return (shown * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
