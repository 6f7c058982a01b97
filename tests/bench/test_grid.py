"""Grids: read strictly, and every mistake that can be seen without the data is seen before the first cell."""

from __future__ import annotations

import pytest

from datawinnow.bench import Cell, cells_of, read_grid
from datawinnow.bench.grid import parse_scenario
from datawinnow.core.errors import ArgumentError
from datawinnow.train import Recipe

METHODS = 'methods = ["full", "shorter_full", "random", "el2n", "aum", "short"]'

MISTAKES = r"""
about = "sixty vectors" => abuot = 1 => has no key 'abuot'; its keys are: name, about.* Did you mean 'about'\?
[train] => [data.more]\na = 1\n[train] => \[data\] has no key 'more'; its keys are: source, limit
lr = 0.05 => lrr = 0.05 => \[train\] has no key 'lrr'; its keys are: epochs, model, .*, lr, optimizer
lr = 0.05 => lr = "fast" => lr must be a number in .*, got 'fast'
batch = 20 => batch = 2.5 => batch must be a whole number in .*, got 2.5
epochs = 3 => epochs = "three" => train.epochs: must be a whole number, got 'three'
epochs = 3 => epochs = 0 => train.epochs: must be above 0, got 0
epochs = 3\n =>  => train.epochs: is missing
source = "{source}" =>  => data.source: is missing
seeds = [0, 1] => seeds = 2 => seeds: must be a list, as \[1, 2\], got 2
seeds = [0, 1] => seeds = [] => seeds: must not be empty
seeds = [0, 1] => seeds = [1, 1] => seeds: has an entry twice: \[1, 1\]
[0.5, 0.2] => [0.5, 0.5] => keep: has an entry twice: \[0.5, 0.5\]
[0.5, 0.2] => [30] => keep: each keep must be in \(0, 1\]: it is the fraction kept
[0.5, 0.2] => [0.5, 1] => 'random' at keep 1 keeps everything
[0.5, 0.2] => [] => keep: must not be empty
"aum" => "aun" => no method is called 'aun'. Did you mean 'aum'
"aum" => "dual" => method 'dual' at keep 0.5: 3 recorded epochs are too few for a score over windows of 10 epochs
"symmetric 0.2" => "symetric 0.2" => scenarios: no scenario is called 'symetric'. Did you mean 'symmetric'\? There are
"symmetric 0.2" => "symmetric" => scenarios: .* rate in \(0, 1\], for example "symmetric 0.2", got 'symmetric'
"symmetric 0.2" => "symmetric 1.5" => scenarios: .*, got 'symmetric 1.5'
model = "mlp" => model = "mpl" => \[train\] no model is called 'mpl'. Did you mean 'mlp'
[[method]] => [score]\nmodel = "x"\n[[method]] => \[score\] no model is called 'x'
[[method]] => [score]\nschedule_epochs = 2\n[[method]] => \[score\] schedule_epochs=2 must be at least
[[method]] => [score]\nepochs = 0\n[[method]] => score.epochs: must be above 0, got 0
[[method]] => [score]\nmodel_options = {{ width = 9 }}\n[[method]] => \[score\] model_options requires
score = "dual" => score = "dul" => no score is called 'dul'
score = "dual" => score = "dual"\nmethod = "el2n" => `method='el2n'` names its score and selector already
window = 2 => windw = 2 => dual has no option 'windw'; its options are: window
window = 2 => window = 3 => method 'short' at keep 0.5: 2 recorded epochs are too few for a score over windows of 3
name = "short" => name = "full" => \[\[method\]\] 'full' is the name of a baseline
[[method]] => [[method]]\nname = "short"\nmethod = "dual"\n[[method]] => \[\[method\]\] 'short' is there twice
seeds = [0, 1] => seeds = [0, 1 => is not TOML
[[method]] => [score]\nuntil_stable = 2\n[[method]] => score.until_stable: must be at most 1, got 2
[[method]] => [score]\nuntil_stable = 0.5\n[[method]] => two halves of 10 epochs, and only 3
[[method]] => [score]\nepochs = 12\nuntil_stable = 0.5\n[[method]] => 'short' reads 2 epochs .*not known in advance
window = 2 }}\nepochs = 2 => window = 12 }}\n[score]\nepochs = 14\nuntil_stable = 0.5 => windows of 12.*may end after 10
score = "dual" => policy = "ucb"\nscore = "dual" => set exactly one of method.*policy, batch, replay and baseline
select = "top" => select = "top"\nwrap = ["rescaled"] => wrap requires policy
epochs = 2 => train = {{ lrr = 1 }} => fit has no option 'lrr'
epochs = 2 => epochs = 2\n[[method]]\nname = "u"\npolicy = "ucb2" => 'u'.*no policy is called 'ucb2'
epochs = 2 => epochs = 2\n[[method]]\nname = "u"\npolicy = "ucb"\noptions = {{ perid = 1 }} => 'u'.*no option 'perid'
epochs = 2 => epochs = 2\n[[method]]\nname = "u"\npolicy = "ucb"\nwrap = ["evry=2"] => 'u'.*no wrapper is called 'evry'
epochs = 2 => epochs = 2\n[[method]]\nname = "u"\npolicy = "ucb"\nwrap = ["every=two"] => 'every' takes a number
epochs = 2 => epochs = 2\n[[method]]\nname = "u"\nbatch = {{ keep = 1.5 }} => 'u': batch.keep: must be below 1, got 1.5
epochs = 2 => epochs = 2\n[[method]]\nname = "u"\nbatch = {{ keep = 0.5, model = "resnet9" }} => 'u'.*called 'resnet9'
epochs = 2 => epochs = 2\n[[method]]\nname = "u"\nreplay = {{ model = "mlp", policy = "ubc" }} => 'u'.*'ubc'
epochs = 2 => epochs = 2\n[[method]]\nname = "u"\npolicy = "ucb"\nbatch = {{ keep = 0.5 }} => set exactly one of method
"""
"""A line each: what stands in `GRID`, what stands there instead, and what the error says (a pattern)."""


