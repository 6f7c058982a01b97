"""A linear layer on the mean of a text's word vectors: the fastest network for texts; ignores their order."""

from __future__ import annotations

from torch import Tensor, nn

from datawinnow.models.tokens import TokenEmbedding, check_vocabulary, token_counts


class BagOfEmbeddings(nn.Module):
    """Mean word vector and a linear layer, as in Joulin et al. (arXiv 1607.01759): (b, length) ids -> (b, classes).

    Args:
        vocabulary: number of token ids; 0 is padding, which the mean leaves out.
        classes: number of classes.
        width: length of a word vector.
    """

    def __init__(self, vocabulary: int, classes: int, *, width: int = 128) -> None:
        super().__init__()
        self.embedding = TokenEmbedding(check_vocabulary(vocabulary), width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (b, classes) of token ids (b, length)."""
        vectors, mask = self.embedding(tokens)
        # Padding vectors are 0, so the sum is over tokens; (b, width) / (b, 1).
        logits: Tensor = self.classifier(vectors.sum(dim=1) / token_counts(mask))
        return logits


def bag_of_embeddings(*, classes: int, vocabulary: int, width: int = 128) -> BagOfEmbeddings:
    """A bag of word vectors and a linear layer.

    Args:
        classes: number of classes.
        vocabulary: number of token ids; 0 is padding.
        width: length of a word vector.
    """
    return BagOfEmbeddings(vocabulary, classes, width=width)
