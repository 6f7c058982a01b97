"""The convolutional network for sentences of Kim, Convolutional Neural Networks for Sentence Classification (2014)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datawinnow.core.errors import ArgumentError
from datawinnow.models.tokens import TokenEmbedding, check_vocabulary


class TextCNN(nn.Module):
    """CNN-rand of arXiv 1408.5882: (b, length) token ids -> (b, classes) logits.

    Filters over 3, 4 and 5 neighbouring words, the largest answer of each over the text, dropout, a linear layer.
    Each end of a text is met by windows that reach beyond it, so that a text of one word has windows too; a window of
    padding alone has no say, so that an answer does not depend on what an example is padded to.

    Args:
        vocabulary: ids are below it; 0 is padding.
        classes: number of classes.
        width: numbers in a word's vector.
        filters: of each window.
        windows: words that a filter sees.
        dropout: share of the features left out in training.
    """

    def __init__(
        self,
        vocabulary: int,
        classes: int,
        *,
        width: int = 128,
        filters: int = 100,
        windows: Sequence[int] = (3, 4, 5),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if not windows or any(isinstance(w, bool) or not isinstance(w, int) or w < 1 for w in windows):
            raise ArgumentError(f"windows must be numbers of words, each 1 or above, got {list(windows)}")
        self.windows = tuple(windows)
        self.embedding = TokenEmbedding(check_vocabulary(vocabulary), width)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, filters, w, padding=w - 1) for w in windows)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(filters * len(windows), classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (b, classes) of token ids (b, length)."""
        vectors, there = self.embedding(tokens)
        vectors, there = vectors.transpose(1, 2), there.transpose(1, 2)  # (b, width, length), (b, 1, length)
        pooled = []
        for window, convolution in zip(self.windows, self.convolutions, strict=True):
            answers = F.relu(convolution(vectors))  # (b, filters, length + window - 1)
            # a window reaches back from its last word: it sees a text for window - 1 places beyond its end
            reach = window - 1
            seen = F.pad(there, (0, reach))
            for back in range(1, reach + 1):
                seen = seen | F.pad(there, (back, reach - back))
            pooled.append((answers * seen.to(answers.dtype)).amax(dim=2))  # no answer is below 0
        logits: Tensor = self.classifier(self.dropout(torch.cat(pooled, dim=1)))
        return logits


def text_cnn(
    *,
    classes: int,
    vocabulary: int,
    width: int = 128,
    filters: int = 100,
    windows: Sequence[int] = (3, 4, 5),
    dropout: float = 0.5,
) -> TextCNN:
    """Kim's network for sentences, its word vectors learned from nothing.

    Args:
        classes: number of classes.
        vocabulary: ids are below it; 0 is padding.
        width: numbers in a word's vector; 300 in the paper.
        filters: of each window, as in the paper.
        windows: words that a filter sees, as in the paper.
        dropout: as in the paper.
    """
    return TextCNN(vocabulary, classes, width=width, filters=filters, windows=windows, dropout=dropout)
