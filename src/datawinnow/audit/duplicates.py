"""Duplicates in groups: of the same content, or nearly; which example stands for a group, and which can be dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datawinnow.audit.near_pairs import NearPairs, join_pairs
from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.core.issues import Issue

MAX_VERIFIED = 200_000
"""Pairs within groups that are verified beyond those that are near already, at most."""

Verify = Callable[[Tensor, Tensor], NearPairs]


@dataclass(frozen=True)
class Duplicates:
    """Groups of duplicates: every member is a duplicate of the one that stands for the group, not of a chain.

    Attributes:
        group: (n,) int64 number of the group, from 0; -1 for an example without duplicates.
        original: (n,) int64 the example that it is a duplicate of, which is kept; itself for that one, -1 for none.
        similarity: (n,) float64 to the original, in [0, 1]: 1 for the same content; 0 for an example in no group.
        is_exact: (n,) bool, whether it has the content of the original.
        change: (n,) int64, what differs from the original: a number of ``changes``.
        changes: sentences, with ``{other}`` for the name of the original.
        is_test: (n,) bool.
    """

    group: np.ndarray
    original: np.ndarray
    similarity: np.ndarray
    is_exact: np.ndarray
    change: np.ndarray
    changes: tuple[str, ...]
    is_test: np.ndarray

    @property
    def drop(self) -> np.ndarray:
        """(n,) bool: a train example that another stands for."""
        return np.asarray((self.group >= 0) & ~self.is_test & (self.original != np.arange(len(self.group))))

    @property
    def leaks(self) -> np.ndarray:
        """(n,) bool: a train example that is a duplicate of a test example."""
        return np.asarray(self.drop & self.is_test[np.maximum(self.original, 0)])


def group_duplicates(
    same: Tensor,
    near: NearPairs | None = None,
    *,
    labels: Any = None,
    is_test: Any = None,
    verify: Verify | None = None,
) -> Duplicates:
    """Divide duplicates into groups around an example each, which stands for the group (`KEEP_RULE`).

    Contents that are near to each other, directly or not, form a component. Its content with the most near ones becomes
    an original and takes those; what remains is divided the same way. So two unlike examples are in no group together
    because a third is like both. Contents with a test example come first, and none of them is taken while a train
    example is near it: every train example that is a duplicate of a test example is in a group with one.

    Args:
        same: (n,) int64, the first example with the same content (`same_content`).
        near: pairs of such first examples; None for none.
        labels: (n,) int, class ids; of copies of the kept content, that with the group's most frequent label stays.
        is_test: (n,) bool, the examples of the test split, which are never dropped; None for none.
        verify: tells of pairs of positions which are near; called for members of a component that were not compared
            with its original, since only the nearest of each example are.

    Returns:
        `Duplicates`.

    Raises:
        ArgumentError: arrays of different lengths.
    """
    same = check.labels("same", same, limit=None)
    n = len(same)
    first = same.numpy()
    test = np.zeros(n, dtype=bool) if is_test is None else np.asarray(is_test, dtype=bool)
    classes = None if labels is None else check.labels("labels", labels, n).numpy()
    if test.shape != (n,):
        raise ArgumentError(f"is_test must have shape ({n},), got {test.shape}")
    near = join_pairs([], ("",)) if near is None else near
    has_test = np.zeros(n, dtype=bool)
    np.logical_or.at(has_test, first, test)
    edges = _Edges(near)
    rank = _priority(edges, has_test, n)
    if verify is not None and len(near.first):
        edges.add(_remaining_pairs_verified(edges, rank, n, verify))
        rank = _priority(edges, has_test, n)
    content, similarity, change = _stars(edges, rank, has_test, n)
    # from contents to examples
    centre = content[first]
    members = np.bincount(centre, minlength=n)
    grouped = members[centre] > 1
    original = np.full(n, -1)
    similarity, change = similarity[first], change[first]
    is_exact = grouped & (first == centre)
    numbers = np.full(n, -1)
    order = np.flatnonzero(grouped)
    order = order[np.argsort(centre[order], kind="stable")]
    stops = np.flatnonzero(np.diff(centre[order], prepend=-1, append=n))
    # groups are numbered by their first example
    groups = sorted((order[a:b] for a, b in pairwise(stops.tolist())), key=lambda ids: int(ids[0]))
    for number, ids in enumerate(groups):
        numbers[ids] = number
        original[ids] = _kept_example(ids[is_exact[ids]], ids, test, classes)
    similarity[~grouped], change[~grouped] = 0, 0
    return Duplicates(numbers, original, similarity, is_exact, change, near.changes, test)


class _Edges:
    """Near pairs as lists of neighbours."""

    def __init__(self, near: NearPairs) -> None:
        self.neighbours: dict[int, dict[int, tuple[float, int]]] = {}
        self.add(near)

    def add(self, near: NearPairs) -> None:
        """More pairs; of a pair that is there already, the more similar way."""
        columns = (near.first, near.second, near.similarity.double(), near.change)
        for a, b, similarity, change in zip(*(column.tolist() for column in columns), strict=True):
            for i, j in ((a, b), (b, a)):
                known_edges = self.neighbours.setdefault(i, {})
                if j not in known_edges or similarity > known_edges[j][0]:
                    known_edges[j] = (similarity, change)

    def components(self) -> list[list[int]]:
        """Positions that are joined, directly or not."""
        seen: set[int] = set()
        components = []
        for start in self.neighbours:
            if start in seen:
                continue
            seen.add(start)
            component, todo = [], [start]
            while todo:
                i = todo.pop()
                component.append(i)
                new = [j for j in self.neighbours[i] if j not in seen]
                seen.update(new)
                todo += new
            components.append(component)
        return components


def _priority(edges: _Edges, has_test: np.ndarray, n: int) -> np.ndarray:
    """(n,) places in which contents become originals: with a test example, with more neighbours, the first."""
    degree = np.zeros(n, dtype=np.int64)
    for i, neighbours in edges.neighbours.items():
        degree[i] = len(neighbours)
    order = np.lexsort((np.arange(n), -degree, ~has_test))
    rank = np.empty(n, dtype=np.int64)
    rank[order] = np.arange(n)
    return rank


def _remaining_pairs_verified(edges: _Edges, rank: np.ndarray, n: int, verify: Verify) -> NearPairs:
    """Near pairs among those of a component's first original and the members that it was not compared with."""
    first: list[int] = []
    second: list[int] = []
    for component in edges.components():
        centre = min(component, key=lambda i: int(rank[i]))
        unknown = [i for i in component if i != centre and i not in edges.neighbours[centre]]
        first += [centre] * len(unknown)
        second += unknown
    return verify(
        torch.tensor(first[:MAX_VERIFIED], dtype=torch.int64), torch.tensor(second[:MAX_VERIFIED], dtype=torch.int64)
    )


