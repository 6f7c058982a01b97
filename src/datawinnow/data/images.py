"""Encoded images, wherever they lie, and turning them into uint8 arrays."""

from __future__ import annotations

import hashlib
import io
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from datawinnow.core.errors import DataError
from datawinnow.core.progress import Progress

OnBroken = Literal["raise", "skip"]
Raw = bytes | Path | None
Pixels = NDArray[np.uint8]
Index = NDArray[np.int64]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Formats that are decoded. Pillow knows more, some of which start other programs (EPS) or fetch other files."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
MOST_PIXELS = 1 << 27
"""An image of more pixels is refused before it is decoded: a few kilobytes can unpack to gigabytes."""

CONTENT_HASHED_BYTES = 16 << 20
"""Files of fewer bytes together are told apart by their content: reading them takes some ten milliseconds."""

SAMPLE = 2000
"""Headers that are read to choose size and channels; below this number the choice rests on all images."""

THREADS_FROM = 96 * 96
"""Pixels above which threads pay: measured on 2 cores, 1.7 times faster at 128x128 and 1.5 times slower at 32x32."""


SENSIBLE = (8, 16, 32, 64, 128, 224)
"""Sides that the reference networks are made for; a default is chosen among them."""

KEPT_UP_TO = 64
"""Images that all have one size are left as they are up to this side."""


class BrokenImage(DataError):
    """An image that cannot be decoded; its message names the file or row."""


