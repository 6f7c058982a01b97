"""Several labels an example, by several people: which examples their labels cannot be trusted on (WAUM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError

MAX_DAWID_SKENE = 50
"""Iterations of Dawid and Skene's estimate, at most."""


@dataclass(frozen=True, eq=False)
class Crowd:
    """What the labels of several people say, by Dawid and Skene's model.

    Attributes:
        probs: (n, c) float64, the probability of each class given the votes and how reliable the voters are.
        confusion: (workers, c, c) float64, probability that a person gives the label (column) to a class (row).
        labels: (n,) int64, the most probable class of each example.
    """

    probs: Tensor
    confusion: Tensor
    labels: Tensor


def dawid_skene(example: Any, worker: Any, label: Any, *, classes: int | None = None) -> Crowd:
    """Estimate the class of each example, and the confusions of each person, from votes.

    Expectation maximisation from the shares of the votes: an example's class given its votes, then each person's
    confusions given the classes. Classes are as frequent as their estimates say; counts have 0.01 added, so that
    nothing is impossible because nobody did it.

    Args:
        example: (votes,) int, the example of each vote; every example from 0 to the largest has one.
        worker: (votes,) int, who gave it.
        label: (votes,) int, class ids.
        classes: number of classes. Default: one more than the largest label.

    Raises:
        ArgumentError: arrays of different lengths, an example without a vote, or labels at or above ``classes``.

    References:
        Dawid and Skene 1979, doi:10.2307/2346806.

    >>> crowd = dawid_skene([0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2], [1, 1, 0, 0, 0, 0])
    >>> crowd.labels.tolist()
    [1, 0]
    """
    i, w, y, count = _votes(example, worker, label, classes)
    n, people = int(i.max()) + 1, int(w.max()) + 1
    votes = torch.zeros(n, count, dtype=torch.float64).index_put_((i, y), torch.ones(len(i)).double(), accumulate=True)
    probs = votes / votes.sum(1, keepdim=True)
    confusion = torch.empty(people, count, count, dtype=torch.float64)
    for _ in range(MAX_DAWID_SKENE):
        # (people, label, class): the probabilities of the examples that a person gave a label, added up
        joint = torch.zeros(people * count, count, dtype=torch.float64).index_add_(0, w * count + y, probs[i])
        joint = joint.view(people, count, count).transpose(1, 2) + 0.01
        confusion = joint / joint.sum(2, keepdim=True)
        prior = probs.mean(0).clamp(min=1e-12)
        logs = prior.log().expand(n, count).clone().index_add_(0, i, confusion.log()[w, :, y])
        new = torch.softmax(logs, dim=1)
        moved, probs = float((new - probs).abs().max()), new
        if moved < 1e-6:
            break
    return Crowd(probs, confusion, probs.argmax(1))


def waum(example: Any, worker: Any, label: Any, margin: Any, probs: Any, *, confusion: Any = None) -> Tensor:
    """The weighted area under the margin of examples with several labels; low for examples that cannot be trusted.

    A network is trained on the stacked votes, an example as often as it has votes. The AUM of a vote is the mean over
    the epochs of ``margin``; the votes of an example are averaged by the trust in who gave them, the probability that
    they name the class rightly that the network sees: ``sum_k probs_k confusion_kk``.

    Args:
        example: (votes,) int, the example of each vote.
        worker: (votes,) int, who gave it.
        label: (votes,) int, class ids.
        margin: (epochs, votes) float, probability of the vote minus the largest other one (``margin_softmax`` of a
            recording of the votes; the authors subtract the second largest, which is the same unless the vote is it).
        probs: (votes, c) float, class probabilities of the last epoch.
        confusion: (workers, c, c) float, as of `dawid_skene`, which is used by default.

    Returns:
        (n,) float64.

    Raises:
        ArgumentError: arrays about different votes, or as of `dawid_skene`.

    References:
        Lefort et al. 2024, Identify Ambiguous Tasks Combining Crowdsourced Labels by Weighting Areas Under the Margin,
        TMLR, arXiv 2209.15380.

    >>> margin = [[0.9, 0.8, -0.5, 0.1]]
    >>> probs = [[0.95, 0.05], [0.9, 0.1], [0.75, 0.25], [0.55, 0.45]]
    >>> scores = waum([0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0], margin, probs)
    >>> bool(scores[0] > scores[1])
    True
    """
    p = check.distributions("probs", probs).double()
    i, w, y, count = _votes(example, worker, label, p.shape[1])
    margins = check.array("margin", margin, "epochs,n").double()
    check.finite("margin", margins)
    if margins.shape[1] != len(i) or len(p) != len(i):
        raise ArgumentError(f"margin is of {margins.shape[1]} votes, probs of {len(p)}, label of {len(i)}")
    if confusion is None:
        right = dawid_skene(i, w, y, classes=count).confusion.diagonal(dim1=1, dim2=2)
    else:
        matrices = check.array("confusion", confusion, "workers,c,c").double()
        if matrices.shape[1:] != (count, count) or len(matrices) <= int(w.max()):
            raise ArgumentError(
                f"confusion must be ({int(w.max()) + 1}, {count}, {count}), got {tuple(matrices.shape)}"
            )
        right = matrices.diagonal(dim1=1, dim2=2)
    trust = (p * right[w]).sum(1)
    n = int(i.max()) + 1
    total = torch.zeros(n, dtype=torch.float64).index_add_(0, i, trust * margins.mean(0))
    weight = torch.zeros(n, dtype=torch.float64).index_add_(0, i, trust)
    return total / weight.clamp(min=1e-12)


def _votes(example: Any, worker: Any, label: Any, classes: int | None) -> tuple[Tensor, Tensor, Tensor, int]:
    """The three columns of votes and the number of classes.

    Raises:
        ArgumentError: as of `dawid_skene`.
    """
    i = check.labels("example", example, limit=None)
    w = check.labels("worker", worker, len(i))
    y = check.labels("label", label, len(i))
    count = int(y.max()) + 1 if classes is None else classes
    if int(y.max()) >= count:
        raise ArgumentError(f"label has class {int(y.max())}, but there are {count} classes")
    missing = torch.nonzero(torch.bincount(i) == 0).flatten()
    if len(missing):
        raise ArgumentError(f"example {int(missing[0])} has no vote ({len(missing)} such): number the examples from 0")
    return i, w, y, count
