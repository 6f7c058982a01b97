"""What a recorded network says of its examples, through every verb; and networks trained on subsets."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from datawinnow import api
from datawinnow.api import prune
from datawinnow.core.cost import Cost
from datawinnow.core.draw import largest, tie_seed_of
from datawinnow.core.errors import ArgumentError, DataError, MissingArrayError, RunError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.data.dataset_info import dataset_info
from datawinnow.data.examples import stratified
from datawinnow.data.kept import Kept
from datawinnow.methods import METHODS, Method, create_method
from datawinnow.models import build as build_named
from datawinnow.probe import probe
from datawinnow.runs import probe_arrays as probing_module
from datawinnow.runs import subset_runs as subsets_module
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.probe_arrays import ProbedArrays, network_of_run, probe_total, probed_arrays
from datawinnow.runs.score import score_run
from datawinnow.runs.select import select_run, selection_draws
from datawinnow.runs.subset_runs import subset_runs
from datawinnow.scores import grand_last, memorization
from datawinnow.select import herding, k_center, per_class
from datawinnow.train.checkpoint import load_checkpoint

from .conftest import FAST, make_blobs


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run of sixty vectors and three epochs."""
    run = tmp_path_factory.mktemp("probing") / "run"
    return api.record(make_blobs(), run=run, epochs=3, recipe=FAST, seed=5).path


@pytest.fixture
def run(recorded, tmp_path):
    shutil.copytree(recorded, tmp_path / "run")
    return RunFolder.open(tmp_path / "run")


def probe_run(run, train, *arrays, **options):
    """The same without the pipeline."""
    model = network_of_run(run)
    load_checkpoint(run.path / "model.safetensors", model, None)
    return probe(model, train, arrays=arrays, seed=5, **options)


class TestScores:
    def test_a_score_looks_at_the_recorded_network(self, run, blobs):
        scores = score_run(run, blobs, ["grand_last"])["grand_last"]
        arrays = probe_run(run, blobs, "features", "probs")
        assert torch.equal(scores, grand_last(arrays["features"], arrays["probs"], blobs.labels))
        assert run.metadata["cost"]["probe"] | {"seconds": 0, "flops": 0} == Cost(0, 60, 0).as_dict()

    def test_one_look_is_kept_and_charged_once(self, run, blobs, monkeypatch):
        for name in ("grand_last", "moderate", "least_confidence"):
            score_run(run, blobs, [name])
        assert run.metadata["cost"]["probe"]["forward"] == 60
        score_run(run, blobs, ["curvature", "grand_full"])
        assert run.metadata["cost"]["probe"]["backward"] == 2 * 60 + 60
        assert run.scores().schema.field("grand_full").metadata[b"charge"] == b"240"  # 180 recorded, 60 looked at

    def test_options_of_the_probe_reach_it(self, run, blobs):
        plain = score_run(run, blobs, ["curvature"])["curvature"]
        chosen = {"mode": "rademacher", "repeats": 3}
        scores = score_run(run, blobs, ["curvature"], options=chosen)["curvature"]
        assert torch.equal(scores, probe_run(run, blobs, "curvature", **chosen)["curvature"])
        assert not torch.allclose(scores, plain)
        assert torch.equal(score_run(run, blobs, ["curvature"])["curvature"], plain)  # not replaced by the other

    def test_an_option_of_neither(self, run, blobs):
        with pytest.raises(ArgumentError, match="curvature has no option 'modes'; its options are: h, mode, repeats"):
            score_run(run, blobs, ["curvature"], options={"modes": 1})

    def test_nothing_is_looked_at_where_an_array_is_missing(self, run, blobs, monkeypatch):
        monkeypatch.setattr(probing_module, "probe", lambda *a, **k: pytest.fail("looked"))
        with pytest.raises(MissingArrayError, match=r"tdds needs the array 'kl_step'.*signals='kl_step'"):
            score_run(run, blobs, ["curvature", "tdds"])

    def test_a_network_that_is_gone(self, run, blobs):
        (run.path / "model.safetensors").unlink()
        with pytest.raises(RunError, match=r"model.safetensors is missing.*record again"):
            score_run(run, blobs, ["curvature"])

    def test_a_network_of_ones_own_is_asked_for(self, blobs, tmp_path):
        def build():
            return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))

        run = api.record(blobs, run=tmp_path / "own", epochs=2, recipe=FAST, model=build)
        with pytest.raises(ArgumentError, match=r"a network of your own, of which it only knows the name 'build'"):
            score_run(run, blobs, ["grand_last"])
        assert score_run(run, blobs, ["grand_last"], model=build)["grand_last"].shape == (60,)


