"""CLIP: how well an answer describes its image, and embeddings of both in one space."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.extras import import_extra
from datawinnow.core.files import require_file
from datawinnow.core.progress import Progress
from datawinnow.instruct.indicator_cache import IndicatorCache, cache_key
from datawinnow.text.encode import check_texts
from datawinnow.text.pretrained import fingerprint_pretrained, load_pretrained, load_tokenizer, pick_device

MAX_SENTENCES = 10
"""Sentences of an answer that count, as published."""


class ClipModel:
    """A CLIP of transformers.

    Args:
        model: folder or name, for example ``openai/clip-vit-base-patch32``.
        batch: images or sentences at a time.
        device: ``"cpu"``, ``"cuda"``, ...; None is a GPU where there is one.

    Attributes:
        problems: (position, kind, detail) of the pairs without a score and of images that could not be read, of the
            last call.

    Raises:
        ArgumentError: transformers is not installed, or there is no such model or device.
    """

    def __init__(self, model: str, *, batch: int = 32, device: str | None = None) -> None:
        check.number("batch", batch, 1, 10**6, integer=True)
        self.batch = batch
        self.network = load_pretrained("CLIPModel", model, "clip").to(pick_device(device)).eval()
        self.tokenizer = load_tokenizer(model, "clip")
        # where transformers has both, the Pillow one: the other needs torchvision, and its pixels differ
        transformers = import_extra("transformers", "transformers", "clip")
        kind = "CLIPImageProcessorPil" if hasattr(transformers, "CLIPImageProcessorPil") else "CLIPImageProcessor"
        self.processor = load_pretrained(kind, model, "clip")
        self.made_by = {"model": fingerprint_pretrained(model, self.network.config)}
        self.problems: list[tuple[int, str, str]] = []

    def embed_images(
        self, image: Sequence[str | Path | None], cache: IndicatorCache, progress: Progress | None = None
    ) -> Tensor:
        """Embeddings of images, from a cache by the content of the files.

        Args:
            image: (n,) paths, or None.
            cache: of earlier results.
            progress: called as ``progress("clip image", done, total)``.

        Returns:
            (n, d) float32, not normalised; a row of NaN for an image that is missing or cannot be decoded, which
            `problems` then names.
        """
        self.problems = []
        paths = [None if path is None else Path(path) for path in image]
        keys = [self._image_key(i, path) for i, path in enumerate(paths)]
        faults: dict[int, str] = {}

        @torch.inference_mode()
        def compute_batch(index: list[int]) -> np.ndarray:
            decoded = []
            for i in index:
                try:
                    with Image.open(paths[i]) as opened:  # type: ignore[arg-type]
                        # Palettes, grey and alpha: CLIP's processor takes three channels.
                        decoded.append(opened.convert("RGB"))
                except (
                    OSError,
                    UnidentifiedImageError,
                    ValueError,
                    SyntaxError,
                    Image.DecompressionBombError,
                ) as error:
                    faults[i] = str(error).split("\n")[0][:120]
                    decoded.append(Image.new("RGB", (8, 8)))  # keeps the shape of the batch; its row becomes NaN
            pixels = self.processor(images=decoded, return_tensors="pt")["pixel_values"].to(self.network.device)
            rows = _projected(self.network.get_image_features(pixel_values=pixels)).float().cpu().numpy()
            rows[[i in faults for i in index]] = np.nan
            return np.asarray(rows)

        rows = cache.compute("clip image", keys, compute_batch, batch=self.batch, progress=progress)
        for i, key in enumerate(keys):
            if key is not None and bool(rows[i].isnan().any()):
                self.problems.append((i, "broken image", f"{paths[i]}: {faults.get(i, 'cannot be decoded')}"))
        return rows

    def _image_key(self, i: int, path: Path | None) -> bytes | None:
        if path is None:
            self.problems.append((i, "no image", "the pair names none"))
            return None
        try:
            require_file(path, OSError)
            return cache_key("clip image", self.made_by, hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            self.problems.append((i, "no image", f"{path}: {error.strerror or error}"))
            return None

    def embed_texts(self, text: Sequence[str], cache: IndicatorCache, progress: Progress | None = None) -> Tensor:
        """(n, d) float32 embeddings of the first 77 tokens of texts, not normalised, from a cache by content."""
        texts = list(text)
        max_tokens = self.network.config.text_config.max_position_embeddings

        @torch.inference_mode()
        def compute_batch(index: list[int]) -> np.ndarray:
            tokens = self.tokenizer(
                [texts[i] for i in index], padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
            ).to(self.network.device)
            output = self.network.get_text_features(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            )
            return np.asarray(_projected(output).float().cpu().numpy())

        keys = [cache_key("clip text", self.made_by, one) for one in texts]
        sizes = [len(one) for one in texts]
        return cache.compute("clip text", keys, compute_batch, batch=self.batch, sizes=sizes, progress=progress)


def _projected(output: Any) -> Tensor:
    """The projected embedding, which transformers 5 wraps and version 4 returns as a tensor."""
    embedding: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return embedding


def split_sentences(text: str, *, max_sentences: int = MAX_SENTENCES, keep_empty: bool = False) -> list[str]:
    """The first sentences of a text, split at full stops as published.

    Args:
        text: an answer.
        max_sentences: number of them.
        keep_empty: keep empty sentences: the published code embeds the empty text behind the last full stop too.

    >>> split_sentences("A cat. A dog."), split_sentences("A cat. A dog.", keep_empty=True)
    (['A cat', ' A dog'], ['A cat', ' A dog', ''])
    """
    sentences = text.split(".")
    return sentences[:max_sentences] if keep_empty else [s for s in sentences if s.strip()][:max_sentences]


@card(
    "score",
    "CLIP score",
    "Wei et al. 2023, InstructionGPT-4, arXiv 2308.12067, section 3.1 and full_score.py",
    cost="time O(n) images and O(n) sentences through CLIP, memory O(batch) beside it and O(n d)",
    end="high",
)
def clip_score(
    answer: Sequence[str],
    image: Sequence[str | Path | None],
    *,
    clip: ClipModel,
    max_sentences: int = MAX_SENTENCES,
    keep_empty: bool = False,
    cache: IndicatorCache | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """100 times the cosine of the image and the mean of the normalised embeddings of the answer's sentences.

    As published, the mean is not normalised again, so that it is shorter than 1 where sentences differ.

    Args:
        answer: (n,) texts.
        image: (n,) paths of images, or None.
        clip: the model.
        max_sentences: of an answer.
        keep_empty: count empty sentences, as the published code does.
        cache: of earlier results.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        (n,) float32 in [-100, 100]; NaN for a pair whose image is missing or broken, or without a sentence.
        ``clip.problems`` names them.

    Raises:
        ArgumentError: values that are not texts, or different numbers of answers and images.
        DataError: no answer has a sentence.

    References:
        Wei et al. 2023, arXiv 2308.12067, section 3.1.
    """
    answers = check_texts("answer", answer)
    if len(image) != len(answers):
        raise ArgumentError(f"there are {len(answers)} answers, but {len(image)} images")
    check.number("max_sentences", max_sentences, 1, 10**6, integer=True)
    cache = cache or IndicatorCache(None)
    # NaN rows of missing images stay NaN, and so do their scores.
    images = F.normalize(clip.embed_images(image, cache, progress), dim=1)
    sentences = [split_sentences(text, max_sentences=max_sentences, keep_empty=keep_empty) for text in answers]
    # Every sentence is embedded once, however many answers contain it.
    unique = list(dict.fromkeys(sentence for group in sentences for sentence in group))
    if not unique:
        raise DataError("no answer has a sentence")
    position = {sentence: i for i, sentence in enumerate(unique)}
    texts = F.normalize(clip.embed_texts(unique, cache, progress), dim=1)
    score = torch.full((len(answers),), torch.nan)
    for i, group in enumerate(sentences):
        if group:
            score[i] = 100 * images[i] @ texts[[position[sentence] for sentence in group]].mean(dim=0)
        else:
            clip.problems.append((i, "no sentence", "the answer has only full stops"))
    return score
