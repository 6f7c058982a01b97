"""Messages below cli/ name options as Python spells them, in backticks; the command line shows its flags."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from datawinnow import api, report
from datawinnow.cli.app import VERB_NAMES
from datawinnow.cli.spelling import FLAGS, OPTION_NAMES, QUOTED, as_flags
from datawinnow.cli.verb import error_message
from datawinnow.core.errors import ArgumentError
from tests.cli.conftest import QUICK

for verb in VERB_NAMES:  # which declares its options
    importlib.import_module(f"datawinnow.cli.{verb}")
SOURCE = Path(__file__).parent.parent.parent / "src" / "datawinnow"
PYTHON_ONLY = {"test", "memory", "report", "on_broken", "at_once", "rows", "load"}
"""Parameters that messages name and no verb has as an option: they stay as they are."""
NO_FLAGS = {"core/provenance.py", "instruct/options.py"}
"""Arguments of git, and declarations of options."""


def messages(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every string that is no docstring, with ``x`` for what an f-string fills in."""
    tree = ast.parse(source)
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
    }
    inner = {id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(p.value) if isinstance(p, ast.Constant) else "'x'" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation | inner:
            yield node.lineno, node.value


def below_the_command_line() -> list[tuple[str, int, str]]:
    files = [f for f in SOURCE.rglob("*.py") if f.relative_to(SOURCE).parts[0] not in ("cli", "report")]
    return [(str(f.relative_to(SOURCE)), *message) for f in files for message in messages(f.read_text("utf-8"))]


def flags_in(text: str) -> list[str]:
    return re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)


def test_no_message_below_the_command_line_quotes_a_flag():
    quoted = [
        f"{file}:{line} {flag}"
        for file, line, text in below_the_command_line()
        if file not in NO_FLAGS and "``" not in text
        for flag in flags_in(text)
    ]
    assert not quoted, (
        f"name the option as Python spells it, `keep=0.5`; the command line turns it into a flag: {quoted}"
    )
    assert flags_in("give another --run folder") == ["--run"]


def test_options_and_calls_in_messages_exist():
    checked, unknown = 0, []
    for file, line, text in below_the_command_line():
        for match in QUOTED.finditer(text):
            checked += 1
            if match["name"] and match["name"] not in {*FLAGS, *OPTION_NAMES, *PYTHON_ONLY}:
                unknown.append(f"{file}:{line} {match[0]}")
            if match["verb"]:
                call = ast.parse(f"f{match['call']}", mode="eval").body
                parameters = inspect.signature(getattr(api, match["verb"])).parameters
                unknown += [f"{file}:{line} {k.arg}" for k in call.keywords if k.arg not in parameters]
    assert not unknown
    assert checked > 50


@pytest.mark.parametrize(
    ("python", "typed"),
    [
        ("give another `run=` folder", "give another --run folder"),
        ("`out='a b'` exists", "--out 'a b' exists"),
        ("leave them out with `on_broken='skip'`", "leave them out with --skip-broken"),
        ("`flip=False` or `flip=True`", "--no-flip or --flip"),
        ("`policy_options={'after': 'cycle', 'n': True}`", "--policy-option after=cycle --policy-option n=true"),
        (
            "make it with `dw.api.record(data, signals='kl_step')`.",
            "make it with: datawinnow record DATA --signals kl_step.",
        ),
        ("`dw.api.score('runs/a', scores='dual')`", "datawinnow score runs/a --score dual"),
        ("the method needs held-out data (`val=`)", "the method needs held-out data (val=)"),
        ("race needs a test split (`test=`)", "race needs a test split (--test)"),
        (r"`model='a:b\x1b[2J'`, `model_options={'a\n': '\x07'}`", "--model 'a:b?[2J', --model-option 'a?=?'"),
        ("a text with `backticks` and x=3", "a text with `backticks` and x=3"),
    ],
)
def test_the_command_line_shows_flags(python, typed):
    assert as_flags(python) == typed
    assert error_message(ArgumentError(python)) == typed


@pytest.fixture
def texts_and_vectors():
    """Vectors, and texts whose own words look like options."""
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    np.savez("vectors.npz", x=x, y=(x[:, 0] > x[:, 1]).astype(int))
    lines = [f"we say `keep=0.5` in <b>{i}</b>,{'no' if i % 2 else 'yes'}" for i in range(60)]
    Path("texts.csv").write_text("\n".join(["text,label", *lines]))


@pytest.mark.usefixtures("texts_and_vectors")
def test_pages_of_the_command_line_show_flags_and_those_of_python_parameters(call):
    call("prune", "vectors.npz", "--keep", "0.5", "--method", "el2n", *QUICK, "--run", "run")
    page = Path("run/report.html").read_text()
    assert "in the train split; --no-standardise leaves them as they are." in page
    assert "standardise=" not in page.lower()
    report.write("run", "python.html")
    assert "in the train split; `standardise=False` leaves them as they are." in Path("python.html").read_text()


@pytest.mark.usefixtures("texts_and_vectors")
def test_texts_of_the_user_are_not_respelled(call):
    call("prune", "texts.csv", "--keep", "0.5", "--method", "el2n", "--epochs", "1", "--quiet", "--run", "t")
    page = Path("t/report.html").read_text()
    assert "we say `keep=0.5` in &lt;b&gt;" in page
    assert "we say --keep" not in page
