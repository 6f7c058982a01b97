"""`History`: what happened in a training, a row an epoch."""

from __future__ import annotations

from dataclasses import dataclass, field

from datawinnow.core.cost import Cost


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """What `fit` measures in an epoch.

    Attributes:
        epoch: from 0.
        loss: mean cross-entropy of the examples trained on, in nats.
        accuracy: of the same examples, in [0, 1].
        learning_rate: of the last step.
        planning_seconds: of the policy.
        examples: number trained on.
        steps: number of optimizer steps.
        fraction: examples trained on, of all.
        loaded: number of examples loaded, where a batch selector leaves some out.
        input_size: of the images of the last step, where a schedule changes it.
        full_size_examples: examples by their operations, where a schedule changes the size of images.
    """

    epoch: int
    loss: float
    accuracy: float
    learning_rate: float
    planning_seconds: float
    examples: int
    steps: int
    fraction: float
    loaded: int | None = None
    input_size: int | None = None
    full_size_examples: float | None = None


@dataclass
class History:
    """What happened in a training, a row an epoch.

    Attributes:
        rows: ``epoch``, ``loss`` and ``accuracy`` (of the training batches, while they were trained on),
            ``learning_rate`` (at the end), ``seconds``, ``planning_seconds`` (of these, for deciding what to train on),
            ``examples``, ``steps``, ``fraction`` (of the examples that could be trained on), with a choice inside
            batches ``loaded``, with a size schedule ``input_size`` (of the last step) and ``full_size_examples``
            (examples by their operations: two of half the operations count as one), ``test_accuracy`` and ``test_loss``
            (NaN in epochs without an evaluation).
        cost: of training; evaluation is not charged.
        precision: ``"fp32"`` or ``"bf16"``.
        channels_last: whether images were in that memory format.
        notes: sentences for the user on choices that were made before training.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)
    precision: str = "fp32"
    channels_last: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def test_accuracy(self) -> float:
        """Accuracy on the test split after the last epoch, in [0, 1]; NaN if it was not evaluated."""
        return self.rows[-1]["test_accuracy"] if self.rows else float("nan")

    @property
    def test_loss(self) -> float:
        """Cross-entropy on the test split after the last epoch, in nats; NaN if it was not evaluated."""
        return self.rows[-1]["test_loss"] if self.rows else float("nan")

    def add(self, cost: Cost, metrics: EpochMetrics) -> dict[str, float]:
        """Add an epoch's row and its cost.

        Returns:
            The row, with NaN for ``test_accuracy`` and ``test_loss``, for the caller to fill in.
        """
        row: dict[str, float] = {
            "epoch": metrics.epoch,
            "loss": metrics.loss,
            "accuracy": metrics.accuracy,
            "learning_rate": metrics.learning_rate,
            "seconds": cost.seconds,
            "planning_seconds": metrics.planning_seconds,
            "examples": metrics.examples,
            "steps": metrics.steps,
            "fraction": metrics.fraction,
        }
        row |= {} if metrics.loaded is None else {"loaded": metrics.loaded}
        row |= {} if metrics.input_size is None else {"input_size": metrics.input_size}
        row |= {} if metrics.full_size_examples is None else {"full_size_examples": metrics.full_size_examples}
        row |= {"test_accuracy": float("nan"), "test_loss": float("nan")}
        self.cost += cost
        self.rows.append(row)
        return row
