"""`Synthetic`: what every condenser returns: new examples that stand for the old."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.files import FORMAT_VERSION, check_format, write_bytes

KEY = "datawinnow"


@dataclass(frozen=True, eq=False)
class Synthetic:
    """Images that a network is trained on instead of the real ones, and how they were made.

    It is a map-style dataset of the **decoded** ``(x, y)``, x (channels, height, width) float32 normalised, so that it
    goes into a DataLoader or into `datawinnow.fit` as it is.

    Attributes:
        images: (m, channels, height, width) float32 as stored, in the space that networks see: ``(pixel - mean) / std``
            with pixels in [0, 1]. Nothing keeps them within the range of real pixels (the papers do not either), and
            what lies outside matters to training: `pixels` and the PNGs clip it, the saved file does not.
        labels: (m,) int64 class ids; condensers give them class by class: 0 ... 0 1 ... 1.
        factor: l of IDM's partition: each image stores l x l smaller ones; 1 for none.
        mean: per channel, what real pixels in [0, 1] were normalised with; empty if they were given normalised.
        std: per channel, likewise.
        classes: names of the classes; empty for none.
        about: what made it: method, settings, seed, cost, versions; JSON.

    Raises:
        ArgumentError: shapes, dtypes or the factor do not fit together, or a number that is none.
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
        tile, row = divmod(range(len(self))[i], len(self.images))
        return expand(self.images[row : row + 1], self.factor)[tile], int(self.labels[row])

    def decode(self) -> tuple[Tensor, Tensor]:
        """What is trained on.

        Returns:
            ``(x, y)``: (m * factor^2, channels, height, width) float32 normalised, and (m * factor^2,) int64; all
            top-left tiles first, then those below them, column by column.
        """
        return expand(self.images, self.factor), self.labels.repeat(self.factor**2)

    def pixels(self) -> Tensor:
        """The stored images as images: (m, channels, height, width) float32 in [0, 1].

        Normalisation is undone and what lies outside of [0, 1] clipped. Where it is not known (no ``mean``), the whole
        set is scaled between its smallest and its largest number instead.
        """
        if self.mean and self.std:
            shape = (1, -1, 1, 1)
            shown = self.images * torch.tensor(self.std).view(shape) + torch.tensor(self.mean).view(shape)
        else:
            low, high = torch.aminmax(self.images)
            shown = (self.images - low) / (high - low).clamp_min(1e-12)
        return shown.clamp(0, 1)

    @property
    def outside(self) -> float:
        """Share of the stored numbers that lie outside of [0, 1] as pixels; 0 where the normalisation is unknown."""
        if not (self.mean and self.std):
            return 0.0
        shape = (1, -1, 1, 1)
        shown = self.images * torch.tensor(self.std).view(shape) + torch.tensor(self.mean).view(shape)
        return float(((shown < -1e-6) | (shown > 1 + 1e-6)).float().mean())

    def grid(self, columns: int | None = None, *, gap: int = 1, scale: int = 1) -> bytes:
        """All stored images in one PNG, a class a row unless told.

        Args:
            columns: images a row; None for as many as the first class has, up to 50.
            gap: white pixels between images.
            scale: pixels of the PNG that a pixel takes.

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

        PNGs hold 8 bits in [0, 255], so what lies outside of real pixels is clipped: `outside` tells how much, and
        training on the folder can differ from training on `decode`.

        Args:
            path: the folder; made if it is not there.
            decoded: the images that are trained on; False for those stored (a difference for ``factor`` above 1 only).
        """
        from PIL import Image

        images, labels = self.decode() if decoded else (self.images, self.labels)
        shown = _as_rgb(Synthetic(images, labels, 1, self.mean, self.std).pixels())
        made: dict[int, int] = {}
        digits = len(str(int(self.labels.max())))
        for image, label in zip(shown, labels.tolist(), strict=True):
            name = self.classes[label] if self.classes else f"{label:0{digits}}"
            number = made[label] = made.get(label, -1) + 1
            out = io.BytesIO()
            whole = Image.fromarray(image.numpy())
            (whole if images.shape[1] == 3 else whole.convert("L")).save(out, format="PNG")
            write_bytes(Path(path) / name / f"{number:04}.png", out.getvalue())
        return Path(path)

    def save(self, path: Path | str) -> Path:
        """Write a safetensors file: ``images``, ``labels`` and, as metadata, everything else.

        Raises:
            RunError: the disk is full.
        """
        from safetensors.torch import save

        metadata = {
            "format": FORMAT_VERSION, "kind": "synthetic", "factor": self.factor, "mean": list(self.mean),
            "std": list(self.std), "classes": list(self.classes), "about": dict(self.about),
        }  # fmt: skip
        tensors = {"images": self.images.contiguous(), "labels": self.labels.contiguous()}
        write_bytes(Path(path), save(tensors, metadata={KEY: json.dumps(metadata)}))
        return Path(path)

    @classmethod
    def load(cls, path: Path | str) -> Synthetic:
        """Read what `save` wrote; nothing is unpickled.

        Raises:
            RunError: no such file, truncated, newer, or not a synthetic set.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        try:
            with safe_open(path, framework="pt") as file:
                metadata = json.loads((file.metadata() or {}).get(KEY, "{}"))
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            raise RunError(f"no such file: {path}; make it with: datawinnow condense DATA --method dm") from None
        except (SafetensorError, json.JSONDecodeError, OSError) as error:
            raise RunError(f"{path} is truncated or damaged ({error}); make it again") from None
        check_format(metadata.get("format"), path)
        if metadata.get("kind") != "synthetic" or set(tensors) != {"images", "labels"}:
            raise RunError(f"{path} does not hold a synthetic set: give the file that Synthetic.save wrote")
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
    """``factor`` if every image of ``size`` (height, width) can hold factor x factor smaller ones.

    Raises:
        ArgumentError: not a whole number of at least 1, or tiles without a pixel.
    """
    if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
        raise ArgumentError(f"factor must be a whole number of at least 1, got {factor!r}")
    if min(size) < factor:
        raise ArgumentError(f"an image of {size[0]}x{size[1]} pixels cannot hold {factor}x{factor} smaller ones")
    return factor


def cuts(side: int, factor: int) -> list[tuple[int, int]]:
    """Where a side is cut into ``factor`` parts: (first, last) of each.

    >>> cuts(8, 2), cuts(7, 2)
    ([(0, 4), (4, 8)], [(0, 3), (3, 7)])
    """
    return [(i * side // factor, (i + 1) * side // factor) for i in range(factor)]


def tiles(size: tuple[int, ...] | torch.Size, factor: int) -> list[tuple[slice, slice]]:
    """(rows, columns) of every tile, column by column: top-left, bottom-left, top-right, bottom-right for factor 2."""
    height, width = size
    return [(slice(*rows), slice(*columns)) for columns in cuts(width, factor) for rows in cuts(height, factor)]


def expand(images: Tensor, factor: int) -> Tensor:
    """IDM's partition and expansion: every tile of every image, enlarged to a whole image; differentiable.

    Args:
        images: (m, channels, height, width).
        factor: l; 1 gives ``images`` as they are.

    Returns:
        (m * l^2, channels, height, width), tile-major: tile 0 of all images, then tile 1, ... in the order of `tiles`.
    """
    if factor == 1:
        return images
    size = images.shape[2:]
    cut = [images[:, :, rows, columns] for rows, columns in tiles(size, factor)]
    return torch.cat([F.interpolate(tile, size=list(size), mode="bilinear", align_corners=False) for tile in cut])


def shrink(images: Tensor, factor: int) -> Tensor:
    """The way back, for a start: l^2 images in the order of `expand` made small and put into one.

    Args:
        images: (m * l^2, channels, height, width), tile-major.
        factor: l.

    Returns:
        (m, channels, height, width).
    """
    if factor == 1:
        return images.clone()
    size = images.shape[2:]
    parts = images.chunk(factor**2)
    out = torch.empty_like(parts[0])
    for part, (rows, columns) in zip(parts, tiles(size, factor), strict=True):
        small = [rows.stop - rows.start, columns.stop - columns.start]
        out[:, :, rows, columns] = F.interpolate(part, size=small, mode="bilinear", align_corners=False)
    return out


def _as_rgb(pixels: Tensor) -> Tensor:
    """(m, height, width, 3) uint8 of (m, channels, height, width) in [0, 1]; of more than 3 channels the first 3."""
    shown = pixels[:, :3] if pixels.shape[1] >= 3 else pixels[:, :1].expand(-1, 3, -1, -1)
    return (shown * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
