"""`select`: which examples of a recorded run to keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datawinnow.api.dataset import dataset_of_run
from datawinnow.api.prune import PUBLISHED_EPOCHS
from datawinnow.core.bars import with_progress
from datawinnow.core.progress import ProgressOption

if TYPE_CHECKING:
    from datawinnow.data.kept import Kept
    from datawinnow.methods import Method
    from datawinnow.probe.embeddings import Embedding
    from datawinnow.runs.folder import RunFolder
    from datawinnow.train.build import Model


@with_progress
def select(
    run: RunFolder | Path | str,
    *,
    keep: float | str,
    method: str | Method | None = None,
    score: Any = None,
    select_by: Any = None,
    options: Mapping[str, Any] | None = None,
    score_options: Mapping[str, Any] | None = None,
    per_class: bool = False,
    embedding: Embedding | None = None,
    epochs: int | None = None,
    seed: int = 0,
    out: Path | str | None = None,
    data: Any = None,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    val: Any = None,
    progress: ProgressOption = None,
    log: Callable[[str], None] | None = None,
) -> Kept:
    """Choose which examples of a run to keep, and write ``selection.parquet`` and the gallery.

    Args:
        run: a run folder that `record` or `prune` made.
        keep: fraction kept, in (0, 1], as 0.3 or 30%.
        method: a method by name; by default DUAL with Beta sampling.
        score: instead of ``method``: rank by this score.
        select_by: instead of ``method``: choose with this selector.
        options: of the selector. Beta sampling is fitted to the training that the run is for: ``train_epochs`` of its
            prune, else the epochs of its schedule; ``train_epochs`` or ``c_d`` here set it.
        score_options: of the score, or of the probe of the network that it needs.
        per_class: keep the same share of every class.
        embedding: features by a pretrained model, ``"hf:PATH"``, or by ``"module:function"`` (or a function) from a
            batch to (b, d), in place of those of the recorded network: methods that read features alone then need no
            training. Images and vectors come as a network is trained on them, texts as strings.
        epochs: read only the first N recorded epochs. Default: all of them.
        seed: seed of selectors that draw.
        out: file for the selection. Default: selection.parquet in the run folder, beside the gallery.
        data: the run's dataset, or DATA where it has moved. Default: where it was when recorded.
        model: the network, where the run recorded with a function or with ``"module:function"``: nothing that a run
            folder names is imported. Default: the network that the run names.
        model_options: option of that function (repeatable), as for the recording.
        val: held-out data, for methods that match it; class ids go by the names of the classes.
        progress: True shows a bar on stderr, or a line every 10 seconds where stderr is no terminal; a function is
            called with ``(stage, done, total)``. Default: no progress is shown.
        log: called with what was chosen and noticed.

    Returns:
        The kept examples.

    Raises:
        ArgumentError: keep out of range, unknown names or options.
        MissingArrayError: an array is missing.
        RunError: not recorded to the end, or another dataset.
    """
    from datawinnow.core.budget import budget_of, parse_fraction
    from datawinnow.core.lock import SHORT_STAGE_WAIT, only_writer
    from datawinnow.data.kept import Kept
    from datawinnow.methods import create_method
    from datawinnow.runs.folder import RunFolder
    from datawinnow.runs.select import select_run

    keep = parse_fraction(keep)
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
    folder = run if isinstance(run, RunFolder) else RunFolder.open(Path(run))
    # as prune does: the selection of a recording is the same by either
    pruned = folder.metadata["options"].get("prune") or {}
    planned = pruned.get("train_epochs") or (folder.metadata["options"].get("record") or {}).get("schedule_epochs")
    is_fitted = pruned.get("is_fitted", planned is not None and planned < PUBLISHED_EPOCHS)
    method = method.fitted(planned if is_fitted else None)
    splits = dataset_of_run(folder, data, progress=progress, log=log)
    with only_writer(folder.path, option="run", who="another command", wait=SHORT_STAGE_WAIT, log=log):
        folder.reload()  # another process may have written to it meanwhile
        selection = select_run(
            folder,
            splits.train,
            keep=keep,
            method=method,
            seed=seed,
            epochs=epochs,
            out=None if out is None else Path(out),
            model=model,
            model_options=model_options,
            val=splits.like_train(val),
            progress=progress,
            log=log,
        )
    return Kept(splits.original, selection)
