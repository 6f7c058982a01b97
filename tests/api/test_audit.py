"""`audit`: DATA, a run, a dataset with a recorder, arrays; what it writes, and what it says where something lacks."""

from __future__ import annotations

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import TensorDataset

import datawinnow as dw
from datawinnow.core.artifacts import read_npy
from datawinnow.core.decisions import Decision, read_decisions, write_decisions
from datawinnow.core.errors import ArgumentError, DataError, RunError
from datawinnow.core.issues import read_issues
from datawinnow.core.rng import stream
from datawinnow.probe import probe

N = 500
RECIPE = dw.Recipe(lr=0.05, batch=64, precision="fp32", channels_last=False)


@pytest.fixture(scope="module")
def digits():
    train, test = dw.load("digits")
    train = train.stratified(N, stream(0, "subset"))
    _, labels, wrong = dw.scenarios.symmetric(None, train.labels, rate=0.15, generator=stream(0, "noise"))
    return train.with_labels(labels), test, wrong


@pytest.fixture(scope="module")
def audited(digits, tmp_path_factory):
    train, test, _ = digits
    run = tmp_path_factory.mktemp("audit") / "run"
    return dw.audit(train, test=test, epochs=40, model="mlp", recipe=RECIPE, run=run, csv=True, report=True)


def flagged(result):
    return {issue.example for issue in result.issues.of_kind("label") if issue.split == "train"}


def hits(result, wrong):
    """Precision and recall of the labels that are called wrong."""
    right = sum(bool(wrong[i]) for i in flagged(result))
    return right / max(1, len(flagged(result))), right / int(wrong.sum())


def test_a_dataset_is_recorded_and_its_wrong_labels_are_named(audited, digits):
    train, test, wrong = digits
    precision, recall = hits(audited, wrong)
    assert precision > 0.75
    assert recall > 0.85
    row = audited.issues.of_kind("label").rows[0]
    assert row.id == train.id_of(row.example)
    assert row.row == int(train.origin.rows[row.example])
    assert row.label == train.classes[int(train.labels[row.example])]
    assert audited.metadata["n"] == {"train": N, "test": len(test)}
    assert len(audited.p_wrong) == N


def test_wrong_labels_of_the_test_split_are_for_a_person_to_look_at(digits, tmp_path):
    _, test, _ = digits
    clean, _ = dw.load("digits")
    _, labels, wrong = dw.scenarios.symmetric(None, test.labels, rate=0.1, generator=stream(3, "noise"))
    noisy_test = test.with_labels(labels)
    result = dw.audit(clean, test=noisy_test, epochs=20, model="mlp", recipe=RECIPE, run=tmp_path / "run")
    issues = [issue for issue in result.issues.of_kind("label") if issue.split == "test"]
    right = sum(bool(wrong[issue.example]) for issue in issues)
    assert right / len(issues) > 0.7
    assert right / int(wrong.sum()) > 0.8
    assert {issue.action for issue in issues} == {"look"}
    assert issues[0].id == test.id_of(issues[0].example)
    assert issues[0].label == test.classes[int(labels[issues[0].example])]
    assert not any(decision.split == "test" for decision in result.decisions.rows)
    assert len(result.p_wrong) == len(clean)


