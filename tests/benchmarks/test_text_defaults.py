"""benchmarks/text_defaults.py: what is trained on is never evaluated on, and rows resume."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
N_POOL, N_TEST = 1600, 50


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("benchmarks_text_defaults", FOLDER / "text_defaults.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "benchmarks_text_defaults", module)
    spec.loader.exec_module(module)
    texts = [f"text {i} is {'good' if i % 2 else 'bad'}" for i in range(N_POOL)]
    test = [f"test {i} is {'good' if i % 2 else 'bad'}" for i in range(N_TEST)]
    labels = torch.arange(N_POOL) % 2
    monkeypatch.setattr(module, "pool_and_test", lambda name: (texts, labels, test, labels[:N_TEST]))
    return module


@pytest.mark.parametrize("on_test", [True, False])
def test_splits_share_no_text(script, on_test):
    train, test = script.splits("sst2", 120, 3, on_test=on_test)
    assert len(train) == 120
    assert not set(train.texts) & set(test.texts)
    assert all(text.startswith("test") for text in test.texts) == on_test
    assert len(test) == (N_TEST if on_test else script.HELD_OUT)
    for dataset in (train, test):
        assert all(("good" in text) == bool(label) for text, label in zip(dataset.texts, dataset.labels, strict=True))
        assert torch.equal(dataset.x, train.vocabulary.encode(dataset.texts))
    again, _ = script.splits("sst2", 120, 3, on_test=on_test)
    other, _ = script.splits("sst2", 120, 4, on_test=on_test)
    assert again.texts == train.texts != other.texts


def test_rows_resume_and_differences_are_by_seed(script, tmp_path, capsys, monkeypatch):
    out = tmp_path / "rows.jsonl"
    words = ["--sets", "sst2", "--sizes", "100", "--seeds", "0", "1", "--epochs", "1", "--out", str(out)]
    script.main([*words, "--arms", "linear", "cnn_sgd"])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["arm"], row["seed"]) for row in rows] == [
        ("linear", 0),
        ("cnn_sgd", 0),
        ("linear", 1),
        ("cnn_sgd", 1),
    ]
    assert all(row["accuracy"] == 1 for row in rows if row["arm"] == "linear")
    trained = []
    monkeypatch.setattr(script, "accuracy", lambda arm, *args: trained.append(arm) or 0.5)
    script.main([*words, "--arms", "linear", "cnn_sgd", "bag_adamw"])
    assert trained == ["bag_adamw"] * 2
    first = [100 * row["accuracy"] for row in rows if row["arm"] == "cnn_sgd"]
    assert f"{50 - sum(first) / 2:+.1f} ± " in capsys.readouterr().out


def test_paragraphs_are_prose_without_the_name_of_the_library(script):
    texts = script.paragraphs("pyarrow")
    assert len(texts) > 100
    assert all(8 <= len(text.split()) <= 60 and ">>>" not in text for text in texts)
    assert not any("pandas" in text.casefold() for text in texts)