def mistakes():
    """`MISTAKES` as parameters: ``old``, ``new``, ``message``."""
    for line in MISTAKES.strip().split("\n"):
        old, new, message = line.split(" => ")
        yield pytest.param(old.replace(r"\n", "\n"), new.replace(r"\n", "\n"), message, id=message)


class TestErrors:
    @pytest.mark.parametrize(("old", "new", "message"), list(mistakes()))
    def test_each_is_named(self, write, old, new, message):
        path = write((old, new))
        with pytest.raises(ArgumentError, match=rf"(?s)grid.toml.*{message}"):
            read_grid(path)

    def test_all_are_named_each_in_a_line(self, write):
        several = (
            ("lr = 0.05", "lr = 0.05\nlrr = 1"),
            ("epochs = 3", "epochs = 0"),
            ("seeds = [0, 1]", "seeds = [true]"),
        )
        with pytest.raises(ArgumentError, match="has 2 mistakes") as error:
            read_grid(write(*several))
        assert {line.split(":")[0].strip() for line in str(error.value).splitlines()[1:]} == {
            "seeds[0]",
            "train.epochs",
        }
        names = (("lr = 0.05", "lrr = 0.05"), ("symmetric 0.2", "symetric 0.2"), ('"aum"', '"aun", "el2m"'))
        with pytest.raises(ArgumentError, match="has 4 mistakes") as error:
            read_grid(write(*names))
        for name in ("lr", "symmetric", "aum", "el2n"):
            assert str(error.value).count(f"Did you mean {name!r}?") == 1

    def test_a_number_that_training_cannot_take_is_refused(self, write):
        for old, new, key in (
            ("epochs = 3", "epochs = 99999999999999999999", "train.epochs: must be at most"),
            ("lr = 0.05", "lr = 0.05\nchannels_last = []", "channels_last must be"),
            ("lr = 0.05", "lr = 0.05\ndevice = 1", "device must be"),
            ("[train]", "limit = -1\n[train]", "data.limit: must be at least 1"),
        ):
            with pytest.raises(ArgumentError, match=key):
                read_grid(write((old, new)))

    def test_no_such_file(self, tmp_path):
        with pytest.raises(ArgumentError, match=r"no such file: .*none.toml"):
            read_grid(tmp_path / "none.toml")

    def test_what_is_no_text(self, tmp_path):
        (tmp_path / "x.toml").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ArgumentError, match=r"x.toml is not TOML"):
            read_grid(tmp_path / "x.toml")


