"""Networks of a few numbers and runs of a few steps, for the frameworks' own loops."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import Trainer

import datawinnow as dw
from datawinnow.dynamic import UCB
from datawinnow.dynamic.sampler import PolicySampler
from datawinnow.integrations import weighted_loss
from datawinnow.integrations.transformers import PolicyTrainerMixin

N, BATCH, EPOCHS = 48, 8, 4


def data(n: int = N) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(n, 4, generator=generator), torch.randint(3, (n,), generator=generator))


def policy_sampler(keep: float = 0.5, **options: Any) -> PolicySampler:
    return PolicySampler(UCB(keep=keep, period=2), n=N, **{"epochs": EPOCHS, "batch": BATCH, **options})


def loader_of(sampler: PolicySampler, **options: Any) -> DataLoader[Any]:
    return DataLoader(dw.indexed(data()), batch_size=BATCH, sampler=sampler, **options)


class Module(L.LightningModule):
    """Notes (epoch, batch, ids) of every training step."""

    def __init__(self, sampler: PolicySampler) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.sampler = nn.Linear(4, 3), sampler
        self.visited: list[tuple[int, int, tuple[int, ...]]] = []
        self.counted: list[int] = []

    def on_train_epoch_start(self) -> None:
        self.counted.append(int(self.trainer.num_training_batches))

    def training_step(self, batch: Any, k: int) -> Tensor:
        index, x, y = batch
        self.visited.append((self.current_epoch, k, tuple(index.tolist())))
        return weighted_loss(self.sampler, index, F.cross_entropy(self.net(x), y, reduction="none"))

    def validation_step(self, batch: Any, k: int) -> None:
        del batch, k

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Classifier(nn.Module):
    """What the Hugging Face Trainer takes: named inputs, logits in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(4, 3)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.net(x)
        return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}


class PolicyTrainer(PolicyTrainerMixin, Trainer):
    """Notes (epoch, ids) of every training batch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.visited: list[tuple[int, tuple[int, ...]]] = []
        super().__init__(*args, **kwargs)

    def compute_loss(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if "index" in inputs:
            self.visited.append((self.policy_sampler.epoch, tuple(inputs["index"].tolist())))
        return super().compute_loss(model, inputs, *args, **kwargs)
