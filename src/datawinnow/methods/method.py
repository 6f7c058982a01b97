"""`Method`: a static pruning method, its needs, cost, score and selection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from datawinnow import scores, select
from datawinnow.core import check
from datawinnow.core.arrays import TABLE, chain_arrays, first_epochs, is_recorded, take
from datawinnow.core.budget import budget_of, parse_percentages
from datawinnow.core.card import Card, card_of, check_options, resolve, unknown_option
from datawinnow.core.draw import tie_seed_of
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.probe import EMBEDDING, array_options, is_probed
from datawinnow.probe.embeddings import Embedding, check_embedding
from datawinnow.select.wrap import ClassSplit

HARDNESS_SELECTORS = ("d2", "boss")
"""Selectors that want a score that is high for hard examples and have no option ``end``."""
DRY_RUN_N, DRY_RUN_PROBED_N = 1000, 100
"""Most examples of a dry run; fewer where the selector compares features, which takes longer."""


@dataclass(frozen=True)
class Method:
    """A static pruning method: a score, and a selector that keeps a fraction of the examples by it.

    Attributes:
        key: name on the command line and in files.
        label: name for people.
        score: the score; None if the selector needs none.
        selector: the selector.
        score_options: keyword arguments of the score, and of the probe that makes its arrays.
        options: keyword arguments of the selector.
        options_at: more of them by the fraction kept (settings published by pruning rate).
        per_class: whether the budget is split over the classes.
        class_split: how it is split, see `select.per_class`.
        score_options_at: more keyword arguments of the score by the fraction kept.
        epochs: number of recorded epochs that the method reads at most, or a function of the fraction kept that gives
            it; None for all.
        cutoff: fraction of the examples of lowest AUM (on probabilities, as the code of CCS, D2 and BOSS computes it)
            that is dropped before the selector sees the rest, or a function of the fraction kept that gives it.
        cutoff_in_class: whether that fraction is of every class instead of all examples.
        embedding: what makes the ``features`` (`probe.embeddings`): ``hf:PATH`` of a pretrained model, or
            ``module:function``; None for those of the recorded network.
    """

    key: str
    label: str
    score: Callable[..., Tensor] | None
    selector: Callable[..., Selection]
    score_options: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    options_at: Callable[[float], dict[str, Any]] | None = None
    per_class: bool = False
    class_split: ClassSplit = "proportional"
    score_options_at: Callable[[float], dict[str, Any]] | None = None
    epochs: int | Callable[[float], int] | None = None
    cutoff: float | Callable[[float], float] = 0.0
    cutoff_in_class: bool = False
    embedding: Embedding | None = None

    @classmethod
    def from_score(cls, score: str | Callable[..., Tensor], score_options: Mapping[str, Any] | None = None) -> Method:
        """A score alone, kept by `top`, under the key and name of its card.

        Raises:
            ArgumentError: an unknown score or option.
        """
        scorer = resolve(score, scores.METHODS, kind="score")
        card = card_of(scorer)
        return cls(card.key, card.name, scorer, select.top).with_options({}, score_options or {})

    # --- settings ---------------------------------------------------------------------------------------------------

    def with_options(
        self, options: Mapping[str, Any], score_options: Mapping[str, Any], *, per_class: bool = False
    ) -> Method:
        """The method with more options, checked against the cards of its parts.

        Args:
            options: of the selector; ``cutoff``, where the method has one; ``embedding``, where it reads features.
            score_options: of the score and of the probe that makes its arrays.
            per_class: split the budget over the classes; a method that does so already stays so.

        Raises:
            ArgumentError: an unknown option, options of a score that the method lacks, or a selector without the
                score that it needs.
        """
        selector, scorer = parse_percentages(options), parse_percentages(score_options)
        cutoff, embedding = self.cutoff, self.embedding
        if self.has_cutoff and "cutoff" in selector and "cutoff" not in self.selector_card.options:
            cutoff = check.number("cutoff", selector.pop("cutoff"), 0, 1)
        if "features" in self.needs:
            # the inner pop always runs, so that the option remains with neither
            embedding = scorer.pop(EMBEDDING, selector.pop(EMBEDDING, embedding))
            if embedding is not None:
                check_embedding(embedding)
        method = replace(
            self,
            per_class=self.per_class or per_class,
            options={**self.options, **selector},
            score_options={**self.score_options, **scorer},
            cutoff=cutoff,
            embedding=embedding,
        )
        check_options(method.selector, method.options)
        if method.score_card is None:
            if method.score_options:
                raise ArgumentError(
                    f"{method.key} has no score, so it takes no score options: {dict(method.score_options)}"
                )
            if any(is_score(need) for need in method.selector_card.needs):
                raise ArgumentError(f"selector {method.selector_card.key!r} needs a score; name one with `score=`")
            return method
        for name in method.score_options:
            if name not in method._score_option_names and name not in method.score_card.takes:
                raise unknown_option(method.score_card.key, name, method._score_option_names)
        return method

    def split_options(self, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Options of the selector, and options of the score, among ``options`` of either.

        An option that both have goes to the selector.

        Raises:
            ArgumentError: an option of neither; the error names those that exist.
        """
        of_selector = [*self.selector_card.options, *(["cutoff"] if self.has_cutoff else [])]
        of_selector += array_options(*self.selector_card.needs)
        of_score = self._score_option_names
        for name in options:
            if name not in of_selector and name not in of_score:
                raise unknown_option(self.key, name, [*of_selector, *of_score])
        return (
            {name: value for name, value in options.items() if name in of_selector},
            {name: value for name, value in options.items() if name not in of_selector},
        )

    def at(self, keep: float) -> Method:
        """The method with its settings for this fraction kept; options set by hand stay."""
        return replace(
            self,
            # what the user sets comes last, and wins
            options={**(self.options_at(keep) if self.options_at else {}), **self.options},
            score_options={**(self.score_options_at(keep) if self.score_options_at else {}), **self.score_options},
            epochs=self.epochs(keep) if callable(self.epochs) else self.epochs,
            cutoff=self.cutoff(keep) if callable(self.cutoff) else self.cutoff,
            options_at=None,
            score_options_at=None,
        )

    def fitted(self, train_epochs: int | None) -> Method:
        """The method fitted to a training of ``train_epochs`` on the kept examples, if its selector has that option.

        Options ``c_d`` and ``train_epochs`` set by hand stay, and None changes nothing.

        Raises:
            ArgumentError: ``train_epochs`` below 1.

        >>> Method("dual_beta", "DUAL+Beta", scores.dual, select.beta).fitted(30).options
        {'train_epochs': 30}
        """
        if train_epochs is not None:
            check.number("train_epochs", train_epochs, 1, 1 << 20)
        takes = "train_epochs" in self.selector_card.options
        if train_epochs is None or not takes or {"c_d", "train_epochs"} & set(self.options):
            return self
        return replace(self, options={**self.options, "train_epochs": train_epochs})

    def score_only(self) -> Method:
        """The method's score with its settings, kept by `top`: what the score alone reads and is charged."""
        return replace(self, selector=select.top, options={}, options_at=None, cutoff=0.0, per_class=False)

    def selector_options(self, keep: float) -> dict[str, Any]:
        """Keyword arguments of the selector at this fraction kept, the end of the score that is kept included."""
        options = dict(self.at(keep).options)
        if "end" in self.selector_card.options and "end" not in options and self.score_card is not None:
            options["end"] = self.score_card.end
        return options

    @property
    def probe_options(self) -> dict[str, Any]:
        """Options of the probe that makes the method's arrays, ``embedding`` included."""
        embedding = {} if self.embedding is None else {EMBEDDING: self.embedding}
        return embedding | self._split_score_options()[1]

    # --- needs and cost ---------------------------------------------------------------------------------------------

    @cached_property
    def score_card(self) -> Card | None:
        """Card of the score; None without one."""
        return None if self.score is None else card_of(self.score)

    @cached_property
    def selector_card(self) -> Card:
        """Card of the selector."""
        return card_of(self.selector)

    @property
    def has_cutoff(self) -> bool:
        """Whether the method drops the examples of lowest AUM first."""
        return callable(self.cutoff) or self.cutoff > 0

    @property
    def cards(self) -> list[Card]:
        """Cards of the score, of AUM where its lowest are dropped, and of the selector."""
        score = [] if self.score_card is None else [self.score_card]
        return [*score, *([card_of(scores.aum_softmax)] if self.has_cutoff else []), self.selector_card]

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the recorded and probed arrays that the method reads; empty if it reads neither."""
        needs = dict.fromkeys(need for card in self.cards for need in card.needs)
        return tuple(need for need in needs if is_recorded(need) or is_probed(need))

    @property
    def needs_recording(self) -> bool:
        """Whether the method reads recorded arrays, or arrays that the recorded network makes."""
        return any(not self._is_embedded(need) for need in self.needs)

    @property
    def reads_probe(self) -> bool:
        """Whether the method reads arrays of a pass over the recorded network, which needs the whole recording."""
        return any(is_probed(need) for need in self.needs if not self._is_embedded(need))

    def check_needs(self, also: Iterable[str] = ()) -> None:
        """Check that a recording and its network can make every array that the method needs.

        Args:
            also: arrays that exist otherwise.

        Raises:
            MissingArrayError: the error names the array and the verb that makes it.
        """
        present = {name: None for name in TABLE if is_recorded(name) or is_probed(name) or name in ("labels", *also)}
        for card in self.cards:
            for need in card.needs:
                if not (is_score(need) and self.score is not None):
                    take(present, need, method=card.key)

    def epochs_charged(self, epochs: int) -> int:
        """How many of ``epochs`` recorded epochs the score and the selector read; 0 for none.

        A method that reads what the recorded network makes is charged for the whole recording. An epoch needs those
        before it, so a score that reads epochs up to ``last``, or the one ``epoch`` (from the end if negative), is
        charged for that many. Settings by the fraction kept have to be resolved first: `at`.
        """
        if self.reads_probe or not self.needs_recording:
            return epochs if self.needs_recording else 0
        if isinstance(self.epochs, int):
            epochs = min(epochs, self.epochs)
        if self.score_card is None or self.has_cutoff or any(is_recorded(need) for need in self.selector_card.needs):
            return epochs
        options = {**self.score_card.options, **self.score_options}
        last, epoch = options.get("last"), options.get("epoch")
        if isinstance(last, int) and last > 0:
            return min(epochs, last)
        if isinstance(epoch, int) and -epochs <= epoch < epochs:
            # a negative number counts from the end; an epoch needs all before it
            return epoch % epochs + 1
        return epochs

    # --- running it -------------------------------------------------------------------------------------------------

    def dry_run(self, *, keep: float, epochs: int, n: int = DRY_RUN_N) -> None:
        """Run the method on random arrays, so that an option that cannot work fails before the recording.

        A score or selector of the user's is only checked for its needs, so that it is not called twice.

        Args:
            keep: fraction kept.
            epochs: number of epochs that will be recorded.
            n: number of examples; a dry run has at most `DRY_RUN_N`.

        Raises:
            MissingArrayError: an array that neither a recording nor its network makes.
            ArgumentError: what the score or the selector raises, for example fewer epochs than its window.
        """
        budget_of(keep, n)
        self.check_needs()
        if self.score_card is not None and scores.METHODS.get(self.score_card.key) is not self.score:
            return
        if select.METHODS.get(self.selector_card.key) is not self.selector:
            return
        n = min(n, DRY_RUN_PROBED_N if self.reads_probe else DRY_RUN_N)
        generator = stream(0, "rehearse")
        sizes = {"epochs": epochs, "n": n, "d": 4, "c": 2, "v": 10}
        arrays = {name: random_array(name, sizes, generator) for name in self.needs}
        labels = torch.arange(n) % 2  # the real labels decide whether classes can be balanced
        replace(self, per_class=False).run(arrays, labels, keep=keep, generator=generator)

    def compute_score(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """The method's score, settings by the fraction kept resolved (`at`).

        Args:
            arrays: recorded and probed arrays, and the labels where the score needs them.

        Returns:
            What the score returns, as a tensor: (n,) of a score of the library.

        Raises:
            MissingArrayError: an array is missing; the error names it and the verb that makes it.
            ArgumentError: what the score raises, or the method has no score.
        """
        if self.score is None or self.score_card is None:
            raise ArgumentError(f"{self.key} has no score")
        arrays = first_epochs(arrays, self._epochs_read)
        options, _ = self._split_score_options()
        needed = [take(arrays, need, method=self.score_card.key) for need in self.score_card.needs]
        optional = {need: arrays[need] for need in self.score_card.optional_needs if need in arrays}
        return check.as_tensor(self.score_card.key, self.score(*needed, **optional, **options))

    def run(
        self,
        arrays: Mapping[str, Tensor],
        labels: Tensor,
        *,
        keep: float,
        generator: torch.Generator,
        score: Tensor | None = None,
    ) -> tuple[Selection, Tensor | None]:
        """Score and select.

        Args:
            arrays: recorded and probed arrays.
            labels: (n,) int64.
            keep: fraction kept, in (0, 1].
            generator: for selectors that draw.
            score: (n,) if it is computed already.

        Returns:
            The selection and the score, which is None if the method has none.

        Raises:
            MissingArrayError: an array is missing.
            ArgumentError: what the score or the selector raises, a score of another shape than (n,), or a selector
                that returns something else than a `Selection` of the budget.
        """
        budget = budget_of(keep, len(labels))
        method, arrays = self.at(keep), chain_arrays({"labels": labels}, arrays)
        selector = method.selector_card
        if method.score is not None and score is None:
            score = method.compute_score(arrays)
        if score is not None and tuple(score.shape) != (len(labels),):
            name = "score" if method.score_card is None else method.score_card.key
            raise ArgumentError(
                f"score {name!r} must give one number for each of {len(labels)} examples, got shape "
                f"{tuple(score.shape)}"
            )
        arrays = first_epochs(arrays, method._epochs_read)
        needed = [method._selector_input(need, score, arrays) for need in selector.needs]
        options = method.selector_options(keep)
        options |= {need: arrays[need] for need in selector.optional_needs if need in arrays}
        if "generator" in selector.takes:
            options["generator"] = generator
        if "tie_seed" in card_of(method._wrapped_selector()).takes:
            options["tie_seed"] = tie_seed_of(generator)
        if method.has_cutoff:
            options["aum"] = Method.from_score(scores.aum_softmax).compute_score(arrays)
        if method.per_class:
            options["labels"] = labels
        selection = method._wrapped_selector()(*needed, budget=budget, **options)
        if not isinstance(selection, Selection) or len(selection) != budget:
            got = f"{len(selection)} ids" if isinstance(selection, Selection) else type(selection).__name__
            raise ArgumentError(f"selector {selector.key!r} must return a Selection of exactly {budget} ids, got {got}")
        return selection, score

    # --- private ----------------------------------------------------------------------------------------------------

    @property
    def _epochs_read(self) -> int | None:
        if callable(self.epochs):
            raise ArgumentError(f"{self.key} reads a number of epochs that depends on keep: resolve it with .at(keep)")
        return self.epochs

    def _is_embedded(self, need: str) -> bool:
        return self.embedding is not None and need in ("features", "val_features")

    @property
    def _score_option_names(self) -> list[str]:
        card = self.score_card
        return [] if card is None else [*card.options, *array_options(*card.needs)]

    def _split_score_options(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Options of the score, and options of the probe that makes its arrays (``mode`` of the curvature)."""
        probed = () if self.score_card is None else array_options(*self.score_card.needs)
        return (
            {name: value for name, value in self.score_options.items() if name not in probed},
            {name: value for name, value in self.score_options.items() if name in probed},
        )

    def _selector_input(self, need: str, score: Tensor | None, arrays: Mapping[str, Tensor]) -> Tensor:
        if not is_score(need) or need in arrays:
            array: Tensor = take(arrays, need, method=self.key)
            return array
        if score is None:
            raise ArgumentError(f"selector {self.selector_card.key!r} needs a score; name one with `score=`")
        low = self.score_card is not None and self.score_card.end == "low"
        # these selectors take high for hard, and have no option for the other end
        return -score if low and self.selector_card.key in HARDNESS_SELECTORS else score

    def _wrapped_selector(self) -> Callable[..., Selection]:
        """The selector in its wrappers: the lowest AUM dropped in every class, or of all before they are split."""
        if not self.has_cutoff:
            return self._balanced(self.selector)
        fraction = float(self.cutoff)  # type: ignore[arg-type]  # resolved by `at`
        if self.per_class and self.cutoff_in_class:
            return self._balanced(select.drop_tail(self.selector, fraction=fraction, by="aum"))
        return select.drop_tail(self._balanced(self.selector), fraction=fraction, by="aum")

    def _balanced(self, selector: Callable[..., Selection]) -> Callable[..., Selection]:
        return select.per_class(selector, split=self.class_split) if self.per_class else selector


def is_score(need: str) -> bool:
    """Whether a selector means the method's score by this name."""
    return need == "score" or need in scores.METHODS


def random_array(name: str, sizes: Mapping[str, int], generator: torch.Generator) -> Tensor:
    """Random values in the shape and dtype of an array of `TABLE`, for dry runs and tests.

    Args:
        name: of the array.
        sizes: length of each axis by its name (``epochs-1`` follows from ``epochs``).
        generator: source of the values.

    Returns:
        Floats in [0, 1), rows over the classes (last axis ``c``) summing to 1; bits; or ids 0 and 1 in turns.
    """
    axes, kind = TABLE[name].axes, TABLE[name].kind
    shape = [max(0, sizes["epochs"] - 1) if axis == "epochs-1" else sizes[axis] for axis in axes]
    if kind == "int64":
        # alternating along the first axis, repeated over the others
        return (torch.arange(shape[0]) % 2).view(-1, *[1] * (len(shape) - 1)).repeat(1, *shape[1:])
    # a level for each example times noise: examples differ over all epochs, as in a recording
    values = torch.rand(shape[-1], generator=generator) * torch.rand(shape, generator=generator)
    if kind == "bool":
        return values < 0.25
    return values.softmax(-1) if axes[-1] == "c" else values
