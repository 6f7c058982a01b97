"""Label errors: the probability that a label is wrong, and the class that the example seems to be of.

From the arrays of one recording, or from class probabilities of the user's. Nothing is trained here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.counts import many
from datawinnow.core.epochs import mean_over_epochs
from datawinnow.core.errors import ArgumentError
from datawinnow.core.extras import import_extra
from datawinnow.core.issues import Issue
from datawinnow.core.neighbours import knn, unit_rows
from datawinnow.core.rng import stream
from datawinnow.core.two_normals import MAX_LOG_ODDS, ashman_d, fit_two_normals, is_better_than_one
from datawinnow.scores import forgetting

Engine = Literal["datawinnow", "cleanlab"]
ENGINES = ("datawinnow", "cleanlab")
NUM_NEIGHBOURS = 10
NEIGHBOUR_SAMPLE_ROWS = 10_000
"""Of more examples, neighbours are looked for among so many, drawn: their labels are asked, and these are enough."""
QUERY_ROWS = 2048
SMALLEST_PROBABILITY = 1e-5
"""Class probabilities below it count as it: a network in float32 gives exact zeros."""
SEPARATION = 2.0
"""Smallest Ashman's D of a group of wrong labels and the rest; at 2 two equal densities begin to have two maxima."""
WRONG_GROUP_LOG_ODDS = -1.5
"""Largest mean log-odds of the label in a group of wrong labels: a probability under 0.18."""
MAX_SPREAD_RATIO = 1.25
"""A group of wrong labels is at most so much wider than the rest; a wider one takes in the hard examples."""
SMALLEST_GROUP = 5
"""Examples in a group of wrong labels, at least."""
TEMPERATURES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
"""Powers of class probabilities that are tried."""
PRIOR_RATE = 0.01
"""Fraction of wrong labels that is assumed where no group of them is separated from the rest."""
MIN_ASYMMETRY = 0.2
"""Share of the disagreements that go one way between two classes, from which on the direction counts as evidence. On
symmetric and instance-dependent noise and on clean data it was at most 0.03, on pair noise 0.28 to 0.62."""
MIN_AGREEMENT = 0.5
"""Share of the labels that out-of-fold probabilities have to agree with, or nothing is said of their errors."""
SHORT_RECORDING = 5
"""Epochs below which a recording is short for the audit of labels."""
FLAGGED = 0.5
"""A label that is wrong with this probability or more is an issue."""
SURE_OF_CLASS = 0.75
"""Probability of the suggested class from which on relabelling is suggested."""
SURE_OF_ERROR = 0.9
"""Probability of an error from which on dropping is suggested, where the class is not sure."""


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """What the labels of a dataset look like.

    Attributes:
        p_wrong: (n,) float64, the probability that the label is wrong; NaN for an example without evidence.
        suggested: (n,) int64, the class that the example is of if its label is wrong.
        p_suggested: (n,) float64, the probability that it is of that class; at most ``p_wrong``. NaN where nothing says
            which class it is of.
        rate: estimated fraction of wrong labels, the mean of ``p_wrong``.
        is_separated: whether the wrong labels form a group of their own; otherwise ``p_wrong`` rests on an assumed
            fraction of 1% and ranks better than it counts.
        class_probs: (n, c) float32, class probabilities of each example that the label had little part in.
        evidence: what the sentences are made of, (n,) each, by name: ``p_label``, ``disagreeing`` (fraction of the
            neighbours with another label), ``alignment`` (cosine to the mean of its class), ``aum``, ``forgotten``.
        notes: what could not be told, and why.
    """

    p_wrong: Tensor
    suggested: Tensor
    p_suggested: Tensor
    rate: float
    is_separated: bool
    class_probs: Tensor
    evidence: dict[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_label_errors(
    labels: Any,
    *,
    probs: Any = None,
    p_label: Any = None,
    features: Any = None,
    margin: Any = None,
    correct: Any = None,
    num_neighbours: int = NUM_NEIGHBOURS,
    engine: Engine = "datawinnow",
) -> LabelErrors:
    """The probability that each label is wrong, from one recording or from class probabilities.

    The log-odds of each label against the other classes are taken from class probabilities: the mean of ``p_label``
    over the epochs of a recording for the label, ``probs`` and the labels of the nearest neighbours in ``features`` for
    the others (or ``probs`` alone), averaged with those of the neighbours. Right labels are learned before wrong ones
    are memorised, so that the mean over the epochs tells what the last epoch has lost. Where the disagreements go one
    way between classes (confident joint of Northcutt et al.), the odds are those of such a transition. Two normal
    distributions are fitted to the log-odds; if they are separated, the probability that a label is wrong is that of
    the lower one.

    Measured on digits (1,438 examples, one recording of 30 epochs) with 5 to 40% of symmetric, pair and
    instance-dependent noise: AUROC 0.995 and more, expected calibration error 0.01 and less (0.03 with 40% pair noise).

    Args:
        labels: (n,) int, class ids as labelled.
        probs: (n, c) float, class probabilities: of the recorded network where there is ``p_label``, and otherwise of
            networks that were not trained on the example (out of fold).
        p_label: (epochs, n) float, probability of the label while training; NaN where an example was not seen.
        features: (n, d) float, for neighbours; None for no neighbours.
        margin: (epochs, n) float, label logit minus best other logit, for the evidence (AUM).
        correct: (epochs, n) bool or NaN, whether the arg-max was the label, for the evidence.
        num_neighbours: number of neighbours; of more than 10,000 examples they are among as many that are drawn.
        engine: ``"datawinnow"``, or ``"cleanlab"`` for confident learning on out-of-fold ``probs``.

    Raises:
        ArgumentError: neither ``probs`` nor ``p_label``; arrays about different examples; NaN in
            ``probs`` or ``features``; labels that ``probs`` has no column for; an unknown engine.

    References:
        Pleiss et al. 2020, arXiv 2001.10528 (AUM); Arazo et al. 2019, arXiv 1904.11238 (two distributions of the loss);
        Northcutt et al. 2021, Confident Learning, arXiv 1911.00068 (confident joint).

    >>> labels = torch.arange(400) % 4
    >>> probs = torch.full((400, 4), 0.02)
    >>> probs[torch.arange(400), labels] = 0.94
    >>> labels[:30] = (labels[:30] + 1) % 4
    >>> errors = find_label_errors(labels, probs=probs)
    >>> (errors.p_wrong > 0.5).nonzero().numel(), bool((errors.suggested[:30] == torch.arange(30) % 4).all())
    (30, True)
    """
    check.one_of("engine", engine, ENGINES)
    y = check.labels("labels", labels)
    n, notes = y.numel(), list[str]()
    probabilities = None if probs is None else check.distributions("probs", probs).float()
    if probabilities is not None and n != probabilities.shape[0]:
        raise ArgumentError(f"probs has {probabilities.shape[0]:,} rows, labels {n:,}: they are about other examples")
    if probabilities is not None and int(y.max()) >= probabilities.shape[1]:
        raise ArgumentError(
            f"labels has class {int(y.max())}, but probs only {probabilities.shape[1]} columns: give a column for each"
        )
    vectors = None if features is None else check.matrix("features", features).float()
    if vectors is not None and vectors.shape[0] != n:
        raise ArgumentError(f"features has {vectors.shape[0]:,} rows, labels {n:,}: they are about other examples")
    p_mean = _mean_probability_of_label(p_label, n, notes)
    neighbour_ids = _neighbour_ids(vectors, n, num_neighbours, notes)
    if engine == "cleanlab":
        if probabilities is None:
            raise ArgumentError("engine='cleanlab' needs out-of-fold probs (n, c)")
        return _by_cleanlab(y, probabilities, _evidence(y, p_mean, margin, correct, vectors, neighbour_ids))
    if probabilities is None and p_mean is None:
        raise ArgumentError("label errors need probs (n, c), or a recording (p_label)")
    classes = int(y.max()) + 1 if probabilities is None else probabilities.shape[1]
    evidence = _evidence(y, p_mean, margin, correct, vectors, neighbour_ids)
    if classes < 2 or int(y.min()) == int(y.max()):
        notes.append("all labels are of one class: nothing can be told about wrong ones")
        return _nothing_wrong(y, max(classes, 1), evidence, notes)
    seen = torch.ones(n, dtype=torch.bool) if p_mean is None else ~p_mean.isnan()
    q = _class_probs(y, p_mean, probabilities, neighbour_ids, classes)
    log_odds, weights = _label_log_odds(q, y, seen)
    agreement = float((q.argmax(1) == y)[seen].double().mean()) if bool(seen.any()) else 0.0
    # a recording has seen the labels; out of fold, a poor network and poor labels look the same
    is_poor = p_mean is None and agreement < MIN_AGREEMENT
    p_wrong, is_separated = _probability_of_lower_group(log_odds[seen], classes)
    if is_poor:
        from scipy.stats import rankdata

        # the order, with the assumed fraction as the mean
        rank = torch.from_numpy(rankdata(-log_odds[seen].numpy()))
        p_wrong, is_separated = 2 * PRIOR_RATE * rank / max(1, rank.numel()), False
        notes.append(
            f"the class probabilities agree with {100 * agreement:.0f}% of the labels only: whether the network or the "
            "labels are wrong cannot be told, and the order counts more than the numbers"
        )
    elif not is_separated:
        notes.append(
            "no group of wrong labels is separated from the rest: few may be wrong, or the network may be too weak to "
            "tell. The probabilities assume that 1% are wrong, and the order counts more than the numbers"
        )
    names_class = probabilities is not None or neighbour_ids is not None
    if not names_class:
        notes.append("which class a mislabelled example is of cannot be told: that needs probs or features")
    full = torch.full((n,), torch.nan, dtype=torch.float64)
    full[seen] = p_wrong
    suggested = weights.argmax(1)
    share = _share_of_largest(weights, _temperature(y, full, neighbour_ids, q, is_out_of_fold=p_mean is None))
    rate = float(p_wrong.mean()) if p_wrong.numel() else 0.0
    p_suggested = full * share if names_class else torch.full_like(full, torch.nan)
    return LabelErrors(full, suggested, p_suggested, rate, is_separated, q, evidence, tuple(notes))


def _mean_probability_of_label(p_label: Any, n: int, notes: list[str]) -> Tensor | None:
    """(n,) float64 mean over the epochs in which each example was seen; NaN for never."""
    if p_label is None:
        return None
    values = check.array("p_label", p_label, "epochs,n")
    if values.shape[1] != n:
        raise ArgumentError(f"p_label has {values.shape[1]:,} examples, labels {n:,}: they are about other examples")
    check.finite("p_label", values, "skip")
    if len(values) < SHORT_RECORDING:
        notes.append(
            f"the recording has only {many(len(values), 'epoch')}: labels are compared before they are learned; record "
            f"{SHORT_RECORDING} or more (30 are usual)"
        )
    mean = mean_over_epochs(values, "p_label", "skip").double()
    if missing := int(mean.isnan().sum()):
        notes.append(f"{many(missing, 'example')} were never seen while recording: nothing can be told about them")
    return mean


def _neighbour_ids(vectors: Tensor | None, n: int, number: int, notes: list[str]) -> Tensor | None:
    if vectors is None:
        return None
    if n <= number:
        notes.append(f"{many(n, 'example')} have fewer than {number} neighbours each: they are not compared")
        return None
    if n <= NEIGHBOUR_SAMPLE_ROWS:
        return knn(vectors, number, metric="cosine")[0]
    return _nearest_in_sample(unit_rows(vectors), number)


def _nearest_in_sample(rows: Tensor, number: int) -> Tensor:
    """(n, k) int64 nearest of each row among `NEIGHBOUR_SAMPLE_ROWS` that are drawn, without itself, in O(n)."""
    n = len(rows)
    sample = torch.randperm(n, generator=stream(0, "label errors", "neighbours"))[:NEIGHBOUR_SAMPLE_ROWS].sort().values
    column = torch.full((n,), -1, dtype=torch.int64)
    column[sample] = torch.arange(len(sample))
    reference = rows[sample].T.contiguous()
    nearest = []
    for first in range(0, n, QUERY_ROWS):
        similarity = rows[first : first + QUERY_ROWS] @ reference
        of_self = column[first : first + QUERY_ROWS]
        inside = torch.nonzero(of_self >= 0).flatten()
        similarity[inside, of_self[inside]] = -torch.inf
        nearest.append(sample[similarity.topk(number, dim=1).indices])
    return torch.cat(nearest)


def _class_probs(
    y: Tensor, p_mean: Tensor | None, probs: Tensor | None, neighbour_ids: Tensor | None, classes: int
) -> Tensor:
    """(n, c) float32 class probabilities: of the label over the epochs, of the others at the end, and of neighbours."""
    rows = torch.arange(y.numel())
    sources = [] if probs is None else [probs.clamp(min=SMALLEST_PROBABILITY)]
    if neighbour_ids is not None and (p_mean is not None or probs is None):
        shares = torch.zeros(y.numel(), classes)
        for column in neighbour_ids.T:
            shares[rows, y[column]] += 1 / neighbour_ids.shape[1]
        # no class is impossible because ten neighbours do not have it
        sources.append(shares.clamp(min=1 / (2 * neighbour_ids.shape[1])))
    q = torch.stack(sources).mean(0) if sources else torch.full((y.numel(), classes), 1 / classes)
    if p_mean is not None:
        # the last epoch has memorised the label; what it thinks of the other classes is kept
        label_prob = torch.where(p_mean.isnan(), q[rows, y], p_mean.float())
        rest = q.index_put((rows, y), torch.zeros(()))
        q = rest / rest.sum(1, keepdim=True) * (1 - label_prob)[:, None]
        q[rows, y] = label_prob
    if neighbour_ids is not None:
        around = torch.zeros_like(q)
        for column in neighbour_ids.T:
            around += q[column] / neighbour_ids.shape[1]
        q = (q + around) / 2
    q = q.clamp(min=SMALLEST_PROBABILITY)
    return q / q.sum(1, keepdim=True)


def _label_log_odds(q: Tensor, y: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) log-odds of the labels, and (n, c) odds of the other classes, 0 at the label."""
    joint = confident_joint(q[seen], y[seen])
    weights = q * transition_odds(joint).float()[:, y].T if asymmetry(joint) >= MIN_ASYMMETRY else q.clone()
    rows = torch.arange(y.numel())
    weights[rows, y] = 0
    odds = q[rows, y].double() / weights.sum(1, dtype=torch.float64).clamp(min=1e-12)
    return odds.log().clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS), weights


def confident_joint(probs: Tensor, labels: Tensor) -> Tensor:
    """How many examples of each class have each label.

    An example counts as of the most probable class among those whose probability is at least the mean of what examples
    with that label have; as of the most probable one where there is none.

    Args:
        probs: (n, c) float.
        labels: (n,) int64.

    Returns:
        (c, c) float64: examples of class k (row) that are labelled y (column).

    References:
        Northcutt et al. 2021, Confident Learning, arXiv 1911.00068, section 3.1 (which leaves the last out).

    >>> confident_joint(torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.9, 0.1]]), torch.tensor([0, 0, 1, 1]))
    tensor([[2., 1.],
            [0., 1.]], dtype=torch.float64)
    """
    classes = probs.shape[1]
    label_prob = probs[torch.arange(labels.numel()), labels].double()
    total = torch.zeros(classes, dtype=torch.float64).index_add(0, labels, label_prob)
    number = torch.bincount(labels, minlength=classes)
    threshold = torch.where(number > 0, total / number.clamp(min=1), torch.inf)
    confident = probs.double().where(probs >= threshold, -1.0)
    best, likely = confident.max(1)
    likely = torch.where(best >= 0, likely, probs.argmax(1))
    return torch.bincount(likely * classes + labels, minlength=classes**2).view(classes, classes).double()


def asymmetry(joint: Tensor) -> float:
    """Share of the disagreements that go one way between two classes, beyond two standard deviations of chance.

    Args:
        joint: (c, c), as of `confident_joint`.

    >>> one_way, both_ways = torch.tensor([[50.0, 36.0], [0.0, 50.0]]), torch.tensor([[50.0, 9.0], [11.0, 50.0]])
    >>> round(asymmetry(one_way), 3), asymmetry(both_ways)
    (0.667, 0.0)
    """
    excess = (joint - joint.T - 2 * (joint + joint.T).sqrt()).double().clamp(min=0)
    disagreements = float(joint.sum() - joint.trace())
    return float(excess.sum()) / disagreements if disagreements else 0.0


def transition_odds(joint: Tensor) -> Tensor:
    """(c, c) odds that an example of class k (row) is labelled y (column), against one of class y being so.

    They are divided by their mean, so that odds that are the same for all pairs change nothing; 1 on the diagonal.

    Args:
        joint: (c, c), as of `confident_joint`.
    """
    classes = joint.shape[0]
    rate = float(joint.sum() - joint.trace()) / float(joint.sum())
    prior = torch.full_like(joint, rate / (classes - 1)).fill_diagonal_(1 - rate)
    counts = joint + (1 + 0.2 * joint.sum(1, keepdim=True)) * prior
    transition = counts / counts.sum(1, keepdim=True)
    odds = transition / transition.diagonal()[None, :]
    rest = ~torch.eye(classes, dtype=torch.bool)
    odds = odds / odds[rest].mean()
    return odds.fill_diagonal_(1)


def _probability_of_lower_group(log_odds: Tensor, classes: int) -> tuple[Tensor, bool]:
    """(m,) probability that a label is wrong, and whether the wrong ones form a group of their own."""
    number = log_odds.numel()
    if number >= 2 * SMALLEST_GROUP:
        share, centre, spread, gain = fit_two_normals(log_odds, max_ratio=MAX_SPREAD_RATIO)
        if (
            is_better_than_one(gain, number)
            and ashman_d(centre, spread) >= SEPARATION
            and float(centre[0]) <= WRONG_GROUP_LOG_ODDS
            and float(share[0]) * number >= SMALLEST_GROUP
        ):
            # between the two means: beyond them a wider distribution would take examples from the other's far end
            z = log_odds.clamp(float(centre[0]), float(centre[1]))[:, None]
            logs = share.log() - spread.log() - ((z - centre) / spread).square() / 2
            return torch.softmax(logs, dim=1)[:, 0], True
    prior = math.log(PRIOR_RATE / (1 - PRIOR_RATE) / max(classes - 1, 1))
    return torch.sigmoid(prior - log_odds), False


def _temperature(y: Tensor, p_wrong: Tensor, neighbour_ids: Tensor | None, q: Tensor, *, is_out_of_fold: bool) -> float:
    """The power of class probabilities that predicts right labels best.

    Of an example whose label is right the class is known: probabilities that its label had no part in, those of its
    neighbours or out-of-fold ones, say how soft they are. 1 where there are none.
    """
    if neighbour_ids is not None:
        reference = torch.zeros_like(q)
        for column in neighbour_ids.T:
            reference += q[column] / neighbour_ids.shape[1]
    elif is_out_of_fold:
        reference = q
    else:
        return 1.0
    right = p_wrong < FLAGGED  # NaN is False
    if not bool(right.any()):
        return 1.0
    logs, labels = reference[right].log(), y[right]
    losses = {power: float(F.cross_entropy(power * logs, labels)) for power in TEMPERATURES}
    return min(losses, key=lambda power: losses[power])


def _share_of_largest(weights: Tensor, power: float) -> Tensor:
    """(n,) float64 share of the largest of each row of ``weights`` to a power."""
    logs = power * weights.double().clamp(min=1e-30).log()
    return torch.softmax(logs, dim=1).max(1).values


def _nothing_wrong(y: Tensor, classes: int, evidence: dict[str, Tensor], notes: Sequence[str]) -> LabelErrors:
    zeros = torch.zeros(y.numel(), dtype=torch.float64)
    one_hot = torch.zeros(y.numel(), classes).scatter_(1, y[:, None], 1.0)
    return LabelErrors(zeros, y.clone(), zeros.clone(), 0.0, False, one_hot, evidence, tuple(notes))


def _by_cleanlab(y: Tensor, probs: Tensor, evidence: dict[str, Tensor]) -> LabelErrors:
    """Confident learning: cleanlab's issues are those above one half, ranked by its label quality."""
    find_label_issues = import_extra("cleanlab.filter", "cleanlab", "`engine='cleanlab'`").find_label_issues
    label_quality = import_extra("cleanlab.rank", "cleanlab", "`engine='cleanlab'`").get_label_quality_scores
    class_ids, p = y.numpy(), probs.double().numpy()
    p = p / p.sum(1, keepdims=True)
    flagged = torch.from_numpy(np.asarray(find_label_issues(class_ids, p)))
    quality = torch.from_numpy(np.asarray(label_quality(class_ids, p), dtype=np.float64))
    # its scores are no probabilities: the flagged are put above one half, in its order
    p_wrong = torch.where(flagged, 1 - quality / 2, (1 - quality) / 2)
    rows = torch.arange(y.numel())
    rest = torch.from_numpy(p).index_put((rows, y), torch.zeros((), dtype=torch.float64))
    top, suggested = rest.max(1)
    share = top / rest.sum(1).clamp(min=1e-12)
    notes = ("confident learning by cleanlab: its scores are an order and no probabilities",)
    rate = float(flagged.double().mean())
    return LabelErrors(p_wrong, suggested, p_wrong * share, rate, False, probs, evidence, notes)


