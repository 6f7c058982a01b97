"""Record your own training loop, score every example, and keep the best."""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import datawinnow as dw


def main(epochs: int = 30) -> None:
    images, _ = dw.load("digits")
    dataset = TensorDataset(images.x.float() / 255, images.labels)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = DataLoader(dw.indexed(dataset), batch_size=64, shuffle=True)

    recorder = dw.Recorder(n=len(dataset), epochs=epochs)
    for epoch in range(epochs):
        for index, x, y in loader:
            logits = model(x)
            recorder.write(epoch, index, logits, y)  # the only line added to the loop
            nn.functional.cross_entropy(logits, y).backward()
            optimizer.step()
            optimizer.zero_grad()

    score = dw.scores.dual(recorder["p_label"], window=min(10, epochs))
    budget = dw.budget_of(keep=0.3, n=len(dataset))
    chosen = dw.select.beta(score, recorder["p_label"], budget=budget, generator=dw.stream(0, "select"))
    kept = Subset(dataset, chosen.index.tolist())
    print(f"kept {len(kept)} of {len(dataset)}; train on it with any loader")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