class TestSelect:
    @pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].reads_probe])
    def test_every_method_that_looks_keeps_what_it_is_asked(self, run, blobs, name):
        chosen = select_run(run, blobs, keep=0.1, method=name, gallery=False)
        assert len(set(chosen.index.tolist())) == 6
        about = run.metadata["options"]["select"]
        assert about["epochs"] == 3
        assert about["charge"] == 180 + round(Cost.from_dict(run.metadata["cost"]["probe"]).passes)

    def test_it_is_the_selector_on_what_the_network_says(self, run, blobs):
        features = probe_run(run, blobs, "features")["features"]
        selection = select_run(run, blobs, keep=0.2, method="herding")
        ties = tie_seed_of(selection_draws(0, METHODS["herding"], 0.2))
        expected = per_class(herding)(features, labels=blobs.labels, budget=12, tie_seed=ties)
        assert selection.index.tolist() == expected.index.tolist()
        selection = select_run(run, blobs, keep=0.2, method=create_method(select_by="k_center", options={"first": 7}))
        expected = k_center(features, budget=12, first=7, generator=stream(0))
        assert selection.index.tolist() == expected.index.tolist()

    def test_the_lowest_aum_are_dropped_first(self, run, blobs):
        selection = select_run(run, blobs, keep=0.1, method="d2")
        lowest = run.arrays()["margin"].double().mean(0).argsort(stable=True)[:24]  # 0.4 of sixty
        assert not set(lowest.tolist()) & set(selection.index.tolist())
        assert run.metadata["options"]["select"]["options"]["cutoff"] == 0.4
        select_run(run, blobs, keep=0.1, method=create_method("d2", options={"cutoff": 0.5, "gamma": 1.0}))
        set_by_hand = run.metadata["options"]["select"]["options"]
        assert (set_by_hand["cutoff"], set_by_hand["gamma"]) == (0.5, 1.0)

    def test_of_every_class_where_the_method_says_so(self, run, blobs):
        selection = select_run(run, blobs, keep=0.1, method="boss")
        aum = run.arrays()["margin"].double().mean(0)
        suspects = torch.nonzero(selection.reason == int(Reason.SUSPECT)).flatten().tolist()
        lowest = []
        for c in range(3):
            ids = torch.nonzero(blobs.labels == c).flatten()
            lowest += ids[aum[ids].argsort(stable=True)[:6]].tolist()
        assert suspects == sorted(lowest) != sorted(aum.argsort(stable=True)[:18].tolist())

    def test_a_score_whose_low_end_is_kept_is_turned_round_for_difficulty(self, run, blobs):
        chosen = {"neighbours": 1, "gamma_forward": 1e9, "gamma": 1e9}  # no messages: the hardest first
        selection = select_run(run, blobs, keep=0.1, method=create_method(score="aum", select_by="d2", options=chosen))
        assert selection.index.tolist() == run.arrays()["margin"].double().mean(0).argsort(stable=True)[:6].tolist()

    def test_prune_records_and_looks(self, blobs, tmp_path):
        kwargs = {"keep": 0.2, "method": "k_center", "epochs": 2, "recipe": FAST}
        kept = prune(blobs, **kwargs)
        assert len(kept) == 12
        run = tmp_path / "run"
        assert prune(blobs, run=run, **kwargs).selection.index.tolist() == kept.selection.index.tolist()
        assert RunFolder.open(run).metadata["cost"]["probe"]["forward"] == 60


