"""Dynamic pruning in a plain PyTorch loop: three lines, and a learning rate that ends where it should."""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import datawinnow as dw
from datawinnow.dynamic import UCB, PolicySampler
from datawinnow.integrations import ProgressLR, weighted_loss
from datawinnow.train.schedule import cosine


def main(epochs: int = 20) -> None:
    images, test = dw.load("digits")
    dataset = TensorDataset(images.x.float() / 255, images.labels)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    sampler = PolicySampler(UCB(keep=0.5, period=1), n=len(dataset), epochs=epochs, batch=64)  # 1
    loader = DataLoader(dw.indexed(dataset), batch_size=64, sampler=sampler)
    schedule = ProgressLR(optimizer, sampler, cosine)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)  # 2
        for index, x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y, reduction="none")
            weighted_loss(sampler, index, loss).backward()  # 3
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()

    accuracy = (model(test.x.float() / 255).argmax(1) == test.labels).float().mean()
    print(f"passed {sum(sampler.realised) / epochs:.0%} of the examples an epoch; accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
