"""Every score against its literal version, its golden values and planted rows."""

import math

import numpy as np
import pytest
import torch

from datawinnow import scores
from datawinnow.core import epochs as walks
from datawinnow.core.epochs import GRAIN
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from tests.reference import scores as literal

EPOCHS = 30


def random_trajectories(n=40):
    return torch.rand(EPOCHS, n, generator=stream(0, "p"))


def saturated_trajectories(n=40):
    """Probabilities within 1e-6 to 1e-2 of 1 (or of 0), where running sums in float32 lose every digit."""
    g = stream(1, "p")
    away = torch.rand(EPOCHS, n, generator=g) * 10 ** (-2 - 4 * torch.rand(n, generator=g))
    return torch.where(torch.arange(n) % 2 == 0, 1 - away, away)


def learned_trajectories(n=40):
    """A jump from about 0.1 to almost 1 at a random epoch: wide and saturated windows in one trajectory."""
    g = stream(2, "p")
    jump = torch.randint(0, EPOCHS, (n,), generator=g)
    noise = torch.rand(EPOCHS, n, generator=g)
    return torch.where(torch.arange(EPOCHS)[:, None] < jump, 0.1 * noise, 1 - 1e-6 * noise)


TRAJECTORIES = {
    "random": random_trajectories(),
    "saturated": saturated_trajectories(),
    "learned": learned_trajectories(),
}


def columns(array):
    """Each example's trajectory as plain floats, None where not seen."""
    return [[None if v != v else v for v in column] for column in array.to(torch.float64).t().tolist()]


@pytest.mark.parametrize("window", [2, 7, 10, 15, 29, 30])
@pytest.mark.parametrize("kind", TRAJECTORIES)
@pytest.mark.parametrize("name", ["dual", "dyn_unc"])
def test_windowed_scores_match_the_literal_loop(name, kind, window):
    p = TRAJECTORIES[kind]
    want = torch.tensor([getattr(literal, name)(c, window) for c in columns(p)], dtype=torch.float64)
    got = getattr(scores, name)(p.to(torch.float64), window=window)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=0)
    in_single = getattr(scores, name)(p, window=window)
    assert in_single.dtype == torch.float32
    torch.testing.assert_close(in_single.to(torch.float64), want, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["dual", "dyn_unc"])
def test_windowed_scores_leave_out_what_was_not_seen(name):
    p = TRAJECTORIES["random"].clone()
    p[torch.rand(p.shape, generator=stream(3, "nan")) < 0.6] = math.nan
    p[:, 0] = math.nan  # never seen
    p[:, 1] = math.nan
    p[4, 1] = 0.5  # seen once: no window has two entries
    want = torch.tensor([getattr(literal, name)(c, 5) for c in columns(p)])
    got = getattr(scores, name)(p, window=5, missing="skip")
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-9, equal_nan=True)
    assert got[:2].isnan().all()
    assert got[2:].isfinite().all()


def test_dual_golden_values():
    """static.md 7: a constant trajectory gives 0; 0, 1, 0, 1, ... gives m = .5, u = sqrt(10/36), DUAL = .2635."""
    p = torch.full((30, 2), 0.7)
    p[:, 1] = torch.arange(30) % 2
    got = scores.dual(p)
    assert got[0] == pytest.approx(0, abs=1e-8)
    assert got[1] == pytest.approx(0.5 * math.sqrt(10 / 36), abs=1e-7)
    assert scores.dyn_unc(p)[1] == pytest.approx(math.sqrt(10 / 36), abs=1e-7)


def test_dual_is_not_the_product_of_averages():
    p = TRAJECTORIES["learned"]
    product = torch.stack([(1 - p[k : k + 10].mean(0)) for k in range(21)]).mean(0) * scores.dyn_unc(p)
    assert (scores.dual(p) - product).abs().max() > 0.01


def test_dual_ring_batch_and_merged_shards_agree():
    p = torch.cat([TRAJECTORIES[kind] for kind in TRAJECTORIES], dim=1)
    batch = scores.dual(p)
    ring = torch.tensor([literal.dual_ring(c, 10) for c in columns(p)])
    torch.testing.assert_close(batch, ring, rtol=1e-6, atol=0)
    merged = torch.empty_like(batch)
    for rank in range(3):  # as a sampler shares ids out among processes
        merged[rank::3] = scores.dual(p[:, rank::3])
    assert torch.equal(merged, batch)


