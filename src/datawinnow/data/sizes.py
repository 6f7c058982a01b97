"""How large images become, and what fits in memory."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median

SENSIBLE = (8, 16, 32, 64, 128, 224)
"""Sides that the reference networks are made for; a default is chosen among them."""

KEPT_UP_TO = 64
"""Images that all have one size are left as they are up to this side."""


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
    side = min(SENSIBLE, key=lambda s: (abs(math.log(middle / s)), s))
    if same and first == (side, side):
        return side, side, ""
    why = "they are large" if same else "their sizes differ"
    return (
        side,
        side,
        f"images are resized to {side}x{side}, since {why} ({_range(sizes)}); choose a side with size= (--size)",
    )


def _range(sizes: Sequence[tuple[int, int]]) -> str:
    low, high = min(sizes, key=math.prod), max(sizes, key=math.prod)
    if low == high:
        return f"all are {low[1]}x{low[0]}"
    return f"from {low[1]}x{low[0]} to {high[1]}x{high[0]} pixels"


def default_memory() -> int:
    """Half of the memory that is free now, in bytes: what loaded images may take unless told otherwise."""
    return available_memory() // 2


def available_memory(meminfo: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that this process can still take, in bytes; inside a container, what its limit leaves."""
    return min(_machine(meminfo), _container(group))


def _machine(meminfo: Path) -> int:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:  # macOS and the BSDs: no count of what is free, so half of what there is
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return 4 << 30


def _container(group: Path) -> int:
    try:
        most = int((group / "memory.max").read_text())  # "max" when there is no limit
        used = int((group / "memory.current").read_text())
        cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 1 << 62
    return max(0, most - used + int(cached.get("inactive_file", 0)))  # file cache is given back when needed