class Encoded(ABC):
    """Encoded images that can be read one by one or in order; pickles as paths, never as pixels."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def raw(self, i: int) -> Raw:
        """The encoded bytes of image ``i``, or the file that holds them; None where there is nothing."""

    @abstractmethod
    def where(self, i: int) -> str:
        """Image ``i`` in words for an error: its file, or row and file."""

    @abstractmethod
    def take(self, index: Index) -> Encoded:
        """The images at ``index`` (m,), in that order."""

    @abstractmethod
    def files(self) -> list[str]:
        """Every file that is read."""

    @abstractmethod
    def chosen(self) -> bytes:
        """Bytes that say which of the files' images these are; part of the cache's key."""

    def for_random_access(self) -> Encoded:
        """The same images in a form where any one is read fast."""
        return self

    def blocks(self, size: int = 128) -> Iterator[list[Raw]]:
        """All images in order, up to ``size`` at a time."""
        for first in range(0, len(self), size):
            yield [self.raw(i) for i in range(first, min(first + size, len(self)))]

    def key(self) -> tuple[str, str]:
        """Two hashes: of which images these are, and of the state that their files are in.

        The state is size, inode and times, and the content too where all files together are small: a file system may
        give a file that is changed twice within a tick the same times.
        """
        names, state = hashlib.sha256(self.chosen()), hashlib.sha256()
        files, size = self.files(), 0
        for file in files:
            names.update(f"{file}\n".encode(errors="surrogateescape"))
            status = os.stat(file)  # noqa: PTH116  # a Path for each of a million files takes seconds
            size += status.st_size
            state.update(f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}\n".encode())
        if size <= CONTENT_HASHED_BYTES:
            for file in files:
                state.update(Path(file).read_bytes())
        return names.hexdigest()[:24], state.hexdigest()[:24]


@dataclass(frozen=True)
class Plan:
    """What every image becomes.

    Attributes:
        height: pixels.
        width: pixels.
        channels: 1 (grey) or 3 (red, green, blue).
        sampled: whether the choice rests on a sample, so that other sizes and colour can still turn up.
        threads: threads that decode.
        notes: remarks for the user.
    """

    height: int
    width: int
    channels: int
    sampled: bool = False
    threads: int = 1
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.channels, self.height, self.width


def make_plan(splits: Sequence[Encoded], size: int | None) -> Plan:
    """Choose size and channels from the headers of up to `SAMPLE` evenly spaced images of all splits together.

    All splits count, so that it makes no difference whether a test split is given or held out.

    Raises:
        DataError: not one of them can be opened.
    """
    n = sum(map(len, splits))
    sizes, grey, failure, read = [], True, None, 0
    for images in splits:
        # evenly spaced: files are often sorted by class
        count = len(images) if n <= SAMPLE else max(1, SAMPLE * len(images) // n)
        index = np.unique(np.linspace(0, len(images) - 1, count).astype(np.int64))
        read, position = read + len(index), 0
        for block in images.take(index).blocks():
            for raw in block:
                try:
                    with _opened(raw) as image:
                        width, height = _upright_size(image)
                        sizes.append((height, width))
                        grey = grey and _is_grey(image)
                except Exception as error:  # any decoder, any damage; reported in full when it is decoded
                    # only the first is kept, under its number among all images
                    failure = failure or _broken(images, int(index[position]), error)
                position += 1
    if failure is not None and not sizes:
        raise DataError(f"not one image can be read; the first: {failure}") from failure
    height, width, note = choose_size(sizes, size)
    pixels = median(h * w for h, w in sizes)
    sampled = read < n
    if note and sampled:
        note += f"; chosen from {read:,} of {n:,} images"
    threads = min(8, os.cpu_count() or 1) if pixels >= THREADS_FROM else 1
    return Plan(height, width, 1 if grey else 3, sampled, threads, (note,) if note else ())


def choose_size(sizes: Sequence[tuple[int, int]], size: int | None) -> tuple[int, int, str]:
    """The height and width that every image gets, and a sentence about the choice.

    Args:
        sizes: (height, width) of images, in pixels; all of them or a sample.
        size: the side that the user asked for, or None to choose.

    Returns:
        Height, width and a note for the user ("" when nothing changes). Without ``size``, images of one size up to 64
        stay as they are; others become squares whose side is the one of `SENSIBLE` nearest, in ratio, to the
        median of their shorter sides.
    """
    first = sizes[0]
    same = all(s == first for s in sizes)
    if size is not None:
        if same and first == (size, size):
            return size, size, ""
        return size, size, f"images are resized to {size}x{size}, as asked ({_range(sizes)})"
    if same and max(first) <= KEPT_UP_TO:
        return first[0], first[1], ""
    middle = median(min(s) for s in sizes)
    # in ratio, not in pixels: 45 is as far from 32 as from 64
    side = min(SENSIBLE, key=lambda s: (abs(math.log(middle / s)), s))
    if same and first == (side, side):
        return side, side, ""
    why = "they are large" if same else "their sizes differ"
    return (
        side,
        side,
        f"images are resized to {side}x{side}, since {why} ({_range(sizes)}); choose a side with `size=`",
    )


def _range(sizes: Sequence[tuple[int, int]]) -> str:
    low, high = min(sizes, key=math.prod), max(sizes, key=math.prod)
    if low == high:
        return f"all are {low[1]}x{low[0]}"
    return f"from {low[1]}x{low[0]} to {high[1]}x{high[0]} pixels"


def decode(raw: Raw, plan: Plan) -> tuple[Pixels, bool, bool]:
    """One image as (channels, height, width) uint8; whether it was resized; whether colour was lost.

    The image is turned upright as its EXIF orientation says. Transparent pixels lie on white, 16-bit grey is scaled to
    8, and resizing is bicubic with antialiasing over the whole image (its aspect ratio is not kept). Only the first
    frame of an animation counts.
    """
    with _opened(raw) as image:
        lost = plan.channels == 1 and not _is_grey(image)
        resized = _upright_size(image) != (plan.width, plan.height)
        # decode at a fraction of the size where that is still twice what is needed
        if resized and image.format == "JPEG":
            longer = max(plan.width, plan.height)
            image.draft(
                None, (2 * longer, 2 * longer) if _turn_of(image) in SIDEWAYS else (2 * plan.width, 2 * plan.height)
            )
        flat = _flattened(image, "L" if plan.channels == 1 else "RGB")
        # a PNG may have its EXIF data behind the pixels
        image.load()
        turn = _turn_of(image)
        # the small image is turned, not the large one
        stored_size = (plan.height, plan.width) if turn in SIDEWAYS else (plan.width, plan.height)
        if flat.size != stored_size:
            resized = True
            flat = flat.resize(stored_size, Image.Resampling.BICUBIC)
        if turn is not None:
            flat = flat.transpose(turn)
        pixels: Pixels = np.asarray(flat, dtype=np.uint8)
        return (pixels[None] if plan.channels == 1 else pixels.transpose(2, 0, 1)), resized, lost


def read_image(raw: Raw) -> Pixels:
    """One image as `decode` reads it, in its own size: (1, height, width) of a grey one, else (3, height, width).

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        with _opened(raw) as image:
            width, height = _upright_size(image)
            plan = Plan(height, width, 1 if _is_grey(image) else 3)
        return np.ascontiguousarray(decode(raw, plan)[0])
    except Exception as error:  # any decoder, any damage
        place = f" {raw}" if isinstance(raw, Path) else ""
        raise DataError(f"broken image{place}: {_reason_of(error)}. Replace or remove it") from error


