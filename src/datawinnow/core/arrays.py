"""The table of arrays: the names shared by recording, scoring and selecting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from datawinnow.core.errors import MissingArrayError

if TYPE_CHECKING:
    from torch import Tensor  # the command line reads this module before torch is needed


@dataclass(frozen=True)
class Array:
    """One row of the table: what an array holds and which verb makes it.

    Attributes:
        name: the parameter by which a method asks for it.
        axes: names of the axes: ``epochs``, ``n`` (examples), ``d`` (features), ``c`` (classes), ``k`` (neighbours),
            ``v`` (held-out examples) or ``runs``.
        unit: unit and meaning of the values.
        made_by: ``record``, ``probe``, ``bench``, ``data`` (it comes with the dataset) or ``given`` (by the user).
        kind: dtype.
    """

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
"""Recorded by default; `kl_step` is opt-in, since it keeps a row of class probabilities per example."""


def is_recorded(name: str) -> bool:
    """Whether `record` makes the array."""
    return name in TABLE and TABLE[name].made_by == "record"


class LazyArrays(Mapping[str, "Tensor"]):
    """Arrays by name, each loaded when it is read; iteration and ``in`` load nothing.

    Args:
        loaders: name -> function that returns the array.

    >>> import torch
    >>> arrays = LazyArrays({"loss": lambda: torch.zeros(2, 3)})
    >>> "loss" in arrays, arrays["loss"].shape
    (True, torch.Size([2, 3]))
    """

    def __init__(self, loaders: Mapping[str, Callable[[], Tensor]]) -> None:
        self._loaders = dict(loaders)

    def __getitem__(self, name: str) -> Tensor:
        return self._loaders[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._loaders  # the default of `Mapping` would load the array

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)


def chain_arrays(*sources: Mapping[str, Tensor]) -> LazyArrays:
    """The arrays of several sources under their names; the first source that has a name wins.

    Unlike `collections.ChainMap`, a `KeyError` raised while an array is made is not taken for a missing name.
    """
    # a later entry of a dict replaces an earlier one, so the first source goes in last
    return LazyArrays({name: partial(source.__getitem__, name) for source in reversed(sources) for name in source})


def first_epochs(arrays: Mapping[str, Tensor], epochs: int | None) -> Mapping[str, Tensor]:
    """The arrays with every axis of epochs cut to the first ``epochs``; None cuts nothing.

    Args:
        arrays: by name; only those of `TABLE` with an axis of epochs change.
        epochs: how many epochs are left. An ``epochs-1`` axis (`kl_step`) keeps one row less.
    """
    if epochs is None:
        return arrays

    def cut(name: str) -> Tensor:
        axis = TABLE[name].axes[0] if name in TABLE else ""
        if not axis.startswith("epochs"):
            return arrays[name]
        return arrays[name][: epochs - (axis == "epochs-1")]  # a change needs two epochs, so there is one row less

    return LazyArrays({name: partial(cut, name) for name in arrays})


def of_examples(arrays: Mapping[str, Tensor], index: Tensor) -> Mapping[str, Tensor]:
    """The arrays of the examples at ``index`` (m,) alone, each cut when it is read.

    Arrays without an axis of examples stay; ``neighbours``, which are ids of all examples, are left out.

    Args:
        arrays: by name.
        index: (m,) int64 ids.
    """

    def cut(name: str) -> Tensor:
        axes = TABLE[name].axes if name in TABLE else ("n",)
        return arrays[name].index_select(axes.index("n"), index) if "n" in axes else arrays[name]

    return LazyArrays({name: partial(cut, name) for name in arrays if name != "neighbours"})


def take(arrays: Mapping[str, Any], name: str, *, method: str) -> Any:
    """``arrays[name]``, or an error that names the array and the verb that makes it.

    Raises:
        MissingArrayError: the array is missing.
    """
    if name in arrays:
        return arrays[name]
    have = ", ".join(sorted(arrays)) or "none"
    if name not in TABLE:
        raise MissingArrayError(f"{method} needs {name!r}, which is not in the table of arrays (there are: {have})")
    remedy = {
        "record": f"record it with `dw.api.record(data, signals={name!r})`"
        if name == "kl_step"
        else "make it with `dw.api.record(data)`",
        "probe": "make it with a pass over a trained model (datawinnow.probe)",
        "given": f"pass it yourself, one number per example ({TABLE[name].unit})",
        "data": "it comes with the dataset",
        "bench": "it is made by training on subsets",
    }[TABLE[name].made_by]
    raise MissingArrayError(
        f"{method} needs the array {name!r} ({TABLE[name].unit}), which is missing; {remedy}. There are: {have}"
    )