def _stars(edges: _Edges, rank: np.ndarray, has_test: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) the original of each content, the similarity to it and the change."""
    centre, similarity, change = np.arange(n), np.ones(n), np.zeros(n, dtype=np.int64)
    order = sorted(edges.neighbours, key=lambda i: int(rank[i]))
    taken: set[int] = set()

    def take(i: int, j: int) -> None:
        taken.update((i, j))
        centre[j] = i
        similarity[j], change[j] = edges.neighbours[i][j]

    for i in order:
        if has_test[i]:
            for j in edges.neighbours[i]:
                if not has_test[j] and j not in taken:
                    take(i, j)
    for i in order:
        # a test content that has taken others stays what it is
        if i not in taken or (has_test[i] and centre[i] == i):
            for j in edges.neighbours[i]:
                if j not in taken:
                    take(i, j)
    return centre, similarity, change


def _kept_example(copies: np.ndarray, ids: np.ndarray, test: np.ndarray, classes: np.ndarray | None) -> int:
    """Which of the copies of the kept content stays, of a group of ``ids`` in rising order."""
    in_test = copies[test[copies]]
    if len(in_test):
        return int(in_test[0])
    if classes is not None:
        votes = Counter(classes[ids].tolist())
        # max is the first of equal ones
        return int(max(copies.tolist(), key=lambda i: votes[int(classes[i])]))
    return int(copies[0])


def duplicate_issues(
    duplicates: Duplicates,
    *,
    ids: Mapping[str, Sequence[str]] | None = None,
    labels: Any = None,
    classes: Sequence[str] = (),
    contents: str = "content",
) -> list[Issue]:
    """A row for every member of a group: ``duplicate``, ``near_duplicate``, or ``leakage`` across the splits.

    What is dropped is a train example only. Where the labels of a group disagree and no label has most of it, a person
    is to look.

    Args:
        duplicates: of the train examples followed by the test examples.
        ids: split -> names of its examples, for the evidence; positions by default.
        labels: (n,) int, class ids; None for unknown.
        classes: names of the classes, for the evidence; ids by default.
        contents: what copies have in common, in words: ``"pixels"``, ``"text"``.

    Returns:
        A list of `Issue`.

    >>> import torch
    >>> groups = group_duplicates(torch.tensor([0, 1, 0]), is_test=[False, False, True])
    >>> [(i.issue, i.split, i.example, i.action) for i in duplicate_issues(groups)]
    [('leakage', 'train', 0, 'drop'), ('leakage', 'test', 0, 'keep')]
    """
    test, n_train = duplicates.is_test, int((~duplicates.is_test).sum())
    if test[:n_train].any():
        raise ArgumentError("duplicates must be of the train examples followed by the test examples")
    class_ids = None if labels is None else check.labels("labels", labels, len(test)).numpy()

    def place(i: int) -> tuple[str, int]:
        return ("test", i - n_train) if test[i] else ("train", i)

    def name(i: int) -> str:
        split, position = place(i)
        if not ids or split not in ids:
            return f"{split} {position}"
        return f"{ids[split][position]} (test)" if split == "test" else str(ids[split][position])

    def label(i: int) -> str:
        assert class_ids is not None
        number = int(class_ids[i])
        return str(classes[number]) if number < len(classes) else f"class {number}"

    members: dict[int, list[int]] = {}
    for i in np.flatnonzero(duplicates.group >= 0).tolist():
        members.setdefault(int(duplicates.group[i]), []).append(i)
    issues = []
    for group, examples in members.items():
        original = int(duplicates.original[examples[0]])
        crosses = any(test[i] for i in examples) and not all(test[i] for i in examples)
        remaining = [i for i in examples if i != original]
        votes = Counter() if class_ids is None else Counter(class_ids[examples].tolist())
        disagree = len(votes) > 1
        undecided = disagree and 2 * max(votes.values()) <= len(examples)
        if disagree:
            names = ", ".join(
                f"{classes[c] if c < len(classes) else f'class {c}'} ({k})" for c, k in votes.most_common(5)
            )
            note = f"; the labels of the group differ: {names}"
        for i in examples:
            split, position = place(i)
            is_exact = bool(duplicates.is_exact[i])
            if i == original:
                is_exact = any(duplicates.is_exact[j] for j in remaining)
                shown = ", ".join(name(j) for j in remaining[:3]) + (
                    f" and {len(remaining) - 3} more" if len(remaining) > 3 else ""
                )
                sentence = f"stands for {shown}"
                severity = float(max(duplicates.similarity[j] for j in remaining))
            else:
                sentence = (
                    f"the {contents} of {name(original)}"
                    if is_exact
                    else f"{duplicates.changes[int(duplicates.change[i])].format(other=name(original))} "
                    f"(similarity {duplicates.similarity[i]:.3f})"
                )
                severity = float(duplicates.similarity[i])
            if not duplicates.drop[i]:
                action = "keep"
            elif undecided and not duplicates.leaks[i]:
                action = "look"
            else:
                action = "drop"
            if disagree and class_ids is not None and i != original and class_ids[i] != class_ids[original]:
                sentence += f", labelled {label(i)} and not {label(original)}"
            elif disagree:
                sentence += note
            issues.append(
                Issue(
                    "leakage" if crosses else "duplicate" if is_exact else "near_duplicate",
                    position,
                    min(1.0, max(0.0, severity)),
                    sentence,
                    split=split,
                    group=group,
                    action=action,
                )
            )
    return issues
