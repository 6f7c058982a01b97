"""Whether a network learned anything: its accuracy against that of always predicting the largest class."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from datawinnow.core.errors import LearningWarning

NOISE_LEVEL = 0.05
"""Probability below which as many correct predictions are not put down to chance."""
LEARNING_REMEDY = (
    "try another learning rate (`lr=`), more epochs (`epochs=`), vectors whose columns are of one scale, or "
    "another network (`model=`)"
)


@dataclass(frozen=True)
class Baseline:
    """Examples on which a network is compared with always predicting the largest class.

    Attributes:
        majority: share of the largest class, in [0, 1].
        n: number of examples.
    """

    majority: float
    n: int

    @classmethod
    def of(cls, labels: Iterable[int]) -> Baseline:
        """Of the labels of all examples.

        >>> Baseline.of([0, 0, 0, 1])
        Baseline(majority=0.75, n=4)
        """
        counts = Counter(labels)
        n = counts.total()
        return cls(max(counts.values()) / n, n)

    @classmethod
    def from_dict(cls, values: Any) -> Baseline | None:
        """From JSON; None where there is none."""
        return None if not values else cls(float(values["majority"]), int(values["n"]))

    def is_near_chance(self, accuracy: float) -> bool:
        """Whether an accuracy is not above the share of the largest class by more than noise explains.

        A one-sided binomial test: the probability of at least so many correct predictions among ``n``, each correct
        with probability ``majority``, is at least `NOISE_LEVEL`. False for NaN, which is another fault, and for a
        single class, where there is nothing to learn.

        >>> Baseline(0.5, 24).is_near_chance(0.6), Baseline(0.5, 24).is_near_chance(0.75)
        (True, False)
        """
        if math.isnan(accuracy) or self.majority >= 1:
            return False
        return _binomial_tail(round(accuracy * self.n), self.n, self.majority) >= NOISE_LEVEL

    def sentence(self, accuracy: float, examples: str) -> str:
        """A warning about a network near chance; ``""`` for one that learned.

        Args:
            accuracy: in [0, 1].
            examples: what it was measured on, in words, as ``"held-out examples"``.

        >>> Baseline(0.5, 24).sentence(0.5, "held-out examples")[:95]
        'the network is near chance: 50.0% right on 24 held-out examples, where always predicting the la'
        """
        if not self.is_near_chance(accuracy):
            return ""
        return (
            f"the network is near chance: {100 * accuracy:.1f}% right on {self.n:,} {examples}, where always "
            f"predicting the largest class has {100 * self.majority:.1f}%"
        )


def _binomial_tail(correct: int, n: int, probability: float) -> float:
    """Probability of at least ``correct`` successes in ``n`` trials."""
    mean, variance = n * probability, n * probability * (1 - probability)
    if variance > 1000:  # close enough to normal
        return 0.5 * math.erfc((correct - 0.5 - mean) / math.sqrt(2 * variance))
    log_odds = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        + k * math.log(probability) + (n - k) * math.log1p(-probability)
        for k in range(max(0, correct), n + 1)
    ]  # fmt: skip
    return math.fsum(map(math.exp, log_odds))


def chance_sentence(
    train: Baseline | None, train_accuracy: float | None, test: Baseline | None, test_accuracy: float | None
) -> str:
    """A warning about a trained network that is near chance on what it was trained on, or on held-out examples.

    Args:
        train: the examples trained on; None to look only at the held-out ones.
        train_accuracy: on these, in the last epoch.
        test: the held-out examples; None without any.
        test_accuracy: on these.

    Returns:
        The warning with what to do; ``""`` for a network that learned.
    """
    if train is not None and train_accuracy is not None:
        sentence = train.sentence(train_accuracy, "training examples")
        if sentence:
            return f"{sentence}. What is scored, chosen or compared with it is noise; {LEARNING_REMEDY}"
    if test is not None and test_accuracy is not None:
        sentence = test.sentence(test_accuracy, "held-out examples")
        if sentence:
            return f"{sentence}. It has not learned what carries over to them, so do not rely on it; {LEARNING_REMEDY}"
    return ""


def rows_sentence(rows: Iterable[Mapping[str, Any]]) -> str:
    """A warning about the result rows whose networks are near chance; ``""`` if none is.

    Args:
        rows: with ``accuracy``, ``label``, ``test_n`` and ``majority``, the share of the largest class among the
            held-out examples; rows without it, of earlier versions, are left out.

    >>> rows_sentence([{"accuracy": 0.1, "label": "random", "test_n": 359, "majority": 0.1}])[:62]
    'Near chance, where always predicting the largest class has 10.'
    """
    labels: dict[str, float] = {}
    for row in rows:
        if row.get("majority") is None or row.get("accuracy") is None:
            continue
        if Baseline(row["majority"], row["test_n"]).is_near_chance(row["accuracy"]):
            labels[str(row["label"])] = row["majority"]
    if not labels:
        return ""
    return (
        f"Near chance, where always predicting the largest class has {100 * max(labels.values()):.1f}%: "
        f"{', '.join(labels)}. A comparison with networks that learned nothing says nothing; {LEARNING_REMEDY}."
    )


def warn_of_learning(sentence: str) -> None:
    """Warn with `LearningWarning`, once for each text; nothing for ``""``."""
    if sentence:
        warnings.warn(sentence, LearningWarning, stacklevel=1)
