"""InstructionGPT-4's selector as its published code computes it, and the losses of a language model, one at a time."""

import math

import torch
from torch import nn


class LiteralSelector(nn.Module):
    """Attention over the first axis, whatever that axis is; a linear layer each time; one number."""

    def __init__(self, width, heads, layers=2):
        super().__init__()
        self.attentions = nn.ModuleList([nn.MultiheadAttention(width, heads) for _ in range(layers)])
        self.linears = nn.ModuleList([nn.Linear(width, width) for _ in range(layers)])
        self.head = nn.Linear(width, 1)

    def forward(self, x, key_padding_mask=None):
        for attention, linear in zip(self.attentions, self.linears, strict=True):
            x = linear(x + attention(x, x, x, key_padding_mask=key_padding_mask)[0])
        return self.head(x)


def literal_selector(width, heads, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LiteralSelector(width, heads)


def trained(x, labels, *, heads, seed, epochs, rate):
    """The published loop: all sets in a batch, Adam, squared error of a set's mean score; the last weights."""
    net = literal_selector(x.shape[2], heads, seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = ((net(x).mean(dim=1) - labels[:, None]) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return net, losses


def pool_scores(net, items, copies):
    """Each item repeated as often as a set has members, scored with all others, and averaged over its copies."""
    with torch.no_grad():
        return net(items[:, None].repeat(1, copies, 1)).mean(dim=1)[:, 0]


def cluster_choice(scores, clusters, budget, total):
    """Positions kept: in each cluster, in the order of first appearance, its share by whole scores; then the best."""
    order = []
    for cluster in clusters:
        if cluster not in order:
            order.append(cluster)
    kept = []
    for cluster in order:
        ids_own = sorted(
            (i for i in range(len(scores)) if clusters[i] == cluster), key=lambda i: int(scores[i]), reverse=True
        )
        share = int(total * len(ids_own) / len(scores))
        kept += ids_own[: share if share else 1]
    return sorted(kept, key=lambda i: int(scores[i]), reverse=True)[:budget]


def ridge_by_equations(means, labels, penalty):
    """Weights and intercept for standardised columns, by the normal equations."""
    centre, spread = means.mean(0), means.std(0, correction=0)
    z = (means - centre) / spread
    weight = torch.linalg.solve(
        z.T @ z + penalty * torch.eye(z.shape[1], dtype=z.dtype), z.T @ (labels - labels.mean())
    )
    return lambda x: ((x - centre) / spread) @ weight + labels.mean()


def answer_nats(model, before, ids_own):
    """Mean nats a token of ``own`` behind ``before``, one sequence at a time, one token at a time."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([before + ids_own])).logits[0].double()
    total, count = 0.0, 0
    for j, token in enumerate(ids_own):
        place = len(before) + j - 1
        if place < 0:
            continue
        row = logits[place]
        total += math.log(sum(math.exp(v - row.max()) for v in row.tolist())) + float(row.max()) - float(row[token])
        count += 1
    return total / count
