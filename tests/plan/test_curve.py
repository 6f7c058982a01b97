"""Scaling curves against SciPy: non-negative least squares for each exponent, and a free fit of all three."""

import numpy as np
import pytest
import scipy.optimize

from datawinnow.core.errors import ArgumentError
from datawinnow.plan import fit_curves
from datawinnow.plan.curve import EXPONENTS

SHARES = np.array([0.125, 0.25, 0.5, 1.0])


def literal(shares, errors, weights):
    """For each exponent SciPy's non-negative least squares; the best of them."""
    best = None
    for exponent in EXPONENTS:
        root = np.sqrt(weights)
        design = np.stack([np.ones_like(shares), shares**-exponent], 1) * root[:, None]
        solution, norm = scipy.optimize.nnls(design, errors * root)
        if best is None or norm < best[0] - 1e-12:
            best = (norm, *solution, exponent)
    return best


@pytest.mark.parametrize("weights", [np.ones(4), np.array([1.0, 2.0, 5.0, 9.0])], ids=["equal", "weighted"])
def test_equals_non_negative_least_squares_for_every_exponent(weights):
    errors = np.random.default_rng(0).uniform(0.05, 0.4, (40, 4))
    errors[:20] = np.sort(errors[:20], 1)[:, ::-1]  # half of them fall, as curves do; the others need the constraints
    curves = fit_curves(SHARES, errors, weights)
    constrained = 0
    for i, row in enumerate(errors):
        norm, irreducible, scale, _ = literal(SHARES, row, weights)
        fitted = curves.irreducible[i] + curves.scale[i] * SHARES ** -curves.exponent[i]
        assert np.sqrt((weights * (row - fitted) ** 2).sum()) == pytest.approx(norm, abs=1e-9)
        constrained += irreducible == 0 or scale == 0
    assert 5 < constrained < 40


def test_finds_the_curve_that_made_the_errors():
    truth = 0.2 + 0.03 * SHARES**-0.7
    curves = fit_curves(SHARES, truth[None])
    assert curves.irreducible[0] == pytest.approx(0.2, abs=2e-3)
    assert curves.exponent[0] == pytest.approx(0.7, rel=0.03)
    assert curves.at(np.array([0.3, 0.8]))[0] == pytest.approx(0.2 + 0.03 * np.array([0.3, 0.8]) ** -0.7, abs=2e-4)


def test_near_a_free_fit_of_all_three():
    errors = 0.1 + 0.02 * SHARES**-1.2 + np.random.default_rng(1).normal(0, 0.002, 4)

    def residuals(p):
        return p[0] + p[1] * SHARES ** -p[2] - errors

    free = scipy.optimize.least_squares(residuals, [0.1, 0.02, 1.0], bounds=([0, 0, 0.05], [1, 1, 4]))
    between = np.linspace(0.125, 1, 50)
    expected = free.x[0] + free.x[1] * between ** -free.x[2]
    # the exponents that are tried are 4% apart
    assert fit_curves(SHARES, errors[None]).at(between)[0] == pytest.approx(expected, abs=1e-3)


def test_errors_that_do_not_fall_give_a_level_line():
    curves = fit_curves(SHARES, np.array([[0.1, 0.2, 0.3, 0.4]]))
    assert curves.scale[0] == 0
    assert curves.at(0.3)[0] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("shares", "errors", "weights", "message"),
    [
        ([0.5], [[0.1]], None, "two or more different shares"),
        ([0.5, 0.5], [[0.1, 0.1]], None, "two or more different shares"),
        ([0.0, 0.5], [[0.1, 0.1]], None, r"in \(0, 1\]"),
        ([0.5, 2.0], [[0.1, 0.1]], None, r"in \(0, 1\]"),
        ([0.5, 1.0], [[0.1, float("nan")]], None, "finite"),
        ([0.5, 1.0], [[0.1, 0.1, 0.1]], None, "shape"),
        ([0.5, 1.0], [[0.1, 0.1]], [1.0, 0.0], "positive"),
    ],
)
def test_bad_input_is_an_error(shares, errors, weights, message):
    with pytest.raises(ArgumentError, match=message):
        fit_curves(shares, np.array(errors), None if weights is None else np.array(weights))
