"""What `prune --check` charges the selection with: everything that its run did for scores."""

from __future__ import annotations

import pytest

from datawinnow import api
from datawinnow.bench.check import check
from datawinnow.methods import create_method
from datawinnow.runs.score import score_run
from datawinnow.runs.select import select_run
from tests.runs.conftest import FAST, make_blobs

RECORDED = 2 * 60
SUBSETS = 4 * 2 * 45
"""4 trainings of 2 epochs on three quarters of the examples."""


@pytest.mark.parametrize(
    ("scores", "chosen", "forward", "backward"),
    [
        ([], {"score": "grand_last"}, 60, RECORDED),  # one pass of the recorded network
        (["memorization"], {"score": "memorization"}, 4 * 60, RECORDED + SUBSETS),  # and what each gets right
        (["memorization"], {"score": "grand_last"}, 60 + 4 * 60, RECORDED + SUBSETS),  # read or not
        (["memorization"], {"method": "random"}, 0, 0),
    ],
    ids=["probe", "subsets", "both", "no scores"],
)
def test_scoring_counts_the_probe_and_the_trainings_on_subsets(blobs, tmp_path, scores, chosen, forward, backward):
    folder = api.record(blobs, run=tmp_path / "run", epochs=2, recipe=FAST)
    if scores:
        score_run(folder, blobs, scores, subset_runs=4)
    selection = select_run(folder, blobs, keep=0.3, method=create_method(**chosen))
    rows = check(folder, blobs, make_blobs(9), selection, keep=0.3, epochs=1, recipe=FAST)["rows"]
    (ours,) = [row for row in rows if row["method"] == folder.metadata["options"]["select"]["method"]]
    assert (ours["cost"]["score"]["forward"], ours["cost"]["score"]["backward"]) == (forward, backward)
    assert ours["total_passes"] == 18 + backward + forward / 3