def class_alignment(features: Any, labels: Any) -> Tensor:
    """The cosine between each example and the mean of the others of its class, in [-1, 1]; 0 for a class of one.

    Args:
        features: (n, d) float.
        labels: (n,) int.

    >>> class_alignment([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], [0, 0, 0])[2] < 0.1
    tensor(True)
    """
    rows, y = unit_rows(check.matrix("features", features).float()), check.labels("labels", labels)
    sums = torch.zeros(int(y.max()) + 1, rows.shape[1]).index_add_(0, y, rows)
    without = sums[y] - rows
    norm = torch.linalg.vector_norm(without, dim=1)
    cosine = (without * rows).sum(1) / norm.clamp(min=1e-12)
    return torch.where(norm > 1e-6, cosine, 0.0).clamp(-1, 1)


def _evidence(
    y: Tensor, p_mean: Tensor | None, margin: Any, correct: Any, vectors: Tensor | None, neighbour_ids: Tensor | None
) -> dict[str, Tensor]:
    evidence: dict[str, Tensor] = {}
    if p_mean is not None:
        evidence["p_label"] = p_mean
    if neighbour_ids is not None:
        different = torch.zeros(y.numel())
        for column in neighbour_ids.T:
            different += y[column] != y
        evidence["disagreeing"] = different / neighbour_ids.shape[1]
    if vectors is not None:
        evidence["alignment"] = class_alignment(vectors, y)
    if margin is not None:
        evidence["aum"] = mean_over_epochs(check.array("margin", margin, "epochs,n"), "margin", "skip")
    if correct is not None:
        evidence["forgotten"] = forgetting(correct, never_learned="zero", missing="skip")
    for name, values in evidence.items():
        if values.numel() != y.numel():
            raise ArgumentError(f"{name} is of {values.numel():,} examples, labels of {y.numel():,}")
    return evidence


