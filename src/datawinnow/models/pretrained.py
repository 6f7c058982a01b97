"""A sequence classifier of transformers as a network of token ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.core.errors import ArgumentError
from datawinnow.text.pretrained import load_pretrained

ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
"""Implementations that come with transformers; any other name is a kernel of the hub, which is code."""
BY_DATA = {
    "num_labels",
    "id2label",
    "label2id",
    "dtype",
    "torch_dtype",
    "ignore_mismatched_sizes",
    "quantization_config",
}
"""What is decided by the data and by how it is trained."""


class Pretrained(nn.Module):
    """A transformers model that takes ids as `datawinnow.load` makes them: 0 is padding, other ids are 1 too high.

    Padding is masked out of the attention and replaced by the model's own id for it.

    Args:
        network: returns ``logits`` (b, classes).
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
        is_token = tokens > 0
        # datawinnow shifts ids by one to keep 0 for padding; the model's own ids begin at 0.
        ids = torch.where(is_token, tokens - 1, self.padding).long()
        logits: Tensor = self.network(input_ids=ids, attention_mask=is_token.long()).logits
        return logits


def pretrained(name: str, *, classes: int, **options: Any) -> Pretrained:
    """A sequence classifier in float32; its head is new where it had another number of classes.

    Args:
        name: see `datawinnow.text.pretrained`.
        classes: number of classes.
        options: of the model's configuration, for example ``hidden_dropout_prob=0.2``.

    Raises:
        ArgumentError: transformers is not installed, there is no such model, or its configuration has no such option.
    """
    _check_options(name, options)
    network = load_pretrained(
        "AutoModelForSequenceClassification",
        name,
        f"the model {name}",
        num_labels=classes,
        ignore_mismatched_sizes=True,
        dtype=torch.float32,
        **options,
    )
    config = network.config
    padding = getattr(config, "pad_token_id", None)
    if padding is None:  # a decoder classifies by the last token before the padding, so it needs an id for padding
        end = getattr(config, "eos_token_id", None)
        padding = end[0] if isinstance(end, list) else end or 0
        config.pad_token_id = padding
    return Pretrained(network, int(padding))


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that are not of the model's configuration: others of ``from_pretrained`` can run code.

    Raises:
        ArgumentError: naming the option.
    """
    if not options:
        return
    valid = set(load_pretrained("AutoConfig", name, f"the model {name}").to_dict()) - BY_DATA
    for key, value in options.items():
        if key == "attn_implementation":
            if value not in ATTENTION:
                raise ArgumentError(
                    f"model {name!r}: attn_implementation must be one of {', '.join(ATTENTION)}, got {value!r}"
                )
        elif key not in valid:
            raise ArgumentError(f"model {name!r} has no option {key!r} in its configuration (config.json)")
