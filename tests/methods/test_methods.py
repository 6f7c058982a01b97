"""Methods by name and put together, what they need and what they are charged for."""

from __future__ import annotations

import functools

import pytest
import torch

from datawinnow import scores, select
from datawinnow.core.arrays import TABLE, LazyArrays, chain_arrays, first_epochs, is_recorded
from datawinnow.core.errors import ArgumentError, CapacityError, MissingArrayError
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.methods import METHODS, Method, create_method
from datawinnow.methods.method import random_array
from datawinnow.probe import is_probed


def arrays_of(epochs: int = 12, n: int = 40, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random arrays of ``n`` examples of three classes, every one that a recording or a probe makes."""
    sizes = {"epochs": epochs, "n": n, "d": 5, "c": 3, "v": 9, "k": 2, "runs": 2}
    names = [name for name in TABLE if is_recorded(name) or is_probed(name)]
    arrays = {name: random_array(name, sizes, stream(seed, name)) for name in names}
    return {**arrays, "seen": torch.ones(epochs, n, dtype=torch.bool), "val_labels": torch.arange(9) % 3}


def mean_loss(loss):
    return loss.mean(0)


def by_label(loss, labels):
    return labels.float() + loss.mean(0) / 100


class TestNames:
    def test_the_default_is_dual_with_beta_sampling(self):
        assert create_method() == METHODS["dual_beta"]

    @pytest.mark.parametrize("name", ["dual_beta", "dual-beta", "DUAL+Beta"])
    def test_a_name_may_be_written_as_people_do(self, name):
        assert create_method(name).key == "dual_beta"

    def test_an_unknown_method_names_the_nearest_and_all(self):
        with pytest.raises(ArgumentError, match=r"no method is called 'dual_bta'. Did you mean 'dual_beta'\?.*el2n"):
            create_method("dual_bta")

    @pytest.mark.parametrize(
        ("pieces", "message"),
        [
            ({"score": "el2m"}, "no score is called 'el2m'. Did you mean 'el2n'"),
            ({"score": "el2n", "select_by": "tpo"}, "no selector is called 'tpo'. Did you mean 'top'"),
            ({"score": "el2n", "options": {"cut": 1}}, "top has no option 'cut'; its options are: end"),
            ({"score": "el2n", "score_options": {"window": 1}}, "el2n has no option 'window'; its options are: first"),
            ({"select_by": "top"}, "selector 'top' needs a score; name one with `score=`"),
            (
                {"select_by": "random", "score_options": {"last": 1}},
                "random has no score, so it takes no score options",
            ),
            ({"score": 3}, "no score is called 3"),
        ],
        ids=["score", "selector", "option", "score option", "no score", "options of no score", "number"],
    )
    def test_unknown_parts_are_refused_by_name(self, pieces, message):
        with pytest.raises(ArgumentError, match=message):
            create_method(**pieces)

    @pytest.mark.parametrize("arguments", ["dual", METHODS["dual"]], ids=["name", "method"])
    def test_a_method_and_parts_at_once_are_refused(self, arguments):
        with pytest.raises(ArgumentError, match=r"method='dual'` names its score and selector already.*score='el2n'"):
            create_method(arguments, score="el2n")

    @pytest.mark.parametrize(
        ("pieces", "key", "selector"),
        [
            ({"score": "dual"}, "dual_beta", "beta"),
            ({"select_by": "beta"}, "dual_beta", "beta"),
            ({"score": "dyn-unc"}, "dyn_unc_top", "top"),
            ({"score": mean_loss}, "mean_loss_top", "top"),
            ({"score": functools.partial(mean_loss)}, "partial_top", "top"),
            ({"select_by": "random"}, "random", "random"),
        ],
        ids=["dual", "beta", "dash", "function", "partial", "random"],
    )
    def test_parts_are_put_together_under_the_cards_names(self, pieces, key, selector):
        method = create_method(**pieces)
        assert (method.key, method.selector_card.key) == (key, selector)

    def test_options_are_added_to_those_of_the_method(self):
        method = Method("mine", "mine", scores.el2n, select.top, score_options={"last": 3}, options={"end": "low"})
        method_made = create_method(method, score_options={"first": 1}, per_class=True)
        assert method_made.score_options == {"last": 3, "first": 1}
        assert method_made.options == {"end": "low"}
        assert method_made.per_class
        assert not method.per_class

    def test_options_go_to_the_part_that_has_them(self):
        method = create_method("d2")
        options = {"cutoff": 0.2, "gamma": 1.0, "never_learned": "max"}
        assert method.split_options(options) == ({"cutoff": 0.2, "gamma": 1.0}, {"never_learned": "max"})
        with pytest.raises(ArgumentError, match=r"d2 has no option 'bins'; its options are: .*cutoff.*never_learned"):
            method.split_options({"bins": 3})


class TestNeeds:
    @pytest.mark.parametrize(
        ("name", "needs"),
        [
            ("random", ()),
            ("dual", ("p_label",)),
            ("dual_beta", ("p_label",)),
            ("el2n", ("error_norm",)),
            ("forgetting", ("correct",)),
            ("ccs", ("margin_softmax",)),
        ],
    )
    def test_what_a_method_reads_of_a_recording(self, name, needs):
        assert METHODS[name].needs == needs

    def test_a_missing_array_is_named_with_the_verb_that_makes_it(self):
        def tdds(kl_step):
            return kl_step.mean(0)

        with pytest.raises(
            MissingArrayError, match=r"tdds needs the array 'kl_step'.*dw.api.record.data, signals='kl_step'"
        ):
            Method.from_score(tdds).compute_score(
                {name: array for name, array in arrays_of().items() if name != "kl_step"}
            )

    @pytest.mark.parametrize(
        ("method", "message"),
        [
            (Method("x", "x", lambda neighbours: neighbours, select.top), "'neighbours'.*datawinnow.probe"),
            (Method("x", "x", lambda wishes: wishes, select.top), "'wishes', which is not in the table of arrays"),
        ],
        ids=["probe", "unknown"],
    )
    def test_what_no_recording_makes_fails_before_anything_runs(self, method, message):
        with pytest.raises(MissingArrayError, match=message):
            method.dry_run(keep=0.5, epochs=30)

    @pytest.mark.parametrize("name", list(METHODS))
    def test_every_method_has_a_dry_run(self, name):
        calls = [METHODS[name].dry_run(keep=keep, epochs=10, n=n) for keep in (0.05, 0.7, 1.0) for n in (20, 5000)]
        assert calls == [None] * 6

    @pytest.mark.parametrize(
        ("method", "keep", "epochs", "error", "message"),
        [
            (
                create_method("dual"),
                0.5,
                9,
                ArgumentError,
                "9 recorded epochs are too few for a score over windows of 10",
            ),
            (create_method("el2n", score_options={"first": 9}), 0.5, 9, ArgumentError, "first=9 is past the end"),
            (create_method("ccs", options={"cutoff": 0.5}), 0.6, 10, CapacityError, "cutoff=0.5 drops the hardest"),
            (create_method("el2n", options={"end": "left"}), 0.6, 10, ArgumentError, "end must be one of"),
            (create_method("random"), 0.0, 10, ArgumentError, r"keep must be in \(0, 1\], got 0.0"),
        ],
        ids=["window", "first", "capacity", "option", "keep"],
    )
    def test_an_option_that_cannot_work_fails_in_the_dry_run(self, method, keep, epochs, error, message):
        with pytest.raises(error, match=message):
            method.dry_run(keep=keep, epochs=epochs)


class TestEpochs:
    def test_arrays_are_cut_one_by_one(self):
        full = {"p_label": torch.rand(6, 3), "kl_step": torch.rand(5, 3), "features": torch.rand(3, 2)}
        cut = first_epochs(full, 4)
        assert torch.equal(cut["p_label"], full["p_label"][:4])
        assert torch.equal(cut["kl_step"], full["kl_step"][:3])  # a change needs two epochs
        assert torch.equal(cut["features"], full["features"])
        assert set(cut) == set(full)
        assert len(cut) == 3
        with pytest.raises(KeyError):
            cut["margin"]

    def test_nothing_is_loaded_before_it_is_read(self):
        loaded = []
        lazy = LazyArrays({"loss": lambda: loaded.append("loss") or torch.zeros(2, 3)})
        chained = first_epochs(chain_arrays({"labels": torch.ones(3)}, lazy), 1)
        assert set(chained) == {"labels", "loss"}
        assert "loss" in chained
        assert loaded == []
        assert chained["loss"].shape == (1, 3)
        assert loaded == ["loss"]

    def test_the_first_source_wins_and_an_error_while_loading_is_no_missing_name(self):
        def fail():
            raise KeyError("inside")

        chained = chain_arrays({"loss": torch.ones(1)}, LazyArrays({"loss": fail, "margin": fail}))
        assert chained["loss"].tolist() == [1.0]
        assert "margin" in chained
        with pytest.raises(KeyError, match="inside"):
            chained["margin"]

    def test_only_recorded_arrays_have_an_axis_of_epochs(self):
        assert {row.made_by for row in TABLE.values() if row.axes[0].startswith("epochs")} == {"record"}

    @pytest.mark.parametrize(
        ("name", "options", "read"),
        [("dual", {}, 30), ("el2n", {}, 10), ("el2n", {"last": 4}, 4), ("el2n", {"last": 40}, 30), ("aum", {}, 30)]
        + [("entropy", {"epoch": epoch}, read) for epoch, read in ((-1, 30), (4, 5), (0, 1), (29, 30), (-28, 3))],
        ids=["dual", "el2n", "el2n to 4", "el2n past the end", "aum"]
        + [f"entropy at {epoch}" for epoch in (-1, 4, 0, 29, -28)],
    )
    def test_a_score_is_charged_for_the_epochs_it_reads(self, name, options, read):
        assert Method.from_score(name, options).epochs_charged(30) == read
        assert create_method(score=name, select_by="top", score_options=options).epochs_charged(30) == read

    def test_a_selector_that_reads_the_recording_is_charged_for_it(self):
        assert create_method(score="el2n", select_by="beta").epochs_charged(30) == 30

    def test_a_score_of_embedded_features_reads_no_recording(self):
        method = Method.from_score("moderate", {"embedding": "hf:somewhere"})
        assert method.probe_options == {"embedding": "hf:somewhere"}
        assert not method.needs_recording
        assert method.epochs_charged(30) == 0
        assert Method.from_score("moderate").epochs_charged(30) == 30

    def test_the_score_of_a_method_is_charged_alone(self):
        method = create_method(score="el2n", select_by="beta")
        assert (method.epochs_charged(30), method.score_only().epochs_charged(30)) == (30, 10)

    def test_random_is_charged_nothing(self):
        assert METHODS["random"].epochs_charged(30) == 0


class TestSelect:
    @pytest.mark.parametrize("keep", [0.025, 0.3, 0.33, 1.0])
    @pytest.mark.parametrize("name", list(METHODS))
    @pytest.mark.parametrize("per_class", [False, True], ids=["all", "per class"])
    def test_the_budget_is_exact(self, name, keep, per_class):
        method = create_method(name, per_class=per_class)
        labels = torch.arange(40) % 3
        arrays = arrays_of(epochs=20)
        selection, _ = method.run(arrays, labels, keep=keep, generator=stream(0, "x"))
        assert len(selection) == {0.025: 1, 0.3: 12, 0.33: 13, 1.0: 40}[keep]
        assert len(set(selection.index.tolist())) == len(selection)
        if per_class and keep == 0.3:
            assert torch.bincount(labels[selection.index]).tolist() == [4, 4, 4]

    def test_the_card_says_which_end_is_kept(self):
        arrays = arrays_of()
        aum, _ = METHODS["aum"].run(arrays, torch.zeros(40).long(), keep=0.1, generator=stream(0))
        assert set(aum.index.tolist()) == set(arrays["margin"].mean(0).argsort()[:4].tolist())
        el2n, score = METHODS["el2n"].run(arrays, torch.zeros(40).long(), keep=0.1, generator=stream(0))
        assert el2n.index.tolist() == arrays["error_norm"][:10].double().mean(0).argsort(descending=True)[:4].tolist()
        assert torch.allclose(score, arrays["error_norm"][:10].mean(0))

    def test_published_options_by_keep_and_those_given(self):
        assert METHODS["ccs"].selector_options(0.1) == {"cutoff": 0.3, "end": "low"}
        assert METHODS["ccs"].selector_options(0.5) == {"cutoff": 0.0, "end": "low"}
        assert create_method("ccs", options={"cutoff": 0.2}).selector_options(0.1) == {"cutoff": 0.2, "end": "low"}
        assert METHODS["aum"].selector_options(0.1) == {"end": "low"}

    def test_a_score_of_ones_own_may_need_labels(self):
        method = create_method(score=by_label)
        labels = torch.arange(40) % 4
        selection, _ = method.run(arrays_of(), labels, keep=0.25, generator=stream(0))
        assert labels[selection.index].tolist() == [3] * 10

    def test_a_score_may_return_numpy(self):
        method = create_method(score=lambda loss: loss.mean(0).numpy())
        selection, _ = method.run(arrays_of(), torch.zeros(40).long(), keep=0.1, generator=stream(0))
        assert selection.index.tolist() == arrays_of()["loss"].mean(0).argsort(descending=True)[:4].tolist()

    def test_a_selector_of_ones_own(self):
        def last(score, *, budget, generator, shift=0):
            assert isinstance(generator, torch.Generator)
            return Selection.of(torch.arange(len(score) - budget, len(score)) - shift, len(score))

        method = create_method(score="aum", select_by=last, options={"shift": 2})
        selection, _ = method.run(arrays_of(), torch.zeros(40).long(), keep=0.1, generator=stream(0))
        assert selection.index.tolist() == [34, 35, 36, 37]

    @pytest.mark.parametrize(
        ("score", "select_by", "message"),
        [
            (lambda loss: loss, None, r"must give one number for each of 40 examples, got shape \(12, 40\)"),
            ("aum", lambda score, *, budget: Selection.everything(40), "'<lambda>' must return.*exactly 4.*got 40 ids"),
            ("aum", lambda score, *, budget: list(range(budget)), "must return a Selection of exactly 4 ids, got list"),
        ],
        ids=["shape", "budget", "type"],
    )
    def test_what_a_callable_returns_is_checked(self, score, select_by, message):
        method = create_method(score=score, select_by=select_by)
        with pytest.raises(ArgumentError, match=message):
            method.run(arrays_of(), torch.zeros(40).long(), keep=0.1, generator=stream(0))


class TestPublished:
    @pytest.mark.parametrize(
        ("name", "keep", "charged"),
        [
            ("herding", 0.3, 30),
            ("slo_curves", 0.3, 30),
            ("boss", 0.5, 30),  # its score alone reads ten, and nothing is cut off
            ("el2n", 0.3, 10),
            ("tdds", 0.3, 30),  # of sixty that were published
            ("tdds", 0.2, 20),
            ("tdds", 0.1, 10),
        ],
    )
    def test_epochs_of_thirty(self, name, keep, charged):
        assert METHODS[name].at(keep).epochs_charged(30) == charged

    def test_settings_by_the_fraction_kept(self):
        assert [METHODS["tdds"].at(keep).score_options["window"] for keep in (0.7, 0.3, 0.1)] == [10, 20, 5]
        assert create_method("tdds", score_options={"window": 4}).at(0.3).score_options == {"window": 4}
        assert [METHODS["boss"].at(keep).cutoff for keep in (0.5, 0.3, 0.1)] == [0.0, 0.1, 0.3]
        assert METHODS["d2"].at(0.5).needs == ("correct", "features")  # nothing is cut off there
