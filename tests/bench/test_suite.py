"""A file with several arenas: a grid each, with budgets in passes and one reference at every budget."""

from __future__ import annotations

import pytest

from datawinnow.bench import cells_of, read_grid, read_grids
from datawinnow.bench.cell import run_cell
from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic import UCB

from .conftest import GRID, write_data

SUITE = """
name = "fair"
methods = ["shorter_full", "ucb_7"]
seeds = [0, 1]

[train]
model = "mlp"
batch = 20

[[method]]
name = "ucb_7"
policy = "ucb"
options = {{ keep = 0.7, period = 1 }}

[[arena]]
name = "small"
about = "sixty vectors"
passes = [1, 2, 4]
data = {{ source = "{source}" }}
train = {{ lr = 0.05 }}

[[arena]]
name = "noisy"
passes = [2]
seeds = [7]
methods = ["shorter_full"]
scenarios = ["symmetric 0.2"]
data = {{ source = "{source}", limit = 30 }}
train = {{ lr = 0.1, model = "mlp" }}
"""


@pytest.fixture
def write(tmp_path):
    def make(*changes):
        text = SUITE
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / "suite.toml"
        path.write_text(text.format(source=write_data(tmp_path / "data.npz")))
        return path

    return make


def test_every_arena_is_a_grid_of_its_own_data_budgets_and_recipe(write):
    name, grids = read_grids(write())
    assert (name, list(grids)) == ("fair", ["small", "noisy"])
    small, noisy = grids.values()
    assert (small.train.epochs, small.keep, small.seeds) == (4, [0.25, 0.5, 1.0], [0, 1])
    assert (small.train.recipe().lr, small.train.recipe().batch, small.train.model) == (0.05, 20, "mlp")
    assert (small.name, small.about, noisy.name) == ("fair small", "sixty vectors", "fair noisy")
    assert [cell.method for cell in cells_of(noisy)] == ["shorter_full"]
    assert (noisy.seeds, noisy.scenarios, noisy.data.limit) == ([7], ["symmetric 0.2"], 30)
    assert small.policy("ucb_7", 0.25) == small.policy("ucb_7", 1.0) == UCB(0.7, period=1)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_at_every_budget_all_pass_as_many(write, tmp_path, place):
    grid = read_grids(write())[1]["small"]
    cells = [c for c in cells_of(grid) if c.seed == 0 and c.keep == grid.keep[place]]
    rows = {c.method: run_cell(grid, c, tmp_path) for c in cells}
    assert [rows[m]["passes"] for m in ("shorter_full", "ucb_7")] == [(60, 120, 240)[place]] * 2
    assert rows["shorter_full"]["trained_epochs"] == (1, 2, 4)[place]
    assert rows["ucb_7"]["trained_epochs"] == (1, 3, 6)[place]  # 60 and 42 each


def test_a_file_without_arenas_is_one_grid(tmp_path):
    (tmp_path / "grid.toml").write_text(GRID.format(source=write_data(tmp_path / "data.npz")))
    assert read_grids(tmp_path / "grid.toml") == ("tiny", {"": read_grid(tmp_path / "grid.toml")})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("passes = [2]", "passes = []", "arena.1.passes: must be numbers above 0"),
        ("passes = [2]", "passes = [0, 2]", "arena.1.passes: must be numbers above 0"),
        ("passes = [2]", "passes = [1.5]", "train.epochs: .*integer"),
        ('name = "noisy"', 'name = "small"', r"\[\[arena\]\] 'small' is there twice"),
        ('name = "noisy"', 'name = "../up"', "names a folder: letters, digits"),
        ("seeds = [7]", "seed = [7]", "arena.1.seed: Extra inputs are not permitted"),
        ('methods = ["shorter_full"]', 'methods = ["random"]', "'random' at keep 1 keeps everything"),
    ],
)
def test_mistakes_are_named(write, old, new, message):
    with pytest.raises(ArgumentError, match=rf"suite\.toml.*{message}"):
        read_grids(write((old, new)))
