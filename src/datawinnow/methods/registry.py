"""Methods put together from a score and a selector, by their cards: what they need and which options they have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from datawinnow import scores, select
from datawinnow.core import check
from datawinnow.core.arrays import TABLE, take
from datawinnow.core.card import Card, card_of, check_options, resolve
from datawinnow.core.errors import ArgumentError
from datawinnow.core.selection import Selection
from datawinnow.methods.published import METHODS, Method, ccs_cutoff
from datawinnow.probe.makers import options_of
from datawinnow.text.pretrained import is_pretrained

PROBED = ("features", "probs", "grad_norm", "curvature", "boundary_distance")
"""Arrays that a pass over the recorded network makes, of the examples that it was trained on."""
HELD_OUT = ("val_features", "val_probs", "val_labels")
"""Arrays of held-out data that it makes."""
EMBEDDING = "embedding"
"""The option by which ``features`` are sentence embeddings of a pretrained model, and not the recorded network's."""


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
    given, cutoff = dict(options or {}), method.cutoff
    if cuts_off(method) and "cutoff" in given and "cutoff" not in card_of(selector_of(method)).options:
        cutoff = check.number("cutoff", given.pop("cutoff"), 0, 1)
    of_score, embedding = dict(score_options or {}), method.embedding
    if "features" in needs_of(method):
        embedding = _pretrained(of_score.pop(EMBEDDING, given.pop(EMBEDDING, embedding)))
    method = replace(
        method,
        per_class=method.per_class or per_class,
        options={**method.options, **given},
        score_options={**method.score_options, **of_score},
        cutoff=cutoff,
        embedding=embedding,
    )
    check_options(selector_of(method), method.options)
    if method.score is not None:
        split_options(method.score, method.score_options)
    elif method.score_options:
        raise ArgumentError(f"{method.key} has no score, so it takes no score options: {dict(method.score_options)}")
    elif any(is_score(need) for need in card_of(selector_of(method)).needs):
        raise ArgumentError(f"selector {name_of(method.selector)!r} needs a score; name one with score= (--score)")
    return method


def split_options(
    what: str | Callable[..., Tensor], options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of a score, and those of the probe that makes the score's arrays (``mode`` of the curvature).

    Raises:
        ArgumentError: an option of neither.

    >>> split_options("curvature", {"mode": "rademacher"})
    ({}, {'mode': 'rademacher'})
    """
    score = score_of(what)
    probes = probe_options(card_of(score).needs)
    own = {key: value for key, value in options.items() if key not in probes}
    if probes and not set(own) <= {*card_of(score).options, *card_of(score).takes}:
        unknown = next(key for key in own if key not in card_of(score).options)
        have = ", ".join([*card_of(score).options, *probes])
        raise ArgumentError(f"{card_of(score).key} has no option {unknown!r}; its options are: {have}")
    check_options(score, own)
    return own, {key: value for key, value in options.items() if key in probes}


def probe_options(names: Iterable[str]) -> tuple[str, ...]:
    """Options of the pass that makes these arrays.

    >>> probe_options(["boundary_distance"])
    ('max_iter', 'overshoot', 'candidates')
    """
    return tuple(option for name in names for option in options_made(name))


def options_made(name: str) -> tuple[str, ...]:
    """Options of the pass that makes an array."""
    return (EMBEDDING,) if name in ("features", "val_features") else options_of(name)


def probe_options_of(method: Method) -> dict[str, Any]:
    """Options among those of the method that the probe takes."""
    embedding = {} if method.embedding is None else {EMBEDDING: method.embedding}
    return embedding | (split_options(method.score, method.score_options)[1] if method.score is not None else {})


def _pretrained(name: str | None) -> str | None:
    if name is not None and not is_pretrained(name):
        raise ArgumentError(f"embedding must be a transformers model, hf:PATH, got {name!r}")
    return name


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
    """Names of the arrays that the method reads of a recording or of its network: none means that it needs neither."""
    names: list[str] = []
    for own in cards_of(method):
        names += [need for need in own.needs if (is_recorded(need) or is_probed(need)) and need not in names]
    return tuple(names)


def check_needs(method: Method, also: Iterable[str] = ()) -> None:
    """Refuse, before anything runs, a method that needs what neither a recording nor its network can give.

    Args:
        method: which.
        also: arrays that are there otherwise.

    Raises:
        MissingArrayError: the error names the array and the verb that makes it.
    """
    there = {name: None for name in TABLE if is_recorded(name) or is_probed(name) or name in ("labels", *also)}
    for own in cards_of(method):
        for need in own.needs:
            if not (is_score(need) and method.score is not None):
                take(there, need, method=own.key)


def cards_of(method: Method) -> list[Card]:
    """Cards of the score, if there is one, of the score whose tail is cut off, and of the selector."""
    parts: list[Callable[..., Any]] = [score_of(method.score)] if method.score else []
    if cuts_off(method):
        parts.append(scores.aum)
    return [card_of(part) for part in (*parts, selector_of(method))]


def cuts_off(method: Method) -> bool:
    """Whether the method drops the examples of lowest AUM first."""
    return callable(method.cutoff) or method.cutoff > 0


def is_recorded(name: str) -> bool:
    """Whether `record` makes the array."""
    return name in TABLE and TABLE[name].made_by == "record"


def is_probed(name: str) -> bool:
    """Whether a pass over the recorded network makes the array."""
    return name in PROBED or name in HELD_OUT


def reads_probe(method: Method) -> bool:
    """Whether the method reads what a pass over the recorded network makes, for which it needs the whole recording."""
    return any(is_probed(need) for need in needs_of(method) if not _embedded(need, method))


def needs_recording(method: Method) -> bool:
    """Whether the method reads anything of a recording, or of its network."""
    return any(not _embedded(need, method) for need in needs_of(method))


def _embedded(need: str, method: Method) -> bool:
    return need in ("features", "val_features") and method.embedding is not None


__all__ = [
    "HELD_OUT",
    "METHODS",
    "PROBED",
    "Method",
    "cards_of",
    "ccs_cutoff",
    "check_needs",
    "cuts_off",
    "is_probed",
    "is_recorded",
    "is_score",
    "method_of",
    "name_of",
    "needs_of",
    "needs_recording",
    "options_made",
    "probe_options",
    "probe_options_of",
    "reads_probe",
    "resolve_method",
    "score_of",
    "selector_of",
    "split_options",
]


def fitted(method: Method, train_epochs: int | None) -> Method:
    """``method`` fitted to how long the kept examples are trained, where its selector can be and nothing else is said.

    >>> fitted(method_of("dual_beta"), 30).options
    {'train_epochs': 30}
    """
    if train_epochs is not None:
        check.number("train_epochs", train_epochs, 1, 1 << 20)
    takes = "train_epochs" in card_of(selector_of(method)).options
    if train_epochs is None or not takes or {"c_d", "train_epochs"} & set(method.options):
        return method
    return replace(method, options={**method.options, "train_epochs": train_epochs})
