"""The patches that a sparse vision transformer keeps, as ``patches.parquet`` of a run folder."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import torch
from torch import nn
from torch.utils.data import Subset

from datawinnow.core.artifacts import write_table
from datawinnow.core.rng import stream
from datawinnow.data.batches import batches_of
from datawinnow.data.dataset_info import example_ids
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.gallery import png
from datawinnow.vit import kept_patches, level_costs, sparsity_of

PATCHES_FILE = "patches.parquet"
NUM_IMAGES = 12
"""Images in the file."""


def describe_sparsity(model: nn.Module, shape: tuple[int, ...]) -> str:
    """A sentence on the keep rates of a sparse network and the operations that they save.

    Args:
        model: the sparse network.
        shape: (channels, height, width) of an image.
    """
    costs = {row.level: row.flops_ratio for row in level_costs(model, torch.zeros(1, *shape))}
    percents = {level: f"{100 * ratio:.0f}%" for level, ratio in costs.items()}
    sparsity = sparsity_of(model)
    final, kept, single_levels = sparsity.final, [], ""
    if final.tokens < 1:
        kept.append(f"{final.tokens:g} of the patches")
    if final.attention < 1:
        kept.append(
            f"{final.attention:g} of the keys" + (" where that saves time" if sparsity.form == "paying" else "")
        )
    if len(kept) == 2:
        single_levels = f" (patches alone {percents['tokens']}, keys alone {percents['attention']})"
    saves = final.attention == 1 or costs["attention"] < 1 or sparsity.form == "paying"
    hint = "" if saves else "; dropping keys saves nothing here: `attention_form='paying'` would keep them"
    blocks = ("block " if len(sparsity.at) == 1 else "blocks ") + ", ".join(map(str, sparsity.at))
    return (
        f"sparse: keeps {' and '.join(kept)} at {blocks}; at the final rates a step takes "
        f"{percents['tokens and attention']} of the dense network's operations{single_levels}{hint}"
    )


def write_patches(folder: RunFolder, model: nn.Module, data: Any) -> None:
    """Write ``patches.parquet``: some images, and the patches that a trained network keeps at each block.

    Args:
        folder: the run.
        model: the trained sparse network.
        data: a dataset; up to 12 of its images are drawn.
    """
    # a fixed seed: all runs of a comparison show the same images
    drawn = torch.randperm(len(data), generator=stream(0, "patches"))[:NUM_IMAGES].sort().values
    images = data.subset(drawn) if hasattr(data, "subset") else Subset(data, drawn.tolist())
    device = next(model.parameters()).device
    _, x, y = next(iter(batches_of(images, device, workers=0).test(len(drawn))))
    kept = kept_patches(model, x)
    with torch.no_grad():
        guesses = model.eval()(x).argmax(1).tolist()
    sparsity = sparsity_of(model)
    rows, columns = sparsity.anatomy.grid(x.shape[-2], x.shape[-1])
    ids, classes = example_ids(data), folder.dataset.classes
    lines = [
        {
            "id": ids[i],
            "label_name": classes[int(y[row])],
            # a network may have more outputs than there are classes
            "guess": classes[guesses[row]] if guesses[row] < len(classes) else str(guesses[row]),
            "png": png(torch.as_tensor(data[i][0])),
            "kept": [patches[row].tolist() for patches in kept],
        }
        for row, i in enumerate(drawn.tolist())
    ]
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("label_name", pa.string()),
            ("guess", pa.string()),
            ("png", pa.binary()),
            ("kept", pa.list_(pa.list_(pa.int32()))),
        ]
    )
    grid = {"at": list(sparsity.at), "rows": rows, "columns": columns, "keep": sparsity.final.tokens}
    table = pa.Table.from_pylist(lines, schema=schema)
    write_table(folder.path / PATCHES_FILE, table, {**folder.made_by("train"), **grid})
