"""bottom and middle: the ends of a ranking under names of their own."""

import pytest
import torch

from datawinnow import select
from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream


def test_bottom_is_the_low_end():
    score = torch.tensor([0.1, 0.9, 0.5, 0.1, 0.3])
    assert select.bottom(score, budget=4).index.tolist() == [0, 3, 4, 2]
    assert select.bottom(score, budget=4).index.tolist() == select.top(-score, budget=4).index.tolist()


@pytest.mark.parametrize("n", [20, 101])
@pytest.mark.parametrize("centre", [0.3, 0.5, 0.62])
def test_middle_is_the_band_of_ranks_around_its_centre(n, centre):
    """Ranks within [centre - s/2, centre + s/2] of the ascending order, as in Moderate Coreset with its 0.5."""
    score = torch.rand(n, generator=stream(0, "m", n))
    ranked = score.argsort().tolist()
    for budget in (1, 4, 7, 12):
        kept = [ranked.index(i) for i in select.middle(score, budget=budget, centre=centre).index.tolist()]
        assert sorted(kept) == list(range(min(kept), min(kept) + budget)), "one band"
        assert abs((min(kept) + max(kept)) / 2 - centre * (n - 1)) <= 0.5 + 1e-9
        away = [abs(r - centre * (n - 1)) for r in kept]
        assert away == sorted(away), "from the centre outwards"


def test_middle_at_a_half_is_the_middle_of_top():
    for n in (1, 2, 9, 10):
        score = torch.randint(0, 4, (n,), generator=stream(n, "t")).float()
        for budget in range(1, n + 1):
            want = select.top(score, budget=budget, end="middle")
            assert torch.equal(select.middle(score, budget=budget).index, want.index)


def test_middle_reaches_from_end_to_end():
    score = torch.rand(30, generator=stream(0, "e"))
    assert select.middle(score, budget=9, centre=0).index.tolist() == select.bottom(score, budget=9).index.tolist()
    assert select.middle(score, budget=9, centre=1.0).index.tolist() == select.top(score, budget=9).index.tolist()
    near = select.middle(score, budget=9, centre=0.1).index.tolist()  # the band would pass the end: pushed back
    assert sorted(near) == sorted(select.bottom(score, budget=9).index.tolist())


def test_middle_refuses_a_centre_outside():
    with pytest.raises(ArgumentError, match=r"centre must be a number in \[0, 1\], got 1.1"):
        select.middle([1.0, 2.0], budget=1, centre=1.1)


@pytest.mark.parametrize(
    ("n", "cutoff", "suspects"), [(100, 0.29, 29), (100, 0.57, 57), (1000, 0.115, 115), (7, 0.5, 3)]
)
def test_the_cutoff_is_of_the_fraction_as_it_is_written(n, cutoff, suspects):
    """0.29 * 100 is 28.999999999999996."""
    kept = select.coverage(torch.arange(float(n)), budget=2, cutoff=cutoff, generator=stream(0, "cut"))
    assert int((kept.reason == Reason.SUSPECT).sum()) == suspects
