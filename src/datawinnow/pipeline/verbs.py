"""The verbs over a run folder: record, score, select."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datawinnow.core.budget import budget_of
from datawinnow.core.card import card_of
from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.data.fingerprint import fingerprint_of
from datawinnow.pipeline.about import Model, describe, ids_of, network, read_labels
from datawinnow.pipeline.evidence import moments, notes
from datawinnow.pipeline.folder import RunFolder
from datawinnow.pipeline.gallery import has_pictures, write_gallery
from datawinnow.pipeline.methods import (
    Arrays,
    Method,
    check_needs,
    compute_score,
    epochs_charged,
    epochs_read,
    method_of,
    name_of,
    needs_of,
    score_of,
    select_by_method,
    settings_of,
    with_labels,
)
from datawinnow.pipeline.recording import begin, record
from datawinnow.pipeline.tables import read_selection, write_selection


def score(
    folder: RunFolder,
    train: Any,
    names: Sequence[str | Callable[..., Tensor]],
    *,
    epochs: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Compute scores from the recording and add them to ``scores.parquet``.

    Args:
        folder: a recorded run.
        train: its dataset.
        names: scores by name, or callables.
        epochs: read only the first so many recorded epochs.
        options: keyword arguments of the score (with one score only).

    Returns:
        name -> (n,).

    Raises:
        MissingArrayError: a score needs an array that was not recorded.
        ArgumentError: no score, unknown ones, options that a score does not have, or options for several scores.
        RunError: not recorded to the end, or another dataset.
    """
    settings = dict(options or {})
    if not names or (settings and len(names) > 1):
        raise ArgumentError(
            f"options {settings} are for one score, but there are {len(names)}: score them one at a time"
            if names
            else "name at least one score, for example score(run, train, ['dual'])"
        )
    _same_dataset(folder, train)
    recorded = folder.arrays(epochs)
    labels = read_labels(train)
    arrays = with_labels(recorded, labels)
    start = time.perf_counter()
    found: dict[str, Tensor] = {}
    about: dict[str, dict[str, Any]] = {}
    for name in names:
        own = card_of(score_of(name))
        found[own.key] = compute_score(name, arrays, **settings)
        read = epochs_read(name, epochs or folder.epochs, **settings)
        about[own.key] = _about_score(name, settings, read, folder.n)
    cost = Cost(time.perf_counter() - start)
    folder.write_scores(ids_of(train), labels, found, about, cost)
    folder.update(cost={"score": cost.as_dict()}, status={"score": "done"})
    return found


def _about_score(name: str | Callable[..., Tensor], settings: Mapping[str, Any], read: int, n: int) -> dict[str, Any]:
    own = card_of(score_of(name))
    return {
        "method": own.key,
        "label": own.name,
        "options": _plain({**own.options, **settings}),
        "end": own.end,
        "source": own.source,
        "charge": read * n,
        "epochs": read,
    }


