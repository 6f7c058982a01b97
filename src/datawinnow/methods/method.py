"""A method run on recorded arrays: which it reads, what it is charged for, the score and the selection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from datawinnow import select
from datawinnow.core import check
from datawinnow.core.arrays import TABLE, take
from datawinnow.core.budget import budget_of
from datawinnow.core.card import card_of
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.methods.registry import (
    METHODS,
    Method,
    cards_of,
    ccs_cutoff,
    check_needs,
    cuts_off,
    is_probed,
    is_recorded,
    is_score,
    method_of,
    name_of,
    needs_of,
    needs_recording,
    probe_options_of,
    reads_probe,
    resolve_method,
    score_of,
    selector_of,
    split_options,
)

DIFFICULTY = ("d2", "boss")
"""Selectors that want a score of which much is hard, and have no option to be told which end is."""
REHEARSED, REHEARSED_PROBED = 1000, 100
"""Examples that are made up at most, and where features are, with which selectors take longer."""
__all__ = [
    "METHODS",
    "Arrays",
    "Method",
    "cards_of",
    "ccs_cutoff",
    "check_needs",
    "compute_score",
    "cuts_off",
    "epochs_charged",
    "epochs_read",
    "is_probed",
    "method_of",
    "name_of",
    "needs_of",
    "probe_options_of",
    "reads_probe",
    "rehearse",
    "resolve_method",
    "score_by_method",
    "score_of",
    "select_by_method",
    "selector_of",
    "settings_of",
    "split_options",
    "with_labels",
]


def rehearse(method: Method, *, keep: float, epochs: int, n: int = 1000) -> None:
    """Run a method on made-up arrays, so that an option or a schedule that cannot work fails before the recording.

    Only for methods whose parts are datawinnow's own: a callable of the user's is not called twice.

    Args:
        method: what will run.
        keep: fraction kept.
        epochs: epochs that will be recorded.
        n: number of examples; at most `REHEARSED` are made up.

    Raises:
        MissingArrayError: an array that neither a recording nor its network makes.
        ArgumentError: what the score or the selector raises, for example fewer epochs than its window.
    """
    budget_of(keep, n)
    check_needs(method)
    if not all(isinstance(part, str) for part in (method.selector, method.score or "")):
        return
    n = min(n, REHEARSED_PROBED if reads_probe(method) else REHEARSED)
    source = stream(0, "rehearse")
    arrays = {name: _made_up(name, epochs, n, source) for name in needs_of(method)}
    labels = torch.arange(n) % 2  # balance by class is settled with the real labels
    select_by_method(replace(method, per_class=False), arrays, labels, keep=keep, generator=source)


def _made_up(name: str, epochs: int, n: int, source: torch.Generator) -> Tensor:
    sizes = {"epochs": epochs, "epochs-1": max(0, epochs - 1), "n": n, "d": 4, "c": 2, "v": 10}
    shape = [sizes[axis] for axis in TABLE[name].axes]
    if TABLE[name].kind == "bool":
        return torch.ones(shape, dtype=torch.bool)
    if TABLE[name].kind == "int64":
        return torch.arange(shape[0]) % 2
    made = torch.rand(shape[-1], generator=source) * torch.rand(shape, generator=source)
    return made.softmax(1) if TABLE[name].axes[-1] == "c" else made


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
        axis = TABLE[name].axes[0] if name in TABLE else ""
        if self._epochs is None or not axis.startswith("epochs"):
            return array
        return array[: self._epochs - (axis == "epochs-1")]  # a change needs two epochs, so there is one row less

    def __contains__(self, name: object) -> bool:
        return name in self._names  # and nothing is read, or made

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def compute_score(what: str | Callable[..., Tensor], arrays: Mapping[str, Tensor], **options: Any) -> Tensor:
    """A score from recorded (and probed) arrays, found by the names of its positional parameters.

    Options of the probe are left to whoever makes its arrays.

    Raises:
        MissingArrayError: an array is not there; the error names it and the verb that makes it.
        ArgumentError: unknown options.
    """
    method = score_of(what)
    settings, _ = split_options(what, options)
    own = card_of(method)
    given = [take(arrays, need, method=own.key) for need in own.needs]
    extra = {need: arrays[need] for need in own.optional_needs if need in arrays}
    return check.as_tensor(own.key, method(*given, **extra, **settings))  # a callable may return a numpy array


def epochs_read(what: str | Callable[..., Tensor], epochs: int, **options: Any) -> int:
    """How many of ``epochs`` recorded epochs a score needs: what it is charged for.

    An epoch needs those before it, so a score that looks at epochs up to ``last``, or at the one ``epoch`` (from the
    end if negative), is charged for that many.

    >>> epochs_read("el2n", 30), epochs_read("entropy", 30), epochs_read("entropy", 30, epoch=4)
    (10, 30, 5)
    """
    settings = {**card_of(score_of(what)).options, **options}
    last, epoch = settings.get("last"), settings.get("epoch")
    if isinstance(last, int) and last > 0:
        return min(epochs, last)
    if isinstance(epoch, int) and -epochs <= epoch < epochs:
        return epoch % epochs + 1
    return epochs


def epochs_charged(method: Method, epochs: int) -> int:
    """How many of ``epochs`` recorded epochs a method looks at, by its score and by its selector; 0 for none.

    A method that reads what a pass over the recorded network makes needs all of the recording. What depends on the
    fraction kept has to be settled: `Method.at`.
    """
    if reads_probe(method) or not needs_recording(method):
        return epochs if needs_recording(method) else 0
    if isinstance(method.epochs, int):
        epochs = min(epochs, method.epochs)
    by_selector = any(is_recorded(need) for need in card_of(selector_of(method)).needs)
    if by_selector or method.score is None or cuts_off(method):
        return epochs
    return epochs_read(method.score, epochs, **method.score_options)


def settings_of(method: Method, keep: float) -> dict[str, Any]:
    """Options that the selector is called with at this ``keep``, the end of the score included."""
    settings = dict(method.at(keep).options)
    own = card_of(selector_of(method))
    if "end" in own.options and "end" not in settings and method.score is not None:
        settings["end"] = card_of(score_of(method.score)).end
    return settings


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
        arrays: recorded and probed arrays.
        labels: (n,) int64.
        keep: fraction kept, in (0, 1].
        generator: for selectors that draw.
        score: (n,) if it has been computed.

    Returns:
        The selection, and the score it went by (None if it needs none).

    Raises:
        MissingArrayError: an array is not there.
        ArgumentError: what the score or the selector refuses, or a callable that returns something else.
    """
    budget = budget_of(keep, len(labels))
    method, arrays = method.at(keep), with_labels(arrays, labels)
    if method.score is not None and score is None:
        score = score_by_method(method, arrays)
    if score is not None and tuple(score.shape) != (len(labels),):
        raise ArgumentError(
            f"score {name_of(method.score or 'score')!r} must give one number for each of {len(labels)} examples, got "
            f"shape {tuple(score.shape)}"
        )
    own = card_of(selector_of(method))
    arrays = _cut(arrays, method)
    positional = [_argument(need, method, score, arrays) for need in own.needs]
    settings = settings_of(method, keep)
    settings |= {need: arrays[need] for need in own.optional_needs if need in arrays}
    if "generator" in own.takes:
        settings["generator"] = generator
    if cuts_off(method):
        settings["aum"] = compute_score("aum", arrays)
    if method.per_class:
        settings["labels"] = labels
    selection = _wrapped(method)(*positional, budget=budget, **settings)
    if not isinstance(selection, Selection) or len(selection) != budget:
        got = f"{len(selection)} ids" if isinstance(selection, Selection) else type(selection).__name__
        raise ArgumentError(f"selector {own.key!r} must return a Selection of exactly {budget} ids, got {got}")
    return selection, score


