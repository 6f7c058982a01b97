"""What a user reads before anything runs."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from datawinnow import __version__, cli
from datawinnow.api import LoadOptions
from datawinnow.cli.app import VERBS as VERB_GROUPS
from datawinnow.cli.options import TrainingOptions
from datawinnow.train import Recipe

COMMANDS = typer.main.get_command(cli.app).commands
VERBS = (
    "demo",
    "prune",
    "record",
    "score",
    "select",
    "train",
    "condense",
    "audit",
    "race",
    "plan",
    "bench",
    "report",
    "methods",
    "estimate",
    "instruct",
)


def options_of(verb):
    """Flag -> parameter."""
    return {flag: p for p in COMMANDS[verb].params for flag in p.opts if flag.startswith("--")}


def test_every_verb_is_there_and_in_a_file_of_its_own():
    files = {file.stem for file in Path(cli.__file__).parent.glob("*.py")}
    assert set(COMMANDS) == set(VERBS)
    assert set(VERBS) <= files


@pytest.mark.parametrize("verb", VERBS)
def test_help_teaches_with_a_paragraph_and_an_example(call, verb):
    shown = call(verb, "--help").stdout
    assert re.search(rf"Examples?:\s+\$ datawinnow {verb}\b", shown), shown
    text = COMMANDS[verb].help.split("Example")[0]
    assert len(text.split()) > 12, "one paragraph at least"


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_has_a_help_text_and_says_its_default(verb):
    for flag, option in options_of(verb).items():
        if flag == "--help":
            continue
        assert option.help, f"{verb} {flag} has no help"
        if option.default is None and not option.required:
            optional = ("Default", "Only this", "Estimate training", "Instead of --method")
            assert any(word in option.help for word in optional), f"{verb} {flag} does not say its default"


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_only_flags_that_there_are(verb):
    flags = {flag for each in COMMANDS for p in COMMANDS[each].params for flag in (*p.opts, *p.secondary_opts)}
    texts = [COMMANDS[verb].help, *(parameter.help or "" for parameter in COMMANDS[verb].params)]
    mentioned = {flag for text in texts for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)}
    assert mentioned <= flags | {"--help"}


@pytest.mark.parametrize("group", [LoadOptions, TrainingOptions], ids=["loading", "training"])
def test_a_shared_option_is_the_same_in_every_verb(group):
    for field in dataclasses.fields(group):
        flag = {"model_options": "--model-option"}.get(field.name, "--" + field.name.replace("_", "-"))
        # of score and select, --model repeats the function that a run recorded with
        excluded = {"bench", "score", "select"} if flag.startswith("--model") else {"bench"}
        options = {verb: options_of(verb)[flag] for verb in VERBS if verb not in excluded and flag in options_of(verb)}
        assert {"prune", "record", "train", "estimate"} <= set(options), flag
        assert len({(p.help, str(p.default), p.metavar) for p in options.values()}) == 1, flag


def test_defaults_are_those_of_the_library():
    ours, theirs = TrainingOptions(), Recipe()
    for field in dataclasses.fields(TrainingOptions):
        if hasattr(theirs, field.name):
            assert getattr(ours, field.name) == getattr(theirs, field.name), field.name
    assert ours.recipe() == theirs


def test_data_help_lists_what_data_can_be(call):
    shown = call("prune", "--help").stdout
    for word in ("digits", "folder", ".parquet", ".npz", "hf:owner/name"):
        assert word in shown


def test_the_top_lists_every_verb(call):
    shown = call("--help").stdout
    for verb in VERBS:
        assert re.search(rf"\b{verb}\s+[A-Z]", shown), verb


def test_the_top_says_what_it_does_and_shows_three_commands(call):
    shown = " ".join(call("--help").stdout.split())
    assert "worth training on" in shown
    assert shown.count("$ datawinnow ") == 3
    assert "DATAWINNOW_CACHE" not in shown


def test_the_top_says_of_each_verb_what_its_help_says_first():
    for verbs in VERB_GROUPS.values():
        for verb, summary in verbs.items():
            assert COMMANDS[verb].help.split("\n\n")[0] == summary


@pytest.mark.parametrize(
    ("command", "heavy", "shown"),
    [
        ((), ("rich", "pydantic", "datawinnow.api", "datawinnow.cli.prune"), "prune"),
        (("prune",), ("torch", "numpy", "pyarrow", "sklearn", "datasets", "matplotlib"), "--keep"),
    ],
    ids=["the top imports no verb", "a verb does not wait for torch"],
)
def test_help_comes_at_once(command, heavy, shown):
    code = (
        f"import sys\nfrom datawinnow.cli import main\nsys.argv = {['datawinnow', *command, '--help']}\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"heavy = {set(heavy)} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


def test_version(call):
    assert call("--version").stdout == f"datawinnow {__version__}\n"


def test_no_verb_at_all_shows_the_help(call):
    result = call(code=2)
    assert "prune" in result.stdout + result.stderr
