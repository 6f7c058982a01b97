"""The levels of a sparse vision transformer in a training: what is asked for, and which patches it kept in the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.core.tables import write_table
from datawinnow.data.batches import batches_of
from datawinnow.data.dataset_info import dataset_info
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.gallery import png
from datawinnow.vit import KeepSchedule, kept_patches, level_costs, sparsify

FILE = "patches.parquet"
SHOWN = 12
"""Images in the file."""
OPTIONS = ("keep_tokens", "keep_attention", "at", "hold", "over", "form")
"""Of `sparse`."""


def sparse(model: nn.Module, options: Mapping[str, Any], epochs: float) -> nn.Module:
    """`vit.sparsify` with options from a file or a command line, on the paper's schedule scaled to ``epochs``.

    Args:
        model: fresh network.
        options: of `OPTIONS`; a level that is not named is off. ``hold`` and ``over`` are those of `KeepSchedule`.
        epochs: of the training.

    Raises:
        ArgumentError: an unknown option, one out of range, or a network that is no vision transformer.
    """
    check_levels(options)
    scaled = KeepSchedule.of(epochs)
    schedule = KeepSchedule(options.get("hold", scaled.hold), options.get("over", scaled.over))
    levels: dict[str, Any] = {name: options.get(name) for name in ("keep_tokens", "keep_attention")}
    more = {name: options[name] for name in ("at", "form") if name in options}
    return sparsify(model, schedule=schedule, **levels, **more)


def check_levels(options: Mapping[str, Any]) -> None:
    """Refuse what is none of `OPTIONS`.

    Raises:
        ArgumentError: an unknown option.
    """
    for name in options:
        if name not in OPTIONS:
            raise ArgumentError(f"a sparse network has no option {name!r}; its options are: {', '.join(OPTIONS)}")


def told(model: nn.Module, shape: tuple[int, ...]) -> str:
    """A sentence on what a sparse network leaves out, and what that saves of a step."""
    costs = {row.level: row.flops_ratio for row in level_costs(model, torch.zeros(1, *shape))}
    ratios = {level: f"{100 * ratio:.0f}%" for level, ratio in costs.items()}
    sparsity: Any = model.sparsity
    final, parts, alone = sparsity.final, [], ""
    if final.tokens < 1:
        parts.append(f"{final.tokens:g} of the patches")
    if final.attention < 1:
        parts.append(f"{final.attention:g} of the keys" + (" where that pays" if sparsity.form == "paying" else ""))
    if len(parts) == 2:
        alone = f" (without leaving out keys {ratios['tokens']}, without leaving out patches {ratios['attention']})"
    saves = final.attention == 1 or costs["attention"] < 1 or sparsity.form == "paying"
    hint = "" if saves else "; leaving out keys saves nothing here, and --attention-form paying would leave them in"
    places = ("block " if len(sparsity.at) == 1 else "blocks ") + ", ".join(map(str, sparsity.at))
    return (
        f"sparse: from {places} on keeps {' and '.join(parts)} each time; in the end a step takes "
        f"{ratios['tokens and attention']} of the dense network's operations{alone}{hint}"
    )


def write_patches(folder: RunFolder, model: nn.Module, data: Any) -> None:
    """Leave ``patches.parquet``: some images, and which of their patches a trained network kept, layer by layer.

    Args:
        folder: the run.
        model: the trained sparse network.
        data: where images are drawn from.
    """
    chosen = torch.randperm(len(data), generator=stream(0, "patches"))[:SHOWN].sort().values
    part = data.subset(chosen) if hasattr(data, "subset") else Subset(data, chosen.tolist())
    device = next(model.parameters()).device
    _, x, y = next(iter(batches_of(part, device, workers=0).test(len(chosen))))
    kept = kept_patches(model, x)
    with torch.no_grad():
        guesses = model.eval()(x).argmax(1).tolist()
    sparsity: Any = model.sparsity
    rows, columns = sparsity.anatomy.grid(x.shape[-2], x.shape[-1])
    names, classes = dataset_info(data).ids, folder.dataset.classes
    lines = [
        {
            "id": names[i],
            "label_name": classes[int(y[row])],
            "guess": classes[guesses[row]] if guesses[row] < len(classes) else str(guesses[row]),
            "png": png(torch.as_tensor(data[i][0])),
            "kept": [_listed(ids[row]) for ids in kept],
        }
        for row, i in enumerate(chosen.tolist())
    ]
    fields = [(name, pa.string()) for name in ("id", "label_name", "guess")]
    schema = pa.schema([*fields, ("png", pa.binary()), ("kept", pa.list_(pa.list_(pa.int32())))])
    about = {"at": list(sparsity.at), "rows": rows, "columns": columns, "keep": sparsity.final.tokens}
    table = pa.Table.from_pylist(lines, schema=schema)
    write_table(folder.path / FILE, table, {**folder.made_by("train"), **about})


def _listed(ids: Tensor) -> list[int]:
    return [int(i) for i in ids]
