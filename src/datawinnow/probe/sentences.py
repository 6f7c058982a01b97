"""Sentence embeddings: what a pretrained model of transformers makes of each text, as ``features``."""

from __future__ import annotations

import hashlib
import json
import math
import time
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from datawinnow.core import check
from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.files import written_whole
from datawinnow.core.pretrained import from_pretrained, is_pretrained, located
from datawinnow.core.progress import Progress
from datawinnow.data import cache
from datawinnow.data.fingerprint import fingerprint_of
from datawinnow.data.pretrained import longest_of, tokenizer_of
from datawinnow.data.tokens import LONGEST
from datawinnow.probe.manifest import Probed, Shelf
from datawinnow.probe.store import Store

HEAD = "mean over tokens"
"""What a folder of these features says in place of the layer that they went into."""


def sentence_embeddings(
    texts: Sequence[str],
    model: str,
    *,
    length: int | None = None,
    normalise: bool | None = None,
    batch: int = 64,
    device: str = "auto",
    progress: Progress | None = None,
) -> tuple[Tensor, Cost]:
    """The mean of a model's last hidden states over the tokens of each text, padding left out.

    Sentence-BERT (arXiv 1908.10084, section 3, the MEAN strategy). Texts of like length go together, so that little is
    padded; the rows are in the order of the texts.

    Args:
        texts: (n,) strings.
        model: ``hf:FOLDER`` in the layout of ``save_pretrained`` (or of sentence-transformers), ``hf:package:NAME``, or
            ``hf:owner/name`` of the hub.
        length: tokens of a text at most; what the model says in ``sentence_bert_config.json``, else 256.
        normalise: whether rows get length 1; whether the model's ``modules.json`` does so unless told.
        batch: texts at a time.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        progress: called as ``progress("embedding", done, n)`` after each batch.

    Returns:
        (n, d) float32, and what it cost: n examples passed forward through that model.

    Raises:
        ArgumentError: transformers is not installed, no such model, no texts, or an option out of range.
    """
    check.number("batch", batch, 1, 1 << 20, integer=True)
    if not is_pretrained(model):
        raise ArgumentError(f"a model of sentence embeddings is named hf:PATH, got {model!r}")
    if not len(texts) or not all(isinstance(text, str) for text in texts):
        raise ArgumentError("texts must be strings, at least one")
    begun = time.perf_counter()
    network, tokenizer = _loaded(model, device)
    said = _said(model)
    limit = longest_of(model, tokenizer)
    longest = min(limit, int(said.get("max_seq_length") or LONGEST))
    most = int(check.number("length", longest if length is None else length, 1, math.inf, integer=True))
    unit = bool(said.get("normalise")) if normalise is None else normalise
    ids = tokenizer(list(texts), truncation=True, max_length=min(most, limit))["input_ids"]
    order = sorted(range(len(texts)), key=lambda i: (len(ids[i]), i))
    rows: Tensor | None = None
    done, flops = 0, 0.0
    for first in range(0, len(order), batch):
        part = order[first : first + batch]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            found = _mean(network, [ids[i] for i in part], int(tokenizer.pad_token_id or 0))
        flops += float(counter.get_total_flops())
        found = (F.normalize(found, dim=1) if unit else found).cpu()
        rows = torch.empty(len(order), found.shape[1]) if rows is None else rows
        rows[torch.tensor(part)] = found
        done += len(part)
        if progress is not None:
            progress("embedding", done, len(order))
    assert rows is not None  # there is at least one text
    return rows, Cost(time.perf_counter() - begun, forward=len(order), flops=flops)


