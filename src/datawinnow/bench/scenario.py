"""The train split of a cell under its scenario, and which examples the scenario changed."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch import Tensor

from datawinnow.bench.grid import parse_scenario
from datawinnow.core.card import card_of
from datawinnow.core.counts import a_type
from datawinnow.core.errors import DataError
from datawinnow.core.rng import stream
from datawinnow.scenarios import METHODS


def under_scenario(train: Any, scenario: str, seed: int) -> tuple[Any, Tensor]:
    """The train split under a scenario, and (n,) bool: which of its examples the scenario changed.

    Examples keep their ids. A scenario that drops some returns a subset of the split with the ids of the split, and
    ``changed`` covers the examples that are left.

    Raises:
        DataError: the dataset does not show its labels, or the scenario needs images in memory and finds none.
    """
    if scenario == "clean":
        return train, torch.zeros(len(train), dtype=torch.bool)
    labels, classes = getattr(train, "labels", None), getattr(train, "classes", None)
    if labels is None or classes is None or not dataclasses.is_dataclass(train):
        raise DataError(
            f"the scenario {scenario!r} changes labels, which {a_type(train)} does not expose: load the data "
            "with datawinnow.load, or make it datawinnow.Examples(x, labels, classes)"
        )
    return _changed(train, scenario, seed)  # type: ignore[arg-type]  # what `load` gives is hashed by identity


@functools.lru_cache(maxsize=1)
def _changed(train: Any, scenario: str, seed: int) -> tuple[Any, Tensor]:
    """Cached for the next cell of the same seed and scenario, since blurring 10,000 images takes seconds."""
    name, rate = parse_scenario(scenario)
    make = METHODS[name]
    card = card_of(make)
    generator = stream(seed, "scenario", scenario)
    options = {"classes": len(train.classes)} if "classes" in card.options else {}
    if "images" in card.needs:
        x, labels, changed = make(_images(train, name), train.labels, rate=rate, generator=generator, **options)
        return dataclasses.replace(train, x=x, labels=labels), changed
    # row numbers instead of examples: a scenario that does not read them then works on examples on disk too
    rows = torch.arange(len(train))
    index, labels, changed = make(rows, train.labels, rate=rate, generator=generator, **options)
    # the same tensor: no example was dropped
    if index is rows:
        return dataclasses.replace(train, labels=labels), changed
    return train.subset(index), changed


def _images(train: Any, name: str) -> Tensor:
    x = getattr(train, "x", None)
    if not isinstance(x, Tensor) or x.ndim != 4:
        has = "stay on disk" if x is None else f"have shape {tuple(x.shape[1:])}"
        raise DataError(
            f"the scenario {name!r} changes images in memory, but the examples of {train.name!r} {has}: load fewer "
            "or smaller images ([data] limit, size), or take another scenario"
        )
    return x
