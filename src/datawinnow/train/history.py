"""`History`: what happened in a training run, a row an epoch."""

from __future__ import annotations

from dataclasses import dataclass, field

from datawinnow.core.cost import Cost


@dataclass
class History:
    """What happened, a row an epoch.

    Attributes:
        rows: ``epoch``, ``loss`` and ``accuracy`` (training, running), ``learning_rate`` (at the end), ``seconds``,
            ``planning_seconds`` (of these, deciding what to train on), ``examples``, ``steps``, ``fraction`` (of those
            that could be trained on), ``test_accuracy``, ``test_loss`` (NaN unless evaluated).
        cost: of training; evaluation is not charged.
        precision: arithmetic used.
        channels_last: memory format used.
        notes: what was chosen, to be told.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)
    precision: str = "fp32"
    channels_last: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def test_accuracy(self) -> float:
        """Accuracy on the test split after the last epoch; NaN if there was none."""
        return self.rows[-1]["test_accuracy"] if self.rows else float("nan")

    @property
    def test_loss(self) -> float:
        """Cross-entropy on the test split after the last epoch, in nats."""
        return self.rows[-1]["test_loss"] if self.rows else float("nan")

    def add(
        self, epoch: int, loss: float, accuracy: float, rate: float, cost: Cost, **counted: float
    ) -> dict[str, float]:
        """Add an epoch's row and its cost, with what else was ``counted``; given back, to put a test accuracy in."""
        row: dict[str, float] = {"epoch": epoch, "loss": loss, "accuracy": accuracy, "learning_rate": rate}
        row |= {"seconds": cost.seconds, **counted}
        row |= {"test_accuracy": float("nan"), "test_loss": float("nan")}
        self.cost += cost
        self.rows.append(row)
        return row
