"""`prune(clean=True)`: broken examples and duplicates, then wrong labels, then hardness and coverage; a reason each."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import datawinnow as dw
from datawinnow.core.arrays import of_examples
from datawinnow.core.errors import ArgumentError, CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream

N = 500
OPTIONS = {"epochs": 30, "model": "mlp", "recipe": dw.Recipe(lr=0.05, batch=64, precision="fp32")}


@pytest.fixture(scope="module")
def planted():
    """Digits with wrong labels, copies and blank images; what is planted at each position."""
    train, test = dw.load("digits")
    train = train.stratified(N, stream(0, "subset"))
    _, labels, wrong = dw.scenarios.symmetric(None, train.labels, rate=0.15, generator=stream(0, "noise"))
    x, labels = train.x.clone(), labels.clone()
    copies, blank = torch.arange(10, 20), torch.arange(30, 33)
    x[copies], labels[copies] = x[copies + 100], labels[copies + 100]
    x[blank] = 0
    return dw.Examples(x, labels, train.classes, "digits", augment=train.augment), test, copies, blank, wrong


@pytest.fixture(scope="module")
def cleaned(planted, tmp_path_factory):
    train, test, *_ = planted
    lines = []
    run = tmp_path_factory.mktemp("clean") / "run"
    return dw.prune(train, keep=0.4, clean=True, test=test, run=run, log=lines.append, **OPTIONS), lines


def test_what_is_planted_is_left_out_with_its_reason(cleaned, planted):
    kept, _ = cleaned
    _, _, copies, blank, wrong = planted
    reason = kept.selection.reason
    assert len(kept) == 200
    assert bool((reason[blank] == int(Reason.BROKEN)).all())
    groups = torch.stack([reason[copies], reason[copies + 100]])
    assert bool(((groups == int(Reason.DUPLICATE)).sum(0) == 1).all())  # one of two
    clean_wrong = wrong.clone()
    clean_wrong[copies], clean_wrong[blank] = False, False
    suspected = reason == int(Reason.SUSPECT)
    assert float(suspected[clean_wrong].float().mean()) > 0.75
    assert not bool(kept.selection.mask(N)[suspected].any())
    assert bool(((reason < 10) == kept.selection.mask(N)).all())


def test_the_order_is_told_and_every_example_has_its_evidence(cleaned):
    kept, lines = cleaned
    text = "\n".join(lines)
    at = [text.index(word) for word in ("broken example", "duplicate", "likely wrong label", "coverage")]
    assert at == sorted(at)
    table = pq.read_table(kept.run.path / "selection.parquet")
    rows = {row["position"]: row for row in table.to_pylist()}
    for i, code in enumerate(kept.selection.reason.tolist()):
        assert rows[i]["reason"] == Reason(code).word
        begin = {Reason.BROKEN: "broken: ", Reason.DUPLICATE: "duplicate: ", Reason.SUSPECT: "label: "}.get(
            Reason(code)
        )
        assert rows[i]["note"].startswith(begin) if begin else rows[i]["note"]
    metadata = dw.RunFolder.open(kept.run.path).metadata["options"]["select"]
    assert metadata["cleaned"]["duplicate"] == 10
    assert metadata["cleaned"]["broken"] == 3


def test_what_is_kept_has_fewer_wrong_labels_than_without(cleaned, planted):
    train, test, _, _, wrong = planted
    plain = dw.prune(train, keep=0.4, test=test, score="dual", select_by="coverage", **OPTIONS)
    share = float(wrong[cleaned[0].selection.index].float().mean())
    assert share < float(wrong[plain.selection.index].float().mean()) / 2


def test_a_method_of_ones_own_chooses_among_the_rest(planted, cleaned):
    train, test, *_ = planted
    kept = dw.prune(train, keep=0.4, clean=True, test=test, method="random", run=cleaned[0].run.path, **OPTIONS)
    before, after = cleaned[0].selection.reason, kept.selection.reason
    assert (before >= int(Reason.SUSPECT)).equal(after >= int(Reason.SUSPECT))
    assert set(after[after >= 10].tolist()) >= {int(Reason.NOT_DRAWN)}
    assert len(kept) == 200


def test_the_hardest_of_the_rest_are_kept_by_a_score(planted, cleaned):
    train, test, *_ = planted
    run = cleaned[0].run.path
    options = {"clean": True, "test": test, "score": "el2n", "select_by": "top", "run": run}
    kept = dw.prune(train, keep=0.2, **options, **OPTIONS)
    score = dw.scores.el2n(dw.RunFolder.open(run).arrays()["error_norm"])
    is_out = torch.isin(kept.selection.reason, torch.tensor([12, 13, 17], dtype=torch.int8))
    best = score.masked_fill(is_out, -1).topk(100).values.min()
    assert float(score[kept.selection.index].min()) == pytest.approx(float(best))


def test_more_than_what_is_left_is_refused(planted, cleaned):
    train, test, *_ = planted
    with pytest.raises(CapacityError, match="keep at most 0"):
        dw.prune(train, keep=0.95, clean=True, test=test, run=cleaned[0].run.path, **OPTIONS)


def test_a_dataset_without_classes_is_refused():
    recipe = dw.Recipe(loss=lambda outputs, y: (outputs[:, 0] - y) ** 2)
    with pytest.raises(ArgumentError, match="clean=True"):
        dw.prune(
            (np.zeros((20, 3), np.float32), np.linspace(0, 1, 20)), keep=0.5, clean=True, method="random", recipe=recipe
        )


def test_arrays_of_some_examples_are_cut_along_their_axis():
    g = stream(0, "arrays")
    arrays = {
        "p_label": torch.rand(3, 6, generator=g),
        "features": torch.rand(6, 2, generator=g),
        "labels": torch.arange(6),
        "val_features": torch.rand(4, 2, generator=g),
        "neighbours": torch.zeros(6, 2),
    }
    index = torch.tensor([5, 1])
    few = of_examples(arrays, index)
    assert few["p_label"].equal(arrays["p_label"][:, index])
    assert few["features"].equal(arrays["features"][index])
    assert few["labels"].tolist() == [5, 1]
    assert few["val_features"].equal(arrays["val_features"])
    assert "neighbours" not in few
