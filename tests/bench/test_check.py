"""`prune --check`: three trainings a seed, paired, and a sentence that says which is best."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from datawinnow.bench import cell as cell_module
from datawinnow.bench.check import check, verdict
from datawinnow.core.artifacts import read_json
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.result_rows import read_rows
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.data.kept import Kept
from datawinnow.methods import METHODS
from datawinnow.report import results
from datawinnow.runs.network import build_network
from datawinnow.runs.record import begin_run, record_run
from datawinnow.runs.select import select_run
from datawinnow.train import evaluate, fit
from tests.runs.conftest import FAST, make_blobs

LABELS = {"dual": "DUAL", "random": "random", "shorter_full": "all the data, fewer epochs"}


def row(method: str, accuracy: float, seed: int = 0, scoring: int = 100, passes: int = 1800) -> dict:
    cost = {"score": {"backward": scoring}}
    return {
        "method": method,
        "label": LABELS[method],
        "accuracy": accuracy,
        "seed": seed,
        "passes": passes,
        "cost": cost,
    }


def three(ours: float, random: float, shorter: float, seed: int = 0, **options) -> list[dict]:
    return [row("dual", ours, seed, **options), row("random", random, seed), row("shorter_full", shorter, seed)]


ONE = "This is an indication (1 seed): a result needs 5 paired seeds."
EACH = "Each passed 1,800 examples in training."
SHORTER = (
    "All the data for fewer epochs did better here, with nothing spent on scoring: train shorter instead of pruning."
)
RANDOM = "Random examples did better here: do not pay for scoring at this keep and schedule."
AS_RANDOM = (
    "Random examples did as well here, as far as this can show, and need no scoring: do not pay for it at this keep "
    "and schedule, or let more seeds decide."
)


class TestVerdict:
    @pytest.mark.parametrize(
        ("rows", "phrases"),
        [
            (
                three(0.8, 0.75, 0.7812),
                ("is ahead of as many", "is ahead of all the data", "the best of the 3 here, the"),
            ),
            (three(0.75, 0.8, 0.7), ("is behind as many", "is ahead of all the data", RANDOM)),
            (three(0.75, 0.75, 0.9), ("is level with as many", "is behind all the data", SHORTER)),
            (three(0.75, 0.75, 0.7), ("is level with as many", "is ahead of all the data", AS_RANDOM)),
            (three(0.80001, 0.8, 0.7, scoring=0), ("is level with as many", "is ahead of all", AS_RANDOM)),
            (three(0.8, 0.7, 0.6, scoring=0), ("is ahead of as many", "is ahead of all", "best of the 3 here. ")),
        ],
        ids=["ahead", "behind", "shorter wins", "a tie is for the cheaper", "a hair is a tie", "free"],
    )
    def test_one_seed_is_an_indication_and_its_sign_advises(self, rows, phrases):
        sentence, comparisons = verdict(rows, "dual", "DUAL")
        assert all(words in sentence for words in phrases), sentence
        assert sentence.endswith(ONE)
        assert {comparison.outcome for comparison in comparisons.values()} == {"ties"}

    def test_it_is_literally(self):
        assert verdict([row("random", 0.8), row("shorter_full", 0.7)], "random", "random")[0] == (
            "random is ahead of all the data for fewer epochs by 10.00 points (80.00 against 70.00). "
            f"{EACH} random is the best of the 2 here, the recording that it took set aside. {ONE}"
        )

    def test_a_training_that_diverged_counts_in_no_mean(self):
        rows = [*three(0.8, 0.7, 0.6), *three(0.8, None, 0.6, seed=1)]
        sentence, comparisons = verdict(rows, "dual", "DUAL")
        assert "Training diverged and counts in no mean: random, seed 1." in sentence
        assert (comparisons["random"].num_seeds, comparisons["shorter_full"].num_seeds) == (1, 2)
        assert verdict(three(None, 0.7, 0.6), "dual", "DUAL")[0].startswith("There is nothing to compare.")

    def test_passes_that_differ_are_told_as_they_were(self):
        rows = [row("dual", 0.8), row("random", 0.7), row("shorter_full", 0.6, passes=1792)]
        assert (
            "Examples passed in training: 1,800 (DUAL), 1,800 (random), 1,792 (all the data, fewer epochs). DUAL is"
            in verdict(rows, "dual", "DUAL")[0]
        )

    def rows(self, ours, random, shorter):
        """A list of accuracies by seed each."""
        return [r for seed, each in enumerate(zip(ours, random, shorter, strict=True)) for r in three(*each, seed)]

    def test_several_seeds_are_compared_by_the_interval_of_their_paired_differences(self):
        # far apart between the seeds, but DUAL is ahead of random by 4, 5 and 6 points in each
        ours, random, shorter = (0.5, 0.7, 0.9), (0.46, 0.65, 0.84), (0.55, 0.69, 0.87)
        low, high = stats.t.interval(0.95, 2, loc=5, scale=stats.sem([4, 5, 6]))
        half = (high - low) / 2
        assert low > 0  # else the example shows nothing
        noise = [100 * (a - b) for a, b in zip(ours, shorter, strict=True)]
        wide = stats.sem(noise) * stats.t.ppf(0.975, 2)
        sentence, comparisons = verdict(self.rows(ours, random, shorter), "dual", "DUAL")
        assert {name: comparison.outcome for name, comparison in comparisons.items()} == {
            "random": "wins",
            "shorter_full": "ties",
        }
        assert sentence == (
            f"DUAL beats as many random examples by 5.00 ± {half:.2f} points (70.00 against 65.00), and ties with all "
            f"the data for fewer epochs ({sum(noise) / 3:+.2f} ± {wide:.2f} points, 70.00 against 70.33). {EACH} All "
            "the data for fewer epochs did as well here, as far as this can show, with nothing spent on scoring: train "
            "shorter instead of pruning, or let more seeds decide. Means over 3 seeds, with 95% intervals of the "
            "differences paired by seed; the selection was made once, so how much it would vary is not in them. This "
            "is an indication (3 seeds): a result needs 5 paired seeds."
        )

    @pytest.mark.parametrize(
        ("random", "shorter", "advice"),
        [
            ((0.60, 0.61, 0.59), (0.50, 0.51, 0.49), "DUAL is the best of the 3 here, the recording"),
            ((0.80, 0.81, 0.79), (0.50, 0.51, 0.49), RANDOM),
            ((0.60, 0.61, 0.59), (0.80, 0.81, 0.79), SHORTER),
            ((0.69, 0.75, 0.67), (0.50, 0.51, 0.49), AS_RANDOM),
            (
                (0.95, 0.60, 0.70),
                (0.72, 0.73, 0.715),
                SHORTER,
            ),  # random's mean is higher, but not sure
        ],
        ids=["best", "random", "shorter", "as good as random", "what is sure comes first"],
    )
    def test_the_advice_of_several_seeds(self, random, shorter, advice):
        assert f"in training. {advice}" in verdict(self.rows((0.70, 0.71, 0.69), random, shorter), "dual", "DUAL")[0]

    def test_a_mean_ahead_is_no_win_of_two_seeds_that_disagree(self):
        sentence, _ = verdict(self.rows((0.9, 0.5), (0.5, 0.7), (0.4, 0.6)), "dual", "DUAL")
        assert "ties with as many random examples (+10.00 ± " in sentence
        assert "beats" not in sentence
        assert "best of" not in sentence


class TestCheck:
    @pytest.fixture
    def run(self, blobs, tmp_path):
        folder = record_run(blobs, tmp_path / "run", epochs=12, recipe=FAST)
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
            (seed, name) for seed in (0, 1) for name in ("el2n", "random", "shorter_full")
        ]
        assert [r["trained_epochs"] for r in rows[:3]] == [5, 5, 1.5]  # 5 * 18 / 60
        assert [r["kept"] for r in rows[:3]] == [18, 18, 60]
        assert [r["passes"] for r in rows[:3]] == [90, 90, 90]
        assert "Each passed 90 examples in training." in answer["sentence"]
        # all 12 epochs of 60 examples were recorded, though EL2N read 10 of them; the baselines pay for none
        assert [r["cost"]["score"]["backward"] for r in rows[:3]] == [720, 0, 0]
        assert [r["total_passes"] for r in rows[:3]] == [810, 90, 90]
        assert rows[0]["label"] == "EL2N"
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
        assert answer["sentence"].startswith("EL2N ")
        assert answer["sentence"].endswith("This is an indication (2 seeds): a result needs 5 paired seeds.")
        assert list(dict.fromkeys(named)) == [
            "checking: EL2N",
            "checking: random",
            "checking: all the data, fewer epochs",
        ]

    def test_an_accuracy_is_that_of_the_last_epoch_of_fit(self, blobs, run):
        folder, selection = run
        test = make_blobs(30, seed=1)
        rows = check(folder, blobs, test, selection, keep=0.3, epochs=5, seeds=2, recipe=FAST)["rows"]
        for stored_row in rows[3:]:
            chosen = {"el2n": selection, "shorter_full": Selection.everything(60)}.get(stored_row["method"])
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
        assert [seed for seed, _ in seen] == [0, 0, 0, 1, 1, 1]
        assert len({weight for seed, weight in seen if seed == 0}) == 1
        assert len({weight for _, weight in seen}) == 2

    def test_the_network_of_the_run_with_its_options(self, blobs, tmp_path):
        folder = record_run(blobs, tmp_path / "run", epochs=2, recipe=FAST, model="mlp", model_options={"width": 8})
        selection = select_run(folder, blobs, keep=0.3, method="el2n")
        rows = check(folder, blobs, make_blobs(9), selection, keep=0.3, epochs=1, recipe=FAST)["rows"]
        per_example = 3 * 2 * (4 * 8 + 8 * 8 + 8 * 3) - 2 * 4 * 8
        assert rows[0]["cost"]["train"]["flops"] == per_example * 18

    def test_random_is_checked_against_the_other_baseline(self, blobs, tmp_path):
        folder = begin_run(blobs, tmp_path / "run").folder
        selection = select_run(folder, blobs, keep=0.3, method="random")
        answer = check(folder, blobs, make_blobs(9), selection, keep=0.3, epochs=2, recipe=FAST)
        assert [r["method"] for r in answer["rows"]] == ["random", "shorter_full"]
        assert answer["rows"][0]["total_passes"] == 36
        assert "random examples by" not in answer["sentence"]

    def test_a_loss_that_json_cannot_hold_is_null(self, blobs, run, monkeypatch):
        folder, selection = run
        test = make_blobs(9)
        test.x[:] = float("inf")
        rows = check(folder, blobs, test, selection, keep=0.3, epochs=1, recipe=FAST)["rows"]
        assert [r["test_loss"] for r in rows] == [None] * 3
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
        bare = record_run(blobs, tmp_path / "bare", epochs=1, recipe=FAST)
        with pytest.raises(RunError, match="has no selection to check; make one with: datawinnow select RUN"):
            check(bare, blobs, make_blobs(9), selection, **options)

    def test_a_network_that_only_its_maker_knows(self, blobs, tmp_path):
        def custom_model(*, classes):
            return torch.nn.Linear(4, classes)

        folder = record_run(blobs, tmp_path / "run", epochs=2, recipe=FAST, model=custom_model)
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
