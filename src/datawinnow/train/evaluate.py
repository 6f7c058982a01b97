"""Accuracy and loss on held-out examples."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from datawinnow.core.errors import ArgumentError
from datawinnow.core.module_mode import restore_mode
from datawinnow.data.batches import batches_of
from datawinnow.data.kept import Kept
from datawinnow.data.objects import with_class_ids
from datawinnow.models.outputs import returns_logits
from datawinnow.train.network import num_classes
from datawinnow.train.precision import autocast, float32_head


@torch.no_grad()
def evaluate(
    model: nn.Module,
    test: Any,
    *,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    channels_last: bool = False,
    batch: int = 500,
    workers: int = 0,
) -> tuple[float, float]:
    """Accuracy in [0, 1] and mean cross-entropy in nats of ``model`` on all of ``test``, in evaluation mode.

    Args:
        model: network on ``device``.
        test: `Examples` or any map-style dataset of ``(x, y)``.
        device: that of the model.
        precision: ``"fp32"`` or ``"bf16"``.
        channels_last: memory format of the images.
        batch: examples at a time.
        workers: processes of the DataLoader, for data that needs one.

    Raises:
        ArgumentError: ``test`` holds no examples.
    """
    device = torch.device(device)
    test = with_class_ids(test)
    alone = test.alone() if isinstance(test, Kept) else test
    batches = batches_of(alone, device, workers=workers, channels_last=channels_last)
    if batches.n == 0:
        raise ArgumentError("test holds no examples")
    totals = []
    with restore_mode(model), float32_head(model), returns_logits(model, num_classes(alone)):
        model.eval()
        for _, x, y in batches.test(batch):
            with autocast(device, precision):
                logits = model(x).float()
            # pairs (correct, loss) stay on the device: reading them would wait for it in every batch
            totals.append(torch.stack([(logits.argmax(1) == y).sum(), F.cross_entropy(logits, y, reduction="sum")]))
    # added in float64 on the host: float32 sums of many batches lose digits
    accuracy, loss = (torch.stack(totals).double().sum(0) / batches.n).tolist()
    return accuracy, loss
