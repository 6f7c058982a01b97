"""Bars for people, lines for logs, nothing for the quiet."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from datawinnow import api
from datawinnow.cli import ui
from datawinnow.cli.ui import Screen, columns
from datawinnow.core import bars
from datawinnow.core.bars import Bars, Lines


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [0.0]
    monkeypatch.setattr(bars.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_every_ten_seconds_and_one_at_the_end(clock, capsys):
    lines = Lines("")
    for second in range(26):
        clock[0] = float(second)
        lines("training", second, 50)
    lines("training", 50, 50)
    lines.close()
    shown = capsys.readouterr().err.splitlines()
    assert shown == [
        "training: 20% (10 of 50) in 10 s, about 40 s left",
        "training: 40% (20 of 50) in 20 s, about 30 s left",
        "training: done in 25 s",
    ]


def test_the_time_left_does_not_count_what_an_earlier_run_did(clock, capsys):
    lines = Lines("")
    lines("training", 30, 50)  # resumed
    clock[0] = 10.0
    lines("training", 40, 50)
    assert "about 10 s left" in capsys.readouterr().err


def test_new_work_closes_the_line_of_the_old(clock, capsys):
    lines = Lines("")
    lines("one", 5, 10)
    lines("two", 1, 2)
    clock[0] = 3.0
    lines("two", 2, 2)
    lines.close()
    assert capsys.readouterr().err.splitlines() == ["one: 5 of 10 done in 0.0 s", "two: done in 3.0 s"]


def test_the_time_of_a_stage_ends_with_its_last_step(clock, capsys):
    lines = Lines("")
    lines("decoding", 0, 10)
    clock[0] = 2.0
    lines("decoding", 10, 10)
    clock[0] = 9.0  # trial steps of the arithmetic, say, which have no bar
    lines("recording", 0, 4)
    clock[0] = 12.0
    lines.close()
    assert capsys.readouterr().err.splitlines() == ["decoding: done in 2.0 s", "recording: 0 of 4 done in 3.0 s"]


def test_a_terminal_gets_a_bar_with_the_name_of_the_stage():
    file = io.StringIO()
    with Bars("recording", Console(file=file, force_terminal=True, width=100)) as shown_bars:
        shown_bars("training", 1, 4)
        shown_bars("training", 4, 4)
    shown = file.getvalue()
    assert "recording" in shown
    assert "100%" in shown
    assert "training" not in shown


def test_quiet_shows_results_only(capsys):
    screen = Screen(quiet=True)
    screen.note("chosen")
    with screen.stage() as stage:
        stage("training", 1, 1)
    screen.print("result")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("result\n", "")


def test_a_note_is_shown_as_it_is(capsys):
    Screen().note("data: [bold]x[/bold] in /a/very/long/path/" + "x" * 200)
    shown = capsys.readouterr().err
    assert shown == "data: [bold]x[/bold] in /a/very/long/path/" + "x" * 200 + "\n"


def test_the_next_command_can_be_pasted(capsys):
    Screen().next("train", "my images", "--epochs", "3")
    assert capsys.readouterr().err == "next: datawinnow train 'my images' --epochs 3\n"


def test_tables():
    assert columns(["a", "bb"], [["xxx", "y"]]) == "a    bb\n---  --\nxxx  y"
    assert columns(["a", "b"], [["x|z", "y"]], markdown=True) == "| a | b |\n| --- | --- |\n| x\\|z | y |"


def test_a_table_wraps_between_words_to_the_width():
    table = columns(["a", "bb", "rest"], [["xxx", "y z", "one=1, two=2"]], width=16)
    assert table.splitlines() == ["a    bb   rest", "---  ---  ------", "xxx  y z  one=1,", "          two=2"]


def test_a_table_leaves_out_its_optional_column_where_words_do_not_fit():
    line = ["xxx", "y z", "one=1, two=2"]
    assert columns(["a", "bb", "rest"], [line], width=12, optional="rest") == columns(["a", "bb"], [line[:2]])


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_table_of_methods_fits_the_terminal(call, monkeypatch, width):
    piped = call("methods").stdout
    assert max(map(len, piped.splitlines())) > 200, "nothing is cut in a pipe"
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(ui, "terminal_width", lambda: ui.shutil.get_terminal_size().columns)
    lines = call("methods").stdout.splitlines()
    assert max(map(len, lines)) <= width
    starts = {line.split(" ")[0] for line in lines}
    assert {entry.key for entry in api.methods()} <= starts
