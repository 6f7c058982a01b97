"""When a run's scoring is paid back: whatever was passed to find the selection counts. And the page of a training."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from datawinnow import api, dynamic, report
from datawinnow.core.selection import Selection
from datawinnow.data.dataset_info import dataset_info
from datawinnow.report.run_page import pays_sentence
from datawinnow.runs.selection_file import write_selection
from datawinnow.train import Recipe
from tests.train.helpers import blobs

RECORD = {"backward": 3000, "forward": 0}
META = {"keep": 0.3, "charge": 3000}


def metadata(cost: dict[str, Any], **recorded: int) -> dict[str, Any]:
    return {"dataset": {"n": 100}, "options": {"record": recorded or None}, "cost": cost}


@pytest.mark.parametrize(
    ("cost", "recorded", "keep", "passed", "back"),
    [
        ({"record": RECORD}, {"epochs": 30}, 0.3, "3,000", "after 1.4 trainings"),  # 3000 / (3000 - 900)
        (
            {"record": RECORD},
            {"epochs": 30, "schedule_epochs": 200},
            0.3,
            "3,000",
            "after 0.2 trainings",
        ),  # 3000 / (20000 - 6000)
        # a third of the 600 that were passed forward alone
        (
            {"record": RECORD, "probe": {"backward": 0, "forward": 600}},
            {"epochs": 30},
            0.3,
            "3,200",
            "after 1.5 trainings",
        ),
        (
            {
                "record": RECORD,
                "probe": {"backward": 100, "forward": 600},
                "subsets": {"backward": 2000, "forward": 900},
            },
            {"epochs": 30},
            0.3,
            "5,600",
            "after 2.7 trainings",
        ),
        # choosing, training and checking are no part of it
        (
            {"record": RECORD, "score": {"backward": 70}, "train": {"backward": 900}, "check": {"backward": 2700}},
            {"epochs": 30},
            0.3,
            "3,000",
            "after 1.4 trainings",
        ),
        ({"record": RECORD}, {"epochs": 30}, 1.0, "3,000", "never"),
    ],
    ids=["recording", "planned longer", "probe", "subsets", "the rest", "all kept"],
)
def test_all_that_was_passed_for_the_scores_is_paid_back(
    cost: dict[str, Any], recorded: dict[str, int], keep: float, passed: str, back: str
) -> None:
    sentence = pays_sentence(metadata(cost, **recorded), {**META, "keep": keep})
    assert sentence is not None
    assert f"Scoring passed {passed} examples" in sentence
    assert f"of {recorded.get('schedule_epochs', 30)} epochs" in sentence
    assert back.removesuffix("s") in sentence


def test_the_training_that_is_planned_counts_and_what_it_loses() -> None:
    meta = {**META, "keep": 0.3}
    planned = metadata({"record": RECORD}, epochs=30)
    planned["options"]["prune"] = {"train_epochs": 100}
    assert "after 0.4 trainings" in str(pays_sentence(planned, meta))  # 3000 / (10000 - 3000)
    to_full = {"ours": 0.85, "reference": 0.9, "difference": -0.05, "half": None, "num_seeds": 1, "outcome": "ties"}
    check = {"settings": {"epochs": 30}, "comparisons": {"full": to_full}}
    assert "after 1.4 trainings" in str(pays_sentence(planned, meta, check))
    assert "-5.0 points" in str(pays_sentence(planned, meta, check))


def test_a_method_that_read_nothing_owes_nothing() -> None:
    sentence = pays_sentence(metadata({"record": RECORD}, epochs=30), {**META, "charge": 0})
    assert sentence == "This method reads no recording, so there is nothing to pay back."


@pytest.mark.parametrize(
    ("metadata", "meta"),
    [(metadata({"record": RECORD}, epochs=30), {}), (metadata({}), META)],
    ids=["nothing selected", "nothing recorded"],
)
def test_nothing_is_said_where_nothing_is_known(metadata: dict[str, Any], meta: dict[str, Any]) -> None:
    assert pays_sentence(metadata, meta) is None


# --- the page of a training -------------------------------------------------------------------------------------------


def page_of(path: Path, **train_kwargs: Any) -> str:
    """The page of a training on 60 examples, as its reader sees it: without tags."""
    recipe = Recipe(precision="fp32", batch=16)
    api.train(blobs(), run=path, recipe=recipe, model="mlp", **train_kwargs)
    return html.unescape(report.write(path).read_text())


def lead_of(text: str) -> str:
    match = re.search(r'<p class="lead">(.*?)</p>', text, re.DOTALL)
    assert match is not None
    return match.group(1)


def numbers(sentence: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", sentence.replace(",", ""))]


def test_the_page_of_a_training_by_policy_shows_who_was_chosen_when(tmp_path: Path) -> None:
    policy = dynamic.UCB(0.5, period=1)
    text = page_of(tmp_path / "run", policy=policy, epochs=4, test=blobs(seed=1))
    result = json.loads((tmp_path / "run" / "run.json").read_text())["result"]
    lead = lead_of(text)
    assert str(policy) in lead
    assert numbers(lead.replace(str(policy), "")) == [4, 60, 150, 62, 240, 4, round(100 * result["test_accuracy"], 2)]
    for title in ("Selection history", "Epoch by epoch", "How often each example was chosen", "Examples per epoch"):
        assert title in text, title
    assert "In 3 epochs that left examples out" in text
    assert "62% on average, 50% to 100%" in text
    for nonsense in ("Nothing has been selected", "No selection yet", "No scores yet", "<h2>Recording"):
        assert nonsense not in text, nonsense


def test_the_page_of_a_training_without_a_policy_says_what_it_was(tmp_path: Path) -> None:
    text = page_of(tmp_path / "run", epochs=2)
    assert numbers(lead_of(text)) == [2, 60, 120]
    assert "no test split" in lead_of(text)
    assert "<h2>Training" in text
    for nonsense in ("Selection history", "Examples per epoch", "Nothing has been selected", "No selection yet"):
        assert nonsense not in text, nonsense


def test_the_page_of_a_training_on_a_selection_counts_what_it_took_to_find(tmp_path: Path) -> None:
    about = {"label": "DUAL", "charge": 180}
    file = tmp_path / "selection.parquet"
    about = {**about, "method": "dual", "keep": 1 / 3, "fingerprint": blobs().fingerprint}
    write_selection(file, Selection.of(torch.arange(20), 60), info=dataset_info(blobs()), meta=about)
    text = page_of(tmp_path / "run", epochs=3, select=file)
    assert "kept by DUAL" in lead_of(text)
    # 3 epochs on 20 of 60 examples: 60 in training and 180 in scoring, beside 180 of all the data
    assert numbers(lead_of(text)) == [3, 20, 60, 240, 180, 133, 180, 3]


def test_the_page_of_a_training_that_was_stopped_says_how_far_it_is(tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if done == 5:  # in the second epoch, of two steps after one of four
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        page_of(tmp_path / "run", epochs=4, policy=dynamic.UCB(0.5, period=1), progress=stop)
    text = report.write(tmp_path / "run").read_text()
    assert "Not finished (epoch 1 of 4): run the same command again" in lead_of(text)
    assert "In 1 epoch the policy made one choice: 50% of the examples." in text
    (tmp_path / "run" / "history.parquet").unlink()
    assert "No training history yet: datawinnow train DATA" in report.write(tmp_path / "run").read_text()


def test_the_page_warns_of_a_class_of_which_nothing_is_kept(tmp_path: Path) -> None:
    train = blobs()
    labels = torch.arange(60) % 3
    for keep, per_class, is_warned in ((1 / 60, False, True), (0.1, True, False)):
        run = tmp_path / str(per_class)
        kept = api.prune(train, keep=keep, epochs=1, model="mlp", run=run, score="el2n", per_class=per_class)
        lost = set(labels.tolist()) - set(labels[kept.selection.index].tolist())
        assert bool(lost) == is_warned
        assert (f"No example is kept of {len(lost)} of " in report.write(run).read_text()) == is_warned
