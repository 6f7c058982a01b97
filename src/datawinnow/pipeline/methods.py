"""Methods as people name them: a score and a selector, put together by their cards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from datawinnow import scores, select
from datawinnow.core.arrays import TABLE, take
from datawinnow.core.budget import budget_of
from datawinnow.core.card import card_of, check_options, resolve
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
        select_by: with ``what=None``: a selector's name or a callable; Beta sampling for DUAL and top for others unless told.
        options: of the selector.
        score_options: of the score.
        per_class: split the budget over the classes.

    Raises:
        ArgumentError: unknown names or options.
    """
    if isinstance(what, Method):
        method = what
    elif what is not None:
        method = resolve_method(what)
    elif score is None and select_by is None:
        method = METHODS["dual_beta"]
    else:
        score = score if score is not None else ("dual" if select_by == "beta" else None)
        select_by = select_by if select_by is not None else ("beta" if score == "dual" else "top")
        name = "_".join(x if isinstance(x, str) else x.__name__ for x in (score, select_by) if x is not None)
        method = Method(name, name.replace("_", " "), score, select_by)
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
    return method


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
    """Names of recorded arrays that the method reads."""
    names: list[str] = []
    for part in ([score_of(method.score)] if method.score is not None else []) + [selector_of(method)]:
        recorded = [need for need in card_of(part).needs if need in TABLE and TABLE[need].made_by == "record"]
        names += [need for need in recorded if need not in names]
    return tuple(names)


class Arrays(Mapping[str, Tensor]):
    """Arrays by name, read when asked for, cut to the epochs that a method may read.

    Args:
        get: gives an array by name, or raises.
        names: which there are.
        epochs: only the first so many rows of (epochs, n) arrays.
    """

    def __init__(self, get: Callable[[str], Tensor], names: tuple[str, ...], epochs: int | None = None) -> None:
        self._get, self._names, self._epochs = get, names, epochs

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        array = self._get(name)
        per_epoch = name in TABLE and TABLE[name].axes[0].startswith("epochs")
        return array[: self._epochs] if per_epoch and self._epochs is not None else array

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def compute_score(what: str | Callable[..., Tensor], arrays: Mapping[str, Tensor], **options: Any) -> Tensor:
    """A score from recorded arrays, found by the names of its positional parameters.

    Raises:
        MissingArrayError: an array is not there; the error names it and the verb that makes it.
        ArgumentError: unknown options.
    """
    method = score_of(what)
    check_options(method, options)
    own = card_of(method)
    given = [take(arrays, need, method=own.key) for need in own.needs]
    extra = {need: arrays[need] for need in own.optional_needs if need in arrays}
    return method(*given, **extra, **options)


def epochs_read(what: str | Callable[..., Tensor], epochs: int, **options: Any) -> int:
    """How many of ``epochs`` recorded epochs a score looks at: what it is charged for."""
    own = card_of(score_of(what))
    settings = {**own.options, **options}
    last = settings.get("last")
    return min(epochs, int(last)) if isinstance(last, int) and last > 0 else epochs


def select_by_method(
    method: Method,
    arrays: Mapping[str, Tensor],
    labels: Tensor,
    *,
    keep: float,
    generator: torch.Generator,
    score: Tensor | None = None,
) -> tuple[Selection, Tensor | None]:
    """Run a method.

    Args:
        method: what to run.
        arrays: recorded arrays.
        labels: (n,) int64.
        keep: fraction kept, in (0, 1].
        generator: for selectors that draw.
        score: (n,) if it has been computed.

    Returns:
        The selection, and the score it went by (None if it needs none).
    """
    budget = budget_of(keep, len(labels))
    if method.score is not None and score is None:
        score = compute_score(method.score, arrays, **method.score_options)
    selector = selector_of(method)
    own = card_of(selector)
    positional = [_argument(need, method, score, arrays, labels) for need in own.needs]
    settings = {**(method.options_at(keep) if method.options_at else {}), **method.options}
    if "end" in own.options and "end" not in settings and method.score is not None:
        settings["end"] = card_of(score_of(method.score)).end
    if "generator" in own.takes:
        settings["generator"] = generator
    if method.per_class:
        return select.per_class(selector)(*positional, labels=labels, budget=budget, **settings), score
    return selector(*positional, budget=budget, **settings), score


def _argument(need: str, method: Method, score: Tensor | None, arrays: Mapping[str, Tensor], labels: Tensor) -> Tensor:
    if need == "labels":
        return labels
    if need == "score" or need in scores.METHODS and need not in arrays:
        if score is None:
            raise ArgumentError(f"selector {method.selector!r} needs a score; name one with --score")
        return score
    return take(arrays, need, method=method.key)