def label_issues(
    errors: LabelErrors, labels: Any, classes: Sequence[str], *, epochs: int = 0, num_neighbours: int = NUM_NEIGHBOURS
) -> list[Issue]:
    """The labels that are likely wrong as issues, with their evidence in words.

    Relabelling is suggested where the class is probable enough (0.75), dropping where only the error is (0.9), and a
    look at the rest.

    Args:
        errors: as of `find_label_errors`.
        labels: (n,) int, class ids as labelled.
        classes: names of the classes.
        epochs: of the recording, for the words.
        num_neighbours: as in `find_label_errors`, for the words.
    """
    y = check.labels("labels", labels)
    issues = []
    for i in torch.nonzero(errors.p_wrong >= FLAGGED).flatten().tolist():
        p, p_class, name = float(errors.p_wrong[i]), float(errors.p_suggested[i]), classes[int(errors.suggested[i])]
        names_class = not math.isnan(p_class)
        action = f"relabel:{name}" if p_class >= SURE_OF_CLASS else "drop" if p >= SURE_OF_ERROR else "look"
        words = _words(errors, i, int(y[i]), classes, epochs, num_neighbours)
        issues.append(
            Issue(
                "label",
                i,
                min(p, 1.0),
                words,
                suggested_label=name if names_class else "",
                suggested_probability=min(p_class, 1.0) if names_class else None,
                action=action,
            )
        )
    return issues


def _words(errors: LabelErrors, i: int, y: int, classes: Sequence[str], epochs: int, num_neighbours: int) -> str:
    """The evidence against one label, in a sentence."""
    label, suggested = classes[y], classes[int(errors.suggested[i])]
    values = {name: float(column[i]) for name, column in errors.evidence.items()}
    words = []
    if "p_label" in values:
        over = f", mean of {many(epochs, 'epoch')}" if epochs else ""
        words.append(f"p({label}) {values['p_label']:.2f}{over}")
    else:
        words.append(f"p({label}) {float(errors.class_probs[i, y]):.2f}")
    if "disagreeing" in values:
        words.append(
            f"{round(values['disagreeing'] * num_neighbours)} of {num_neighbours} neighbours labelled otherwise"
        )
    if "aum" in values:
        words.append(f"margin {values['aum']:+.1f}")
    if "alignment" in values:
        words.append(f"cosine to its class {values['alignment']:.2f}")
    if values.get("forgotten"):
        words.append(f"forgotten {many(values['forgotten'], 'time')}")
    if not math.isnan(float(errors.p_suggested[i])):
        words.append(f"looks like {suggested}")
    return "; ".join(words)