def size_of(raw: Raw) -> tuple[int, int]:
    """(height, width) in pixels of one image, upright; only its header is read.

    Raises:
        Exception: any that a decoder raises: it is damaged.
    """
    with _opened(raw) as image:
        width, height = _upright_size(image)
    return height, width


def thumbnail_of(raw: Raw, side: int) -> Image.Image:
    """One image upright and on white, at most ``side`` pixels high and wide; its aspect ratio is kept."""
    with _opened(raw) as image:
        if image.format == "JPEG":
            image.draft(None, (2 * side, 2 * side))
        flat = _flattened(image, "L" if _is_grey(image) else "RGB")
        # a PNG may have its EXIF data behind the pixels
        image.load()
        turn = _turn_of(image)
        if flat is image:
            flat = image.copy()
        flat.thumbnail((side, side), Image.Resampling.BICUBIC)
        return flat if turn is None else flat.transpose(turn)


def decode_one(images: Encoded, i: int, plan: Plan) -> Pixels:
    """Image ``i``.

    Raises:
        BrokenImage: naming its file or row.
    """
    try:
        return decode(images.raw(i), plan)[0]
    except Exception as error:  # decoders raise anything on damaged files, SyntaxError and struct.error included
        raise _broken(images, i, error) from error


@dataclass(frozen=True)
class Decoded:
    """All images of a split.

    Attributes:
        x: (n - broken, channels, height, width) uint8; None when only checked.
        broken: (b,) int64 positions that could not be decoded and were skipped.
        resized: how many had another size than the plan's.
    """

    x: Pixels | None
    broken: Index
    resized: int


def decode_all(
    images: Encoded,
    plan: Plan,
    *,
    on_broken: OnBroken = "raise",
    keep: bool = True,
    recolour: bool = True,
    description: str = "decoding images",
    progress: Progress | None = None,
) -> Decoded:
    """Decode every image in order, with threads where they pay.

    Args:
        images: where they are.
        plan: what they become.
        on_broken: ``"raise"`` names the first broken image, ``"skip"`` leaves such out.
        keep: False to look only for broken ones, without keeping pixels.
        recolour: decode everything again in colour if colour turns up against a plan for grey (made from a sample).
        description: shown with the progress.
        progress: called as ``progress(description, done, total)``.

    Raises:
        BrokenImage: an image cannot be decoded.
    """
    n = len(images)
    # the whole split at once: a list of arrays would need twice the memory while it is joined
    x = np.empty((n if keep else 0, *plan.shape), dtype=np.uint8)
    broken: list[int] = []
    resized = done = 0
    pool = ThreadPoolExecutor(plan.threads) if plan.threads > 1 else None
    with pool or nullcontext():
        for block in images.blocks():
            # map keeps the order, so `done` is the number of the image
            for result in (pool.map if pool else map)(partial(_attempt, plan=plan), block):
                if isinstance(result, Exception):
                    if on_broken == "raise":
                        raise _broken(images, done, result) from result
                    broken.append(done)
                else:
                    pixels, other_size, lost = result
                    # from the start: the grey images so far need three channels too
                    if lost and keep and recolour:
                        colour = replace(plan, channels=3)
                        return decode_all(
                            images, colour, on_broken=on_broken, description=description, progress=progress
                        )
                    resized += other_size
                    if keep:
                        # broken images leave no gap
                        x[done - len(broken)] = pixels
                done += 1
            if progress is not None:
                progress(description, done, n)
    return Decoded(x[: n - len(broken)] if keep else None, np.asarray(broken, dtype=np.int64), resized)


