"""Sentence embeddings: the features of a dataset of texts by a pretrained model of transformers."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.artifacts import read_npz_arrays, write_npz
from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.operations import flop_counter
from datawinnow.core.progress import Progress
from datawinnow.data import cache
from datawinnow.data.dataset_info import DatasetInfo
from datawinnow.data.fingerprint import fingerprint_of
from datawinnow.data.tokens import MAX_DEFAULT_LENGTH
from datawinnow.probe.array_writer import ArrayWriter
from datawinnow.probe.manifest import Probed, ProbeManifest
from datawinnow.text.encode import TextEncoder, check_texts, sentence_config
from datawinnow.text.pretrained import is_pretrained, resolve_name

SENTENCE_HEAD = "mean over tokens"
"""Recorded for these features in place of the name of a layer."""


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

    Sentence-BERT (arXiv 1908.10084, section 3, the MEAN strategy).

    Args:
        texts: (n,) strings.
        model: ``hf:FOLDER`` in the layout of ``save_pretrained`` (or of sentence-transformers), ``hf:package:NAME``, or
            ``hf:owner/name`` of the hub.
        length: tokens of a text, the rest is cut off; by default what the model says in
            ``sentence_bert_config.json``, else 256.
        normalise: whether rows get length 1; by default whether the model's ``modules.json`` says so.
        batch: texts at a time.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        progress: called as ``progress("embedding", done, n)`` after each batch.

    Returns:
        (n, d) float32, and the cost: n examples passed forward through that model.

    Raises:
        ArgumentError: transformers is not installed, no such model, no texts, or an option out of range.
    """
    check.number("batch", batch, 1, 1 << 20, integer=True)
    if not is_pretrained(model):
        raise ArgumentError(f"a model of sentence embeddings is named hf:PATH, got {model!r}")
    strings = check_texts("texts", texts)
    start = time.perf_counter()
    config = sentence_config(model)
    max_tokens = (config.max_tokens or MAX_DEFAULT_LENGTH) if length is None else length
    check.number("length", max_tokens, 1, math.inf, integer=True)
    encoder = TextEncoder(model, max_tokens=max_tokens, device=device)
    with flop_counter() as counter:
        rows = encoder.encode(strings, batch=batch, progress=progress)
    if config.normalise if normalise is None else normalise:
        rows = F.normalize(rows, dim=1)
    return rows, Cost(time.perf_counter() - start, forward=len(rows), flops=float(counter.get_total_flops()))


def probe_sentences(data: Any, model: str, *, out: Path, prefix: str = "", progress: Progress | None = None) -> Probed:
    """``features`` of a dataset of texts by `sentence_embeddings`, written to a folder as by `probe`.

    Args:
        data: `Texts`, or their `DatasetInfo`.
        model: see `sentence_embeddings`.
        out: folder; features of the same texts and model that are in it are reused.
        prefix: ``"val_"`` names them as features of held-out data.
        progress: called after each batch.

    Raises:
        ArgumentError: ``data`` has no texts, or see `sentence_embeddings`.
        RunError: ``out`` holds features of other texts or of another model, or the disk is full.
    """
    texts = getattr(data.data if isinstance(data, DatasetInfo) else data, "texts", None)
    if texts is None:
        kind = getattr(data, "name", type(data).__name__)
        raise ArgumentError(f"embedding={model!r} makes features of texts, but {kind} holds none: leave it out")
    name = prefix + "features"
    fingerprint = fingerprint_of(data)
    identity = {"fingerprint": fingerprint, "model": model, "head": SENTENCE_HEAD, "n": len(texts)}
    manifest, settings = ProbeManifest(out, prefix, identity), {name: {"embedding": model}}
    if not manifest.missing(settings):
        return manifest.load([name])
    rows, cost = _cached_embeddings(fingerprint, texts, model, progress)
    with ArrayWriter(len(texts), out, 0) as writer:
        writer.write(name, rows)
        manifest.discard([name])
        arrays = writer.finish()
    manifest.add(settings, cost, [])
    return manifest.load([name], arrays)


def _cached_embeddings(
    fingerprint: str, texts: Sequence[str], model: str, progress: Progress | None
) -> tuple[Tensor, Cost]:
    """`sentence_embeddings` from the cache folder, where other runs on the same texts leave them.

    Their cost is kept with them and charged again, so that a method is as expensive in every run.
    """
    # by contents and weights: the path of either may come to mean something else
    path = cache.cached_file((_digest(fingerprint, *texts), _weights_state(model)), ".npz")
    if path is not None and path.is_file():
        try:
            entry = read_npz_arrays(path, ("rows", "cost"))
            rows, entry_cost = torch.from_numpy(entry["rows"]), entry["cost"].tolist()
            if rows.ndim == 2 and len(rows) == len(texts) and rows.dtype is torch.float32:
                seconds, forward, flops = entry_cost
                return rows, Cost(seconds, int(forward), 0, flops)
        except (RunError, TypeError, ValueError):
            path.unlink(missing_ok=True)  # damaged: computed again below
    rows, cost = sentence_embeddings(texts, model, progress=progress)
    # embeddings that are quick to make are not worth the disk; twice their size must be free
    if path is not None and cost.seconds > cache.WORTH_SECONDS and cache.room_for(path, 2 * rows.nbytes):
        # a cache that cannot be written is no error
        with suppress(OSError, RunError):
            write_npz(path, {"rows": rows.numpy(), "cost": np.array([cost.seconds, cost.forward, cost.flops])})
        cache.drop_older(path)
    return rows, cost


def _weights_state(model: str) -> str:
    """Which weights a name means: those in a folder by their sizes and dates."""
    folder = Path(resolve_name(model))
    files = sorted(folder.rglob("*")) if folder.is_dir() else []
    metadata = [f"{f.relative_to(folder)} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in files if f.is_file()]
    return _digest(model, *metadata)


def _digest(*texts: str) -> str:
    digest = hashlib.sha256()
    for text in texts:
        # surrogatepass: undecodable bytes of a file are lone surrogates; \0 keeps "a", "bc" and "ab", "c" apart
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:24]
