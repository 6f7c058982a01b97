"""Why: every method says of every example, kept or dropped, by which numbers of it the method went."""

from __future__ import annotations

import re

import pyarrow.parquet as pq
import pytest
import torch

from datawinnow.api import prune, record
from datawinnow.methods import METHODS
from datawinnow.runs.method_notes import nearest_kept
from datawinnow.runs.select import select_run

from .conftest import FAST, make_images

PLANTED = 5
"""The example with a wrong label."""


@pytest.fixture(scope="module")
def planted():
    data = make_images(48)
    data.labels[PLANTED] = 1 - data.labels[PLANTED]
    return data


@pytest.fixture(scope="module")
def recording(tmp_path_factory, planted):
    path = tmp_path_factory.mktemp("why") / "run"
    # 24 epochs: the window of TDDS needs 21
    return record(planted, run=path, epochs=24, recipe=FAST, model="mlp", signals=("kl_step",))


def rows_of(run, data, **options):
    select_run(run, data, keep=0.3, gallery=False, **options)
    return pq.read_table(run.path / "selection.parquet").to_pylist()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_why_of_the_kept_and_of_the_dropped(recording, planted, name):
    rows = rows_of(recording, planted, method=name)
    clauses = [re.split(r"; p\(label\)", row["note"])[0] for row in rows]  # what the method adds to the recording
    if name == "random":  # every example is alike
        assert set(clauses) == {"drawn from all alike, each with probability 0.292"}
        return
    assert all(re.search(r"\d", clause) for row, clause in zip(rows, clauses, strict=True) if row["kept"])
    if name == "contextual_diversity":  # of the dropped it knows the prediction
        clauses = [row["note"] for row in rows]
        assert all("the network says" in note for note in clauses)
    assert all(re.search(r"\d", clause) for clause in clauses)
    if METHODS[name].score is None:
        assert len(set(clauses)) > len(rows) / 2
        return
    column = METHODS[name].score_card.key
    scores = pq.read_table(recording.path / "scores.parquet").column(column).to_pylist()
    # different scores, different words: no two examples of other scores are told the same
    by_words = {}
    for score, clause in zip(scores, clauses, strict=True):
        by_words.setdefault(clause, set()).add(f"{score:.3g}")
    assert max(len(values) for values in by_words.values()) == 1


@pytest.mark.parametrize("name", ["dual_beta", "dual", "k_center", "d2", "cal"])
def test_the_guess_of_the_network_and_its_probability(recording, planted, name):
    rows = rows_of(recording, planted, method=name)
    arrays = recording.arrays()
    row = rows[PLANTED]
    assert row["label"] == int(planted.labels[PLANTED])
    assert row["guess"] == planted.classes[1 - row["label"]]
    assert 0.5 < row["p_guess"] <= 1
    assert f"the network says {row['guess']} ({row['p_guess']:.2f})" in row["note"]
    right = [i for i in range(len(rows)) if arrays["correct"][-1, i] == 1]
    assert len(right) > 40
    assert all(rows[i]["guess"] == planted.classes[int(planted.labels[i])] for i in right)
    if name == "dual":  # from the recording
        assert rows[right[0]]["p_guess"] == pytest.approx(float(arrays["p_label"][-1, right[0]]))


def test_a_draw_says_weight_rank_and_ease(recording, planted):
    rows = rows_of(recording, planted, method="dual_beta")
    weights = [float(re.search(r"(?:low|high) weight ([\d.e-]+) in the draw", row["note"])[1]) for row in rows]
    largest = {float(re.search(r"\(largest ([\d.e-]+)\)", row["note"])[1]) for row in rows}
    assert largest == {max(weights)}
    assert sum("low weight" in row["note"] for row in rows) < 48 * 0.6
    order = sorted(range(48), key=lambda i: rows[i]["p_mean"])
    assert ": hard (easier than 0%)" in rows[order[0]]["note"]
    assert ": easy (easier than 100%)" in rows[order[-1]]["note"]


def test_greedy_choices_say_the_step_and_the_nearest_kept(recording, planted):
    rows = rows_of(recording, planted, method="k_center")
    kept = [row for row in rows if row["kept"]]
    assert all(f"taken {row['order'] + 1} of {len(kept)}" in row["note"] for row in kept)
    by_id = {row["id"]: row for row in rows}
    for row in rows:
        nearest = by_id[re.search(r"distance \S+ to (\S+), its nearest", row["note"])[1]]
        assert nearest["kept"]
        assert nearest["label"] == row["label"]
        assert nearest["id"] != row["id"]


def test_shares_of_classes_and_what_is_cut_off_are_said(recording, planted):
    rows = rows_of(recording, planted, method="boss")
    cut = [row for row in rows if row["reason"] == "suspect"]
    assert cut
    assert all("which are cut off" in row["note"] for row in cut)
    assert not any("which are cut off" in row["note"] for row in rows if row["kept"])
    rows = rows_of(recording, planted, method="herding")
    for row in rows:
        same = [other for other in rows if other["label"] == row["label"]]
        shares = f"keeps {sum(other['kept'] for other in same)} of {len(same)}"
        assert f"class {planted.classes[row['label']]!r} {shares}" in row["note"]


def test_without_a_recording_the_guess_is_empty_and_the_draw_is_said(tmp_path, images):
    prune(images, keep=0.25, method="random", run=tmp_path / "run")
    rows = pq.read_table(tmp_path / "run" / "selection.parquet").to_pylist()
    assert {row["note"] for row in rows} == {"drawn from all alike, each with probability 0.25"}
    assert {row["guess"] for row in rows} == {None}


def test_the_nearest_kept_are_those_of_a_loop():
    features = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    kept, classes = torch.arange(60) % 4 == 0, torch.arange(60) % 3
    nearest, distance = nearest_kept(features, kept, classes)
    for i in range(60):
        same_class = [j for j in range(60) if kept[j] and j != i and classes[j] == classes[i]]
        lengths = [float((features[i] - features[j]).norm()) for j in same_class]
        assert nearest[i] == same_class[lengths.index(min(lengths))]
        assert float(distance[i]) == pytest.approx(min(lengths), abs=1e-5)
    alone = torch.zeros(60, dtype=torch.bool)
    alone[0] = True
    assert nearest_kept(features, alone, None)[0].tolist() == [-1] + [0] * 59
