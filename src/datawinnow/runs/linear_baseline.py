"""A linear model on the words of texts, beside the network: a network that is behind it is not worth its cost."""

from __future__ import annotations

import math
import time
from typing import Any

from datawinnow.core.duration import duration
from datawinnow.data.texts import Texts

MAX_TEXTS = 200_000
"""Texts of the train split, above which the linear model would take minutes and is left out."""


def linear_accuracy(train: Texts, test: Texts, seed: int = 0) -> float:
    """Accuracy on ``test`` of a logistic regression on TF-IDF weights of words and pairs of words in ``train``.

    Args:
        train: texts with labels.
        test: held-out texts of the same classes.
        seed: of the solver.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2 if len(train) >= 1000 else 1)
    classifier = make_pipeline(words, LogisticRegression(C=10.0, max_iter=200, random_state=seed))
    classifier.fit(list(train.texts), train.labels.numpy())
    return float(classifier.score(list(test.texts), test.labels.numpy()))


def linear_note(train: Any, test: Any, accuracy: float | None, optimizer: str) -> str:
    """A sentence where a linear model beats the network on the test split beyond its 95% noise; ``""`` elsewhere.

    Args:
        train: what the network was trained on, all of it.
        test: the test split; None without one.
        accuracy: of the network on it.
        optimizer: that the network was trained with.
    """
    if not isinstance(train, Texts) or not isinstance(test, Texts) or accuracy is None or len(train) > MAX_TEXTS:
        return ""
    start = time.perf_counter()
    linear = linear_accuracy(train, test)
    # of the difference of two shares of the same texts, at most
    noise = 1.96 * math.sqrt((linear * (1 - linear) + accuracy * (1 - accuracy)) / len(test))
    if linear - accuracy <= noise:
        return ""
    # SGD moves the vector of a rare word in few steps only, AdamW as far as any other
    remedy = "with `optimizer='adamw'`, which learns rare words faster, " if optimizer == "sgd" else ""
    return (
        f"a linear model on the words has {100 * linear:.1f}% on the test split in "
        f"{duration(time.perf_counter() - start)}, this network {100 * accuracy:.1f}%: train it {remedy}for more "
        "epochs (`epochs=`), at another learning rate (`lr=`), or use another network (`model=`) before you rely on "
        "its scores"
    )
