"""What every verb shares: options made from signatures and docstrings, exit codes, and a clean stop."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import os
import re
import signal
import sys
import traceback as traceback_module
import types
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from datawinnow.cli.spelling import FLAGS, as_flags
from datawinnow.core.budget import parse_fraction, parse_percentages
from datawinnow.core.changing_keep import constant_or_changing
from datawinnow.core.errors import ArgumentError, DatawinnowError, LearningWarning
from datawinnow.core.option_spelling import options_spelled_by
from datawinnow.core.options import Option

INTERRUPTED, TERMINATED, USER_ERROR = 130, 143, 2
"""Exit codes: Ctrl-C, SIGTERM, and an error that the user can correct."""


Traceback = Annotated[
    bool,
    typer.Option(
        "--traceback",
        envvar="DATAWINNOW_TRACEBACK",
        show_envvar=True,
        help="Show Python's traceback below an error's message.",
        rich_help_panel="Output",
        show_default=False,
    ),
]


class Terminated(BaseException):
    """SIGTERM; a `BaseException` like KeyboardInterrupt, so that no ``except Exception`` takes it for a failure."""


def verb(*examples: str, docs: Any = None, file: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a verb: its parameters become options, its errors exit codes.

    A parameter annotated with a dataclass (`LoadOptions`, `TrainingOptions`, ...) is replaced by the dataclass's
    fields, so that an option is declared once and is the same in every verb. The text of the docstring is the help of
    the verb, with the examples below it. The help of an option is its entry under ``Args:`` or ``Attributes:`` in the
    docstring of the function, of the dataclass or of ``docs``.

    Args:
        examples: commands shown in the help.
        docs: the Python function that does the same, whose docstring describes parameters of the same names.
        file: shown below the examples as it stands: what a file that the verb reads may look like.
    """

    def attach(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        groups: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}
        parameters, key_value_flags = _options_of(function, hints, groups, docs)

        @functools.wraps(function)
        def run(**values: Any) -> None:
            traceback = bool(values.pop("traceback", False))
            with report_errors(traceback), plain_warnings(), options_spelled_by(as_flags):
                for name, flag in key_value_flags.items():
                    values[name] = parse_pairs(values[name], flag)
                options = {
                    name: kind(**{field.name: values.pop(field.name) for field in dataclasses.fields(kind)})
                    for name, kind in groups.items()
                }
                function(**values, **options)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        text = inspect.getdoc(function) or ""
        run.__doc__ = _help_page(re.split(r"\n\n(?:Args|Raises|Returns):\n", text)[0], examples, file)
        del run.__wrapped__  # inspect would use the function's signature
        return run

    return attach


def _options_of(
    function: Callable[..., None], hints: Mapping[str, Any], groups: Mapping[str, Any], docs: Any
) -> tuple[list[inspect.Parameter], dict[str, str]]:
    """The parameters for typer, and the flag of each that takes ``KEY=VALUE``."""
    texts = {**parameter_docs(docs), **parameter_docs(function)}
    parameters: list[inspect.Parameter] = []
    key_value_flags: dict[str, str] = {}

    def add(name: str, annotation: Any, default: Any, text: str, panel: str | None) -> None:
        annotation, default, flag = _to_typer(name, annotation, default, text, panel)
        if flag is not None:
            key_value_flags[name] = flag
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        )

    for parameter in inspect.signature(function).parameters.values():
        group = groups.get(parameter.name)
        if group is None:
            add(parameter.name, hints[parameter.name], parameter.default, texts.get(parameter.name, ""), None)
            continue
        fields, group_texts = get_type_hints(group, include_extras=True), parameter_docs(group)
        for field in dataclasses.fields(group):
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            text = group_texts.get(field.name, "")
            add(field.name, fields[field.name], default, text, getattr(group, "PANEL", None))
    parameters.append(
        inspect.Parameter("traceback", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Traceback)
    )
    return parameters, key_value_flags


def _to_typer(name: str, annotation: Any, default: Any, text: str, panel: str | None) -> tuple[Any, Any, str | None]:
    """Annotation and default for typer, and the flag of an option that takes ``KEY=VALUE``."""
    kind, *extras = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    declared = next((extra for extra in extras if isinstance(extra, Option)), Option())
    bare = _without_none(kind)
    is_dict, is_sequence = get_origin(bare) in (dict, Mapping), get_origin(bare) in (list, tuple, Sequence)
    flag = "--" + name.replace("_", "-")
    flags = declared.flags or (flag,)
    if is_dict or is_sequence:
        kind, default = list[str], default if default is inspect.Parameter.empty else list(default or ())
    elif bare is bool and kind is not bool:  # None stands for a default that depends on the data
        flags = declared.flags or (f"{flag}/--no-{flag[2:]}",)
    if not declared.positional:
        FLAGS.setdefault(name, flags[0].split("/")[0])
    shown: dict[str, Any] = {
        "help": declared.help or _help_text(text),
        "metavar": declared.metavar or ("KEY=VALUE" if is_dict else None),
        "rich_help_panel": declared.panel or panel,
        # not `in`: 0 equals False, but is shown
        "show_default": not (
            default is None or default is False or default is inspect.Parameter.empty or default in ("", [])
        ),
        "min": declared.min,
    }
    if declared.metavar in PARSERS:
        shown["parser"] = PARSERS[declared.metavar]
    assert shown["help"], f"{name} has no help: describe it in the docstring"
    info = typer.Argument(**shown) if declared.positional else typer.Option(*flags, **shown)
    return Annotated[kind, info], default, flags[0] if is_dict else None


def _parse_fraction(text: str | float) -> float:
    try:
        return parse_fraction(text)
    except ArgumentError as error:
        raise typer.BadParameter(str(error)) from None


