"""The arguments that make a selection again, as its file or its run has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SCORE_SELECTORS = ("top", "bottom", "middle", "coverage", "beta", "d2", "boss")
"""Selectors whose name is appended to that of a score where the two were named by the user."""


def selection_arguments(selected: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `api.select`: ``keep`` with the method, or with the score and its selector; empty if unknown.

    Args:
        selected: what is stored of a selection; it may come from a damaged file.

    >>> selection_arguments({"keep": 0.5, "method": "k_center", "score": None})
    {'keep': 0.5, 'method': 'k_center'}
    >>> selection_arguments({"keep": 0.5, "method": "loss_top", "score": "loss", "seed": 3})
    {'keep': 0.5, 'score': 'loss', 'select_by': 'top', 'seed': 3}
    >>> selection_arguments({"keep": "much"})
    {}
    """
    keep, method, score, seed = (selected.get(name) for name in ("keep", "method", "score", "seed"))
    if isinstance(keep, bool) or not isinstance(keep, (int, float)) or not 0 < keep <= 1:
        return {}
    if not isinstance(method, str) or not re.fullmatch(r"[A-Za-z_]\w*", method):
        return {}
    arguments: dict[str, Any] = {"keep": keep}
    selector = method.removeprefix(f"{score}_")
    if selector != method and selector in SCORE_SELECTORS:
        arguments |= {"score": score, "select_by": selector}
        arguments |= {"per_class": True} if selected.get("per_class") is True else {}
    else:
        arguments["method"] = method
    if isinstance(seed, int) and not isinstance(seed, bool) and seed:
        arguments["seed"] = seed
    return arguments


def selection_call(selected: Mapping[str, Any]) -> str:
    """The call that makes a selection again, in backticks; without a number where none is known.

    >>> selection_call({"keep": 0.5, "method": "el2n", "score": "el2n"})
    "`dw.api.select(run, keep=0.5, method='el2n')`"
    >>> selection_call({})
    '`dw.api.select(run, keep=KEEP)`'
    """
    arguments = selection_arguments(selected)
    shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items()) or "keep=KEEP"
    return f"`dw.api.select(run, {shown})`"
