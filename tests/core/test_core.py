"""Selection, arrays, cards, checks, randomness, errors and epochs."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from datawinnow.core import check
from datawinnow.core.arrays import RECORDED, TABLE, take
from datawinnow.core.card import card, card_of, check_options, collect, resolve
from datawinnow.core.epochs import blocks, mean_over_epochs
from datawinnow.core.errors import ArgumentError, CapacityError, DatawinnowError, MissingArrayError
from datawinnow.core.reason import REASON_SENTENCES, Reason
from datawinnow.core.rng import derive, forked, stream
from datawinnow.core.selection import Selection

ONE = torch.ones(1)


def ids(*values):
    return torch.tensor(values, dtype=torch.int64)


# ---- Selection


@pytest.mark.parametrize(
    ("index", "weight", "reason", "match"),
    [
        (torch.tensor([1.0]), ONE, None, r"index must be int64 of shape \(m,\), got torch\.float32"),
        (ids(1)[None], ONE, None, r"index must be int64 .* of shape \(1, 1\)"),
        (ids(1, 2), ONE, None, r"weight must be float32 of shape \(2,\), got torch\.float32 of shape \(1,\)"),
        (ids(1), ONE.double(), None, r"weight must be float32 of shape \(1,\), got torch\.float64"),
        (ids(-2), ONE, None, "index has the negative id -2"),
        (ids(3, 3), torch.ones(2), None, "index has an id twice"),
        (ids(3, 10**9, 3), torch.ones(3), None, "index has an id twice"),
        (ids(1), ONE * math.nan, None, "weight must be finite and at least 0"),
        (ids(1), -ONE, None, "weight must be finite and at least 0"),
        (ids(1), ONE, torch.zeros(4), r"reason must be int8 of shape \(n,\), got torch\.float32"),
        (ids(4), ONE, torch.zeros(4, dtype=torch.int8), "index has id 4, but reason has 4 examples"),
    ],
)
def test_selection_refuses_what_does_not_fit(index, weight, reason, match):
    with pytest.raises(ArgumentError, match=match):
        Selection(index, weight, reason)


def test_selection_of_and_mask():
    got = Selection.of(ids(4, 1), 6, kept=Reason.DRAWN, dropped=Reason.NOT_DRAWN)
    assert len(got) == 2
    assert got.index.tolist() == [4, 1]
    assert got.weight.tolist() == [1, 1]
    assert got.mask(6).tolist() == [False, True, False, False, True, False]
    assert got.reason.tolist() == [11, 2, 11, 11, 2, 11]
    assert Selection.everything(3).index.tolist() == [0, 1, 2]
    assert len(Selection(ids(), torch.ones(0))) == 0


def test_every_reason_has_a_word_and_a_sentence():
    assert set(REASON_SENTENCES) == set(Reason)
    for reason in Reason:
        assert reason.kept == REASON_SENTENCES[reason].startswith("kept")
        assert reason.kept != REASON_SENTENCES[reason].startswith("dropped")
    assert Reason.BELOW_CUT.word == "below_cut"


# ---- the table of arrays


def test_take_names_the_array_and_the_verb():
    assert take({"loss": 3}, "loss", method="x") == 3
    with pytest.raises(
        MissingArrayError, match=r"^dual needs the array 'p_label' .*`dw\.api\.record\(data\)`.*: loss$"
    ):
        take({"loss": 3}, "p_label", method="dual")
    for name, hint in (("kl_step", "signals='kl_step'"), ("features", "probe"), ("cost", "pass it yourself"),
                       ("labels", "with the dataset"), ("subset_mask", "training on subsets")):  # fmt: skip
        with pytest.raises(MissingArrayError, match=hint):
            take({}, name, method="m")
    with pytest.raises(MissingArrayError, match="'nonsense', which is not in the table of arrays"):
        take({}, "nonsense", method="m")


def test_the_table_covers_what_is_recorded():
    assert set(RECORDED) <= set(TABLE)
    assert all(TABLE[name].axes == ("epochs", "n") for name in RECORDED)
    assert all(row.name == name for name, row in TABLE.items())


# ---- cards


def planted(p_label, seen=None, *, window=10, missing="raise", generator=None):
    """First line.

    More.
    """
    return p_label, seen, window, missing, generator


def test_a_card_reads_the_signature():
    method = card("score", "Planted", "nobody 2020", cost="time O(1)", end="low")(planted)
    try:
        assert method is planted
        planted_card = card_of(planted)
        assert (planted_card.key, planted_card.needs, planted_card.optional_needs) == (
            "planted",
            ("p_label",),
            ("seen",),
        )
        assert planted_card.options == {"window": 10}
        assert planted_card.takes == ("missing", "generator")
        assert planted_card.summary == "First line."
        assert collect({"planted": planted, "other": 3}) == {"planted": planted}
        check_options(planted, {"window": 3, "missing": "skip"})
        with pytest.raises(ArgumentError, match="planted has no option 'windows'; its options are: window"):
            check_options(planted, {"windows": 3})
    finally:
        del planted.card


def test_a_score_must_say_its_end():
    with pytest.raises(ArgumentError, match=r"score 'X' must say which end its paper keeps \(end=\)"):
        card("score", "X", "nobody", cost="time O(1)")


def test_a_users_callable_gets_a_card():
    card = card_of(lambda loss, *, power=2: loss**power)
    assert card.needs == ("loss",)
    assert card.options == {"power": 2}
    with pytest.raises(ArgumentError, match="expected a method's name or a callable, got 3"):
        card_of(3)


def test_resolve():
    methods = {"dyn_unc": len, "dual": max}
    assert resolve("dual", methods, kind="score") is max
    assert resolve("Dyn-Unc", methods, kind="score") is len
    assert resolve(min, methods, kind="score") is min
    with pytest.raises(ArgumentError, match=r"no score is called 'duall'\. Did you mean 'dual'\? There are: dual, dyn"):
        resolve("duall", methods, kind="score")


# ---- checks


def test_array_accepts_what_users_have(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    for value in (mapped, np.asarray(mapped), mapped.tolist(), torch.from_numpy(mapped.copy()), mapped.astype(int)):
        assert check.array("x", value, "epochs,n").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert check.array("x", np.float16([1.5]), "n").dtype == torch.float32
    assert check.array("x", torch.tensor([1.5], dtype=torch.bfloat16), "n").dtype == torch.float32
    assert check.array("x", np.float64([1.5]), "n").dtype == torch.float64
    array = torch.zeros(3, requires_grad=True)
    assert not check.array("x", array, "n").requires_grad
    assert check.array("x", array, "n").data_ptr() == array.data_ptr()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: check.array("x", [["a"]], "n"), "x must be an array of numbers, got list"),
        (lambda: check.array("x", [[1], [1, 2]], "n"), "x must be an array of numbers, got list"),
        (lambda: check.array("x", object(), "n"), "x must be an array of numbers, got object"),
        (lambda: check.array("x", [1.0], "epochs,n"), r"x must have shape \(epochs, n\), got \(1,\)"),
        (lambda: check.array("x", [[1.0]], "n"), r"x must have shape \(n,\), got \(1, 1\)"),
        (lambda: check.array("x", [], "n"), r"x holds no examples: its shape is \(0,\)"),
        (lambda: check.array("x", np.zeros((0, 3)), "epochs,n"), r"x holds no epochs: its shape is \(0, 3\)"),
        (lambda: check.bits("b", [0, 2], "n"), "b must hold only 0 and 1"),
        (lambda: check.labels("y", [0.0, 1.0]), r"y must be integer class ids, got dtype torch\.float64"),
        (lambda: check.labels("y", [True]), r"y must be integer class ids, got dtype torch\.bool"),
        (lambda: check.labels("y", [0, 3, -1]), "y must be class ids of 0 and above, got -1 at example 2"),
        (lambda: check.labels("y", [0, 1], 3), "y has 2, the others has 3"),
        (lambda: check.same_n(a=torch.zeros(2, 4), b=torch.zeros(3)), "a has 4, b has 3"),
        (
            lambda: check.finite("x", torch.tensor([0, math.nan]), "raise"),
            r"x is nan for example 1 \(1 such.*missing=\"skip\"",
        ),
        (
            lambda: check.finite("x", torch.tensor([0, math.nan])),
            r"x is nan for example 1 \(1 such.*; fill such values$",
        ),
        (lambda: check.finite("x", torch.tensor([[0, 1], [math.inf, 1]])), r"x is inf for example 0 in epoch 1 \(1"),
        (lambda: check.matrix("f", [[0, 1], [math.nan, 1]]), r"f is nan for example 1 in column 0 \(1 such"),
        (lambda: check.matrix("f", [[0, math.inf]], missing="skip"), "f is inf for example 0 in column 1"),
        (lambda: check.matrix("f", [0, 1]), r"f must have shape \(n, d\), got \(2,\)"),
        (lambda: check.finite("x", torch.tensor([math.nan, -math.inf]), "skip"), "x is -inf for example 1"),
        (lambda: check.finite("x", torch.zeros(1), "no"), 'missing must be "raise" or "skip", got \'no\''),
        (lambda: check.probabilities("p", torch.tensor([0.5, 2.0]), 10), r"p must hold prob.*2 for example 11: give s"),
        (lambda: check.number("k", 3, 0, 2), r"k must be a number in \[0, 2\], got 3"),
        (lambda: check.number("k", 1.5, 0, 2, integer=True), r"k must be a whole number in \[0, 2\], got 1\.5"),
        (lambda: check.number("k", True, 0, 2), "k must be a number .* got True"),
        (lambda: check.number("k", math.nan, 0, 2), "k must be a number .* got nan"),
        (lambda: check.one_of("m", "c", ("a", "b")), "m must be one of 'a', 'b', got 'c'"),
        (lambda: check.generator(7), r"generator must be a torch\.Generator, got 7; make one by purpose"),
    ],
)
def test_checks_name_the_argument_its_value_and_what_to_do(call, match):
    with pytest.raises(ArgumentError, match=match):
        call()


def test_checks_let_good_values_through():
    assert check.bits("b", [[0, 1]], "epochs,n").tolist() == [[False, True]]
    assert check.labels("y", np.array([3, 0], dtype=np.uint8)).tolist() == [3, 0]
    assert check.labels("y", [3, 0]).dtype == torch.int64
    assert check.number("k", 2, 0, 2) == 2
    assert check.same_n(a=torch.zeros(2, 4), b=torch.zeros(4)) == 4
    assert check.finite("x", torch.tensor([math.nan]), "skip") is None
    assert check.finite("x", torch.full((4,), 3e38)) is None  # a sum in float32 would overflow
    assert check.probabilities("p", torch.tensor([-0.0005, 1.0005])) is None


# ---- randomness


def test_streams_differ_by_every_part_of_the_path():
    paths = [(0,), (1,), (0, "a"), (0, "b"), (0, "a", 1), (0, "a", "1"), (0, "a1"), (0, 1), (1, "a"), (0, "a", 1, 0)]
    assert len({derive(*path) for path in paths}) == len(paths)
    assert all(0 <= derive(*path) < 2**63 for path in paths)
    draws = {tuple(torch.rand(3, generator=stream(*path)).tolist()) for path in paths}
    assert len(draws) == len(paths)
    # the next epoch of one seed is not the same epoch of the next seed, as with seed + epoch
    assert derive(0, "order", 1) != derive(1, "order", 0)


def test_streams_are_the_same_everywhere():
    assert derive(0, "order", 1) == 2231592691953414133
    assert torch.equal(torch.rand(4, generator=stream(5, "x")), torch.rand(4, generator=stream(5, "x")))


def test_forked_puts_the_global_state_back():
    before = torch.random.get_rng_state()
    with forked(0, "init"):
        inside = torch.rand(2)
        torch.rand(100)
    assert torch.equal(torch.random.get_rng_state(), before)
    with forked(0, "init"):
        assert torch.equal(torch.rand(2), inside)
    with forked(0, "dropout"):
        assert not torch.equal(torch.rand(2), inside)
    with pytest.raises(KeyError), forked(1, "init"):
        raise KeyError
    assert torch.equal(torch.random.get_rng_state(), before)


# ---- errors and epochs


def test_errors_are_what_python_code_expects():
    assert issubclass(ArgumentError, ValueError)
    assert issubclass(MissingArrayError, KeyError)
    assert str(MissingArrayError("no quotes")) == "no quotes"
    error = CapacityError("too many", 7)
    assert isinstance(error, ArgumentError)
    assert isinstance(error, DatawinnowError)
    assert error.capacity == 7


def test_blocks_cover_every_column_once():
    assert list(blocks(10, 4)) == [(0, 4), (4, 8), (8, 10)]
    assert list(blocks(8, 4)) == [(0, 4), (4, 8)]


def test_mean_over_epochs_sums_in_double_precision():
    array = torch.full((1000, 3), 0.1)
    array[:, 1] = math.nan
    array[:999, 2] = math.nan
    got = mean_over_epochs(array)
    assert got.dtype == torch.float32
    assert got[0] == np.float32(0.1)
    assert got[1].isnan()
    assert got[2] == np.float32(0.1)


def test_a_single_number_has_no_axis():
    assert check.as_tensor("x", 3.0).shape == check.as_tensor("x", np.float32(3)).shape == ()
    assert check.as_tensor("x", [3.0]).shape == (1,)
    with pytest.raises(ArgumentError, match=r"x must have shape \(n,\), got \(\)"):
        check.array("x", 3.0, "n")


def test_a_default_made_by_a_factory_is_no_required_field():
    @card("policy", "Listed", "your own", cost="none")
    @dataclasses.dataclass(frozen=True)
    class Listed:
        """Has a list."""

        keep: float
        stages: list[int] = dataclasses.field(default_factory=lambda: [1, 2])
        needs = ()

    assert Listed.card.takes == ("keep",)
    assert Listed.card.options == {"stages": [1, 2]}
