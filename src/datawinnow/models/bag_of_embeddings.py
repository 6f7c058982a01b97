"""The mean of a text's word vectors: the fastest network for texts, and blind to their order."""

from __future__ import annotations

from torch import Tensor, nn

from datawinnow.models.tokens import TokenEmbedding, check_vocabulary, token_counts


class BagOfEmbeddings(nn.Module):
    """Mean word vector and a linear layer, as in Joulin et al. (arXiv 1607.01759): (b, length) ids -> (b, classes).

    Args:
        vocabulary: ids are below it; 0 is padding, which no mean counts.
        classes: number of classes.
        width: numbers in a word's vector.
    """

    def __init__(self, vocabulary: int, classes: int, *, width: int = 128) -> None:
        super().__init__()
        self.embedding = TokenEmbedding(check_vocabulary(vocabulary), width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (b, classes) of token ids (b, length)."""
        vectors, there = self.embedding(tokens)
        logits: Tensor = self.classifier(vectors.sum(dim=1) / token_counts(there))
        return logits


def bag_of_embeddings(*, classes: int, vocabulary: int, width: int = 128) -> BagOfEmbeddings:
    """A bag of word vectors and a linear layer.

    Args:
        classes: number of classes.
        vocabulary: ids are below it; 0 is padding.
        width: numbers in a word's vector.
    """
    return BagOfEmbeddings(vocabulary, classes, width=width)
