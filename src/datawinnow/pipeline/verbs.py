"""The verbs over a run folder: record, score, select."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor, nn

from datawinnow.core.arrays import RECORDED
from datawinnow.core.budget import budget_of
from datawinnow.core.card import card_of
from datawinnow.core.cost import Cost
from datawinnow.core.errors import RunError
from datawinnow.core.rng import forked, stream
from datawinnow.core.selection import Selection
from datawinnow.data.batches import batches_of, fingerprint_of, labels_of
from datawinnow.models import build, choose
from datawinnow.pipeline.evidence import groups, moments, notes
from datawinnow.pipeline.folder import RunFolder, read_selection, write_selection, write_table
from datawinnow.pipeline.methods import (
    Arrays,
    Method,
    compute_score,
    epochs_read,
    method_of,
    needs_of,
    score_of,
    select_by_method,
)
from datawinnow.record import Recorder
from datawinnow.train import History, Progress, Recipe, fit
from datawinnow.train.checkpoint import load_checkpoint, save_checkpoint

GALLERY = 24
Model = str | Callable[..., nn.Module] | None


def describe(data: Any, source: str = "") -> dict[str, Any]:
    """What ``run.json`` says about a dataset; works for any map-style dataset."""
    shape = getattr(data, "shape", None)
    classes = getattr(data, "classes", None)
    if shape is None or classes is None:
        x = data[0][0]
        labels = labels_of(data)
        count = int(labels.max()) + 1 if labels is not None else max(int(data[i][1]) for i in range(len(data))) + 1
        shape, classes = tuple(getattr(x, "shape", ())), tuple(str(c) for c in range(count))
    return {
        "name": getattr(data, "name", type(data).__name__),
        "fingerprint": fingerprint_of(data),
        "n": len(data),
        "shape": list(shape),
        "classes": list(classes),
        "notes": list(getattr(data, "notes", ())),
        "source": source,
    }


def ids_of(data: Any) -> list[str]:
    """(n,) a name for each example."""
    own = getattr(data, "ids", None)
    return [str(i) for i in own] if own is not None else [str(i) for i in range(len(data))]


def network(model: Model, facts: Mapping[str, Any], seed: int, **options: Any) -> tuple[nn.Module, str, str]:
    """A fresh network for the dataset that ``facts`` describe: network, its name, and why it was chosen (or "")."""
    why = ""
    if model is None:
        model, why = choose(tuple(facts["shape"]), accelerator=torch.cuda.is_available())
    with forked(seed, "weights"):
        built = build(model, shape=tuple(facts["shape"]), classes=len(facts["classes"]), **options)
    return built, model if isinstance(model, str) else getattr(model, "__name__", type(built).__name__), why


def record(
    train: Any,
    run: Path,
    *,
    test: Any = None,
    epochs: int = 30,
    of: int | None = None,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    signals: Sequence[str] = RECORDED,
    source: str = "",
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> RunFolder:
    """Train briefly on all of ``train`` and record every example at every visit.

    A run that was killed goes on from its last whole epoch; a finished one is taken as it is.

    Args:
        train: `Examples` or a map-style dataset of ``(x, y)``.
        run: the run folder.
        test: evaluated after the last epoch, for the report.
        epochs: epochs to record.
        of: length of the run whose schedule is followed; ``epochs`` unless told.
        model: name, ``"module:function"``, a function that returns a network, or None to choose by size.
        model_options: options of the model.
        seed: of weights, order and augmentation.
        recipe: how to train.
        signals: what to record; add ``"kl_step"`` for TDDS.
        source: what the user called the dataset, for later verbs.
        progress: told after each step.
        tell: told what was chosen.

    Raises:
        RunError: the folder is about another dataset, or was begun with other options.
        TrainingError: the loss is no longer a number; the epochs before are kept.
    """
    recipe = recipe or Recipe()
    facts = describe(train, source)
    built, name, why = network(model, facts, seed, **(model_options or {}))
    if why and tell is not None:
        tell(f"network: {why}")
    folder = RunFolder.create(
        run,
        dataset=facts,
        seed=seed,
        model={
            "name": name,
            "parameters": sum(p.numel() for p in built.parameters()),
            "options": dict(model_options or {}),
        },
    )
    options = {
        "epochs": epochs,
        "of": of or epochs,
        "signals": list(signals),
        "seed": seed,
        "model": name,
        "recipe": recipe.facts(),
    }
    _same_options(folder, options)
    if folder.facts["status"].get("record") == "done":
        if tell is not None:
            tell(f"{run} is recorded already; using it")
        return folder
    folder.update(options={"record": options}, status={"record": "begun"}, seed=seed)
    recorder = Recorder(len(train), epochs, which=tuple(signals), path=folder.signals)

    def on_epoch(epoch: int, history: History) -> None:
        folder.write_history(history.rows)
        folder.update(status={"record": f"epoch {epoch + 1} of {epochs}"})

    built, history = fit(
        built,
        train,
        epochs=epochs,
        of=of,
        test=test,
        seed=seed,
        recipe=recipe,
        recorder=recorder,
        checkpoint=run / "checkpoint" / "record.safetensors",
        on_epoch=on_epoch,
        progress=progress,
    )
    for note in history.notes:
        if tell is not None:
            tell(f"arithmetic: {note}")
    recorder.consolidate()
    save_checkpoint(run / "model.safetensors", built, None, {"model": name, "fingerprint": facts["fingerprint"]})
    folder.charge("record", history.cost)
    folder.update(
        status={"record": "done"},
        arithmetic={
            "precision": history.precision,
            "channels_last": history.channels_last,
        },
    )
    (run / "checkpoint" / "record.safetensors").unlink(missing_ok=True)
    if (run / "checkpoint").is_dir() and not any((run / "checkpoint").iterdir()):
        (run / "checkpoint").rmdir()
    return folder


def score(
    folder: RunFolder,
    train: Any,
    names: Sequence[str | Callable[..., Tensor]],
    *,
    epochs: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Compute scores from the recording and add them to ``scores.parquet``.

    Args:
        folder: a recorded run.
        train: its dataset (or None, when labels do not matter).
        names: scores by name, or callables.
        epochs: read only the first so many recorded epochs.
        options: keyword arguments of the score (with one score only).

    Returns:
        name -> (n,).

    Raises:
        MissingArrayError: a score needs an array that was not recorded.
    """
    arrays = folder.arrays(epochs)
    start = time.perf_counter()
    recorded = int(folder.facts["options"]["record"]["epochs"])
    found: dict[str, Tensor] = {}
    about: dict[str, dict[str, Any]] = {}
    for name in names:
        settings = dict(options or {})
        own = card_of(score_of(name))
        found[own.key] = compute_score(name, arrays, **settings)
        read = epochs_read(name, min(recorded, epochs or recorded), **settings)
        about[own.key] = {
            "method": own.key,
            "label": own.name,
            "options": {**own.options, **settings},
            "end": own.end,
            "source": own.source,
            "charge": read * folder.n,
            "epochs": read,
        }
    folder.write_scores(ids_of(train), _labels(folder, train), found, about)
    folder.charge("score", Cost(time.perf_counter() - start))
    folder.update(status={"score": "done"})
    return found