def _parse_keep(text: str | float) -> float | str | None:
    try:
        return constant_or_changing(text)
    except ArgumentError as error:
        raise typer.BadParameter(str(error)) from None


PARSERS = {"FRACTION": _parse_fraction, "KEEP": _parse_keep}
"""By metavar: what reads the text of an option."""


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (typing.Union, types.UnionType):
        members = [member for member in get_args(kind) if member is not type(None)]
        return members[0] if len(members) == 1 else kind
    return kind


def parameter_docs(documented: Any) -> dict[str, str]:
    """Name -> text of the entries under ``Args:`` and ``Attributes:`` in a docstring.

    >>> parameter_docs(parse_pairs)
    {}
    >>> parameter_docs(Option)["min"]
    'smallest value.'
    """
    texts: dict[str, str] = {}
    if isinstance(documented, type):  # a field may be described in a base class
        for base in documented.__mro__[:0:-1]:
            texts |= parameter_docs(base) if dataclasses.is_dataclass(base) else {}
    name = None
    for line in _section_lines(inspect.getdoc(documented) or "" if documented is not None else ""):
        entry = re.match(r" {4}(\w+): (.*)", line)
        if entry:
            name = entry[1]
            texts[name] = entry[2].strip()
        elif name is not None:
            texts[name] += " " + line.strip()
    return texts


def _section_lines(text: str) -> Iterator[str]:
    inside = False
    for line in text.split("\n"):
        if not line.startswith(" ") and line.strip():
            inside = line.strip() in ("Args:", "Attributes:")
        elif inside and line.strip():
            yield line


def _help_text(text: str) -> str:
    """A docstring's entry as help: parameters by their flags, values without quotes, first letter a capital.

    >>> _help_text("``schedule_epochs``, or ``epochs`` with ``\\"fp32\\"``.")
    '--schedule-epochs, or --epochs with fp32.'
    """
    text = re.sub(r"``([a-z_]+)``", lambda match: "--" + match[1].replace("_", "-"), text)
    text = re.sub(r'``"?(.*?)"?``', r"\1", text).replace("`", "")
    return text[:1].upper() + text[1:]


def _help_page(text: str, examples: tuple[str, ...], file: str) -> str:
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    lines = ["Example:" if len(examples) == 1 else "Examples:", *(f"  $ {example}" for example in examples)]
    # a space keeps an empty line out of the paragraphs; rich takes [data] for a style where it is not escaped
    lines += [line.replace("[", "\\[") or " " for line in file.splitlines()]
    return "\n\n".join([*paragraphs, "\n".join(lines)])


def parse_pairs(texts: Sequence[str], flag: str) -> dict[str, Any]:
    """``["width=32", "norm=batch"]`` as ``{"width": 32, "norm": "batch"}``.

    A value is a number, true, false, null or a list as in JSON, a percentage, and text otherwise.

    Raises:
        ArgumentError: no ``=``, or a key twice.

    >>> parse_pairs(["width=32", "norm=batch", "c_d=5.5"], "--option")
    {'width': 32, 'norm': 'batch', 'c_d': 5.5}
    """
    values: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise ArgumentError(f"{flag} must be KEY=VALUE, for example {flag} width=32, got {text!r}")
        if key in values:
            raise ArgumentError(f"{flag} gives {key!r} twice: {values[key]!r} and {value!r}")
        try:
            values[key] = json.loads(value)
        except json.JSONDecodeError:
            values[key] = {"True": True, "False": False, "None": None}.get(value, value)
    return parse_percentages(values)


@contextmanager
def report_errors(traceback: bool = False) -> Iterator[None]:
    """Turn errors that a user can act on into a message and exit code 2, and an interruption into 130 or 143."""
    try:
        yield
    except KeyboardInterrupt:
        fail("interrupted; run the same command again to resume", INTERRUPTED)
    except Terminated:
        fail("terminated; run the same command again to resume", TERMINATED)
    except BrokenPipeError:
        raise
    except Exception as error:
        out_of_memory = type(error).__name__ == "OutOfMemoryError"  # PyTorch's, which is not imported here
        if not out_of_memory and not isinstance(error, (DatawinnowError, OSError, MemoryError)):
            raise
        if traceback:
            traceback_module.print_exc()
        fail(f"error: {error_message(error)}", USER_ERROR)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show a `LearningWarning` as one line on stderr, once, whatever is quiet; other warnings as Python does."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", LearningWarning)
        show_default = warnings.showwarning

        def show(message: Any, category: type[Warning], *place: Any, **file: Any) -> None:
            if issubclass(category, LearningWarning):
                print(f"warning: {as_flags(str(message))}", file=sys.stderr, flush=True)
            else:
                show_default(message, category, *place, **file)

        warnings.showwarning = show
        yield


def error_message(error: BaseException) -> str:
    """An error as one sentence, with the file or the shortage that it is about."""
    if isinstance(error, DatawinnowError):
        return as_flags(str(error))
    if isinstance(error, OSError):
        file = f"{error.filename}: " if error.filename else ""
        return f"{file}{error.strerror or error}"
    text = str(error).split("\n")[0].strip()
    return f"out of memory{f' ({text})' if text else ''}; try a smaller --batch, --size or --limit"


def fail(message: str, code: int) -> None:
    """Print why on stderr and exit."""
    sys.stdout.flush()
    print(message, file=sys.stderr, flush=True)
    raise typer.Exit(code)


def terminate_cleanly() -> None:
    """Let SIGTERM unwind as Ctrl-C does, so that child processes end and half-written files are removed."""
    main_process = os.getpid()

    def handle(_number: int, _frame: Any) -> None:
        if os.getpid() != main_process:  # a forked DataLoader worker
            os._exit(TERMINATED)
        raise Terminated

    signal.signal(signal.SIGTERM, handle)
