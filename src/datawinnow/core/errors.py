"""Errors that a user can act on: each says what was wrong, with its value, and what to do."""

from __future__ import annotations


class DatawinnowError(Exception):
    """Base of every error raised on purpose; the command line prints it without a traceback and exits with 2."""


class ArgumentError(DatawinnowError, ValueError):
    """An argument has a wrong shape, type or value."""


class CapacityError(ArgumentError):
    """A selector cannot give as many examples as asked for.

    Attributes:
        capacity: the most that it can give.
    """

    def __init__(self, message: str, capacity: int) -> None:
        super().__init__(message)
        self.capacity = capacity


class DataError(DatawinnowError, ValueError):
    """A dataset cannot be read, or is not what it must be."""


class RunError(DatawinnowError, RuntimeError):
    """A run folder is missing, truncated, newer than this version, or of another dataset."""


class MissingArrayError(DatawinnowError, KeyError):
    """A method needs an array that nobody made."""

    def __str__(self) -> str:  # KeyError prints the repr of its argument, quotes and all
        return str(self.args[0]) if self.args else ""


class TrainingError(DatawinnowError, RuntimeError):
    """Training cannot go on, for example because the loss is no longer a number."""


class LearningWarning(UserWarning):
    """A network that what follows rests on is near chance; `warnings` can make it an error."""
