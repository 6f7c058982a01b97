"""Cells that read what the recorded network says: one look serves all, and each is charged for its own."""

from __future__ import annotations

import numpy as np
import pytest

from datawinnow.bench import Cell, cells_of, read_grid
from datawinnow.bench import cell as cell_module
from datawinnow.bench.cell import datasets_of, recording_folder, run_cell
from datawinnow.bench.planning import makes_recording, next_cells, writes_recording
from datawinnow.bench.scenario import under_scenario
from datawinnow.core.artifacts import read_json
from datawinnow.core.rng import forked, stream
from datawinnow.methods import METHODS, Method
from datawinnow.models import build
from datawinnow.probe import probe
from datawinnow.runs import probe_arrays as probing_module
from datawinnow.train import fit
from tests.runs.killing import timeless

LINES = ('"short"]', '"short", "herding", "slo_curves", "glister", "d2", "tdds3", "rademacher"]')
OWN = (
    "[[method]]",
    """[[method]]
name = "rademacher"
score = "curvature"
score_options = {{mode = "rademacher", repeats = 3}}
[[method]]
name = "tdds3"
method = "tdds"
score_options = {{window = 3}}
[[method]]""",
)


def cell(method: str, keep: float = 0.5, seed: int = 0, scenario: str = "clean") -> Cell:
    kind = method if method in ("full", "shorter_full") else "static"
    return Cell(kind=kind, method=method, keep=1.0 if method == "full" else keep, seed=seed, scenario=scenario)


@pytest.fixture
def probing(write):
    """The grid of sixty vectors and three epochs, with methods that look at the network."""
    return read_grid(write(LINES, OWN))


def recorded_network(grid, seed, train):
    with forked(seed, "weights"):
        model = build("mlp", shape=(4,), classes=3)
    fit(model, train, epochs=3, seed=seed, recipe=grid.train.recipe())
    return model


class TestCost:
    """Sixty examples, three epochs: the recording passes 180."""

    @pytest.mark.parametrize(
        ("method", "backward", "forward"),
        [
            ("herding", 180, 60),  # features
            ("slo_curves", 180 + 2 * 60, 0),  # two gradients an example, and no features
            ("glister", 180, 60),  # the examples that stand in for held-out data are among the sixty
            ("d2", 180, 60),
            ("rademacher", 180 + 4 * 60, 0),
            ("tdds3", 180, 0),
        ],
    )
    def test_the_whole_recording_and_the_look_counted_by_hand(self, probing, tmp_path, method, backward, forward):
        # whoever looks first, each is charged for what it needs itself
        for before in ("slo_curves", "herding"):
            run_cell(probing, cell(before), tmp_path)
        row = run_cell(probing, cell(method, 0.2), tmp_path)
        score = row["cost"]["score"]
        assert (score["backward"], score["forward"]) == (backward, forward)
        assert row["kept"] == 12
        assert row["total_passes"] == 36 + backward + forward / 3

    def test_a_network_recorded_for_two_epochs_of_three(self, write, tmp_path):
        changes = ('"short"]', '"short", "herding"]'), ("[[method]]", "[score]\nepochs = 2\n[[method]]")
        grid = read_grid(write(*changes))
        row = run_cell(grid, cell("herding"), tmp_path)
        assert (row["cost"]["score"]["backward"], row["cost"]["score"]["forward"]) == (120, 60)


