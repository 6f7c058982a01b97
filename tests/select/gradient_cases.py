"""Features, probabilities and labels for tests of selection by gradients."""

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from datawinnow.core.rng import stream


def draw_arrays(n, d=4, c=3, seed=0, name="gradients"):
    """features, probs, labels of n examples in float64, labels drawn apart from the probabilities."""
    g = stream(seed, name, n, d, c)
    features = torch.randn(n, d, generator=g, dtype=torch.float64)
    probs = torch.randn(n, c, generator=g, dtype=torch.float64).softmax(1)
    return features, probs, torch.randint(0, c, (n,), generator=g)


def noisy(n, v, seed=0, rate=0.2):
    """Two classes apart by their first feature, an untrained model, some labels wrong: (train, held out, wrong)."""
    g = stream(seed, "noisy", n)
    labels = torch.arange(n + v) % 2
    features = torch.randn(n + v, 5, generator=g, dtype=torch.float64)
    features[:, 0] = (2 * labels - 1) * (1.5 + torch.rand(n + v, generator=g, dtype=torch.float64))
    probs = torch.full((n + v, 2), 0.5, dtype=torch.float64)
    wrong = torch.zeros(n, dtype=torch.bool)
    wrong[torch.randperm(n, generator=g)[: int(rate * n)]] = True
    noisy_labels = torch.where(wrong, 1 - labels[:n], labels[:n])
    return (features[:n], probs[:n], noisy_labels), (features[n:], probs[n:], labels[n:]), wrong


def arrays(columns):
    return [np.asarray(p) for p in columns]


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that any operation makes."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, list | tuple) else [out]:
            if isinstance(one, torch.Tensor):
                self.numel = max(self.numel, one.untyped_storage().nbytes() // one.element_size())
        return out