def test_what_is_written_is_what_was_returned(audited):
    folder = audited.folder.path
    table, metadata = read_issues(folder, fingerprint=audited.train.fingerprint)
    assert table == audited.issues
    with (folder / "issues.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(table)
    written = json.loads((folder / "audit.json").read_text())
    assert written["counts"] == table.counts() == metadata["counts"]
    assert sum(written["actions"].values()) == sum(issue.example >= 0 for issue in table)
    assert written["label_errors"]["rate"] == pytest.approx(float(audited.p_wrong.mean()))
    assert all((folder / name).is_file() for name in written["files"])
    assert {"issues.csv", "decisions.csv", "learning.parquet"} <= set(written["files"])
    page = (folder / "audit.html").read_text()
    assert "Audit of digits" in page
    assert table.of_kind("label").rows[0].id in page
    assert "audit" in dw.RunFolder.open(folder).metadata["cost"]


def test_a_run_of_a_dataset_object_does_not_say_where_it_is(audited):
    with pytest.raises(RunError, match="does not say where its dataset is"):
        dw.audit(audited.folder.path)


def test_the_run_of_data_gives_the_same_as_the_data(tmp_path):
    first = dw.audit("digits", load=dw.LoadOptions(limit=300), epochs=6, model="mlp", recipe=RECIPE, run=tmp_path / "a")
    second = dw.audit(tmp_path / "a")
    assert second.issues == first.issues
    assert second.p_wrong.equal(first.p_wrong)
    with pytest.raises(ArgumentError, match="run="):
        dw.audit(tmp_path / "a", run=tmp_path / "b")


def test_data_that_changed_since_they_were_recorded_are_not_called_another_dataset(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32), np.arange(60) % 2
    np.savez(tmp_path / "blobs.npz", x=x, y=y)
    dw.audit(tmp_path / "blobs.npz", epochs=1, model="mlp", recipe=RECIPE, run=tmp_path / "run")
    np.savez(tmp_path / "blobs.npz", x=x[5:], y=y[5:])
    with pytest.raises(RunError, match="changed since") as error:
        dw.audit(tmp_path / "run", apply=tmp_path / "cleaned")
    assert not (tmp_path / "cleaned").exists()
    assert "(44 examples" in str(error.value)


def test_arrays_alone_as_cleanlab_users_have_them(digits):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    train, _, wrong = digits
    x, y = train.x.flatten(1).float().numpy() / 255, train.labels.numpy()
    probs = cross_val_predict(LogisticRegression(max_iter=300), x, y, method="predict_proba")
    names = [f"digit {k}" for k in range(10)]
    result = dw.audit(labels=y, probs=probs, features=x, classes=names)
    precision, recall = hits(result, wrong)
    assert precision > 0.7
    assert recall > 0.7
    assert result.issues.of_kind("label").rows[0].label.startswith("digit ")
    assert result.folder is None
    theirs = dw.audit(labels=y, probs=probs, engine="cleanlab")
    assert hits(theirs, wrong)[1] > 0.5
    assert any("cleanlab" in note for note in theirs.notes)


def test_features_alone_and_copies_in_them(digits):
    train, _, _ = digits
    x = train.x.flatten(1).float()
    x[7] = x[3]
    result = dw.audit(labels=train.labels, features=x)
    assert {issue.example for issue in result.issues.of_kind("duplicate")} == {3, 7}
    assert any("labels are not compared" in note for note in result.notes)
    assert result.p_wrong is None


def test_an_outlier_is_not_relabelled():
    x = torch.randn(400, 12, generator=stream(0, "vectors"))
    labels = torch.arange(400) % 4
    x[torch.arange(400), labels] += 6
    x[9] = -40.0
    labels[:10] = (labels[:10] + 1) % 4
    probs = torch.full((400, 4), 0.02)
    probs[torch.arange(400), torch.arange(400) % 4] = 0.94
    result = dw.audit(labels=labels, probs=probs, features=x)
    actions = {issue.example: issue.action.split(":")[0] for issue in result.issues.of_kind("label")}
    assert {issue.example for issue in result.issues.of_kind("outlier")} == {9}
    assert actions == dict.fromkeys(range(9), "relabel") | {9: "look"}
    assert result.decisions.counts() == {"keep": 0, "drop": 0, "relabel": 9}


class Own(torch.utils.data.Dataset):
    """A dataset of somebody else's."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], int(self.y[i])


@pytest.mark.parametrize("wrap", [Own, TensorDataset])
def test_any_torch_dataset_with_the_recorder_of_ones_own_training(digits, wrap):
    train, _, wrong = digits
    dataset = wrap(train.x.flatten(1).float() / 255, train.labels)
    recorder = dw.Recorder(N, 15)
    net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.9)
    loader = torch.utils.data.DataLoader(
        dw.indexed(dataset), batch_size=50, shuffle=True, generator=torch.Generator().manual_seed(0)
    )
    for epoch in range(15):
        for index, x, y in loader:
            logits = net(x)
            recorder.write(epoch, index, logits, y)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, y).backward()
            optimizer.step()
    alone = dw.audit(dataset, recorder=recorder)
    assert hits(alone, wrong)[1] > 0.6
    assert any("which class" in note for note in alone.notes)
    full = dw.audit(dataset, recorder=recorder, model=net)
    assert hits(full, wrong)[0] > 0.7
    assert any(issue.suggested_label for issue in full.issues.of_kind("label"))
    probed = probe(net, dataset, arrays=("features", "probs"))
    arrays = dw.audit(dataset, recorder=recorder, features=probed["features"], probs=probed["probs"])
    assert arrays.issues == full.issues
    with pytest.raises(ArgumentError, match="recorder is of 500 examples, the dataset has 499"):
        dw.audit(wrap(train.x[1:].float(), train.labels[1:]), recorder=recorder)


def test_the_engine_cleanlab_trains_five_folds_once(digits, tmp_path):
    train, _, wrong = digits
    arguments = {"epochs": 4, "model": "mlp", "recipe": RECIPE, "run": tmp_path / "run", "engine": "cleanlab"}
    result = dw.audit(train, **arguments)
    kept = read_npy(tmp_path / "run" / "probe" / "out_of_fold.npy")
    assert result.errors.class_probs.equal(torch.from_numpy(kept))
    assert hits(result, wrong)[1] > 0.3
    calls = []
    again = dw.audit(train, **arguments, progress=lambda *args: calls.append(args[0]))
    assert again.issues == result.issues
    assert not any("fold" in name for name in calls)


def test_planted_copies_blanks_and_missing_classes(tmp_path):
    g = stream(0, "images")
    x = torch.randint(0, 256, (120, 3, 32, 32), generator=g, dtype=torch.uint8)
    y = torch.arange(120) % 3
    x[5], x[9] = x[2], 40
    test_x = torch.randint(0, 256, (20, 3, 32, 32), generator=g, dtype=torch.uint8)
    test_x[0] = x[11]
    train = dw.Examples(x, y, ("a", "b", "c"), ids=[f"{i}.png" for i in range(120)])
    test = dw.Examples(test_x, torch.arange(20) % 2, ("a", "b", "c"), split="test")
    result = dw.audit(train, test=test, epochs=2, model="convnet", recipe=RECIPE)
    kinds = {(issue.issue, issue.split, issue.example) for issue in result.issues}
    assert {("duplicate", "train", 2), ("duplicate", "train", 5)} <= kinds
    assert {("leakage", "train", 11), ("leakage", "test", 0)} <= kinds
    assert ("broken", "train", 9) in kinds
    assert ("missing_class", "test", -1) in kinds
    [missing] = result.issues.of_kind("missing_class")
    assert missing.label == "c"
    assert next(i for i in result.issues if i.issue == "leakage" and i.split == "train").action == "drop"
    assert any("2 epochs" in note for note in result.notes)


def test_one_class_and_no_test_split_say_what_can_be_told():
    x = torch.rand(40, 6, generator=stream(0, "x"))
    x[3] = x[1]
    data = dw.Examples(x, torch.zeros(40, dtype=torch.int64), ("only",))
    recorder = dw.Recorder(40, 5)
    for epoch in range(5):
        recorder.write(epoch, torch.arange(40), torch.rand(40, 2), data.labels)
    result = dw.audit(data, recorder=recorder)
    assert result.counts()["duplicate"] == 2
    assert any("one class" in note for note in result.notes)
    assert any("no test split" in note for note in result.notes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give a dataset"),
        ({"labels": [0, 1], "train": "digits"}, "in place of a dataset"),
        ({"train": "digits", "classes": ["a"]}, "classes="),
        ({"train": "digits", "probs": [[1.0]]}, "probs="),
        ({"labels": [0, 1], "probs": [[1, 0], [0, 1]], "report": True}, "report="),
        ({"labels": [0, 3], "probs": [[0.5, 0.5], [0.5, 0.5]]}, "2 columns"),
        ({"labels": [0, 1, 1], "probs": [[0.5, 0.5]] * 3, "classes": ["a"]}, "names 1 classes"),
        ({"labels": [0, 1, 1], "probs": [[np.nan, 0.5]] * 3}, "example 0"),
        ({"labels": [0, 1, 1], "probs": [[0.5, 0.5]] * 3, "features": [[1.0]]}, "features has 1 rows"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        dw.audit(**arguments)


@pytest.mark.parametrize("name", ["features", "probs"])
def test_a_nan_in_arrays_is_named_without_an_option_that_audit_lacks(name):
    arrays = {"probs": np.full((40, 2), 0.5), "features": np.ones((40, 3))}
    arrays[name][7, 0] = np.nan
    with pytest.raises(ArgumentError, match="example 7") as error:
        dw.audit(labels=[0, 1] * 20, **arrays)
    assert "missing" not in str(error.value)


# --- acting on it -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noisy_npz(digits, tmp_path_factory):
    """A .npz whose labels are wrong in places, and which."""
    train, test, wrong = digits
    path = tmp_path_factory.mktemp("npz") / "noisy.npz"
    arrays = {"x_train": train.x[:, 0], "y_train": train.labels, "x_test": test.x[:, 0], "y_test": test.labels}
    np.savez(path, **{name: value.numpy() for name, value in arrays.items()})
    return path, wrong


def test_apply_writes_the_cleaned_data_and_what_was_done(noisy_npz, tmp_path):
    path, wrong = noisy_npz
    before = path.read_bytes()
    options = {"epochs": 40, "model": "mlp", "recipe": RECIPE, "run": tmp_path / "run"}
    result = dw.audit(path, apply=tmp_path / "cleaned", **options)
    assert path.read_bytes() == before
    done = read_decisions(tmp_path / "cleaned" / ".decisions.csv")
    assert done.rows == result.decisions.rows == read_decisions(tmp_path / "run" / "decisions.csv").rows
    counts = done.counts()
    assert counts["relabel"] > 10
    train, test = dw.load(tmp_path / "cleaned")
    assert len(train) == N - counts["drop"]
    assert len(test) == 359
    remaining, _ = result.apply()
    assert train.labels.equal(remaining.labels)
    clean, _ = dw.load("digits")
    truth = clean.stratified(N, stream(0, "subset")).labels
    kept = torch.tensor([i for i in range(N) if str(i) not in {d.id for d in done.rows if d.action == "drop"}])
    assert float((train.labels == truth[kept]).float().mean()) > 1 - float(wrong.float().mean()) + 0.08
    with pytest.raises(DataError, match="not an empty folder"):
        dw.audit("no data is read", apply=tmp_path / "cleaned")


def test_decisions_of_a_person_are_done_and_not_the_suggested(noisy_npz, tmp_path):
    path, _ = noisy_npz
    train, _ = dw.load(path)
    rows = [Decision("3", "train", "drop"), Decision("4", "train", f"relabel:{(int(train.labels[4]) + 1) % 10}")]
    write_decisions(tmp_path / "mine.csv", rows, train.fingerprint)
    load = dw.LoadOptions(decisions=tmp_path / "mine.csv")
    options = {"epochs": 3, "model": "mlp", "recipe": RECIPE, "load": load}
    result = dw.audit(path, apply=tmp_path / "cleaned", run=tmp_path / "run", **options)
    assert len(result.p_wrong) == N  # of all the data
    cleaned, _ = dw.load(tmp_path / "cleaned")
    assert len(cleaned) == N - 1
    assert int(cleaned.labels[3]) == (int(train.labels[4]) + 1) % 10
    assert int((cleaned.labels != train.labels[torch.arange(N) != 3]).sum()) == 1
    again = dw.audit(tmp_path / "run", load=load, apply=tmp_path / "twice")
    assert len(again.p_wrong) == N
    assert dw.load(tmp_path / "twice")[0].labels.equal(cleaned.labels)
    # without apply the decided data are audited, as every verb reads them
    decided = dw.audit(path, run=tmp_path / "decided", **options)
    assert len(decided.p_wrong) == N - 1
    with pytest.raises(ArgumentError, match="`decisions=` needs `apply=`"):
        dw.audit(tmp_path / "run", load=load)
    with pytest.raises(ArgumentError, match="leave `limit=`, `decisions=` out"):
        dw.audit(tmp_path / "run", load=dw.LoadOptions(limit=9, decisions=tmp_path / "mine.csv"))


def test_what_cannot_be_cleaned_says_so():
    labels = [0, 1] * 20
    result = dw.audit(labels=labels, probs=[[0.9, 0.1], [0.1, 0.9]] * 20)
    with pytest.raises(ArgumentError, match="arrays alone"):
        result.apply()


def test_how_likely_each_label_is_wrong_is_in_a_file(tmp_path):
    train, _ = dw.load("digits", limit=200)
    run = tmp_path / "run"
    audit = dw.audit(train, run=run, epochs=12, model="mlp", recipe=dw.Recipe(precision="fp32", lr=0.05, batch=32))
    table = pq.read_table(run / "learning.parquet").to_pydict()
    assert table["id"] == [train.id_of(i) for i in range(len(train))]
    assert table["p_wrong"] == pytest.approx(audit.p_wrong.tolist(), abs=1e-6, nan_ok=True)
    assert set(table["suggested_label"]) <= {*train.classes, None}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 3}, "`seed=`"),
        ({"epochs": 5}, "`epochs=`"),
        ({"recipe": dw.Recipe(lr=0.3, batch=16)}, "`batch=`, `lr=`"),
    ],
)
def test_a_run_is_trained_already(tmp_path, options, message):
    train, _ = dw.load("digits", limit=60)
    recipe = dw.Recipe(precision="fp32")
    dw.record(train, epochs=2, model="mlp", recipe=recipe, run=tmp_path / "run")
    with pytest.raises(ArgumentError, match=message):
        dw.audit(tmp_path / "run", **options)
