"""Per-example signals of a batch from its logits and labels."""

from __future__ import annotations

import torch
from torch import Tensor

from datawinnow.core.arrays import RECORDED
from datawinnow.core.card import unknown_name
from datawinnow.core.errors import ArgumentError


def signals(logits: Tensor, labels: Tensor, *, names: tuple[str, ...] = RECORDED) -> dict[str, Tensor]:
    """Signals of one batch, on the device of the logits, without waiting for it.

    Softmax is computed in float32 whatever the dtype of the logits: in bf16 the recorded probabilities would tie.

    Args:
        logits: (b, c), before softmax.
        labels: (b,) integer class ids as trained on, on the device of the logits.
        names: of the signals, from `datawinnow.core.arrays.RECORDED`.

    Returns:
        name -> (b,) float32 (``correct`` is bool). With P the softmax, y the label, z the logits: ``loss`` -log P_y in
        nats; ``p_label`` P_y; ``margin`` z_y - max of the other z; ``error_norm`` the L2 norm of P - onehot(y);
        ``entropy`` -sum P log P in nats; ``correct`` z_y above every other z; ``margin_softmax`` P_y - max of the other
        P; ``margin_top2`` first minus second largest P.

    Raises:
        ArgumentError: wrong shapes, a single class, labels that are no class ids, or an unknown name.
    """
    check_batch(logits, labels)
    z = logits.detach().float()
    y = labels.long().unsqueeze(1)
    # logs first: the log of a probability that underflowed to 0 would be -inf
    log_p = z.log_softmax(dim=1)
    p = log_p.exp()
    log_p_label = log_p.gather(1, y).squeeze(1)
    p_label = log_p_label.exp()
    label_logit = z.gather(1, y).squeeze(1)
    # -inf at the label: the maximum is over the others
    other_logit = z.scatter(1, y, -torch.inf).amax(dim=1)
    # P with 0 at the label
    other_p = p.scatter(1, y, 0.0) if {"error_norm", "margin_softmax"}.intersection(names) else p
    out: dict[str, Tensor] = {}
    for name in names:
        if name == "loss":
            out[name] = -log_p_label
        elif name == "p_label":
            out[name] = p_label
        elif name == "margin":
            out[name] = label_logit - other_logit
        elif name == "error_norm":
            # sqrt(sum over c of (P - onehot)^2), with 1 - P_y as the sum of the other P: no cancellation at P_y = 1
            label_error = other_p.sum(dim=1)
            out[name] = (other_p.square().sum(dim=1) + label_error.square()).sqrt()
        elif name == "entropy":
            # 0 * -inf is NaN; below -1e4 the probability is 0 in float32 anyway
            out[name] = -(p * log_p.clamp_min(-1e4)).sum(dim=1)
        elif name == "correct":
            # strictly: with all logits equal nothing has been learned
            out[name] = label_logit > other_logit
        elif name == "margin_softmax":
            out[name] = p_label - other_p.amax(dim=1)  # the label's entry, 0, is never the only maximum
        elif name == "margin_top2":
            first_two = p.topk(2, dim=1).values
            out[name] = first_two[:, 0] - first_two[:, 1]
        else:
            raise unknown_name("signal", name, RECORDED)
    return out


def check_batch(logits: Tensor, labels: Tensor) -> None:
    """Raise if logits and labels do not form a batch.

    Raises:
        ArgumentError: wrong shapes, a single class, or labels that are no class ids.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ArgumentError(
            f"signals needs logits (b, c) and labels (b,), got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    classes = logits.shape[1]
    if classes < 2:
        raise ArgumentError("signals needs at least 2 classes; one logit an example is a regression, not a class")
    if labels.is_floating_point() or labels.dtype is torch.bool:
        raise ArgumentError(f"labels must be integer class ids, got {labels.dtype}")
    if bad := ids_out_of_range(labels, classes):
        raise ArgumentError(
            f"labels must be in [0, {classes}), the classes of the logits, got {bad[0]} to {bad[1]}: build the network "
            f"with classes={bad[1] + 1} or more"
        )


def ids_out_of_range(ids: Tensor, limit: int) -> tuple[int, int] | None:
    """Smallest and largest of ``ids`` if any is not in [0, limit); None otherwise.

    Checked on the CPU only: on another device the check would wait for it, and indexing raises there by itself.
    """
    if ids.device.type != "cpu" or not ids.numel():
        return None
    low, high = (int(v) for v in torch.aminmax(ids))
    return (low, high) if low < 0 or high >= limit else None


def kl_step(before: Tensor, now: Tensor) -> Tensor:
    """Change of the prediction between two visits, as TDDS defines it (arXiv 2311.13613).

    ``sum_c | P_now(c) * (log(P_now(c) + 1e-8) - log(P_before(c) + 1e-8)) |``: the absolute value is inside the
    sum, so this is no KL divergence.

    Args:
        before: (b, c) float32 probabilities at the previous visit.
        now: (b, c) float32 probabilities now.

    Returns:
        (b,) float32.
    """
    return (now * ((now + 1e-8).log() - (before + 1e-8).log())).abs().sum(dim=1)
