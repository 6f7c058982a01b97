"""`datawinnow train --record-plan` and `--policy replay`: written through a kill, checked, and trained on as it is."""

import json

import pytest

from datawinnow.core.selection_history import FILE_NAME, SelectionHistory
from datawinnow.runs import train as training

SMALL = ("--limit", "200", "--model", "mlp", "--precision", "fp32", "--batch", "32", "--threads", "1")
UCB = ("--policy", "ucb", "--keep", "0.5", "--policy-option", "period=1")
RECORD = ("train", "digits", *SMALL, *UCB, "--passes", "3", "--record-plan", "ucb.plan")
REPLAY = ("train", "digits", *SMALL, "--policy", "replay", "--plan", "ucb.plan")


def metadata(run):
    return json.loads((run / "run.json").read_text())


def passed(run):
    return metadata(run)["cost"]["train"]["backward"]


def epochs_of(log):
    return [log.ids(e).tolist() for e in range(len(log))]


@pytest.fixture
def order(monkeypatch):
    """What each training that is called passed, epoch by epoch, in its order."""
    runs, fit = [], training.fit

    def noted(*args, on_plan, **kwargs):
        runs.append([])

        def on(epoch, ids):
            runs[-1].append(ids.tolist())
            on_plan(epoch, ids)

        return fit(*args, on_plan=on, **kwargs)

    monkeypatch.setattr(training, "fit", noted)
    return runs


def test_a_plan_is_recorded_and_another_network_trains_on_it(call, tmp_path, order):
    result = call(*RECORD)
    assert "next: datawinnow train digits --policy replay --plan ucb.plan" in result.stderr
    log = SelectionHistory.load(tmp_path / "ucb.plan")
    assert epochs_of(log) == order[0]
    assert log.num_passed == passed(tmp_path / "runs/digits-ucb-0.5") == 600
    assert (log.cost, log.n) == (600, 200)
    assert log.fingerprint == metadata(tmp_path / "runs/digits-ucb-0.5")["dataset"]["fingerprint"]
    assert log.made_by.startswith("UCB(keep=0.5, period=1")
    assert log.made_by.endswith(" on mlp")
    assert not (tmp_path / "runs/digits-ucb-0.5/checkpoint").exists()
    result = call(*REPLAY, "--seed", "1", "--model-option", "width=24")
    assert "plan: 5 epochs, 600 examples, by UCB(keep=0.5, period=1" in result.stderr
    assert order[1] == order[0]
    run = tmp_path / "runs/digits-replay-seed1"
    assert passed(run) == 600
    assert metadata(run)["options"]["train"]["policy"].startswith("Replay(")


def test_a_killed_run_that_goes_on_writes_the_whole_plan(call, tmp_path, monkeypatch):
    call(*RECORD, "--quiet")
    before = (tmp_path / "ucb.plan").read_bytes()
    (tmp_path / "ucb.plan").unlink()
    on_epoch, again = training.Stage.on_epoch, (*RECORD, "--run", tmp_path / "killed", "--quiet")

    def killed(self, epoch, history):
        on_epoch(self, epoch, history)
        if epoch == 2:
            raise KeyboardInterrupt

    def late(*args, **kwargs):
        raise KeyboardInterrupt

    for name, stop in (
        ("on_epoch", killed),
        ("finish", late),
    ):  # in the middle; then between the last epoch and the end
        with monkeypatch.context() as patched:
            patched.setattr(training.Stage, name, stop)
            call(*again, code=130)
        assert (tmp_path / "ucb.plan").exists() == (name == "finish")
    call(*again)
    assert (tmp_path / "ucb.plan").read_bytes() == before
    assert not (tmp_path / "killed/checkpoint").exists()


def test_a_finished_run_knows_whether_its_plan_is_there(call, tmp_path):
    call(*RECORD, "--quiet")
    call(*RECORD, "--quiet")
    (tmp_path / "ucb.plan").unlink()
    stderr = call(*RECORD, "--quiet", code=2).stderr
    assert "is trained already, and its plan is not at ucb.plan: name the file that it was written to" in stderr
    without = [word for word in RECORD if word not in ("--record-plan", "ucb.plan")]
    assert "record_plan=a file, now it is record_plan=no file" in call(*without, "--quiet", code=2).stderr


