"""The page of a run folder: the selection, its reasons and its cost. Missing files are named with their command."""

from __future__ import annotations

import base64
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from datawinnow.core.artifact_schemas import CheckFile, RunFile, Selected
from datawinnow.core.artifacts import check_content, read_json, read_table
from datawinnow.core.errors import RunError
from datawinnow.core.reason import reason_sentence
from datawinnow.core.result_rows import ROWS_FILE
from datawinnow.core.row_checks import CHECKSUM, POSITION, in_dataset_order
from datawinnow.core.selection_arguments import selection_arguments
from datawinnow.core.verdict import FULL, Comparison, payback
from datawinnow.report import patches, run_plots, training, words
from datawinnow.report import selection_history as chosen
from datawinnow.report.correlations import rank_correlations
from datawinnow.report.results import rows
from datawinnow.report.table import table

GROUPS = {
    "kept": ("Kept", "Random examples among the kept."),
    "dropped": ("Dropped", "Random examples among the dropped."),
    "hardest": (
        "Hardest",
        "Lowest probability of the label among those that the network predicts correctly in the end.",
    ),
    "doubtful": ("Most doubtful", "The network predicts another class with confidence: look for wrong labels here."),
}
MAX_CLASS_ROWS = 100
SCORING_STAGES = ("record", "probe", "subsets")
CHECK_ROWS = Path("check") / ROWS_FILE
"""Result rows of ``prune --check``."""


def run_context(folder: Path) -> dict[str, Any]:
    """The values of the template for a run.

    Raises:
        RunError: a file is truncated, newer, or of another dataset.
    """
    metadata = read_json(folder / "run.json", schema=RunFile)
    name, trained = str(metadata.get("name", folder.name)), training.trained(metadata)
    missing: list[str] = []
    lacks: list[str] = [] if trained else missing  # a training has neither scores nor a selection to come
    select_verb = f"datawinnow select {folder}{_select_words(metadata)}"
    scores, _ = _table(folder, "scores.parquet", metadata, lacks, f"datawinnow score {folder} --score dual", "scores")
    selection, meta = _table(folder, "selection.parquet", metadata, lacks, select_verb, "selection")
    noun = "texts" if "vocabulary" in metadata["dataset"] else "images"
    gallery, _ = _table(folder, "gallery.parquet", metadata, lacks, select_verb, noun)
    verb = f"datawinnow {'train' if trained else 'record'} DATA"
    history, _ = _table(folder, "history.parquet", metadata, missing, verb, "training history")
    check, check_table = _check_result(folder, metadata)
    return {
        "title": name,
        "about": run_description(metadata),
        "notes": [str(note) for note in metadata["dataset"].get("notes", [])],
        "lead": training.lead(metadata, history) if trained else _selection_lead(meta, selection),
        "warning": _warning(metadata, selection),
        "verdict": check.get("verdict") or check.get("sentence"),
        "verdict_details": str(check.get("sentence", "")).removeprefix(str(check.get("verdict", ""))).strip(),
        "check_cells": check_table,
        "ledger": _ledger(metadata),
        "pays": pays_sentence(metadata, meta, check),
        "figures": [
            *_run_figures(scores, selection),
            *training.figures(history, bool((metadata["options"].get("train") or {}).get("policy"))),
        ],
        "trained": trained,
        "chosen": chosen.section(folder, metadata) if trained else None,
        "patches": patches.patches_section(folder, metadata) if trained else None,
        "agreement": _agreement(scores),
        "reasons": _reasons(selection),
        "classes": _kept_by_class(metadata, selection),
        "galleries": _galleries(gallery),
        "missing": missing,
        "made": _provenance(metadata),
        "status": {str(k): str(v) for k, v in metadata["status"].items()},
    }


def _select_words(metadata: dict[str, Any]) -> str:
    """`` --keep 0.5 --method el2n``, as the run selected; an example where nothing was selected yet."""
    arguments = selection_arguments(metadata["options"].get("select") or {}) or {"keep": 0.3}
    flags = {"select_by": "select", "per_class": "per-class"}
    return "".join(
        f" --{flags.get(name, name)}" + ("" if value is True else f" {value}") for name, value in arguments.items()
    )


def _table(
    folder: Path, name: str, metadata: dict[str, Any], missing: list[str], verb: str, noun: str
) -> tuple[pa.Table | None, dict[str, Any]]:
    path = folder / name
    if not path.exists():
        missing.append(f"No {noun} yet; make them with: {verb}" if noun[-1] == "s" else f"No {noun} yet: {verb}")
        return None, {}
    columns, meta = read_table(path, verb)
    _same_dataset(meta, metadata, path, verb)
    if name == "selection.parquet":
        check_content(meta, Selected, path, remedy=f"make it again with: {verb}")
    if POSITION in columns.column_names or CHECKSUM in columns.column_names:
        columns = in_dataset_order(columns, path, int(metadata["dataset"].get("n", len(columns))), verb)
    return columns, meta


