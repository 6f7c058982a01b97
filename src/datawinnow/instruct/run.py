"""`instruct`: from a file of pairs to the pairs worth tuning on, with what is known about the choice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from datawinnow.core import provenance
from datawinnow.core.artifacts import write_json
from datawinnow.core.errors import ArgumentError
from datawinnow.core.interval import Interval
from datawinnow.core.progress import Progress
from datawinnow.core.reason import REASON_SENTENCES, Reason
from datawinnow.core.selection import Selection
from datawinnow.instruct import _run
from datawinnow.instruct._source import check_out
from datawinnow.instruct.choose import PUBLISHED, Choice, choose, cluster
from datawinnow.instruct.leave_one_out import LeftOut, agreement, says
from datawinnow.instruct.pairs import Pairs, told
from datawinnow.instruct.quotas import quotas
from datawinnow.instruct.scoring import LEARNED, MEAN, NETWORKS, Pool, Scored, digest, left_out_by, pool_of, score_by
from datawinnow.instruct.subsets import read_subsets

AGREEING = 5
"""Seeds that are trained to see how far they agree."""


@dataclass(frozen=True, eq=False)
class Instructed:
    """What `instruct` found.

    Attributes:
        selection: of the pairs.
        scored: their scores.
        metadata: all that the page shows, as plain JSON.
        folder: the run folder.
    """

    selection: Selection
    scored: Scored
    metadata: dict[str, Any]
    folder: Path


def instruct(
    pairs: Pairs,
    *,
    run: Path,
    keep: int | float = 200,
    subsets: Path | str | None = None,
    mode: str = "default",
    way: str | None = None,
    choice: Choice | None = None,
    out: Path | None = None,
    seed: int | None = None,
    check: bool = True,
    ends: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> Instructed:
    """Score pairs, choose among them, and say what the labels can and cannot know.

    Args:
        pairs: what `read_pairs` gave, with its indicators.
        run: run folder; ``instruct.json``, ``selection.parquet`` and ``known.json`` are written there.
        keep: how many (a whole number) or what share (a fraction in (0, 1]).
        subsets: ``.npz`` of labelled subsets; without it nothing is learned and pairs are ranked by their indicators.
        mode: ``"paper"``: the published arithmetic, quirk by quirk; ``"default"``: mended.
        way: ``"ridge"``, ``"mean of indicators"`` or the name of an indicator in place of the mode's network.
        choice: how to choose; None is the published way in paper mode, else the top of every cluster by its share.
        out: where to write the kept pairs, in the layout they came in; None writes none.
        seed: None is 42 in paper mode, as published, and 0 otherwise.
        check: leave subsets out, one at a time, to see what is known (kept in the run folder and not done twice).
        ends: which end of an indicator is good, by its name.
        options: of `Recipe`, changed from the mode's.
        progress: called with what is done, how far, of how many.
        log: called with what was chosen on the way.

    Returns:
        `Instructed`.

    Raises:
        ArgumentError: options that do not fit together, or with the data.
        DataError: a file that cannot be read, or an ``out`` that cannot be written.
        CapacityError: fewer pairs can be chosen than asked for.
    """
    start = time.perf_counter()
    if mode not in NETWORKS:
        raise ArgumentError(f"mode must be one of {', '.join(map(repr, NETWORKS))}, got {mode!r}")
    if out is not None:
        check_out(pairs.source, out)
    say = log or (lambda _: None)
    pool = pool_of(pairs)
    if subsets is not None:
        pool = replace(pool, subsets=read_subsets(subsets, pairs, pool.layout))
        for note in pool.subsets.notes if pool.subsets is not None else ():
            say(f"subsets: {note}")
    way = way or (mode if subsets is not None else MEAN)
    if subsets is None and way == MEAN:
        say(f"no labelled subsets (--subsets): pairs are ranked by the mean of {', '.join(pool.layout.indicators)}")
    scored = score_by(pool, way, seed=seed, agreeing=AGREEING, ends=ends, options=options, progress=progress)
    choice = choice or (PUBLISHED if mode == "paper" else Choice())
    used = 0 if seed is None else seed
    clustered = cluster(pairs, choice, paper=mode == "paper", seed=used)
    say(f"clusters: {clustered.says}")
    selection = choose(scored.score, pairs, clustered, keep=keep, choice=choice, seed=used)
    seconds = time.perf_counter() - start
    between = agreement(
        scored.seeds,
        lambda score: choose(score, pairs, clustered, keep=keep, choice=choice, seed=used).index,
    )
    known = _known(pool, way, run, seed, options, progress) if check and subsets is not None else None
    metadata = _facts(pool, scored, selection, clustered, choice, keep, mode, known, between)
    metadata["seconds"] = {"choose": seconds, "all": time.perf_counter() - start}
    meta = {key: metadata[key] for key in ("method", "label", "n", "keep", "budget", "mode", "fingerprint", "dataset")}
    notes = _run.write_selection(run / _run.SELECTION, pairs, scored, clustered, selection, meta)
    metadata["gallery"] = _run.gallery_of(pairs, scored, selection, notes)
    if out is not None:
        pairs.source.write(np.sort(pairs.place[selection.index.numpy()]), out)
        metadata["out"] = str(out)
    write_json(run / _run.FACTS, metadata)
    return Instructed(selection, scored, metadata, run)


def _known(
    pool: Pool,
    way: str,
    run: Path,
    seed: int | None,
    options: Mapping[str, Any] | None,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    ways = tuple(dict.fromkeys(("ridge", *((way,) if way in LEARNED else ()))))
    key = digest(pool, ways, seed, sorted((options or {}).items()))
    before = _run.known_before(run, key)
    if before is not None:
        return before
    found = left_out_by(pool, ways, seed=seed, options=options, progress=progress)
    return _run.keep_known(run, key, found)


def _facts(
    pool: Pool,
    scored: Scored,
    selection: Selection,
    clustered: Any,
    choice: Choice,
    keep: int | float,
    mode: str,
    known: list[dict[str, Any]] | None,
    between: dict[str, Any],
) -> dict[str, Any]:
    pairs, n = pool.pairs, len(pool.pairs)
    assert selection.reason is not None
    counts = np.bincount(selection.reason.numpy(), minlength=128)
    metadata: dict[str, Any] = {
        "name": pairs.source.path.stem,
        "dataset": pairs.source.path.name,
        "fingerprint": pairs.fingerprint,
        "n": n,
        "budget": len(selection),
        "keep": keep,
        "mode": mode,
        "method": scored.way,
        "label": scored.label,
        "about": scored.about,
        "loss": scored.loss,
        "features": pool.layout.names,
        "clusters": clustered.says,
        "by_cluster": _by_cluster(clustered, scored, selection),
        "select": choice.by,
        "duplicates": choice.duplicates,
        "means": _run.means_of(pool, selection),
        "agreement": between,
        "problems": told(pairs),
        "lacking": pool.lacking(),
        "reasons": {REASON_SENTENCES[code]: int(counts[code]) for code in Reason if counts[code]},
        "labels": None if pool.subsets is None else pool.subsets.labels.tolist(),
        "ways": known,
        "versions": provenance.versions(),
        "commit": provenance.commit(),
        "finished": provenance.now(),
    }
    metadata["says"] = [] if known is None else _said(known, scored.way, between)
    return metadata


def _by_cluster(clustered: Any, scored: Scored, selection: Selection) -> list[dict[str, int]]:
    """Size, share by the published rule, and number kept of each cluster, in the order in which they first appear."""
    if clustered.label is None:
        return []
    there = (clustered.label >= 0) & ~scored.score.isnan()
    labels = clustered.label[there].tolist()
    kept = clustered.label[selection.index].tolist()
    order = list(dict.fromkeys(labels))
    sizes = [labels.count(group) for group in order] if len(order) < 1000 else []
    if not sizes:
        return []
    share = quotas(sizes, len(selection))
    return [
        {"cluster": group, "size": size, "quota": quota, "kept": kept.count(group)}
        for group, size, quota in zip(order, sizes, share, strict=True)
    ]


def _said(known: list[dict[str, Any]], way: str, between: dict[str, Any]) -> list[str]:
    ways = [_way(row) for row in known]
    names = {one.name for one in ways}
    return says(ways, way if way in names else "ridge", between)


def _way(row: Mapping[str, Any]) -> LeftOut:
    error = Interval(**row["error"])
    against = None if row["against"] is None else Interval(**row["against"])
    correlation = float("nan") if row["correlation"] is None else float(row["correlation"])
    return LeftOut(row["name"], tuple(row["predicted"]), error, against, correlation, row["verdict"])
