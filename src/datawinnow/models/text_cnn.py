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

    Filters over 3, 4 and 5 neighbouring words, the maximum of each over the text, dropout, a linear layer. Windows may
    reach beyond both ends, so that a text of one word has windows too. Windows over padding alone are masked, so that
    logits do not depend on the length to which an example is padded.

    Args:
        vocabulary: number of token ids; 0 is padding.
        classes: number of classes.
        width: length of a word vector.
        filters: number of filters of each window size.
        windows: window sizes in words.
        dropout: probability of dropping a feature in training.
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
            raise ArgumentError(f"windows must be integers, each at least 1, got {list(windows)}")
        self.windows = tuple(windows)
        self.embedding = TokenEmbedding(check_vocabulary(vocabulary), width)
        # w - 1 zeros at both ends: every window that touches a word exists.
        self.convolutions = nn.ModuleList(nn.Conv1d(width, filters, w, padding=w - 1) for w in windows)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(filters * len(windows), classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (b, classes) of token ids (b, length)."""
        vectors, mask = self.embedding(tokens)
        vectors, mask = vectors.transpose(1, 2), mask.transpose(1, 2)  # (b, width, length), (b, 1, length)
        pooled = []
        for window, convolution in zip(self.windows, self.convolutions, strict=True):
            responses = F.relu(convolution(vectors))  # (b, filters, length + window - 1)
            # position i of the responses covers words i - window + 1 to i: it counts if any of them is no padding
            reach = window - 1
            covers_text = F.pad(mask, (0, reach))
            for back in range(1, reach + 1):
                covers_text = covers_text | F.pad(mask, (back, reach - back))
            pooled.append(
                (responses * covers_text.to(responses.dtype)).amax(dim=2)
            )  # masked: 0, the least that ReLU gives
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
    """Kim's network for sentences, with word vectors trained from scratch.

    Args:
        classes: number of classes.
        vocabulary: number of token ids; 0 is padding.
        width: length of a word vector; 300 in the paper.
        filters: number of filters of each window size, as in the paper.
        windows: window sizes in words, as in the paper.
        dropout: as in the paper.
    """
    return TextCNN(vocabulary, classes, width=width, filters=filters, windows=windows, dropout=dropout)
