"""`Option`: what the command line shows of a parameter beside its name, type, default and docstring."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """The declaration of an option, as ``Annotated[int, Option("N")]``; everything else follows from the parameter.

    The flag is the parameter's name, the help its entry in the docstring, and the default is shown unless it is empty.
    A ``bool`` becomes a switch, a ``dict`` a repeatable ``KEY=VALUE``, a sequence a repeatable option.

    Attributes:
        metavar: placeholder for the value.
        flags: other names than the parameter's.
        panel: part of the help page; by default ``PANEL`` of the dataclass.
        help: instead of the docstring's entry.
        min: smallest value.
        positional: whether it is an argument without a flag.
    """

    metavar: str | None = None
    flags: tuple[str, ...] = ()
    panel: str | None = None
    help: str = ""
    min: float | None = None
    positional: bool = False