def test_the_plan_of_a_selection_is_replayed_without_it(call, tmp_path, recorded, order):
    selected = ("train", "digits", "--select", recorded, "--model", "mlp", "--precision", "fp32", "--quiet")
    call(*selected, *UCB, "--epochs", "3", "--record-plan", "part.plan", "--run", "a")
    log = SelectionHistory.load(tmp_path / "part.plan")
    assert epochs_of(log) == order[0]
    assert log.n == metadata(tmp_path / "a")["dataset"]["n"] > len(set(log.index.tolist()))
    plain = ("train", "digits", "--policy", "replay", "--plan", "part.plan", "--model", "mlp", "--precision", "fp32")
    call(*plain, "--quiet", "--run", "b")
    assert order[1] == order[0]
    chosen = [SelectionHistory.load(tmp_path / run / FILE_NAME).masks for run in ("a", "b")]
    assert (chosen[0] == chosen[1]).all()
    assert "leave --select out" in call(*plain, "--select", recorded, "--quiet", code=2).stderr


def test_a_replay_may_end_earlier_or_begin_again(call, tmp_path, order):
    call(*RECORD, "--quiet")
    call(*REPLAY, "--epochs", "2", "--run", "short", "--quiet")
    assert order[1] == order[0][:2]
    call(*REPLAY, "--epochs", "7", "--policy-option", "after=cycle", "--run", "long", "--quiet")
    assert order[2] == [*order[0], *order[0][:2]]
    for name, message in (("--epochs", "6 is more than the plan's 5"), ("--passes", "3.5 is more than the plan's 3")):
        stderr = call(*REPLAY, name, message.split()[0], "--run", "x", "--quiet", code=2).stderr
        assert f"{name} {message}: leave it out" in stderr
        assert "--policy-option after=cycle" in stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--policy", "replay"), "--policy replay requires --plan FILE, a file written with: datawinnow train"),
        (("--plan", "p"), "--plan p requires --policy replay"),
        ((*UCB, "--plan", "p"), "--plan p requires --policy replay"),
        (("--record-plan", "p"), "--record-plan requires a policy, for example --policy ucb with --keep 0.7"),
        (("--policy", "replay", "--plan", "p", "--record-plan", "q"), "already reads its plan from a file"),
        (("--policy", "replay", "--plan", "p", "--keep", "0.5"), "replayed unchanged, so leave --keep out"),
        (("--policy", "replay", "--plan", "p", "--wrap", "guarded"), "so leave --wrap out"),
        (("--policy", "replay", "--plan", "p", "--policy-option", "period=1"), "so leave --policy-option out"),
    ],
)
def test_what_does_not_go_together_is_told_before_any_data_are_read(call, words, message):
    assert message in call("train", "no-such-data/", *words, "--quiet", code=2).stderr


def test_a_file_that_is_no_plan_is_told(call, tmp_path):
    stderr = call(*REPLAY, "--quiet", code=2).stderr
    assert "no such file: ucb.plan; record a plan with: datawinnow train DATA --policy ucb --keep 0.7" in stderr
    (tmp_path / "ucb.plan").write_bytes(b"text")
    assert "ucb.plan is truncated or damaged" in call(*REPLAY, "--quiet", code=2).stderr


def test_other_data_are_refused(call):
    call(*RECORD, "--quiet")
    other = [word if word != "200" else "100" for word in REPLAY]
    stderr = call(*other, "--quiet", code=2).stderr
    assert "the plan was made on the dataset with fingerprint" in stderr
    assert "load that dataset, as it was loaded then, or record a plan on this one" in stderr


def test_where_auto_chooses_all_the_data_there_is_no_plan(call, monkeypatch):
    import sys

    import datawinnow.dynamic  # noqa: F401

    monkeypatch.setattr(sys.modules["datawinnow.dynamic.auto"], "load_benchmarks", lambda: ())
    words = ("train", "digits", *SMALL, "--policy", "auto", "--record-plan", "p", "--quiet")
    assert "auto chose to train on all the data, so there is no plan to record" in call(*words, code=2).stderr


def test_from_python_a_plan_needs_a_policy(tmp_path):
    from datawinnow.core.errors import ArgumentError

    with pytest.raises(ArgumentError, match="record_plan requires a policy"):
        training.TrainSettings(record_plan=tmp_path / "plan")
