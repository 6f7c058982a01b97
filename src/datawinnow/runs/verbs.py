"""The verbs over a run folder: record, score, select."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datawinnow.core.arrays import take
from datawinnow.core.budget import budget_of
from datawinnow.core.card import Card, card_of
from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.data.fingerprint import fingerprint_of
from datawinnow.methods.method import (
    Arrays,
    Method,
    cards_of,
    check_needs,
    compute_score,
    epochs_charged,
    is_probed,
    method_of,
    name_of,
    needs_of,
    probe_options_of,
    reads_probe,
    score_by_method,
    score_of,
    select_by_method,
    settings_of,
    split_options,
    with_labels,
)
from datawinnow.runs.dataset_info import Model, describe, ids_of, network, read_labels
from datawinnow.runs.evidence import moments, notes
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.gallery import is_shown, write_gallery
from datawinnow.runs.probe_arrays import Probing, probing_of
from datawinnow.runs.record import begin, record
from datawinnow.runs.selection_file import read_selection, write_selection
from datawinnow.runs.subset_runs import ARRAYS as SUBSETS
from datawinnow.runs.subset_runs import Subsets, subsets_for


def score(
    folder: RunFolder,
    train: Any,
    names: Sequence[str | Callable[..., Tensor]],
    *,
    epochs: int | None = None,
    options: Mapping[str, Any] | None = None,
    subset_runs: int | None = None,
    **probe_kwargs: Any,
) -> dict[str, Tensor]:
    """Compute scores from the recording, and from what its network says, and add them to ``scores.parquet``.

    Args:
        folder: a recorded run.
        train: its dataset.
        names: scores by name, or callables.
        epochs: read only the first so many recorded epochs.
        options: keyword arguments of the score, and of the probe that makes its arrays (with one score only).
        subset_runs: networks to train on random subsets, for memorisation; those that are there unless told.
        probe_kwargs: ``model``, ``val``, ``progress`` and ``log`` of `probing_of`, for scores that look at the network.

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
    passed = split_options(names[0], settings)[1] if settings else {}
    probing = probing_of(folder, train, options=passed, **probe_kwargs)
    cards = [card_of(score_of(name)) for name in names]
    needs = tuple(need for own in cards for need in own.needs)
    arrays = with_labels(folder.arrays(epochs, probing, needs), read_labels(train))
    _check_there(arrays, cards, [need for need in needs if need not in SUBSETS])
    subsets = subsets_for(folder, train, cards, subset_runs, **probe_kwargs)
    arrays = _with_subsets(arrays, subsets)
    seconds, found, about = 0.0, {}, {}
    for name, own in zip(names, cards, strict=True):
        looked = _look(folder, probing, own.needs, subsets)
        start = time.perf_counter()
        found[own.key] = compute_score(name, arrays, **settings)
        seconds += time.perf_counter() - start
        only = Method(own.key, own.name, name, "top", settings)
        read = epochs_charged(only, folder.epochs if looked else epochs or folder.epochs)
        about[own.key] = _about_score(name, settings, read, folder.n, looked)
    cost = Cost(seconds)
    folder.write_scores(ids_of(train), arrays["labels"], found, about, cost)
    folder.update(cost={"score": cost.as_dict()}, status={"score": "done"})
    return found


def _check_there(arrays: Mapping[str, Tensor], cards: Sequence[Card], needs: Sequence[str]) -> None:
    """Refuse, before the network is looked at, what needs an array that is not there.

    Raises:
        MissingArrayError: naming it and the verb that makes it.
    """
    names = dict.fromkeys(arrays)
    for own in cards:
        for need in own.needs:
            if need in needs:
                take(names, need, method=own.key)


def _with_subsets(arrays: Mapping[str, Tensor], subsets: Subsets | None) -> Arrays:
    more = subsets.arrays if subsets is not None else {}
    return Arrays(lambda name: more[name] if name in more else arrays[name], (*arrays, *more))


def _look(folder: RunFolder, probing: Probing, needs: Sequence[str], subsets: Subsets | None = None) -> Cost | None:
    """What the look at the network (done now if not before) or the subset runs cost; None if ``needs`` take neither."""
    if subsets is not None and any(need in SUBSETS for need in needs):
        return subsets.cost
    if not any(is_probed(need) for need in needs):
        return None
    cost = probing.make(tuple(needs))
    folder.charge("probe", probing.total())
    return cost


def _about_score(
    name: str | Callable[..., Tensor], settings: Mapping[str, Any], read: int, n: int, looked: Cost | None = None
) -> dict[str, Any]:
    own = card_of(score_of(name))
    return {
        "method": own.key,
        "label": own.name,
        "options": _plain({**own.options, **settings}),
        "end": own.end,
        "source": own.source,
        "charge": _charge(read, n, looked),
        "epochs": read,
    }


def _charge(epochs: int, n: int, looked: Cost | None) -> int:
    """Examples passed: of the recording, and of the look at its network."""
    return epochs * n + (round(looked.passes) if looked else 0)


