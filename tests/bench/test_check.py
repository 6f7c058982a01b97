"""`prune --check`: four trainings a seed, paired, and a verdict that says which is best."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from datawinnow import api
from datawinnow.bench import cell as cell_module
from datawinnow.bench.check import check
from datawinnow.core.artifacts import read_json
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.result_rows import read_rows
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.core.verdict import ADVICE_AHEAD, ADVICE_LEVEL, compare, payback, verdict
from datawinnow.data.kept import Kept
from datawinnow.methods import METHODS
from datawinnow.report import results
from datawinnow.runs.record import begin_run
from datawinnow.runs.select import select_run
from datawinnow.train import evaluate, fit
from datawinnow.train.build import build_network
from tests.runs.conftest import FAST, make_blobs

LABELS = {"dual": "DUAL", "random": "random", "shorter_full": "all the data, fewer epochs", "full": "all the data"}
INDICATION = "This is an indication (1 seed): a result needs 5 paired seeds."


def row(method: str, accuracy: float | None, seed: int = 0) -> dict:
    """Of 200 examples: 60 kept for 30 epochs, or all of them for 9 or 30; scoring took a full training."""
    scored, is_full = method == "dual", method == "full"
    passes = 6000 if is_full else 1800
    cost = {"score": {"seconds": 10.0 * scored}, "train": {"seconds": 10.0 if is_full else 3.0}}
    return {
        "method": method,
        "label": LABELS[method],
        "accuracy": accuracy,
        "seed": seed,
        "keep": 1.0 if is_full else 0.3,
        "n": 200,
        "kept": 200 if "full" in method else 60,
        "trained_epochs": 9.0 if method == "shorter_full" else 30,
        "passes": passes,
        "total_passes": passes + 6000 * scored,
        "cost": cost,
    }


def four(ours, random, shorter, full=0.9, seed: int = 0) -> list[dict]:
    accuracies = {"dual": ours, "random": random, "shorter_full": shorter, "full": full}
    return [row(method, accuracy, seed) for method, accuracy in accuracies.items()]


class TestVerdict:
    def test_the_line_has_every_accuracy_the_loss_the_total_cost_and_a_word(self):
        assert verdict(four(0.8, 0.75, 0.78), "dual").line == (
            "Accuracy 80.0% with DUAL on 60 of 200 examples, 90.0% on all the data (-10.0 points), 75.0% on as many "
            "random examples, 78.0% on all the data for 9 epochs. Total cost with scoring: 39.0 passes over all the "
            "data and 13 s; full training: 30.0 passes over all the data and 10 s. Verdict at "
            "equal training cost: ahead."
        )

    @pytest.mark.parametrize(
        ("accuracies", "word", "better"),
        [
            ((0.8, 0.75, 0.7812), "ahead", None),
            ((0.75, 0.8, 0.7), "behind", "random"),
            ((0.75, 0.75, 0.9), "behind", "shorter_full"),
            ((0.75, 0.75, 0.7), "level", "random"),
            ((0.80001, 0.8, 0.7), "level", "random"),
        ],
        ids=["ahead", "behind", "shorter wins", "a tie is for the cheaper", "a hair is a tie"],
    )
    def test_one_seed_is_an_indication_and_its_sign_advises(self, accuracies, word, better):
        answer = verdict(four(*accuracies), "dual")
        assert answer.word == word
        assert answer.details.endswith(INDICATION)
        assert {comparison.outcome for comparison in answer.comparisons.values()} == {"ties"}
        advice = (ADVICE_AHEAD if word == "behind" else ADVICE_LEVEL)[better] if better else "DUAL does best"
        assert advice in answer.details

    def test_references_that_were_not_run_are_left_out(self):
        answer = verdict([row("dual", 0.8), row("shorter_full", 0.7)], "dual")
        assert (answer.word, list(answer.comparisons)) == ("ahead", ["shorter_full"])
        assert "random" not in answer.line
        itself = verdict([row("random", 0.8), row("shorter_full", 0.7), row("full", 0.9)], "random")
        assert list(itself.comparisons) == ["full", "shorter_full"]

    def test_a_training_that_diverged_is_in_no_mean(self):
        rows = [*four(0.8, 0.7, 0.6), *four(0.8, None, 0.6, seed=1)]
        answer = verdict(rows, "dual")
        assert "random, seed 1" in answer.details
        assert (answer.comparisons["random"].num_seeds, answer.comparisons["shorter_full"].num_seeds) == (1, 2)
        assert verdict(four(None, 0.7, 0.6), "dual").word == "none"

    def rows(self, ours, random, shorter):
        """A list of accuracies by seed each."""
        return [r for seed, each in enumerate(zip(ours, random, shorter, strict=True)) for r in four(*each, seed=seed)]

    def test_several_seeds_are_compared_by_the_interval_of_their_paired_differences(self):
        # far apart between the seeds, but DUAL is ahead of random by 4, 5 and 6 points in each
        ours, random, shorter = (0.5, 0.7, 0.9), (0.46, 0.65, 0.84), (0.55, 0.69, 0.87)
        low, high = stats.t.interval(0.95, 2, loc=5, scale=stats.sem([4, 5, 6]))
        assert low > 0  # else the example shows nothing
        answer = verdict(self.rows(ours, random, shorter), "dual")
        assert answer.comparisons["random"].difference == pytest.approx(0.05)
        assert answer.comparisons["random"].half == pytest.approx((high - low) / 200)
        outcomes = {name: comparison.outcome for name, comparison in answer.comparisons.items()}
        assert (outcomes["random"], outcomes["shorter_full"], answer.word) == ("wins", "ties", "ties")
        assert "indication (3 seeds)" in answer.details

    @pytest.mark.parametrize(
        ("random", "shorter", "word", "advice"),
        [
            ((0.60, 0.61, 0.59), (0.50, 0.51, 0.49), "wins", "DUAL does best"),
            ((0.80, 0.81, 0.79), (0.50, 0.51, 0.49), "loses", ADVICE_AHEAD["random"]),
            ((0.60, 0.61, 0.59), (0.80, 0.81, 0.79), "loses", ADVICE_AHEAD["shorter_full"]),
            ((0.69, 0.75, 0.67), (0.50, 0.51, 0.49), "ties", ADVICE_LEVEL["random"]),
            # random's mean is higher, but not beyond noise
            ((0.95, 0.60, 0.70), (0.72, 0.73, 0.715), "loses", ADVICE_AHEAD["shorter_full"]),
        ],
        ids=["best", "random", "shorter", "as good as random", "what is sure comes first"],
    )
    def test_the_advice_of_several_seeds(self, random, shorter, word, advice):
        answer = verdict(self.rows((0.70, 0.71, 0.69), random, shorter), "dual")
        assert answer.word == word
        assert advice in answer.details

    def test_a_mean_ahead_is_no_win_of_two_seeds_that_disagree(self):
        answer = verdict(self.rows((0.9, 0.5), (0.5, 0.7), (0.4, 0.6)), "dual")
        assert answer.word == "ties"
        assert answer.comparisons["random"].difference > 0.05

    def test_five_seeds_are_a_result(self):
        rows = self.rows((0.70, 0.71, 0.69, 0.7, 0.71), (0.60, 0.61, 0.59, 0.6, 0.6), (0.5, 0.51, 0.49, 0.5, 0.5))
        assert "indication" not in str(verdict(rows, "dual"))


class TestPayback:
    def test_it_is_never_said_without_the_accuracy(self):
        kwargs = {"n": 100, "kept": 30, "epochs": 30}
        to_full = compare({0: 0.85}, {0: 0.9})
        assert "1.4 trainings" in payback(3000, **kwargs)  # 3000 / (3000 - 900)
        assert "not checked" in payback(3000, **kwargs)
        assert "loses accuracy against all the data: -5.0 points" in payback(3000, **kwargs, to_full=to_full)
        assert "never" in payback(3000, n=100, kept=100, epochs=30)


class TestCheck:
    @pytest.fixture
    def run(self, blobs, tmp_path):
        folder = api.record(blobs, run=tmp_path / "run", epochs=12, recipe=FAST)
        return folder, select_run(folder, blobs, keep=0.3, method="el2n")

    def test_the_rows_of_the_three_trainings(self, blobs, run):
        folder, selection = run
        test = make_blobs(30, seed=1)
        events: list[dict] = []
        named: list[str] = []
        answer = check(
            folder,
            blobs,
            test,
            selection,
            keep=0.3,
            epochs=5,
            seeds=2,
            recipe=FAST,
            on_row=events.append,
            progress=lambda stage, done, total: named.append(stage),
        )
        rows = answer["rows"]
        assert events == rows
        assert [(r["seed"], r["method"]) for r in rows] == [
            (seed, name) for seed in (0, 1) for name in ("full", "el2n", "random", "shorter_full")
        ]
        full, rows_of_seed = rows[0], rows[1:4]
        assert (full["trained_epochs"], full["kept"], full["passes"], full["total_passes"]) == (5, 60, 300, 300)
        assert [r["trained_epochs"] for r in rows_of_seed] == [5, 5, 1.5]  # 5 * 18 / 60
        assert [r["kept"] for r in rows_of_seed] == [18, 18, 60]
        assert [r["passes"] for r in rows_of_seed] == [90, 90, 90]
        # all 12 epochs of 60 examples were recorded, though EL2N read 10 of them; the baselines pay for none
        assert [r["cost"]["score"]["backward"] for r in rows_of_seed] == [720, 0, 0]
        assert [r["total_passes"] for r in rows_of_seed] == [810, 90, 90]
        assert rows[1]["label"] == "EL2N"
        assert (rows[0]["n"], rows[0]["test_n"], rows[0]["epochs"], rows[0]["model"]) == (60, 30, 5, "mlp")
        stored = read_json(folder.path / "check.json")
        assert {**stored, "rows": rows} == {"format": 1, **answer}
        assert read_rows(folder.path / "check" / "rows.jsonl") == rows
        ours, random, shorter = (
            [r["accuracy"] for r in rows if r["method"] == m] for m in ("el2n", "random", "shorter_full")
        )
        assert stored["comparisons"]["random"]["difference"] == pytest.approx((sum(ours) - sum(random)) / 2)
        assert stored["comparisons"]["shorter_full"]["reference"] == pytest.approx(sum(shorter) / 2)
        assert results.checked(rows, "check") == rows  # what the report asks of rows
        assert answer["sentence"].startswith(answer["verdict"])
        assert answer["word"] in answer["verdict"]
        assert "13.5 passes over all the data" in answer["verdict"]  # 810 / 60
        assert "indication (2 seeds)" in answer["sentence"]
        assert list(dict.fromkeys(named)) == [
            "checking: all the data",
            "checking: EL2N",
            "checking: random",
            "checking: all the data, fewer epochs",
        ]

    def test_an_accuracy_is_that_of_the_last_epoch_of_fit(self, blobs, run):
        folder, selection = run
        test = make_blobs(30, seed=1)
        rows = check(folder, blobs, test, selection, keep=0.3, epochs=5, seeds=2, recipe=FAST)["rows"]
        for stored_row in rows[4:]:
            chosen = {
                "el2n": selection,
                "shorter_full": Selection.everything(60),
                "full": Selection.everything(60),
            }.get(stored_row["method"])
            if chosen is None:
                draw = stream(1, "check", "random")
                chosen, _ = METHODS["random"].run({}, blobs.labels, keep=0.3, generator=draw)
            model, _, _ = build_network("mlp", folder.dataset, 1)
            fit(model, Kept(blobs, chosen), epochs=stored_row["trained_epochs"], seed=1, recipe=FAST)
            assert (stored_row["accuracy"], stored_row["test_loss"]) == evaluate(model, test)

    def test_seeds_are_paired(self, blobs, run, monkeypatch):
        folder, selection = run
        seen: list[tuple[int, float]] = []

        def watched(model, data, *, seed, **options):
            seen.append((seed, float(model.classifier.weight.detach().sum())))
            return fit(model, data, seed=seed, **options)

        monkeypatch.setattr(cell_module, "fit", watched)
        check(folder, blobs, make_blobs(9), selection, keep=0.3, epochs=1, seeds=2, recipe=FAST)
        assert [seed for seed, _ in seen] == [0] * 4 + [1] * 4
        assert len({weight for seed, weight in seen if seed == 0}) == 1
        assert len({weight for _, weight in seen}) == 2

    def test_the_network_of_the_run_with_its_options(self, blobs, tmp_path):
        folder = api.record(blobs, run=tmp_path / "run", epochs=2, recipe=FAST, model="mlp", model_options={"width": 8})
        selection = select_run(folder, blobs, keep=0.3, method="el2n")
        rows = check(folder, blobs, make_blobs(9), selection, keep=0.3, epochs=1, recipe=FAST)["rows"]
        per_example = 3 * 2 * (4 * 8 + 8 * 8 + 8 * 3) - 2 * 4 * 8
        assert rows[1]["cost"]["train"]["flops"] == per_example * 18

    def test_random_is_checked_against_the_other_baseline(self, blobs, tmp_path):
        folder = begin_run(blobs, tmp_path / "run").folder
        selection = select_run(folder, blobs, keep=0.3, method="random")
        answer = check(folder, blobs, make_blobs(9), selection, keep=0.3, epochs=2, recipe=FAST)
        assert [r["method"] for r in answer["rows"]] == ["full", "random", "shorter_full"]
        assert answer["rows"][1]["total_passes"] == 36
        assert set(answer["comparisons"]) == {"full", "shorter_full"}

    def test_a_loss_that_json_cannot_hold_is_null(self, blobs, run, monkeypatch):
        folder, selection = run
        test = make_blobs(9)
        test.x[:] = float("inf")
        rows = check(folder, blobs, test, selection, keep=0.3, epochs=1, recipe=FAST)["rows"]
        assert [r["test_loss"] for r in rows] == [None] * 4
        assert read_rows(folder.path / "check" / "rows.jsonl")[0]["test_loss"] is None

    def test_what_it_needs(self, blobs, run, tmp_path):
        folder, selection = run
        options = {"keep": 0.3, "epochs": 2, "recipe": FAST}
        with pytest.raises(ArgumentError, match="check needs a test split"):
            check(folder, blobs, None, selection, **options)
        with pytest.raises(ArgumentError, match=r"seeds must be a whole number in \[1, 10000\], got 0"):
            check(folder, blobs, make_blobs(9), selection, seeds=0, **options)
        with pytest.raises(RunError, match=r"belongs to the dataset 'blobs'.*not 'others'"):
            check(folder, make_blobs(seed=2, name="others"), make_blobs(9), selection, **options)
        bare = api.record(blobs, run=tmp_path / "bare", epochs=1, recipe=FAST)
        with pytest.raises(RunError, match="has no selection to check"):
            check(bare, blobs, make_blobs(9), selection, **options)

    def test_a_network_that_only_its_maker_knows(self, blobs, tmp_path):
        def custom_model(*, classes):
            return torch.nn.Linear(4, classes)

        folder = api.record(blobs, run=tmp_path / "run", epochs=2, recipe=FAST, model=custom_model)
        selection = select_run(folder, blobs, keep=0.3, method="el2n")
        options = {"keep": 0.3, "epochs": 1, "recipe": FAST}
        with pytest.raises(
            ArgumentError, match="a network of your own, of which it only knows the name 'custom_model': give it"
        ):
            check(folder, blobs, make_blobs(9), selection, **options)
        assert (
            check(folder, blobs, make_blobs(9), selection, model=custom_model, **options)["rows"][0]["model"]
            == "custom_model"
        )
