"""What every verb shares: option groups, one way to fail, one way to stop."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import signal
import sys
import traceback as traceback_module
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, get_type_hints

import typer

from datawinnow.core.errors import DatawinnowError

INTERRUPTED, TERMINATED, WRONG = 130, 143, 2
"""Exit codes: Ctrl-C, SIGTERM, and what the user can put right."""

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
    """SIGTERM; like KeyboardInterrupt it is no `Exception`, so that nothing on the way takes it for a failure."""


def verb(*examples: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a verb: its dataclass parameters become options, its errors become exit codes.

    A parameter annotated with a dataclass (`Loading`, `Training`, ...) is replaced by its fields, so that an
    option is declared once and is the same in every verb. The docstring is the help; the examples stand below it.

    Args:
        examples: commands shown in the help.
    """

    def attach(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        groups: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}
        parameters = _flat(function, hints, groups)

        @functools.wraps(function)
        def run(**given: Any) -> None:
            traceback = bool(given.pop("traceback", False))
            built = {
                name: kind(**{f.name: given.pop(f.name) for f in dataclasses.fields(kind)})
                for name, kind in groups.items()
            }
            # a group may settle what it was not told by what another was
            settled = {
                name: group.beside(built) if hasattr(group, "beside") else group for name, group in built.items()
            }
            with told_plainly(traceback):
                function(**given, **settled)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__doc__ = _help(inspect.getdoc(function) or "", examples)
        del run.__wrapped__  # inspect would look through to the function
        return run

    return attach


def _flat(function: Callable[..., None], hints: dict[str, Any], groups: dict[str, Any]) -> list[inspect.Parameter]:
    flat: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name not in groups:
            flat.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name]))
            continue
        fields = get_type_hints(groups[parameter.name], include_extras=True)
        for field in dataclasses.fields(groups[parameter.name]):
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            flat.append(
                inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=fields[field.name]
                )
            )
    flat.append(inspect.Parameter("traceback", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Traceback))
    return flat


def _help(text: str, examples: tuple[str, ...]) -> str:
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    shown = ["Example:" if len(examples) == 1 else "Examples:", *(f"  $ {example}" for example in examples)]
    return "\n\n".join([*paragraphs, "\n".join(shown)])


@contextmanager
def told_plainly(traceback: bool = False) -> Iterator[None]:
    """Turn errors that a user can act on into a message and exit code 2, and an interruption into 130 or 143."""
    try:
        yield
    except KeyboardInterrupt:
        fail("interrupted; run the same command again to resume", INTERRUPTED)
    except Terminated:
        fail("terminated; run the same command again to resume", TERMINATED)
    except BrokenPipeError:
        raise
    except (DatawinnowError, OSError, MemoryError) as error:
        if traceback:
            traceback_module.print_exc()
        fail(f"error: {words_of(error)}", WRONG)
    except Exception as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported here
            raise
        if traceback:
            traceback_module.print_exc()
        fail(f"error: {words_of(error)}", WRONG)


def words_of(error: BaseException) -> str:
    """An error as a sentence that names the thing."""
    if isinstance(error, DatawinnowError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    text = str(error).split("\n")[0].strip()
    return f"out of memory{f' ({text})' if text else ''}; try a smaller --batch, --size or --limit"


def fail(message: str, code: int) -> None:
    """Say why on stderr and exit."""
    sys.stdout.flush()
    print(message, file=sys.stderr, flush=True)
    raise typer.Exit(code)


def terminate_cleanly() -> None:
    """Let SIGTERM unwind as Ctrl-C does, so that child processes end and half-written files go."""
    own = os.getpid()

    def handle(_number: int, _frame: Any) -> None:
        if os.getpid() != own:  # a forked DataLoader worker
            os._exit(TERMINATED)
        raise Terminated

    signal.signal(signal.SIGTERM, handle)
