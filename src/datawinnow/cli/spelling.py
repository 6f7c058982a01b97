"""Messages name options as Python spells them, in backticks; the command line shows them as its flags.

Errors, notes and logs below ``cli/`` are written once, for Python: "give another `run=` folder", "with `keep=0.5`",
"make it with `dw.api.score(run, scores='dual')`". What the command line prints goes through `as_flags`.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
from typing import Any

FLAGS: dict[str, str] = {"select_by": "--select"}
"""Parameter -> flag, of every option; filled by `datawinnow.cli.verb` as the verbs are declared."""
OPTION_NAMES = {"at": "sparse_at", "form": "attention_form", "size_schedule": "progressive_resizing"}
"""Parameter -> option of another name: those of `datawinnow.vit.sparsify` and of a recipe, which the options say
more about."""
FLAGS_OF_VALUES = {("on_broken", "skip"): "--skip-broken"}
"""Flags that stand for one value of a parameter with another name."""
QUOTED = re.compile(r"`(?:dw\.(?:api\.)?(?P<verb>[a-z_]+)(?P<call>\([^`]*\))|(?P<name>[a-z_]+)=(?P<value>[^`]*))`")


def as_flags(text: str) -> str:
    """A message with the options and calls in backticks as they are typed.

    A parameter that is no option anywhere stays as Python spells it.

    >>> FLAGS.update(keep="--keep", flip="--flip", scores="--score")
    >>> as_flags("give `keep=` or `keep=0.5`, `flip=False`, `on_broken='skip'`")
    'give --keep or --keep 0.5, --no-flip, --skip-broken'
    >>> as_flags("make it with `dw.api.score(run, scores='dual')`; `workers=2`")
    'make it with: datawinnow score RUN --score dual; workers=2'
    """
    text = re.sub(r"with (`dw\.)", r"with: \1", text)
    return QUOTED.sub(_typed, text)


def _typed(match: re.Match[str]) -> str:
    if match["verb"]:
        try:
            call = ast.parse(f"f{match['call']}", mode="eval").body
        except SyntaxError:
            return match[0]
        assert isinstance(call, ast.Call)
        words = [_value_text(argument) for argument in call.args]
        words += [_flag_with_value(str(keyword.arg), keyword.value) for keyword in call.keywords]
        return " ".join(["datawinnow", match["verb"], *words])
    if not match["value"]:
        return FLAGS.get(OPTION_NAMES.get(match["name"], match["name"]), f"{match['name']}=")
    try:
        return _flag_with_value(match["name"], ast.parse(match["value"], mode="eval").body)
    except SyntaxError:
        return f"{FLAGS.get(match['name'], match['name'] + '=')} {match['value']}"


def _flag_with_value(name: str, node: ast.expr) -> str:
    try:
        value: Any = ast.literal_eval(node)
    except ValueError:  # a placeholder such as FILE
        value = ...
    if isinstance(value, str) and (name, value) in FLAGS_OF_VALUES:
        return FLAGS_OF_VALUES[name, value]
    if name not in FLAGS and f"no_{name}" not in FLAGS:
        return f"{name}={ast.unparse(node)}"
    flag = FLAGS.get(name, f"--{name.replace('_', '-')}")
    if isinstance(value, bool):
        return flag if value else f"--no-{flag[2:]}"
    if isinstance(value, dict):
        return " ".join(f"{flag} {_quoted(f'{key}={_plain(item)}')}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(f"{flag} {_quoted(_plain(item))}" for item in value)
    return f"{flag} {_value_text(node)}"


def _value_text(node: ast.expr) -> str:
    try:
        return _quoted(_plain(ast.literal_eval(node)))
    except ValueError:
        return ast.unparse(node).upper()


def _quoted(text: str) -> str:
    """``text`` quoted for a shell; what a file says may hold codes that steer a terminal, so these are a ``?``."""
    return shlex.quote("".join(letter if letter.isprintable() else "?" for letter in text))


def _plain(value: Any) -> str:
    """A value as `datawinnow.cli.verb.parse_pairs` reads it."""
    return value if isinstance(value, str) else "..." if value is ... else json.dumps(value, default=str)
