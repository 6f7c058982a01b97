"""The text and figures of a training: its data, its accuracy, and examples passed compared with all the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from datawinnow.report import run_plots, words


def trained(metadata: dict[str, Any]) -> bool:
    """Whether the run is a training, by `datawinnow train`; else it records and selects."""
    return "train" in metadata["status"] or "train" in metadata["options"]


def lead(metadata: dict[str, Any], history: pa.Table | None) -> str:
    """The data, the cost compared with all the data for as many epochs, and the accuracy."""
    options = metadata["options"].get("train") or {}
    return " ".join(
        [_on(options, metadata["dataset"]["n"], history), *_cost_lines(options, metadata, history), _reached(metadata)]
    )


def _on(options: dict[str, Any], n: int, history: pa.Table | None) -> str:
    epochs = len(history) if history is not None else 0
    selected, policy = options.get("selection"), options.get("policy")
    examples = f"{n:,} examples"
    if selected:
        method = selected.get("label") or selected.get("method") or "an unknown method"
        examples = f"{selected['kept']:,} of {n:,} examples, kept by {method}"
    if policy:
        return f"{policy} chose the examples of each of {words.many(epochs, 'epoch')} among {examples}."
    return f"Trained for {words.many(epochs, 'epoch')} on {'' if selected else 'all '}{examples}."


def _cost_lines(options: dict[str, Any], metadata: dict[str, Any], history: pa.Table | None) -> list[str]:
    """Examples passed against all the data; nothing where it passed all of them."""
    passed = (metadata["cost"].get("train") or {}).get("backward") or 0
    if history is None or not passed:
        return []
    # What finding the selection cost, in examples passed; it is part of the price of the training.
    scoring = int((options.get("selection") or {}).get("charge") or 0)
    full, total = metadata["dataset"]["n"] * len(history), passed + scoring
    if total == full:
        return [f"{passed:,} examples passed."]
    counted = f" ({scoring:,} of them in scoring)" if scoring else ""
    return [
        f"{total:,} examples passed{counted}: {words.ratio(total / full)} of the {full:,} of "
        f"{words.many(len(history), 'epoch')} on all the data."
    ]


def _reached(metadata: dict[str, Any]) -> str:
    status = str(metadata["status"].get("train", "not begun"))
    if status != "done":
        return f"Not finished ({status}): run the same command again to resume."
    accuracy = (metadata.get("result") or {}).get("test_accuracy")
    if accuracy is None:
        return "There was no test split to evaluate on."
    return f"Test accuracy after the last epoch: {100 * accuracy:.2f}%."


def figures(history: pa.Table | None, policy: bool) -> list[dict[str, Any]]:
    """Accuracy by epoch, and what share of the examples the epochs of a policy trained on."""
    if history is None or len(history) < 2:
        return []
    drawn = [
        {
            "svg": run_plots.training(history),
            "title": "Training",
            "caption": "Accuracy on the training examples while training, and on the test split, if any, after the "
            "last epoch.",
        }
    ]
    if policy and "fraction" in history.column_names:
        shares = history.column("fraction").to_numpy()
        drawn.append(
            {
                "svg": run_plots.fractions(shares),
                "title": "Examples per epoch",
                "caption": f"The share of the examples that each epoch trained on: {words.share(shares.mean())}"
                f" on average, {words.share(np.min(shares))} to {words.share(np.max(shares))}.",
            }
        )
    return drawn
