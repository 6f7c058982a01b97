"""`datawinnow plan`: the advice, its files, and wrong arguments."""

import json

import pytest

QUICK = ("--model", "mlp", "--precision", "fp32", "--limit", "480", "--batch", "32", "--lr", "0.05", "--quiet")


def test_plan_prints_the_advice_and_the_pilots_and_writes_a_page(call, tmp_path):
    out = call("plan", "digits", "--epochs", 16, "--folds", 2, "--max-drop", 3, "--out", tmp_path, *QUICK).stdout
    content = json.loads((tmp_path / "plan.json").read_text())
    flat = " ".join(out.split())
    assert content["sentence"] in flat
    assert content["labels"] in flat
    assert flat.count("random examples examples") == 3
    page = (tmp_path / "report.html").read_text()
    assert content["sentence"] in page.replace("&#39;", "'")
    assert page.count("<svg") >= 2
    # the same page from the folder alone
    (tmp_path / "report.html").unlink()
    call("report", tmp_path)
    assert (tmp_path / "report.html").read_text() == page


def test_time_that_is_too_short_is_said(call, tmp_path):
    out = call("plan", "digits", "--epochs", 4, "--at-most", "0.01s", "--out", tmp_path, *QUICK).stdout
    assert "Nothing can be promised" in out
    assert "loses, points" not in out  # no table of nothing
    assert "--at-most" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--max-drop", "-1"), "--max-drop"),
        (("--at-most", "soon"), "--at-most must be a time"),
        (("--folds", "1"), "--folds"),
        (("--method", "nothing"), "nothing"),
    ],
)
def test_wrong_arguments_end_with_code_2(call, tmp_path, arguments, message):
    assert message in call("plan", "digits", "--out", tmp_path / "out", *arguments, *QUICK, code=2).stderr
    assert not (tmp_path / "out").exists()


def test_a_damaged_plan_is_an_error(call, tmp_path):
    call("plan", "digits", "--epochs", 4, "--at-most", "0.01s", "--out", tmp_path, *QUICK)
    path = tmp_path / "plan.json"
    content = json.loads(path.read_text())
    for damage in ({"routes": 3}, {"sentence": None}, {"full": [2.0]}, {"n": "many"}):
        path.write_text(json.dumps({**content, **damage}))
        assert next(iter(damage)) in call("report", tmp_path, code=2).stderr
