"""Memory goes by the largest class id: an id that is a hash or a product's number is refused, and not counted up to."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

import datawinnow as dw
from datawinnow.condense import dm
from datawinnow.core import check
from datawinnow.core.errors import ArgumentError, DataError, RunError
from datawinnow.core.rng import stream
from datawinnow.core.row_checks import checked_rows, with_row_checks
from datawinnow.data.dataset_info import dataset_info
from datawinnow.instruct.quotas import cluster_quotas
from datawinnow.scenarios import long_tail
from datawinnow.scores import moderate, prototypes
from datawinnow.select import per_class, random

HUGE = 1 << 40
LABELS = torch.tensor([0, 1, HUGE, 1])
X = torch.eye(4)


class Items:
    """A map-style dataset that has no labels but those of its items."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return torch.zeros(1, 4, 4), int(LABELS[i])


class Labelled(Items):
    targets = LABELS.tolist()


@pytest.mark.parametrize(
    "call",
    [
        lambda: moderate(X, LABELS),
        lambda: prototypes(X, LABELS),
        lambda: per_class(random)(labels=LABELS, budget=2, generator=stream(0, "a")),
        lambda: long_tail(X, LABELS, rate=0.5, generator=stream(0, "a")),
        lambda: dataset_info(Items()),
        lambda: dataset_info(Labelled()),
        lambda: dw.Synthetic(torch.zeros(4, 1, 4, 4), LABELS),
        lambda: dm(torch.zeros(4, 1, 4, 4), LABELS, per_class=1, build=torch.nn.Identity, generator=stream(0, "a")),
        lambda: dw.prune(Items(), keep=0.5, method="random"),
        lambda: dw.load(Items(), holdout=0.5),
    ],
)
def test_a_huge_id_is_named(call):
    with pytest.raises((ArgumentError, DataError), match=rf"{HUGE} at example 2.*number the classes from 0"):
        call()


def test_the_largest_id_that_is_taken():
    assert check.labels("labels", [check.MAX_CLASSES - 1]).tolist() == [check.MAX_CLASSES - 1]
    with pytest.raises(ArgumentError, match="at example 1"):
        check.labels("labels", [0, check.MAX_CLASSES])
    with pytest.raises(ArgumentError, match="classes"):
        long_tail(X, torch.arange(4) % 2, rate=0.5, generator=stream(0, "a"), classes=10**9)


def test_ids_that_are_only_compared_may_be_huge():
    assert cluster_quotas([5.0, 4.0, 3.0, 2.0], [0, 0, 0, HUGE], budget=2).index.tolist() == [0, 3]
    train, _ = dw.load((np.zeros((8, 9), np.float32), np.array([7, HUGE] * 4)), holdout=0.5)
    assert train.classes == ("7", str(HUGE))


def test_the_number_of_rows_in_a_file_asks_for_no_memory(tmp_path):
    table = with_row_checks(pa.table({"id": ["a", "b"]}), ["id"])
    assert checked_rows(table, tmp_path, 2**50, "").tolist() == [0, 1]
    with pytest.raises(RunError, match="has position 1 2 times"):
        checked_rows(table.take([1, 0, 1]), tmp_path, 2**50, "")
