"""One result row: what `datawinnow bench` and ``prune --check`` write and the report reads."""

from __future__ import annotations

from typing import Any

import torch

from datawinnow.core.cost import Cost
from datawinnow.core.files import FORMAT_VERSION, finite_or_none
from datawinnow.core.provenance import commit, now, versions


def result_row(
    *, score: Cost, select: Cost, train: Cost, accuracy: float | None, test_loss: float | None, **metadata: Any
) -> dict[str, Any]:
    """A row: the facts of the run, its accuracy on the test split after the last epoch, and what it cost by stage.

    Args:
        score: what the recording is charged to this run; nothing for a run that reads none.
        select: choosing.
        train: training on what was kept.
        accuracy: in [0, 1].
        test_loss: in nats; written as null where it is not a finite number, since JSON has no NaN.
        metadata: ``benchmark``, ``dataset``, ``method``, ``seed`` and so on.
    """
    return {
        "format": FORMAT_VERSION,
        **metadata,
        "accuracy": finite_or_none(accuracy),
        "test_loss": finite_or_none(test_loss),
        "cost": {"score": score.as_dict(), "select": select.as_dict(), "train": train.as_dict()},
        "passes": train.passes,
        "total_passes": (score + select + train).passes,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "commit": commit(),
        "finished": now(),
    }