def restless(epochs):
    """Trajectories made to leave something behind in whatever is carried from one window to the next."""
    t = torch.arange(epochs)
    near = 1e-7 * torch.rand(epochs, 2, generator=stream(8, "near"), dtype=torch.float64)
    columns = [
        torch.where(t < epochs // 2, (t % 2).double(), 1.0),  # jumps up and down, then steady
        torch.where(t < epochs // 2, (t % 2).double(), 1 / 3),
        torch.where(t == epochs // 3, 1.0, 0.0).double(),  # one spike
        near[:, 0],
        1 - near[:, 1],
        torch.where(t < 12, near[:, 0], 1 - near[:, 1]),  # learned at once, then saturated
        torch.where(t % 50 < 2, 1 - near[:, 1], near[:, 0]),
        torch.linspace(0, 1, epochs, dtype=torch.float64) ** 8,
    ]
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("window", [2, 10, 49])
@pytest.mark.parametrize("epochs", [50, 200, 503])
@pytest.mark.parametrize("name", ["dual", "dyn_unc"])
def test_long_runs_that_jump_and_settle_match_the_literal_loop(name, epochs, window):
    p = restless(epochs)
    want = torch.tensor([getattr(literal, name)(c, window) for c in columns(p)], dtype=torch.float64)
    torch.testing.assert_close(getattr(scores, name)(p, window=window), want, rtol=1e-8, atol=1e-15)
    single = p.float()
    want = torch.tensor([getattr(literal, name)(c, window) for c in columns(single)], dtype=torch.float64)
    torch.testing.assert_close(getattr(scores, name)(single, window=window).double(), want, rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("value", [1.0, 0.0, 1 / 3, 1 - 1e-7])
def test_what_stands_still_after_500_jumps_has_no_spread(value):
    """The windows after the jumps add nothing: their sum is that of the jumping ones alone."""
    jumps = (torch.arange(500) % 2).double()[:, None]
    still = torch.full((5000, 1), value, dtype=torch.float64)
    together = torch.cat([jumps, still])
    windows = len(together) - 9
    reached = 500 * literal.dyn_unc(columns(together[:509])[0], 10)  # the windows that hold a jump
    left = float(scores.dyn_unc(together)) * windows - reached
    assert abs(left) / (windows - 500) < 1e-12
    assert float(scores.dyn_unc(still)) < 1e-15
    assert float(scores.dual(still)) < 1e-15


def test_windows_on_both_sides_of_a_gap_match_the_literal_loop():
    """A column with NaN goes another way than its neighbours, which must not notice."""
    p = restless(200)
    holes = p.clone()
    holes[60:75, ::2] = math.nan
    holes[torch.rand(200, generator=stream(9, "holes")) < 0.3, 4] = math.nan
    for name in ("dual", "dyn_unc"):
        method = getattr(scores, name)
        got = method(holes, missing="skip")
        want = torch.tensor([getattr(literal, name)(c, 10) for c in columns(holes)], dtype=torch.float64)
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-15)
        assert torch.equal(got[1::2], method(p)[1::2])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ["dual", "dyn_unc", "aum", "forgetting", "forgetting with gaps"])
def test_an_answer_does_not_depend_on_the_block_or_thread_it_falls_in(name, threads):
    n = 2 * GRAIN + 7
    g = stream(4, "block")
    array = torch.rand(12, n, generator=g)
    options = {}
    if name.startswith("forgetting"):
        array = array < 0.5
    if name.endswith("gaps"):
        options = {"seen": torch.rand(12, n, generator=g) < 0.8, "missing": "skip"}
    method = getattr(scores, name.split()[0])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        complete = method(array, **options)
    finally:
        torch.set_num_threads(before)
    for edge in (slice(GRAIN - 3, GRAIN + 5), slice(2 * GRAIN - 3, None), slice(0, 5)):
        shortened = {k: v[:, edge] if k == "seen" else v for k, v in options.items()}
        torch.testing.assert_close(
            method(array[:, edge], **shortened), complete[edge], rtol=0, atol=1e-7, equal_nan=True
        )


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize("n", [1, 10, 11, 29, 30, 31, 95])
def test_every_column_is_worked_on_once(monkeypatch, n, threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    done = []
    walks.parallel_columns(n, 10, lambda first, last: done.append((first, last)))
    assert len(done) <= threads
    assert sorted(i for first, last in done for i in range(first, last)) == list(range(n))


def test_the_error_of_the_lowest_columns_is_raised(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)

    def work(first, last):
        raise ArgumentError(f"columns {first} to {last}")

    with pytest.raises(ArgumentError, match="columns 0 to 10"):
        walks.parallel_columns(30, 10, work)


@pytest.mark.parametrize("name", ["dual", "dyn_unc"])
def test_too_few_epochs_say_what_to_do(name):
    with pytest.raises(
        ArgumentError,
        match=r"9 recorded epochs are too few for a score over windows of 10 epochs: .* \(`epochs=10`\)",
    ):
        getattr(scores, name)(torch.rand(9, 3))


@pytest.mark.parametrize("name", ["dual", "dyn_unc"])
@pytest.mark.parametrize("window", [1, 0, 2.5, True])
def test_a_window_must_hold_two_epochs(name, window):
    with pytest.raises(ArgumentError, match="window must be a whole number in"):
        getattr(scores, name)(torch.rand(12, 3), window=window)


def test_logits_are_not_probabilities():
    p = torch.rand(10, GRAIN + 5)
    p[3, GRAIN + 2] = 1.7
    with pytest.raises(ArgumentError, match=rf"p_label must hold probabilities.*1\.7 for example {GRAIN + 2}"):
        scores.dual(p)
    p[3, GRAIN + 2] = -0.2
    p[0, 0] = math.nan
    with pytest.raises(ArgumentError, match=rf"got -0\.2 for example {GRAIN + 2}.*softmax"):
        scores.dual(p, missing="skip")


def test_infinity_is_refused_even_when_skipping():
    p = torch.rand(10, 4)
    p[2, 3] = math.inf
    with pytest.raises(ArgumentError, match="p_label is inf for example 3 in epoch 2"):
        scores.dual(p, missing="skip")
    with pytest.raises(ArgumentError, match="margin is inf for example 3 in epoch 2"):
        scores.aum(p.where(p < 0.5, math.nan).where(p.isfinite(), math.inf), missing="skip")


@pytest.mark.parametrize("name", ["dual", "dyn_unc", "aum"])
def test_one_nan_far_into_the_array_is_named(name):
    array = torch.rand(10, 2 * GRAIN)
    array[4, GRAIN + 9] = math.nan
    with pytest.raises(ArgumentError, match=rf"is nan for example {GRAIN + 9} in epoch 4 \(1 such"):
        getattr(scores, name)(array)
    assert torch.isfinite(getattr(scores, name)(array, missing="skip")).all()


@pytest.mark.parametrize("never_learned", ["max", "zero"])
def test_forgetting_matches_the_literal_loop(never_learned):
    g = stream(5, "correct")
    correct = torch.rand(12, 60, generator=g) < torch.linspace(0, 1, 60)
    seen = torch.rand(12, 60, generator=g) < 0.7
    seen[:, 0] = False
    want = [literal.forgetting(c, never_learned=never_learned) for c in correct.t().tolist()]
    assert scores.forgetting(correct, never_learned=never_learned).tolist() == want
    partly = torch.where(seen, correct.float(), math.nan)
    want = [
        literal.forgetting([None if v is None else bool(v) for v in c], never_learned=never_learned)
        for c in columns(partly)
    ]
    for got in (
        scores.forgetting(correct, seen, never_learned=never_learned, missing="skip"),
        scores.forgetting(partly, never_learned=never_learned, missing="skip"),
    ):
        assert math.isnan(got[0])
        assert got[1:].tolist() == want[1:]


def test_never_learned_ranks_above_the_most_forgotten():
    epochs = 8
    correct = torch.zeros(epochs, 3, dtype=torch.bool)
    correct[::2, 0] = True  # forgotten as often as can be
    correct[:, 1] = True  # never forgotten
    assert scores.forgetting(correct).tolist() == [4.0, 0.0, 8.0]
    assert scores.forgetting(correct, never_learned="zero").tolist() == [4.0, 0.0, 0.0]


def test_more_events_than_a_byte_can_count():
    epochs = 1001
    correct = (torch.arange(epochs) % 2 == 0)[:, None].expand(epochs, 2)
    assert scores.forgetting(correct).tolist() == [500.0, 500.0]
    seen = torch.ones(epochs, 2, dtype=torch.bool)
    seen[1, 0] = False  # the first fall and the first rise are not seen
    assert scores.forgetting(correct, seen, missing="skip").tolist() == [499.0, 500.0]
    assert scores.forgetting(correct[:511], seen[:511], missing="skip").tolist() == [254.0, 255.0]


def test_forgetting_refuses_an_unseen_epoch_by_name():
    correct = torch.ones(4, 6, dtype=torch.bool)
    seen = correct.clone()
    seen[2, 5] = False
    with pytest.raises(ArgumentError, match=r"example 5 was not seen in epoch 2 \(1 such.*missing=\"skip\""):
        scores.forgetting(correct, seen)


def test_forgetting_refuses_shapes_and_values():
    with pytest.raises(ArgumentError, match="seen must have the shape of correct"):
        scores.forgetting(torch.ones(4, 6), torch.ones(4, 5))
    with pytest.raises(ArgumentError, match="correct must hold only 0 and 1"):
        scores.forgetting(torch.full((4, 6), 0.5))
    with pytest.raises(ArgumentError, match="never_learned must be one of 'max', 'zero', got 'most'"):
        scores.forgetting(torch.ones(4, 6), never_learned="most")


@pytest.mark.parametrize(
    ("name", "options", "rows"),
    [
        ("aum", {}, slice(0, 14)),
        ("el2n", {}, slice(0, 10)),
        ("el2n", {"first": 3, "last": 5}, slice(3, 5)),
        ("el2n", {"first": 12, "last": 99}, slice(12, 14)),
    ],
    ids=["aum", "el2n-default", "el2n-3-5", "el2n-clipped"],
)
def test_means_match_the_literal_loop(name, options, rows):
    array = torch.rand(14, 20, generator=stream(6, "mean"))
    method = getattr(scores, name)
    want = torch.tensor([literal.mean(c) for c in columns(array[rows])])
    torch.testing.assert_close(method(array, **options), want, rtol=1e-6, atol=0)
    array[torch.rand(array.shape, generator=stream(7, "nan")) < 0.5] = math.nan
    array[:, 0] = math.nan
    want = torch.tensor([literal.mean(c) for c in columns(array[rows])])
    got = method(array, missing="skip", **options)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0, equal_nan=True)
    assert math.isnan(got[0])


def test_el2n_looks_at_no_other_epoch():
    array = torch.rand(20, 5)
    array[10:] = math.nan
    assert scores.el2n(array).isfinite().all()


def test_el2n_epochs_out_of_range():
    with pytest.raises(ArgumentError, match=r"first=5 is past the end: error_norm has 5 epochs.*at most 4"):
        scores.el2n(torch.rand(5, 3), first=5)
    with pytest.raises(ArgumentError, match="last must be above first=3, got 3"):
        scores.el2n(torch.rand(5, 3), first=3, last=3)


def test_entropy_takes_the_epoch_asked_for():
    array = torch.arange(12.0).reshape(4, 3)
    assert scores.entropy(array).tolist() == [9, 10, 11]
    assert scores.entropy(array, epoch=1).tolist() == [3, 4, 5]
    assert scores.entropy(array, epoch=-4).tolist() == [0, 1, 2]
    got = scores.entropy(array)
    got[0] = -1  # the answer is the caller's own
    assert array[3, 0] == 9
    for epoch in (4, -5):
        with pytest.raises(ArgumentError, match=rf"epoch={epoch} is out of range: entropy has 4 epochs"):
            scores.entropy(array, epoch=epoch)


def planted():
    """Signals of four examples: 0 easy, 1 learned late and forgotten, 2 mislabelled, 3 random guessing throughout."""
    t = torch.arange(30)
    wave = 0.45 + 0.4 * ((t // 3) % 2)
    p = torch.stack([torch.full((30,), 0.99), wave, torch.full((30,), 0.01), torch.full((30,), 0.1)], dim=1)
    binary = [torch.tensor([v, 1 - v]) for v in p.flatten()]
    return {
        "p_label": p,
        "margin": (p / (1 - p)).log(),
        "error_norm": math.sqrt(2) * (1 - p),
        "entropy": torch.stack([-(b * b.log()).sum() for b in binary]).reshape(30, 4),
        "correct": p > 0.5,
    }


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("dual", 1, None),  # uncertain and hard first; the steady ones are all 0
        ("dyn_unc", 1, None),
        ("forgetting", None, 0),  # never learned (2, 3) first, easy last
        ("el2n", 2, 0),
        ("aum", 0, 2),
        ("entropy", 1, None),
    ],
)
def test_planted_rows_come_in_the_order_that_the_paper_gives(name, first, last):
    method = scores.METHODS[name]
    arrays = planted()
    score = method(*[arrays[need] for need in method.card.needs])
    if first is not None:
        assert int(score.argmax()) == first
    if last is not None:
        assert int(score.argmin()) == last
    if name == "forgetting":
        assert score[2] == score[3] > score[1] > score[0]
    best = int(score.argmax() if method.card.end == "high" else score.argmin())
    assert best != 0, "the end that the card says is kept must not be the easy example"


def test_memory_maps_are_read_without_a_copy_of_the_whole(tmp_path):
    path = tmp_path / "p_label.npy"
    p = TRAJECTORIES["random"].numpy()
    np.save(path, p)
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    assert torch.equal(scores.dual(mapped), scores.dual(p))
    with pytest.raises(ArgumentError, match="p_label holds no epochs"):
        scores.dual(p[:0])