class TestHeldOut:
    def test_a_tenth_of_the_training_examples_stands_in_and_that_is_told(self, run, blobs):
        messages = []
        probing = probed_arrays(run, dataset_info(blobs), log=messages.append)
        ids = stratified(blobs.labels, 6, stream(5, "held out"))
        assert probing["val_labels"].tolist() == blobs.labels[ids].tolist()
        assert torch.equal(probing["val_features"], probe_run(run, blobs, "features")["features"][ids])
        assert torch.bincount(probing["val_labels"]).tolist() == [2, 2, 2]
        assert len(messages) == 1
        assert "6 training examples" in messages[0]

    def test_an_embedding_without_held_out_data_reads_the_training_examples(self, run, blobs, monkeypatch):
        calls = []

        def fake_embedding(data, model, *, out, prefix, progress):
            calls.append((data, prefix))
            return probe(network_of_run(run), data, arrays=("features",), out=out, prefix=prefix)

        monkeypatch.setattr(probing_module, "probe_embedding", fake_embedding)
        probed = probed_arrays(run, dataset_info(blobs), options={"embedding": "hf:model"})
        probed.compute(("features", "val_features"))
        assert probed["val_features"].shape == (6, *probed["features"].shape[1:])
        assert [(data.data is blobs, prefix) for data, prefix in calls] == [(True, "")]

    def test_what_is_given_is_looked_at_instead(self, run, blobs):
        val = make_blobs(30, seed=9, name="val")
        probing = probed_arrays(run, dataset_info(blobs), val=val)
        assert torch.equal(probing["val_probs"], probe_run(run, val, "probs")["probs"])
        assert probing["val_labels"].tolist() == val.labels.tolist()
        assert probing.compute(("features", "val_features")).forward == 60 + 30

    def test_class_ids_of_held_out_data_go_by_the_names_of_the_classes(self, run, blobs):
        val = make_blobs(30, seed=9, name="val")
        turned = replace(val, labels=2 - val.labels, classes=("c", "b", "a"))
        probing = probed_arrays(run, dataset_info(blobs), val=turned)
        assert probing["val_labels"].tolist() == val.labels.tolist()
        kept = Kept(turned, Selection.everything(30))
        assert probed_arrays(run, dataset_info(blobs), val=kept)["val_labels"].tolist() == val.labels.tolist()
        other = replace(val, classes=("a", "b", "z"))
        with pytest.raises(
            DataError, match=r"class 'z' of val is none of the training data's classes \('a', 'b', 'c'\)"
        ):
            probed_arrays(run, dataset_info(blobs), val=other)["val_labels"]

    def test_a_method_that_can_do_without_gets_only_what_is_given(self, run, blobs):
        """GradMatch matches the training gradient unless there are held-out data."""
        seen = []

        def spy(features, val_features=None, *, budget):
            seen.append(val_features)
            return herding(features, budget=budget)

        method = Method("spy", "spy", None, spy)
        select_run(run, blobs, keep=0.2, method=method)
        select_run(run, blobs, keep=0.2, method=method, val=make_blobs(30, seed=9))
        assert seen[0] is None
        assert seen[1].shape[0] == 30

    def test_what_no_pass_makes(self, run, blobs):
        with pytest.raises(MissingArrayError, match="no pass over a network makes the array 'neighbours'"):
            probed_arrays(run, dataset_info(blobs))["neighbours"]
        nothing = ProbedArrays(run.path / "nowhere", dataset_info(blobs), lambda: pytest.fail("loaded"))
        assert not nothing.is_computed(("features",))
        assert nothing.compute(("p_label",)) == probe_total(nothing.folder) == Cost()