def score_by_method(method: Method, arrays: Mapping[str, Tensor]) -> Tensor:
    """The score of a method that has one, its settings by the fraction kept settled (`Method.at`).

    Args:
        method: which.
        arrays: recorded and probed arrays, and the labels.

    Raises:
        MissingArrayError: an array is not there.
        ArgumentError: what the score refuses.
    """
    assert method.score is not None
    return compute_score(method.score, _cut(arrays, method), **method.score_options)


def _cut(arrays: Mapping[str, Tensor], method: Method) -> Mapping[str, Tensor]:
    """Only the epochs that the method reads."""
    return arrays if method.epochs is None else Arrays(arrays.__getitem__, tuple(arrays), method.epochs)  # type: ignore[arg-type]


def _wrapped(method: Method) -> Callable[..., Selection]:
    """The selector in its wrappers: the tail of lowest AUM dropped of every class, or of all before they are split."""
    selector = selector_of(method)
    if not cuts_off(method):
        return select.per_class(selector) if method.per_class else selector
    fraction = float(method.cutoff)  # type: ignore[arg-type]  # settled by `Method.at`
    if method.per_class and method.cutoff_in_class:
        return select.per_class(select.drop_tail(selector, fraction=fraction, by="aum"))
    return select.drop_tail(select.per_class(selector) if method.per_class else selector, fraction=fraction, by="aum")


def with_labels(arrays: Mapping[str, Tensor], labels: Tensor) -> Arrays:
    """``arrays`` and the labels, for methods that need those too."""
    return Arrays(lambda name: labels if name == "labels" else arrays[name], (*arrays, "labels"))


def _argument(need: str, method: Method, score: Tensor | None, arrays: Mapping[str, Tensor]) -> Tensor:
    if is_score(need) and need not in arrays:
        if score is None:
            raise ArgumentError(f"selector {name_of(method.selector)!r} needs a score; name one with score= (--score)")
        low = method.score is not None and card_of(score_of(method.score)).end == "low"
        return -score if low and card_of(selector_of(method)).key in DIFFICULTY else score
    found: Tensor = take(arrays, need, method=method.key)
    return found
