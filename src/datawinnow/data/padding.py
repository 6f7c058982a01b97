"""Padding of texts: how long each is, batches no longer than their longest, and batches of similar lengths."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from datawinnow.core.module_mode import restore_mode

CHUNK = 50
"""Batches whose texts `group_by_length` sorts together: enough for little padding, few enough for another mixture of
texts in every epoch."""


def text_lengths(x: Tensor) -> Tensor:
    """(b,) int64 number of tokens of each row of ids (b, length); 0 behind the last of them is padding.

    >>> text_lengths(torch.tensor([[5, 0, 7, 0], [3, 0, 0, 0]])).tolist()
    [3, 1]
    """
    positions = torch.arange(1, x.shape[1] + 1, device=x.device)
    return torch.cat([((rows != 0) * positions).amax(1) for rows in x.split(4096)] or [positions[:0]])


def is_texts(dataset: Any) -> bool:
    """Whether a dataset holds token ids padded with 0, which it says by a ``vocabulary_size``."""
    return getattr(dataset, "vocabulary_size", None) is not None


def dataset_text_lengths(dataset: Any) -> Tensor | None:
    """(n,) int64 number of tokens of each text of a dataset, which is read if it has no ``text_lengths``.

    Returns:
        None where the examples are no texts.
    """
    if not is_texts(dataset):
        return None
    lengths = getattr(dataset, "text_lengths", None)
    if isinstance(lengths, Tensor):
        return lengths
    return torch.cat([text_lengths(torch.as_tensor(dataset[i][0])[None]) for i in range(len(dataset))])


def longest_of(lengths: Tensor) -> int:
    """Tokens that a batch of texts of these lengths (b,) is padded to, at least 1."""
    return max(1, int(lengths.max()))


def group_by_length(order: Tensor, lengths: Tensor, sizes: list[int], generator: torch.Generator) -> Tensor:
    """``order`` with texts of similar length in each batch, so that little is padded.

    The texts of `CHUNK` batches at a time are sorted by length and dealt to these batches, in a drawn sequence.

    Args:
        order: (m,) ids, shuffled; equally long texts stay in this order.
        lengths: (n,) tokens of each text, by id.
        sizes: examples of each batch; they sum to m.
        generator: of the sequence of the batches.

    Returns:
        (m,) the same ids.
    """
    out, first = torch.empty_like(order), 0
    for start in range(0, len(sizes), CHUNK):
        chunk = sizes[start : start + CHUNK]
        ids = order[first : first + sum(chunk)]
        ids = ids[lengths[ids].argsort(stable=True)]
        # a batch may be one larger than another: the k-th group of texts has the size of the batch that it becomes
        places = torch.randperm(len(chunk), generator=generator).tolist()
        groups = dict(zip(places, ids.split([chunk[place] for place in places]), strict=True))
        out[first : first + len(ids)] = torch.cat([groups[place] for place in range(len(chunk))])
        first += len(ids)
    return out


TOLERANCE = 1e-3
"""Of outputs and gradients, relative to the largest: above what another order of summation changes."""


def ignores_padding(network: nn.Module, x: Tensor, shortest: int) -> bool:
    """Whether a network gives the same outputs and gradients for texts when their padding is taken off.

    One that does not (a mean over all positions, a layer for one length) is to get all texts at one length, or its
    results would depend on which texts share a batch.

    Args:
        network: on the device of ``x``, with its weights.
        x: (b, length) token ids, of which the first two rows are tried.
        shortest: tokens that a batch may have at least.
    """
    if shortest >= x.shape[1]:
        return True
    padded = x[:2].clone()
    padded[:, shortest:] = 0
    try:
        with torch.enable_grad(), restore_mode(network):
            network.eval()
            expected, actual = (_outputs_and_gradients(network, each) for each in (padded, padded[:, :shortest]))
    except Exception:  # a network may raise anything at a length that it does not take
        return False
    return len(expected) == len(actual) > 0 and all(map(_close, expected, actual))


def _outputs_and_gradients(network: nn.Module, x: Tensor) -> list[Tensor]:
    outputs = [leaf for leaf in pytree.tree_leaves(network(x)) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    if not outputs:
        return []
    # gradients too: a last layer that begins at zero hides what comes before it
    weighted = [(leaf * torch.arange(1, leaf.numel() + 1, device=x.device).view_as(leaf)).sum() for leaf in outputs]
    parameters = [p for p in network.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(torch.stack(weighted).sum(), parameters, allow_unused=True) if parameters else ()
    return [leaf.detach() for leaf in outputs] + [g for g in gradients if g is not None]


def _close(expected: Tensor, actual: Tensor) -> bool:
    if expected.shape != actual.shape:
        return False
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return bool(((expected - actual).abs() <= TOLERANCE * scale + 1e-7).all())
