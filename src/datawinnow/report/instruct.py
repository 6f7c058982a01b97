"""The page of ``datawinnow instruct``: what was chosen and why, and what so few labels can and cannot know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datawinnow.core.artifacts import read_json, read_table
from datawinnow.core.errors import RunError
from datawinnow.report import words
from datawinnow.report.instruct_plots import gaps, left_out
from datawinnow.report.run_plots import histogram

FACTS, SELECTION = "instruct.json", "selection.parquet"
VERB = "datawinnow instruct PAIRS"
GALLERY = {
    "first": ("Kept first", "The highest scores among those kept, in the order chosen."),
    "last": ("Kept last", "The lowest scores among those kept."),
    "missed": ("Just missed", "The highest scores among those dropped: a full cluster, or past the budget."),
    "lowest": ("Lowest scores", "The lowest scores of all."),
}
MANY = 40
"""Clusters up to which each has its line."""


def is_instruct(folder: Path) -> bool:
    """Whether ``datawinnow instruct`` wrote this folder."""
    return (folder / FACTS).is_file()


def instruct_context(folder: Path) -> dict[str, Any]:
    """What the page shows.

    Raises:
        RunError: a file is missing, truncated, newer, or the two are of different choices.
    """
    metadata = read_json(folder / FACTS)
    for key in ("n", "budget", "label", "means", "agreement", "reasons", "gallery"):
        if key not in metadata:
            raise RunError(f"{folder / FACTS} lacks {key!r}: it was not written by datawinnow, or is damaged")
    table, meta = read_table(folder / SELECTION, VERB)
    if meta.get("fingerprint") != metadata.get("fingerprint") or len(table) != metadata["n"]:
        raise RunError(f"{folder / SELECTION} is of other pairs than {folder / FACTS}; make both again with: {VERB}")
    clusters = metadata.get("by_cluster") or []
    return {
        "title": str(metadata.get("name", folder.name)),
        "about": _about(metadata),
        "lead": f"{metadata['label'][:1].upper()}{metadata['label'][1:]} keeps {metadata['budget']:,} of "
        f"{metadata['n']:,} pairs "
        f"({words.share(metadata['budget'] / metadata['n'])}).",
        "says": [str(line) for line in metadata.get("says", [])] or _unchecked(metadata),
        "unlearned": metadata.get("labels") is None,
        "problems": [*metadata.get("problems", []), *_lacking(metadata)],
        "means": [_mean(row) for row in metadata["means"]],
        "ways": [_method_line(row) for row in metadata.get("ways") or []],
        "agreement": _agreement(metadata["agreement"]),
        "clusters": clusters if len(clusters) <= MANY else [],
        "figures": _figures(metadata, table),
        "galleries": [
            {"title": title, "says": caption, "texts": metadata["gallery"].get(key, [])}
            for key, (title, caption) in GALLERY.items()
            if metadata["gallery"].get(key)
        ],
        "reasons": list(metadata["reasons"].items()),
        "made": _provenance(metadata),
    }


def _unchecked(metadata: dict[str, Any]) -> list[str]:
    """What is said where nobody looked how much the labels know."""
    if not metadata.get("labels"):
        return []
    return [
        f"What {len(metadata['labels'])} labels know of pairs was not looked at (--no-check): a run without that "
        "leaves each labelled subset out in turn, and says it."
    ]


def _about(metadata: dict[str, Any]) -> str:
    phrases = [f"{metadata.get('dataset')}: {metadata['n']:,} pairs", str(metadata.get("clusters"))]
    about = metadata.get("about") or {}
    if "parameters" in about:
        labels = len(metadata.get("labels") or [])
        phrases.append(f"a network of {about['parameters']:,} weights, trained on {labels} labelled subsets")
    if metadata.get("duplicates") is not None:
        phrases.append(f"without near-duplicates within {metadata['duplicates']:g}")
    return "; ".join(phrases) + "."


def _lacking(metadata: dict[str, Any]) -> list[str]:
    return [f"{words.many(count, 'pair')} without {name}" for name, count in (metadata.get("lacking") or {}).items()]


def _mean(row: dict[str, Any]) -> dict[str, str]:
    return {
        "name": str(row["name"]),
        "chosen": f"{row['chosen']:.4g}",
        "pool": f"{row['pool']:.4g}",
        "spread": f"{row['spread']:.3g}",
        "gap": f"{row['gap']:+.2f}",
    }


def _plus(values: dict[str, Any] | None, *, sign: bool = False) -> str:
    if values is None:
        return words.NONE
    shown = f"{values['mean']:+.3f}" if sign else f"{values['mean']:.3f}"
    return shown if values["half"] is None else f"{shown} ± {values['half']:.3f}"


def _method_line(row: dict[str, Any]) -> dict[str, str]:
    correlation = row.get("correlation")
    return {
        "name": str(row["name"]),
        "error": _plus(row["error"]),
        "against": _plus(row["against"], sign=True),
        "verdict": str(row["verdict"]),
        "correlation": words.NONE if correlation is None else f"{correlation:+.2f}",
    }


def _agreement(values: dict[str, Any]) -> list[dict[str, str]]:
    """Lowest, mean and highest over pairs of seeds; nothing with one seed."""
    lines = []
    for key, name in (("correlation_between", "correlation of scores"), ("overlap_between", "share of the chosen")):
        if key in values:
            row = values[key]
            lines.append({"name": name, **{end: f"{row[end]:.2f}" for end in ("low", "mean", "high")}})
    return lines


def _figures(metadata: dict[str, Any], table: Any) -> list[dict[str, Any]]:
    score = table.column("score").to_numpy()
    kept = table.column("kept").to_numpy(zero_copy_only=False)
    drawn = [
        (
            gaps(metadata["means"], "gaps") if metadata["means"] else None,
            "What the chosen have more of",
            "Mean of each indicator over the chosen less that over the pool, in spreads of the pool.",
        ),
        (
            left_out(metadata["ways"], metadata["labels"], "leftout") if metadata.get("ways") else None,
            "Labels of subsets left out",
            "Each point is a labelled subset, predicted from the others. Knowing is points along the line; a flat "
            "cloud says no more than the mean does.",
        ),
        (
            histogram(np.asarray(score, dtype=np.float64), np.asarray(kept), "scores"),
            "Scores",
            "Where the two overlap, a cluster's share or a near-duplicate decided, not the score.",
        ),
    ]
    return [{"svg": svg, "title": title, "says": caption} for svg, title, caption in drawn if svg is not None]


def _provenance(metadata: dict[str, Any]) -> list[tuple[str, str]]:
    entries = [("commit", metadata.get("commit") or "none"), ("fingerprint", metadata.get("fingerprint"))]
    entries += [("mode", metadata.get("mode")), *(metadata.get("versions") or {}).items()]
    return [(str(name), str(value)) for name, value in entries if value not in ("", None)]