def _same_dataset(meta: dict[str, Any], metadata: dict[str, Any], path: Path, verb: str) -> None:
    fingerprint = metadata["dataset"].get("fingerprint")
    if meta.get("fingerprint", fingerprint) != fingerprint:
        raise RunError(
            f"{path} belongs to a different dataset (fingerprint {meta['fingerprint']}) than the run ({fingerprint}): "
            f"{verb}"
        )


def run_description(metadata: dict[str, Any]) -> str:
    """Dataset, model and recording of a run in one line."""
    data, model = metadata["dataset"], metadata.get("model") or {}
    shape = "x".join(str(side) for side in data.get("shape", []))
    shape += " tokens" if "vocabulary" in data else ""
    recorded = metadata["options"].get("record") or {}
    phrases = [f"{data.get('name')}: {data.get('n', 0):,} examples ({shape}), {len(data.get('classes', []))} classes"]
    if model.get("name"):
        phrases.append(f"network {model['name']} with {model.get('parameters', 0):,} parameters")
    ended = metadata.get("recorded") or {}
    if ended and ended["epochs"] < recorded["epochs"]:
        phrases.append(
            f"{words.many(ended['epochs'], 'epoch')} recorded of up to {recorded['epochs']}, "
            "until the ranking had settled"
        )
    elif recorded.get("epochs"):
        phrases.append(f"{words.many(recorded['epochs'], 'epoch')} recorded")
    return "; ".join(phrases) + "."


def _selection_lead(meta: dict[str, Any], selection: pa.Table | None) -> str:
    if selection is None:
        return "Nothing has been selected yet."
    kept = int(np.count_nonzero(selection.column("kept").to_numpy(zero_copy_only=False)))
    return (
        f"{meta.get('label', meta.get('method', 'The method'))} keeps {kept:,} of {len(selection):,} examples "
        f"(keep {meta.get('keep', kept / max(1, len(selection))):g})."
    )


def _warning(metadata: dict[str, Any], selection: pa.Table | None) -> str:
    near_chance = (metadata.get("result") or {}).get("near_chance")
    return ". ".join(sentence for sentence in (near_chance, _lost_classes(metadata, selection)) if sentence)


def _lost_classes(metadata: dict[str, Any], selection: pa.Table | None) -> str | None:
    if selection is None:
        return None
    labels = selection.column("label").to_numpy()
    kept = selection.column("kept").to_numpy(zero_copy_only=False)
    lost = sorted(set(labels[labels >= 0].tolist()) - set(labels[kept].tolist()))
    if not lost or bool((labels < 0).any()):  # targets that are no classes
        return None
    names = metadata["dataset"].get("classes", [])
    shown = ", ".join(str(names[i]) if i < len(names) else str(i) for i in lost[:5]) + (
        ", ..." if len(lost) > 5 else ""
    )
    return f"No example is kept of {len(lost)} of {len(set(labels.tolist()))} classes ({shown})"


