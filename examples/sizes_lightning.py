"""Small images first in a Lightning Trainer: two lines."""

import sys

import lightning.pytorch as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import datawinnow as dw
from datawinnow.models import resnet8


class Digits(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = resnet8(classes=10, channels=1, width=8)
        self.sizes = dw.SizeSchedule(start=4)  # 1
        self.seen: dict[int, int] = {}

    def training_step(self, batch, _):
        x, y = batch
        x = self.sizes(x, progress=self.global_step / self.trainer.estimated_stepping_batches)  # 2
        self.seen[x.shape[-1]] = self.seen.get(x.shape[-1], 0) + 1
        return nn.functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


if __name__ == "__main__":
    epochs = int(*sys.argv[1:] or ["20"])
    images = dw.load("digits")[0]
    loader = DataLoader(TensorDataset(images.x.float() / 255, images.labels), batch_size=64, shuffle=True)
    model = Digits()
    L.Trainer(max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False).fit(model, loader)
    print("steps by size:", model.seen)
