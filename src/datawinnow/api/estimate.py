"""`estimate`: seconds and memory of a method before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from datawinnow.api.dataset import LoadOptions, open_dataset
from datawinnow.core.progress import Progress

if TYPE_CHECKING:
    from datawinnow.methods import Method
    from datawinnow.runs.network import Model
    from datawinnow.train import Recipe


def estimate(
    train: Any,
    *,
    epochs: int = 30,
    keep: float | None = None,
    train_epochs: int | None = None,
    method: str | Method | None = None,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    load: LoadOptions | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Time a few training steps on this machine, and count the rest.

    Args:
        train: a map-style dataset of ``(x, y)``, or DATA.
        epochs: epochs recorded: passes over all the data.
        keep: estimate training on this fraction as well, in (0, 1]. Default: training is not estimated.
        train_epochs: epochs of that training; by default ``epochs``.
        method: a method by name; by default DUAL with Beta sampling.
        model: network; by default chosen by the shape of the examples.
        model_options: its options.
        recipe: how to train.
        load: how DATA is read.
        progress: called as DATA is read.
        log: called with each note on how DATA was read.

    Returns:
        ``seconds``, ``seconds_by_stage``; ``memory`` (bytes resident at the peak, process and libraries included),
        ``memory_by_part``; ``disk`` bytes of the recording; ``sentence``.

    Raises:
        ArgumentError: ``keep`` outside (0, 1], unknown names, or a network with fewer outputs than there are classes.
    """
    from datawinnow.core.budget import budget_of
    from datawinnow.runs.estimate import estimate_run

    if keep is not None:
        budget_of(keep, 1)
    splits = open_dataset(train, load=load, model=model, progress=progress, log=log)
    return estimate_run(
        splits.train,
        epochs=epochs,
        model=model,
        model_options=model_options,
        recipe=recipe,
        keep=keep,
        train_epochs=train_epochs,
        method=method,
    )
