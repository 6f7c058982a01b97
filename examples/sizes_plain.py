"""Small images first in a plain PyTorch loop: two lines."""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import datawinnow as dw
from datawinnow.models import resnet8


def main(epochs: int = 20) -> None:
    images, test = dw.load("digits")
    loader = DataLoader(TensorDataset(images.x.float() / 255, images.labels), batch_size=64, shuffle=True)
    model = resnet8(classes=10, channels=1, width=8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    sizes = dw.SizeSchedule(start=4)  # 1
    pixels = 0
    for epoch in range(epochs):
        for step, (x, y) in enumerate(loader):
            x = sizes(x, progress=(epoch + step / len(loader)) / epochs)  # 2
            pixels += x[0].numel() * len(x)
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()

    model.eval()
    accuracy = (model(test.x.float() / 255).argmax(1) == test.labels).float().mean()
    print(f"passed {pixels / (epochs * images.x.numel()):.0%} of the pixels; accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
