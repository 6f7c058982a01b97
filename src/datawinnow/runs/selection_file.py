"""The Parquet files of a run folder: written whole, with their making in the schema; read strictly."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from datawinnow.core.artifact_schemas import RunFile, Selected
from datawinnow.core.artifacts import check_content, read_json, read_table, write_table
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.reason import Reason
from datawinnow.core.row_checks import ROW, SELECTION_COLUMNS, checked_rows, with_row_checks
from datawinnow.core.selection import Selection
from datawinnow.core.selection_arguments import selection_call
from datawinnow.data.dataset_info import DatasetInfo
from datawinnow.data.kept import Kept
from datawinnow.data.source_positions import SourceRows, is_of_folder, num_source_rows, source_rows

CODES = {reason.word: int(reason) for reason in Reason}


def selection_digest(selection: Selection) -> str:
    """16 hex digits of a hash over which examples are kept, in which order, with what weight."""
    return hashlib.sha256(selection.index.numpy().tobytes() + selection.weight.numpy().tobytes()).hexdigest()[:16]


def write_selection(
    path: Path,
    selection: Selection,
    *,
    info: DatasetInfo,
    meta: Mapping[str, Any],
    notes: list[str] | None = None,
    p_mean: Tensor | None = None,
    p_std: Tensor | None = None,
    guess: Tensor | None = None,
    p_guess: Tensor | None = None,
) -> None:
    """``selection.parquet``: every id, kept or not, order, weight, reason and the evidence.

    ``reason`` is a word of `Reason`; ``note`` says it in numbers of the example: score and rank, weight, step or
    distance by which the method went, when it was learned, and what the network says. ``guess`` is the name of the
    class that the recorded network prefers, ``p_guess`` its probability; empty where no network was recorded.

    ``row`` is the place of an example in the source, by which users index their own dataset; ``position`` the one in
    the dataset as it was loaded, without what was held out or left out.

    Args:
        path: file.
        selection: the kept examples.
        info: of the dataset that was selected from: its names, rows in the source and labels.
        meta: method, options, keep, seed, fingerprint and so on.
        notes: (n,) one sentence an example.
        p_mean: (n,) mean of ``p_label`` over epochs.
        p_std: (n,) its standard deviation.
        guess: (n,) int64, the class that the network prefers; -1 for unknown.
        p_guess: (n,) its probability.
    """
    n = info.n
    # -1 for examples that are not kept
    order = np.full(n, -1, dtype=np.int64)
    order[selection.index.numpy()] = np.arange(len(selection))
    weight = np.zeros(n, dtype=np.float32)
    weight[selection.index.numpy()] = selection.weight.numpy()
    codes = selection.reason if selection.reason is not None else Selection.of(selection.index, n).reason
    assert codes is not None
    words = np.array([r.word for r in Reason])
    # code -> position in `words`; codes are int8, so below 128
    lookup = np.zeros(128, dtype=np.int64)
    for i, r in enumerate(Reason):
        lookup[int(r)] = i
    blank = np.full(n, np.nan, dtype=np.float32)
    table = pa.table(
        {
            "id": pa.array(info.ids, pa.string()),
            ROW: pa.array(source_rows(info.data).numpy()),
            "label": pa.array(info.labels.numpy()),
            # the name beside the number: `guess` is a name
            "label_name": pa.array([info.classes[y] if y >= 0 else None for y in info.labels.tolist()], pa.string()),
            "kept": pa.array(order >= 0),
            "order": pa.array(order),
            "weight": pa.array(weight),
            "reason": pa.array(words[lookup[codes.numpy()]].tolist(), pa.string()),
            "note": pa.array(notes if notes is not None else [""] * n, pa.string()),
            "p_mean": pa.array(blank if p_mean is None else p_mean.float().numpy()),
            "p_std": pa.array(blank if p_std is None else p_std.float().numpy()),
            "guess": pa.array(
                [info.classes[g] if g >= 0 else None for g in ([-1] * n if guess is None else guess.tolist())],
                pa.string(),
            ),
            "p_guess": pa.array(blank if p_guess is None else p_guess.float().numpy()),
        }
    )
    source = {
        "classes": list(info.classes),
        "num_rows": num_source_rows(info.data),
        "is_folder": is_of_folder(info.data),
    }
    write_table(path, with_row_checks(table, SELECTION_COLUMNS), {**meta, "source": source})


def keep_of_every_class(path: Path) -> float | None:
    """The fraction of each class that keeps something of all of them, where the selection in a file does not.

    Args:
        path: of the selection.

    Returns:
        The selection's own fraction, or a larger one that the smallest class needs; None where something of every class
        is kept, where the selection takes that share of each class already, or where there are no classes.
    """
    table, metadata = read_table(path, selection_call(_selected_in_run(path)))
    if not {"label", "kept"} <= set(table.column_names):
        return None
    labels = table.column("label").to_numpy()
    kept = labels[table.column("kept").to_numpy(zero_copy_only=False)]
    if not len(labels) or int(labels.min()) < 0:
        return None
    sizes = np.bincount(labels)
    if not ((sizes > 0) & (np.bincount(kept, minlength=len(sizes)) == 0)).any():
        return None
    # rounded up, so that the smallest class keeps one
    needed = math.ceil(1000 / int(sizes[sizes > 0].min())) / 1000
    keep = float(metadata["keep"])
    if keep >= needed:
        return None if metadata.get("per_class") else keep
    return needed


def read_selection(
    path: Path, *, fingerprint: str | None = None, name: str = "", info: DatasetInfo | None = None
) -> tuple[Selection, dict[str, Any]]:
    """The selection in a file (or in a run folder), in the order chosen.

    The file may have been sorted or filtered since: a row says which example it is about. Of a filtered file the kept
    examples are those of its rows, and ``reason`` is None, since nothing is known of the others.

    ``index`` counts in the dataset as it was loaded, without what was held out or left out: a dataset of your own is
    indexed by `indices_in`, or by the file's columns ``row`` and ``id``.

    Args:
        path: ``selection.parquet``, or the run folder that holds it.
        fingerprint: of the dataset it is to be used on; a mismatch is refused.
        name: of that dataset.
        info: of that dataset, in place of the two, to compare names and labels of the examples as well.

    Raises:
        RunError: no such file, truncated, changed, not a selection, or of another dataset.
    """
    path = path / "selection.parquet" if path.is_dir() else path
    table, meta = read_table(path, selection_call(_selected_in_run(path)))
    remedy = _remedy(path, meta)
    missing = [c for c in ("id", "kept", "order", "weight", "reason") if c not in table.column_names]
    if missing:
        raise RunError(f"{path} is not a selection: it lacks the columns {', '.join(missing)}")
    if info is not None:
        fingerprint, name = info.fingerprint, info.name
    if fingerprint is not None and meta.get("fingerprint") != fingerprint:
        raise RunError(
            f"{path} was selected from the dataset {meta.get('dataset')!r} (fingerprint "
            f"{meta.get('fingerprint')}), not from {name!r} (fingerprint {fingerprint})"
        )
    check_content(meta, Selected, path, remedy=remedy)
    n = meta.get("n", len(table))
    if not isinstance(n, int) or isinstance(n, bool) or not len(table) <= n:
        raise RunError(f"{path} has {len(table):,} rows about {n} examples; {remedy}")
    if info is not None and n != info.n:
        raise RunError(f"{path} is about {n:,} examples, but {name!r} has {info.n:,}; {remedy}")
    order, kept, weights, reasons = _columns(table, path, remedy)
    ranked = np.flatnonzero(order >= 0)
    ranked = ranked[np.argsort(order[ranked], kind="stable")]
    ranks = order[ranked]
    # of a whole file 0 to m - 1; of a part some of them
    expected = np.arange(len(ranks)) if len(table) == n else np.unique(ranks)
    if not np.array_equal(ranks, expected) or not np.array_equal(order >= 0, kept):
        raise RunError(f"{path} is damaged: its columns kept and order do not agree; {remedy}")
    unknown = sorted(set(reasons) - set(CODES))
    if unknown:
        raise RunError(f"{path} has the unknown reason {unknown[0]!r}; {remedy}")
    codes = np.array([CODES[word] for word in reasons], dtype=np.int8)
    try:
        # before the rows are trusted: weights that no selection has
        Selection(torch.arange(len(ranked)), torch.from_numpy(weights[ranked]))
    except ArgumentError as error:
        raise RunError(f"{path} is damaged: {error}; {remedy}") from None
    rows = checked_rows(table, path, n, remedy)
    if info is not None:
        _check_examples(table, rows, info, path)
    reason = None
    if len(table) == n:
        reason = torch.empty(n, dtype=torch.int8)
        reason[torch.from_numpy(rows)] = torch.from_numpy(codes)
    elif not len(ranked):
        raise RunError(f"{path} has {len(table):,} of {n:,} rows, and none of them is kept: nothing is selected")
    return Selection(torch.from_numpy(rows[ranked]), torch.from_numpy(weights[ranked]), reason), meta


def _selected_in_run(path: Path) -> Mapping[str, Any]:
    """What the run of a selection says of it; empty for a file elsewhere, and where the run cannot be read."""
    file = path.parent / "run.json"
    if path.name != "selection.parquet" or not file.is_file():
        return {}
    try:
        selected = read_json(file, schema=RunFile)["options"].get("select")
    except RunError:
        return {}
    return selected or {}


def _remedy(path: Path, meta: Mapping[str, Any]) -> str:
    return f"make it again with: {selection_call(meta if 'keep' in meta else _selected_in_run(path))}"


def indices_in(selection: Kept | Path | str, dataset: Any) -> Tensor:
    """(m,) int64 positions of the kept examples in your own dataset, in the order chosen.

    Args:
        selection: what `prune` returned, ``selection.parquet``, or the run folder that holds it.
        dataset: the dataset that was loaded or given, whole: map-style, a pair ``(x, y)`` of arrays, a dict of arrays
            or a DataFrame. For a folder of images a list of paths, or a dataset with ``samples`` as torchvision's
            ``ImageFolder`` has; files are found by their names.

    Raises:
        ArgumentError: the dataset has another number of examples or other labels than what was loaded, or lacks a file.
        RunError: no such file, truncated, changed, or not a selection of examples.
    """
    if isinstance(selection, Kept):
        return selection.indices_in(dataset)
    path = Path(selection)
    path = path / "selection.parquet" if path.is_dir() else path
    chosen, meta = read_selection(path)
    table, _ = read_table(path, selection_call(_selected_in_run(path)))
    remedy = _remedy(path, meta)
    source = meta.get("source")
    if not isinstance(source, dict) or not {ROW, "label"} <= set(table.column_names):
        raise RunError(f"{path} does not say which rows of the source its examples are; {remedy}")
    at = {position: k for k, position in enumerate(table.column("position").to_pylist())}
    taken = table.take([at[position] for position in chosen.index.tolist()])
    return SourceRows(
        [str(name) for name in taken.column("id").to_pylist()],
        torch.tensor(taken.column(ROW).to_pylist(), dtype=torch.int64),
        torch.tensor(taken.column("label").to_pylist(), dtype=torch.int64),
        tuple(map(str, source["classes"])),
        source["num_rows"],
        bool(source["is_folder"]),
    ).positions_in(dataset)


def _columns(table: pa.Table, path: Path, remedy: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """``order``, ``kept``, ``weight`` and ``reason``.

    Raises:
        RunError: values of another type, or empty cells.
    """
    try:
        order = table.column("order").cast(pa.int64()).to_numpy()
        kept = table.column("kept").cast(pa.bool_()).to_numpy(zero_copy_only=False)
        weight = table.column("weight").cast(pa.float32()).to_numpy().copy()
        reason = [str(word) for word in table.column("reason").to_pylist()]
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise RunError(f"{path} is damaged ({str(error).splitlines()[0]}); {remedy}") from None
    if any(table.column(name).null_count for name in ("id", "order", "kept", "weight", "reason")):
        raise RunError(f"{path} is damaged (empty cells); {remedy}")
    return order, kept, weight, reason


def _check_examples(table: pa.Table, rows: np.ndarray, info: DatasetInfo, path: Path) -> None:
    """Compare the names and labels of the rows with those of the dataset.

    Raises:
        RunError: naming the first that differs.
    """
    ids = table.column("id").to_pylist()
    wrong = next((k for k, row in enumerate(rows.tolist()) if str(ids[k]) != info.ids[row]), None)
    if wrong is not None:
        raise RunError(
            f"{path} calls example {int(rows[wrong])} {ids[wrong]!r}, the dataset {info.name!r} calls it "
            f"{info.ids[int(rows[wrong])]!r}: the file is about other data"
        )
    if "label" in table.column_names:
        differs = np.flatnonzero(table.column("label").to_numpy() != info.labels.numpy()[rows])
        if len(differs):
            row = int(rows[differs[0]])
            raise RunError(
                f"{path} has other labels than the dataset {info.name!r}: example {info.ids[row]!r} has label "
                f"{int(info.labels[row])} there"
            )
