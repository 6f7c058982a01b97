"""HideEasy (KAKURENBO): hide examples of lowest loss, but only those that are right and sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.dynamic.plan import plan_everything, plan_from_reasons, reason_codes, topk_random_ties
from datawinnow.dynamic.policy import State, Stream
from datawinnow.dynamic.signal import SignalNeeds, check_signal, observed_hardness
from datawinnow.dynamic.state import (
    any_observed,
    check_num_examples,
    get_int,
    get_tensor,
    num_examples,
    unobserved,
    validate_signal,
    with_values,
)

HIDING_STAGES = ((0.3, 1.0), (0.6, 0.8), (0.8, 0.6), (1.0, 0.4))
"""Ends of the stages, as shares of the run, and the factor on ``drop`` in each: the published ones of CIFAR-100."""


@card(
    "policy",
    "KAKURENBO",
    "Nguyen et al. 2023, KAKURENBO: Adaptively Hiding Samples in Deep Neural Network Training, arXiv 2310.10102",
    cost="time O(n) a plan, memory O(n): 9 bytes an example",
)
@dataclass(frozen=True)
class HideEasy:
    """Hide the examples of lowest loss, and of these move back what was not right and sure.

    In every epoch the F n examples of lowest loss are candidates. Those that were right at their last visit, with a
    probability of the label of ``confidence`` or more, are hidden; the others are moved back. So a share F is the most
    that is hidden, and early in training much less is. F is ``drop`` times 1, 0.8, 0.6 and 0.4 in the stages of the
    run that end at 30%, 60%, 80% and 100% of it. Before there are losses, the epoch has everything; an example that
    was never visited is not hidden.

    Differences from the published code, which has no licence: it runs a forward pass over the hidden examples after
    each epoch, where the loss and the confidence here are those of the last visit, so an example comes back as others
    become easier than it was, and as F falls. It multiplies the learning rate by 1 / (1 - F), by the share **allowed**
    and not by the hidden one (early in training far fewer), which ``rescale="allowed"`` repeats. Of its list of
    factors (1, 1, 0.8, 0.6, 0.4) and stages (to epochs 60, 120 and 160 of 200) the two lengths do not fit each other;
    the four above are how we read them. ``drop`` is our default.

    Args:
        epochs: length of the run, which sets the stages.
        drop: largest fraction of the examples hidden, in [0, 1).
        confidence: smallest probability of the label with which an example may be hidden, in [0, 1].
        rescale: weights of the kept: ``"none"`` (ones), ``"realised"`` (n over the number kept) or ``"allowed"``
            (1 / (1 - F)).
        signal: what ranks the examples, as of `UCB`.

    Returns:
        A policy. The number of ids in a plan depends on the losses: at least a fraction ``1 - drop``.

    Raises:
        ArgumentError: an option out of range.

    References:
        Nguyen et al. 2023, arXiv 2310.10102.

    >>> from datawinnow.core.rng import stream
    >>> policy = HideEasy(epochs=10, drop=0.5)
    >>> signals = {"loss": [0.1, 0.2, 2.0, 3.0], "p_label": [0.9, 0.5, 0.1, 0.1], "correct": [1.0, 1.0, 0.0, 0.0]}
    >>> signals = {name: torch.tensor(values) for name, values in signals.items()}
    >>> state = policy.observe(policy.init(4), torch.arange(4), **signals)
    >>> sorted(policy.plan(1, state, lambda *path: stream(0, *path))[0].index.tolist())
    [1, 2, 3]
    """

    epochs: int
    drop: float = 0.3
    confidence: float = 0.7
    rescale: Literal["none", "realised", "allowed"] = "allowed"
    signal: str = "loss"
    needs: ClassVar[Any] = SignalNeeds("correct", "p_label")

    def __post_init__(self) -> None:
        check.number("epochs", self.epochs, 1, 2**31, integer=True)
        check.number("drop", self.drop, 0, 1 - 1e-6)
        check.number("confidence", self.confidence, 0, 1)
        check.one_of("rescale", self.rescale, ("none", "realised", "allowed"))
        check_signal(self.signal)

    @property
    def run_epochs(self) -> int:
        """Length of the run."""
        return self.epochs

    @property
    def across_sizes(self) -> str:
        """What is compared with a fixed number although it changes with the size of the inputs."""
        return f"confidence={self.confidence:g} is compared with probabilities that are lower on smaller inputs"

    def allowed(self, epoch: int) -> float:
        """F: the largest fraction hidden in ``epoch``."""
        done = epoch / self.epochs
        # The tolerance meets a boundary that is whole on paper, such as 0.3 * 10.
        return self.drop * next((factor for end, factor in HIDING_STAGES if done < end - 1e-9), HIDING_STAGES[-1][1])

    def fraction(self, epoch: int) -> float:
        """Everything in epoch 0; later the least that is kept, since what is moved back depends on the network."""
        return 1.0 if epoch == 0 else 1 - self.allowed(epoch)

    def init(self, n: int) -> State:
        """Of the last visit: ``loss`` (n,) float32, NaN for none, ``p_label`` (n,) float32, ``correct`` (n,) bool."""
        n = check_num_examples(n)
        return {"n": n, "loss": unobserved(n), "p_label": torch.zeros(n), "correct": torch.zeros(n, dtype=torch.bool)}

    def observe(self, state: State, index: Tensor, **signals: Any) -> State:
        """Remember ``signal``, correctness and probability of the label of the visited."""
        ids, loss = observed_hardness(state, index, self.signal, signals)
        n = get_int(state, "n")
        p_label, correct = (validate_signal(n, index, name, signals)[1] for name in ("p_label", "correct"))
        return with_values(state, ids, loss=loss, p_label=p_label, correct=correct > 0.5)

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """All but the candidates that are right and sure."""
        n, draws = num_examples(epoch, state), stream("hide_easy", epoch)
        # Rounded down: no more are hidden than allowed, and of one example none.
        count = int(self.allowed(epoch) * n + 1e-9)
        if not count or not any_observed(state, "loss"):
            return plan_everything(n, draws), state
        easy = topk_random_ties(-get_tensor(state, "loss").nan_to_num(nan=torch.inf), count, draws)
        sure = get_tensor(state, "correct")[easy] & (get_tensor(state, "p_label")[easy] >= self.confidence)
        codes = reason_codes(n, Reason.KEPT)
        codes[easy[sure]] = int(Reason.BELOW_CUT)
        factor = {"none": 1.0, "realised": n / (n - int(sure.sum())), "allowed": 1 / (1 - self.allowed(epoch))}
        return plan_from_reasons(codes, draws, torch.full((n,), factor[self.rescale])), state
