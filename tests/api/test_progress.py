"""``progress=True`` shows what the command line shows, and changes no result."""

from __future__ import annotations

import inspect

import pytest
import torch

import datawinnow as dw
from datawinnow import api
from datawinnow.core.errors import ArgumentError

X, Y = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
TRAINING = dw.Recipe(precision="fp32")
VERBS = ["bench", "condense", "demo", "estimate", "instruct", "prune", "race", "record", "score", "select", "train"]


def test_fit_shows_its_stage_and_ends_in_the_same_weights(capsys):
    quiet, _ = dw.fit("mlp", (X, Y), epochs=2, recipe=TRAINING)
    assert capsys.readouterr().err == ""
    shown, _ = dw.fit("mlp", (X, Y), epochs=2, recipe=TRAINING, progress=True)
    assert capsys.readouterr().err.startswith("training: done in ")
    for a, b in zip(quiet.parameters(), shown.parameters(), strict=True):
        assert torch.equal(a, b)


def test_prune_shows_its_stages_and_keeps_the_same(capsys, tmp_path):
    kept = [
        dw.prune(
            (X, Y), keep=0.5, epochs=2, score="el2n", model="mlp", recipe=TRAINING, progress=p, run=tmp_path / str(p)
        )
        for p in (True, False, None)
    ]
    stages = [line.split(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert len(stages) == 2
    assert stages[1].startswith("selecting by")
    assert {tuple(one.selection.index.tolist()) for one in kept} == {tuple(kept[0].selection.index.tolist())}


def test_progress_is_closed_after_an_error(capsys):
    def fail(epoch, history):
        raise RuntimeError(f"epoch {epoch}")

    with pytest.raises(RuntimeError, match="epoch 0"):
        dw.fit("mlp", (X, Y), epochs=2, recipe=TRAINING, progress=True, on_epoch=fail)
    assert capsys.readouterr().err.startswith("training: 1 of 2 done")


def test_what_is_no_progress_is_refused():
    with pytest.raises(ArgumentError, match="progress must be True"):
        dw.fit("mlp", (X, Y), epochs=1, progress=1)


@pytest.mark.parametrize("function", [*(getattr(api, verb) for verb in VERBS), dw.fit, dw.load])
def test_every_verb_takes_true(function):
    assert hasattr(function, "__wrapped__")
    assert inspect.signature(function).parameters["progress"].default is None
    assert "True shows a bar on stderr, or a line every 10 seconds where stderr is no terminal" in function.__doc__
