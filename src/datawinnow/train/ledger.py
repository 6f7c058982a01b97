"""How long a training is, what each of its epochs costs, and how far its schedule is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from datawinnow.core import check
from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError
from datawinnow.data.batches import batch_sizes
from datawinnow.train.in_batch import InBatchSelector
from datawinnow.train.size_schedule import SizePlan
from datawinnow.train.text_costs import TextCosts

MAX_EPOCHS = 1 << 20
"""Upper limit of ``epochs`` and ``passes``, against typing errors."""


@dataclass(frozen=True)
class TrainLength:
    """The length of a training, by one of ``epochs`` and ``passes``.

    Attributes:
        epochs: passes over the examples that are trained on.
        passes: a budget of examples, in passes over them all.
        schedule_epochs: epochs of the whole schedule, of which the first ``epochs`` are trained; None for ``epochs``.

    Raises:
        ArgumentError: none or both of ``epochs`` and ``passes``, or a number out of range.
    """

    epochs: float | None = None
    passes: float | None = None
    schedule_epochs: float | None = None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.passes is None):
            raise ArgumentError(f"give one of `epochs=` and `passes=`, got {self.epochs} and {self.passes}")
        name = "epochs" if self.passes is None else "passes"
        if self.value == 0:
            raise ArgumentError(f"{name} must be above 0, got 0: fit trains")
        check.number(name, self.value, 0, MAX_EPOCHS)
        if self.schedule_epochs is not None:
            check.number("schedule_epochs", self.schedule_epochs, self.value, MAX_EPOCHS)

    @property
    def value(self) -> float:
        """``epochs`` or ``passes``, whichever is set."""
        length = self.epochs if self.passes is None else self.passes
        assert length is not None
        return length

    @property
    def schedule_length(self) -> float:
        """Epochs of the whole schedule."""
        return self.value if self.schedule_epochs is None else self.schedule_epochs


def epoch_lengths(epochs: float, n: int, batch: int) -> list[int]:
    """Number of examples of each epoch over ``n`` examples, ``round(epochs * n)`` in all.

    A rest smaller than half a batch is left out: batch norm cannot work on one or two.

    Args:
        epochs: passes over the examples; may be a fraction.
        n: number of examples.
        batch: examples a step.

    >>> epoch_lengths(2, 1000, 100), epoch_lengths(1.25, 1000, 100)
    ([1000, 1000], [1000, 250])
    >>> epoch_lengths(1.01, 1000, 100), epoch_lengths(0.01, 1000, 100)
    ([1000], [10])
    """
    # at least one example, however small the fraction
    full_epochs, rest = divmod(max(1, round(epochs * n)), n)
    # a run of less than one epoch keeps its rest, whatever its size
    return [n] * full_epochs + ([rest] if not full_epochs or 2 * rest >= batch else [])


@dataclass
class Ledger:
    """Counts the examples, steps and cost of a training, epoch by epoch.

    An epoch's length is known in advance, unless a policy plans the epochs (``planned``) or the training ends by a
    ``budget``; `start_epoch` then fixes it when the epoch starts. The unit of a charge is a trained example: a choice
    inside batches is charged beside the training, where a forward pass counts a third.

    Texts: floating-point operations are those of each step's longest text. Where a policy or a size schedule decides
    the steps, charges are too, in the unit of `TextCosts`; without either an example is an example, whose average cost
    that is.

    Attributes:
        batch: examples that a step loads; it trains on all of them unless ``in_batch`` chooses.
        num_loaded: examples that each epoch loads; under a budget or a policy, of the epochs started so far.
        schedule_epochs: epochs of the whole schedule.
        schedule_steps: steps of the whole schedule, if every epoch's length is known in advance.
        budget: examples to be charged in all; None to end after ``num_epochs``.
        num_epochs: epochs to train; unused under a budget.
        planned: whether a policy plans each epoch.
        flops_per_example: floating-point operations of training on one example in the current epoch.
        passes_per_example: cost of training on one example, in forward and backward passes of it; above 1 if the loss
            has a curvature term.
        trained_share: operations of training on an example over those of training all parameters; below 1 where some
            are frozen.
        in_batch: chooses inside each loaded batch; None to train on all of it.
        sizes: sizes of the inputs and what a step at each costs; None for full size throughout.
        texts: cost of a step by its longest text; None where all examples have one size.
        charges: where `by_operations`: charge of each epoch started so far, in examples of full size.
        text_examples: with ``texts``: operations of the current epoch, in average texts.
        step_sizes: with ``sizes``: size of the inputs at each step of the current epoch.
        charged_before_epoch: charged for all epochs before the current one.
        steps_before_epoch: steps before the current epoch.
        epoch_charge: charge of the current epoch.
        steps_after_epoch: steps after the current epoch; an estimate if those epochs are not planned yet.
    """

    batch: int
    num_loaded: list[int]
    schedule_epochs: float
    schedule_steps: int
    budget: int | None
    num_epochs: int
    planned: bool
    flops_per_example: float = 0.0
    passes_per_example: float = 1.0
    trained_share: float = 1.0
    in_batch: InBatchSelector | None = None
    sizes: SizePlan | None = None
    texts: TextCosts | None = None
    charges: list[float] = field(default_factory=list)
    text_examples: float = 0.0
    step_sizes: list[int] = field(default_factory=list)
    charged_before_epoch: float = 0.0
    steps_before_epoch: int = 0
    epoch_charge: float = 0.0
    steps_after_epoch: int = 0
    _charged_before_step: list[float] = field(default_factory=list)

    @property
    def by_operations(self) -> bool:
        """Whether an epoch's charge depends on the sizes of its steps."""
        return self.sizes is not None or (self.texts is not None and self.planned)

    def start_epoch(self, epoch: int, order: Tensor, deal: Callable[[Tensor], Tensor] = lambda order: order) -> Tensor:
        """Make ``epoch`` the current one.

        Args:
            epoch: from 0.
            order: (m,) ids that it may load.
            deal: puts ids into the order in which they are cut into batches.

        Returns:
            The ids that it loads, in order.
        """
        # cached: `progress` reads them at every step
        self.charged_before_epoch, self.steps_before_epoch = self.charged_before(epoch), self.steps_before(epoch)
        # slice assignment appends the epoch, or replaces it together with all later ones
        if self.budget is not None:
            remaining = self.budget - self.charged_before_epoch
            if self.by_operations and self.texts is not None:
                count = self._affordable_texts(epoch, remaining, order, deal)
            else:
                count = self._affordable(epoch, remaining, len(order))
            self.num_loaded[epoch:] = [count]
        elif self.planned:
            self.num_loaded[epoch:] = [len(order)]
        dealt = deal(order[: self.num_loaded[epoch]])
        if self.sizes is not None or self.texts is not None:
            charge = self._plan_steps(epoch, len(dealt), self._lengths(dealt))
            self.text_examples = charge
            if self.by_operations:
                self.charges[epoch:] = [charge]
        self.epoch_charge = self.charge(epoch)
        self.steps_after_epoch = self._steps_after(epoch)
        return dealt

    def is_finished(self, epoch: int) -> bool:
        """Whether training ends before ``epoch``; under a budget, a rest below half a batch is left out."""
        if self.budget is None:
            return epoch >= self.num_epochs
        remaining = self.budget - self.charged_before(epoch)
        # the first epoch is always trained, however small the budget
        return epoch > 0 and 2 * self._affordable(epoch, remaining, self.batch) < self.batch

    def num_steps(self, epoch: int) -> int:
        """Steps of an epoch that was started or is known in advance."""
        return -(-self.num_loaded[epoch] // self.batch)

    def steps_before(self, epoch: int) -> int:
        """Steps of all epochs before ``epoch``."""
        return sum(map(self.num_steps, range(epoch)))

    def num_trained(self, epoch: int) -> int:
        """Examples that an epoch trains on: those loaded, or those kept of them."""
        loaded = self.num_loaded[epoch]
        return loaded if self.in_batch is None else self.in_batch.num_trained(loaded)

    def charge(self, epoch: int) -> float:
        """Cost of an epoch in trained examples."""
        if self.by_operations:
            return self.charges[epoch]
        loaded = self.num_loaded[epoch]
        return loaded if self.in_batch is None else self.in_batch.epoch_cost(loaded, self.steps_before(epoch)).passes

    def charged_before(self, epoch: int) -> float:
        """Charges of all epochs before ``epoch``."""
        return sum(map(self.charge, range(epoch)))

    def progress(self, epoch: int, step: int) -> float:
        """How far the schedule is at a step of the current epoch, from 0 to 1.

        By charges under a budget, so that the learning rate ends where it should however long the epochs are; by epochs
        and within each by steps, where a policy plans them; else by steps.
        """
        if self.budget is not None:
            if self.sizes is not None:
                return self._time(self.charged_before_epoch + self._charged_before_step[step])
            return (self.charged_before_epoch + step / self.num_steps(epoch) * self.epoch_charge) / self.budget
        if self.planned:
            return (epoch + step / self.num_steps(epoch)) / self.schedule_epochs
        # all epochs but the last have the length of the first
        return (epoch * self.num_steps(0) + step) / self.schedule_steps

    def steps_done(self, epoch: int, step: int) -> tuple[int, int]:
        """Steps done after a step of the current epoch, and steps in all (see ``steps_after_epoch``)."""
        total = self.steps_before_epoch + self.num_steps(epoch) + self.steps_after_epoch
        return self.steps_before_epoch + step + 1, total

    def cost(self, epoch: int, seconds: float) -> Cost:
        """Cost of the current epoch."""
        # smaller inputs count by their operations
        trained = self.charges[epoch] if self.by_operations else self.num_trained(epoch)
        # a batch that chose among longer texts is on average as long as the others
        worked = trained if self.texts is None or self.in_batch is not None else self.text_examples
        passes = self.passes_per_example
        cost = Cost(seconds, 0, round(passes * self.trained_share * trained), passes * self.flops_per_example * worked)
        if self.in_batch is not None:
            cost += self.in_batch.selection_cost(self.num_loaded[epoch], self.steps_before_epoch)
        return cost

    def _affordable(self, epoch: int, remaining: float, limit: int) -> int:
        """Examples, up to ``limit``, that an epoch may load for what remains of the budget."""
        if self.sizes is not None:
            return self._affordable_sizes(epoch, remaining, limit, self.sizes)
        if self.in_batch is None:
            return min(limit, int(remaining))
        return self.in_batch.affordable(remaining, self.steps_before(epoch), limit)

    def _time(self, charged: float) -> float:
        """Share of the steps done when ``charged`` of the budget is spent."""
        assert self.sizes is not None
        assert self.budget is not None
        return self.sizes.progress_at_cost(charged / self.budget)

    def _affordable_sizes(self, epoch: int, remaining: float, limit: int, sizes: SizePlan) -> int:
        """Examples, up to ``limit``, that an epoch of changing sizes may load for what remains of the budget."""
        charged, loaded, cost = self.charged_before(epoch), 0, 0.0
        for step, count in enumerate(batch_sizes(limit, self.batch)):
            if step == 0 or not sizes.by_epoch:
                cost = sizes.cost(self._time(charged))
            if count * cost > remaining + 1e-6:
                return loaded + int(remaining / cost)
            charged, remaining, loaded = charged + count * cost, remaining - count * cost, loaded + count
        return loaded

    def _affordable_texts(self, epoch: int, remaining: float, order: Tensor, deal: Callable[[Tensor], Tensor]) -> int:
        """Examples at the start of ``order`` that an epoch may load for what remains of the budget, at least 1."""
        count = len(order)
        while True:
            dealt = deal(order[:count])
            charge = self._plan_steps(epoch, count, self._lengths(dealt))
            if count == 1 or charge <= remaining + 1e-6:
                return count
            # fewer are dealt anew: the batches that they make cost a little more or less
            count = max(1, min(count - 1, int(count * remaining / charge)))

    def _lengths(self, dealt: Tensor) -> list[int] | None:
        return None if self.texts is None else self.texts.steps(dealt, self.batch)

    def _plan_steps(self, epoch: int, num_examples: int, lengths: list[int] | None) -> float:
        """The charge of an epoch; sets the size and the charge before each of its steps.

        Args:
            epoch: the current one.
            num_examples: that it loads.
            lengths: tokens of the longest text of each step; None for images.
        """
        self.step_sizes, self._charged_before_step, stage, charged = [], [], 0, 0.0
        counts = batch_sizes(num_examples, self.batch)
        for step, count in enumerate(counts):
            self._charged_before_step.append(charged)
            cost = 1.0
            if self.sizes is not None:
                if step == 0 or not self.sizes.by_epoch:
                    stage = self.sizes.stage_at(self._size_progress(epoch, step, len(counts)))
                self.step_sizes.append(self.sizes.sizes[stage])
                cost = self.sizes.costs[stage]
            if lengths is not None and self.texts is not None:
                cost = self.texts.cost(min([lengths[step], *self.step_sizes[step:]]))
            charged += count * cost
        return charged

    def _size_progress(self, epoch: int, step: int, num_steps: int) -> float:
        """`progress` at a step of an epoch of ``num_steps`` steps, whose length is not fixed yet."""
        if self.budget is not None:
            return self._time(self.charged_before_epoch + self._charged_before_step[step])
        return self.progress(epoch, step) if not self.planned else (epoch + step / num_steps) / self.schedule_epochs

    def _steps_after(self, epoch: int) -> int:
        """Steps after an epoch, as if those not planned yet were like it."""
        if self.budget is not None:
            remaining = self.budget - self.charged_before_epoch - self.epoch_charge
            if self.sizes is not None:
                num_steps = self.budget / self.sizes.mean_cost / self.batch
                done = self._time(self.charged_before_epoch + self.epoch_charge)
                return round((1 - done) * num_steps)
            if self.in_batch is None:
                return math.ceil(remaining / self.batch)
            return round(remaining / self.epoch_charge * self.num_steps(epoch))
        if self.planned:
            return (self.num_epochs - epoch - 1) * self.num_steps(epoch)
        return sum(map(self.num_steps, range(epoch + 1, self.num_epochs)))
