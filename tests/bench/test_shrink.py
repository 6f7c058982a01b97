"""A grid divided: examples, epochs, channels, windows; never its cells."""

from __future__ import annotations

import pytest

from datawinnow.bench import cells_of, read_grid, shrunk
from datawinnow.bench.cell import datasets_of
from datawinnow.core.errors import ArgumentError

TEXT = """
name = "long"
methods = ["full", "shorter_full", "random", "el2n", "dual", "tdds", "late", "entropy", "ucb", "slow", "replayed"]
keep = [0.5, 0.2]
seeds = [0, 1]
scenarios = ["clean", "symmetric 0.2"]
[data]
source = "digits"
[train]
model = "resnet18"
model_options = {{ width = 32 }}
epochs = 300
batch = 64
[score]
epochs = 250
schedule_epochs = 300
model = "resnet8"
{extra}
[[method]]
name = "late"
score = "el2n"
select = "top"
score_options = {{ first = 100, last = 200 }}
epochs = 220
[[method]]
name = "slow"
policy = "ucb"
options = {{ keep = 0.7, period = 30 }}
[[method]]
name = "replayed"
replay = {{ model = "resnet20", policy = "ucb", options = {{ keep = 0.7 }} }}
"""


def grid_of(tmp_path, extra=""):
    (tmp_path / "grid.toml").write_text(TEXT.format(extra=extra))
    return read_grid(tmp_path / "grid.toml")


def test_everything_about_size_is_divided_and_the_cells_stay(tmp_path):
    full_size = grid_of(tmp_path)
    small = shrunk(full_size, 10)
    assert cells_of(small) == cells_of(full_size)
    assert (small.train.epochs, small.score.epochs, small.score.schedule_epochs) == (30, 25, 30)
    assert (small.train.model_options, small.score.model_options) == ({"width": 4}, {"width": 4})
    assert small.data.limit == 144  # of the 1,438 of the train split
    assert small.name == "long shrunk 10"
    assert small.train.recipe() == full_size.train.recipe()
    options = {name: small.spec_of(name).score_options for name in small.methods}
    assert options["el2n"] == {"last": 3, "first": 0}
    assert options["dual"] == options["tdds"] == {"window": 3}
    assert options["late"] == {"first": 10, "last": 20}
    assert options["entropy"] == {}
    assert small.spec_of("late").epochs == 22
    assert (small.spec_of("slow").options, small.spec_of("ucb").options) == ({"keep": 0.7, "period": 3}, {"period": 1})
    assert small.spec_of("replayed").replay.model_options == {"width": 4}
    assert small.label("dual") == "DUAL"


def test_something_is_left_however_much_it_is_divided(tmp_path):
    tiny = shrunk(grid_of(tmp_path), 10**6)
    assert (tiny.train.epochs, tiny.score.epochs, tiny.score.schedule_epochs, tiny.data.limit) == (4, 3, 4, 100)
    assert tiny.spec_of("late").score_options == {"first": 0, "last": 3}
    assert len(datasets_of(tiny)[0]) == 100


def test_divided_by_one_it_is_the_same(tmp_path):
    full_size = grid_of(tmp_path)
    assert shrunk(full_size, 1) is full_size
    for by in (0, -1, 2.5, "2"):
        with pytest.raises(ArgumentError, match=r"shrink must be a whole number in \[1, 1e\+06\]"):
            shrunk(full_size, by)


def test_less_than_the_least_stays_as_it_is(grid):
    small = shrunk(grid, 50)
    assert (small.train.epochs, small.data.limit, small.train.model_options) == (3, 60, {"width": 4})


@pytest.mark.parametrize(("by", "kept"), [(10, 0.5), (50, None)])
def test_a_recording_too_short_to_settle_does_not_ask(tmp_path, by, kept):
    grid = grid_of(tmp_path)
    score = grid.score.model_copy(update={"until_stable": 0.5})
    grid = grid.model_copy(update={"methods": ["dual"], "method": [], "score": score})
    assert shrunk(grid, by).score.until_stable == kept
