"""A file with several settings: a grid each, with budgets in passes and one reference at every budget."""

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

[[setting]]
name = "small"
about = "sixty vectors"
passes = [1, 2, 4]
data = {{ source = "{source}" }}
train = {{ lr = 0.05 }}

[[setting]]
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


def test_every_setting_is_a_grid_of_its_own_data_budgets_and_recipe(write):
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


def test_a_file_without_settings_is_one_grid(tmp_path):
    (tmp_path / "grid.toml").write_text(GRID.format(source=write_data(tmp_path / "data.npz")))
    assert read_grids(tmp_path / "grid.toml") == ("tiny", {"": read_grid(tmp_path / "grid.toml")})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("passes = [2]", "passes = []", r"\[\[setting\]\] 'noisy': passes: must be numbers above 0"),
        ("passes = [2]", "passes = [0, 2]", r"\[\[setting\]\] 'noisy': passes: must be numbers above 0"),
        ("passes = [2]", "passes = [1.5]", "setting 'noisy': train.epochs: must be a whole number, got 1.5"),
        ('name = "noisy"', 'name = "small"', r"\[\[setting\]\] 'small' is there twice"),
        ('name = "noisy"', 'name = "../up"', "names a folder: letters, digits"),
        ("seeds = [7]", "seed = [7]", r"\[\[setting\]\] 'noisy' has no key 'seed'.* Did you mean 'seeds'"),
        ('methods = ["shorter_full"]', 'methods = ["random"]', "'random' at keep 1 keeps everything"),
    ],
)
def test_mistakes_are_named(write, old, new, message):
    with pytest.raises(ArgumentError, match=rf"suite\.toml.*{message}"):
        read_grids(write((old, new)))


KEPT = """
name = "kept"
methods = ["random", "dual"]
keep = [0.5, 0.2]
seeds = [0]
scenarios = ["clean", "pair 0.2"]

[data]
source = "{source}"

[train]
model = "mlp"
epochs = 4
[train.at."0.2"]
batch = 8

[score]
epochs = 3
schedule_epochs = 4

[[method]]
name = "dual"
method = "dual"
score_options = {{ window = 2 }}

[[setting]]
name = "as_it_is"

[[setting]]
name = "otherwise"
keep = [0.3]
scenarios = ["clean"]
data = {{ limit = 30 }}
train = {{ lr = 0.2 }}
score = {{ model = "mlp" }}
method = [{{ name = "dual", method = "dual", score_options = {{ window = 3 }} }}]
"""


def test_a_setting_by_keep_is_a_grid_as_any_other_with_what_the_file_says_for_all(tmp_path):
    source = write_data(tmp_path / "data.npz")
    (tmp_path / "kept.toml").write_text(KEPT.format(source=source))
    plain, other = read_grids(tmp_path / "kept.toml")[1].values()
    assert (plain.keep, plain.train.epochs, plain.scenarios) == ([0.5, 0.2], 4, ["clean", "pair 0.2"])
    assert (plain.score.epochs, plain.score.schedule_epochs, plain.score.model) == (3, 4, None)
    assert plain.recipe("random", 0.2).batch == 8
    assert (other.keep, other.scenarios, other.data.source, other.data.limit) == ([0.3], ["clean"], str(source), 30)
    assert (other.score.epochs, other.score.model, other.train.recipe().lr) == (3, "mlp", 0.2)
    assert [grid.method_of("dual")[0].score_options["window"] for grid in (plain, other)] == [2, 3]
    assert len(other.method) == 1
    rows = {c.method: run_cell(other, c, tmp_path / "out") for c in cells_of(other)}
    assert (rows["dual"]["scored_by"], rows["dual"]["cost"]["score"]["backward"]) == ("mlp", 90)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "keep = [0.5, 0.2]\n",
            "",
            r"\[\[setting\]\] 'as_it_is' has no budgets: give it passes, or it or the file keep",
        ),
        ("keep = [0.3]", "keep = [0.3]\npasses = [2]", "set either passes or keep, which give the budgets"),
        ("keep = [0.3]", "keep = [0]", r"each keep must be in \(0, 1\]"),
    ],
)
def test_mistakes_of_a_setting_by_keep_are_named(tmp_path, old, new, message):
    assert old in KEPT
    (tmp_path / "kept.toml").write_text(KEPT.replace(old, new).format(source=write_data(tmp_path / "data.npz")))
    with pytest.raises(ArgumentError, match=message):
        read_grids(tmp_path / "kept.toml")
