"""Features of a dataset by a pretrained model, or by a function of the user's, in one forward pass without training."""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError
from datawinnow.core.import_function import import_function
from datawinnow.core.module_mode import restore_mode
from datawinnow.core.operations import flop_counter
from datawinnow.core.progress import Progress
from datawinnow.core.rng import forked
from datawinnow.data.batches import batches_of, forward_batch
from datawinnow.data.dataset_info import DatasetInfo, dataset_info
from datawinnow.data.fingerprint import fingerprint_of
from datawinnow.data.kept import Kept
from datawinnow.models.pretrained import PretrainedImages
from datawinnow.probe.array_writer import ArrayWriter
from datawinnow.probe.manifest import Probed, ProbeManifest, model_fingerprint
from datawinnow.probe.sentences import probe_sentences
from datawinnow.text.image_processor import image_processor
from datawinnow.text.pretrained import fingerprint_pretrained, is_pretrained, load_pretrained, pick_device

Embedding = str | Callable[[Any], Any]
"""``"hf:PATH"``, ``"module:function"``, or a function or network from a batch to (b, d)."""
EMBEDDING_HEAD = "embedding"
"""Recorded for these features in place of the name of a layer."""


def check_embedding(embedding: Any) -> None:
    """Raise unless this is an `Embedding`.

    Raises:
        ArgumentError: it is not.
    """
    if callable(embedding) or is_pretrained(embedding):
        return
    if not isinstance(embedding, str) or not all(embedding.partition(":")):
        raise ArgumentError(
            "embedding must be a transformers model, hf:PATH, or module:function from a batch to (b, d), got "
            f"{embedding!r}"
        )


def embedding_name(embedding: Embedding) -> str:
    """A name for messages and folders.

    >>> embedding_name("hf:my-vit"), embedding_name(check_embedding)
    ('hf:my-vit', 'datawinnow.probe.embeddings:check_embedding')
    """
    if isinstance(embedding, str):
        return embedding
    named = embedding if hasattr(embedding, "__qualname__") else type(embedding)
    return f"{named.__module__}:{named.__qualname__}"


def probe_embedding(
    data: Any, embedding: Embedding, *, out: Path, prefix: str = "", progress: Progress | None = None
) -> Probed:
    """``features`` of a dataset by an embedding, written to a folder as by `probe`.

    Texts by a transformers model are the mean over their tokens (`probe.sentences`); images the model's pooled output,
    or where its weights have none the class token, or the mean over positions. A function gets images and vectors as a
    network is trained on them, not augmented, and texts as a list of strings; a network is called in evaluation mode.

    Args:
        data: a dataset, or its `DatasetInfo`.
        embedding: see `Embedding`.
        out: folder; features of the same data and embedding that are in it are reused.
        prefix: ``"val_"`` names them as features of held-out data.
        progress: called after each batch.

    Returns:
        ``features`` (n, d) float32, and the cost: n examples passed forward.

    Raises:
        ArgumentError: no such model or function, it does not take the examples, or gives other than finite (b, d).
        RunError: ``out`` holds features of other data or by another embedding, or the disk is full.
    """
    info = data if isinstance(data, DatasetInfo) else dataset_info(data.alone() if isinstance(data, Kept) else data)
    if is_pretrained(embedding) and info.kind == "texts":
        return probe_sentences(data, str(embedding), out=out, prefix=prefix, progress=progress)
    function, identity = _function_and_identity(embedding, info)
    name = prefix + "features"
    expected = {"fingerprint": fingerprint_of(data), "model": identity, "head": EMBEDDING_HEAD, "n": info.n}
    manifest, settings = ProbeManifest(out, prefix, expected), {name: {"embedding": embedding_name(embedding)}}
    if not manifest.missing(settings):
        return manifest.load([name])
    rows, cost = _embed(function, info, embedding_name(embedding), progress)
    with ArrayWriter(len(rows), out, 0) as writer:
        writer.write(name, rows)
        manifest.discard([name])
        arrays = writer.finish()
    manifest.add(settings, cost, [])
    return manifest.load([name], arrays)


class PooledImages(PretrainedImages):
    """An image model of transformers that returns one vector an image.

    Args:
        network: a model of transformers without a head.
        has_pooler: whether its weights have those of its pooling layer.
    """

    has_pooler: bool = True

    def forward(self, x: Tensor) -> Tensor:
        """(b, d) features of images (b, c, h, w)."""
        inputs = self.inputs(x)
        if hasattr(self.network, "get_image_features"):  # of text and images, such as CLIP
            features: Any = self.network.get_image_features(**inputs)  # type: ignore[operator]
            return (features if isinstance(features, Tensor) else features.pooler_output).flatten(1)
        output = self.network(**inputs)
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None and self.has_pooler:
            return pooled.flatten(1)  # type: ignore[no-any-return]
        hidden: Tensor = output.last_hidden_state
        # maps have no class token
        return hidden.mean((2, 3)) if hidden.ndim == 4 else hidden[:, 0]