def select(
    folder: RunFolder,
    train: Any,
    *,
    keep: float,
    method: str | Method | None = None,
    seed: int = 0,
    epochs: int | None = None,
    out: Path | None = None,
    pictures: bool = True,
    **parts: Any,
) -> Selection:
    """Choose what to keep and write ``selection.parquet`` and the gallery.

    Args:
        folder: a recorded run.
        train: its dataset.
        keep: fraction kept, in (0, 1].
        method: a method's name, or None to put one together from ``parts`` (DUAL with Beta sampling if there are none).
        seed: of selectors that draw.
        epochs: read only the first so many recorded epochs.
        out: another place for the selection file.
        pictures: whether to write the gallery.
        parts: ``score``, ``select_by``, ``options``, ``score_options``, ``per_class`` of `method_of`.

    Raises:
        ArgumentError: keep out of range, unknown names.
        MissingArrayError: an array is missing.
    """
    budget_of(keep, folder.n)
    chosen = method_of(method, **parts)
    arrays: Mapping[str, Tensor] = folder.arrays(epochs)
    labels = _labels(folder, train)
    start = time.perf_counter()
    selection, values = select_by_method(
        chosen, arrays, labels, keep=keep, generator=stream(seed, "select", chosen.key, f"{keep:g}")
    )
    folder.charge("select", Cost(time.perf_counter() - start))
    recorded = int(folder.facts["options"]["record"]["epochs"])
    read = 0
    if chosen.score is not None:
        read = epochs_read(chosen.score, min(recorded, epochs or recorded), **chosen.score_options)
        about = {
            "method": chosen.key,
            "label": chosen.label,
            "options": dict(chosen.score_options),
            "end": card_of(score_of(chosen.score)).end,
            "source": card_of(score_of(chosen.score)).source,
            "charge": read * folder.n,
            "epochs": read,
        }
        if values is not None:
            key = card_of(score_of(chosen.score)).key
            folder.write_scores(ids_of(train), labels, {key: values}, {key: about})
    elif needs_of(chosen):
        read = recorded
    p_mean, p_std = moments(arrays["p_label"]) if "p_label" in arrays else (torch.full((folder.n,), torch.nan),) * 2
    lines = notes(arrays, p_mean, p_std)
    meta = {
        "method": chosen.key,
        "label": chosen.label,
        "options": _plain(chosen.options),
        "keep": keep,
        "seed": seed,
        "budget": len(selection),
        "n": folder.n,
        "fingerprint": folder.facts["dataset"]["fingerprint"],
        "dataset": folder.facts["dataset"]["name"],
        "charge": read * folder.n,
    }
    write_selection(
        out or folder.path / "selection.parquet",
        selection,
        ids=ids_of(train),
        labels=labels,
        meta=meta,
        notes=lines,
        p_mean=p_mean,
        p_std=p_std,
    )
    folder.update(options={"select": meta}, status={"select": "done"})
    if pictures and getattr(train, "shape", None) is not None and len(train.shape) == 3:
        _write_gallery(folder, train, selection, arrays, p_mean, lines, seed)
    return selection


