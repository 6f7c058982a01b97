"""Fingerprints of datasets from outside: another content is another dataset, a random transform makes none."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image

from datawinnow.data.fingerprint import fingerprint_of


class Outside:
    """Tells its labels; gives what a function makes of each x."""

    def __init__(self, x, labels, change=lambda x: x):
        self.x, self.targets, self.change = x, labels, change

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.change(self.x[i]), int(self.targets[i])


X = torch.arange(200 * 6, dtype=torch.float32).view(200, 2, 3)
LABELS = [i % 3 for i in range(200)]


def changed(at):
    x = X.clone()
    x[at, 1, 2] += 1
    return x


def test_the_same_data_have_the_same():
    assert fingerprint_of(Outside(X, LABELS)) == fingerprint_of(Outside(X.clone(), list(LABELS)))
    assert len(fingerprint_of(Outside(X, LABELS))) == 16


@pytest.mark.parametrize(
    "other",
    [
        Outside(changed(0), LABELS),
        Outside(changed(100), LABELS),  # 100 = 32 * 200 / 64 is in the sample
        Outside(X.double(), LABELS),
        Outside(X, LABELS, lambda x: x.numpy()),
        Outside(X.flatten(1), LABELS),
        Outside(X, LABELS[::-1]),
    ],
    ids=["first x", "an x between", "dtype", "kind", "shape", "labels"],
)
def test_other_data_have_another(other):
    assert fingerprint_of(other) != fingerprint_of(Outside(X, LABELS))


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.half(),
        lambda x: x.bfloat16(),
        lambda x: x > 3,
        lambda x: x.long().numpy(),
        lambda x: Image.fromarray(x.byte().numpy()),
        lambda x: float(x.sum()),
        lambda x: x[0, 0],
        lambda x: str(x.tolist()),
    ],
    ids=["half", "bfloat16", "bool", "numpy", "Pillow", "number", "scalar", "text"],
)
def test_content_of_every_kind_counts(change):
    other = X.clone()
    other[:20] *= -3
    one, same, two = (fingerprint_of(Outside(x, LABELS, change)) for x in (X, X.clone(), other))
    assert one == same
    assert one != two


DRAWS = {
    "torch": lambda x: x + torch.rand(()),
    "python": lambda x: x + random.random(),
    "numpy": lambda x: x + float(np.random.rand()),
    "torch, now and then": lambda x: -x if torch.rand(()) < 0.005 else x,
    "python, now and then": lambda x: -x if random.random() < 0.005 else x,
    "numpy, now and then": lambda x: -x if np.random.rand() < 0.005 else x,
    "shapes": lambda x: x[:, : random.randint(1, 3)],
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_transform_that_draws_changes_neither_it_nor_the_global_generators(name):
    data = Outside(X, LABELS, DRAWS[name])
    fingerprints = set()
    for seed in range(20):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        states = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
        fingerprints.add(fingerprint_of(data))
        assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states
    assert len(fingerprints) == 1


def test_a_transform_with_a_generator_of_its_own_leaves_the_content_out():
    def noisy(x, seed):
        rng = np.random.default_rng(seed)
        return Outside(x, LABELS, lambda each: each + float(rng.random()))

    assert fingerprint_of(noisy(X, 0)) == fingerprint_of(noisy(X, 1)) == fingerprint_of(noisy(changed(0), 2))
    assert fingerprint_of(noisy(X.flatten(1), 0)) != fingerprint_of(noisy(X, 0)), "shapes count still"


def test_arrays_of_objects_count_by_form_and_not_by_address():
    def boxed():
        arrays = [np.empty(1, dtype=object) for _ in LABELS]
        for array, values in zip(arrays, X.tolist(), strict=True):
            array[0] = values
        return arrays

    one, other = boxed(), boxed()  # both kept: the same array again is the same address
    assert fingerprint_of(Outside(one, LABELS)) == fingerprint_of(Outside(other, LABELS))


@pytest.mark.parametrize(("has_labels", "limit"), [(True, 2 * 64), (False, 2 * 64 + 264)], ids=["labels told", "read"])
def test_it_reads_few_items_from_everywhere(has_labels, limit):
    reads = []

    class Counted:
        def __init__(self):
            if has_labels:
                self.labels = [0, 1] * 2500

        def __len__(self):
            return 5000

        def __getitem__(self, i):
            reads.append(i)
            return torch.zeros(2), i % 2

    fingerprint_of(Counted())
    assert 2 * 64 <= len(reads) <= limit
    assert max(reads) > 4900
