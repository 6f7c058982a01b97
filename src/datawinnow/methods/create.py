"""Makes a `Method` from its name, or from a score and a selector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from datawinnow import scores, select
from datawinnow.core.card import card_of, resolve
from datawinnow.core.errors import ArgumentError
from datawinnow.core.selection import Selection
from datawinnow.methods.method import Method
from datawinnow.methods.published import METHODS
from datawinnow.probe.embeddings import Embedding


def create_method(
    method: str | Method | None = None,
    *,
    score: str | Callable[..., Tensor] | None = None,
    select_by: str | Callable[..., Selection] | None = None,
    options: Mapping[str, Any] | None = None,
    score_options: Mapping[str, Any] | None = None,
    per_class: bool = False,
    embedding: Embedding | None = None,
) -> Method:
    """A method by name, or a score with a selector; options are checked against their cards.

    Args:
        method: a name in `METHODS`, or a `Method`. With None the method is made from ``score`` and ``select_by``, and
            is DUAL with Beta sampling if both are None.
        score: a score's name or a callable.
        select_by: a selector's name or a callable. Default: ``"beta"`` for DUAL, ``"top"`` for other scores.
        options: options of the selector, added to those of the method.
        score_options: options of the score and of the probe that makes its arrays.
        per_class: split the budget over the classes.
        embedding: what makes the ``features``; None for the recorded network.

    Raises:
        ArgumentError: unknown names or options, a method together with ``score`` or ``select_by``, a selector without
            the score that it needs, or an embedding for a method that reads no features.
    """
    if method is not None:
        if score is not None or select_by is not None:
            key = method.key if isinstance(method, Method) else method
            raise ArgumentError(
                f"`method={key!r}` names its score and selector already: give either a method, or `score=` and "
                f"`select_by=` (got `score={score!r}`, `select_by={select_by!r}`)"
            )
        base = method if isinstance(method, Method) else resolve(method, METHODS, kind="method")
    elif score is None and select_by is None:
        base = METHODS["dual_beta"]
    else:
        base = _from_parts(score, select_by)
    chosen = base.with_options(options or {}, score_options or {}, per_class=per_class)
    return chosen if embedding is None else embedded(chosen, embedding)


def embedded(method: Method, embedding: Embedding) -> Method:
    """The method with features by an embedding.

    Raises:
        ArgumentError: it reads no features, or no such embedding; the error lists the methods that need no training.
    """
    if "features" in method.needs:
        return method.with_options({}, {"embedding": embedding})
    reads = f"reads {', '.join(method.needs)} of a recorded training" if method.needs else "reads nothing"
    working = [key for key, other in METHODS.items() if _needs_features_alone(other)]
    raise ArgumentError(
        f"{method.label} {reads}, no features, so it takes no `embedding=`: leave that out, or choose one of "
        f"{', '.join(sorted(working))}"
    )


def _needs_features_alone(method: Method) -> bool:
    return "features" in method.needs and not replace(method, embedding="hf:any").needs_recording


def _from_parts(score: str | Callable[..., Tensor] | None, select_by: str | Callable[..., Selection] | None) -> Method:
    scorer = None if score is None else resolve(score, scores.METHODS, kind="score")
    if select_by is None:
        # DUAL is published with Beta sampling
        select_by = "beta" if scorer is scores.dual else "top"
    selector = resolve(select_by, select.METHODS, kind="selector")
    if scorer is None and selector is select.beta:
        scorer = scores.dual
    # the key is a seed: made of the cards' keys, "dyn-unc" and "dyn_unc" are one method with one stream of draws
    cards = [*([] if scorer is None else [card_of(scorer)]), card_of(selector)]
    key = "_".join(card.key for card in cards)
    return Method(key, key.replace("_", " "), scorer, selector)
