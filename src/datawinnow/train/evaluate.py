"""Accuracy and loss on held-out examples."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datawinnow.core.errors import ArgumentError
from datawinnow.core.module_mode import restore_mode
from datawinnow.data.batches import batches_of, forward_batch, pads_to_longest
from datawinnow.data.kept import Kept
from datawinnow.data.objects import with_class_ids, with_targets
from datawinnow.models.outputs import returns_logits
from datawinnow.train.network import num_classes
from datawinnow.train.objective import Objective, PerExample, correct_predictions
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
    loss: PerExample | None = None,
    metric: PerExample | None = None,
) -> tuple[float, float]:
    """Accuracy in [0, 1] and mean cross-entropy in nats of ``model`` on all of ``test``, in evaluation mode.

    Args:
        model: network on ``device``.
        test: `Examples` or any map-style dataset of ``(x, y)``.
        device: that of the model.
        precision: ``"fp32"`` or ``"bf16"``.
        channels_last: memory format of the images.
        batch: examples at a time; fewer of large examples, whose activations would take gigabytes.
        workers: processes of the DataLoader, for data that needs one.
        loss: one loss an example, in place of the cross-entropy; see `fit`.
        metric: one number an example, whose mean stands in place of the accuracy, which is NaN without classes.

    Raises:
        ArgumentError: ``test`` holds no examples.
    """
    device = torch.device(device)
    test = with_class_ids(test) if loss is None else with_targets(test)
    objective = Objective(loss, metric)
    alone = test.alone() if isinstance(test, Kept) else test
    to_longest = pads_to_longest(model, alone, device)
    batches = batches_of(alone, device, workers=workers, channels_last=channels_last, to_longest=to_longest)
    if batches.n == 0:
        raise ArgumentError("test holds no examples")
    totals = []
    with (
        restore_mode(model),
        float32_head(model),
        returns_logits(model, num_classes(alone)) if loss is None else nullcontext(),
    ):
        model.eval()
        for _, x, y in batches.test(forward_batch(alone, batch)):
            with autocast(device, precision):
                outputs = model(x)
            outputs = outputs.float() if isinstance(outputs, Tensor) else outputs
            objective.check(outputs, y)
            losses = F.cross_entropy(outputs, y, reduction="sum") if loss is None else loss(outputs, y).sum()
            # pairs (correct, loss) stay on the device: reading them would wait for it in every batch
            totals.append(torch.stack([objective.reported(outputs, y, correct_predictions(outputs, y)), losses]))
    # added in float64 on the host: float32 sums of many batches lose digits
    reported, mean_loss = (torch.stack(totals).double().sum(0) / batches.n).tolist()
    return reported, mean_loss
