"""`methods`: the methods, scores, selectors, policies and the rest, from their cards."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from datawinnow.core.card import unknown_name

if TYPE_CHECKING:
    from datawinnow.methods import Method

Kind = Literal["method", "score", "selector", "policy", "batch-selector", "condenser", "scenario"]


@dataclass(frozen=True)
class MethodEntry:
    """What the list of methods shows of one.

    Attributes:
        kind: ``"method"`` (a score with a selector), ``"score"``, ``"selector"``, ``"policy"``, ``"batch selector"``,
            ``"condenser"`` or ``"scenario"``.
        key: its name in options and functions.
        label: its name in tables and plots.
        needs: arrays that it reads.
        options: options with their defaults.
        keeps: end of the ranking that is kept; ``"-"`` where there is no ranking.
        cost: what it costs; of a method its score and selector.
        source: the paper.
        description: the docstring; empty for a method.
    """

    kind: str
    key: str
    label: str
    needs: str
    options: str
    keeps: str
    cost: str
    source: str
    description: str = ""


def methods(name: str | None = None, *, kind: Kind | None = None) -> list[MethodEntry]:
    """List every method, score, selector, policy, batch selector, condenser and scenario.

    Args:
        name: only this one. A name may stand for several of different kinds.
        kind: only this kind.

    Raises:
        ArgumentError: an unknown name.

    >>> [entry.label for entry in methods("el2n", kind="score")]
    ['EL2N']
    """
    from datawinnow import condense, dynamic, scenarios, scores, select
    from datawinnow.methods import METHODS

    entries = [_entry_of_method(method) for method in METHODS.values()]
    for registry in (
        scores.METHODS,
        select.METHODS,
        dynamic.POLICIES,
        dynamic.BATCH_SELECTORS,
        condense.METHODS,
        scenarios.METHODS,
    ):
        entries += [_entry_of_card(function) for function in registry.values()]
    entries = [entry for entry in entries if kind is None or entry.kind == kind.replace("-", " ")]
    if name is None:
        return entries
    key = name.replace("-", "_").replace("+", "_").lower()
    matching = [entry for entry in entries if entry.key == key]
    if not matching:
        raise unknown_name("method", name, [entry.key for entry in entries])
    return matching


def _entry_of_method(method: Method) -> MethodEntry:
    score, selector = method.score_card, method.selector_card
    # the end of the ranking is the score's
    selector_options = {key: value for key, value in selector.options.items() if key != "end" or score is None}
    options = {**(score.options if score else {}), **selector_options, **method.score_options, **method.options}
    at_half = method.at(0.5)
    for key in {**at_half.options, **at_half.score_options}:
        if key in options and key not in (*method.options, *method.score_options):
            options[key] = "by keep"
    if method.cutoff:
        options["cutoff"] = "by keep" if callable(method.cutoff) else method.cutoff
    composition = f"{score.key} + {selector.key}" if score else selector.key
    return MethodEntry(
        kind="method",
        key=method.key,
        label=method.label,
        needs=", ".join(method.needs) or "nothing",
        options=_format_options(options),
        keeps=score.end if score is not None and score.end else "-",
        cost=composition + (", in every class" if method.per_class else ""),
        source="; ".join(card.source for card in (score, selector) if card is not None),
    )


def _entry_of_card(function: Callable[..., Any]) -> MethodEntry:
    from datawinnow.core.card import card_of
    from datawinnow.probe import array_options

    card = card_of(function)
    probe_options = array_options(*card.needs) if card.kind == "score" else ()
    options = [f"{key} (required)" for key in card.takes if card.kind == "policy"]
    if card.options or not (probe_options or card.takes):
        options.append(_format_options(card.options))
    options += [f"{key} (of the probe)" for key in probe_options]
    return MethodEntry(
        kind=card.kind,
        key=card.key,
        label=card.name,
        needs=", ".join([*card.needs, *(f"{need} (optional)" for need in card.optional_needs)]) or "nothing",
        options=", ".join(options),
        keeps=card.end or "-",
        cost=card.cost,
        source=card.source,
        description=inspect.getdoc(function) or "",
    )


def _format_options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items()) or "none"
