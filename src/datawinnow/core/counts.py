"""Nouns with their counts and articles, for messages."""

from __future__ import annotations

from typing import Any


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


def with_article(noun: str) -> str:
    """A noun with "a" or "an", by its first letter.

    >>> with_article("ItemDataset"), with_article("TensorDataset"), with_article("uint8 tensor")
    ('an ItemDataset', 'a TensorDataset', 'a uint8 tensor')
    """
    return f"{'an' if noun[:1].lower() in list('aeio') else 'a'} {noun}"


def a_type(value: Any) -> str:
    """The type of a value, with its article.

    >>> a_type([])
    'a list'
    """
    return with_article(type(value).__name__)
