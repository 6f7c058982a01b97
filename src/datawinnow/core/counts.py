"""Counts with their nouns, for messages."""

from __future__ import annotations


def many(number: float, noun: str, plural: str = "") -> str:
    """A count with its noun; one decimal where it is not whole.

    Args:
        number: at least 0.
        noun: in the singular.
        plural: of the noun. Default: with an s.

    >>> many(1, "epoch"), many(1438, "example"), many(1.5, "epoch"), many(2, "class", "classes")
    ('1 epoch', '1,438 examples', '1.5 epochs', '2 classes')
    """
    shown = f"{number:,.1f}".removesuffix(".0")
    return f"{shown} {noun if shown == '1' else plural or f'{noun}s'}"
