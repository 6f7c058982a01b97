"""What the pipeline asks of a dataset, whatever its type, and the network for it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.rng import forked
from datawinnow.data.fingerprint import check_map_style, fingerprint_of, labels_of
from datawinnow.data.kept import Kept
from datawinnow.models import build, choose
from datawinnow.train.setup import first_batch

Model = str | Callable[..., nn.Module] | None


def describe(data: Any, source: str = "") -> dict[str, Any]:
    """What ``run.json`` says about a dataset; works for any map-style dataset.

    Args:
        data: `Examples` or a map-style dataset of ``(x, y)``.
        source: what the user called it.

    Raises:
        ArgumentError: not map-style, or a selection instead of the whole.
        DataError: no examples, or items that are not ``(x, y)`` with a tensor and an integer.
    """
    check_map_style(data)
    if isinstance(data, Kept):
        raise ArgumentError(
            "the dataset is a selection already (Kept): give the whole, its .dataset, or a dataset of its own such as "
            ".dataset.subset(.selection.index)"
        )
    if len(data) == 0:
        raise DataError(f"the dataset {getattr(data, 'name', type(data).__name__)!r} holds no examples")
    shape, classes = getattr(data, "shape", None), getattr(data, "classes", None)
    if shape is None:
        shape = _shape_of(data)
    if classes is None:
        classes = [str(c) for c in range(int(read_labels(data).max()) + 1)]
    return {
        "name": getattr(data, "name", type(data).__name__),
        "fingerprint": fingerprint_of(data),
        "n": len(data),
        "shape": [int(side) for side in shape],
        "classes": [str(c) for c in classes],
        "notes": list(getattr(data, "notes", ())),
        "source": source,
        **_of_texts(data),
    }


def _of_texts(data: Any) -> dict[str, Any]:
    """What a network for texts must know; nothing of another dataset."""
    size = getattr(data, "vocabulary_size", None)
    return {} if size is None else {"vocabulary": int(size), "tokenizer": str(getattr(data, "tokenizer", ""))}


def facts_of(data: Any) -> dict[str, Any]:
    """What `models.build` is told of examples that tell their shape and classes, as keyword arguments."""
    return {"shape": tuple(data.shape), "classes": len(data.classes), **_of_texts(data)}


def network_facts(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What `models.build` is told of the dataset that ``facts`` describe, as keyword arguments."""
    told = {"shape": tuple(metadata["shape"]), "classes": len(metadata["classes"])}
    return told | {key: metadata[key] for key in ("vocabulary", "tokenizer") if key in metadata}


def _shape_of(data: Any) -> tuple[int, ...]:
    item = data[0]
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise DataError(
            f"an item of the dataset must be (x, y), got {type(item).__name__}"
            + (f" of length {len(item)}" if hasattr(item, "__len__") else "")
            + "; wrap it in a dataset that returns the two"
        )
    shape = getattr(item[0], "shape", () if isinstance(item[0], (int, float)) else None)
    if shape is None:
        raise DataError(
            f"x must be a tensor (or an array), got {type(item[0]).__name__}; add a transform such as ToTensor"
        )
    return tuple(shape)


def read_labels(data: Any) -> Tensor:
    """(n,) int64 labels, told by the dataset or else read item by item.

    Raises:
        DataError: a label is no integer of 0 or above; the example is named.
    """
    found = labels_of(data)
    if found is not None:
        return found
    return torch.tensor([_label(data, i) for i in range(len(data))], dtype=torch.int64)


def _label(data: Any, i: int) -> int:
    y = data[i][1]
    try:
        label = operator.index(y)  # refuses 1.5, which int() would cut to 1
    except TypeError:
        raise DataError(f"labels must be integer class ids, got {y!r} at example {i}") from None
    if label < 0:
        raise DataError(f"labels must be class ids of 0 and above, got {label} at example {i}")
    return label


def ids_of(data: Any) -> list[str]:
    """(n,) a name for each example."""
    own = getattr(data, "ids", None)
    return [str(i) for i in own] if own is not None else [str(i) for i in range(len(data))]


def network(model: Model, metadata: Mapping[str, Any], seed: int, **options: Any) -> tuple[nn.Module, str, str]:
    """A fresh network for the dataset that ``facts`` describe: network, its name, and why it was chosen (or "")."""
    why = ""
    if model is None:
        shape, vocabulary = tuple(metadata["shape"]), metadata.get("vocabulary")
        model, why = choose(shape, accelerator=torch.cuda.is_available(), vocabulary=vocabulary)
    with forked(seed, "weights"):
        built = build(model, **network_facts(metadata), **options)
    return built, model if isinstance(model, str) else getattr(model, "__name__", type(built).__name__), why


def check_outputs(model: nn.Module, data: Any, metadata: Mapping[str, Any]) -> None:
    """Refuse a network that has fewer outputs than the dataset has classes; torch's own words for it name neither.

    Two examples go through it. Here and not only in `fit`, since the classes of a dataset that does not tell them are
    known here, and since nothing is left behind yet.

    Args:
        model: the network.
        data: the dataset.
        metadata: what `describe` says of it.

    Raises:
        ArgumentError: naming both numbers.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    was, classes = model.training, len(metadata["classes"])
    with forked(0, "outputs"), torch.no_grad():
        _, x, _ = first_batch(data, device, 2)
        out = model.eval()(x)
    model.train(was)
    if isinstance(out, Tensor) and out.ndim == 2 and out.shape[1] < classes:
        raise ArgumentError(
            f"the model {type(model).__name__} has {out.shape[1]} outputs, but the dataset {metadata['name']!r} has "
            f"{classes} classes: build it with classes={classes}"
        )