def _attempt(raw: Raw, plan: Plan) -> tuple[Pixels, bool, bool] | Exception:
    try:
        return decode(raw, plan)
    except Exception as error:  # returned, not raised: a thread pool must go on to tell which image it was
        return error


def _opened(raw: Raw) -> Any:
    if raw is None:
        raise ValueError("there are no image bytes")
    image = Image.open(raw if isinstance(raw, Path) else io.BytesIO(raw), formats=FORMATS)
    # only the header is read so far
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise ValueError(f"{image.width}x{image.height} pixels are too many; the most is {MOST_PIXELS:,}")
    return image


ORIENTATION_TAG = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image upright, by the value of its EXIF orientation."""
SIDEWAYS = (TURNS[5], TURNS[6], TURNS[7], TURNS[8])
"""Turns that swap width and height."""
METADATA_KEYS = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
"""Where Pillow keeps what may hold an orientation."""


def _turn_of(image: Image.Image) -> Image.Transpose | None:
    """What turns the image upright; None where nothing does, and for TIFF, which Pillow turns itself."""
    # most images have no such metadata, and looking into it takes longer than decoding a small image
    if image.format == "TIFF" or not any(key in image.info for key in METADATA_KEYS):
        return None
    try:
        return TURNS.get(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # damaged metadata: viewers show the image as it is stored
        return None


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as a viewer shows the image."""
    return (image.height, image.width) if _turn_of(image) in SIDEWAYS else (image.width, image.height)


def _is_grey(image: Image.Image) -> bool:
    # modes I and I;16 are grey of 16 or 32 bits
    return image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I")


def _flattened(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel: convert() would clip at 255 instead of scaling
        return Image.fromarray(_sixteen_to_eight_bits(image)).convert(mode)
    if image.mode == "F":
        raise ValueError("it holds floating-point pixels; save it with 8 bits a channel")
    if image.has_transparency_data:
        alpha = image.convert("RGBA")
        paper = Image.new("RGBA", alpha.size, (255, 255, 255, 255))
        image = Image.alpha_composite(paper, alpha).convert("RGB")
    return image if image.mode == mode else image.convert(mode)


PHOTOMETRIC_TAG = 0x0106


def _sixteen_to_eight_bits(image: Image.Image) -> Pixels:
    """(height, width) of an image in mode I or I;16, scaled from 0 to 65535 to 0 to 255.

    Raises:
        ValueError: a pixel outside that range, as in an image of 32 bits, whose white is not known.
    """
    wide = np.asarray(image).astype(np.int64)
    low, high = int(wide.min()), int(wide.max())
    if low < 0 or high > 65535:
        raise ValueError(f"its pixels go from {low} to {high}, outside 0 to 65535; save it with 8 or 16 bits a channel")
    # the one colour that PNG calls transparent lies on white
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        wide[wide == transparent] = 65535
    # TIFF may store white as 0; Pillow undoes that for 8 bits only
    if image.format == "TIFF" and getattr(image, "tag_v2", {}).get(PHOTOMETRIC_TAG) == 0:
        wide = 65535 - wide
    # 65535 = 255 * 257; 128 rounds to nearest
    scaled: Pixels = ((wide + 128) // 257).astype(np.uint8)
    return scaled


def _reason_of(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image in a format that is read: " + ", ".join(FORMATS)
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"its pixels are too many to be a photograph ({error})"
    return str(error) or type(error).__name__


def _broken(images: Encoded, i: int, error: Exception) -> BrokenImage:
    return BrokenImage(
        f"broken image {images.where(i)}: {_reason_of(error)}. Replace or remove it, or leave such out with "
        "`on_broken='skip'`"
    )
