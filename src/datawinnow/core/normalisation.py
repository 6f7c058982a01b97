"""How images are normalised."""

from __future__ import annotations

from typing import NamedTuple


class Normalisation(NamedTuple):
    """``(x - mean) / std`` of pixels in [0, 1].

    Attributes:
        mean: one number a channel, or one for all.
        std: likewise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
