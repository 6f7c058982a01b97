"""The papers' settings by size of the dataset and images a class (condense.md 1.4 to 1.8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datawinnow.core import check

LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
"""Images a class: (matching steps a network, epochs on the images between them), of DC and DSA."""

IDM: dict[str, dict[int, dict[str, Any]]] = {
    "cifar10": {
        1: {"real_batch": 5000, "ce_weight": 0.5, "push_every": 5, "steps": 10},
        10: {"real_batch": 256, "ce_weight": 0.5, "push_every": 30, "steps": 10},
        50: {"real_batch": 256, "ce_weight": 0.1, "push_every": 30, "steps": 10},
    },
    "cifar100": {
        1: {"real_batch": 5000, "ce_weight": 0.5, "push_every": 5, "steps": 10},
        10: {"real_batch": 256, "ce_weight": 0.1, "push_every": 30, "steps": 50},
        50: {"real_batch": 256, "ce_weight": 0.1, "push_every": 30, "steps": 10},
    },
    "tiny": {
        1: {"real_batch": 256, "ce_weight": 0.5, "push_every": 30, "steps": 10},
        10: {"real_batch": 256, "ce_weight": 0.5, "push_every": 30, "steps": 10},
        50: {"real_batch": 256, "ce_weight": 0.8, "push_every": 30, "steps": 50},
    },
    "imagenet": {
        1: {"real_batch": 128, "ce_weight": 3.0, "push_every": 50, "steps": 10, "net_batch": 128, "most": 50},
        10: {"real_batch": 128, "ce_weight": 3.0, "push_every": 50, "steps": 10, "net_batch": 128, "most": 50},
        50: {"real_batch": 128, "ce_weight": 3.0, "push_every": 50, "steps": 10, "net_batch": 128, "factor": 1},
    },
}
"""The published command lines of IDM, by dataset and images a class."""


def nearest(per_class: int, table: dict[int, Any]) -> Any:
    """The entry of the nearest number of images a class; of two as near, the smaller.

    >>> nearest(2, LOOPS), nearest(12, LOOPS), nearest(100, LOOPS)
    ((1, 1), (10, 50), (50, 10))
    """
    check.number("per_class", per_class, 1, 1 << 30, integer=True)
    return table[min(table, key=lambda known: (abs(known - per_class), known))]


def loops(per_class: int) -> tuple[int, int]:
    """(outer, inner) of DC and DSA."""
    found: tuple[int, int] = nearest(per_class, LOOPS)
    return found


def dm_lr(per_class: int, classes: int) -> float:
    """DM's learning rate: 1, and 10 from 100 images a class on where there are fewer than 100 classes.

    >>> dm_lr(50, 10), dm_lr(100, 10), dm_lr(100, 100)
    (1.0, 10.0, 1.0)
    """
    return 10.0 if per_class >= 100 and classes < 100 else 1.0


def idm_settings(per_class: int, classes: int, size: int, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """IDM's settings for ``classes`` classes of images of ``size`` pixels: those of the dataset most like it.

    What is ``given`` and not None comes before them.

    >>> idm_settings(10, 10, 32)["ce_weight"], idm_settings(50, 200, 64)["ce_weight"], idm_settings(1, 100, 224)["most"]
    (0.5, 0.8, 50)
    """
    like = "imagenet" if size >= 128 else "tiny" if classes > 150 else "cifar100" if classes > 31 else "cifar10"
    own = {key: value for key, value in (given or {}).items() if value is not None}
    return {"net_batch": 256, "most": 100, "factor": 2, **nearest(per_class, IDM[like]), **own}
