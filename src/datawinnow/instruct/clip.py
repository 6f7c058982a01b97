"""CLIP: how well an answer describes its image, and embeddings of both in one space."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.extras import import_extra
from datawinnow.core.progress import Progress
from datawinnow.instruct import _models
from datawinnow.instruct.store import Store, key_of
from datawinnow.text.encode import check_texts
from datawinnow.text.pretrained import fingerprint_pretrained, load_pretrained, pick_device

SENTENCES = 10
"""Sentences of an answer that count, as published."""


class Clip:
    """A CLIP of transformers.

    Args:
        model: folder or name, for example ``openai/clip-vit-base-patch32``.
        batch: images or sentences at a time.
        device: where; None is a GPU if there is one.

    Attributes:
        problems: (position, kind, what exactly) of images that could not be read, of the last call.

    Raises:
        ArgumentError: no transformers.
        DataError: no such model.
    """

    def __init__(self, model: str, *, batch: int = 32, device: str | None = None) -> None:
        check.number("batch", batch, 1, 10**6, integer=True)
        self.net = load_pretrained("CLIPModel", model, "clip").to(pick_device(device)).eval()
        self.tokenizer = load_pretrained("AutoTokenizer", model, "clip")
        # the Pillow one where there are two: the other needs torchvision, and its pixels differ
        package = import_extra("transformers", "transformers", "clip")
        kind = "CLIPImageProcessorPil" if hasattr(package, "CLIPImageProcessorPil") else "CLIPImageProcessor"
        self.processor = load_pretrained(kind, model, "clip")
        self.batch = batch
        self.own = {"model": fingerprint_pretrained(model, self.net.config)}
        self.problems: list[tuple[int, str, str]] = []

    def images(self, image: Sequence[str | Path | None], store: Store, progress: Any = None) -> Tensor:
        """(n, d) float32 embeddings of images, not normalised; a row of NaN for one that is missing or broken."""
        self.problems = []
        files = [None if path is None else Path(path) for path in image]
        keys = [self._key(i, path) for i, path in enumerate(files)]
        broken: dict[int, str] = {}

        @torch.inference_mode()
        def work(at: list[int]) -> np.ndarray:
            original_images = []
            for i in at:
                try:
                    with Image.open(files[i]) as opened:  # type: ignore[arg-type]
                        original_images.append(opened.convert("RGB"))
                except (
                    OSError,
                    UnidentifiedImageError,
                    ValueError,
                    SyntaxError,
                    Image.DecompressionBombError,
                ) as error:
                    broken[i] = str(error).split("\n")[0][:120]
                    original_images.append(Image.new("RGB", (8, 8)))
            pixels = self.processor(images=original_images, return_tensors="pt")["pixel_values"]
            made = _pooled(self.net.get_image_features(pixel_values=pixels.to(self.net.device))).float().cpu().numpy()
            made[[i in broken for i in at]] = np.nan
            return np.asarray(made)

        found = _models.vectors(
            _models.computed(store, "clip image", keys, work, batch=self.batch, progress=progress)
        )  # fmt: skip
        for i, key in enumerate(keys):
            if key is not None and bool(found[i].isnan().any()):
                self.problems.append((i, "broken image", f"{files[i]}: {broken.get(i, 'cannot be decoded')}"))
        return found

    def _key(self, i: int, path: Path | None) -> bytes | None:
        if path is None:
            self.problems.append((i, "no image", "the pair names none"))
            return None
        try:
            return key_of("clip image", self.own, hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            self.problems.append((i, "no image", f"{path}: {error.strerror or error}"))
            return None

    def texts(self, text: Sequence[str], store: Store, progress: Any = None) -> Tensor:
        """(n, d) float32 embeddings of texts, not normalised; of each the first 77 tokens."""
        found = list(text)

        @torch.inference_mode()
        def work(at: list[int]) -> np.ndarray:
            tokens = self.tokenizer(
                [found[i] for i in at], padding=True, truncation=True,
                max_length=self.net.config.text_config.max_position_embeddings, return_tensors="pt",
            ).to(self.net.device)  # fmt: skip
            out = self.net.get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
            return np.asarray(_pooled(out).float().cpu().numpy())

        keys = [key_of("clip text", self.own, one) for one in found]
        sizes = [len(one) for one in found]
        made = _models.computed(store, "clip text", keys, work, batch=self.batch, order=sizes, progress=progress)
        return _models.vectors(made)


def _pooled(output: Any) -> Tensor:
    """The projected embedding, which transformers 5 wraps and 4 gave as it is."""
    found: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return found


def sentences_of(text: str, *, most: int = SENTENCES, empty: bool = False) -> list[str]:
    """The first sentences of a text, split at full stops as published.

    Args:
        text: an answer.
        most: how many.
        empty: keep empty parts: the published code embeds what stands behind the last full stop, which is nothing.

    >>> sentences_of("A cat. A dog."), sentences_of("A cat. A dog.", empty=True)
    (['A cat', ' A dog'], ['A cat', ' A dog', ''])
    """
    parts = text.split(".")
    return parts[:most] if empty else [part for part in parts if part.strip()][:most]


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
    clip: Clip,
    sentences: int = SENTENCES,
    empty: bool = False,
    store: Store | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """100 times the cosine of the image and the mean of the normalised embeddings of the answer's sentences.

    As published the mean is not normalised again, so that it is below 1 where sentences differ.

    Args:
        answer: (n,) texts.
        image: (n,) paths of images, or None.
        clip: the model.
        sentences: of an answer, at most.
        empty: count empty sentences, as the published code does.
        store: what was computed before.
        progress: called with what is done, how far, of how many.

    Returns:
        (n,) float32 in [-100, 100]; NaN for a pair whose image is missing or broken, or without a sentence.
        ``clip.problems`` names them.

    Raises:
        ArgumentError: texts that are none, or not as many of both.

    References:
        Wei et al. 2023, arXiv 2308.12067, section 3.1; condense.md 1.11.
    """
    answers = check_texts("answer", answer)
    if len(image) != len(answers):
        raise ArgumentError(f"there are {len(answers)} answers, but {len(image)} images")
    check.number("sentences", sentences, 1, 10**6, integer=True)
    kept = store or Store(None)
    original_images = clip.images(image, kept, progress)
    problems = clip.problems
    parts = [sentences_of(text, most=sentences, empty=empty) for text in answers]
    flat = list(dict.fromkeys(part for some in parts for part in some))
    if not flat:
        raise DataError("no answer has a sentence")
    place = {text: i for i, text in enumerate(flat)}
    rows = torch.nn.functional.normalize(clip.texts(flat, kept, progress), dim=1)
    score = torch.full((len(answers),), torch.nan)
    for i, some in enumerate(parts):
        if some:
            mean = rows[[place[part] for part in some]].mean(dim=0)
            score[i] = 100 * torch.nn.functional.normalize(original_images[i], dim=0) @ mean
        else:
            problems.append((i, "no sentence", "the answer has only full stops"))
    return score