def _function_and_identity(embedding: Embedding, info: DatasetInfo) -> tuple[Callable[[Any], Any], str]:
    """The function of an embedding, and what tells it from others of its name."""
    name = embedding_name(embedding)
    if isinstance(embedding, str) and is_pretrained(embedding):
        pooled = _pooled_images(embedding, info)
        config: Any = pooled.network.config
        return pooled, f"{name} {fingerprint_pretrained(embedding, config)}"
    function = import_function(embedding, "embedding") if isinstance(embedding, str) else embedding
    if isinstance(function, nn.Module):
        return function, f"{name} {model_fingerprint(function)}"
    try:
        # of the file: the function may call others in it
        source = Path(inspect.getsourcefile(function) or "").read_bytes()
    except (OSError, TypeError):  # written in C, or typed into a shell
        source = b""
    return function, f"{name} {hashlib.sha256(source).hexdigest()[:16]}"


def _pooled_images(name: str, info: DatasetInfo) -> PooledImages:
    if info.kind != "images":
        raise ArgumentError(f"embedding={name!r} takes images or texts, but an example has shape {info.shape}")
    purpose = f"the embedding {name}"
    network, loading = load_pretrained("AutoModel", name, purpose, dtype=torch.float32, output_loading_info=True)
    missing = sorted(loading["missing_keys"])
    # transformers draws at random what the file lacks
    lacking = [key for key in missing if not key.startswith("pooler.")]
    if lacking:
        raise ArgumentError(f"{purpose}: the file lacks weights of the model: {', '.join(lacking[:3])}")
    if (
        not hasattr(network, "get_image_features")
        and "pixel_values" not in inspect.signature(network.forward).parameters
    ):
        raise ArgumentError(f"{purpose} takes no images: give one of an image model, as a ViT or a CLIP")
    pooled = PooledImages(network, image_processor(name), (info.shape[1], info.shape[2]), info.normalisation)
    pooled.has_pooler = not missing
    return pooled.to(pick_device(None)).eval()


def _embed(
    function: Callable[[Any], Any], info: DatasetInfo, name: str, progress: Progress | None
) -> tuple[Tensor, Cost]:
    start, rows, done = time.perf_counter(), list[Tensor](), 0
    modules = function if isinstance(function, nn.Module) else nn.Module()
    with torch.no_grad(), forked(0, "probe"), restore_mode(modules), flop_counter() as counter:
        modules.eval()
        for batch in _inputs(info, next((p.device for p in modules.parameters()), torch.device("cpu"))):
            values = _checked_rows(function(batch), len(batch), name, done)
            if rows and values.shape[1] != rows[0].shape[1]:
                raise ArgumentError(f"embedding {name}: {values.shape[1]} features, but {rows[0].shape[1]} before")
            rows.append(values)
            done += len(batch)
            if progress is not None:
                progress("embedding", done, info.n)
    flops = float(counter.get_total_flops())
    return torch.cat(rows), Cost(time.perf_counter() - start, forward=info.n, flops=flops)


def _inputs(info: DatasetInfo, device: torch.device) -> Iterator[Any]:
    texts = getattr(info.data, "texts", None)
    if texts is not None:
        yield from (list(texts[i : i + 64]) for i in range(0, len(texts), 64))
        return
    for _, x, _ in batches_of(info.data, device, workers=0).test(forward_batch(info.data, 100)):
        yield x


def _checked_rows(values: Any, count: int, name: str, done: int) -> Tensor:
    """(count, d) float32 on the CPU."""
    try:
        rows = torch.as_tensor(values).detach().float().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"embedding {name} must return a tensor (b, d), got {type(values).__name__}") from error
    if rows.ndim != 2 or len(rows) != count or not rows.shape[1]:
        raise ArgumentError(
            f"embedding {name} must return one row an example, ({count}, d), got {tuple(rows.shape)}: return "
            "features.flatten(1), or the mean over positions"
        )
    finite = rows.isfinite().all(1)
    if not bool(finite.all()):
        raise ArgumentError(f"embedding {name}: not finite at example {done + int(finite.byte().argmin())}")
    return rows