def select(
    folder: RunFolder,
    train: Any,
    *,
    keep: float,
    method: str | Method | None = None,
    seed: int = 0,
    epochs: int | None = None,
    out: Path | None = None,
    pictures: bool = True,
    **parts: Any,
) -> Selection:
    """Choose what to keep and write ``selection.parquet`` and the gallery.

    Args:
        folder: a recorded run; for a method that needs no recording, any run.
        train: its dataset.
        keep: fraction kept, in (0, 1].
        method: a method's name, or None to put one together from ``parts`` (DUAL with Beta sampling if there are none).
        seed: of selectors that draw.
        epochs: read only the first so many recorded epochs.
        out: another place for the selection file; the run then keeps the selection and the gallery that it had.
        pictures: whether to write the gallery.
        parts: ``score``, ``select_by``, ``options``, ``score_options``, ``per_class`` of `method_of`.

    Raises:
        ArgumentError: keep out of range, unknown names.
        MissingArrayError: an array is missing.
        RunError: not recorded to the end, or another dataset.
    """
    budget_of(keep, folder.n)
    chosen = method_of(method, **parts)
    check_needs(chosen)
    _same_dataset(folder, train)
    blank = not needs_of(chosen) and folder.facts["status"].get("record") != "done"
    arrays: Mapping[str, Tensor] = Arrays(_nothing, ()) if blank else folder.arrays(epochs)
    labels = read_labels(train)
    values = _scored(folder, train, chosen, arrays, labels, epochs)
    start = time.perf_counter()
    generator = stream(seed, "select", chosen.key, f"{keep:g}")
    selection, _ = select_by_method(chosen, arrays, labels, keep=keep, generator=generator, score=values)
    cost = Cost(time.perf_counter() - start)
    p_mean, p_std = moments(arrays["p_label"]) if "p_label" in arrays else (torch.full((folder.n,), torch.nan),) * 2
    lines = [""] * folder.n if blank else notes(arrays, p_mean, p_std)
    meta = _about_selection(folder, chosen, keep, seed, epochs, len(selection))
    rows: dict[str, Any] = {"ids": ids_of(train), "labels": labels, "notes": lines, "p_mean": p_mean, "p_std": p_std}
    made = {**meta, **folder.made_by("select", cost)}
    write_selection(out or folder.path / "selection.parquet", selection, meta=made, **rows)
    if out is not None:
        return selection
    if folder.facts["options"].get("select") != meta:  # what stands there is about another selection
        folder.forget("check.json", "gallery.parquet")
    folder.update(cost={"select": cost.as_dict()}, options={"select": meta}, status={"select": "done"})
    if pictures and has_pictures(folder.facts):
        write_gallery(folder, train, selection, arrays, p_mean, lines, seed)
    return selection


def _scored(
    folder: RunFolder, train: Any, chosen: Method, arrays: Mapping[str, Tensor], labels: Tensor, epochs: int | None
) -> Tensor | None:
    """The method's score, computed, written to ``scores.parquet`` and charged; None if it has none."""
    if chosen.score is None:
        return None
    start = time.perf_counter()
    values = compute_score(chosen.score, with_labels(arrays, labels), **chosen.score_options)
    folder.charge("score", Cost(time.perf_counter() - start))
    read = epochs_read(chosen.score, epochs or folder.epochs, **chosen.score_options)
    about = _about_score(chosen.score, chosen.score_options, read, folder.n)
    folder.write_scores(ids_of(train), labels, {about["method"]: values}, {about["method"]: about})
    folder.update(status={"score": "done"})
    return values


def _about_selection(
    folder: RunFolder, chosen: Method, keep: float, seed: int, epochs: int | None, budget: int
) -> dict[str, Any]:
    charged = epochs_charged(chosen, epochs or folder.epochs)
    return {
        "method": chosen.key,
        "label": chosen.label,
        "options": _plain(settings_of(chosen, keep)),
        "score": None if chosen.score is None else name_of(chosen.score),
        "score_options": _plain(chosen.score_options),
        "per_class": chosen.per_class,
        "keep": keep,
        "seed": seed,
        "budget": budget,
        "n": folder.n,
        "fingerprint": folder.facts["dataset"]["fingerprint"],
        "dataset": folder.facts["dataset"]["name"],
        "epochs": charged,
        "charge": charged * folder.n,
        "load": dict(folder.facts["options"].get("load", {})),  # how its dataset was loaded, for `train --select`
    }


def selected(folder: RunFolder) -> tuple[Selection, dict[str, Any]]:
    """The run's selection.

    Raises:
        RunError: there is none, or it is of another dataset.
    """
    about = folder.facts["dataset"]
    return read_selection(folder.path, fingerprint=about["fingerprint"], name=about["name"])


def _nothing(name: str) -> Tensor:
    raise KeyError(name)


def _same_dataset(folder: RunFolder, train: Any) -> None:
    folder.check_dataset(fingerprint_of(train), getattr(train, "name", type(train).__name__))


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v if isinstance(v, (int, float, str, bool, type(None))) else str(v) for k, v in options.items()}


__all__ = ["Model", "begin", "describe", "ids_of", "network", "record", "score", "select", "selected"]
