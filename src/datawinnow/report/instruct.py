"""The page of ``datawinnow instruct``: which pairs were chosen and why, and how far the labels support it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datawinnow.core.artifact_schemas import InstructFile
from datawinnow.core.artifacts import read_json, read_table
from datawinnow.core.errors import RunError
from datawinnow.core.reason import reason_sentence
from datawinnow.core.row_checks import CHECKSUM, POSITION, in_dataset_order
from datawinnow.core.verdict import OUTCOME_WORDS
from datawinnow.report import words
from datawinnow.report.instruct_plots import plot_gaps, plot_predictions
from datawinnow.report.run_plots import histogram

INSTRUCT_FILE, SELECTION_FILE = "instruct.json", "selection.parquet"
GALLERIES = {
    "first": ("Kept first", "The highest scores among the kept pairs, in the order chosen."),
    "last": ("Kept last", "The lowest scores among the kept pairs."),
    "missed": (
        "Just missed",
        "The highest scores among the dropped pairs: their cluster's share, or the budget, was used up.",
    ),
    "lowest": ("Lowest scores", "The lowest scores of all pairs."),
}
MAX_CLUSTER_LINES = 40
"""With more clusters the table is left out."""


def is_instruct(folder: Path) -> bool:
    """Whether ``datawinnow instruct`` wrote this folder."""
    return (folder / INSTRUCT_FILE).is_file()


def instruct_context(folder: Path) -> dict[str, Any]:
    """The values of the template.

    Raises:
        RunError: a file is missing, truncated, newer, or the two are of different choices.
    """
    metadata = read_json(folder / INSTRUCT_FILE, schema=InstructFile)
    table, meta = read_table(folder / SELECTION_FILE, "datawinnow instruct PAIRS")
    # A run that was killed between the two files leaves those of different choices.
    if meta.get("fingerprint") != metadata.get("fingerprint") or len(table) != metadata["n"]:
        raise RunError(
            f"{folder / SELECTION_FILE} and {folder / INSTRUCT_FILE} belong to different pairs; run again: datawinnow "
            "instruct PAIRS"
        )
    if POSITION in table.column_names or CHECKSUM in table.column_names:
        table = in_dataset_order(table, folder / SELECTION_FILE, metadata["n"], "run again: datawinnow instruct PAIRS")
    clusters = metadata.get("by_cluster") or []
    return {
        "title": str(metadata.get("name", folder.name)),
        "about": _description(metadata),
        "lead": f"{metadata['label'][:1].upper()}{metadata['label'][1:]} keeps {metadata['budget']:,} of "
        f"{metadata['n']:,} pairs "
        f"({words.share(metadata['budget'] / metadata['n'])}).",
        "summary": [str(line) for line in metadata.get("summary", [])] or _unchecked(metadata),
        "has_no_labels": metadata.get("labels") is None,
        "problems": [*metadata.get("problems", []), *_missing_lines(metadata)],
        "means": [_mean_row(row) for row in metadata["means"]],
        "scorers": [_scorer_row(row) for row in metadata.get("scorers") or []],
        "agreement": _agreement_rows(metadata["agreement"]),
        "clusters": clusters if len(clusters) <= MAX_CLUSTER_LINES else [],
        "figures": _instruct_figures(metadata, table),
        "galleries": [
            {"title": title, "caption": caption, "texts": [_with_reason(text) for text in metadata["gallery"][key]]}
            for key, (title, caption) in GALLERIES.items()
            if metadata["gallery"].get(key)
        ],
        "reasons": list(metadata["reasons"].items()),
        "made": _instruct_provenance(metadata),
    }


def _with_reason(text: dict[str, Any]) -> dict[str, Any]:
    return {**text, "reason": reason_sentence(str(text["reason"]))}


def _unchecked(metadata: dict[str, Any]) -> list[str]:
    """The summary of a run with ``--no-check``."""
    if not metadata.get("labels"):
        return []
    return [
        f"The scorer was not validated on the {len(metadata['labels'])} labels (--no-check): without that option it "
        "predicts each labelled subset from the others."
    ]


def _description(metadata: dict[str, Any]) -> str:
    phrases = [f"{metadata.get('dataset')}: {metadata['n']:,} pairs", str(metadata.get("clusters"))]
    details = metadata.get("details") or {}
    if "parameters" in details:
        labels = len(metadata.get("labels") or [])
        phrases.append(f"a network of {details['parameters']:,} weights, trained on {labels} labelled subsets")
    if metadata.get("duplicates") is not None:
        phrases.append(f"without near-duplicates within {metadata['duplicates']:g}")
    return "; ".join(phrases) + "."


def _missing_lines(metadata: dict[str, Any]) -> list[str]:
    return [f"{words.many(count, 'pair')} without {name}" for name, count in (metadata.get("missing") or {}).items()]


def _mean_row(row: dict[str, Any]) -> dict[str, str]:
    return {
        "name": str(row["name"]),
        "chosen": f"{row['chosen']:.4g}",
        "pool": f"{row['pool']:.4g}",
        "spread": f"{row['spread']:.3g}",
        "gap": f"{row['gap']:+.2f}",
    }


def _with_half_width(value: dict[str, Any] | None, *, sign: bool = False) -> str:
    if value is None:
        return words.NONE
    mean = f"{value['mean']:+.3f}" if sign else f"{value['mean']:.3f}"
    return mean if value["half"] is None else f"{mean} ± {value['half']:.3f}"


def _scorer_row(row: dict[str, Any]) -> dict[str, str]:
    correlation = row.get("correlation")
    return {
        "name": str(row["name"]),
        "error": _with_half_width(row["error"]),
        "difference": _with_half_width(row["difference"], sign=True),
        "outcome": row["outcome"],
        "outcome_words": OUTCOME_WORDS.get(row["outcome"], ""),
        "correlation": words.NONE if correlation is None else f"{correlation:+.2f}",
    }


def _agreement_rows(agreement: dict[str, Any]) -> list[dict[str, str]]:
    """Lowest, mean and highest over pairs of seeds; none with one seed."""
    rows = []
    for key, name in (
        ("correlation_between", "correlation of scores"),
        ("overlap_between", "fraction of chosen pairs in common"),
    ):
        if key in agreement:
            values = {end: f"{agreement[key][end]:.2f}" for end in ("low", "mean", "high")}
            rows.append({"name": name, **values})
    return rows


def _instruct_figures(metadata: dict[str, Any], table: Any) -> list[dict[str, Any]]:
    score = table.column("score").to_numpy()
    kept = table.column("kept").to_numpy(zero_copy_only=False)
    figures = [
        (
            plot_gaps(metadata["means"], "gaps") if metadata["means"] else None,
            "Indicators of the chosen pairs",
            "Mean of each indicator over the chosen pairs minus its mean over all pairs, in standard deviations.",
        ),
        (
            plot_predictions(metadata["scorers"], metadata["labels"], "leftout") if metadata.get("scorers") else None,
            "Predicted labels of subsets",
            "Each point is a labelled subset, predicted from the others. A good scorer puts its points along the "
            "diagonal; a flat cloud is no better than the mean of the labels.",
        ),
        (
            histogram(np.asarray(score, dtype=np.float64), np.asarray(kept), "scores"),
            "Scores",
            "Where kept and dropped pairs overlap, the cluster's share or a near-duplicate made the difference.",
        ),
    ]
    return [{"svg": svg, "title": title, "caption": caption} for svg, title, caption in figures if svg is not None]


def _instruct_provenance(metadata: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("commit", metadata.get("commit") or "none"), ("fingerprint", metadata.get("fingerprint"))]
    rows += [("mode", metadata.get("mode")), *(metadata.get("versions") or {}).items()]
    return [(str(name), str(value)) for name, value in rows if value not in ("", None)]
