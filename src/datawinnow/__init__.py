"""Datawinnow: train on the right examples, and know what it costs.

>>> import datawinnow as dw
>>> sorted(dw.scores.METHODS)[:3]
['aum', 'aum_softmax', 'curvature']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datawinnow import (
        api,
        audit,
        bench,
        condense,
        dynamic,
        instruct,
        integrations,
        methods,
        models,
        plan,
        probe,
        record,
        report,
        scenarios,
        scores,
        select,
        train,
        vit,
    )
    from datawinnow.api.demo import demo
    from datawinnow.api.estimate import estimate
    from datawinnow.api.prune import prune
    from datawinnow.api.race import race
    from datawinnow.api.score import score
    from datawinnow.core.budget import budget_of
    from datawinnow.core.errors import LearningWarning
    from datawinnow.core.load_options import LoadOptions
    from datawinnow.core.rng import stream
    from datawinnow.core.selection import Selection
    from datawinnow.core.synthetic import Synthetic
    from datawinnow.data.examples import Augment, Examples
    from datawinnow.data.indexed import indexed
    from datawinnow.data.kept import Kept
    from datawinnow.data.load import load
    from datawinnow.data.write import write_kept
    from datawinnow.dynamic.sampler import PolicySampler
    from datawinnow.record import Recorder
    from datawinnow.runs.folder import RunFolder
    from datawinnow.runs.selection_file import indices_in, read_selection
    from datawinnow.train import Recipe, SizeSchedule, evaluate, fit

__version__ = "0.1.0"

# Imported when first used: `datawinnow --help` and the report must not wait for torch.
_HOME = {
    "Augment": "data.examples",
    "Examples": "data.examples",
    "Kept": "data.kept",
    "LearningWarning": "core.errors",
    "LoadOptions": "api",
    "PolicySampler": "dynamic.sampler",
    "Recipe": "train",
    "Recorder": "record",
    "RunFolder": "runs.folder",
    "Selection": "core.selection",
    "SizeSchedule": "train",
    "Synthetic": "core.synthetic",
    "budget_of": "core.budget",
    "demo": "api.demo",
    "estimate": "api.estimate",
    "evaluate": "train",
    "fit": "train",
    "indexed": "data.indexed",
    "indices_in": "runs.selection_file",
    "load": "data.load",
    "prune": "api",
    "race": "api.race",
    "read_selection": "runs.selection_file",
    "score": "api.score",
    "stream": "core.rng",
    "write_kept": "data.write",
}
_PACKAGES = (
    "api",
    "audit",
    "bench",
    "condense",
    "dynamic",
    "instruct",
    "integrations",
    "methods",
    "models",
    "plan",
    "probe",
    "record",
    "report",
    "scenarios",
    "scores",
    "select",
    "train",
    "vit",
)

__all__ = [
    "Augment",
    "Examples",
    "Kept",
    "LearningWarning",
    "LoadOptions",
    "PolicySampler",
    "Recipe",
    "Recorder",
    "RunFolder",
    "Selection",
    "SizeSchedule",
    "Synthetic",
    "api",
    "audit",
    "bench",
    "budget_of",
    "condense",
    "demo",
    "dynamic",
    "estimate",
    "evaluate",
    "fit",
    "indexed",
    "indices_in",
    "instruct",
    "integrations",
    "load",
    "methods",
    "models",
    "plan",
    "probe",
    "prune",
    "race",
    "read_selection",
    "record",
    "report",
    "scenarios",
    "score",
    "scores",
    "select",
    "stream",
    "train",
    "vit",
    "write_kept",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"datawinnow.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"datawinnow.{_HOME[name]}"), name)
    raise AttributeError(f"module 'datawinnow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
