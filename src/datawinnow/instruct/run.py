"""From pairs with indicators to the pairs worth tuning on, and the run folder that says why."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from datawinnow.core import provenance
from datawinnow.core.artifact_schemas import InstructFile, LeaveOneOutFile
from datawinnow.core.artifacts import read_json, write_json, write_table
from datawinnow.core.errors import RunError
from datawinnow.core.lock import only_writer
from datawinnow.core.progress import Progress
from datawinnow.core.rank_notes import rank_notes
from datawinnow.core.reason import REASON_SENTENCES, Reason
from datawinnow.core.row_checks import SELECTION_COLUMNS, with_row_checks
from datawinnow.core.selection import Selection
from datawinnow.instruct.choose import PairClusters, choose_pairs, make_clusters
from datawinnow.instruct.indicators import INDICATOR_ENDS
from datawinnow.instruct.leave_one_out import LeaveOneOut, seed_agreement, summarise
from datawinnow.instruct.options import ChoiceOptions, ScorerOptions
from datawinnow.instruct.pair_files import check_out
from datawinnow.instruct.pairs import Pairs
from datawinnow.instruct.quotas import quotas
from datawinnow.instruct.scoring import (
    LEARNED_SCORERS,
    MEAN_SCORER,
    FeaturePool,
    PairScores,
    leave_out_subsets,
    pool_digest,
    pool_of,
    score_pairs,
)
from datawinnow.instruct.subsets import read_subsets

INSTRUCT_FILE, SELECTION_FILE, LEAVE_ONE_OUT_FILE = "instruct.json", "selection.parquet", "leave_one_out.json"
NUM_SEEDS = 5
"""Seeds that are trained to see how far they agree."""
GALLERY_SIZE, MAX_CHARACTERS = 12, 700
"""Texts of a kind on the page, and characters of each."""
MAX_CLUSTER_ROWS = 1000


@dataclass(frozen=True, eq=False)
class InstructResult:
    """The chosen pairs.

    Attributes:
        selection: ids of the kept pairs, the best first, with a reason for every pair.
        scores: of all pairs.
        pairs: the data, with the computed indicators.
        metadata: what the report shows, as JSON has it.
        folder: the run folder.
    """

    selection: Selection
    scores: PairScores
    pairs: Pairs
    metadata: dict[str, Any]
    folder: Path


def run_instruct(
    pairs: Pairs,
    *,
    folder: Path,
    keep: int | float = 200,
    scoring: ScorerOptions | None = None,
    choice: ChoiceOptions | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> InstructResult:
    """Score pairs, choose among them, and test what the labels of subsets can tell.

    Args:
        pairs: the data, with indicators.
        folder: run folder; ``instruct.json``, ``selection.parquet`` and ``leave_one_out.json`` are written there.
        keep: how many (an integer) or what fraction (in (0, 1]).
        scoring: by what they are scored; None is the default mode without subsets.
        choice: how to choose; None is the mode's way.
        out: file or folder of the kept pairs, in the layout of the data; None writes none.
        progress: called as ``progress(stage, done, total)``.
        log: called with notes.

    Raises:
        ArgumentError: options that do not fit together, or the data.
        DataError: a file that cannot be read, or an ``out`` that cannot be written.
        CapacityError: fewer pairs can be chosen than ``keep``.
        RunError: another process writes to the folder.
    """
    with only_writer(folder, option="run", who="another command"):
        return _run_alone(
            pairs, folder=folder, keep=keep, scoring=scoring, choice=choice, out=out, progress=progress, log=log
        )


def _run_alone(
    pairs: Pairs,
    *,
    folder: Path,
    keep: int | float,
    scoring: ScorerOptions | None,
    choice: ChoiceOptions | None,
    out: Path | None,
    progress: Progress | None,
    log: Callable[[str], None] | None,
) -> InstructResult:
    start = time.perf_counter()
    log = log or (lambda _: None)
    scoring = scoring or ScorerOptions()
    subsets, mode, seed = scoring.subsets, scoring.mode, scoring.seed
    choice = (choice or ChoiceOptions()).resolve(mode, scoring.scorer)
    if out is not None:
        check_out(pairs.file, out)
    pool = pool_of(pairs)
    if subsets is not None:
        labelled = read_subsets(subsets, pairs, pool.layout)
        pool = replace(pool, subsets=labelled)
        for note in labelled.notes:
            log(f"subsets: {note}")
        if _earlier_subsets(folder) not in (None, labelled.digest):
            log(f"subsets: {subsets} is another file than for the result in {folder}, which is made anew")
    scorer = scoring.scorer or (mode if subsets is not None else MEAN_SCORER)
    if subsets is None and scorer == MEAN_SCORER:
        log(f"no labelled subsets (`subsets=`): pairs are ranked by the mean of {', '.join(pool.layout.indicators)}")
    scores = score_pairs(
        pool,
        scorer,
        seed=seed,
        num_seeds=NUM_SEEDS,
        ends=INDICATOR_ENDS,
        recipe_options=scoring.recipe_options,
        progress=progress,
    )
    choice_seed = 0 if seed is None else seed
    clusters = make_clusters(pairs, choice, paper=mode == "paper", seed=choice_seed)
    log(f"clusters: {clusters.description}")

    def choose(score: Tensor) -> Selection:
        return choose_pairs(score, pairs, clusters, keep=keep, choice=choice, seed=choice_seed)

    selection = choose(scores.score)
    choose_seconds = time.perf_counter() - start
    # After the clock has stopped: the other seeds are a test and not part of the choice.
    agreement = seed_agreement(scores.seed_scores, lambda score: choose(score).index)
    tests = None
    if scoring.check and subsets is not None:
        tests = _test_scorers(pool, scorer, folder, seed, scoring.recipe_options, progress)
    metadata = {
        **_metadata(pool, scores, selection, clusters, choice),
        "keep": keep,
        "mode": mode,
        "agreement": agreement,
        "scorers": None if tests is None else [test.as_dict() for test in tests],
        "summary": [],
        "seconds": {"choose": choose_seconds, "all": time.perf_counter() - start},
    }
    if tests is not None:
        metadata["summary"] = summarise(tests, scorer if scorer in LEARNED_SCORERS else "ridge", agreement)
    notes = _write_selection(folder / SELECTION_FILE, pairs, scores, clusters, selection, metadata)
    metadata["gallery"] = _gallery(pairs, scores, selection, notes)
    if out is not None:
        # In the order of the source: the file is read once, row by row.
        pairs.file.write(np.sort(pairs.place[selection.index.numpy()]), out)
        metadata["out"] = str(out)
    write_json(folder / INSTRUCT_FILE, metadata)
    return InstructResult(selection, scores, pairs, metadata, folder)


def _earlier_subsets(folder: Path) -> str | None:
    """Digest of the subsets that the result in a folder was learned from; None without one."""
    try:
        stored = read_json(folder / INSTRUCT_FILE, schema=InstructFile) if (folder / INSTRUCT_FILE).exists() else {}
    except RunError:  # damaged: it is replaced
        return None
    digest = stored.get("subsets")
    return digest if isinstance(digest, str) else None


def _test_scorers(
    pool: FeaturePool,
    scorer: str,
    folder: Path,
    seed: int | None,
    recipe_options: Mapping[str, Any] | None,
    progress: Progress | None,
) -> list[LeaveOneOut]:
    """`leave_out_subsets` of ridge regression and the scorer, from the run folder where it has the same test."""
    scorers = tuple(dict.fromkeys(("ridge", *((scorer,) if scorer in LEARNED_SCORERS else ()))))
    key = pool_digest(pool, scorers, seed, sorted((recipe_options or {}).items()))
    path = folder / LEAVE_ONE_OUT_FILE
    if path.exists():
        try:
            stored = read_json(path, schema=LeaveOneOutFile)
        except RunError:
            stored = {}  # damaged: tested again
        if stored.get("key") == key:
            return [LeaveOneOut.from_dict(row) for row in stored["scorers"]]
    tests = leave_out_subsets(pool, scorers, seed=seed, recipe_options=recipe_options, progress=progress)
    write_json(path, {"key": key, "scorers": [json.loads(json.dumps(test.as_dict())) for test in tests]})
    return tests


def _metadata(
    pool: FeaturePool, scores: PairScores, selection: Selection, clusters: PairClusters, choice: ChoiceOptions
) -> dict[str, Any]:
    pairs = pool.pairs
    assert selection.reason is not None
    # Reasons are int8 codes, below 128.
    counts = np.bincount(selection.reason.numpy(), minlength=128)
    return {
        "name": pairs.file.path.stem,
        "dataset": pairs.file.path.name,
        "fingerprint": pairs.fingerprint,
        "n": len(pairs),
        "budget": len(selection),
        "method": scores.scorer,
        "label": scores.label,
        "details": scores.details,
        "loss": scores.loss,
        "features": pool.layout.names,
        "clusters": clusters.description,
        "by_cluster": _count_by_cluster(clusters, scores, selection),
        "select": choice.select,
        "duplicates": choice.duplicates,
        "means": _indicator_means(pool, selection),
        "problems": pairs.problem_lines(),
        "missing": pool.missing_counts(),
        "reasons": {REASON_SENTENCES[code]: int(counts[code]) for code in Reason if counts[code]},
        "labels": None if pool.subsets is None else pool.subsets.labels.tolist(),
        "subsets": None if pool.subsets is None else pool.subsets.digest,
        "versions": provenance.versions(),
        "commit": provenance.commit(),
        "finished": provenance.now(),
    }


def _count_by_cluster(clusters: PairClusters, scores: PairScores, selection: Selection) -> list[dict[str, int]]:
    """Size, share by the published rule, and number kept of each cluster, in the order in which they first appear."""
    if clusters.label is None:
        return []
    # Only pairs that could be chosen count, as in `cluster_quotas`.
    labels = clusters.label[(clusters.label >= 0) & ~scores.score.isnan()].tolist()
    kept = clusters.label[selection.index].tolist()
    order = list(dict.fromkeys(labels))
    if not order or len(order) >= MAX_CLUSTER_ROWS:
        return []
    sizes = [labels.count(cluster) for cluster in order]
    return [
        {"cluster": cluster, "size": size, "quota": quota, "kept": kept.count(cluster)}
        for cluster, size, quota in zip(order, sizes, quotas(sizes, len(selection)), strict=True)
    ]


def _indicator_means(pool: FeaturePool, selection: Selection) -> list[dict[str, Any]]:
    """Mean of every indicator over the chosen and over the pool, and the gap in standard deviations of the pool."""
    kept = selection.mask(len(pool.pairs)).numpy()
    rows = []
    for name in pool.layout.indicators:
        values = pool.pairs.numbers[name]
        is_known = ~np.isnan(values)
        if not (is_known & kept).any():
            continue
        spread, pool_mean = float(values[is_known].std()), float(values[is_known].mean())
        chosen_mean = float(values[is_known & kept].mean())
        gap = (chosen_mean - pool_mean) / spread if spread > 0 else 0.0
        rows.append({"name": name, "chosen": chosen_mean, "pool": pool_mean, "spread": spread, "gap": gap})
    return rows


def _write_selection(
    path: Path,
    pairs: Pairs,
    scores: PairScores,
    clusters: PairClusters,
    selection: Selection,
    metadata: Mapping[str, Any],
) -> list[str]:
    """Write ``selection.parquet``: every pair, kept or not, with order, weight, reason, score and a note.

    Returns:
        The note of every pair.
    """
    n = len(pairs)
    # -1 for pairs that are not kept.
    order = np.full(n, -1, dtype=np.int64)
    order[selection.index.numpy()] = np.arange(len(selection))
    weight = np.zeros(n, dtype=np.float32)
    weight[selection.index.numpy()] = selection.weight.numpy()
    assert selection.reason is not None
    # NaN: lacks what the choice needs, so it has no rank
    values = np.where(selection.reason.numpy() == int(Reason.UNSCORED), np.nan, scores.score.double().numpy())
    label = None if clusters.label is None else clusters.label.numpy()
    notes = rank_notes(values, selection.mask(n).numpy(), groups=label, group_word="cluster {}")
    for i in np.flatnonzero(np.isnan(values)).tolist():
        notes[i] = _lack(i, scores, clusters)
    columns = {
        "id": pa.array([_encodable(name) for name in pairs.ids], pa.string()),
        "row": pa.array(pairs.place),
        "kept": pa.array(order >= 0),
        "order": pa.array(order),
        "weight": pa.array(weight),
        "reason": pa.array([Reason(code).word for code in selection.reason.tolist()], pa.string()),
        "note": pa.array(notes, pa.string()),
        "score": pa.array(scores.score.numpy()),
    }
    if clusters.label is not None:
        columns["cluster"] = pa.array(clusters.label.numpy())
    keys = ("method", "label", "n", "keep", "budget", "mode", "fingerprint", "dataset")
    table = with_row_checks(pa.table(columns), [name for name in SELECTION_COLUMNS if name in columns])
    write_table(path, table, {key: metadata[key] for key in keys})
    return notes


def _lack(i: int, scores: PairScores, clusters: PairClusters) -> str:
    """What a pair lacks that the choice needs."""
    if bool(scores.score[i].isnan()):
        return "lacks a score: an indicator that the scorer needs is missing"
    lacks_cluster = clusters.label is not None and int(clusters.label[i]) < 0
    return f"score {float(scores.score[i]):.4g}, but lacks {'a cluster' if lacks_cluster else 'an embedding'}"


def _gallery(
    pairs: Pairs, scores: PairScores, selection: Selection, notes: list[str]
) -> dict[str, list[dict[str, str]]]:
    """Texts for the page: the first kept, the last kept, those that just missed it, and the lowest scores."""
    assert selection.reason is not None
    reasons = selection.reason.tolist()
    values = scores.score.double().numpy()
    dropped = np.flatnonzero((selection.reason.numpy() >= 10) & ~np.isnan(values))
    dropped = dropped[np.argsort(-values[dropped], kind="stable")]
    index = selection.index.tolist()
    groups = {
        "first": index[:GALLERY_SIZE],
        "last": index[max(GALLERY_SIZE, len(index) - GALLERY_SIZE) :],
        "missed": dropped[:GALLERY_SIZE].tolist(),
        "lowest": dropped[max(GALLERY_SIZE, len(dropped) - GALLERY_SIZE) :].tolist(),
    }
    return {
        name: [
            {
                "id": _encodable(pairs.ids[i]),
                "where": pairs.place_name(int(pairs.place[i])),
                "instruction": _shorten(pairs.instruction[i]),
                "answer": _shorten(pairs.answer[i]),
                "reason": Reason(reasons[i]).word,
                "note": notes[i],
            }
            for i in ids
        ]
        for name, ids in groups.items()
    }


def _encodable(text: str) -> str:
    """Without lone surrogates, which JSON can spell and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _shorten(text: str) -> str:
    text = _encodable(text)
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"
