"""The settings of the papers by size of the dataset and images a class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from datawinnow.core import check

PublishedSetting = TypeVar("PublishedSetting")

GRADIENT_LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
"""DC and DSA: images a class -> (matching steps of a network, epochs on the images between two steps)."""


@dataclass(frozen=True)
class IDMSettings:
    """The settings of IDM that depend on the dataset; the parameters of `idm` of the same names.

    Attributes:
        real_batch: real images of every class in a step.
        ce_weight: weight of the regulariser.
        push_every: iterations between two new networks.
        steps: training steps of a network in an iteration.
        reset_every: iterations after which the accuracy counts are reset, at every evaluation of the published code.
        net_batch: real images in a training step.
        most: maximal number of networks in the queue.
        factor: l; each image holds l x l tiles.
    """

    real_batch: int
    ce_weight: float
    push_every: int
    steps: int
    reset_every: int
    net_batch: int = 256
    most: int = 100
    factor: int = 2


IDM_SETTINGS = {
    "cifar10": {
        1: IDMSettings(5000, 0.5, 5, 10, 100),
        10: IDMSettings(256, 0.5, 30, 10, 100),
        50: IDMSettings(256, 0.1, 30, 10, 500),
    },
    "cifar100": {
        1: IDMSettings(5000, 0.5, 5, 10, 100),
        10: IDMSettings(256, 0.1, 30, 50, 100),
        50: IDMSettings(256, 0.1, 30, 10, 500),
    },
    "tiny": {
        1: IDMSettings(256, 0.5, 30, 10, 100),
        10: IDMSettings(256, 0.5, 30, 10, 500),
        50: IDMSettings(256, 0.8, 30, 50, 1000),
    },
    "imagenet": {
        1: IDMSettings(128, 3.0, 50, 10, 200, net_batch=128, most=50),
        10: IDMSettings(128, 3.0, 50, 10, 1000, net_batch=128, most=50),
        50: IDMSettings(128, 3.0, 50, 10, 500, net_batch=128, factor=1),
    },
}
"""The published settings of IDM (its command lines), by dataset and images a class."""


def nearest_setting(per_class: int, table: Mapping[int, PublishedSetting]) -> PublishedSetting:
    """The entry of the nearest number of images a class; of two equally near ones the smaller.

    >>> [nearest_setting(per_class, GRADIENT_LOOPS) for per_class in (2, 12, 100)]
    [(1, 1), (10, 50), (50, 10)]
    """
    check.number("per_class", per_class, 1, 1 << 30, integer=True)
    return table[min(table, key=lambda entry: (abs(entry - per_class), entry))]


def dm_lr(per_class: int, classes: int) -> float:
    """DM's learning rate: 1, or 10 from 100 images a class on with fewer than 100 classes.

    >>> dm_lr(50, 10), dm_lr(100, 10), dm_lr(100, 100)
    (1.0, 10.0, 1.0)
    """
    return 10.0 if per_class >= 100 and classes < 100 else 1.0


def idm_settings(per_class: int, classes: int, size: int) -> IDMSettings:
    """IDM's settings for ``classes`` classes of images of ``size`` pixels: those of the most similar dataset.

    >>> idm_settings(10, 10, 32).ce_weight, idm_settings(50, 200, 64).ce_weight, idm_settings(1, 100, 224).most
    (0.5, 0.8, 50)
    """
    dataset = "imagenet" if size >= 128 else "tiny" if classes > 150 else "cifar100" if classes > 31 else "cifar10"
    return nearest_setting(per_class, IDM_SETTINGS[dataset])
