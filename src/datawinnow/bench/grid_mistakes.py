"""The mistakes in a grid's file in plain words: all of them, each with its key, its value and what there may be."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from datawinnow.core.card import did_you_mean
from datawinnow.core.errors import ArgumentError, DatawinnowError

SENTENCES = {
    "missing": "is missing",
    "string": "must be text in quotes",
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be true or false",
    "list": "must be a list, as [1, 2]",
    "tuple": "must be a list, as [1, 2]",
    "dict": "must be a table, as {{ key = value }}",
    "model": "must be a table, as {{ key = value }}",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "finite_number": "must be a finite number",
    "literal": "must be {expected}",
}
"""What pydantic found, by the start of its type of error."""
MAX_SHOWN = 60
"""Letters shown of a value."""


class Mistakes:
    """Mistakes as they are found, to be raised together."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    @contextmanager
    def collect(self, prefix: str = "") -> Iterator[None]:
        """Note an error of the block instead of raising it."""
        try:
            yield
        except DatawinnowError as error:
            self.sentences.append(f"{prefix}{error}")

    def raise_all(self, path: Path | str) -> None:
        """Raise an error about ``path`` with every mistake, each in a line, if there are any.

        Raises:
            ArgumentError: there are mistakes.
        """
        sentences = list(dict.fromkeys(self.sentences))
        if len(sentences) == 1:
            raise ArgumentError(f"{path}: {sentences[0]}")
        if sentences:
            lines = "".join(f"\n  {sentence}" for sentence in sentences)
            raise ArgumentError(f"{path} has {len(sentences)} mistakes:{lines}")


def unknown_key(section: str, name: object, names: Iterable[str]) -> str:
    """The sentence on a key that a section does not have.

    >>> unknown_key("data", "limt", ["source", "limit"])
    "[data] has no key 'limt'; its keys are: source, limit. Did you mean 'limit'?"
    """
    names = list(names)
    place = f"[{section}]" if section and "[" not in section else section or "the file"
    return f"{place} has no key {name!r}; its keys are: {', '.join(names)}.{did_you_mean(name, names)}"


def validation_mistakes(error: ValidationError, model: type[BaseModel], raw: Any) -> list[str]:
    """What pydantic found, a sentence each.

    Args:
        error: of ``model``.
        model: the model that was validated.
        raw: what it was validated from.
    """
    sentences = []
    for problem in error.errors(include_url=False, include_context=True):
        location, kind = problem["loc"], problem["type"]
        if kind == "extra_forbidden":
            keys = _fields_at(model, location[:-1])
            sentences.append(unknown_key(_key(location[:-1], raw), location[-1], keys))
            continue
        key = _key(location, raw)
        if kind in ("value_error", "assertion_error"):
            text = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
            sentences.append(f"{key}: {text}" if key else text)
            continue
        start = next((start for start in (kind, kind.split("_")[0]) if start in SENTENCES), None)
        text = problem["msg"] if start is None else SENTENCES[start].format(**problem.get("ctx", {}))
        value = "" if kind == "missing" else f", got {_shown(problem['input'])}"
        sentences.append(f"{key}: {text}{value}")
    return sentences


def _shown(value: Any) -> str:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _key(location: Sequence[int | str], raw: Any) -> str:
    """``train.epochs``, or ``[[method]] 'ucb': batch.keep`` where the key is in a table of an array of tables."""
    words, place = "", ""
    for step in location:
        name = None
        try:
            raw = raw[step]
            name = raw.get("name") if isinstance(raw, dict) else None
        except (KeyError, IndexError, TypeError):
            raw = None
        if isinstance(step, int) and isinstance(raw, dict):
            place = f"{place}[[{words}]] {name!r}: " if isinstance(name, str) else f"{place}[[{words}]] {step + 1}: "
            words = ""
        elif isinstance(step, int):
            words = f"{words}[{step}]"
        else:
            words = f"{words}.{step}" if words else step
    return f"{place}{words}" if words else place.removesuffix(": ")


def _fields_at(model: Any, location: Sequence[int | str]) -> list[str]:
    """The keys of the table at ``location``."""
    for step in location:
        if isinstance(step, int):
            continue
        model = _model_of(model.model_fields[step].annotation)
    return list(model.model_fields)


def _model_of(annotation: Any) -> Any:
    """The model in ``Model | None`` or ``list[Model]``."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list):
        models = [_model_of(each) for each in typing.get_args(annotation)]
        return next((each for each in models if each is not None), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
