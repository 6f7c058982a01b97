"""Dynamic pruning in a Lightning Trainer: three lines."""

import sys

import lightning.pytorch as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import datawinnow as dw
from datawinnow.dynamic import UCB, PolicySampler
from datawinnow.integrations import weighted_loss
from datawinnow.integrations.lightning import PolicyCallback


class Digits(L.LightningModule):
    def __init__(self, sampler: PolicySampler) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        self.sampler = sampler

    def training_step(self, batch, _):
        index, x, y = batch
        return weighted_loss(self.sampler, index, nn.functional.cross_entropy(self.net(x), y, reduction="none"))  # 1

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


if __name__ == "__main__":
    epochs = int(*sys.argv[1:] or ["20"])
    images = dw.load("digits")[0]
    dataset = TensorDataset(images.x.float() / 255, images.labels)
    sampler = PolicySampler(UCB(keep=0.5, period=1), n=len(dataset))  # 2
    planned = {"callbacks": [PolicyCallback(sampler)], "reload_dataloaders_every_n_epochs": 1}  # 3
    trainer = L.Trainer(max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, **planned)
    trainer.fit(Digits(sampler), DataLoader(dw.indexed(dataset), batch_size=64, sampler=sampler))
    print(f"passed {sum(sampler.realised) / epochs:.0%} of the examples an epoch, in {trainer.global_step} steps")
