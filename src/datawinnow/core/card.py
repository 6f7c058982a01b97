"""Cards: name, source, needs and options of a method, read off its signature."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from types import ModuleType
from typing import Any, Literal, TypeVar

from datawinnow.core.errors import ArgumentError

MethodKind = Literal["score", "selector", "policy", "batch selector", "condenser", "scenario"]
End = Literal["high", "low", "middle"]
CardedT = TypeVar("CardedT", bound=Callable[..., Any])
MethodT = TypeVar("MethodT")

CONTRACT_PARAMETERS = ("budget", "build", "generator", "missing", "per_class", "rate", "state", "tie_seed")
"""Keyword-only parameters that every method of a kind has by contract; they are not options to tune."""


@dataclass(frozen=True)
class Card:
    """One row of ``datawinnow methods``.

    Attributes:
        kind: which contract the method follows.
        name: the name in the literature, shown to users.
        key: the name in code, on the command line and in files.
        source: the paper (and equation or section) that it follows.
        needs: required positional parameters, names of arrays or scores; of a policy, the signals that it observes.
        optional_needs: positional parameters with a default.
        options: keyword-only parameters with their defaults; of a policy, the fields that have one.
        end: which end of a score its paper keeps.
        cost: time and memory in big-O, in words of the table of arrays.
        summary: first line of the docstring.
        takes: keyword-only parameters of the contract (`CONTRACT_PARAMETERS`); of a policy, the required fields.
    """

    kind: MethodKind
    name: str
    key: str
    source: str
    needs: tuple[str, ...]
    optional_needs: tuple[str, ...]
    options: Mapping[str, Any]
    end: End | None
    cost: str
    summary: str
    takes: tuple[str, ...] = field(default=())


def card(
    kind: MethodKind, name: str, source: str, *, cost: str, end: End | None = None, key: str | None = None
) -> Callable[[CardedT], CardedT]:
    """Attach a `Card` to a method, and change nothing else.

    Positional parameters are its needs, keyword-only ones its options. A policy is a dataclass: its
    fields with a default are its options, those without are required, and ``needs`` is an attribute. Each
    folder's ``__init__`` imports its methods and collects them with `collect`.

    Args:
        kind: the contract.
        name: the name shown to users.
        source: paper and section.
        cost: time and memory in big-O.
        end: for a score, the end that its paper keeps.
        key: the name in code; default: the function's name, and of a class its name in snake case.

    Raises:
        ArgumentError: a score without ``end``.
    """
    if kind == "score" and end is None:
        raise ArgumentError(f"the card of score {name!r} must say which end its paper keeps (end=)")

    def attach(method: CardedT) -> CardedT:
        if inspect.isclass(method):
            method.card = _card_of_class(method, kind, name, source, cost, end, key)  # type: ignore[attr-defined]
            return method
        signature = inspect.signature(method)
        positional = [p for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        keyword = [p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
        method.card = Card(  # type: ignore[attr-defined]
            kind=kind,
            name=name,
            key=key or method.__name__,
            source=source,
            needs=tuple(p.name for p in positional if p.default is p.empty),
            optional_needs=tuple(p.name for p in positional if p.default is not p.empty),
            options={p.name: p.default for p in keyword if p.name not in CONTRACT_PARAMETERS},
            end=end,
            cost=cost,
            summary=(inspect.getdoc(method) or "").split("\n")[0],
            takes=tuple(p.name for p in keyword if p.name in CONTRACT_PARAMETERS),
        )
        return method

    return attach


def _card_of_class(
    policy: Any, kind: MethodKind, name: str, source: str, cost: str, end: End | None, key: str | None
) -> Card:
    return Card(
        kind=kind,
        name=name,
        # InfoBatch becomes info_batch; a run of capitals stays one word
        key=key or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", policy.__name__).lower(),
        source=source,
        needs=tuple(policy.needs),
        optional_needs=(),
        options={
            f.name: f.default if f.default_factory is MISSING else f.default_factory()
            for f in fields(policy)
            if not _is_required(f)
        },
        end=end,
        cost=cost,
        summary=(inspect.getdoc(policy) or "").split("\n")[0],
        takes=tuple(f.name for f in fields(policy) if _is_required(f)),
    )


def _is_required(of_policy: Field[Any]) -> bool:
    return of_policy.default is MISSING and of_policy.default_factory is MISSING


def card_of(method: Callable[..., Any]) -> Card:
    """The card of a method; for a callable without one, a card is read off its signature.

    Raises:
        ArgumentError: not callable.
    """
    attached = getattr(method, "card", None)
    if isinstance(attached, Card):
        return attached
    if not callable(method):
        raise ArgumentError(f"expected a method's name or a callable, got {method!r}")

    # a wrapper, so that the card does not become an attribute of the user's own callable
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    # an instance with __call__ has no __name__
    stand_in.__name__ = getattr(method, "__name__", type(method).__name__)
    stand_in.__doc__ = inspect.getdoc(method)
    stand_in.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return card("score", stand_in.__name__, "your own", cost="unknown", end="high")(stand_in).card  # type: ignore[attr-defined,no-any-return]


def collect(module: ModuleType | Mapping[str, Any]) -> dict[str, Callable[..., Any]]:
    """Every carded method among a package's names, by key, in the order imported."""
    names = vars(module) if isinstance(module, ModuleType) else module
    methods = [m for m in names.values() if isinstance(getattr(m, "card", None), Card)]
    return {m.card.key: m for m in methods}


