"""What the command line can do, Python can: every option is a parameter of `datawinnow.api`, with the same default."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import typer

from datawinnow import api, cli
from datawinnow.condense import Judging
from datawinnow.core.policy_names import POLICY_NAMES
from datawinnow.dynamic.build import policies_by_name
from datawinnow.instruct.options import ChoiceOptions, IndicatorOptions, JudgeOptions, PairFields
from datawinnow.train import Recipe
from datawinnow.vit import SparseLevels

COMMANDS = typer.main.get_command(cli.app).commands
DATACLASSES = {
    "recipe": Recipe,
    "load": api.LoadOptions,
    "judging": Judging,
    "levels": SparseLevels,
    "choice": ChoiceOptions,
    "indicators": IndicatorOptions,
    "judge": JudgeOptions,
    "fields": PairFields,
}
"""Parameters that are dataclasses, whose fields are the options."""
CONSOLE = {"quiet", "traceback", "help", "table", "markdown"}
"""Options about what is printed."""
RENAMED = {
    "data": "train",
    "select": "select_by",
    "no_report": "report",
    "progressive_resizing": "size_schedule",
    "view": "size_schedule",
    "judge_epochs": "epochs",
    "sparse_at": "at",
    "attention_form": "form",
}
"""Option -> parameter, where they differ: the command line has one namespace for all dataclasses."""
OTHER_DEFAULTS = {"view", "until_stable", "levels", "keep_tokens", "keep_attention", "sparse_at", "attention_form"}
"""Options of another type than the parameter."""


def parameters_of(verb):
    """Parameter or field -> default, of the Python function."""
    defaults = {}
    for name, parameter in inspect.signature(getattr(api, verb)).parameters.items():
        defaults[name] = parameter.default
        for field in dataclasses.fields(DATACLASSES[name]) if name in DATACLASSES else ():
            has_factory = field.default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING
            defaults.setdefault(field.name, field.default_factory() if has_factory else field.default)
    return defaults


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_option_is_a_parameter_with_the_same_default(verb):
    parameters = parameters_of(verb)
    for option in COMMANDS[verb].params:
        if option.name in CONSOLE or (option.name == "threads" and "threads" not in parameters):
            continue  # elsewhere --threads is torch.set_num_threads
        name = option.name if option.name in parameters else RENAMED.get(option.name, option.name)
        assert name in parameters, f"api.{verb} has no parameter for {option.opts[0]}"
        default = parameters[name]
        if option.required or option.name in OTHER_DEFAULTS or option.name == "no_report":
            continue
        if default in (inspect.Parameter.empty, dataclasses.MISSING):
            pytest.fail(f"api.{verb}: {name} is required, but {option.opts[0]} is not")
        # None, zero and empty values stand for the default of the other side
        assert str(option.default or None) == str(default or None), option.opts[0]


def test_help_lists_the_policies_of_the_registry():
    assert set(POLICY_NAMES) == set(policies_by_name())
