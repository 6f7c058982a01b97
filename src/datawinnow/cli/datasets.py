"""Reading DATA in a verb, with progress and notes on the screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datawinnow.api.dataset import open_dataset
from datawinnow.cli.ui import Screen


def load_dataset(source: str, options: Mapping[str, Any], screen: Screen, model: str | None = None) -> tuple[Any, Any]:
    """Train and test split of DATA; notes on how it was read go to ``screen``."""
    with screen.stage() as stage:
        splits = open_dataset(source, load=dict(options), model=model, progress=stage, log=screen.note)
    return splits.train.data, splits.test


def dataset_kind(train: Any) -> dict[str, Any]:
    """``kind`` and number of ``classes``, by which benchmarks on similar data are found."""
    kind = "images" if getattr(train, "vocabulary_size", None) is None else "texts"
    return {"kind": kind, "classes": len(train.classes)}
