"""Classes that are short, missing from a split, or taken for each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from datawinnow.audit.label_errors import confident_joint
from datawinnow.core import check
from datawinnow.core.counts import many
from datawinnow.core.errors import ArgumentError
from datawinnow.core.issues import Issue

FEW_EXAMPLES = 10
"""A class with fewer training examples is short, whatever the others have."""
SHORT_SHARE = 0.1
"""A class with a smaller share of the median class's number is short."""
MIN_CONFUSED = 3
"""Examples of a pair of classes that are taken for each other, at least."""
MIN_CONFUSED_SHARE = 0.02
"""Smallest share of them among the examples of the two classes."""
MAX_PAIRS = 50
"""Pairs that are listed, those that are confused most."""


def class_issues(labels: Mapping[str, Any], classes: Sequence[str]) -> list[Issue]:
    """Classes with few training examples, and those that a split lacks.

    Args:
        labels: split -> (n,) int class ids; ``"train"``, and ``"test"`` where there is one. Ids of -1 are no class.
        classes: names of the classes.

    Raises:
        ArgumentError: a class id at or above ``len(classes)``.

    >>> [(i.issue, i.label) for i in class_issues({"train": [0] * 90 + [1] * 5, "test": [0]}, ["cat", "dog"])]
    [('short_class', 'dog'), ('missing_class', 'dog')]
    """
    counts = {}
    for split, values in labels.items():
        ids = check.as_tensor("labels", values).long()
        ids = ids[ids >= 0]
        if ids.numel() and int(ids.max()) >= len(classes):
            raise ArgumentError(f"labels of the {split} split have class {int(ids.max())} of {len(classes)}")
        counts[split] = torch.bincount(ids, minlength=len(classes))
    issues = []
    train = counts["train"]
    median = float(train[train > 0].double().quantile(0.5)) if bool((train > 0).any()) else 0.0
    for k, number in enumerate(train.tolist()):
        if number and (number < FEW_EXAMPLES or number < SHORT_SHARE * median):
            words = f"{many(number, 'training example')}; the median class has {median:,.0f}"
            severity = 1 - number / max(FEW_EXAMPLES, median, number + 1)
            issues.append(Issue("short_class", -1, severity, words, label=classes[k]))
    for split, values in counts.items():
        for k in torch.nonzero(values == 0).flatten().tolist():
            rest = ", ".join(f"{int(counts[name][k]):,} in {name}" for name in counts if name != split)
            words = f"no example in {split}{f', {rest}' if rest else ''}"
            issues.append(Issue("missing_class", -1, 1.0, words, split=split, label=classes[k]))
    return issues


def confused_classes(probs: Any, labels: Any, classes: Sequence[str]) -> list[Issue]:
    """Pairs of classes that are taken for each other: how many examples labelled one look like the other.

    An example counts as in `datawinnow.audit.label_errors.confident_joint`.

    Args:
        probs: (n, c) float class probabilities that the label of an example had little part in.
        labels: (n,) int.
        classes: names of the classes.

    Returns:
        Up to 50 pairs, the most confused first; ``label`` is the class as labelled more often, ``suggested_label`` the
        one that it is taken for.

    >>> probs = torch.tensor([[0.9, 0.1]] * 10 + [[0.2, 0.8]] * 10)
    >>> [issue] = confused_classes(probs, [0] * 6 + [1] * 4 + [1] * 10, ["cat", "dog"])
    >>> issue.label, issue.suggested_label, issue.evidence
    ('dog', 'cat', '4 labelled dog look like cat, 0 labelled cat like dog: 20% of 20')
    """
    joint = confident_joint(check.distributions("probs", probs).float(), check.labels("labels", labels))
    size = joint.sum(0)
    both = joint + joint.T
    share = both / (size[:, None] + size[None, :]).clamp(min=1)
    pairs = torch.triu((both >= MIN_CONFUSED) & (share >= MIN_CONFUSED_SHARE), diagonal=1)
    listed = sorted(torch.nonzero(pairs).tolist(), key=lambda pair: -float(share[pair[0], pair[1]]))
    issues = []
    for a, b in listed[:MAX_PAIRS]:
        # labelled a, looks like b
        if float(joint[a, b]) > float(joint[b, a]):
            a, b = b, a
        words = (
            f"{joint[b, a]:,.0f} labelled {classes[a]} look like {classes[b]}, {joint[a, b]:,.0f} labelled "
            f"{classes[b]} like {classes[a]}: {100 * float(share[a, b]):.0f}% of {float(size[a] + size[b]):,.0f}"
        )
        severity = min(1.0, float(share[a, b]))
        issues.append(Issue("confused", -1, severity, words, label=classes[a], suggested_label=classes[b]))
    return issues
