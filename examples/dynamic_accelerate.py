"""Dynamic pruning under accelerate: three lines. Accelerate distributes the batches to the processes."""

import sys

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import datawinnow as dw
from datawinnow.dynamic import UCB, PolicySampler
from datawinnow.integrations import weighted_loss
from datawinnow.integrations.accelerate import prepare_loader


def main(epochs: int = 20) -> None:
    accelerator = Accelerator(cpu=True)
    images, _ = dw.load("digits")
    dataset = TensorDataset(images.x.float() / 255, images.labels)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))

    sampler = PolicySampler(UCB(keep=0.5, period=1), n=len(dataset))
    loader = prepare_loader(accelerator, DataLoader(dw.indexed(dataset), batch_size=64, sampler=sampler), sampler)  # 1
    for epoch in range(epochs):
        loader.set_epoch(epoch)  # 2
        for index, x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y, reduction="none")
            accelerator.backward(weighted_loss(sampler, index, loss))  # 3
            optimizer.step()
            optimizer.zero_grad()
    accelerator.print(f"passed {sum(sampler.realised) / epochs:.0%} of the examples an epoch")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
