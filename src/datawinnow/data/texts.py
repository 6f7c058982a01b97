"""`Texts`: labelled texts in memory, as rows of token ids."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from datawinnow.core.errors import DataError
from datawinnow.data.examples import Examples
from datawinnow.data.tokens import Vocabulary


@dataclass(frozen=True, eq=False)
class Texts(Examples):
    """A dataset of texts in memory; also a map-style dataset of ``(x, y)``.

    As `Examples`, but for these:

    Attributes:
        x: (n, length) int32 token ids; 0 behind the end of a text, which no reference network looks at.
        texts: (n,) the texts themselves.
        vocabulary: fitted on the train split; the fingerprint covers it and the texts, whatever the ids are by.
        tokenizer: ``"hf:PATH"`` where the ids are those of a transformers model (and 1 more, since 0 is padding);
            ``""`` where they are by ``vocabulary``.
        vocabulary_size: ids are below this: rows of a network's embedding.

    Raises:
        DataError: shapes, dtypes or labels that do not fit together.
    """

    texts: Sequence[str] = ()
    vocabulary: Vocabulary | None = None
    tokenizer: str = ""
    vocabulary_size: int = 0

    def check_x(self) -> None:
        """Refuse what is no token ids of as many texts."""
        if self.x.dtype != torch.int32 or self.x.ndim != 2:
            raise DataError(
                f"{self.name}: x must be int32 token ids of shape (n, length), got {self.x.dtype} of shape "
                f"{tuple(self.x.shape)}"
            )
        if len(self.texts) != len(self.x):
            raise DataError(f"{self.name}: {len(self.texts)} texts for {len(self.x)} rows of token ids")
        if len(self.x) and (int(self.x.min()) < 0 or int(self.x.max()) >= self.vocabulary_size):
            raise DataError(
                f"{self.name}: token ids from {int(self.x.min())} to {int(self.x.max())}, but vocabulary_size="
                f"{self.vocabulary_size}: they must be 0 (padding) and above, and below it"
            )

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of a hash over labels, texts and the vocabulary.

        Not over the ids: examples chosen with one tokenizer are the same examples under another.
        """
        digest = hashlib.sha256(f"texts {self.n}".encode())
        digest.update(self.labels.numpy().tobytes())
        known = self.vocabulary or Vocabulary((), self.x.shape[1])
        for part in (*self.texts, *known.tokens):
            coded = part.encode("utf-8", "surrogatepass")
            digest.update(len(coded).to_bytes(8, "little") + coded)
        digest.update(f"length {known.length}".encode())
        return digest.hexdigest()[:16]

    def subset(self, index: Tensor, *, name: str | None = None) -> Texts:
        """The examples at ``index`` (m,) as a dataset of its own, with this one's vocabulary."""
        rows = index if self.origin is None or self.origin.rows is None else self.origin.rows[index]
        return replace(
            self,
            x=self.x[index],
            labels=self.labels[index],
            texts=[self.texts[int(i)] for i in index],
            ids=[self.id_of(int(i)) for i in index],
            origin=None if self.origin is None else replace(self.origin, rows=rows),
            name=name or self.name,
        )