def resolve(name: str | MethodT, methods: Mapping[str, MethodT], *, kind: str) -> MethodT:
    """The method called ``name``; a callable is returned as it is.

    Args:
        name: case does not matter, and ``-`` and ``+`` stand for ``_``.
        methods: key -> method.
        kind: of the methods, for the error: ``"score"``, ``"selector"``.

    Raises:
        ArgumentError: an unknown name; the error lists the nearest and all.
    """
    if not isinstance(name, str) and callable(name):
        return name
    key = str(name).replace("-", "_").replace("+", "_").lower()
    if key in methods:
        return methods[key]
    raise unknown_name(kind, name, sorted(methods))


def unknown_name(kind: str, name: object, names: Iterable[str]) -> ArgumentError:
    """The error for a name that does not exist, with the nearest that does.

    >>> str(unknown_name("score", "dul", ["aum", "dual"]))
    "no score is called 'dul'. Did you mean 'dual'? There are: aum, dual"
    """
    names = list(dict.fromkeys(names))
    return ArgumentError(f"no {kind} is called {name!r}.{did_you_mean(name, names)} There are: {', '.join(names)}")


def unknown_option(owner: str, name: object, options: Iterable[str]) -> ArgumentError:
    """The error for an option that ``owner`` does not have, with the nearest that it has.

    >>> str(unknown_option("ucb", "peroid", ["period", "alpha"]))
    "ucb has no option 'peroid'; its options are: period, alpha. Did you mean 'period'?"
    """
    options = list(dict.fromkeys(options))
    guess = did_you_mean(name, options)
    return ArgumentError(
        f"{owner} has no option {name!r}; its options are: {', '.join(options) or 'none'}{f'.{guess}' if guess else ''}"
    )


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """`` Did you mean 'dual'?`` with the nearest of ``names``; empty where none is near."""
    # only for the error: a lookup that succeeds should not pay for the import
    import difflib

    near = difflib.get_close_matches(str(name).replace("-", "_").replace("+", "_").lower(), list(names), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def check_options(method: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Check that the method has every option.

    Raises:
        ArgumentError: an unknown option; the error names those that exist.
    """
    of_method = card_of(method)
    for name in options:
        if name not in of_method.options and name not in of_method.takes:
            raise unknown_option(of_method.key, name, of_method.options)
