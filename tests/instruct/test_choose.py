"""Choosing by clusters, quotas and near-duplicates, and the whole of `instruct` on small data."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from datawinnow.core.errors import ArgumentError, CapacityError, DataError, MissingArrayError
from datawinnow.core.reason import Reason
from datawinnow.instruct import run as run_module
from datawinnow.instruct.choose import PairClusters, choose_pairs, make_clusters, pairs_budget
from datawinnow.instruct.clusters import clusters_of
from datawinnow.instruct.options import ChoiceOptions, ScorerOptions
from datawinnow.instruct.pairs import read_pairs
from datawinnow.instruct.quotas import cluster_quotas, quotas
from datawinnow.instruct.run import run_instruct
from datawinnow.instruct.scoring import MEAN_SCORER, pool_of, score_pairs
from datawinnow.runs.selection_file import read_selection
from tests.instruct.helpers import record, write_lines, write_subsets
from tests.reference import instruct as literal

PUBLISHED_SIZES = [880, 286, 325, 1234, 177, 300, 13, 85, 59, 80]
N = 60


@pytest.fixture
def data(tmp_path):
    rows = [record(i) for i in range(N)]
    path = write_lines(tmp_path / "pairs.jsonl", rows)
    return path, write_subsets(tmp_path / "subsets.npz", rows)[0], rows


def test_the_published_quotas_follow_from_the_published_clusters():
    assert quotas(PUBLISHED_SIZES, 200) == [52, 16, 19, 73, 10, 17, 1, 5, 3, 4]
    assert sum(max(1, int(203 * size / 3439)) for size in PUBLISHED_SIZES) < 200, "204 is the smallest that fills it"


@pytest.mark.parametrize("budget", [1, 2, 7, 30, 59, 60])
def test_quotas_choose_exactly_and_as_the_literal_sort(budget):
    g = torch.Generator().manual_seed(budget)
    scores = torch.randn(N, generator=g) * 3  # whole parts tie
    groups = torch.randint(0, 4, (N,), generator=g)
    selection = cluster_quotas(scores, groups, budget=budget, truncate=True)
    sizes = list(dict.fromkeys(groups.tolist()))
    sizes = [int((groups == c).sum()) for c in sizes]
    total = next(t for t in range(N + 1) if sum(max(1, t * s // N) for s in sizes) >= budget)
    assert selection.index.tolist() == literal.cluster_choice(scores.tolist(), groups.tolist(), budget, total)
    assert len(set(selection.index.tolist())) == budget
    exact = cluster_quotas(scores, groups, budget=budget)
    assert exact.index.tolist()[0] == int(scores.argmax())


def test_quotas_refuse_what_they_cannot_do_and_skip_what_has_no_score():
    scores = [1.0, float("nan"), 3.0]
    with pytest.raises(ArgumentError, match="score is nan for example 1"):
        cluster_quotas(scores, [0, 0, 1], budget=1)
    selection = cluster_quotas(scores, [0, 0, 1], budget=2, missing="skip")
    assert sorted(selection.index.tolist()) == [0, 2]
    assert selection.reason[1] == Reason.UNSCORED
    with pytest.raises(CapacityError, match="only 2 of 3"):
        cluster_quotas(scores, [0, 0, 1], budget=3, missing="skip")


@pytest.mark.parametrize("method", ["kmeans", "spectral"])
def test_clusters_find_planted_groups(method):
    g = torch.Generator().manual_seed(0)
    planted = torch.arange(60) % 3
    rows = torch.eye(3)[planted] * 20 + torch.randn(60, 3, generator=g)
    labels = clusters_of(rows, 3, method=method, seed=0)
    assert labels[:3].tolist() == [0, 1, 2], "numbered as they appear"
    assert torch.equal(labels, planted)
    with pytest.raises(ArgumentError, match="k must be"):
        clusters_of(rows, 61, method=method)


def test_budgets_are_numbers_or_shares():
    assert (pairs_budget(3, 10), pairs_budget(0.25, 10), pairs_budget(1.0, 10)) == (3, 3, 10)
    for wrong in (0, 11, 1.5, 0.0, True):
        with pytest.raises(ArgumentError):
            pairs_budget(wrong, 10)


def test_clusters_come_from_a_field_or_the_embeddings(data, tmp_path):
    pairs = read_pairs(data[0])
    assert make_clusters(pairs, ChoiceOptions(), paper=False).description == "clusters of the field spectral_cluster"
    clusters_by_kmeans = make_clusters(pairs, ChoiceOptions(clusters="kmeans", num_clusters=4), paper=False)
    assert clusters_by_kmeans.description == "4 clusters of image_features by k-means"
    assert sorted(set(clusters_by_kmeans.label.tolist())) == [0, 1, 2, 3]
    assert (
        "text_features"
        in make_clusters(pairs, ChoiceOptions(clusters="spectral", embedding="text_features"), paper=True).description
    )
    assert make_clusters(pairs, ChoiceOptions(clusters="none"), paper=True).label is None
    bare = read_pairs(write_lines(tmp_path / "b.jsonl", [{"output": "a"}]))
    assert make_clusters(bare, ChoiceOptions(), paper=True).label is None
    with pytest.raises(ArgumentError, match="needs embeddings"):
        make_clusters(bare, ChoiceOptions(clusters="kmeans"), paper=False)
    with pytest.raises(ArgumentError, match="neither kmeans, spectral, none nor a field"):
        make_clusters(pairs, ChoiceOptions(clusters="x"), paper=False)
    with pytest.raises(ArgumentError, match="whole numbers"):
        make_clusters(pairs, ChoiceOptions(clusters="clip"), paper=False)


def test_near_duplicates_of_what_is_kept_are_passed_over(tmp_path):
    rows = [{"output": f"a{i}", "text_embedding": [1.0, i / 1000], "q": 10 - i} for i in range(3)]
    rows += [{"output": "b", "text_embedding": [0.0, 1.0], "q": 1}]
    pairs = read_pairs(write_lines(tmp_path / "p.jsonl", rows))
    score = torch.tensor([10.0, 9.0, 8.0, 1.0])
    none = PairClusters(None, "")
    kept = choose_pairs(score, pairs, none, keep=2, choice=ChoiceOptions(duplicates=0.01))
    assert kept.index.tolist() == [0, 3]
    assert kept.reason[1] == kept.reason[2] == Reason.DUPLICATE
    assert choose_pairs(score, pairs, none, keep=2, choice=ChoiceOptions()).index.tolist() == [0, 1]


def test_the_selectors_of_images_work_in_every_cluster(data):
    pairs = read_pairs(data[0])
    score = torch.arange(float(N))
    clusters = make_clusters(pairs, ChoiceOptions(), paper=False)
    kept = choose_pairs(score, pairs, clusters, keep=12, choice=ChoiceOptions(select="k_center"))
    assert [int((clusters.label[kept.index] == c).sum()) for c in range(3)] == [4, 4, 4]
    top = choose_pairs(score, pairs, clusters, keep=12, choice=ChoiceOptions())
    assert sorted(top.index.tolist()) == list(range(48, 60))
    assert sorted(kept.index.tolist()) != sorted(top.index.tolist())
    with pytest.raises(MissingArrayError, match="beta needs 'dual'"):
        choose_pairs(score, pairs, clusters, keep=12, choice=ChoiceOptions(select="beta"))
    with pytest.raises(ArgumentError, match="no selector is called 'topp'"):
        choose_pairs(score, pairs, clusters, keep=12, choice=ChoiceOptions(select="topp"))
    with pytest.raises(CapacityError, match="only 30 of 60 pairs"):
        choose_pairs(torch.where(score < 30, score, torch.nan), pairs, clusters, keep=31, choice=ChoiceOptions())


def test_scores_by_indicators_are_oriented_by_their_end(data):
    pool = pool_of(read_pairs(data[0]))
    reward = score_pairs(pool, "reward").score
    low = score_pairs(pool, "reward", ends={"reward": "low"}).score
    middle = score_pairs(pool, "reward", ends={"reward": "middle"}).score
    assert int(reward.argmax()) == int(low.argmin())
    values = torch.from_numpy(pool.pairs.numbers["reward"])
    ranked = values.argsort().tolist()
    assert int(middle.argmax()) in ranked[N // 2 - 1 : N // 2 + 1]
    mean = score_pairs(pool, MEAN_SCORER).score
    expected = (
        sum((v - v.mean()) / v.std() for v in (pool.pairs.numbers[k] for k in ("clip", "reward", "length", "gpt"))) / 4
    )
    np.testing.assert_allclose(mean.numpy(), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ArgumentError, match="no scorer or indicator is called 'nope'"):
        score_pairs(pool, "nope")
    with pytest.raises(ArgumentError, match="learned from labelled subsets"):
        score_pairs(pool, "ridge")


def test_instruct_writes_all_it_says(data, tmp_path):
    path, subsets, rows = data
    heard = []
    scoring, out = ScorerOptions(subsets=subsets, mode="paper"), tmp_path / "kept.jsonl"
    done = run_instruct(read_pairs(path), folder=tmp_path / "run", keep=12, scoring=scoring, out=out, log=heard.append)
    kept = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    index = done.selection.index.sort().values.tolist()
    assert kept == [rows[i] for i in index]
    selection, meta = read_selection(tmp_path / "run")
    assert selection.index.tolist() == done.selection.index.tolist()
    assert (meta["method"], meta["budget"], meta["n"]) == ("paper", 12, N)
    table = pq.read_table(tmp_path / "run" / "selection.parquet").to_pydict()
    first = done.selection.index[0]
    assert table["note"][first].startswith(f"score {float(done.scores.score[first]):.4g}, ")
    metadata = json.loads((tmp_path / "run" / "instruct.json").read_text())
    assert (
        [row["kept"] for row in metadata["by_cluster"]] == [row["quota"] for row in metadata["by_cluster"]] == [4, 4, 4]
    )
    assert {row["name"] for row in metadata["scorers"]} == {"mean of the other labels", "ridge", "paper"}
    assert "5 labels do not show" in " ".join(metadata["summary"])
    clip = next(row for row in metadata["means"] if row["name"] == "clip")
    assert clip["chosen"] == pytest.approx(np.mean([rows[i]["clip"] for i in index]))
    assert clip["pool"] == pytest.approx(np.mean([row["clip"] for row in rows]))
    assert any("members found" in line for line in heard)


def test_leaving_out_is_not_done_twice_but_again_for_other_data(data, tmp_path, monkeypatch):
    path, subsets, rows = data
    calls = []
    real = run_module.leave_out_subsets
    monkeypatch.setattr(run_module, "leave_out_subsets", lambda *a, **k: calls.append(1) or real(*a, **k))
    first = run_instruct(
        read_pairs(path), folder=tmp_path / "run", keep=5, scoring=ScorerOptions(subsets=subsets, scorer="ridge")
    )
    again = run_instruct(
        read_pairs(path), folder=tmp_path / "run", keep=9, scoring=ScorerOptions(subsets=subsets, scorer="ridge")
    )
    assert calls == [1]
    assert first.metadata["scorers"] == again.metadata["scorers"]
    write_lines(path, [*rows[:-1], record(999)])
    run_instruct(
        read_pairs(path), folder=tmp_path / "run", keep=9, scoring=ScorerOptions(subsets=subsets, scorer="ridge")
    )
    assert calls == [1, 1]
    (tmp_path / "run" / "leave_one_out.json").write_text("{")
    run_instruct(
        read_pairs(path), folder=tmp_path / "run", keep=9, scoring=ScorerOptions(subsets=subsets, scorer="ridge")
    )
    assert calls == [1, 1, 1]


@pytest.mark.parametrize("mode", ["paper", "default"])
def test_the_same_seed_gives_the_same_choice(data, tmp_path, mode):
    runs = [
        run_instruct(
            read_pairs(data[0]),
            folder=tmp_path / f"r{i}",
            keep=12,
            scoring=ScorerOptions(subsets=data[1], mode=mode, seed=s, check=False),
        )
        for i, s in enumerate((1, 1, 2))
    ]
    assert torch.equal(runs[0].scores.score, runs[1].scores.score)
    assert runs[0].selection.index.tolist() == runs[1].selection.index.tolist()
    assert not torch.equal(runs[0].scores.score, runs[2].scores.score)


def test_pairs_that_lack_an_indicator_are_counted_and_never_chosen(data, tmp_path):
    path, subsets, rows = data
    for i in (3, 4):
        del rows[i]["reward"]
    rows[5]["image_features"] = [1.0]
    write_lines(path, rows)
    done = run_instruct(
        read_pairs(path),
        folder=tmp_path / "run",
        keep=57,
        scoring=ScorerOptions(subsets=subsets, mode="default", check=False),
    )
    assert done.metadata["missing"] == {"reward": 2, "image_features": 1}
    assert sorted(set(range(N)) - set(done.selection.index.tolist())) == [3, 4, 5]
    assert done.selection.reason[3] == Reason.UNSCORED


def test_an_indicator_chooses_even_where_no_pair_has_all_of_them(tmp_path):
    """A judge that graded nobody takes nothing from a choice by reward; a network would need it."""
    rows = [record(i) for i in range(12)]
    for i, row in enumerate(rows):
        del row["gpt" if i % 2 else "clip"]
    path = write_lines(tmp_path / "p.jsonl", rows)
    done = run_instruct(
        read_pairs(path),
        folder=tmp_path / "run",
        keep=1,
        choice=ChoiceOptions(clusters="none"),
        scoring=ScorerOptions(scorer="reward"),
    )
    best = int(np.argmax([row["reward"] for row in rows]))
    assert done.selection.index.tolist() == [best]
    lacked = "gpt" if best % 2 else "clip"
    assert lacked not in {row["name"] for row in done.metadata["means"]}, "of nothing there is no mean"
    full = [record(i) for i in range(12)]
    subsets = write_subsets(tmp_path / "s.npz", full)[0]
    with pytest.raises(DataError, match=r"no pair has all .* 'ridge' needs: .*6 of 12 lack clip.*by an indicator"):
        run_instruct(
            read_pairs(path), folder=tmp_path / "run", keep=1, scoring=ScorerOptions(scorer="ridge", subsets=subsets)
        )


def test_a_field_chooses_where_there_is_no_indicator_at_all(tmp_path):
    path = write_lines(tmp_path / "p.jsonl", [{"output": f"text {i}", "votes": [3, 9, 1][i]} for i in range(3)])
    done = run_instruct(read_pairs(path), folder=tmp_path / "run", keep=1, scoring=ScorerOptions(scorer="votes"))
    assert done.selection.index.tolist() == [1]
    with pytest.raises(ArgumentError, match="no indicator to take the mean of"):
        run_instruct(read_pairs(path), folder=tmp_path / "run", keep=1)


def test_half_a_letter_in_an_id_or_a_text_is_shown_as_one(tmp_path):
    rows = [record(0, image_id="a\ud800"), record(1, caption="\udfff end."), record(2)]
    pairs = read_pairs(write_lines(tmp_path / "p.jsonl", rows))
    done = run_instruct(
        pairs, folder=tmp_path / "run", keep=2, out=tmp_path / "o.jsonl", scoring=ScorerOptions(scorer="reward")
    )
    assert pq.read_table(tmp_path / "run" / "selection.parquet").column("id").to_pylist() == ["a?", "101", "102"]
    kept = [json.loads(line) for line in (tmp_path / "o.jsonl").read_bytes().splitlines()]
    assert kept == [rows[i] for i in sorted(done.selection.index.tolist())], "written as they came"


def test_wrong_options_are_refused_before_anything_is_written(data, tmp_path):
    pairs = read_pairs(data[0])
    with pytest.raises(ArgumentError, match="mode must be one of"):
        run_instruct(pairs, folder=tmp_path / "run", scoring=ScorerOptions(mode="x"))
    with pytest.raises(DataError, match=r"ends in \.jsonl"):
        run_instruct(pairs, folder=tmp_path / "run", out=tmp_path / "o.csv")
    with pytest.raises(ArgumentError, match="budget must be between 1 and the 60 pairs"):
        run_instruct(pairs, folder=tmp_path / "run", keep=61)
    assert not (tmp_path / "run").exists()


def test_subsets_of_unequal_size_need_the_default_mode(data, tmp_path):
    path, _, _ = data
    index = np.array([[0, 1, 2], [3, 4, -1], [5, 6, 7], [8, 9, 10]])
    np.savez(tmp_path / "s.npz", labels=np.arange(4.0), index=index)
    pairs = read_pairs(path)
    done = run_instruct(pairs, folder=tmp_path / "run", keep=5, scoring=ScorerOptions(subsets=tmp_path / "s.npz"))
    assert done.metadata["method"] == "default"
    with pytest.raises(ArgumentError, match="the subsets' file has no features"):
        run_instruct(
            pairs, folder=tmp_path / "run", keep=5, scoring=ScorerOptions(subsets=tmp_path / "s.npz", mode="paper")
        )
    with pytest.raises(ArgumentError, match="2 to 3 pairs"):
        run_instruct(
            pairs,
            folder=tmp_path / "run",
            keep=5,
            scoring=ScorerOptions(subsets=tmp_path / "s.npz", recipe_options={"across": "pool"}),
        )
