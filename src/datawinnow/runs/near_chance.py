"""Whether the network of a run learned anything: measured when its training ends, said by all that rests on it."""

from __future__ import annotations

from typing import Any

from datawinnow.core.chance import Baseline, chance_sentence
from datawinnow.data.dataset_info import DatasetInfo, read_class_ids
from datawinnow.runs.folder import RunFolder
from datawinnow.train import History


def training_sentence(info: DatasetInfo, history: History, test: Any, *, on_all: bool = True) -> str:
    """The warning about a finished training; ``""`` for a network that learned.

    Args:
        info: of the dataset.
        history: of the training.
        test: held-out split; None without one.
        on_all: whether every example was trained on in each epoch, so that the training accuracy can be compared with
            the classes' shares. Otherwise only the held-out split tells.
    """
    if not history.rows:
        return ""
    return chance_sentence(
        info.baseline if on_all else None,
        history.rows[-1]["accuracy"],
        None if test is None else Baseline.of(read_class_ids(test).tolist()),
        history.test_accuracy,
    )


def near_chance(folder: RunFolder) -> str:
    """The warning about the network of a run, as ``run.json`` has it; ``""`` for one that learned."""
    return str(folder.metadata.get("result", {}).get("near_chance") or "")
