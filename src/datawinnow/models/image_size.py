"""Sizes of images: a number for square ones, or height and width."""

from __future__ import annotations

from datawinnow.core.errors import ArgumentError

ImageSize = int | tuple[int, int]
"""Height and width of an image: one number if they are equal."""


def height_and_width(size: ImageSize) -> tuple[int, int]:
    """Height and width of a size.

    >>> height_and_width(32), height_and_width((12, 20))
    ((32, 32), (12, 20))

    Raises:
        ArgumentError: neither a whole number nor a pair of them, all above 0.
    """
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
        raise ArgumentError(f"size must be a number of pixels, or (height, width), got {size!r}")
    return pair


def shown_size(size: ImageSize) -> str:
    """A size for messages.

    >>> shown_size(32), shown_size((12, 20))
    ('32', '12x20')
    """
    return "x".join(str(side) for side in dict.fromkeys(height_and_width(size)))