class TestWhatIsLookedAt:
    @pytest.mark.parametrize("scenario", ["clean", "symmetric 0.2"])
    @pytest.mark.parametrize("method", ["herding", "slo_curves"])
    def test_a_selection_is_what_the_parts_give(self, probing, tmp_path, monkeypatch, method, scenario):
        """The network after the recording, and the labels that were trained on, be they wrong."""
        chosen, select = [], Method.run
        monkeypatch.setattr(Method, "run", lambda *a, **k: chosen.append(select(*a, **k)) or chosen[-1])
        run_cell(probing, cell(method, 0.2, 1, scenario), tmp_path)
        train, _ = under_scenario(datasets_of(probing)[0], scenario, 1)
        arrays = probe(recorded_network(probing, 1, train), train, arrays=("features", "probs", "curvature"), seed=1)
        draw = stream(1, "select", method, "0.2", scenario)
        expected, _ = METHODS[method].run(arrays, train.labels, keep=0.2, generator=draw)
        assert chosen[0][0].index.tolist() == expected.index.tolist()

    def test_one_look_serves_all_cells(self, probing, tmp_path, monkeypatch):
        looks = []
        monkeypatch.setattr(probing_module, "probe", lambda *a, **k: looks.append(k["arrays"]) or probe(*a, **k))
        for method in ("herding", "d2", "glister"):
            run_cell(probing, cell(method), tmp_path)
        folder = recording_folder(cell("herding"), tmp_path)
        assert set(looks) == {("features", "probs")}
        assert read_json(folder / "probe" / "features" / "probe.json")["cost"]["forward"] == 60  # once, not thrice
        assert sorted(f.name for f in (folder / "probe").rglob("*.npy")) == ["features.npy", "labels.npy", "probs.npy"]

    def test_options_of_the_probe_have_a_look_of_their_own(self, probing, tmp_path):
        for method in ("slo_curves", "rademacher"):
            run_cell(probing, cell(method), tmp_path)
        folder = recording_folder(cell("herding"), tmp_path) / "probe"
        one, other = (np.load(file) for file in sorted(folder.glob("curvature*/curvature.npy")))
        assert not np.allclose(one, other)


class TestMoreSignals:
    """A recording made before the grid had a method that reads ``kl_step``."""

    def test_what_was_not_recorded_is_recorded_beside_it(self, grid, probing, tmp_path):
        run_cell(grid, cell("aum"), tmp_path)
        folder = recording_folder(cell("aum"), tmp_path)
        weights = (folder / "model.safetensors").read_bytes()
        row = run_cell(probing, cell("tdds3", 0.2), tmp_path)
        fresh = tmp_path / "fresh"
        assert timeless(run_cell(probing, cell("tdds3", 0.2), fresh)) == timeless(row)
        beside = folder.with_name(f"{folder.name}-kl_step")
        kl_step = np.load(beside / "signals" / "kl_step.npy")
        assert kl_step.tobytes() == np.load(recording_folder(cell("tdds3"), fresh) / "signals/kl_step.npy").tobytes()
        assert (folder / "model.safetensors").read_bytes() == weights
        assert row["cost"]["score"]["backward"] == 180  # charged once

    def test_only_a_cell_that_needs_it_records_again(self, grid, probing, tmp_path, monkeypatch):
        run_cell(grid, cell("aum"), tmp_path)
        monkeypatch.setattr(cell_module, "run_recording", lambda *a, **k: pytest.fail("recorded again"))
        rows = [run_cell(probing, cell(method), tmp_path) for method in ("el2n", "slo_curves")]
        folder = recording_folder(cell("aum"), tmp_path)
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]
        assert all(row["accuracy"] is not None for row in rows)


class TestPlanning:
    def test_two_that_would_look_first_are_not_begun_together(self, probing, tmp_path):
        run_cell(probing, cell("full"), tmp_path)
        group = [c for c in cells_of(probing) if (c.seed, c.scenario, c.keep) == (0, "clean", 0.5)]
        started = next_cells(group, [], probing, tmp_path, 50)
        assert [c.method for c in started if writes_recording(c, probing, tmp_path)] == ["herding"]
        assert {"aum", "el2n", "random"} <= {c.method for c in started}
        assert not any(makes_recording(c, probing, tmp_path) for c in group)
        run_cell(probing, cell("herding"), tmp_path)
        then = [c.method for c in next_cells(group, [], probing, tmp_path, 50)]
        assert {"herding", "glister", "d2"} <= set(then)
        assert ("slo_curves" in then) != ("rademacher" in then)

    def test_a_grid_of_every_method_runs(self, write, tmp_path):
        names = ", ".join(f'"{name}"' for name in METHODS)
        grid = read_grid(
            write(
                ('"random", "el2n", "aum", "short"]', f"{names}]"),
                ("epochs = 3", "epochs = 10"),
                ("keep = [0.5, 0.2]", "keep = [0.1]"),
                ("seeds = [0, 1]", "seeds = [0]"),
                ('scenarios = ["clean", "symmetric 0.2"]', 'scenarios = ["symmetric 0.2"]'),
            )
        )
        rows = [run_cell(grid, c, tmp_path) for c in cells_of(grid)]
        assert [row["kept"] for row in rows[2:]] == [6] * len(METHODS)
        assert all(0 <= row["accuracy"] <= 1 for row in rows)
        assert all(0 <= row["changed_kept"] <= 1 for row in rows)
