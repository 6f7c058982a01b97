"""An epoch on SST-2 with texts padded to one length, to the longest of their batch, and dealt by similar length."""

from __future__ import annotations

import os
import random
from pathlib import Path

import torch
from measuring import Action, arguments, finish, interleaved, ratio, say
from torch import Tensor, nn

import datawinnow as dw
from datawinnow.data.texts import Texts
from datawinnow.data.tokens import Vocabulary
from datawinnow.models import build
from datawinnow.train import Recipe, fit

DATA = Path(os.environ.get("DATAWINNOW_DATA", Path(__file__).parents[2] / "shared" / "data"))
SIZES = {"smoke": (300, 1, 0), "default": (6920, 3, 0), "full": (6920, 7, 5)}
"""Texts, rounds, seeds of the accuracies (10 epochs each; a fifth of the train split is held out)."""
RECIPE = Recipe(precision="fp32")
ARMS = {"fixed": False, "longest": False, "similar": True}
"""Whether texts are dealt by similar length."""


class AtOneLength(nn.Module):
    """A network whose logits all rise with the length, which changes no loss: it gets all texts at one length."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of token ids (b, length)."""
        logits: Tensor = self.network(x)
        return logits + x.shape[1]


def sentences(n: int) -> Texts:
    """``n`` sentences of SST-2, or as many made of random words where the data are absent (`--smoke`)."""
    if (DATA / "sst2").is_dir() and n > 1000:
        train = dw.load(DATA / "sst2")[0]
        assert isinstance(train, Texts)
        return train.subset(torch.arange(min(n, len(train))))
    draw = random.Random(0)
    words = [" ".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=1 + int(draw.expovariate(0.05)))) for _ in range(n)]
    vocabulary, x, _ = Vocabulary.fit(words)
    labels = torch.arange(n) % 2
    size = len(vocabulary)
    return Texts(x, labels, ("a", "b"), texts=words, vocabulary=vocabulary, vocabulary_size=size)


def network(data: Texts, arm: str, seed: int = 0) -> nn.Module:
    """A text CNN; that of the arm ``"fixed"`` gets all texts at one length."""
    torch.manual_seed(seed)
    net = build("text_cnn", shape=data.shape, classes=2, vocabulary=data.vocabulary_size)
    return AtOneLength(net) if arm == "fixed" else net


def main(argv: list[str] | None = None) -> None:
    size = arguments(__doc__ or "", argv)
    n, rounds, seeds = SIZES[size]
    data = sentences(n)

    def epoch(arm: str) -> Action:
        return lambda: fit(network(data, arm), data, epochs=1, recipe=RECIPE, similar_lengths=ARMS[arm])

    wall, cpu = interleaved({arm: epoch(arm) for arm in ARMS}, rounds)
    faster = {arm: ratio(wall["fixed"], wall[arm]) for arm in ARMS if arm != "fixed"}
    faster_cpu = {arm: ratio(cpu["fixed"], cpu[arm]) for arm in faster}
    mean = float(data.text_lengths.float().mean())
    say(f"{len(data):,} texts of {mean:.1f} tokens on average, {data.shape[0]} at most; text CNN, batch {RECIPE.batch}")
    for arm in faster:
        say(f"{arm}: an epoch is {faster[arm]['median']:.2f} times as fast (CPU time {faster_cpu[arm]['median']:.2f})")
    accuracies: dict[str, list[float]] = {"longest": [], "similar": []}
    held_out = len(data) // 5
    for seed in range(seeds):
        shuffled = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
        train, test = data.subset(shuffled[held_out:]), data.subset(shuffled[:held_out])
        for arm, values in accuracies.items():
            net = network(train, arm, seed)
            _, history = fit(net, train, epochs=10, test=test, seed=seed, recipe=RECIPE, similar_lengths=ARMS[arm])
            values.append(history.test_accuracy)
            say(f"seed {seed}, {arm}: {100 * values[-1]:.1f}%")
    finish(
        "text_padding",
        size,
        {"n": len(data), "mean_tokens": mean, "tokens": data.shape[0], "rounds": rounds, "ratio": faster}
        | {"ratio_cpu": faster_cpu, "accuracies": accuracies, "goal": {"ratio": 1.5}},
    )


if __name__ == "__main__":
    main()
