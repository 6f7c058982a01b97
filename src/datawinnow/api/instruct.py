"""`instruct`: from a file of instruction data to the pairs worth tuning on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from datawinnow.core.bars import with_progress
from datawinnow.core.progress import ProgressOption
from datawinnow.instruct.options import ChoiceOptions, IndicatorOptions, JudgeOptions, PairFields, ScorerOptions

if TYPE_CHECKING:
    from datawinnow.instruct.pairs import Pairs
    from datawinnow.instruct.run import InstructResult


@with_progress
def instruct(
    pairs: Pairs | Path | str,
    *,
    keep: int | float | str = 200,
    subsets: Path | str | None = None,
    mode: Literal["paper", "default"] = "default",
    score: str | None = None,
    choice: ChoiceOptions | None = None,
    indicators: IndicatorOptions | None = None,
    judge: JudgeOptions | None = None,
    fields: PairFields | None = None,
    seed: int | None = None,
    check: bool = True,
    recipe_options: Mapping[str, Any] | None = None,
    run: Path | str | None = None,
    out: Path | str | None = None,
    report: bool | Path | str = False,
    confirm: Callable[[str], bool] | None = None,
    progress: ProgressOption = None,
    log: Callable[[str], None] | None = None,
) -> InstructResult:
    """Choose which pairs of an instruction dataset to tune on.

    Args:
        pairs: instructions with their answers: .jsonl, .json, .parquet, a folder of Parquet or of a saved Hugging Face
            dataset; in Python `Pairs` too.
        keep: pairs kept: a number (200), or a fraction (0.1, 10%, 1.0).
        subsets: .npz of subsets with the score of a model tuned on each, to learn from. Default: none; pairs are ranked
            by their indicators.
        mode: arithmetic: ``"paper"`` as published, with its errors; ``"default"`` corrected (attention within a set,
            standardised features, scores sorted as they are).
        score: choose by this instead: ridge, mean (of the indicators), or an indicator: a field with numbers, or one
            that is computed. Default: the selector network with ``subsets``, mean without.
        choice: selector, clusters and near-duplicates.
        indicators: indicators to compute.
        judge: language model that grades the answers.
        fields: names of the fields of the instruction and the answer.
        seed: of the networks and draws. Default: 42 in paper mode, as published, else 0.
        check: leave subsets out one at a time, to test what the labels can tell.
        recipe_options: field of the selector's recipe (repeatable), for example epochs=40 or networks=5.
        run: run folder to write. Default: runs/<name of the data>-instruct.
        out: file or folder for the kept pairs, in the layout they came in. Default: they are not written.
        report: write the HTML page: True for ``report.html`` in the run folder, or a file.
        confirm: called with a sentence that states the cost, before the judge is paid; returns whether to go on. None
            refuses, unless ``judge.yes``.
        progress: True shows a bar on stderr, or a line every 10 seconds where stderr is no terminal; a function is
            called with ``(stage, done, total)``. Default: no progress is shown.
        log: called with notes: faults of the data, what was chosen, and what was paid.

    Returns:
        `InstructResult`: ``.selection`` has the ids, weights and reasons, ``.metadata`` what the report shows.

    Raises:
        ArgumentError: options that do not fit together, or with the data; transformers or openai is not installed.
        DataError: a file that cannot be read, or an ``out`` that cannot be written.
        CapacityError: fewer pairs can be chosen than ``keep``.
        RunError: the judge is down or refuses, its cap is reached, or its cost was not confirmed.
    """
    from datawinnow.core.errors import DataError
    from datawinnow.core.lock import SHORT_STAGE_WAIT, only_writer
    from datawinnow.instruct.choose import pairs_budget, parse_keep, resolve_selector
    from datawinnow.instruct.indicators import compute_indicators
    from datawinnow.instruct.pair_files import check_out
    from datawinnow.instruct.pairs import Pairs, read_pairs
    from datawinnow.instruct.run import run_instruct

    say = log or (lambda _: None)
    keep = parse_keep(keep)
    choice, out = choice or ChoiceOptions(), None if out is None else Path(out)
    resolved = choice.resolve(mode, score)
    if not isinstance(pairs, Pairs):
        pairs = read_pairs(pairs, fields=fields, progress=progress)
        for line in pairs.problem_lines():
            say(f"data: {line}")
    # everything that can be checked is checked before anything is computed or paid for
    pairs_budget(keep, len(pairs))
    resolve_selector(resolved.select or "top")
    if out is not None:
        check_out(pairs.file, out)
    if subsets is not None and not Path(subsets).is_file():
        raise DataError(f"no such file: {subsets}")
    pairs = compute_indicators(
        pairs,
        indicators or IndicatorOptions(),
        judge,
        confirm=confirm,
        progress=progress,
        log=log,
    )
    folder = Path(run) if run is not None else Path("runs") / f"{pairs.file.path.stem}-instruct"
    result = run_instruct(
        pairs,
        folder=folder,
        keep=keep,
        scoring=ScorerOptions(subsets, mode, score, seed, check, recipe_options),
        choice=choice,
        out=out,
        progress=progress,
        log=log,
    )
    if report:
        from datawinnow import report as pages

        with only_writer(folder, option="run", who="another command", wait=SHORT_STAGE_WAIT, log=log):
            pages.write(result.folder, None if report is True else Path(report))
    return result
