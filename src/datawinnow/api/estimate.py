"""`estimate`: seconds and memory of a method before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from datawinnow.api.dataset import open_dataset
from datawinnow.core.bars import with_progress
from datawinnow.core.load_options import LoadOptions
from datawinnow.core.progress import ProgressOption

if TYPE_CHECKING:
    from datawinnow.methods import Method
    from datawinnow.probe.embeddings import Embedding
    from datawinnow.train import Recipe
    from datawinnow.train.build import Model


@with_progress
def estimate(
    train: Any,
    *,
    epochs: int = 30,
    keep: float | str | None = None,
    train_epochs: int | None = None,
    method: str | Method | None = None,
    score: Any = None,
    select_by: Any = None,
    options: Mapping[str, Any] | None = None,
    score_options: Mapping[str, Any] | None = None,
    per_class: bool = False,
    embedding: Embedding | None = None,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    load: LoadOptions | None = None,
    progress: ProgressOption = None,
    log: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Time a few training steps on this machine, and count the rest.

    Of images of DATA, a few are decoded and timed; for a run of more than three minutes, options that make it shorter
    are timed too.

    Args:
        train: a map-style dataset of ``(x, y)``, or DATA.
        epochs: epochs recorded: passes over all the data.
        keep: estimate training on this fraction as well, in (0, 1], as 0.3 or 30%. Default: training is not estimated.
        train_epochs: epochs of that training. Default: as many as ``epochs``.
        method: a method by name; by default DUAL with Beta sampling.
        score: instead of ``method``: rank by this score.
        select_by: instead of ``method``: choose with this selector.
        options: of the selector.
        score_options: of the score, or of the probe of the network that it needs.
        per_class: keep the same share of every class.
        embedding: features by a pretrained model or a function, in place of the recorded network.
        model: network; by default chosen by the shape of the examples.
        model_options: its options.
        recipe: how to train.
        load: how DATA is read.
        progress: True shows a bar on stderr, or a line every 10 seconds where stderr is no terminal; a function is
            called with ``(stage, done, total)``. Default: no progress is shown.
        log: called with each note on how DATA was read.

    Returns:
        ``seconds``, ``seconds_by_stage``; ``cheaper``, options that make a long run shorter;
        ``memory`` (bytes resident at the peak, process and libraries included), ``memory_by_part``; ``disk`` bytes of
        the recording; ``sentence``.

    Raises:
        ArgumentError: ``keep`` outside (0, 1], unknown names, or a network with fewer outputs than there are classes.
    """
    from datawinnow.core import check as arguments
    from datawinnow.core.budget import budget_of, parse_fraction
    from datawinnow.methods import create_method
    from datawinnow.runs.estimate import estimate_run

    arguments.number("epochs", epochs, 1, 1 << 20, integer=True)
    if train_epochs is not None:
        arguments.number("train_epochs", train_epochs, 1, 1 << 20, integer=True)
    keep = parse_fraction(keep)
    if keep is not None:
        budget_of(keep, 1)
    method = create_method(
        method,
        score=score,
        select_by=select_by,
        options=options,
        score_options=score_options,
        per_class=per_class,
        embedding=embedding,
    )
    splits = open_dataset(train, load=load, model=model, recipe=recipe, progress=progress, log=log, only_sample=True)
    return estimate_run(
        splits.train,
        epochs=epochs,
        model=model,
        model_options=model_options,
        recipe=recipe,
        keep=keep,
        train_epochs=train_epochs,
        method=method,
        progress=progress,
    )
