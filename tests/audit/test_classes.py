"""Short and missing classes, and confused pairs."""

from __future__ import annotations

import pytest
import torch

from datawinnow.audit.classes import class_issues, confused_classes
from datawinnow.core.errors import ArgumentError

NAMES = ["a", "b", "c", "d"]


def test_short_and_missing_classes_are_named_with_their_split():
    train = torch.tensor([0] * 400 + [1] * 300 + [2] * 30 + [3] * 9)
    issues = class_issues({"train": train, "test": torch.tensor([0, 1, 1])}, NAMES)
    assert [(i.issue, i.label, i.split) for i in issues] == [
        ("short_class", "d", "train"),
        ("missing_class", "c", "test"),
        ("missing_class", "d", "test"),
    ]
    assert issues[0].severity > 0.9
    assert "9 training examples" in issues[0].evidence
    # 30 is enough beside a median of 165, and too few beside 350
    train = torch.tensor([0] * 400 + [1] * 350 + [2] * 30 + [3] * 380)
    assert [(i.issue, i.label) for i in class_issues({"train": train}, NAMES)] == [("short_class", "c")]


def test_even_classes_have_no_issue_and_a_class_without_training_examples_is_missing():
    assert class_issues({"train": torch.arange(80) % 4, "test": torch.arange(8) % 4}, NAMES) == []
    [issue] = class_issues({"train": torch.arange(60) % 3, "test": torch.arange(8) % 4}, NAMES)
    assert (issue.issue, issue.label, issue.split, issue.severity) == ("missing_class", "d", "train", 1.0)
    assert "2 in test" in issue.evidence


def test_ids_beyond_the_classes_are_refused():
    with pytest.raises(ArgumentError, match="class 4 of 4"):
        class_issues({"train": torch.tensor([4])}, NAMES)


def test_the_pair_that_is_confused_is_named_with_its_numbers():
    labels = torch.arange(4).repeat_interleave(50)
    looks = labels.clone()
    looks[:8] = 1  # of a, like b
    looks[50:53] = 0  # of b, like a
    looks[190:199] = 2  # of d, like c
    probs = torch.full((200, 4), 0.02).scatter_(1, looks[:, None], 0.94)
    issue, other = confused_classes(probs, labels, NAMES)
    assert (other.label, other.suggested_label, other.severity) == ("d", "c", pytest.approx(0.09))
    assert (issue.label, issue.suggested_label) == ("a", "b")
    assert issue.severity == pytest.approx(11 / 100)
    assert "8 labelled a look like b, 3 labelled b like a" in issue.evidence
    assert issue.example == -1
    few = torch.arange(2).repeat_interleave(5)
    probs = torch.full((10, 2), 0.1).scatter_(1, torch.tensor([1, 1, 0, 0, 0, 1, 1, 1, 1, 1])[:, None], 0.9)
    assert confused_classes(probs, few, NAMES) == []  # two are too few to tell


def test_a_class_of_nine_is_short_beside_one_of_sixty():
    [issue] = class_issues({"train": torch.tensor([0] * 60 + [1] * 60 + [2] * 9)}, NAMES[:3])
    assert issue.label == "c"
