"""Any sequence classifier of transformers, from weights on disk or on the hub, as a network of token ids."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.core.errors import ArgumentError
from datawinnow.core.pretrained import from_pretrained


class Pretrained(nn.Module):
    """A transformers model that takes ids as `datawinnow.load` gives them: 0 is padding, every other id is 1 too high.

    Padding is masked out of attention; the model's own id for it stands there.

    Args:
        network: gives ``logits`` (b, classes).
        padding: its id of padding.
    """

    def __init__(self, network: nn.Module, padding: int) -> None:
        super().__init__()
        self.network, self.padding = network, padding

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (b, classes) of token ids (b, length)."""
        if tokens.is_floating_point() or tokens.ndim != 2:
            raise ArgumentError(
                f"the network takes token ids (batch, length), whole numbers, but got {tokens.dtype} of shape "
                f"{tuple(tokens.shape)}: it is for texts"
            )
        there = tokens > 0
        ids = torch.where(there, tokens - 1, self.padding).long()
        logits: Tensor = self.network(input_ids=ids, attention_mask=there.long()).logits
        return logits


def pretrained(name: str, *, classes: int, **options: Any) -> Pretrained:
    """A sequence classifier, its head new where it had another number of classes.

    Args:
        name: ``hf:FOLDER`` in the layout of ``save_pretrained``, ``hf:package:NAME``, or ``hf:owner/name`` of the hub.
        classes: number of classes.
        options: of the model's configuration, for example ``hidden_dropout_prob=0.2``.

    Raises:
        ArgumentError: transformers is not installed, or no such weights.
    """
    sizes: dict[str, Any] = {"num_labels": classes, "ignore_mismatched_sizes": True}
    found = from_pretrained("AutoModelForSequenceClassification", name, "a sequence classifier", **sizes, **options)
    configuration = found.config
    padding = getattr(configuration, "pad_token_id", None)
    if padding is None:  # a decoder: it looks for the last token before the padding
        last = getattr(configuration, "eos_token_id", None)
        padding = last[0] if isinstance(last, list) else last or 0
        configuration.pad_token_id = padding
    return Pretrained(found, int(padding))