def select(
    folder: RunFolder,
    train: Any,
    *,
    keep: float,
    method: str | Method | None = None,
    seed: int = 0,
    epochs: int | None = None,
    out: Path | None = None,
    gallery: bool = True,
    probe_kwargs: Mapping[str, Any] | None = None,
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
        gallery: whether to write the gallery, of images or texts.
        probe_kwargs: ``model``, ``val``, ``progress`` and ``log`` of `probing_of`, for methods that probe the network.
        parts: ``score``, ``select_by``, ``options``, ``score_options``, ``per_class`` of `method_of`.

    Raises:
        ArgumentError: keep out of range, unknown names.
        MissingArrayError: an array is missing.
        RunError: not recorded to the end, or another dataset.
    """
    budget_of(keep, folder.n)
    chosen = method_of(method, **parts).at(keep)
    check_needs(chosen, also=SUBSETS)
    _same_dataset(folder, train)
    needs, cards, probe_kwargs = needs_of(chosen), cards_of(chosen), probe_kwargs or {}
    subsets = subsets_for(folder, train, cards, **probe_kwargs)
    blank = not epochs_charged(chosen, 1) and folder.metadata["status"].get("record") != "done"
    probing = probing_of(folder, train, options=probe_options_of(chosen), **probe_kwargs)
    recorded: Mapping[str, Tensor] = Arrays(_nothing, ()) if blank else folder.arrays(epochs)
    given = Arrays(probing.__getitem__, needs) if blank else folder.arrays(epochs, probing, needs)
    arrays = _with_subsets(given, subsets)
    _check_there(arrays, cards, needs)
    labels = read_labels(train)
    looked = _look(folder, probing, [need for own in cards for need in own.needs], subsets)
    values = _scored(folder, train, chosen, arrays, labels, epochs, looked)
    start = time.perf_counter()
    generator = stream(seed, "select", chosen.key, f"{keep:g}")
    selection, _ = select_by_method(chosen, arrays, labels, keep=keep, generator=generator, score=values)
    cost = Cost(time.perf_counter() - start)
    unknown = torch.full((folder.n,), torch.nan)
    p_mean, p_std = moments(recorded["p_label"]) if "p_label" in recorded else (unknown, unknown)
    lines = [""] * folder.n if blank else notes(recorded, p_mean, p_std)
    meta = _about_selection(folder, chosen, keep, seed, epochs, len(selection), looked)
    rows: dict[str, Any] = {"ids": ids_of(train), "labels": labels, "notes": lines, "p_mean": p_mean, "p_std": p_std}
    made = {**meta, **folder.made_by("select", cost)}
    write_selection(out or folder.path / "selection.parquet", selection, meta=made, **rows)
    if out is not None:
        return selection
    if folder.metadata["options"].get("select") != meta:  # what stands there is about another selection
        folder.forget("check.json", "gallery.parquet")
    folder.update(cost={"select": cost.as_dict()}, options={"select": meta}, status={"select": "done"})
    if gallery and is_shown(folder.metadata):
        write_gallery(folder, train, selection, recorded, p_mean, lines, seed)
    return selection


def _scored(
    folder: RunFolder,
    train: Any,
    chosen: Method,
    arrays: Mapping[str, Tensor],
    labels: Tensor,
    epochs: int | None,
    looked: Cost | None,
) -> Tensor | None:
    """The method's score, computed, written to ``scores.parquet`` and charged; None if it has none."""
    if chosen.score is None:
        return None
    start = time.perf_counter()
    values = score_by_method(chosen, with_labels(arrays, labels))
    folder.charge("score", Cost(time.perf_counter() - start))
    only = Method(chosen.key, chosen.label, chosen.score, "top", chosen.score_options, epochs=chosen.epochs)
    if not any(is_probed(need) or need in SUBSETS for need in card_of(score_of(chosen.score)).needs):
        looked = None  # it was for the selector
    read = epochs_charged(only, folder.epochs if looked else epochs or folder.epochs)
    about = _about_score(chosen.score, chosen.score_options, read, folder.n, looked)
    folder.write_scores(ids_of(train), labels, {about["method"]: values}, {about["method"]: about})
    folder.update(status={"score": "done"})
    return values


def _about_selection(
    folder: RunFolder, chosen: Method, keep: float, seed: int, epochs: int | None, budget: int, looked: Cost | None
) -> dict[str, Any]:
    charged = epochs_charged(chosen, folder.epochs if reads_probe(chosen) else epochs or folder.epochs)
    cut = {key: value for key, value in (("cutoff", chosen.cutoff), ("embedding", chosen.embedding)) if value}
    return {
        "method": chosen.key,
        "label": chosen.label,
        "options": _plain({**settings_of(chosen, keep), **cut}),
        "score": None if chosen.score is None else name_of(chosen.score),
        "score_options": _plain(chosen.score_options),
        "per_class": chosen.per_class,
        "keep": keep,
        "seed": seed,
        "budget": budget,
        "n": folder.n,
        "fingerprint": folder.metadata["dataset"]["fingerprint"],
        "dataset": folder.metadata["dataset"]["name"],
        "epochs": charged,
        "charge": _charge(charged, folder.n, looked),
        "load": dict(folder.metadata["options"].get("load", {})),  # how its dataset was loaded, for `train --select`
    }


def selected(folder: RunFolder) -> tuple[Selection, dict[str, Any]]:
    """The run's selection.

    Raises:
        RunError: there is none, or it is of another dataset.
    """
    about = folder.metadata["dataset"]
    return read_selection(folder.path, fingerprint=about["fingerprint"], name=about["name"])


def _nothing(name: str) -> Tensor:
    raise KeyError(name)


def _same_dataset(folder: RunFolder, train: Any) -> None:
    folder.check_dataset(fingerprint_of(train), getattr(train, "name", type(train).__name__))


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v if isinstance(v, (int, float, str, bool, type(None))) else str(v) for k, v in options.items()}


__all__ = ["Model", "begin", "describe", "ids_of", "network", "record", "score", "select", "selected"]
