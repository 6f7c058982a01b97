"""Selection by last-layer gradients as loops over whole gradients, from arXiv 2103.00123 and 2012.10630."""

import math

import numpy as np


def gradient(feature, prob, label):
    """The gradient of -log softmax(W h + b)[label] in (W, b), row by row: (p_k - [k = label]) * (h, 1)."""
    out = []
    for k, p in enumerate(prob):
        error = p - (1 if k == label else 0)
        out += [error * value for value in [*feature, 1.0]]
    return np.array(out)


def gradients(features, probs, labels):
    """(n, c * (d + 1)): what the library never holds."""
    return np.array([gradient(*row) for row in zip(features, probs, labels, strict=True)])


def matching_pursuit(grads, goal, budget, lam, tolerance, *, absolute=False):
    """GRAD-MATCH, algorithm 2: add the example most along what is missing, solve for all weights anew."""
    chosen = []
    rest = goal
    while len(chosen) < budget:
        if np.linalg.norm(rest) <= tolerance * np.linalg.norm(goal):
            break
        along = grads @ rest
        along = np.abs(along) if absolute else along
        best = max((i for i in range(len(grads)) if i not in chosen), key=lambda i: (along[i], -i))
        if along[best] <= 0:
            break
        chosen.append(best)
        selected = grads[chosen]
        weight = np.linalg.solve(selected @ selected.T + lam * np.eye(len(chosen)), selected @ goal)
        rest = goal - weight @ selected
    straight = grads @ goal
    not_chosen = sorted((i for i in range(len(grads)) if i not in chosen), key=lambda i: (-straight[i], i))
    return chosen + not_chosen[: budget - len(chosen)]


def objective(grads, goal, weight, lam):
    """E of the paper, for weights of all examples."""
    return float(((weight @ grads - goal) ** 2).sum() + lam * (weight**2).sum())


def held_out_gradient(total, step, features, probs, labels):
    """Mean gradient of the held-out loss when the last layer has moved by -step * total."""
    moved = total.reshape(len(probs[0]), -1)
    out = np.zeros(total.shape)
    for feature, prob, label in zip(features, probs, labels, strict=True):
        logits = [
            math.log(p) - step * sum(g * h for g, h in zip(row, [*feature, 1.0], strict=True))
            for p, row in zip(prob, moved, strict=True)
        ]
        top = max(logits)
        exp = [math.exp(z - top) for z in logits]
        out += gradient(feature, [e / sum(exp) for e in exp], label)
    return out / len(labels)


def glister(grads, held, budget, step, refresh, reduce):
    """GLISTER's greedy in blocks, with the Taylor approximation of the gain."""
    chosen = []
    while len(chosen) < budget:
        total = sum((grads[i] for i in chosen), np.zeros(grads.shape[1]))
        if reduce == "mean" and chosen:
            total = total / len(chosen)
        along = grads @ held_out_gradient(total, step, *held)
        left = sorted((i for i in range(len(grads)) if i not in chosen), key=lambda i: (-along[i], i))
        chosen += left[: min(refresh, budget - len(chosen))]
    return chosen
