"""Gradients of single examples: their norm over all parameters (GraNd), and those of the last layer in full."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError

GRADIENT_BYTES = 1 << 29
"""Bytes of gradients in memory at once, from which the size of a chunk follows."""
EXPLICIT_BYTES = 1 << 30
"""Bytes above which the last layer's gradients are not computed in full."""


def loss_of(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over the batch, in float32 at least."""
    half = logits.dtype in (torch.float16, torch.bfloat16)
    return F.cross_entropy(logits.float() if half else logits, y, reduction="sum")


def gradient_chunk(model: nn.Module) -> int:
    """Number of examples whose gradients are computed at once, 1 to 128."""
    # bytes of one example's gradients
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    return max(1, min(128, GRADIENT_BYTES // max(size, 1)))


def gradient_norms(model: nn.Module, x: Tensor, y: Tensor, *, chunk: int | None = None) -> Tensor:
    """L2 norm of the gradient of each example's loss with respect to all parameters, by `torch.func`.

    GraNd (Paul et al., arXiv 2107.07075, definition 2.1) for one model. The model's mode is not changed; in
    evaluation mode batch norm does not mix the examples. Frozen parameters count as the others do.

    Args:
        model: returns logits (1, c) of one example.
        x: (b, ...) inputs.
        y: (b,) int64 class ids.
        chunk: examples at once; by default from the number of parameters.

    Returns:
        (b,) norms, float32 (float64 of a float64 model).

    Raises:
        RuntimeError: the model has operations that cannot be vectorised over examples (`gradient_norms_one_by_one`
            can do these).
    """
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.is_floating_point()}
    # each example as a batch of one; vmap runs them together
    slope = grad(lambda weights, xi, yi: loss_of(functional_call(model, weights, (xi[None],)), yi[None]))

    def norm(xi: Tensor, yi: Tensor) -> Tensor:
        return _norm(list(slope(parameters, xi, yi).values()))

    with warnings.catch_warnings():  # an operation without a batched form is slow, not wrong
        warnings.simplefilter("ignore", UserWarning)
        norms: Tensor = vmap(norm, chunk_size=chunk or gradient_chunk(model))(x, y)
    return norms.detach()


def gradient_norms_one_by_one(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """`gradient_norms`, one example at a time: slower, but for any model."""
    # detached copies share the memory of the weights, and frozen ones get gradients without a change to the
    # model
    parameters = {name: p.detach().requires_grad_() for name, p in model.named_parameters() if p.is_floating_point()}
    norms = []
    for i in range(len(x)):
        with torch.enable_grad():
            loss = loss_of(functional_call(model, parameters, (x[i : i + 1],)), y[i : i + 1])
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        norms.append(_norm([g for g in gradients if g is not None]))
    return torch.stack(norms)


def _norm(gradients: list[Tensor]) -> Tensor:
    half = (torch.float16, torch.bfloat16)
    return sum((g.float() if g.dtype in half else g).square().sum() for g in gradients).sqrt()  # type: ignore[union-attr]


def last_layer_gradient(features: Tensor, probs: Tensor, labels: Tensor) -> Tensor:
    """The gradient of each example's cross-entropy with respect to the last linear layer, in full.

    For inspection and tests, of a few rows: methods work with the factors, since with e = probs - onehot(labels) and
    h = features the gradient of class k's weights is e_k h and that of its bias e_k.

    Args:
        features: (m, d) input of the layer.
        probs: (m, c) softmax of its output.
        labels: (m,) int64 class ids.

    Returns:
        (m, c * (d + 1)): for each class its d weights, then its bias.

    Raises:
        ArgumentError: shapes or labels that do not fit, or gradients of more than a gigabyte.
    """
    features, probs = check.array("features", features, "n,d"), check.array("probs", probs, "n,c")
    labels = check.labels("labels", labels)
    check.same_n(features=features.T, probs=probs.T, labels=labels)
    classes = probs.shape[1]
    if int(labels.max()) >= classes:
        raise ArgumentError(
            f"label {int(labels.max())} at example {int(labels.argmax())}, but probs has {classes} columns"
        )
    size = features.element_size() * len(features) * classes * (features.shape[1] + 1)
    if size > EXPLICIT_BYTES:
        raise ArgumentError(
            f"the gradients of {len(features)} examples would fill {size / 1e9:.1f} GB: give fewer rows, or work from "
            "features and probs"
        )
    error = probs.clone()
    # P - onehot(y)
    error[torch.arange(len(labels)), labels] -= 1
    ones = torch.ones(len(features), 1, dtype=features.dtype, device=features.device)
    # (m, c, 1) * (m, 1, d + 1) -> (m, c * (d + 1))
    return (error[:, :, None] * torch.cat([features, ones], dim=1)[:, None, :]).flatten(1)
