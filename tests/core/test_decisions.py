"""The file of decisions: read strictly, written as it is read, suggested from issues."""

from __future__ import annotations

import pytest

from datawinnow.core.decisions import Decision, Decisions, read_decisions, suggested_decisions, write_decisions
from datawinnow.core.errors import DataError
from datawinnow.core.issues import Issue, IssueTable


def test_what_is_written_is_read_again(tmp_path):
    rows = (
        Decision("a,1.png", "train", "drop"),
        Decision('b "x".png', "train", "relabel:cat, small"),
        Decision("a,1.png", "test", "keep"),
    )
    write_decisions(tmp_path / "d.csv", rows, "f" * 16)
    decisions = read_decisions(tmp_path / "d.csv")
    assert decisions.rows == rows
    assert decisions.fingerprint == "f" * 16
    assert decisions.counts() == {"keep": 1, "drop": 1, "relabel": 1}
    assert rows[1].new_label == "cat, small"
    assert rows[0].new_label is None


def test_id_and_action_are_enough_and_other_columns_are_passed_over(tmp_path):
    # as Excel saves it: a byte order mark and \r\n
    (tmp_path / "d.csv").write_bytes("\ufeffnote,action,id\r\nsure,drop,7\r\n,relabel:b,8\r\n".encode())
    decisions = read_decisions(tmp_path / "d.csv")
    assert decisions.rows == (Decision("7", "train", "drop"), Decision("8", "train", "relabel:b"))
    assert decisions.fingerprint == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks id and action; it has nothing"),
        ("id,label\n1,2\n", "lacks action; it has id, label"),
        ("id,action\n1,remove\n", "line 2: an action is keep, drop or relabel:NAME, got 'remove' for '1'"),
        ("id,action\n1,relabel:\n", "line 2: an action"),
        ("id,action\n1,\n", "line 2: an action"),
        ("id,action\n1,look\n", "look decides nothing about '1'"),
        ("id,action\n,drop\n", "line 2 has no id"),
        ("id,action,split\n1,drop,validation\n", "split must be train or test, got 'validation'"),
        (
            "id,action\n1,drop\n2,keep\n1,keep\n",
            "two decisions for the train example '1': drop in line 2, keep in line 4",
        ),
        ("id,action\n1,drop\n1,drop\n", "two decisions"),
        ("id,action,fingerprint\n1,drop,aa\n2,drop,bb\n", "several datasets"),
        ('id,action\n"1,drop\n', "no CSV"),
    ],
)
def test_a_file_that_does_not_say_what_to_do_is_refused(tmp_path, text, message):
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(DataError) as error:
        read_decisions(tmp_path / "d.csv")
    assert message in str(error.value)


def test_no_file(tmp_path):
    with pytest.raises(DataError, match="no such file of decisions"):
        read_decisions(tmp_path / "d.csv")


def test_suggestions_leave_out_what_is_to_be_looked_at_and_drops_win():
    table = IssueTable.of(
        [
            Issue("label", 0, 0.9, "", action="relabel:b"),
            Issue("label", 1, 0.8, "", action="relabel:b"),
            Issue("label", 2, 0.6, "", action="look"),
            Issue("outlier", 1, 0.6, "", action="look"),
            Issue("duplicate", 1, 1.0, "", group=0, action="drop"),
            Issue("duplicate", 3, 1.0, "", group=0, action="keep"),
            Issue("leakage", 0, 1.0, "", split="test", group=1, action="keep"),
        ],
        ids={"train": ["a", "b", "c", "d"], "test": ["t"]},
    )
    decisions = suggested_decisions(table, "f")
    assert {(d.id, d.action) for d in decisions.rows} == {("a", "relabel:b"), ("b", "drop")}
    assert decisions == Decisions(decisions.rows, "f")
