"""Each verb does its work on real (small) data, and says what it did."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from datawinnow.cli.spelling import as_flags
from datawinnow.core.budget import budget_of
from datawinnow.data.load import load
from datawinnow.runs.selection_file import read_selection
from tests.cli.conftest import DUAL, GRID, QUICK
from tests.data.helpers import write_folder
from tests.runs.killing import content


def vectors(path: Path, n: int = 60) -> Path:
    """An .npz of three classes that can be learned."""
    y = np.arange(n) % 3
    x = np.random.default_rng(0).normal(size=(n, 6)).astype(np.float32) + 3 * np.eye(3, 6, dtype=np.float32)[y]
    np.savez(path, x=x, y=y)
    return path


# --- prune ----------------------------------------------------------------------------------------------------------


def test_prune_tells_the_whole_story(call):
    words = [word for word in QUICK if word != "--quiet"]
    result = call("prune", "digits", "--keep", "0.3", "--no-report", *words, *DUAL)
    assert "kept 431 of 1,438 examples (30%) by DUAL+Beta" in result.stdout
    assert "runs/digits/selection.parquet" in result.stdout
    assert "431 kept: drawn" in result.stdout
    assert "1,007 dropped: not drawn" in result.stdout
    assert "Scoring passed 2,876 examples" in result.stdout
    assert "100% of a full training" in result.stdout
    assert "paid back after 1.4 trainings" in result.stdout  # 2876 / (2876 - 2 * 431)
    order = [result.stderr.index(word) for word in ("estimate: ", "recording: done", "selecting by DUAL+Beta: done")]
    assert order == sorted(order)
    assert "next: datawinnow train digits --select runs/digits --epochs 2 --model mlp" in result.stderr
    assert "held out" in result.stderr, "what was chosen while loading is told"
    assert len(read_selection(Path("runs/digits"))[0]) == 431
    assert not Path("runs/digits/report.html").exists()


def test_a_planned_training_longer_than_the_recording_pays_back_sooner(call, recorded, tmp_path):
    run = shutil.copytree(recorded, tmp_path / "run")
    words = ["prune", "digits", "--keep", "0.5", "--run", run, "--train-epochs", "8", "--no-report", *QUICK, *DUAL]
    shown = call(*words).stdout
    assert "25% of a full training" in shown
    assert "of 8 epochs" in shown
    assert "paid back after 0.5 trainings" in shown


def test_a_selection_is_fitted_to_the_training_that_is_told(call, recorded, tmp_path):
    kept = {}
    for name, extra_words, fitted_to in (
        ("as recorded", (), 2),  # --epochs, where no other training is planned
        ("fitted", ("--train-epochs", "8"), 8),
        ("asked", ("--option", "train_epochs=8"), 8),
        ("published", ("--train-epochs", "200"), 200),
        ("c_d", ("--option", "c_d=5.5"), None),
        ("c_d first", ("--train-epochs", "8", "--option", "c_d=5.5"), None),
    ):
        run = shutil.copytree(recorded, tmp_path / name)
        call("prune", "digits", "--keep", "0.2", "--run", run, "--no-report", *QUICK, *DUAL, *extra_words)
        selection, meta = read_selection(run)
        kept[name] = sorted(selection.index.tolist())
        assert meta["options"].get("train_epochs") == fitted_to, name
    assert kept["fitted"] == kept["asked"]
    assert kept["c_d"] == kept["c_d first"]
    assert len({tuple(kept[name]) for name in ("as recorded", "fitted", "published", "c_d")}) == 4


def test_prune_writes_a_page_with_images_and_the_check(call):
    result = call("prune", "digits", "--keep", "0.3", "--limit", "200", "--check", *QUICK, *DUAL)
    page = Path("runs/digits/report.html")
    assert str(page) in result.stdout
    assert "<html" in page.read_text(encoding="utf-8")[:400].lower()
    stored = json.loads(Path("runs/digits/check.json").read_text())
    assert as_flags(stored["sentence"]) in result.stdout
    assert "=`" not in result.stdout
    rows = [json.loads(line) for line in Path("runs/digits/check/rows.jsonl").read_text().splitlines()]
    assert {row["method"] for row in rows} == {"dual_beta", "full", "random", "shorter_full"}
    assert re.search(r"^0\.3\s+random\s", result.stdout, re.MULTILINE), "the small table"


def test_another_keep_uses_the_recording_and_forgets_the_old_check(call, recorded, tmp_path):
    run = shutil.copytree(recorded, tmp_path / "run")
    (run / "check.json").write_text("{}")
    words = ["--run", run, "--no-report", *QUICK, *DUAL]
    before = (run / "signals" / "p_label.npy").stat().st_mtime_ns
    call("prune", "digits", "--keep", "0.3", *words)
    assert (run / "check.json").exists(), "the selection is the same"
    call("prune", "digits", "--keep", "0.1", *words)
    assert not (run / "check.json").exists()
    assert len(read_selection(run)[0]) == 144
    assert (run / "signals" / "p_label.npy").stat().st_mtime_ns == before


def test_select_proposes_the_training_that_it_is_fitted_to(call, recorded, tmp_path):
    run = shutil.copytree(recorded, tmp_path / "run")
    shown = " ".join(call("select", run, "--keep", "0.3", *DUAL).stderr.split())
    assert shown.endswith(f"next: datawinnow train digits --select {run}/selection.parquet --epochs 2")


def test_selections_are_the_same_by_seed_and_differ_between_seeds(call, recorded, tmp_path):
    files = {}
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        out = tmp_path / f"{name}.parquet"
        call("select", recorded, "--keep", "0.3", "--seed", seed, "--out", out, *DUAL, "--quiet")
        files[name] = content(out)  # without the seconds that it took
    assert files["a"] == files["b"]
    kept = {name: set(read_selection(tmp_path / f"{name}.parquet")[0].index.tolist()) for name in files}
    assert kept["a"] != kept["c"]


def test_prune_draws_by_its_seed(call):
    kept = {}
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        words = ["--method", "random", "--seed", seed, "--run", name, "--no-report", "--limit", "200", "--quiet"]
        call("prune", "digits", "--keep", "0.2", *words)
        kept[name] = read_selection(Path(name))[0].index.tolist()
    assert kept["a"] == kept["b"]
    assert kept["a"] != kept["c"]


def test_random_needs_no_recording(call):
    result = call("prune", "digits", "--keep", "0.2", "--method", "random", "--no-report", *QUICK)
    assert "kept 288 of 1,438 examples (20%) by random" in result.stdout
    assert "nothing: random reads no recording" in result.stdout
    assert not Path("runs/digits/signals").exists()


def test_per_class_keeps_every_class(call, recorded, tmp_path):
    out = tmp_path / "s.parquet"
    call("select", recorded, "--keep", "0.1", "--score", "aum", "--per-class", "--out", out, "--quiet")
    table = pq.read_table(out).to_pydict()
    kept = [label for label, is_kept in zip(table["label"], table["kept"], strict=True) if is_kept]
    counts = np.bincount(kept, minlength=10)
    sizes = np.bincount(table["label"])
    assert np.abs(counts - sizes / 10).max() <= 1


def test_out_writes_an_npz_that_loads_again(call, tmp_path):
    data = vectors(tmp_path / "v.npz")
    call("prune", data, "--keep", "0.5", "--out", "kept", "--no-report", *QUICK, *DUAL)
    table = pq.read_table("runs/v/selection.parquet").to_pydict()
    rows = [row for row, is_kept in zip(table["row"], table["kept"], strict=True) if is_kept]
    held_out = sorted(set(range(60)) - set(table["row"]))
    assert (len(rows), len(held_out)) == (24, 12), "half of what is trained on, which is without a fifth"
    # the values of the file, though a network reads them standardised
    for split, expected in (("train", rows), ("test", held_out)):
        stored = np.load(f"kept/{split}.npz", allow_pickle=False)
        for name, values in np.load(data).items():
            np.testing.assert_array_equal(stored[name], values[expected])
    (examples, test), (kept, kept_test) = load(data), load("kept")
    assert (len(kept), len(kept_test)) == (24, len(test))
    assert kept.classes == examples.classes


def test_out_writes_a_folder_of_the_kept_images(call, tmp_path):
    pixels = write_folder(tmp_path / "pets", 10)
    write_folder(tmp_path / "pets", 4, split="test", seed=1)
    call("prune", "pets", "--keep", "0.5", "--out", "kept", "--no-report", *QUICK, *DUAL)
    table = pq.read_table("runs/pets/selection.parquet").to_pydict()
    named = [name for name, is_kept in zip(table["id"], table["kept"], strict=True) if is_kept]
    written = sorted(p.relative_to("kept").as_posix() for p in Path("kept").rglob("*.png"))
    images = [name for name in written if not name.startswith("test/")]
    assert len(images) == 10
    assert len(written) == 10 + 8, "and the test split as it is"
    assert sorted(Path(name).parts[-2:] for name in named) == sorted(Path(name).parts[-2:] for name in images)
    assert set(images) <= set(pixels)
    for name in written:
        assert (tmp_path / "kept" / name).read_bytes() == (tmp_path / "pets" / name).read_bytes()


# --- step by step ----------------------------------------------------------------------------------------------------


def test_record_keeps_how_the_data_were_loaded_so_that_later_verbs_find_them(call, tmp_path, monkeypatch):
    data = vectors(tmp_path / "v.npz")
    call("record", "v.npz", "--limit", "30", "--holdout", "0.3", "--signals", "kl_step", *QUICK)
    metadata = json.loads(Path("runs/v/run.json").read_text())
    assert metadata["options"]["load"] == {"limit": 30, "holdout": 0.3}
    assert metadata["dataset"]["source"] == str(data)
    assert Path("runs/v/signals/kl_step.npy").exists()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    call("score", "../runs/v", "--score", "aum", "--quiet")
    call("select", "../runs/v", "--keep", "0.5", "--out", "s.parquet", *DUAL, "--quiet")
    shown = call("train", "../v.npz", "--select", "s.parquet", "--run", "t", *QUICK).stdout
    assert "30 for 2 epochs on all 30" not in shown
    assert "60 for 2 epochs on all 30" in shown, "--limit and --holdout came from the selection"


@pytest.mark.parametrize(
    ("verb", "min_epochs"),
    [
        (("record",), 10),
        (("prune", "--keep", "0.3", "--no-report"), 10),
        (("prune", "--keep", "0.3", "--no-report", "--option", "window=39"), 39),  # never before the method can read it
    ],
    ids=["record", "prune", "prune, a wider window"],
)
def test_until_stable_says_where_it_ended_and_the_cost_is_of_those_epochs(call, verb, min_epochs):
    quick = ["--limit", "200", "--model", "mlp", "--precision", "fp32", "--threads", "1", "--epochs", "40"]
    result = call(verb[0], "digits", *verb[1:], *quick, "--until-stable")
    match = re.search(
        r"stable after (\d+) of up to 40 epochs: two halves of the last ones agree to 0\.[5-9]", result.stderr
    )
    assert match, result.stderr
    epochs = int(match[1])
    assert (epochs == 39) if min_epochs == 39 else (10 <= epochs < 39)
    if verb[0] == "prune":
        assert "estimate, if the ranking is not stable before: " in result.stderr
    passes = f"{200 * epochs:,} examples passed" if verb == ("record",) else f"Scoring passed {200 * epochs:,} examples"
    assert passes in result.stdout
    assert np.load("runs/digits/signals/p_label.npy").shape == (epochs, 200)
    if verb == ("record",):
        assert f"recorded {epochs} epochs of 200 examples" in result.stdout
        assert "kept 60 of 200" in call("select", "runs/digits", "--keep", "0.3").stdout


def test_score_adds_columns_and_all_means_all_there_are(call, recorded, tmp_path):
    run = shutil.copytree(recorded, tmp_path / "run")
    call("score", run, "--score", "aum", "--score", "el2n", "--quiet")
    assert {"dual", "aum", "el2n"} <= set(pq.read_schema(run / "scores.parquet").names)
    shown = call("score", run, "--score", "dual", "--option", "window=2", "--quiet").stdout
    assert re.search(r"^dual\s+[\d.e-]+\s+0\.\d+", shown, re.MULTILINE)
    fails = call("score", run, "--score", "all", "--quiet", code=2)  # DUAL's window is 10 epochs, and 2 are there
    assert "window" in fails.stderr


def test_train_says_accuracy_and_total_cost_and_leaves_a_run(call, recorded):
    shown = call("train", "digits", "--select", recorded, *QUICK).stdout
    run = Path("runs/digits-dual_beta-0.3")
    metadata = json.loads((run / "run.json").read_text())
    assert metadata["kind"] == "run"
    assert metadata["status"] == {"train": "done"}
    assert metadata["cost"]["train"]["backward"] == 2 * 431
    history = pq.read_table(run / "history.parquet").to_pydict()
    assert history["epoch"] == [0, 1]
    assert history["test_accuracy"][-1] == metadata["result"]["test_accuracy"]
    assert f"accuracy {100 * history['test_accuracy'][-1]:.2f}% on 359 test examples" in shown
    assert "3,738 examples passed (862 in training + 2,876 in scoring)" in shown
    assert "130% of 2,876 for 2 epochs on all 1,438 examples" in shown
    assert (run / "model.safetensors").exists()
    assert not (run / "checkpoint").exists()


def test_train_twice_uses_what_is_there_and_refuses_another_selection(call, recorded, tmp_path):
    first = call("train", "digits", "--select", recorded, "--run", "t", *QUICK).stdout
    assert call("train", "digits", "--select", recorded, "--run", "t", *QUICK).stdout == first
    call("select", recorded, "--keep", "0.1", "--score", "aum", "--out", "other.parquet", "--quiet")
    fails = call("train", "digits", "--select", "other.parquet", "--run", "t", *QUICK, code=2)
    assert re.search(
        r"started with selection=431 by DUAL\+Beta \(.*now it is selection=144 by aum top \(.*: use another --r",
        fails.stderr,
    )
    fails = call("train", "digits", "--select", recorded, "--run", "t", *QUICK, "--seed", "3", code=2)
    assert "started with --seed 0, now it is --seed 3" in fails.stderr


def test_train_without_a_selection_trains_on_all(call):
    shown = call("train", "digits", "--limit", "100", *QUICK).stdout
    assert "200 examples passed (all in training)" in shown
    assert Path("runs/digits-full/model.safetensors").exists()


def test_training_does_not_write_into_a_recording(call, recorded):
    fails = call("train", "digits", "--select", recorded, "--run", recorded, *QUICK, code=2)
    assert "holds a recording or a selection; give training a --run folder of its own" in fails.stderr


def test_estimate_tells_seconds_and_memory(call):
    words = ("--model", "mlp", "--precision", "fp32", "--threads", "1")
    shown = call("estimate", "digits", "--keep", "0.3", "--method", "dual", *words).stdout
    assert re.search(r"GB of memory.*with mlp on 1,438 examples", shown)
    assert re.search(r"^record\s+\S+ (s|min)", shown, re.MULTILINE)
    assert re.search(r"^train\s", shown, re.MULTILINE)
    assert re.search(r"^at the peak\s+[\d,.]+ MB", shown, re.MULTILINE)


# --- compare and show -------------------------------------------------------------------------------------------------

workers = pytest.mark.parametrize("workers", ["in process", pytest.param("processes", marks=pytest.mark.slow)])


@workers
def test_bench_runs_the_cells_and_then_none(call, workers, request):
    if workers == "in process":
        request.getfixturevalue("in_process")
    Path("tiny.toml").write_text(GRID)
    first = call("bench", "tiny.toml", "--jobs", "1", "--threads", "1")
    assert "bench tiny: done" in first.stderr
    assert "results/tiny/report.html" in first.stdout
    rows = Path("results/tiny/rows.jsonl").read_bytes()
    assert len(rows.splitlines()) == 2
    again = call("bench", "tiny.toml", "--table", "markdown", "--quiet")
    assert Path("results/tiny/rows.jsonl").read_bytes() == rows
    assert "| keep | method |" in again.stdout
    assert "cells are done" not in again.stdout


def test_bench_with_no_time_at_all_begins_nothing(call):
    Path("tiny.toml").write_text(GRID)
    shown = call("bench", "tiny.toml", "--time-limit", "0").stdout
    assert shown == "0 of 2 cells are done; run the same command again to resume\n"
    assert not Path("results/tiny/rows.jsonl").exists()


@workers
def test_demo_tells_the_story_and_the_second_time_at_once(call, monkeypatch, workers, request):
    if workers == "in process":
        request.getfixturevalue("in_process")
    import datawinnow.bench
    from datawinnow.bench import read_grid

    text = GRID.replace("epochs = 2", "epochs = 10").replace('"shorter_full", ', '"dual_beta", ')
    Path("tiny.toml").write_text(text)
    grid, grid_files = read_grid(Path("tiny.toml")), []
    monkeypatch.setattr(datawinnow.bench, "read_grid", lambda file: grid_files.append(file.name) or grid)
    shown = call("demo", "--jobs", "1", "--quiet").stdout
    assert grid_files == ["demo.toml"]
    assert re.search(r"^0\.5\s+DUAL\+Beta", shown, re.MULTILINE)
    assert "runs/demo/report.html" in shown
    assert Path("runs/demo/prune/gallery.parquet").exists()
    page = re.search(r"images\s+(\S+)", shown)[1]
    assert "<html" in Path(page).read_text(encoding="utf-8")[:400].lower()
    rows = Path("runs/demo/rows.jsonl").read_bytes()
    assert call("demo", "--quiet").stdout == shown
    assert Path("runs/demo/rows.jsonl").read_bytes() == rows


def test_the_grid_of_the_demo_is_the_promised_one(tmp_path):
    import importlib.resources

    from datawinnow.bench import read_grid

    with importlib.resources.as_file(importlib.resources.files("datawinnow.bench") / "demo.toml") as file:
        grid = read_grid(file)
    assert grid.methods == ["full", "shorter_full", "ucb_7", "random", "dual", "dual_beta"]
    assert (grid.keep, grid.seeds, grid.data.source) == ([0.5, 0.3, 0.1], [0, 1, 2], "digits")


def test_report_of_a_run(call, recorded, tmp_path):
    shown = call("report", recorded, "--out", tmp_path / "page.html").stdout
    assert shown == f"{tmp_path / 'page.html'}\n"
    assert "digits" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_methods_lists_every_card(call):
    from datawinnow import dynamic, scenarios, scores, select
    from datawinnow.methods import METHODS

    shown = call("methods").stdout
    for name in (*METHODS, *scores.METHODS, *select.METHODS, *dynamic.METHODS, *scenarios.METHODS):
        assert re.search(rf"^{name}\s", shown, re.MULTILINE), name
    only = call("methods", "--kind", "score", "--markdown").stdout.splitlines()
    assert len(only) == 2 + len(scores.METHODS)
    assert all("arXiv" in line or "Shannon" in line or "20" in line for line in only[2:]), "the source is in the table"


@pytest.mark.parametrize("name", ["dual", "dual+beta", "coverage", "ucb", "divbs", "symmetric"])
def test_one_method_in_full(call, name):
    shown = call("methods", name).stdout
    assert re.search(r"^  source\s+\S+", shown, re.MULTILINE)
    assert re.search(r"^  options\s+\S+", shown, re.MULTILINE)


def test_the_module_is_the_command():
    text = (Path(__file__).parents[2] / "src" / "datawinnow" / "__main__.py").read_text()
    assert 'if __name__ == "__main__":' in text, "bench's worker processes import it again"


def test_train_by_a_policy_tells_what_it_passed_and_what_to_compare_it_with(call):
    shown = call("train", "digits", "--policy", "random", "--keep", "0.25", "--run", "t", *QUICK).stdout
    assert "the policy trained on 25% of the examples an epoch on average (25 to 25%)" in " ".join(shown.split())
    assert Path("t/run.json").exists()


def test_train_by_a_policy_for_a_budget_passes_what_the_shorter_full_run_passes(call):
    words = ("--policy", "ucb", "--keep", "0.5", "--wrap", "warm_up=1", "--run", "t")
    shown = " ".join(call("train", "digits", *words, "--passes", "2", "--model", "mlp").stdout.split())
    metadata = json.loads(Path("t/run.json").read_text())
    n = metadata["dataset"]["n"]
    assert metadata["cost"]["train"]["backward"] == 2 * n
    assert metadata["options"]["train"]["policy"].startswith("WarmUp(policy=UCB(keep=0.5")
    assert "after the last of 3 epochs" in shown  # all, and twice a half
    assert "datawinnow train digits --model mlp --epochs 2" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--passes", "2"), "--passes requires --policy"),
        (("--policy", "ucb", "--keep", "0.5", "--passes", "2", "--epochs", "3"), "give either --epochs or --passes"),
        (("--policy", "ucb", "--keep", "0.5", "--passes", "0"), "--passes must be above 0, got 0"),
        (("--policy", "ucb", "--keep", "0.5", "--wrap", "every"), "takes a number of epochs between plans"),
        (("--policy", "ucb", "--keep", "0.5", "--wrap", "often=2"), "no wrapper is called 'often'. There are: warm_up"),
    ],
)
def test_a_length_or_a_wrapper_that_cannot_be_is_refused_before_anything_is_read(call, words, message):
    assert message in " ".join(call("train", "nothing-there/", *words, code=2).stderr.split())


def test_a_keep_that_changes_is_followed_epoch_by_epoch(call):
    call("train", "digits", "--policy", "random", "--keep", "0.2..0.6:step:2", "--run", "t", *QUICK)
    n = json.loads(Path("t/run.json").read_text())["dataset"]["n"]
    rows = pq.read_table("t/history.parquet").column("examples").to_pylist()
    assert rows == [budget_of(0.2, n), budget_of(0.6, n)]
    shown = call("train", "nothing-there/", "--policy", "ucb", "--keep", "0.2..x", code=2).stderr
    assert "a fraction is a number such as 0.3, or 30%, got 'x'" in " ".join(shown.replace("│", " ").split())


def test_options_of_a_policy_without_one_are_refused_before_anything_is_read(call):
    for words in (("--keep", "0.5"), ("--policy-option", "period=3"), ("--wrap", "rescaled")):
        shown = call("train", "nothing-there/", *words, code=2).stderr
        assert "--keep, --policy-option and --wrap belong to --policy: name one" in " ".join(shown.split())
    shown = call("train", "nothing-there/", "--policy", "info_batch", "--keep", "0.5", code=2).stderr
    assert "sets the number of examples itself" in " ".join(shown.split())
