"""Methods as people name them: a score and a selector, put together by their cards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from datawinnow import scores, select
from datawinnow.core.arrays import TABLE, take
from datawinnow.core.card import Card, card_of, check_options, resolve
from datawinnow.core.errors import ArgumentError
from datawinnow.core.selection import Selection


@dataclass(frozen=True)
class Method:
    """A static pruning method: what to score by and how to select.

    Attributes:
        key: name on the command line and in files.
        label: name for people.
        score: name of a score, or a callable; None if the selector needs none.
        selector: name of a selector, or a callable.
        score_options: keyword arguments of the score.
        options: keyword arguments of the selector.
        options_at: more of them, a function of the fraction kept (published settings by pruning rate).
        per_class: whether the budget is split over the classes.
    """

    key: str
    label: str
    score: str | Callable[..., Tensor] | None
    selector: str | Callable[..., Selection]
    score_options: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    options_at: Callable[[float], dict[str, Any]] | None = None
    per_class: bool = False


def ccs_cutoff(keep: float) -> dict[str, Any]:
    """Hard cutoff of CCS on CIFAR-10 by fraction kept (static.md 4.1), from the nearest published pruning rate."""
    published = {0.7: 0.0, 0.5: 0.0, 0.3: 0.1, 0.2: 0.1, 0.1: 0.3}
    nearest = min(published, key=lambda k: abs(k - keep))
    return {"cutoff": min(published[nearest], max(0.0, 1 - keep)), "end": "low"}


METHODS: dict[str, Method] = {
    m.key: m
    for m in (
        Method("random", "random", None, "random"),
        Method("dual_beta", "DUAL+Beta", "dual", "beta"),
        Method("dual", "DUAL", "dual", "top"),
        Method("dyn_unc", "Dyn-Unc", "dyn_unc", "top"),
        Method("forgetting", "forgetting", "forgetting", "top"),
        Method("el2n", "EL2N", "el2n", "top"),
        Method("aum", "AUM", "aum", "top"),
        Method("entropy", "entropy", "entropy", "top"),
        Method("ccs", "CCS", "aum", "coverage", options_at=ccs_cutoff),
    )
}


def method_of(
    what: str | Method | None,
    *,
    score: Any = None,
    select_by: Any = None,
    options: Mapping[str, Any] | None = None,
    score_options: Mapping[str, Any] | None = None,
    per_class: bool = False,
) -> Method:
    """A method by name, or put together from a score and a selector, with options checked against their cards.

    Args:
        what: a name in `METHODS`, a `Method`, or None to put one together.
        score: with ``what=None``: a score's name or a callable.
        select_by: with ``what=None``: a selector's name or a callable; unless told, Beta sampling for DUAL and top for
            others.
        options: of the selector.
        score_options: of the score.
        per_class: split the budget over the classes.

    Raises:
        ArgumentError: unknown names or options, parts given beside a method, or a selector without the score it needs.
    """
    if what is not None:
        if score is not None or select_by is not None:
            key = what.key if isinstance(what, Method) else what
            raise ArgumentError(
                f"method={key!r} names its score and selector already: give either a method, or score= and select_by= "
                f"(got score={score!r}, select_by={select_by!r})"
            )
        method = what if isinstance(what, Method) else resolve_method(what)
    elif score is None and select_by is None:
        method = METHODS["dual_beta"]
    else:
        method = _from_parts(score, select_by)
    method = replace(
        method,
        per_class=method.per_class or per_class,
        options={**method.options, **(options or {})},
        score_options={**method.score_options, **(score_options or {})},
    )
    check_options(selector_of(method), method.options)
    if method.score is not None:
        check_options(score_of(method.score), method.score_options)
    elif method.score_options:
        raise ArgumentError(f"{method.key} has no score, so it takes no score options: {dict(method.score_options)}")
    elif any(is_score(need) for need in card_of(selector_of(method)).needs):
        raise ArgumentError(f"selector {name_of(method.selector)!r} needs a score; name one with score= (--score)")
    return method


def _from_parts(score: Any, select_by: Any) -> Method:
    if select_by is None:
        select_by = "beta" if score_of(score) is scores.dual else "top"
    selector = resolve(select_by, select.METHODS, kind="selector")
    if score is None and selector is select.beta:
        score = "dual"
    # by the cards' keys, so that "dyn-unc" and "dyn_unc" are one method with one stream of draws
    key = "_".join(map(name_of, [*([score_of(score)] if score is not None else []), selector]))
    return Method(key, key.replace("_", " "), score, select_by)


def name_of(what: str | Callable[..., Any]) -> str:
    """Name of a score or selector that may be a callable."""
    return what if isinstance(what, str) else card_of(what).key


def is_score(need: str) -> bool:
    """Whether a selector means the method's score by this name."""
    return need == "score" or need in scores.METHODS


def resolve_method(name: str) -> Method:
    """The method called ``name``.

    Raises:
        ArgumentError: there is none; the error lists all.
    """
    key = name.replace("-", "_").replace("+", "_").lower()
    if key not in METHODS:
        import difflib

        near = difflib.get_close_matches(key, METHODS, n=1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(f"no method is called {name!r}.{guess} There are: {', '.join(METHODS)}")
    return METHODS[key]


def score_of(what: str | Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A score by name or as it is."""
    return resolve(what, scores.METHODS, kind="score")


def selector_of(method: Method) -> Callable[..., Selection]:
    """The method's selector."""
    return resolve(method.selector, select.METHODS, kind="selector")


def needs_of(method: Method) -> tuple[str, ...]:
    """Names of recorded arrays that the method reads: none means that it can do without a recording."""
    names: list[str] = []
    for own in cards_of(method):
        names += [need for need in own.needs if is_recorded(need) and need not in names]
    return tuple(names)


def check_needs(method: Method) -> None:
    """Refuse, before anything runs, a method that needs what a recording does not make.

    Raises:
        MissingArrayError: the error names the array and the verb that makes it.
    """
    there = {name: None for name, row in TABLE.items() if row.made_by == "record" or name == "labels"}
    for own in cards_of(method):
        for need in own.needs:
            if not (is_score(need) and method.score is not None):
                take(there, need, method=own.key)


def cards_of(method: Method) -> list[Card]:
    """Cards of the score, if there is one, and of the selector."""
    return [card_of(part) for part in (*([score_of(method.score)] if method.score else []), selector_of(method))]


def is_recorded(name: str) -> bool:
    """Whether `record` makes the array."""
    return name in TABLE and TABLE[name].made_by == "record"