class TestReading:
    def test_what_is_read(self, grid):
        assert (grid.name, grid.about) == ("tiny", "sixty vectors")
        assert (grid.train.epochs, grid.train.model) == (3, "mlp")
        # no arithmetic is measured: two cells could measure differently
        assert grid.train.recipe() == Recipe(batch=20, lr=0.05, precision="fp32")
        method, epochs = grid.method_of("short")
        assert (method.key, method.label, method.score_card.key, method.selector_card.key, epochs) == (
            "short",
            "DUAL of 2",
            "dual",
            "top",
            2,
        )
        assert [grid.label(name) for name in ("full", "aum", "short")] == ["all the data", "AUM", "DUAL of 2"]

    def test_the_arithmetic_may_be_measured_when_the_file_says_so(self, write):
        assert read_grid(write(("lr = 0.05", 'precision = "auto"'))).train.recipe().precision == "auto"

    def test_a_method_of_the_file_may_change_a_known_one(self, write):
        spec = (
            '[[method]]\nname = "late"\nmethod = "el2n"\nscore_options = {{ last = 2 }}\nper_class = true\n[[method]]'
        )
        grid = read_grid(write(("[[method]]", spec), ('"aum"', '"late"')))
        method, epochs = grid.method_of("late")
        assert (method.score_card.key, method.score_options, method.per_class, epochs) == (
            "el2n",
            {"last": 2},
            True,
            None,
        )
        assert method.label == "EL2N"

    def test_the_place_of_the_data_may_come_from_outside(self, write, monkeypatch, tmp_path):
        monkeypatch.setenv("DATAWINNOW_DATA", "/there")
        assert read_grid(write(source="$DATAWINNOW_DATA/cifar10")).data.source == "/there/cifar10"
        monkeypatch.delenv("DATAWINNOW_DATA")
        assert read_grid(write(source="$DATAWINNOW_DATA/cifar10")).data.source == "../shared/data/cifar10"
        monkeypatch.setenv("ELSEWHERE", "/else")
        assert read_grid(write(source="$ELSEWHERE/x")).data.source == "/else/x"

    def test_scenarios(self):
        assert parse_scenario("clean") == ("clean", 0.0)
        assert parse_scenario("symmetric 0.25") == ("symmetric", 0.25)


class TestCells:
    def test_their_number_and_order(self, grid):
        cells = cells_of(grid)
        assert len(cells) == 2 * 2 * (1 + 2 * 5)
        assert len({cell.key for cell in cells}) == len(cells)
        assert [cell.key for cell in cells[:12]] == [
            ("full", 1.0, 0, "clean"),
            *[
                (name, keep, 0, "clean")
                for keep in (0.5, 0.2)
                for name in ("shorter_full", "random", "el2n", "aum", "short")
            ],
            ("full", 1.0, 0, "symmetric 0.2"),
        ]
        assert [cell.kind for cell in cells[:4]] == ["full", "shorter_full", "static", "static"]
        assert cells[22].key == ("full", 1.0, 1, "clean")

    def test_without_full_there_is_none(self, write):
        cells = cells_of(read_grid(write((METHODS, 'methods = ["random"]'))))
        assert [cell.key[:3] for cell in cells] == [
            ("random", k, s) for s in (0, 1) for _ in (0, 1) for k in (0.5, 0.2)
        ]

    def test_a_title_for_people(self):
        cell = Cell(kind="static", method="dual", keep=0.3, seed=1, scenario="clean")
        assert cell.title == "cell dual at keep 0.3, seed 1, clean"
        assert Cell(kind="full", method="full", keep=1.0, seed=1, scenario="clean").title == "cell full, seed 1, clean"

    @pytest.mark.parametrize(
        ("section", "serves"),
        [
            ("", True),
            ("epochs = 3", True),
            ("epochs = 2", False),
            ("schedule_epochs = 9", False),
            ('model = "mlp"', False),
        ],
    )
    def test_the_full_run_serves_as_the_recording_where_they_are_the_same(self, write, section, serves):
        grid = read_grid(write(("[[method]]", f"[score]\n{section}\n[[method]]")))
        assert grid.full_is_recording is serves
        cells = {cell.method: cell for cell in cells_of(grid)}
        reads = {name: grid.reads_recording(cell) for name, cell in cells.items()}
        assert reads == {
            "full": serves,
            "shorter_full": False,
            "random": False,
            "el2n": True,
            "aum": True,
            "short": True,
        }