def _check_result(folder: Path, metadata: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The content of ``check.json`` and the cells of its table; empty and None without a check."""
    if not (folder / "check.json").exists():
        return {}, None
    answer = read_json(folder / "check.json", schema=CheckFile)
    _same_dataset(
        answer,
        metadata,
        folder / "check.json",
        f"check again with: datawinnow prune DATA{_select_words(metadata)} --check",
    )
    file = folder / CHECK_ROWS
    return answer, table(rows(file)).cells if file.is_file() else None


def _ledger(metadata: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    lines = []
    for stage, cost in metadata["cost"].items():
        passed = f"{words.count(cost['backward'])} trained on"
        if cost.get("forward"):
            passed += f", {words.count(cost['forward'])} forward only"
        if not cost["backward"] and not cost.get("forward"):
            passed = words.NONE
        lines.append((str(stage), words.seconds(cost["seconds"]), passed, words.flops(cost["flops"])))
    return lines


def pays_sentence(metadata: dict[str, Any], meta: dict[str, Any], check: dict[str, Any] | None = None) -> str | None:
    """When scoring is paid back by the training that is planned, and what it loses; None where nothing is known."""
    options = metadata["options"]
    recorded = options.get("record") or {}
    check = check or {}
    epochs = (check.get("settings") or {}).get("epochs") or (options.get("prune") or {}).get("train_epochs")
    epochs = epochs or recorded.get("schedule_epochs") or recorded.get("epochs")
    if not meta or not epochs:
        return None
    if not meta.get("charge"):
        return "This method reads no recording, so there is nothing to pay back."
    n = metadata["dataset"]["n"]
    # all that was passed for scores, read or not
    spent = [metadata["cost"].get(stage) or {} for stage in SCORING_STAGES]
    to_full = (check.get("comparisons") or {}).get(FULL)
    return payback(
        # a forward pass alone counts a third of a trained example
        sum(float(cost.get("backward", 0)) + float(cost.get("forward", 0)) / 3 for cost in spent),
        n=n,
        kept=int(meta.get("budget") or round(float(meta["keep"]) * n)),
        epochs=epochs,
        to_full=Comparison(**to_full) if to_full else None,
    )


def _run_figures(scores: pa.Table | None, selection: pa.Table | None) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = []
    kept = None if selection is None else selection.column("kept").to_numpy(zero_copy_only=False)
    if selection is not None and kept is not None and "p_mean" in selection.column_names:
        drawn = run_plots.data_map(selection.column("p_mean").to_numpy(), selection.column("p_std").to_numpy(), kept)
        if drawn is not None:
            figures.append(
                {
                    "svg": drawn,
                    "title": "The data map",
                    "caption": "Each point is an example: how probable its label "
                    "was over the recorded epochs (right: easy) and how much that changed (top: uncertain).",
                }
            )
    if scores is not None:
        for field in list(scores.schema)[2:]:
            metadata = {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}
            values = scores.column(field.name).to_numpy()
            mask = kept if kept is not None and len(kept) == len(values) else None
            drawn = run_plots.histogram(values, mask, f"hist-{len(figures)}")
            if drawn is not None:
                end = {"high": "high", "low": "low", "middle": "middling"}.get(metadata.get("end", ""), "")
                figures.append(
                    {
                        "svg": drawn,
                        "title": f"Score: {metadata.get('label') or field.name}",
                        "caption": (f"Its paper keeps {end} scores. " if end else "") + str(metadata.get("source", "")),
                    }
                )
    return figures


def _agreement(scores: pa.Table | None) -> dict[str, Any] | None:
    correlations = None if scores is None else rank_correlations(scores)
    if correlations is None:
        return None
    drawn = run_plots.heat_map(correlations)
    wide = round(float(drawn.split('viewBox="', 1)[1].split()[2]))  # in points, as its text is
    return {
        "svg": drawn,
        "wide": wide,
        "caption": correlations.caption,
        "names": correlations.names,
        "rows": correlations.rows,
    }


def _reasons(selection: pa.Table | None) -> list[tuple[str, int]]:
    if selection is None:
        return []
    counts = Counter(str(word) for word in selection.column("reason").to_pylist())
    return [(reason_sentence(word), count) for word, count in counts.most_common()]


def _kept_by_class(metadata: dict[str, Any], selection: pa.Table | None) -> list[dict[str, Any]]:
    if selection is None:
        return []
    labels = selection.column("label").to_numpy()
    kept = selection.column("kept").to_numpy(zero_copy_only=False)
    names = [str(c) for c in metadata["dataset"].get("classes", [])]
    lines = []
    for label in np.unique(labels)[:MAX_CLASS_ROWS]:
        of = labels == label
        name = names[label] if label < len(names) else str(label)
        share = float(kept[of].mean())
        lines.append({"name": name, "kept": int(kept[of].sum()), "of": int(of.sum()), "share": 100 * share})
    return lines


def _galleries(gallery: pa.Table | None) -> list[dict[str, Any]]:
    if gallery is None:
        return []
    images = gallery.to_pylist()
    return [
        {
            "title": title,
            "caption": caption,
            "images": [
                {**p, **_gallery_content(p), "reason": reason_sentence(str(p["reason"]))}
                for p in images
                if p["group"] == group
            ],
        }
        for group, (title, caption) in GROUPS.items()
        if any(p["group"] == group for p in images)
    ]


SMALL_SIDE = 64
"""Pixels below which an image is shown with its pixels as squares, not smoothed."""


def _gallery_content(row: dict[str, Any]) -> dict[str, Any]:
    """An example of the gallery: its text, or its image as an address."""
    if "text" in row:
        return {"text": str(row["text"])}
    # width and height stand at a fixed place of a PNG
    is_small = all(int.from_bytes(row["png"][k : k + 4]) < SMALL_SIDE for k in (16, 20))
    return {"src": "data:image/png;base64," + base64.b64encode(row["png"]).decode(), "is_small": is_small}


def _provenance(metadata: dict[str, Any]) -> list[tuple[str, str]]:
    entries = [(key, metadata.get(key)) for key in ("created", "seed", "commit", "device", "threads")]
    entries += [
        ("dataset fingerprint", metadata["dataset"].get("fingerprint")),
        *(metadata.get("versions") or {}).items(),
    ]
    return [(str(k), str(v)) for k, v in entries if v not in (None, "")]
