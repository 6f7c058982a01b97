"""Keyword arguments that a function does not have: an error that says where they belong."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

from datawinnow.core.card import did_you_mean
from datawinnow.core.errors import ArgumentError

OPTION_CLASSES = {"load": ("LoadOptions", "how data are read"), "recipe": ("Recipe", "how a network is trained")}
"""Public dataclass of the options that a parameter takes, and what they are about."""


def check_keywords(function: Callable[..., Any], names: Iterable[str]) -> None:
    """Refuse keyword arguments that a public function does not have.

    Raises:
        ArgumentError: naming where the first of them belongs: a field of ``load=`` or ``recipe=``, an argument of
            `datawinnow.load`, or the parameter of the nearest name.
    """
    parameters = inspect.signature(function).parameters
    name = next((name for name in names if name not in parameters), None)
    if name is None or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    # the public names of this package, which is loaded already; looking one up may import torch, so only for the error
    package = sys.modules[__name__.partition(".")[0]]
    start = f"{function.__name__} has no parameter {name!r}"
    for parameter, (class_name, subject) in OPTION_CLASSES.items():
        if parameter in parameters and name in {field.name for field in fields(getattr(package, class_name))}:
            text = f"{start}: {subject} is given by {parameter}=dw.{class_name}({name}=...)"
            # of those a dataset object takes only its keys
            if parameter == "load" and name not in ("image", "label"):
                text += f", or for a dataset object by dw.load(data, {name}=...)"
            raise ArgumentError(text)
    if "load" in parameters and name in inspect.signature(package.load).parameters:
        raise ArgumentError(f"{start}: it is one of dw.load, whose splits are given here: dw.load(data, {name}=...)")
    names_there = list(parameters)
    raise ArgumentError(f"{start}.{did_you_mean(name, names_there)} Its parameters are: {', '.join(names_there)}")