class TestByKeep:
    """``[train.at]`` and ``options_at``: what differs by the fraction kept."""

    def test_a_smaller_batch_for_a_small_selection_and_for_nothing_else(self, write):
        grid = read_grid(write(("lr = 0.05", 'lr = 0.05\n[train.at."0.2"]\nbatch = 5\nlr = 0.01')))
        assert [grid.recipe("random", keep).batch for keep in (0.5, 0.2)] == [20, 5]
        assert grid.recipe("random", 0.2).lr == 0.01
        assert grid.recipe("shorter_full", 0.2).batch == grid.recipe("random").batch == 20
        assert grid.train.recipe().batch == 20

    def test_a_method_has_the_last_word(self, write):
        lines = 'lr = 0.05\n[train.at."0.2"]\nbatch = 5'
        grid = read_grid(write(("lr = 0.05", lines), ('label = "DUAL of 2"', "train = {{ batch = 7 }}")))
        assert [grid.recipe("short", keep).batch for keep in (0.5, 0.2)] == [7, 7]

    def test_options_by_keep_come_over_the_published_and_under_those_by_hand(self, write):
        table = 'options_at = {{{{ "0.2" = {{{{ cutoff = 0.4, bins = 9 }}}} }}}}'
        spec = '[[method]]\nname = "own"\nmethod = "ccs"\n{}' + table + "\n"
        grid = read_grid(write(("[[method]]", spec.format("") + "[[method]]"), ('"short"]', '"short", "own"]')))
        method, _ = grid.method_of("own")
        assert method.at(0.2).options == {"cutoff": 0.4, "bins": 9, "end": "low"}
        assert method.at(0.5).options == {"cutoff": 0.0, "end": "low"}
        by_hand = spec.format("options = {{ cutoff = 0.05 }}\n")
        grid = read_grid(write(("[[method]]", by_hand + "[[method]]"), ('"short"]', '"short", "own"]')))
        assert grid.method_of("own")[0].at(0.2).options["cutoff"] == 0.05

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ('[train.at."2"]\nbatch = 5', r"train\.at: the key '2' must be a fraction kept"),
            ("[train.at.small]\nbatch = 5", r"train\.at: the key 'small' must be a fraction kept"),
            ('[train.at."0.2"]\nbach = 5', "fit has no option 'bach'"),
            ('[train.at."0.2"]\nbatch = 0', "batch must be a whole number in"),
        ],
    )
    def test_mistakes_are_named(self, write, line, message):
        with pytest.raises(ArgumentError, match=message):
            read_grid(write(("lr = 0.05", f"lr = 0.05\n{line}")))

    def test_fractions_may_be_percentages(self, write):
        methods = '[[method]]\nname = "u"\npolicy = "ucb"\noptions = {{ keep = "40%" }}\nwrap = ["shrinking=50%"]\n'
        methods += '[[method]]\nname = "b"\nbatch = {{ keep = "50%" }}\n'
        methods += '[[method]]\nname = "c"\nmethod = "ccs"\noptions_at = {{ "20%" = {{ bins = 9 }} }}\n[[method]]'
        changes = (("[0.5, 0.2]", '["50%", "0.2"]'), ("[[method]]", methods), ("symmetric 0.2", "symmetric 20%"))
        grid = read_grid(write(*changes))
        assert (grid.keep, grid.spec_of("b").batch.keep) == ([0.5, 0.2], 0.5)
        assert grid.policy("u", 0.5).policy.keep == 0.4
        assert grid.method_of("c")[0].at(0.2).options["bins"] == 9
        assert parse_scenario(grid.scenarios[1]) == ("symmetric", 0.2)
        assert read_grid(write(("[0.5, 0.2]", '"50%"'))).keep == [0.5]

    def test_options_by_keep_are_for_static_methods(self, write):
        with pytest.raises(ArgumentError, match="options_at requires a static method"):
            read_grid(
                write(
                    (
                        "[[method]]",
                        '[[method]]\nname = "p"\npolicy = "ucb"\noptions_at = {{ "0.2" = {{}} }}\n[[method]]',
                    )
                )
            )


def test_the_data_of_a_grid_have_every_option_of_a_table_of_vectors(write):
    grid = read_grid(write(('source = "{source}"', 'source = "{source}"\nstandardise = false\nheader = true')))
    assert (grid.data.standardise, grid.data.header) == (False, True)
