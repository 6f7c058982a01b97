"""The class that the recorded network prefers for each example, and its probability."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from datawinnow.core.rng import forked
from datawinnow.data.batches import batches_of, forward_batch, pads_to_longest
from datawinnow.data.dataset_info import DatasetInfo
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.network import network_of_run
from datawinnow.train.build import Model
from datawinnow.train.checkpoint import load_checkpoint, read_metadata
from datawinnow.train.network import device_for

NETWORK_FILE = "model.safetensors"
UNKNOWN = -1


def network_guesses(
    folder: RunFolder,
    info: DatasetInfo,
    arrays: Mapping[str, Tensor],
    *,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    log: Callable[[str], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """The guess of the recorded network about every example: the class it prefers, and its probability.

    Where a pass over the network made ``probs``, they tell. Otherwise the recording tells at each example's last visit:
    an example that was right there is guessed as its label. The others, few in the end, are passed through the network.

    Args:
        folder: a run.
        info: of its dataset.
        arrays: recorded arrays, and ``probs`` where they are computed.
        model: the function that made the network, where the run only knows its name; without it the class of an
            example that was wrong is unknown, unless there are two classes.
        model_options: options of that function.
        log: called where the class of examples is unknown since that function is not given.

    Returns:
        (n,) int64 class ids, -1 for unknown; (n,) float32 probabilities, NaN for unknown.

    Raises:
        RunError: the network in the run folder is damaged, or was trained on another dataset.
    """
    if "probs" in arrays:
        probability, guess = arrays["probs"].max(1)
        return torch.where(probability.isnan(), UNKNOWN, guess), probability.float()
    guess, probability = torch.full((info.n,), UNKNOWN), torch.full((info.n,), torch.nan)
    if not info.classes or bool((info.labels < 0).any()):  # targets that are no classes
        return guess, probability
    if {"correct", "p_label", "margin_softmax", "seen"} <= set(arrays):
        guess, probability = _at_last_visit(arrays, info.labels, len(info.classes))
    wrong = torch.nonzero(guess == UNKNOWN).flatten()
    answers = _answers(folder, info, wrong, model, model_options) if len(wrong) else None
    if answers is not None:
        guess[wrong], probability[wrong] = answers
    elif len(wrong) and log is not None and (folder.path / NETWORK_FILE).exists():
        log(
            "guesses: without the network's predictions where it was wrong, since the function that made it is not "
            "given (`model=`)"
        )
    return guess, probability


def _at_last_visit(arrays: Mapping[str, Tensor], labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """As `network_guesses`; the probability is known of every example that was visited."""
    seen, correct = arrays["seen"], arrays["correct"]
    guess, probability = torch.full(labels.shape, UNKNOWN), torch.full(labels.shape, torch.nan)
    is_open = torch.ones(labels.shape, dtype=torch.bool)
    for epoch in range(len(seen) - 1, -1, -1):
        visited = seen[epoch].bool() & is_open
        right = visited & (correct[epoch] == 1)
        guess[right] = labels[right]
        if num_classes == 2:
            guess[visited & ~right] = 1 - labels[visited & ~right]
        # the margin on probabilities is that of the label less the largest other one, which is the guess where wrong
        largest = arrays["p_label"][epoch] - arrays["margin_softmax"][epoch].clamp_max(0)
        probability[visited] = largest[visited].float()
        is_open &= ~visited
        if not bool(is_open.any()):
            break
    return guess, probability


@torch.no_grad()
def _answers(
    folder: RunFolder, info: DatasetInfo, ids: Tensor, model: Model, options: Mapping[str, Any] | None
) -> tuple[Tensor, Tensor] | None:
    """The recorded network's classes and probabilities for ``ids``; None where it cannot be built from its name.

    Raises:
        RunError: the network in the run folder is damaged, or was trained on another dataset.
    """
    path = folder.path / NETWORK_FILE
    if not path.exists():  # a method that needs no recording
        return None
    folder.check_made(read_metadata(path), path)
    try:
        with forked(0, "weights"):  # which are replaced
            network = network_of_run(folder, model, options)
        load_checkpoint(path, network, None)
    except Exception:  # a function that is not given again: a guess must not stop a selection
        return None
    device = device_for(folder.metadata["options"].get("record", {}).get("recipe", {}).get("device", "auto"))
    network = network.to(device).eval()
    train = info.data
    subset = train.subset(ids) if hasattr(train, "subset") else Subset(train, ids.tolist())
    batches = batches_of(subset, device, workers=0, to_longest=pads_to_longest(network, subset, device))
    answers = [network(x).float().softmax(1).max(1) for _, x, _ in batches.test(forward_batch(subset, 256))]
    return torch.cat([a.indices.cpu() for a in answers]), torch.cat([a.values.cpu() for a in answers])
