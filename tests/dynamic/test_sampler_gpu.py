"""The sampler on a GPU: no wait inside an epoch, weights where the losses are. `make full` runs these."""

import pytest
import torch

from datawinnow.dynamic import UCB, InfoBatch
from datawinnow.dynamic.sampler import PolicySampler
from datawinnow.integrations import weighted_loss

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("ids_on", ["cpu", "cuda"])
def test_no_step_waits_for_the_device(ids_on: str) -> None:
    sampler = PolicySampler(InfoBatch(epochs=4), n=4096, epochs=4)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        order = torch.tensor(list(sampler))
        order = order.pin_memory() if ids_on == "cpu" else order.cuda()
        loss = torch.rand(4096, device="cuda", requires_grad=True)
        weighted_loss(sampler, order[:4], loss[:4])  # the weights move once an epoch
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(3):  # more batches than are staged
                for batch_ids in order.split(8):
                    total = weighted_loss(sampler, batch_ids, loss[: len(batch_ids)] * 1.0)
                    total.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert sampler.weight[order[:3]].device.type == "cuda"
        assert sampler.observations.table is not None
        assert sampler.observations.table.device.type == "cuda"


def test_the_plan_from_losses_on_the_gpu_is_that_of_the_cpu() -> None:
    orders = []
    for device in ("cpu", "cuda"):
        sampler = PolicySampler(UCB(keep=0.5, period=1), n=1000)
        for epoch in range(3):
            sampler.set_epoch(epoch)
            for batch_ids in torch.tensor(list(sampler)).split(64):
                doubled = torch.cat([batch_ids, batch_ids])  # of two visits the later counts, on the GPU too
                values = torch.cat([torch.zeros(len(batch_ids)), (batch_ids * 7919 % 1009) / 1009 + epoch])
                sampler.observe(doubled, values.to(device))
        sampler.set_epoch(3)
        orders.append(list(sampler))
    assert orders[0] == orders[1]
