"""The table of arrays: the names through which recording, scoring and selecting meet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datawinnow.core.errors import MissingArrayError


@dataclass(frozen=True)
class Array:
    """One row of the table: what an array holds and which verb makes it."""

    name: str
    axes: tuple[str, ...]
    unit: str
    made_by: str
    kind: str = "float32"


TABLE: dict[str, Array] = {
    row.name: row
    for row in (
        Array("labels", ("n",), "class id as trained on", "data", "int64"),
        Array("loss", ("epochs", "n"), "nats", "record"),
        Array("p_label", ("epochs", "n"), "probability of the given label", "record"),
        Array("margin", ("epochs", "n"), "label logit minus best other logit", "record"),
        Array("error_norm", ("epochs", "n"), "L2 norm of softmax minus one-hot", "record"),
        Array("entropy", ("epochs", "n"), "nats", "record"),
        Array("kl_step", ("epochs-1", "n"), "change of the prediction since the last epoch (TDDS)", "record"),
        Array("correct", ("epochs", "n"), "1 where the arg-max is the label", "record", "bool"),
        Array("seen", ("epochs", "n"), "1 where the example was seen in the epoch", "record", "bool"),
        Array("margin_softmax", ("epochs", "n"), "probability: label minus best other", "record"),
        Array("margin_top2", ("epochs", "n"), "probability: first minus second", "record"),
        Array("features", ("n", "d"), "penultimate activations", "probe"),
        Array("probs", ("n", "c"), "probability, one pass of a trained model", "probe"),
        Array("grad_norm", ("n",), "L2 norm of the gradient", "probe"),
        Array("boundary_distance", ("n",), "L2 norm of the smallest change that changes the answer", "probe"),
        Array("curvature", ("n",), "L2 norm, see the method", "probe"),
        Array("neighbours", ("n", "k"), "ids of the nearest in features", "probe", "int64"),
        Array("irreducible_loss", ("n",), "nats", "given"),
        Array("cost", ("n",), "whatever the user pays", "given"),
        Array("val_features", ("v", "d"), "penultimate activations of held-out data", "probe"),
        Array("val_probs", ("v", "c"), "probability on held-out data", "probe"),
        Array("val_labels", ("v",), "class id of held-out data", "data", "int64"),
        Array("subset_mask", ("runs", "n"), "1 where the run trained on the example", "bench", "bool"),
        Array("subset_correct", ("runs", "n"), "1 where the run has it right", "bench", "bool"),
    )
}

RECORDED = ("loss", "p_label", "margin", "error_norm", "entropy", "correct", "margin_softmax", "margin_top2")
"""Recorded unless asked otherwise; `kl_step` is opt-in, since it keeps a row of class probabilities an example."""


def take(arrays: Mapping[str, Any], name: str, *, method: str) -> Any:
    """``arrays[name]``, or an error that names the array and the verb that makes it.

    Raises:
        MissingArrayError: the array is not there.
    """
    if name in arrays:
        return arrays[name]
    have = ", ".join(sorted(arrays)) or "none"
    if name not in TABLE:
        raise MissingArrayError(f"{method} needs {name!r}, which is not in the table of arrays (there are: {have})")
    verb = TABLE[name].made_by
    how = {
        "record": f"record it with: datawinnow record DATA --signals {name}"
        if name == "kl_step"
        else "make it with: datawinnow record DATA",
        "probe": "make it with a pass over a trained model (datawinnow.probe)",
        "given": f"give it yourself, one number an example ({TABLE[name].unit})",
        "data": "it comes with the dataset",
        "bench": "it is made by training on subsets",
    }[verb]
    raise MissingArrayError(
        f"{method} needs the array {name!r} ({TABLE[name].unit}), which is not there; {how}. There are: {have}"
    )
