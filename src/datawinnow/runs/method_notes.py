"""Why a method keeps or drops each example: the numbers that it goes by, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datawinnow.core.arrays import first_epochs
from datawinnow.core.neighbours import BLOCK_ENTRIES, centred, sq_distances, unit_rows
from datawinnow.core.rank_notes import rank_notes
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.data.dataset_info import DatasetInfo
from datawinnow.methods import Method
from datawinnow.scores import aum_softmax
from datawinnow.select import beta_weights, cal_contrast
from datawinnow.select.coverage import bin_of


def method_notes(
    method: Method,
    keep: float,
    selection: Selection,
    score: Tensor | None,
    arrays: Mapping[str, Tensor],
    p_mean: Tensor,
    info: DatasetInfo,
    *,
    tie_seed: int = 0,
) -> list[str]:
    """One sentence an example, kept or dropped, of the numbers by which the method chose.

    Of a score: its value, its rank and how many are kept. Of a draw: the weight, or the bin, or the probability of
    every example. Of features: the distance to the nearest kept example. Of a greedy choice: the step.

    Args:
        method: with its settings at ``keep``.
        keep: fraction kept.
        selection: what it chose.
        score: (n,) its score; None without one.
        arrays: what it read, by name.
        p_mean: (n,) mean of ``p_label`` over the recorded epochs.
        info: of the dataset.
        tie_seed: that the selector drew its ties by.
    """
    selector, n = method.selector_card, info.n
    arrays = first_epochs(arrays, method.epochs if isinstance(method.epochs, int) else None)
    options = {**selector.options, **method.selector_options(keep)}
    kept, labels = selection.mask(n), info.labels
    classes = labels if method.per_class else None
    reason = selection.reason if selection.reason is not None else Selection.of(selection.index, n).reason
    assert reason is not None
    sentences: list[list[str]] = []
    if selector.key == "random":
        sentences.append(_chance_notes(kept, classes, info))
    elif selector.key == "beta" and score is not None:
        sentences.append(_weight_notes(score, p_mean, kept, classes, {**options, "tie_seed": tie_seed}))
    elif selector.key == "coverage" and score is not None:
        sentences.append(_bin_notes(score, kept, reason, int(options["bins"])))
    if score is not None and method.score_card is not None:
        sentences.append(_score_notes(method, score, kept, classes, options, info))
    elif selector.key == "cal":
        settings = {name: options[name] for name in ("neighbours", "symmetric")}
        contrast = cal_contrast(arrays["features"], arrays["probs"], tie_seed=tie_seed, **settings)
        sentences.append(
            rank_notes(
                contrast.double().numpy(),
                kept.numpy(),
                name="contrast with its neighbours",
                keys=(contrast if options["end"] == "high" else -contrast).double().numpy(),
                order="" if options["end"] == "high" else "lowest first",
            )
        )
    elif classes is not None and selector.key != "random":
        sentences.append(_class_notes(kept, classes, info))
    if method.has_cutoff:
        sentences.append(_cut_notes(method, reason, arrays))
    if selector.key not in ("random", "beta", "coverage", "top", "bottom", "middle", "cal"):
        sentences.append(_step_notes(selection, n))
        if "features" in selector.needs:
            # which similarity the selector compares by, where it says so; else plain distances
            is_cosine = "cosine" in (options.get("similarity"), options.get("metric"))
            sentences.append(_distance_notes(arrays["features"], kept, classes, info, is_cosine=is_cosine))
    return [", ".join(filter(None, words)) for words in zip(*sentences, strict=True)] if sentences else [""] * n


def _class_name(info: DatasetInfo, label: int) -> str:
    return repr(info.classes[label]) if 0 <= label < len(info.classes) else str(label)


def _chance_notes(kept: Tensor, classes: Tensor | None, info: DatasetInfo) -> list[str]:
    if classes is None:
        return [f"drawn from all alike, each with probability {float(kept.double().mean()):.3g}"] * len(kept)
    by_class = {
        c: f"drawn from all of class {_class_name(info, c)} alike, each with probability "
        f"{float(kept[classes == c].double().mean()):.3g}"
        for c in torch.unique(classes).tolist()
    }
    return [by_class[c] for c in classes.tolist()]


def _weight_notes(
    score: Tensor, p_mean: Tensor, kept: Tensor, classes: Tensor | None, options: Mapping[str, Any]
) -> list[str]:
    notes = [""] * len(score)
    present = ~(score.isnan() | p_mean.isnan())
    settings = {name: options[name] for name in ("c_d", "train_epochs", "total", "mu_top", "tie_seed")}
    for c in [None] if classes is None else torch.unique(classes).tolist():
        ids = torch.nonzero(present if c is None else present & (classes == c)).flatten()
        budget = int(kept[ids].sum())
        if not budget:
            continue
        weight = beta_weights(score[ids], p_mean[ids], budget=budget, **settings)
        largest, middle = float(weight.max()), float(weight.median())
        where = "" if c is None else " of its class"
        for i, w in zip(ids.tolist(), weight.tolist(), strict=True):
            notes[i] = f"{'low' if w < middle else 'high'} weight {w:.3g} in the draw (largest{where} {largest:.3g})"
    return notes


def _bin_notes(score: Tensor, kept: Tensor, reason: Tensor, bins: int) -> list[str]:
    notes = [""] * len(score)
    for i in torch.nonzero(reason == int(Reason.SUSPECT)).flatten().tolist():
        notes[i] = "among the hardest, which are cut off"
    ids = torch.nonzero(~score.isnan() & (reason != int(Reason.SUSPECT)) & (reason != int(Reason.UNSCORED))).flatten()
    if not len(ids):
        return notes
    number = bin_of(score[ids], bins)
    sizes = number.bincount(minlength=bins).tolist()
    taken = number[kept[ids]].bincount(minlength=bins).tolist()
    for i, k in zip(ids.tolist(), number.tolist(), strict=True):
        notes[i] = f"in bin {k + 1} of {bins} by score, {taken[k]:,} of its {sizes[k]:,} are drawn"
    return notes


def _score_notes(
    method: Method,
    score: Tensor,
    kept: Tensor,
    classes: Tensor | None,
    options: Mapping[str, Any],
    info: DatasetInfo,
) -> list[str]:
    card = method.score_card
    assert card is not None
    values = score.double().numpy()
    end = options.get("end", card.end)
    keys, order = values, ""
    if method.selector_card.key == "middle":
        # the rank from which the band grows, among those with a score
        present = np.flatnonzero(~np.isnan(values))
        keys = np.full(len(values), np.nan)
        ranks = np.empty(len(present))
        ranks[np.argsort(values[present], kind="stable")] = np.arange(len(present))
        keys[present] = -np.abs(ranks - options["centre"] * (len(present) - 1))
        order = f"from quantile {options['centre']:g} outwards"
    elif end == "low" or method.selector_card.key == "bottom":
        keys, order = -values, "lowest first"
    named = {c: _class_name(info, c) for c in ([] if classes is None else torch.unique(classes).tolist())}
    notes = rank_notes(
        values,
        kept.numpy(),
        name=card.name,
        keys=keys,
        order=order,
        groups=None if classes is None else classes.numpy(),
        group_word="class {}",
    )
    if classes is None:
        return notes
    return [
        note.replace(f"in class {c}", f"in class {named[c]}", 1)
        for note, c in zip(notes, classes.tolist(), strict=True)
    ]


def _class_notes(kept: Tensor, classes: Tensor, info: DatasetInfo) -> list[str]:
    by_class = {
        c: f"class {_class_name(info, c)} keeps {int(kept[classes == c].sum()):,} of {int((classes == c).sum()):,}"
        for c in torch.unique(classes).tolist()
    }
    return [by_class[c] for c in classes.tolist()]


def _cut_notes(method: Method, reason: Tensor, arrays: Mapping[str, Tensor]) -> list[str]:
    aum = Method.from_score(aum_softmax).compute_score(arrays).tolist()
    place = "in its class" if method.per_class and method.cutoff_in_class else "of all"
    cut = f"among the lowest {100 * float(method.cutoff):g}% {place}, which are cut off"  # type: ignore[arg-type]
    return [
        f"AUM {value:.3g}" + (f", {cut}" if code == int(Reason.SUSPECT) else "")
        for value, code in zip(aum, reason.tolist(), strict=True)
    ]


def _step_notes(selection: Selection, n: int) -> list[str]:
    notes, m = [""] * n, len(selection)
    weights = selection.weight.tolist()
    is_weighted = any(weight != 1 for weight in weights)
    for step, (i, weight) in enumerate(zip(selection.index.tolist(), weights, strict=True), start=1):
        notes[i] = f"taken {step:,} of {m:,}" + (f" with weight {weight:.3g}" if is_weighted else "")
    return notes


def _distance_notes(
    features: Tensor, kept: Tensor, classes: Tensor | None, info: DatasetInfo, *, is_cosine: bool
) -> list[str]:
    nearest, distance = nearest_kept(features, kept, classes, is_cosine=is_cosine)
    word = "cosine distance" if is_cosine else "distance"
    rows = zip(nearest.tolist(), distance.tolist(), kept.tolist(), strict=True)
    return [
        "" if i < 0 else f"{word} {d:.3g} to {info.ids[i]}, its nearest {'other kept' if is_kept else 'kept'} example"
        for i, d, is_kept in rows
    ]


def nearest_kept(
    features: Tensor, kept: Tensor, classes: Tensor | None, *, is_cosine: bool = False
) -> tuple[Tensor, Tensor]:
    """The nearest kept example of each, other than itself.

    Args:
        features: (n, d) float.
        kept: (n,) bool.
        classes: (n,) int64, to look only among the same class; None for all.
        is_cosine: 1 minus the cosine in place of the Euclidean distance.

    Returns:
        (n,) int64 ids, -1 where no other is kept; (n,) float32 distances, NaN there.

    >>> nearest_kept(torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([True, False, True]), None)[0].tolist()
    [2, 0, 0]
    """
    n = len(features)
    nearest, distance = torch.full((n,), -1), torch.full((n,), torch.nan)
    for c in [None] if classes is None else torch.unique(classes).tolist():
        ids = torch.arange(n) if c is None else torch.nonzero(classes == c).flatten()
        rows = features[ids].float()
        present = ~rows.isnan().any(1)
        ids, rows = ids[present], rows[present]
        if not len(ids):
            continue
        points = unit_rows(rows) if is_cosine else centred("features", rows)[0]
        places = torch.nonzero(kept[ids]).flatten()  # of the kept among `ids`
        if not len(places):
            continue
        step = max(1, BLOCK_ENTRIES // len(places))
        for first in range(0, len(ids), step):
            squared = sq_distances(points[first : first + step], points[places])
            at = torch.arange(first, first + len(squared))
            squared[at[:, None] == places[None, :]] = torch.inf  # an example is no neighbour of itself
            closest, places_of = squared.min(1)
            at, other = at[closest < torch.inf], places[places_of[closest < torch.inf]]
            nearest[ids[at]] = ids[other]
            # again by differences, since the product rounds: exactly 0 for duplicates
            length = torch.linalg.vector_norm(points[at] - points[other], dim=1)
            distance[ids[at]] = length.square() / 2 if is_cosine else length
    return nearest, distance
