"""Never learned, and right early then lost."""

from __future__ import annotations

import pytest
import torch

from datawinnow.audit.learning import learning_issues
from datawinnow.core.errors import ArgumentError


def named(correct, p_label=None):
    return {(issue.issue, issue.example) for issue in learning_issues(correct, p_label)[0]}


def literal(correct):
    """The same in loops, of examples that are seen in every epoch."""
    epochs, n = correct.shape
    answer = set()
    for i in range(n):
        column = [bool(value) for value in correct[:, i]]
        if not any(column):
            answer.add(("never_learned", i))
            continue
        early = column[: epochs // 2]
        if True not in early:
            continue
        early = early[early.index(True) :]
        late = column[-max(2, epochs // 4) :]
        if sum(early) >= 2 and sum(early) >= len(early) / 2 and not any(late):
            answer.add(("forgotten", i))
    return answer


def test_it_is_the_literal_loop():
    correct = torch.rand(12, 4000, generator=torch.Generator().manual_seed(0)) < 0.35
    mine = named(correct)
    assert mine == literal(correct)
    assert {kind for kind, _ in mine} == {"never_learned", "forgotten"}


def test_severity_is_one_minus_the_mean_probability_and_unseen_epochs_do_not_count():
    correct = torch.zeros(8, 3)
    correct[:, 1] = 1
    correct[4:, 0] = torch.nan
    correct[:, 2] = torch.nan
    p = torch.full((8, 3), 0.2)
    p[4:, 0] = torch.nan
    [issue] = learning_issues(correct, p)[0]
    assert (issue.issue, issue.example) == ("never_learned", 0)
    assert issue.severity == pytest.approx(0.8)
    assert "all of 4 epochs" in issue.evidence
    assert "0.20" in issue.evidence


def test_a_short_recording_says_nothing_but_that():
    issues, notes = learning_issues(torch.zeros(3, 5))
    assert issues == []
    assert "3 epochs" in notes[0]


def test_other_values_and_lengths_are_refused():
    with pytest.raises(ArgumentError, match="0 and 1"):
        learning_issues(torch.full((5, 2), 0.5))
    with pytest.raises(ArgumentError, match="p_label is of 3 examples, correct of 2"):
        learning_issues(torch.zeros(5, 2), torch.zeros(5, 3))