def probe_sentences(data: Any, model: str, *, out: Path, prefix: str = "", progress: Progress | None = None) -> Probed:
    """``features`` of a dataset of texts by `sentence_embeddings`, kept in a folder as `probe` keeps its arrays.

    Args:
        data: `Texts`.
        model: as there.
        out: folder; what is there of the same texts and model is not made again.
        prefix: ``"val_"`` names them as features of held-out data.
        progress: told after each batch.

    Raises:
        ArgumentError: no texts, and what `sentence_embeddings` raises.
        RunError: ``out`` is of other texts or another model, or the disk is full.
    """
    texts = getattr(data, "texts", None)
    if texts is None:
        kind = getattr(data, "name", type(data).__name__)
        raise ArgumentError(f"embedding={model!r} makes features of texts, but {kind} holds none: leave it out")
    name = prefix + "features"
    about = {"fingerprint": fingerprint_of(data), "model": model, "head": HEAD, "n": len(texts)}
    shelf, wanted = Shelf(out, prefix, about), {name: {"embedding": model}}
    if not shelf.missing(wanted):
        return shelf.probed([name], {})
    rows, cost = _cached(fingerprint_of(data), texts, model, progress)
    with Store(len(texts), out, 0) as store:
        store.write(name, rows)
        shelf.forget([name])
        made = store.finish()
    shelf.put(wanted, cost, [])
    return shelf.probed([name], made)


def _cached(fingerprint: str, texts: Sequence[str], model: str, progress: Progress | None) -> tuple[Tensor, Cost]:
    """`sentence_embeddings`, kept in the cache folder: they depend on no seed, so other runs find them there.

    What they cost is kept with them, and is charged again: finding them makes no method cheaper.
    """
    path = cache.cached_file((_digest(fingerprint, *texts), _state(model)), ".npz")
    if path is not None and path.is_file():
        try:
            with np.load(path, allow_pickle=False) as kept:
                rows, spent = torch.from_numpy(kept["rows"]), kept["cost"].tolist()
            if rows.ndim == 2 and len(rows) == len(texts) and rows.dtype is torch.float32:
                return rows, Cost(spent[0], int(spent[1]), 0, spent[2])
        except (OSError, ValueError, KeyError, EOFError, IndexError, zipfile.BadZipFile):
            path.unlink(missing_ok=True)  # damaged: made again
    rows, cost = sentence_embeddings(texts, model, progress=progress)
    if path is not None and cost.seconds > cache.WORTH_SECONDS and cache.room_for(path, 2 * rows.nbytes):
        with suppress(OSError, RunError), written_whole(path) as part, part.open("wb") as file:
            np.savez(file, rows=rows.numpy(), cost=np.array([cost.seconds, cost.forward, cost.flops]))
        cache.drop_older(path)
    return rows, cost


def _state(model: str) -> str:
    """Which weights a name means: those in a folder by their sizes and dates."""
    where = Path(located(model)[0])
    files = sorted(where.rglob("*")) if where.is_dir() else []
    metadata = [f"{f.relative_to(where)} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in files if f.is_file()]
    return _digest(model, *metadata)


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:24]


def _mean(network: Any, rows: list[list[int]], padding: int) -> Tensor:
    """(b, d) means of the last hidden states over the tokens of each row."""
    longest, place = max(map(len, rows)), next(network.parameters()).device
    ids = torch.tensor([row + [padding] * (longest - len(row)) for row in rows], device=place)
    there = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=place)
    states = network(input_ids=ids, attention_mask=there).last_hidden_state.float()
    means: Tensor = (states * there[..., None]).sum(dim=1) / there.sum(dim=1, keepdim=True).clamp_min(1)
    return means


def _loaded(model: str, device: str) -> tuple[Any, Any]:
    network = from_pretrained("AutoModel", model, "a model of sentence embeddings")
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return network.to(place).eval(), tokenizer_of(model)


def _said(model: str) -> dict[str, Any]:
    """What a folder in the layout of sentence-transformers says of its model; of another nothing."""
    root = Path(located(model)[0])
    said: dict[str, Any] = {}
    try:
        said["max_seq_length"] = json.loads((root / "sentence_bert_config.json").read_text())["max_seq_length"]
        modules = json.loads((root / "modules.json").read_text())
        said["normalise"] = any(str(module["type"]).endswith("Normalize") for module in modules)
    except (OSError, ValueError, KeyError, TypeError):
        return said
    return said
