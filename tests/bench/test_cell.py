"""One cell: its row counted by hand, its streams of randomness, and the recording that cells share."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from datawinnow.bench import Cell, read_grid
from datawinnow.bench import cell as cell_module
from datawinnow.bench.cell import (
    GridData,
    datasets_of,
    model_name,
    recording_folder,
    remove_recordings,
    run_cell,
)
from datawinnow.bench.grid import equal_epochs
from datawinnow.bench.scenario import under_scenario
from datawinnow.core.budget import budget_of
from datawinnow.core.errors import DataError, RunError
from datawinnow.core.rng import forked, stream
from datawinnow.core.selection import Selection
from datawinnow.data.examples import Examples, LazyExamples
from datawinnow.data.kept import Kept
from datawinnow.methods import METHODS, Method
from datawinnow.models import build
from datawinnow.record import Recorder
from datawinnow.report import results
from datawinnow.runs.folder import RunFolder
from datawinnow.scenarios import symmetric
from datawinnow.train import evaluate, fit
from datawinnow.train.checkpoint import load_checkpoint
from tests.runs.killing import Killed, contents, killed_at

from .conftest import write_data


def cell(method: str, keep: float = 0.5, seed: int = 0, scenario: str = "clean") -> Cell:
    kind = method if method in ("full", "shorter_full") else "static"
    return Cell(kind=kind, method=method, keep=1.0 if method == "full" else keep, seed=seed, scenario=scenario)


class TestRow:
    """Sixty examples, three epochs: a full run passes 180."""

    @pytest.mark.parametrize(
        ("method", "keep", "kept", "epochs", "train", "score"),
        [
            ("full", 1.0, 60, 3, 180, 0),
            ("shorter_full", 0.5, 60, 1.5, 90, 0),
            ("shorter_full", 0.2, 60, 0.6, 36, 0),
            ("random", 0.5, 30, 3, 90, 0),
            ("random", 0.2, 12, 3, 36, 0),
            ("aum", 0.2, 12, 3, 36, 180),
            ("el2n", 0.2, 12, 3, 36, 180),  # ten epochs of which there are three
            ("short", 0.2, 12, 3, 36, 120),  # may read two epochs
        ],
    )
    def test_what_is_passed_counted_by_hand(self, grid, tmp_path, method, keep, kept, epochs, train, score):
        row = run_cell(grid, cell(method, keep), tmp_path)
        assert (row["kept"], row["trained_epochs"], row["epochs"]) == (kept, epochs, 3)
        cost = row["cost"]
        assert (cost["train"]["backward"], cost["train"]["forward"]) == (train, 0)
        assert (cost["score"]["backward"], cost["score"]["forward"]) == (score, 0)
        assert cost["select"]["backward"] == cost["select"]["forward"] == 0
        assert (row["passes"], row["total_passes"]) == (train, train + score)
        assert cost["score"]["flops"] == pytest.approx(cost["train"]["flops"] / train * score)

    def test_the_recording_is_charged_by_the_share_read(self, grid, tmp_path):
        run_cell(grid, cell("full"), tmp_path)
        full_recording = RunFolder.open(recording_folder(cell("full"), tmp_path)).metadata["cost"]["record"]
        score = run_cell(grid, cell("short"), tmp_path)["cost"]["score"]
        assert score["seconds"] == pytest.approx(full_recording["seconds"] * 2 / 3)
        assert score["backward"] == 120

    def test_every_field(self, grid, tmp_path):
        row = run_cell(grid, cell("short", 0.2, seed=1), tmp_path)
        train, test = datasets_of(grid)
        assert {k: row[k] for k in ("format", "benchmark", "dataset", "n", "test_n", "model", "method", "label")} == {
            "format": 1,
            "benchmark": "tiny",
            "dataset": "data",
            "n": 60,
            "test_n": 30,
            "model": "mlp",
            "method": "short",
            "label": "DUAL of 2",
        }
        assert (row["keep"], row["seed"], row["scenario"]) == (0.2, 1, "clean")
        assert row["fingerprint"] == train.fingerprint
        assert row["changed_kept"] is None
        assert row["device"] == "cpu"
        assert row["threads"] == 1
        assert set(row["versions"]) >= {"python", "torch", "datawinnow"}
        assert len(test) == 30
        assert json.loads(json.dumps(row, allow_nan=False)) == row
        assert results.checked([row], "rows") == [row]

    def test_the_full_row_is_the_recording(self, grid, tmp_path):
        row = run_cell(grid, cell("full"), tmp_path)
        metadata = RunFolder.open(recording_folder(cell("full"), tmp_path)).metadata
        assert (row["accuracy"], row["test_loss"]) == (
            metadata["result"]["test_accuracy"],
            metadata["result"]["test_loss"],
        )
        assert row["cost"]["train"] == metadata["cost"]["record"]

    def test_a_full_run_that_is_not_the_recording_is_run_by_itself(self, write, tmp_path):
        grid = read_grid(write(("[[method]]", "[score]\nepochs = 2\n[[method]]")))
        row = run_cell(grid, cell("full"), tmp_path)
        assert row["passes"] == 180
        assert not (tmp_path / "recordings").exists()
        scored = run_cell(grid, cell("aum"), tmp_path)
        assert scored["cost"]["score"]["backward"] == 120
        assert scored["passes"] == 90

    def test_recording_the_first_epochs_of_a_long_schedule(self, write, tmp_path):
        grid = read_grid(write(("[[method]]", "[score]\nepochs = 2\n[[method]]")))
        run_cell(grid, cell("aum"), tmp_path)
        full_grid = read_grid(write())
        run_cell(full_grid, cell("aum"), tmp_path / "whole")
        folder = recording_folder(cell("aum"), tmp_path)
        first = np.load(folder / "signals" / "p_label.npy")
        assert first.shape == (2, 60)
        longer = np.load(recording_folder(cell("aum"), tmp_path / "whole") / "signals" / "p_label.npy")
        assert np.array_equal(first, longer[:2])  # the schedule is that of the three epochs

    def test_recording_until_stable_is_charged_what_it_recorded(self, write, tmp_path):
        def scored(score):
            added = ("[[method]]", f"[score]\nepochs = 14\nschedule_epochs = 60\n{score}\n[[method]]")
            as_in_file = ('source = "{source}"', 'source = "{source}"\nstandardise = false')
            return read_grid(write(added, as_in_file, ("0.05", "0.01"), (', "short"]', ', "k_center"]')))

        full_grid, grid = scored(""), scored("until_stable = 0.5")
        assert full_grid.until is None
        run_cell(full_grid, cell("aum"), tmp_path / "whole")
        row = run_cell(grid, cell("aum"), tmp_path)
        p_label = np.load(recording_folder(cell("aum"), tmp_path / "whole") / "signals" / "p_label.npy")
        end = next(t for t in range(10, 15) if grid.until(torch.from_numpy(p_label[:t])))
        assert 10 < end < 14, "the example does not show what it should"
        folder = recording_folder(cell("aum"), tmp_path)
        assert np.array_equal(np.load(folder / "signals" / "p_label.npy"), p_label[:end])
        assert RunFolder.open(folder).epochs == end
        assert row["cost"]["score"]["backward"] == end * 60
        assert run_cell(grid, cell("el2n"), tmp_path)["cost"]["score"]["backward"] == 10 * 60  # of what is read
        looked = run_cell(grid, cell("k_center"), tmp_path)
        assert looked["cost"]["score"]["backward"] == end * 60
        with forked(0, "weights"):
            network = build("mlp", shape=(4,), classes=3)
        fit(network, datasets_of(grid)[0], epochs=end, schedule_epochs=60, seed=0, recipe=grid.train.recipe())
        recorded = build("mlp", shape=(4,), classes=3)
        load_checkpoint(folder / "model.safetensors", recorded, None)
        for left, right in zip(network.state_dict().values(), recorded.state_dict().values(), strict=True):
            assert torch.equal(left, right)

    def test_a_recording_that_may_end_early_is_no_full_run(self, write):
        assert read_grid(write()).full_is_recording
        early = ("[[method]]", "[score]\nuntil_stable = 0.5\n[[method]]")
        long = (("epochs = 3", "epochs = 12"), (', "short"]', "]"))
        assert read_grid(write(*long)).full_is_recording
        assert not read_grid(write(early, *long)).full_is_recording

    def test_a_loss_that_json_cannot_hold_is_null(self, grid, tmp_path, monkeypatch):
        train, test = datasets_of(grid)
        test.x[:] = float("inf")
        monkeypatch.setattr(cell_module, "datasets_of", lambda grid: (train, test))
        for method in ("full", "random"):
            row = run_cell(grid, cell(method), tmp_path)
            assert row["test_loss"] is None
            assert json.loads(json.dumps(row, allow_nan=False))["test_loss"] is None

    def test_the_network_is_chosen_by_the_examples_unless_named(self, write, grid):
        bare = read_grid(write(('model = "mlp"\n', "")))
        assert model_name(bare, GridData(*datasets_of(bare))) == "mlp"
        assert model_name(grid, GridData(*datasets_of(grid))) == "mlp"


class TestEqualEpochs:
    @pytest.mark.parametrize("n", [7, 60, 999, 1438, 10_000])
    @pytest.mark.parametrize("epochs", [1, 3, 30])
    def test_as_many_examples_are_passed(self, n, epochs):
        for keep in (0.1, 0.3, 1 / 3, 0.5, 0.97, 1.0):
            assert round(equal_epochs(epochs, keep, n) * n) == epochs * budget_of(keep, n)

    def test_what_is_whole_stays_a_whole_number(self, write, tmp_path):
        assert [repr(equal_epochs(30, keep, 10_000)) for keep in (0.5, 0.3, 0.1, 1.0)] == ["15", "9", "3", "30"]
        assert repr(equal_epochs(30, 0.5, 7)) == repr(120 / 7)  # 4 of 7 are kept
        grid = read_grid(write(("epochs = 3", "epochs = 10")))
        row = run_cell(grid, cell("shorter_full", 0.2), tmp_path)
        assert json.dumps(row["trained_epochs"]) == "2"


class TestStreams:
    """The numbers of published tables hang on these: the weights, the order, the draws and the noise."""

    def by_hand(self, grid, method, keep, seed, scenario):
        train, test = datasets_of(grid)
        if scenario != "clean":
            noise = stream(seed, "scenario", scenario)
            _, y, _ = symmetric(train.x, train.labels, rate=0.2, generator=noise, classes=3)
            train = train.with_labels(y)
        arrays = {}
        if method != "random":
            recorder = Recorder(60, 3)
            fit(self.weights(seed), train, epochs=3, seed=seed, recipe=grid.train.recipe(), recorder=recorder)
            arrays = recorder.arrays()
        draw = stream(seed, "select", method, f"{keep:g}", scenario)
        selection, _ = METHODS[method].run(arrays, train.labels, keep=keep, generator=draw)
        model = self.weights(seed)
        fit(model, Kept(train, selection), epochs=3, seed=seed, recipe=grid.train.recipe())
        return evaluate(model, test)

    def weights(self, seed):
        with forked(seed, "weights"):
            return build("mlp", shape=(4,), classes=3)

    @pytest.mark.parametrize("scenario", ["clean", "symmetric 0.2"])
    @pytest.mark.parametrize("method", ["random", "aum", "ccs"])
    def test_a_row_is_what_the_parts_give(self, write, tmp_path, method, scenario):
        grid = read_grid(write(('"short"]', '"short", "ccs"]')))
        row = run_cell(grid, cell(method, 0.5, 1, scenario), tmp_path)
        assert (row["accuracy"], row["test_loss"]) == self.by_hand(grid, method, 0.5, 1, scenario)

    def test_global_randomness_is_untouched(self, grid, tmp_path):
        torch.manual_seed(3)
        expected = torch.rand(4)
        torch.manual_seed(3)
        run_cell(grid, cell("aum", scenario="symmetric 0.2"), tmp_path)
        assert torch.equal(torch.rand(4), expected)


class TestScenario:
    def test_vectors_keep_their_numbers_and_exactly_a_fifth_changes(self, grid):
        train, _ = datasets_of(grid)
        noisy, changed = under_scenario(train, "symmetric 0.2", 1)
        assert int(changed.sum()) == 12
        assert torch.equal(noisy.labels != train.labels, changed)
        assert torch.equal(noisy.x, train.x)
        assert noisy.fingerprint != train.fingerprint
        again, same = under_scenario(train, "symmetric 0.2", 1)
        assert torch.equal(again.labels, noisy.labels)
        assert torch.equal(same, changed)
        assert not torch.equal(under_scenario(train, "symmetric 0.2", 2)[0].labels, noisy.labels)

    def test_clean_changes_nothing(self, grid):
        train, _ = datasets_of(grid)
        same, changed = under_scenario(train, "clean", 1)
        assert same is train
        assert changed.tolist() == [False] * 60

    def test_images_that_stay_on_disk(self):
        labels = torch.arange(20) % 2
        lazy = LazyExamples(labels, None, labels, ("a", "b"))  # only the number of its images is asked for
        noisy, changed = under_scenario(lazy, "symmetric 0.2", 0)
        assert torch.equal(noisy.labels != labels, changed)
        assert int(changed.sum()) == 4

    def test_a_dataset_that_does_not_show_its_labels(self):
        with pytest.raises(
            DataError, match=r"'symmetric 0.2' changes labels, which a list does not expose: load the data"
        ):
            under_scenario([(torch.zeros(2), 0)] * 4, "symmetric 0.2", 0)

    def test_the_share_of_changed_examples_among_the_kept_literally(self, grid, tmp_path, monkeypatch):
        train, test = datasets_of(grid)
        changed = torch.zeros(60, dtype=torch.bool)
        changed[[0, 1, 2, 30]] = True
        monkeypatch.setattr(cell_module, "under_scenario", lambda t, s, seed: (train, changed))
        chosen = Selection.of(torch.tensor([0, 2, 7, 8, 9, 10, 11, 12]), 60)
        monkeypatch.setattr(Method, "run", lambda *a, **k: (chosen, None))
        assert run_cell(grid, cell("random"), tmp_path)["changed_kept"] == 0.25
        assert run_cell(grid, cell("shorter_full"), tmp_path)["changed_kept"] == pytest.approx(4 / 60)
        assert len(test) == 30


class TestRecording:
    def test_it_is_made_once_and_shared(self, grid, tmp_path, monkeypatch):
        run_cell(grid, cell("aum"), tmp_path)
        monkeypatch.setattr(cell_module, "run_recording", lambda *a, **k: pytest.fail("recorded again"))
        for method in ("el2n", "short", "full"):
            run_cell(grid, cell(method), tmp_path)
        assert [p.name for p in (tmp_path / "recordings").iterdir()] == ["clean-seed0"]
        remove_recordings(tmp_path)
        assert not (tmp_path / "recordings").exists()

    def test_each_seed_and_scenario_has_its_own(self, grid, tmp_path):
        for seed in (0, 1):
            for scenario in ("clean", "symmetric 0.2"):
                run_cell(grid, cell("aum", seed=seed, scenario=scenario), tmp_path)
        names = sorted(p.name for p in (tmp_path / "recordings").iterdir())
        assert names == ["clean-seed0", "clean-seed1", "symmetric-0.2-seed0", "symmetric-0.2-seed1"]

    def test_one_of_another_dataset_is_refused(self, grid, write, tmp_path):
        run_cell(grid, cell("aum"), tmp_path)
        other = read_grid(write(source=write_data(tmp_path / "other.npz", seed=1)))
        with pytest.raises(RunError, match=r"clean-seed0 was recorded on another dataset \(fingerprint"):
            run_cell(other, cell("aum"), tmp_path)

    def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(self, grid, tmp_path, monkeypatch):
        monkeypatch.setattr("os.fsync", lambda handle: None)
        with killed_at(monkeypatch, None) as operations:
            expected_row = run_cell(grid, cell("full"), tmp_path / "unbroken")
            total = operations()
        expected = contents(tmp_path / "unbroken")
        assert total > 15
        for at in range(total):
            with pytest.raises(Killed), killed_at(monkeypatch, at):
                run_cell(grid, cell("full"), tmp_path / str(at))
            row = run_cell(grid, cell("full"), tmp_path / str(at))
            assert (row["accuracy"], row["test_loss"]) == (expected_row["accuracy"], expected_row["test_loss"])
            files_then = contents(tmp_path / str(at))
            assert {k: v for k, v in files_then.items() if not k.endswith(".part")} == expected, f"killed at {at}"


def test_examples_of_images_work_too(tmp_path, write):
    g = np.random.default_rng(0)
    x = g.integers(0, 255, (40, 8, 8, 1)).astype(np.uint8)
    np.savez(tmp_path / "p.npz", x_train=x, y_train=np.arange(40) % 2, x_test=x[:10], y_test=np.arange(10) % 2)
    grid = read_grid(write(source=tmp_path / "p.npz"))
    assert isinstance(datasets_of(grid)[0], Examples)
    assert run_cell(grid, cell("aum"), tmp_path / "out")["passes"] == 60


def test_scores_on_smaller_images_cost_less(tmp_path):
    x = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3)).astype(np.uint8)
    y = np.arange(40) % 2
    np.savez(tmp_path / "images.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    head = f'name = "p"\nmethods = ["aum"]\nkeep = [0.5]\nseeds = [0]\n[data]\nsource = "{tmp_path / "images.npz"}"\n'
    head += "[train]\nmodel = 'resnet8'\nmodel_options = { width = 4 }\nepochs = 2\nbatch = 10\n"
    rows = {}
    for name, score in (("full", ""), ("half", "[score]\nsize_schedule = { sizes = [4], shares = [1.0] }")):
        (tmp_path / "grid.toml").write_text(f"{head}{score}")
        rows[name] = run_cell(read_grid(tmp_path / "grid.toml"), cell("aum"), tmp_path / name)["cost"]
    assert rows["half"]["train"]["flops"] == rows["full"]["train"]["flops"]
    for unit in ("flops", "backward"):
        assert 0 < rows["half"]["score"][unit] < 0.4 * rows["full"]["score"][unit]
    assert not read_grid(tmp_path / "grid.toml").full_is_recording


def test_images_of_a_grid_are_mirrored_only_where_it_says(tmp_path):
    x = np.zeros((6, 8, 8, 3), dtype=np.uint8)
    y = np.arange(6) % 2
    np.savez(tmp_path / "images.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    head = f'name = "p"\nmethods = ["full"]\nkeep = [0.5]\nseeds = [0]\n[data]\nsource = "{tmp_path / "images.npz"}"\n'
    for line, flip in (("", True), ("flip = false\n", False)):
        (tmp_path / "grid.toml").write_text(f"{head}{line}[train]\nepochs = 1\n")
        train, _ = datasets_of(read_grid(tmp_path / "grid.toml"))
        assert train.augment.flip is flip
