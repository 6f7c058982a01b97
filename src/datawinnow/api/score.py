"""`score`: scores of a recorded run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datawinnow.api.dataset import dataset_of_run
from datawinnow.core.bars import with_progress
from datawinnow.core.progress import ProgressOption

if TYPE_CHECKING:
    from torch import Tensor

    from datawinnow.probe.embeddings import Embedding
    from datawinnow.runs.folder import RunFolder
    from datawinnow.train.build import Model


@with_progress
def score(
    run: RunFolder | Path | str,
    scores: str | Sequence[str | Callable[..., Tensor]],
    *,
    options: Mapping[str, Any] | None = None,
    embedding: Embedding | None = None,
    epochs: int | None = None,
    subset_runs: int | None = None,
    data: Any = None,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    val: Any = None,
    progress: ProgressOption = None,
    log: Callable[[str], None] | None = None,
) -> dict[str, Tensor]:
    """Compute scores from a recording and add them to ``scores.parquet`` of the run.

    Args:
        run: a run folder that `record` or `prune` made.
        scores: a score by name (repeatable), or ``"all"`` for those that need the recording alone. They are listed by
            datawinnow methods --kind score.
        options: option of the score, or of the probe of the network that it needs (repeatable; with one score), for
            example window=5 or mode=rademacher.
        embedding: features by a pretrained model, ``"hf:PATH"``, or by ``"module:function"`` (or a function) from a
            batch to (b, d), in place of those of the recorded network (with one score). Default: the recorded network.
        epochs: read only the first N recorded epochs. Default: all of them.
        subset_runs: networks trained on random 70% subsets, for memorization; the cost is logged before they start.
            Default: as many as exist.
        data: the run's dataset, or DATA where it has moved. Default: where it was when recorded.
        model: the network, where the run recorded with a function or with ``"module:function"``: nothing that a run
            folder names is imported. Default: the network that the run names.
        model_options: option of that function (repeatable), as for the recording.
        val: held-out data, for scores that match it.
        progress: True shows a bar on stderr, or a line every 10 seconds where stderr is no terminal; a function is
            called with ``(stage, done, total)``. Default: no progress is shown.
        log: called with what was chosen and noticed.

    Returns:
        name -> (n,).

    Raises:
        MissingArrayError: a score needs an array that was not recorded.
        ArgumentError: no score, unknown ones, or options that a score does not have.
        RunError: not recorded to the end, or another dataset.
    """
    from datawinnow.core.card import card_of, resolve
    from datawinnow.core.lock import SHORT_STAGE_WAIT, only_writer
    from datawinnow.methods.create import create_method, embedded
    from datawinnow.runs.folder import RunFolder
    from datawinnow.runs.score import score_run
    from datawinnow.scores import METHODS

    folder = run if isinstance(run, RunFolder) else RunFolder.open(Path(run))
    names: Sequence[str | Callable[..., Tensor]] = [scores] if isinstance(scores, str) else scores
    if "all" in names:
        recorded = folder.arrays(epochs)
        readable = [
            key
            for key, function in METHODS.items()
            if all(need in (*recorded, "labels") for need in card_of(function).needs)
        ]
        names = list(dict.fromkeys([*readable, *(name for name in names if name != "all")]))
    if embedding is not None:
        for name in names:
            embedded(create_method(score=name), embedding)
        options = {**(options or {}), "embedding": embedding}
    for name in names:  # before anything is read
        resolve(name, METHODS, kind="score")
    splits = dataset_of_run(folder, data, progress=progress, log=log)
    with only_writer(folder.path, option="run", who="another command", wait=SHORT_STAGE_WAIT, log=log):
        folder.reload()  # another process may have written to it meanwhile
        return score_run(
            folder,
            splits.train,
            names,
            epochs=epochs,
            options=options,
            subset_runs=subset_runs,
            model=model,
            model_options=model_options,
            val=splits.like_train(val),
            progress=progress,
            log=log,
        )