def selected(folder: RunFolder) -> tuple[Selection, dict[str, Any]]:
    """The run's selection."""
    return read_selection(folder.path)


def _same_options(folder: RunFolder, options: dict[str, Any]) -> None:
    before = folder.facts["options"].get("record")
    if before is None:
        return
    for key, value in json.loads(json.dumps(options)).items():
        if before.get(key) != value:
            raise RunError(
                f"{folder.path} was begun with {key}={before.get(key)!r}, now it is {value!r}: give another "
                "--run folder, or the same options as before"
            )


def _labels(folder: RunFolder, train: Any) -> Tensor:
    found = labels_of(train)
    if found is not None:
        return found
    return torch.tensor([int(train[i][1]) for i in range(folder.n)])


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v if isinstance(v, (int, float, str, bool, type(None))) else str(v) for k, v in options.items()}


def _write_gallery(
    folder: RunFolder,
    train: Any,
    selection: Selection,
    arrays: Mapping[str, Tensor],
    p_mean: Tensor,
    lines: list[str],
    seed: int,
) -> None:
    margin = moments(arrays["margin"])[0] if "margin" in arrays else p_mean
    learned = arrays["correct"][-1].bool() if "correct" in arrays else torch.ones(folder.n, dtype=torch.bool)
    shown = groups(selection, p_mean, learned, margin, each=GALLERY, generator=stream(seed, "gallery"))
    ids = torch.cat(list(shown.values()))
    guesses = dict(zip(ids.tolist(), _guesses(folder, train, ids), strict=True))
    codes = selection.reason
    rows: dict[str, list[Any]] = {k: [] for k in ("group", "id", "label_name", "guess", "reason", "note", "png")}
    from datawinnow.core.reason import Reason

    for group, members in shown.items():
        for i in members.tolist():
            x, y = train[i]
            guess = guesses[i]
            rows["group"].append(group)
            rows["id"].append(ids_of_one(train, i))
            rows["label_name"].append(str(train.classes[y]))
            rows["guess"].append("" if guess is None or guess == y else str(train.classes[guess]))
            rows["reason"].append(Reason(int(codes[i])).word if codes is not None else "")
            rows["note"].append(lines[i])
            rows["png"].append(_png(x))
    write_table(folder.path / "gallery.parquet", pa.table(rows), {"fingerprint": train.fingerprint})


def ids_of_one(data: Any, i: int) -> str:
    """Name of one example."""
    return data.id_of(i) if hasattr(data, "id_of") else str(i)


@torch.no_grad()
def _guesses(folder: RunFolder, train: Any, ids: Tensor) -> list[int | None]:
    """The class that the recorded network prefers; None where the network cannot be built again from its name."""
    facts = folder.facts
    try:
        model, _, _ = network(facts["model"]["name"], facts["dataset"], 0, **facts["model"].get("options", {}))
        load_checkpoint(folder.path / "model.safetensors", model, None)
    except Exception:
        return [None] * len(ids)
    model.eval()
    part = replace(train, x=train.x[ids], labels=train.labels[ids], ids=None) if hasattr(train, "x") else None
    if part is None:
        return [None] * len(ids)
    guesses: list[int | None] = []
    for _, x, _ in batches_of(part, torch.device("cpu")).test(256):
        guesses += model(x).argmax(1).tolist()
    return guesses


def _png(x: Tensor) -> bytes:
    array = x.permute(1, 2, 0).numpy() if x.dtype is torch.uint8 else _stretched(x)
    picture = Image.fromarray(np.ascontiguousarray(array.squeeze(-1) if array.shape[-1] == 1 else array[..., :3]))
    picture.thumbnail((96, 96))
    packed = io.BytesIO()
    picture.save(packed, format="PNG", optimize=True)
    return packed.getvalue()


def _stretched(x: Tensor) -> np.ndarray:
    low, high = float(x.min()), float(x.max())
    return ((x - low) / max(high - low, 1e-9) * 255).byte().permute(1, 2, 0).numpy()


__all__ = ["Arrays", "describe", "record", "score", "select", "selected"]
