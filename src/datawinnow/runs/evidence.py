"""The recorded behaviour of each example, in numbers and in a sentence."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from datawinnow.core.selection import Selection
from datawinnow.data.dataset_info import DatasetInfo


def moments(p_label: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (population) standard deviation over epochs of (epochs, n), leaving NaN out: the data map's axes.

    Returns:
        (n,) float32 mean, (n,) float32 standard deviation; NaN for an example that was never seen.
    """
    mean = torch.empty(p_label.shape[1])
    std = torch.empty(p_label.shape[1])
    for first in range(0, p_label.shape[1], 1 << 16):  # in chunks: the column may be a memory map larger than memory
        chunk = p_label[:, first : first + (1 << 16)].double()
        seen = ~chunk.isnan()
        count = seen.sum(0)
        # 0 / 0 is NaN for an example that was never seen
        m = chunk.nan_to_num().sum(0) / count
        v = ((chunk - m).nan_to_num().square() * seen).sum(0) / count
        mean[first : first + (1 << 16)] = m.float()
        std[first : first + (1 << 16)] = v.sqrt().float()
    return mean, std


def notes(arrays: Mapping[str, Tensor], p_mean: Tensor, p_std: Tensor) -> list[str]:
    """One sentence an example: how probable its label was, when it was learned and forgotten, and whether that is easy.

    Easy are those whose label was more probable than that of two thirds of the examples, hard those below one third.

    Args:
        arrays: recorded arrays; ``correct`` and ``seen`` are read if they are there.
        p_mean: (n,) mean of ``p_label``.
        p_std: (n,) its standard deviation.
    """
    shown = [
        # NaN differs from itself
        f"p(label) {m:.2f} ± {s:.2f}" if m == m else "p(label) unknown"
        for m, s in zip(p_mean.tolist(), p_std.tolist(), strict=True)
    ]
    ease = _ease(p_mean)
    if "correct" not in arrays or "seen" not in arrays:
        return [sentence + word for sentence, word in zip(shown, ease, strict=True)]
    first, forgotten, met = _learning(arrays["correct"], arrays["seen"])
    rows = zip(shown, met.tolist(), first.tolist(), forgotten.tolist(), strict=True)
    return [_sentence(*row) + (word if row[1] else "") for row, word in zip(rows, ease, strict=True)]


def _ease(p_mean: Tensor) -> list[str]:
    """``": easy (easier than 83%)"``: the share of the others whose label was less probable."""
    present = p_mean[~p_mean.isnan()].sort().values
    if len(present) < 2:
        return [""] * len(p_mean)
    share = torch.searchsorted(present, p_mean.contiguous()).double() / (len(present) - 1)
    return [
        ""
        if p != p
        else f": {'easy' if s > 2 / 3 else 'hard' if s < 1 / 3 else 'middling'} (easier than {100 * s:.0f}%)"
        for p, s in zip(p_mean.tolist(), share.tolist(), strict=True)
    ]


def guess_notes(guess: Tensor, probability: Tensor, info: DatasetInfo, *, also_right: bool) -> list[str]:
    """``"the network says cat (0.83)"`` of each example; ``""`` where the guess is unknown.

    Args:
        guess: (n,) int64 class ids, -1 for unknown.
        probability: (n,) of the guess.
        info: of the dataset.
        also_right: whether to say it where the guess is the label too.
    """
    rows = zip(guess.tolist(), probability.tolist(), info.labels.tolist(), strict=True)
    return [
        "" if g < 0 or (g == label and not also_right) else f"the network says {info.classes[g]} ({p:.2f})"
        for g, p, label in rows
    ]


def _learning(correct: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(n,) epoch from 1 when first correct (0 for never), times forgotten since last seen, and whether ever seen."""
    epochs, n = correct.shape
    first = torch.zeros(n, dtype=torch.int32)
    forgotten = torch.zeros(n, dtype=torch.int32)
    was, met = torch.zeros(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)
    for epoch in range(epochs):
        visited = seen[epoch].bool()
        right = (correct[epoch] == 1) & visited
        first[right & (first == 0)] = epoch + 1
        # right at its visit before, wrong at this one; epochs without a visit count for neither
        forgotten += was & visited & ~right
        was = torch.where(visited, right, was)
        met |= visited
    return first, forgotten, met


def _sentence(shown: str, seen: bool, first: int, forgotten: int) -> str:
    if not seen:
        return "never seen while recording"
    if not first:
        return f"{shown}, never learned"
    times = {0: "never forgotten", 1: "forgotten once", 2: "forgotten twice"}.get(
        forgotten, f"forgotten {forgotten} times"
    )
    return f"{shown}, first correct in epoch {first}, {times}"


def groups(
    selection: Selection, p_mean: Tensor, learned: Tensor, margin: Tensor, *, each: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Ids to show in a gallery.

    Args:
        selection: the kept examples.
        p_mean: (n,) mean of ``p_label``.
        learned: (n,) bool, right in the last epoch.
        margin: (n,) mean of ``margin``: how far the label's logit stands above the others'.
        each: number of ids of each group.
        generator: of the draws among the kept and the dropped.

    Returns:
        ``kept`` and ``dropped`` at random; ``hardest``, of lowest ``p_label`` among those that were learned in the end;
        ``doubtful``, of lowest margin: the network insists on another class, so the label may be wrong.
    """
    n = len(p_mean)
    mask = selection.mask(n)

    def sample(ids: Tensor) -> Tensor:
        return ids[torch.randperm(len(ids), generator=generator)[:each]]

    def lowest(value: Tensor, among: Tensor) -> Tensor:
        ids = torch.nonzero(among & ~value.isnan()).flatten()
        # stable: ties go to the smaller id
        return ids[value[ids].argsort(stable=True)[:each]]

    return {
        "kept": sample(torch.nonzero(mask).flatten()),
        "dropped": sample(torch.nonzero(~mask).flatten()),
        "hardest": lowest(p_mean, learned),
        "doubtful": lowest(margin, torch.ones(n, dtype=torch.bool)),
    }