class TestSubsets:
    SUBSET_KWARGS = {"runs": 5, "epochs": 2, "recipe": FAST, "seed": 3}

    @staticmethod
    def build():
        return build_named("mlp", shape=(4,), classes=3)

    def test_every_example_is_in_as_many_runs_and_the_cost_is_counted(self, blobs, tmp_path):
        runs = subset_runs(blobs, build=self.build, out=tmp_path, fraction=0.6, **self.SUBSET_KWARGS)
        mask = runs.arrays["subset_mask"]
        assert mask.sum(0).tolist() == [3] * 60
        assert len({tuple(column) for column in mask.T.tolist()}) > 5  # drawn for each example by itself
        assert runs.cost.backward == 2 * int(mask.sum())
        assert runs.cost.forward == 5 * 60

    def test_what_is_right_is_what_the_runs_answer(self, blobs, tmp_path, monkeypatch):
        models = []
        fit = subsets_module.fit

        def remembered(model, data, **kwargs):
            first = next(model.parameters()).flatten()[0].item()
            models.append((model, data.selection.index.tolist(), first))
            return fit(model, data, **kwargs)

        monkeypatch.setattr(subsets_module, "fit", remembered)
        runs = subset_runs(blobs, build=self.build, out=tmp_path, **self.SUBSET_KWARGS)
        for run, (model, ids, _) in enumerate(models):
            assert ids == torch.nonzero(runs.arrays["subset_mask"][run]).flatten().tolist()
            right = model(blobs.x).argmax(1) == blobs.labels
            assert torch.equal(runs.arrays["subset_correct"][run], right)
        assert len({first for *_, first in models}) == 5  # other weights to begin with

    def test_finished_runs_are_not_made_again(self, blobs, tmp_path, monkeypatch):
        first = subset_runs(blobs, build=self.build, out=tmp_path, **self.SUBSET_KWARGS)
        (tmp_path / "run-0003.npz").unlink()
        fits = []
        fit = subsets_module.fit
        monkeypatch.setattr(subsets_module, "fit", lambda *a, **k: fits.append(1) or fit(*a, **k))
        again = subset_runs(blobs, build=self.build, out=tmp_path, **self.SUBSET_KWARGS)
        assert len(fits) == 1
        for name, array in first.arrays.items():
            assert torch.equal(again.arrays[name], array)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"runs": 1}, ArgumentError, r"runs must be a whole number in \[2"),
            ({"fraction": 0.95}, ArgumentError, "fraction=0.95 of 5 runs puts every example into 5 of them"),
            ({"epochs": 3}, RunError, "was started with epochs=2, now it is 3"),
            ({"seed": 4}, RunError, "was started with seed=3, now it is 4"),
        ],
        ids=["runs", "fraction", "epochs", "seed"],
    )
    def test_what_cannot_be(self, blobs, tmp_path, monkeypatch, change, error, message):
        monkeypatch.setattr(subsets_module, "fit", lambda *a, **k: pytest.fail("trained"))
        with pytest.raises(pytest.fail.Exception):
            subset_runs(blobs, build=self.build, out=tmp_path, **self.SUBSET_KWARGS)
        with pytest.raises(error, match=message):
            subset_runs(blobs, build=self.build, out=tmp_path, **{**self.SUBSET_KWARGS, **change})

    def test_a_damaged_run_is_named(self, blobs, tmp_path):
        subset_runs(blobs, build=self.build, out=tmp_path, **self.SUBSET_KWARGS)
        (tmp_path / "run-0001.npz").write_bytes(b"PK")
        with pytest.raises(RunError, match=r"run-0001.npz is truncated or damaged"):
            subset_runs(blobs, build=self.build, out=tmp_path, **self.SUBSET_KWARGS)

    def test_memorisation_of_a_run(self, run, blobs):
        with pytest.raises(MissingArrayError, match=r"score\(.*scores='memorization', subset_runs=8"):
            score_run(run, blobs, ["memorization"])
        with pytest.raises(MissingArrayError, match="subset_runs=8"):
            select_run(run, blobs, keep=0.1, method=create_method(score="memorization"))
        messages = []
        scores = score_run(run, blobs, ["memorization"], subset_runs=4, log=messages.append)["memorization"]
        assert (
            "4 trainings of 3 epochs on 75% of the examples, 540 examples passed, 3.0 times the recording"
            in messages[0]
        )
        assert run.metadata["cost"]["subsets"] | {"seconds": 0, "flops": 0} == Cost(0, 240, 540).as_dict()
        method = create_method(score="memorization")
        kept = select_run(run, blobs, keep=0.1, method=method, log=messages.append)
        assert kept.index.tolist() == largest(scores, 6, tie_seed_of(selection_draws(0, method, 0.1))).tolist()
        assert run.metadata["options"]["select"]["charge"] == 540 + 80
        assert len([message for message in messages if "trainings" in message]) == 1
        again = subset_runs(
            blobs,
            runs=4,
            epochs=3,
            build=lambda: network_of_run(run),
            seed=5,
            out=run.path / "subsets" / "4",
            recipe=FAST.__class__(**{**FAST.metadata(), "precision": "fp32", "channels_last": False}),
        )
        assert torch.equal(scores, memorization(**again.arrays))
