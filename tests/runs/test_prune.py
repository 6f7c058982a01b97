"""`prune` from Python: whatever the dataset, whatever the method, exact budgets and one answer a seed."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import TensorDataset

import datawinnow as dw
from datawinnow.api import prune
from datawinnow.bench import GridData, grid_of, run_grid
from datawinnow.core.errors import ArgumentError, DataError, MissingArrayError, RunError
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.data.dataset_info import dataset_info
from datawinnow.data.kept import Kept
from datawinnow.methods import METHODS
from datawinnow.runs import record as record_module
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.select import select_examples, select_run, selection_of

from .conftest import FAST, Bare, make_blobs

QUICK = {"epochs": 2, "recipe": FAST, "score": "el2n"}


def as_list(examples):
    return [(x, int(y)) for x, y in examples]


def ids(kept):
    return kept.selection.index.tolist()


def test_the_example_of_the_design():
    """Digits have one channel, resnet8(classes=10) is made for three: grey is shown to it as grey in each."""
    train, test = dw.load("digits")
    train = train.subset(torch.arange(200))
    kept = dw.prune(train, keep=0.3, epochs=10, recipe=FAST)
    model, history = dw.fit(dw.models.resnet8(classes=10), kept, epochs=1, recipe=FAST, test=test)
    assert len(kept) == 60
    assert history.cost.backward == 60
    assert 0 <= history.test_accuracy <= 1
    x = torch.rand(2, 1, 8, 8)
    assert torch.allclose(model(x), model(x.repeat(1, 3, 1, 1)), atol=1e-6)


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "convnet", "vgg16_bn"])
def test_channels_that_do_not_fit_are_named(name):
    model = getattr(dw.models, name)(classes=2, channels=3, size=32)
    with pytest.raises(ArgumentError, match="takes images of 3 channels, but these have 4: build it with channels=4"):
        model(torch.rand(2, 4, 32, 32))
    with pytest.raises(ArgumentError, match=r"takes images.*shape \(2, 7\): use models.mlp"):
        model(torch.rand(2, 7))


class TestDatasets:
    @pytest.mark.parametrize(
        "form",
        [Bare, as_list, lambda e: TensorDataset(e.x, e.labels), lambda e: e],
        ids=["items only", "list of tuples", "TensorDataset", "Examples"],
    )
    def test_any_map_style_dataset(self, blobs, form):
        data = form(blobs)
        kept = prune(data, keep=0.3, **QUICK)
        assert len(kept) == 18
        assert kept.dataset is data
        first = kept.selection.index[0]
        assert torch.equal(torch.as_tensor(kept[0][0]), blobs.x[first])
        # the order and the weights come from the seed alone, so the form of the data changes nothing
        assert ids(kept) == ids(prune(blobs, keep=0.3, **QUICK))

    def test_class_balance_without_labels_that_are_told(self, blobs):
        for method in ("random", "el2n"):
            kept = prune(Bare(blobs), keep=0.2, epochs=2, recipe=FAST, method=method, per_class=True)
            assert torch.bincount(blobs.labels[kept.selection.index]).tolist() == [4, 4, 4]

    @pytest.mark.parametrize(
        ("data", "error", "message"),
        [
            (iter([]), ArgumentError, "must be map-style .* got list_iterator"),
            ([], DataError, "holds no examples"),
            ([(torch.zeros(2), 0.5)] * 4, DataError, "labels must be integer class ids, got 0.5 at example 0"),
            ([(torch.zeros(2), -1)] * 4, DataError, "labels must be class ids from 0 to .*, got -1 at example 0"),
            ([("a text", 0)] * 4, DataError, "x must be a tensor.*got str; write texts to a .csv"),
            ([torch.zeros(3)] * 4, DataError, r"an item of the dataset must be \(x, y\), got Tensor of length 3"),
        ],
        ids=["stream", "empty", "fraction", "negative", "text", "no pair"],
    )
    def test_what_is_no_dataset_is_refused_by_name(self, data, error, message):
        with pytest.raises(error, match=message):
            prune(data, keep=0.5, **QUICK)

    def test_a_selection_is_not_pruned_again(self, blobs):
        with pytest.raises(ArgumentError, match=r"a selection already \(Kept\): give the whole"):
            prune(Kept(blobs, Selection.everything(60)), keep=0.5, **QUICK)


class TestBudget:
    @pytest.mark.parametrize(
        ("keep", "kept"), [(1.0, 60), (0.3, 18), (0.325, 20), (0.001, 1), (1, 60), ("0.3", 18), ("30%", 18)]
    )
    def test_it_is_exact(self, blobs, keep, kept):
        selected = prune(blobs, keep=keep, **QUICK)
        assert len(set(ids(selected))) == len(selected) == kept

    @pytest.mark.parametrize("keep", [0, -0.1, 1.2, 30, float("nan"), True, "1.2", "130%", "nan", [0.3], None])
    def test_keep_is_a_fraction_kept(self, blobs, keep):
        with pytest.raises(
            ArgumentError, match=r"keep must be in \(0, 1\], got .*: it is the fraction of examples kept"
        ):
            prune(blobs, keep=keep, **QUICK)


class TestSeed:
    def test_same_seed_same_selection_and_global_randomness_untouched(self, blobs):
        torch.manual_seed(7)
        expected = torch.rand(3)
        torch.manual_seed(7)
        one = prune(blobs, keep=0.3, epochs=10, recipe=FAST, seed=3)
        assert torch.equal(torch.rand(3), expected)
        assert ids(one) == ids(prune(blobs, keep=0.3, epochs=10, recipe=FAST, seed=3))
        assert ids(one) != ids(prune(blobs, keep=0.3, epochs=10, recipe=FAST, seed=4))

    @pytest.mark.parametrize("method", ["dual_beta", "random", "ccs"])
    def test_a_run_folder_changes_nothing(self, blobs, tmp_path, method):
        prune_kwargs = {"keep": 0.3, "method": method, "epochs": 10, "recipe": FAST, "seed": 2}
        bare, left = prune(blobs, **prune_kwargs), prune(blobs, run=tmp_path / "run", **prune_kwargs)
        assert ids(bare) == ids(left)
        assert torch.equal(bare.selection.reason, left.selection.reason)
        stored, meta = selection_of(RunFolder.open(tmp_path / "run"))
        assert stored.index.tolist() == ids(bare)
        assert (meta["method"], meta["keep"], meta["seed"], meta["budget"]) == (method, 0.3, 2, 18)

    def test_no_folder_is_left_behind_unless_asked_for(self, blobs, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        prune(blobs, keep=0.3, **QUICK)
        assert list(tmp_path.iterdir()) == []


class TestMethod:
    def test_by_name_as_method_and_as_parts_are_one(self, blobs):
        prune_kwargs = {"keep": 0.3, "epochs": 10, "recipe": FAST}
        named = ids(prune(blobs, method="dual", **prune_kwargs))
        assert named == ids(prune(blobs, method=METHODS["dual"], **prune_kwargs))
        assert named == ids(prune(blobs, score="dual", select_by="top", **prune_kwargs))
        assert named == ids(prune(blobs, score=dw.scores.dual, select_by=dw.select.top, **prune_kwargs))
        assert named != ids(prune(blobs, score="dual", select_by="top", options={"end": "low"}, **prune_kwargs))

    def test_options_reach_their_part(self, blobs):
        prune_kwargs = {"keep": 0.3, "epochs": 4, "recipe": FAST}
        with pytest.raises(ArgumentError, match="window"):
            prune(blobs, method="dual", **prune_kwargs)
        short = prune(blobs, method="dual", score_options={"window": 3}, **prune_kwargs)
        assert len(short) == 18

    def test_it_fails_before_anything_is_trained(self, blobs, monkeypatch):
        monkeypatch.setattr(record_module, "run_recording", lambda *a, **k: pytest.fail("trained"))
        with pytest.raises(ArgumentError, match="9 recorded epochs are too few for a score over windows of 10"):
            prune(blobs, keep=0.3, epochs=9)
        with pytest.raises(ArgumentError, match="no method is called 'magic'"):
            prune(blobs, keep=0.3, method="magic")
        with pytest.raises(MissingArrayError, match=r"'neighbours'.*probe"):
            prune(blobs, keep=0.3, score=lambda neighbours: neighbours)
        with pytest.raises(ArgumentError, match="prune has no parameter 'scores'"):
            prune(blobs, keep=0.3, scores="el2n")

    def test_random_trains_nothing_and_costs_nothing(self, blobs, monkeypatch, tmp_path):
        monkeypatch.setattr(record_module, "run_recording", lambda *a, **k: pytest.fail("trained"))
        kept = prune(blobs, keep=0.3, method="random", run=tmp_path / "run")
        folder = RunFolder.open(tmp_path / "run")
        assert len(kept) == 18
        assert folder.metadata["options"]["select"]["charge"] == 0
        assert "record" not in folder.metadata["cost"]
        with pytest.raises(RunError, match=r"not recorded to the end \(record: not begun\)"):
            folder.arrays()

    def test_a_run_begun_by_random_can_be_recorded_with_another_network(self, blobs, tmp_path):
        prune(blobs, keep=0.3, method="random", run=tmp_path / "run")
        prune(blobs, keep=0.3, run=tmp_path / "run", model=small, **QUICK)
        assert RunFolder.open(tmp_path / "run").metadata["model"]["name"] == "small"

    def test_a_method_that_needs_the_costly_signal_gets_it_recorded(self, blobs, tmp_path):
        def tdds(kl_step):
            assert kl_step.shape == (2, 60)
            return kl_step.mean(0)

        kept = prune(blobs, keep=0.3, epochs=3, recipe=FAST, score=tdds, run=tmp_path / "run")
        steps = RunFolder.open(tmp_path / "run").arrays()["kl_step"]
        assert ids(kept) == steps.mean(0).argsort(descending=True, stable=True)[:18].tolist()


def small(*, classes, features):
    return torch.nn.Linear(features, classes)


def test_a_planted_wrong_label_is_hard():
    data = make_blobs(90)
    data = data.with_labels(data.labels.clone())
    data.x.mul_(3)  # well apart
    data.labels[5] = (data.labels[5] + 1) % 3
    kept = prune(data, keep=0.02, epochs=6, recipe=FAST, score="aum")
    assert 5 in ids(kept)


@pytest.mark.parametrize("run", [False, True], ids=["in memory", "with a run folder"])
def test_classes_of_which_nothing_is_kept_are_named(blobs, tmp_path, run):
    messages: list[str] = []
    where = {"run": tmp_path / "run"} if run else {}
    kept = prune(blobs, keep=0.02, method="random", log=messages.append, **where)
    (label,) = blobs.labels[kept.selection.index].tolist()
    names = ", ".join(name for name in blobs.classes if name != blobs.classes[label])
    assert [line for line in messages if f"no example is kept of 2 of 3 classes ({names})" in line]
    messages.clear()
    assert ids(prune(blobs, keep=0.5, method="random", log=messages.append, **where))
    assert not [line for line in messages if "no example is kept" in line]


def test_the_bench_the_check_and_prune_choose_by_one_function(blobs, tmp_path):
    grid = grid_of(
        "one.toml",
        {
            "name": "one",
            "about": "one way",
            "data": {"source": "blobs"},
            "train": {"epochs": 2, "model": "mlp", **vars(FAST)},
            "methods": ["el2n", "random"],
            "keep": [0.3, 0.02],
            "seeds": [0],
        },
    )
    data = GridData(blobs, make_blobs(9))
    rows = {(row["method"], row["keep"]): row for row in run_grid(grid, tmp_path / "out", data=data)}
    assert len(rows) == 4
    assert "no example is kept of 2 of 3 classes" in rows["random", 0.02]["warnings"][0]
    assert "warnings" not in rows["random", 0.3]
    recording = RunFolder.open(next((tmp_path / "out" / "recordings").iterdir()))
    info = dataset_info(blobs)
    chosen = select_examples(info, METHODS["el2n"], keep=0.3, generator=stream(0), folder=recording)
    assert ids(Kept(blobs, select_run(recording, blobs, keep=0.3, method="el2n"))) == chosen.selection.index.tolist()
    with pytest.raises(MissingArrayError, match="el2n"):
        select_examples(info, METHODS["el2n"], keep=0.3, generator=stream(0))
